"""Rebuilds every read model from the event log, compares it with the live one while the ledger may go on, and puts the
rebuilt rows in the place of those that differ when asked to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from tonsurance.core.errors import DecodeError, LedgerError, LedgerRefused, NotReady
from tonsurance.core.params import Params
from tonsurance.db.ledger import select_ledger_version
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.shadow import RowDifference, TableComparison, create_shadow, drop_shadow
from tonsurance.db.swapping import (
    RebuildRow,
    Swapped,
    finish_rebuild,
    lock_ledger,
    recount_exposure,
    swap_rows,
    take_rebuild_id,
)
from tonsurance.services.rebuilding import BATCH_EVENTS, Progress, Rebuild, TableVerdict

_MOST_ATTEMPTS = 3
"""So often a replay begins again because the log was repaired under it."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. `refused` is why the log could not be folded to its end; then nothing was compared.

    `equal` is how the live tables were found. With `swapped` the rebuilt rows stand in the place of those that
    differed, and `version` is the ledger's since then.
    """

    equal: bool
    version: int
    events: int
    tables: tuple[TableVerdict, ...] = ()
    differences: tuple[RowDifference, ...] = ()
    refused: str | None = None
    from_lt: int | None = None
    events_per_second: float = 0.0
    swapped: tuple[Swapped, ...] = ()
    rebuild_id: int | None = None


class LedgerReplay:
    """One replay over one connection. `swap`: rows that differ are replaced; `from_lt`: only what follows that logical
    time of the vaults is looked at, and built on what stands until there."""

    def __init__(
        self,
        conn: Connection,
        params: Params,
        *,
        batch_events: int = BATCH_EVENTS,
        swap: bool = False,
        from_lt: int | None = None,
    ) -> None:
        self._conn = conn
        self._params = params
        self._batch_events = batch_events
        self._swap = swap
        self._from_lt = from_lt

    async def run(self, progress: Progress) -> Replay:
        """Rebuild, compare, swap if asked to, and leave no shadow behind. Raises NotReady when the log was repaired
        again and again meanwhile."""
        async with shadowed(self._conn) as live:
            for _ in range(_MOST_ATTEMPTS):
                found = await self._attempt(live, progress)
                if found is not None:
                    return found
        raise NotReady("The log was repaired again and again while it was replayed.", advice="Try again later.")

    async def _attempt(self, live: str, progress: Progress) -> Replay | None:
        """None: the log was repaired meanwhile."""
        started_at, conn = datetime.now(UTC), self._conn
        rebuild = Rebuild(conn, live, self._params, progress, batch_events=self._batch_events, from_lt=self._from_lt)
        try:
            await rebuild.catch_up()
            async with final_transaction(conn, swap=self._swap):
                if not await rebuild.fold_rest():
                    return None
                version, compared = await select_ledger_version(conn), await rebuild.compare()
                found = judge(rebuild, version, compared)
                if not self._swap or found.equal:
                    return found
                return await self._put_in_place(rebuild, found, started_at)
        except (LedgerRefused, DecodeError) as error:
            if not await rebuild.is_current():
                return None
            version = await select_ledger_version(conn)
            return Replay(equal=False, version=version, events=rebuild.folded, refused=error.message)

    async def _put_in_place(self, rebuild: Rebuild, found: Replay, started_at: datetime) -> Replay:
        rebuild_id = await take_rebuild_id(self._conn)
        swapped = await swap_all(self._conn, rebuild, rebuild_id)
        row = RebuildRow(
            rebuild_id=rebuild_id,
            kind="replay",
            version=found.version + 1,
            events=found.events,
            from_lt=found.from_lt,
            report=encode_report(found, swapped),
            started_at=started_at,
        )
        await finish_rebuild(self._conn, row)
        return msgspec.structs.replace(found, version=row.version, swapped=swapped, rebuild_id=rebuild_id)


@asynccontextmanager
async def shadowed(conn: Connection) -> AsyncIterator[str]:
    """The shadow schema for as long as the block runs; gives the name of the live one."""
    live = await create_shadow(conn)
    try:
        yield live
    finally:
        if not conn.is_closed():
            await drop_shadow(conn)


@asynccontextmanager
async def final_transaction(conn: Connection, *, swap: bool) -> AsyncIterator[None]:
    """Both sides at one version: the ledger stands still (to swap), or a snapshot of it does (to compare)."""
    if not swap:
        async with conn.transaction(isolation="repeatable_read"):
            yield
        return
    async with conn.transaction():
        await lock_ledger(conn)
        yield


async def swap_all(conn: Connection, rebuild: Rebuild, rebuild_id: int) -> tuple[Swapped, ...]:
    """Replace every live row that differs, and make sure that none does any more.

    The exposure moves with the policies: it is counted anew before, so that it can move at all when it was wrong.
    """
    recounted = await recount_exposure(conn)
    swapped = [await swap_rows(conn, of, rebuild_id) for of in await rebuild.list_rows() if not of.model.derived]
    await recount_exposure(conn)
    left = [table.table for table in await rebuild.compare() if table.differing]
    if left:
        raise LedgerError(f"After the swap rows still differ in {', '.join(left)}; it was taken back.")
    exposure = Swapped(table="product_exposure", removed=recounted, inserted=recounted)
    return (*swapped, exposure)


def judge(rebuild: Rebuild, version: int, compared: Sequence[TableComparison]) -> Replay:
    """The comparison as what came out."""
    return Replay(
        equal=not any(table.differing for table in compared),
        version=version,
        events=rebuild.folded,
        tables=tuple(TableVerdict(table=t.table, rows=t.rows, differing=t.differing) for t in compared),
        differences=tuple(found for table in compared for found in table.differences),
        from_lt=rebuild.from_lt,
        events_per_second=round(rebuild.rate, 1),
    )


def encode_report(found: Replay, swapped: Sequence[Swapped]) -> str:
    """What is kept of a rebuild, as JSON."""
    return msgspec.json.encode({"swapped": swapped, "tables": found.tables, "differences": found.differences}).decode()


async def replay_ledger(
    dsn: str,
    params: Params,
    progress: Progress,
    *,
    batch_events: int = BATCH_EVENTS,
    swap: bool = False,
    from_lt: int | None = None,
) -> Replay:
    """Replay the ledger of a database. Raises DatabaseUnavailable, and NotReady while another replay runs."""
    conn = await connect(dsn, application_name="tonsurance replay")
    try:
        with driver_errors():
            replay = LedgerReplay(conn, params, batch_events=batch_events, swap=swap, from_lt=from_lt)
            return await replay.run(progress)
    finally:
        with driver_errors():
            await conn.close()
