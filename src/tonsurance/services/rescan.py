"""Reads quarantine and log again with the layouts of today. What can be decoded now becomes events of the log under
their own identity, and the read models become what the whole log comes to: all in one transaction, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from tonsurance.chain.layout import Layout
from tonsurance.core.errors import DecodeError, InputError, LedgerRefused, NotReady
from tonsurance.core.events import ChainEvent
from tonsurance.core.params import Params
from tonsurance.db.config import select_head
from tonsurance.db.ledger import select_ledger_version
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.quarantine import (
    DecodedContract,
    journal_correction,
    plan_late_events,
    post_late_events,
    resolve_messages,
    select_decoded_contracts,
)
from tonsurance.db.shadow import select_repair_mark
from tonsurance.db.swapping import RebuildRow, finish_rebuild, take_rebuild_id
from tonsurance.services.rebuilding import BATCH_EVENTS, Progress, Rebuild
from tonsurance.services.redecoding import ReadOtherwise, Redecoded, Redecoder, Waiting, count_types
from tonsurance.services.replay import Replay, encode_report, final_transaction, judge, shadowed, swap_all
from tonsurance.services.superseded import describe_correction, list_corrections

_MOST_ATTEMPTS = 3
"""So often a rescan begins again because the log was repaired under it."""


class Rescan(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and done. `applied`: the events are in the log and the rows in the read models; otherwise nothing
    was changed: because of `dry_run`, because there was nothing to do, or because the ledger refuses (`refused`).

    `corrections` says each adjustment that takes back an earlier one which stood for events that are known now.
    """

    applied: bool
    dry_run: bool
    contracts: int
    quarantined: int
    logged: int
    late: int
    by_type: dict[str, int]
    resolved: int
    waiting: tuple[Waiting, ...]
    differing: int
    differences: tuple[ReadOtherwise, ...]
    skipped: tuple[str, ...]
    corrections: tuple[str, ...] = ()
    rebuilt: Replay | None = None
    refused: str | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing needs a person."""
        return self.refused is None and self.differing == 0


class _Plan(msgspec.Struct, frozen=True):
    """What is to be done: events that come into the log, corrections of adjustments, messages that need not wait, and
    the vault of each contract."""

    live: str
    late: Sequence[ChainEvent]
    corrections: Sequence[ChainEvent]
    resolved: Sequence[tuple[int, str]]
    vaults: Mapping[str, str]


class LedgerRescan:
    """One rescan over one connection. `layout`: with this one instead of each contract's own; `contract`: the raw
    address of the only one to read; `dry_run`: say what would be done."""

    def __init__(
        self,
        conn: Connection,
        params: Params,
        *,
        layout: Layout | None = None,
        contract: str | None = None,
        dry_run: bool = False,
        batch_events: int = BATCH_EVENTS,
    ) -> None:
        self._conn = conn
        self._params = params
        self._layout = layout
        self._contract = contract
        self._dry_run = dry_run
        self._batch_events = batch_events

    async def run(self, progress: Progress) -> Rescan:
        """Raises InputError for a contract nobody follows, UsageError for a layout that cannot be read, NotReady while
        a replay runs or when the log was repaired again and again meanwhile."""
        async with shadowed(self._conn) as live:
            for _ in range(_MOST_ATTEMPTS):
                found = await self._attempt(live, progress)
                if found is not None:
                    return found
        raise NotReady("The log was repaired again and again while it was read.", advice="Try again later.")

    async def _attempt(self, live: str, progress: Progress) -> Rescan | None:
        """None: the log was repaired meanwhile."""
        started_at, conn = datetime.now(UTC), self._conn
        contracts = await self._list_contracts()
        mark = await select_repair_mark(conn)
        redecoder = Redecoder(conn, self._layout, progress)
        for contract in contracts:
            await redecoder.read(contract)
        found = redecoder.found
        told = _tell(found, len(contracts), dry_run=self._dry_run)
        if not found.late:
            return await self._resolve_only(told, found)
        rebuild = Rebuild(conn, live, self._params, progress, batch_events=self._batch_events)
        try:
            corrections = list_corrections(found.late, found.adjusted)
            told = msgspec.structs.replace(told, corrections=tuple(map(describe_correction, corrections)))
            await self._plan(live, [*found.late, *corrections])
            await rebuild.catch_up()
            async with final_transaction(conn, swap=not self._dry_run):
                if rebuild.mark != mark or not await rebuild.fold_rest():
                    return None
                rebuilt = judge(rebuild, await select_ledger_version(conn), await rebuild.compare())
                if self._dry_run:
                    return msgspec.structs.replace(told, rebuilt=rebuilt)
                plan = _Plan(live, found.late, corrections, found.resolved, {c.address: c.vault_id for c in contracts})
                return await self._put_in_place(plan, rebuild, told, rebuilt, started_at)
        except (LedgerRefused, DecodeError) as error:
            if await select_repair_mark(conn) != mark:
                return None
            return msgspec.structs.replace(told, refused=error.message)

    async def _list_contracts(self) -> Sequence[DecodedContract]:
        contracts = await select_decoded_contracts(self._conn, self._contract)
        if self._contract is not None and not contracts:
            raise InputError(f"{self._contract} was never followed: there is nothing of it to read again.")
        return contracts

    async def _resolve_only(self, told: Rescan, found: Redecoded) -> Rescan:
        if self._dry_run or not found.resolved:
            return told
        async with final_transaction(self._conn, swap=True):
            await resolve_messages(self._conn, found.resolved)
        return msgspec.structs.replace(told, applied=True)

    async def _plan(self, live: str, late: Sequence[ChainEvent]) -> None:
        """Events of a contract without any other get the versions of now."""
        version = max(await select_ledger_version(self._conn), 1)
        params_version = (await select_head(self._conn)).version or self._params.version
        await plan_late_events(self._conn, live, late, version, params_version)

    async def _put_in_place(
        self, plan: _Plan, rebuild: Rebuild, told: Rescan, rebuilt: Replay, started_at: datetime
    ) -> Rescan:
        conn = self._conn
        rebuild_id = await take_rebuild_id(conn)
        await post_late_events(conn, plan.live, plan.late)
        for event in plan.corrections:
            await journal_correction(conn, rebuild_id, plan.vaults[event.contract], event, describe_correction(event))
        swapped = await swap_all(conn, rebuild, rebuild_id)
        await resolve_messages(conn, plan.resolved)
        row = RebuildRow(
            rebuild_id=rebuild_id,
            kind="rescan",
            version=rebuilt.version + 1,
            events=rebuilt.events,
            late_events=len(plan.late),
            report=encode_report(rebuilt, swapped),
            started_at=started_at,
        )
        await finish_rebuild(conn, row)
        rebuilt = msgspec.structs.replace(rebuilt, version=row.version, swapped=swapped, rebuild_id=rebuild_id)
        return msgspec.structs.replace(told, applied=True, rebuilt=rebuilt)


def _tell(found: Redecoded, contracts: int, *, dry_run: bool) -> Rescan:
    """What was read, before anything was done."""
    return Rescan(
        applied=False,
        dry_run=dry_run,
        contracts=contracts,
        quarantined=found.quarantined,
        logged=found.logged,
        late=len(found.late),
        by_type=count_types(found.late),
        resolved=len(found.resolved),
        waiting=tuple(found.waiting.values()),
        differing=found.differing,
        differences=tuple(found.differences),
        skipped=tuple(found.skipped),
    )


async def rescan_ledger(
    dsn: str,
    params: Params,
    progress: Progress,
    *,
    layout: Layout | None = None,
    contract: str | None = None,
    dry_run: bool = False,
    batch_events: int = BATCH_EVENTS,
) -> Rescan:
    """Rescan the ledger of a database. Raises as LedgerRescan.run does, and DatabaseUnavailable."""
    conn = await connect(dsn, application_name="tonsurance rescan")
    try:
        with driver_errors():
            return await LedgerRescan(
                conn, params, layout=layout, contract=contract, dry_run=dry_run, batch_events=batch_events
            ).run(progress)
    finally:
        with driver_errors():
            await conn.close()
