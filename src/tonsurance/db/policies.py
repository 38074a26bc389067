"""Policies, kept from the factory's events."""

from __future__ import annotations

import msgspec

from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import ChainEvent, PolicyCreated, PolicyExpired
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.pool import Connection

SELECT_POLICY_COUNTS = """
SELECT count(*) FILTER (WHERE status = 'active') AS active,
    count(*) FILTER (WHERE status = 'claimed') AS claimed,
    count(*) FILTER (WHERE status = 'expired') AS expired
FROM policies
"""
LOCK_STATUSES = """
SELECT p.contract_address, p.policy_id, p.status
FROM policies p JOIN unnest($1::text[], $2::bigint[]) AS wanted (contract_address, policy_id)
    USING (contract_address, policy_id)
ORDER BY p.contract_address, p.policy_id FOR UPDATE OF p
"""
INSERT_POLICIES = """
INSERT INTO policies (contract_address, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id,
    buyer_address, beneficiary_address, coverage_amount_nanoton, premium_nanoton, trigger_bps, floor_bps, start_time,
    expiry_time, status, created_lt, created_message_index, created_at, ledger_version)
SELECT contract, policy_id, vault_id, quote_id::numeric, coverage_type, chain_id, stablecoin_id, buyer, buyer,
    coverage_amount, premium, trigger_bps, floor_bps, to_timestamp(starts), to_timestamp(ends), 'active',
    lt, message_index, to_timestamp(block_time), $17
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::smallint[],
    $8::text[], $9::bigint[], $10::bigint[], $11::int[], $12::int[], $13::bigint[], $14::bigint[], $15::bigint[],
    $16::int[], $18::bigint[])
    AS new (contract, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id, buyer, coverage_amount,
    premium, trigger_bps, floor_bps, starts, ends, lt, message_index, block_time)
"""
EXPIRE_POLICIES = """
UPDATE policies p SET status = 'expired', closed_lt = ended.lt, closed_message_index = ended.message_index,
    closed_at = to_timestamp(ended.block_time), ledger_version = $6
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::int[], $5::bigint[])
    AS ended (contract, policy_id, lt, message_index, block_time)
WHERE p.contract_address = ended.contract AND p.policy_id = ended.policy_id
"""


class PolicyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many policies are in each status."""

    active: int
    claimed: int
    expired: int


async def select_policy_counts(conn: Connection) -> PolicyCounts:
    """All policies of all factories by status."""
    row = await conn.fetchrow(SELECT_POLICY_COUNTS)
    return msgspec.convert(dict(row or {}), PolicyCounts)


class PolicyBook:
    """What a group of factory events does to policies. `statuses` are those before, by (contract, policy id)."""

    def __init__(self, statuses: dict[tuple[str, int], str]) -> None:
        self._statuses = statuses
        self._created: list[tuple[object, ...]] = []
        self._expired: list[tuple[object, ...]] = []

    def post(self, event: ChainEvent, vault_id: str) -> None:
        """Apply one event. Raises LedgerRefused when the policy cannot go there from where it is."""
        match event.body:
            case PolicyCreated() as body:
                self._move(event, body.policy_id, None, "active")
                self._created.append(_created_row(event, body, vault_id))
            case PolicyExpired() as body:
                self._move(event, body.policy_id, "active", "expired")
                self._expired.append((event.contract, body.policy_id, event.lt, event.message_index, event.block_time))

    def _move(self, event: ChainEvent, policy_id: int, before: str | None, after: str) -> None:
        status = self._statuses.get((event.contract, policy_id))
        if status != before:
            raise LedgerRefused(
                f"{event.event_type} of policy {policy_id} at logical time {event.lt}: the policy is "
                f"{status or 'unknown'}."
            )
        self._statuses[(event.contract, policy_id)] = after

    async def write(self, conn: Connection, version: int) -> None:
        """Store the result: new policies first, since one of them may have ended in the same group."""
        if self._created:
            *columns, block_times = (list(column) for column in zip(*self._created, strict=True))
            await conn.execute(INSERT_POLICIES, *columns, version, block_times)
        if self._expired:
            await conn.execute(EXPIRE_POLICIES, *(list(column) for column in zip(*self._expired, strict=True)), version)


async def open_policy_book(conn: Connection, events: list[ChainEvent]) -> PolicyBook:
    """The book of the policies these events name, locked until the transaction ends."""
    named = sorted(
        {(e.contract, e.body.policy_id) for e in events if isinstance(e.body, PolicyCreated | PolicyExpired)}
    )
    if not named:
        return PolicyBook({})
    if named and max(policy_id for _, policy_id in named) > BIGINT_MAX:
        raise LedgerRefused("A policy id is larger than the ledger can hold.")
    contracts, policy_ids = (list(column) for column in zip(*named, strict=True))
    rows = await conn.fetch(LOCK_STATUSES, contracts, policy_ids)
    return PolicyBook({(row["contract_address"], row["policy_id"]): row["status"] for row in rows})


def _created_row(event: ChainEvent, body: PolicyCreated, vault_id: str) -> tuple[object, ...]:
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
    )
