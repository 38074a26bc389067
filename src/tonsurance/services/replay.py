"""Rebuilds every read model from the event log and compares it with the live one, while the ledger may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

import msgspec

from tonsurance.core.errors import DecodeError, LedgerRefused
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.db.config import select_version
from tonsurance.db.folding import fold_events
from tonsurance.db.ledger import select_ledger_version
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.shadow import (
    READ_MODELS,
    RowDifference,
    TableComparison,
    compare_table,
    create_shadow,
    drop_shadow,
    select_event_count,
    select_postings,
)
from tonsurance.services.config_rows import build_version

BATCH_EVENTS = 2_000
MOST_NAMED = 20
_MOST_CHASES = 20
"""So often the rebuilt ledger catches up outside the final transaction; then what is left is done inside it."""

_SAY_EVERY_S = 2.0

Progress = Callable[[str], None]


class TableVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A table, its live rows, and how many rows differ."""

    table: str
    rows: int
    differing: int


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. `refused` is why the log could not be folded to its end; then nothing was compared."""

    equal: bool
    version: int
    events: int
    tables: tuple[TableVerdict, ...] = ()
    differences: tuple[RowDifference, ...] = ()
    refused: str | None = None


class LedgerReplay:
    """One replay over one connection."""

    def __init__(self, conn: Connection, params: Params, *, batch_events: int = BATCH_EVENTS) -> None:
        self._conn = conn
        self._params = params
        self._batch_events = batch_events
        self._after = 0
        self._folded = 0
        self._said_at = time.monotonic()

    async def run(self, progress: Progress) -> Replay:
        """Rebuild, compare, and leave nothing behind."""
        live = await create_shadow(self._conn)
        try:
            return await self._run(live, progress)
        finally:
            if not self._conn.is_closed():
                await drop_shadow(self._conn)

    async def _run(self, live: str, progress: Progress) -> Replay:
        version = 0
        try:
            for _ in range(_MOST_CHASES):
                version = await select_ledger_version(self._conn)
                if await self._chase(version, progress) <= self._batch_events:
                    break
            async with self._conn.transaction(isolation="repeatable_read"):  # both sides at one version
                version = await select_ledger_version(self._conn)
                while await self._fold_batch(version):
                    pass
                compared = await self._compare(live)
        except (LedgerRefused, DecodeError) as error:
            return Replay(equal=False, version=version, events=self._folded, refused=error.message)
        return Replay(
            equal=not any(table.differing for table in compared),
            version=version,
            events=self._folded,
            tables=tuple(TableVerdict(table=t.table, rows=t.rows, differing=t.differing) for t in compared),
            differences=tuple(found for table in compared for found in table.differences),
        )

    async def _chase(self, version: int, progress: Progress) -> int:
        """Fold everything up to a version; returns how many events that was."""
        total, before = await select_event_count(self._conn, version), self._folded
        while True:
            async with self._conn.transaction():
                if not await self._fold_batch(version):
                    return self._folded - before
            if time.monotonic() - self._said_at >= _SAY_EVERY_S:
                self._said_at = time.monotonic()
                progress(f"Replayed {self._folded:,} of {total:,} events.")

    async def _fold_batch(self, version: int) -> int:
        found = await select_postings(self._conn, self._after, version, self._batch_events)
        if found:
            for params_version, group in groupby(found, key=itemgetter(1)):
                params = await self._params_of(params_version)
                await fold_events(self._conn, [posting for _, _, posting in group], params)
            self._after = found[-1][0]
            self._folded += len(found)
        return len(found)

    async def _params_of(self, version: int) -> Params:
        """The parameters the figures were computed with when they were posted."""
        if self._params.version != version:
            stored = await select_version(self._conn, version)
            if stored is None and version != DEFAULT_PARAMS.version:
                raise LedgerRefused(
                    f"Events were posted with version {version} of the parameters, which is not stored."
                )
            self._params = build_version(stored)
        return self._params

    async def _compare(self, live: str) -> list[TableComparison]:
        compared: list[TableComparison] = []
        for model in READ_MODELS:
            left = MOST_NAMED - sum(len(table.differences) for table in compared)
            compared.append(await compare_table(self._conn, live, model, left))
        return compared


async def replay_ledger(dsn: str, params: Params, progress: Progress, *, batch_events: int = BATCH_EVENTS) -> Replay:
    """Replay the ledger of a database. Raises DatabaseUnavailable, and NotReady while another replay runs."""
    conn = await connect(dsn, application_name="tonsurance replay")
    try:
        with driver_errors():
            return await LedgerReplay(conn, params, batch_events=batch_events).run(progress)
    finally:
        with driver_errors():
            await conn.close()
