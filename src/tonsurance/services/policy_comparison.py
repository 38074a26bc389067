"""Policies and exposure against the log: what a factory's events come to, and which rows are not that.

Policies have no history, so all events of the factory are folded; the exposure is what the policies come to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec

from tonsurance.core.drift import Fault, Finding, describe_changes
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import ChainEvent, PolicyCreated
from tonsurance.core.policies import PolicyState, move_policy, policy_of
from tonsurance.db.policy_repairs import (
    PolicyRepair,
    PolicyRow,
    select_exposure_gaps,
    select_factory_page,
    select_policy_rows,
)
from tonsurance.db.pool import Connection
from tonsurance.db.reconciliation import EventRepair
from tonsurance.services.comparison import read_logged

POLICIES, EXPOSURE = "policies", "product_exposure"

_CHUNK = 2_000
_START = (-1, -1)
_COLUMNS = PolicyRow.__struct_fields__[1:]


class PolicyVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Policies of a factory that are not what its events come to, and what would make them so."""

    findings: tuple[Finding, ...]
    repairs: tuple[PolicyRepair, ...]


class PolicyFold:
    """The policies that a factory's events make, each with the class of the last event that moved it. `refused` are
    policies whose events cannot follow on each other, and why."""

    def __init__(self, vault_id: str) -> None:
        self.rows: dict[int, PolicyRow] = {}
        self.moved_by: dict[int, str] = {}
        self.refused: dict[int, str] = {}
        self._states: dict[int, PolicyState] = {}
        self._vault_id = vault_id

    def post(self, event: ChainEvent, version: int) -> None:
        """The next event of the factory, with its ledger version."""
        policy_id = policy_of(event.body)
        if policy_id is None or policy_id in self.refused:
            return
        try:
            state = self._states[policy_id] = move_policy(self._states.get(policy_id), event.body)
        except LedgerRefused as error:
            self.refused[policy_id] = f"{event.event_type} at logical time {event.lt}: {error.message}"
            return
        self.moved_by[policy_id] = event.event_type
        if isinstance(event.body, PolicyCreated):
            self.rows[policy_id] = _create(event, event.body, self._vault_id, version)
        else:
            self.rows[policy_id] = _move(self.rows[policy_id], event, state, version)


async def examine_policies(
    conn: Connection, contract: str, vault_id: str, mended: Sequence[EventRepair] = ()
) -> PolicyVerdict:
    """Hold the policies of a factory against its log, as it is after these repairs. Inside the caller's transaction.

    Raises LedgerRefused when an event of the log cannot be read.
    """
    fold = PolicyFold(vault_id)
    async for event, version in _read_events(conn, contract, mended):
        fold.post(event, version)
    held = {row.policy_id: row async for row in _read_rows(conn, contract)}
    pairs = ((number, fold.rows.get(number), held.get(number)) for number in sorted(fold.rows.keys() | held.keys()))
    found = [
        _judge(number, wanted, row, fold.moved_by.get(number))
        for number, wanted, row in pairs
        if wanted != row and number not in fold.refused
    ]
    refused = [_refuse(number, why, fold.rows.get(number)) for number, why in sorted(fold.refused.items())]
    return PolicyVerdict(
        findings=(*refused, *(finding for finding, _ in found)), repairs=tuple(repair for _, repair in found)
    )


async def examine_exposure(conn: Connection, vault_id: str, lt: int) -> tuple[Finding, ...]:
    """Hold the exposure of a vault against its policies, as of a logical time."""
    return tuple(
        _finding(
            EXPOSURE,
            Fault.ALTERED,
            None,
            (lt, 0),
            f"The exposure of product {gap.coverage_type}/{gap.chain_id}/{gap.stablecoin_id}"
            f" is {gap.policies} policies,"
            f" cover {gap.coverage}, premium {gap.premium} and must be {gap.wanted_policies} policies,"
            f" cover {gap.wanted_coverage}, premium {gap.wanted_premium}.",
        )
        for gap in await select_exposure_gaps(conn, vault_id)
    )


async def _read_events(
    conn: Connection, contract: str, mended: Sequence[EventRepair]
) -> AsyncIterator[tuple[ChainEvent, int]]:
    """The log in its order, each event with its ledger version, with the repairs in their places."""
    waiting = sorted(mended, key=lambda repair: (repair.lt, repair.message_index), reverse=True)
    place, found = _START, _CHUNK
    while found == _CHUNK:
        page = await select_factory_page(conn, contract, place, _CHUNK)
        found = len(page)
        for row in page:
            place, replaced = (row.lt, row.message_index), False
            while waiting and (waiting[-1].lt, waiting[-1].message_index) <= place:
                repair = waiting.pop()
                replaced = (repair.lt, repair.message_index) == place
                if repair.event is not None:
                    yield repair.event, repair.ledger_version
            if not replaced:
                yield read_logged(contract, row), row.ledger_version
    for repair in reversed(waiting):
        if repair.event is not None:
            yield repair.event, repair.ledger_version


async def _read_rows(conn: Connection, contract: str) -> AsyncIterator[PolicyRow]:
    after, found = -1, _CHUNK
    while found == _CHUNK:
        page = await select_policy_rows(conn, contract, after, _CHUNK)
        found = len(page)
        for row in page:
            after = row.policy_id
            yield row


def _judge(
    number: int, wanted: PolicyRow | None, row: PolicyRow | None, moved_by: str | None
) -> tuple[Finding, PolicyRepair]:
    some = wanted or row
    place = (0, 0) if some is None else (some.created_lt, some.created_message_index)
    if row is None:
        fault, said = Fault.MISSING, f"Policy {number} is missing."
    elif wanted is None:
        fault, said = Fault.FOREIGN, f"Policy {number} was made by no event."
    else:
        changes = ", ".join(describe_changes(wanted, row, _COLUMNS))
        fault, said = Fault.ALTERED, f"Policy {number} stands altered: {changes}."
    finding = _finding(POLICIES, fault, moved_by, place, said)
    return finding, PolicyRepair(policy_id=number, row=wanted, why=said)


def _refuse(number: int, why: str, row: PolicyRow | None) -> Finding:
    place = (0, 0) if row is None else (row.created_lt, row.created_message_index)
    return _finding(POLICIES, Fault.UNREADABLE, None, place, f"The log's events make no policy {number}: {why}")


def _create(event: ChainEvent, body: PolicyCreated, vault_id: str, version: int) -> PolicyRow:
    return PolicyRow(
        policy_id=body.policy_id,
        vault_id=vault_id,
        quote_id=str(body.quote_id),
        coverage_type=body.coverage_type,
        chain_id=body.chain_id,
        stablecoin_id=body.stablecoin_id,
        buyer_address=body.buyer,
        beneficiary_address=body.buyer,
        coverage_amount_nanoton=body.coverage_amount,
        premium_nanoton=body.premium,
        trigger_bps=body.trigger_bps,
        floor_bps=body.floor_bps,
        start_time=_moment(body.start),
        expiry_time=_moment(body.end),
        status="active",
        created_lt=event.lt,
        created_message_index=event.message_index,
        created_at=_moment(event.block_time),
        ledger_version=version,
    )


def _move(row: PolicyRow, event: ChainEvent, state: PolicyState, version: int) -> PolicyRow:
    return msgspec.structs.replace(
        row,
        status=state.status.value,
        beneficiary_address=state.beneficiary,
        approved_nanoton=state.approved,
        payout_nanoton=state.payout,
        closed_lt=event.lt if state.ended else None,
        closed_message_index=event.message_index if state.ended else None,
        closed_at=_moment(event.block_time) if state.ended else None,
        ledger_version=version,
    )


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _finding(relation: str, fault: Fault, event_type: str | None, place: tuple[int, int], said: str) -> Finding:
    return Finding(
        relation=relation,
        fault=fault,
        event_type=event_type,
        tranche_id=None,
        lt=place[0],
        message_index=place[1],
        said=said,
    )
