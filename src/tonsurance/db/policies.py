"""Policies, kept from the factory's events."""

from __future__ import annotations

import msgspec

from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import ChainEvent, PolicyCreated
from tonsurance.core.limits import InForce
from tonsurance.core.policies import PolicyState, PolicyStatus, move_policy, policy_of
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.pool import Connection

SELECT_POLICY_COUNTS = """
SELECT count(*) FILTER (WHERE status = 'active') AS active,
    count(*) FILTER (WHERE status = 'approved') AS approved,
    count(*) FILTER (WHERE status = 'claimed') AS claimed,
    count(*) FILTER (WHERE status = 'expired') AS expired
FROM policies
"""
SELECT_COVER_IN_FORCE = """
SELECT coalesce(sum(coverage_amount_nanoton) FILTER (WHERE coverage_type = $2 AND stablecoin_id = $4), 0)::text
        AS product,
    coalesce(sum(coverage_amount_nanoton), 0)::text AS chain
FROM policies WHERE vault_id = $1 AND chain_id = $3 AND status IN ('active', 'approved')
"""
SELECT_POLICY_STATES = """
SELECT p.contract_address, p.policy_id, p.status, p.coverage_amount_nanoton AS coverage,
    p.beneficiary_address AS beneficiary, p.approved_nanoton AS approved, p.payout_nanoton AS payout
FROM policies p JOIN unnest($1::text[], $2::bigint[]) AS wanted (contract_address, policy_id)
    USING (contract_address, policy_id)
"""
CREATE_POLICIES = """
SELECT create_policies($1::text[], $2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::smallint[],
    $7::smallint[], $8::text[], $9::bigint[], $10::bigint[], $11::int[], $12::int[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::int[], $17::bigint[], $18::bigint[])
"""
MOVE_POLICIES = """
SELECT move_policies($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[],
    $8::bigint[], $9::int[], $10::bigint[], $11::bigint[])
"""

PolicyKey = tuple[str, int]
"""A policy's factory and its id there."""


class PolicyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many policies are in each status."""

    active: int
    approved: int
    claimed: int
    expired: int


async def select_policy_counts(conn: Connection) -> PolicyCounts:
    """All policies of all factories by status."""
    row = await conn.fetchrow(SELECT_POLICY_COUNTS)
    return msgspec.convert(dict(row or {}), PolicyCounts)


async def select_cover_in_force(
    conn: Connection, vault_id: str, coverage_type: int, chain_id: int, stablecoin_id: int
) -> InForce:
    """Cover of a vault's policies not ended, of one product and of all products of its chain, in nanoTON."""
    row = await conn.fetchrow(SELECT_COVER_IN_FORCE, vault_id, coverage_type, chain_id, stablecoin_id)
    return InForce(0, 0) if row is None else InForce(int(row["product"]), int(row["chain"]))


class PolicyBook:
    """What a group of factory events does to policies. `states` are those before, by (contract, policy id)."""

    def __init__(self, states: dict[PolicyKey, PolicyState]) -> None:
        self._states = states
        self._created: list[tuple[object, ...]] = []
        self._moved: dict[PolicyKey, tuple[object, ...]] = {}

    def post(self, event: ChainEvent, vault_id: str, version: int) -> None:
        """Apply one event of a ledger version. Raises LedgerRefused when the policy cannot go there from where it is,
        naming both; the book must not be written then."""
        policy_id = policy_of(event.body)
        if policy_id is None:
            return
        key = (event.contract, policy_id)
        try:
            state = self._states[key] = move_policy(self._states.get(key), event.body)
        except LedgerRefused as error:
            raise LedgerRefused(
                f"{event.event_type} of policy {policy_id} at logical time {event.lt}: {error.message}"
            ) from error
        if isinstance(event.body, PolicyCreated):
            self._created.append(_created_row(event, event.body, vault_id, version))
        else:
            self._moved[key] = _moved_row(event, policy_id, state, version)

    async def write(self, conn: Connection) -> None:
        """Store the result: new policies first, since one of them may have moved in the same group."""
        if self._created:
            await conn.execute(CREATE_POLICIES, *(list(column) for column in zip(*self._created, strict=True)))
        if self._moved:
            await conn.execute(MOVE_POLICIES, *(list(column) for column in zip(*self._moved.values(), strict=True)))


async def open_policy_book(conn: Connection, events: list[ChainEvent]) -> PolicyBook:
    """The book of the policies these events move. Whoever writes it has the ledger's write lock."""
    named = sorted({(event.contract, number) for event in events if (number := policy_of(event.body)) is not None})
    if not named:
        return PolicyBook({})
    if max(policy_id for _, policy_id in named) > BIGINT_MAX:
        raise LedgerRefused("A policy id is larger than the ledger can hold.")
    contracts, policy_ids = (list(column) for column in zip(*named, strict=True))
    rows = await conn.fetch(SELECT_POLICY_STATES, contracts, policy_ids)
    return PolicyBook(
        {
            (row["contract_address"], row["policy_id"]): PolicyState(
                status=PolicyStatus(row["status"]),
                coverage=row["coverage"],
                beneficiary=row["beneficiary"],
                approved=row["approved"],
                payout=row["payout"],
            )
            for row in rows
        }
    )


def _created_row(event: ChainEvent, body: PolicyCreated, vault_id: str, version: int) -> tuple[object, ...]:
    return (
        event.contract,
        body.policy_id,
        vault_id,
        str(body.quote_id),
        body.coverage_type,
        body.chain_id,
        body.stablecoin_id,
        body.buyer,
        body.coverage_amount,
        body.premium,
        body.trigger_bps,
        body.floor_bps,
        body.start,
        body.end,
        event.lt,
        event.message_index,
        event.block_time,
        version,
    )


def _moved_row(event: ChainEvent, policy_id: int, state: PolicyState, version: int) -> tuple[object, ...]:
    return (
        event.contract,
        policy_id,
        state.status.value,
        state.beneficiary,
        state.approved,
        state.payout,
        state.ended,
        event.lt,
        event.message_index,
        event.block_time,
        version,
    )
