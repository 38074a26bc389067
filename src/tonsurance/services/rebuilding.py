"""The read models once more from the event log, in the shadow schema: folded contract by contract, and compared.

Each contract's events are folded in the order of its own history, whatever order they were posted in. That is the
whole order there is: what a row says follows from the events of one contract, except premium streams, which depend on
which events of two contracts there are and not on their order. So an event that came late has its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

import msgspec

from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import VAULT_KIND
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.db.config import select_version
from tonsurance.db.folding import fold_events
from tonsurance.db.footing import take_footing
from tonsurance.db.pool import Connection
from tonsurance.db.shadow import (
    READ_MODELS,
    START,
    LogContract,
    Place,
    RowsOf,
    TableComparison,
    clear_shadow,
    compare_table,
    read_rows_of,
    rebuild_exposure,
    select_event_count,
    select_log_contracts,
    select_postings,
    select_repair_mark,
)
from tonsurance.services.config_rows import build_version

BATCH_EVENTS = 2_000
MOST_NAMED = 20
_MOST_CHASES = 20
"""So often the rebuilt ledger catches up outside the final transaction; then what is left is done inside it."""

_LAST_INDEX = 2**31 - 1
_SAY_EVERY_S = 2.0

Progress = Callable[[str], None]


class TableVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A table, its live rows, and how many rows differ."""

    table: str
    rows: int
    differing: int


class Rebuild:
    """The fold of one log, over one connection whose shadow schema is there."""

    def __init__(
        self,
        conn: Connection,
        live: str,
        params: Params,
        progress: Progress,
        *,
        batch_events: int = BATCH_EVENTS,
        from_lt: int | None = None,
        say_every_s: float = _SAY_EVERY_S,
    ) -> None:
        """`from_lt`: the vaults are folded from there on, when the rows until then can be stood upon."""
        self.folded = 0
        self.from_lt = from_lt
        self.mark = 0
        self._conn = conn
        self._live = live
        self._params = params
        self._progress = progress
        self._batch_events = batch_events
        self._say_every_s = say_every_s
        self._reached: dict[str, Place] = {}
        self._started_at = self._said_at = time.monotonic()

    @property
    def rate(self) -> float:
        """Events folded in a second so far."""
        return self.folded / max(time.monotonic() - self._started_at, 1e-9)

    async def catch_up(self) -> None:
        """Fold the log, each batch in a transaction of its own, until little is left of what is posted meanwhile.

        Raises LedgerRefused when the events make no ledger, DecodeError when one cannot be read.
        """
        await clear_shadow(self._conn)
        self._reached.clear()
        self.folded, self._started_at = 0, time.monotonic()
        self.mark = await select_repair_mark(self._conn)
        await self._take_footing()
        for _ in range(_MOST_CHASES):
            before = self.folded
            await self._fold_all(await select_event_count(self._conn))
            if self.folded - before <= self._batch_events:
                return

    async def fold_rest(self) -> bool:
        """Fold what is left, inside the caller's transaction. False: what was folded before was changed in the log by
        a repair, so all of it is to be done again."""
        if not await self.is_current():
            return False
        for contract in await select_log_contracts(self._conn):
            while await self._fold_batch(contract):
                pass
        return True

    async def is_current(self) -> bool:
        """Whether the log was only added to since the fold began."""
        return await select_repair_mark(self._conn) == self.mark

    async def list_rows(self) -> list[RowsOf]:
        """The tables, as they are compared and replaced."""
        return [await read_rows_of(self._conn, self._live, model, self.from_lt) for model in READ_MODELS]

    async def compare(self) -> list[TableComparison]:
        """Every live table against the rebuilt one."""
        await rebuild_exposure(self._conn)
        compared: list[TableComparison] = []
        for of in await self.list_rows():
            left = MOST_NAMED - sum(len(table.differences) for table in compared)
            compared.append(await compare_table(self._conn, of, left))
        return compared

    async def _take_footing(self) -> None:
        if self.from_lt is None:
            return
        async with self._conn.transaction(isolation="repeatable_read"):
            if await take_footing(self._conn, self._live, self.from_lt):
                contracts = await select_log_contracts(self._conn)
                place = Place(self.from_lt, _LAST_INDEX)
                self._reached = {one.address: place for one in contracts if one.kind == VAULT_KIND}
                return
        await clear_shadow(self._conn)
        self._progress(
            f"The rows up to logical time {self.from_lt} are not the sums of their entries, or no longer kept: "
            "nothing can be built on them, so everything is folded from the start."
        )
        self.from_lt = None

    async def _fold_all(self, total: int) -> None:
        """What the log held just now; a batch that is not full is the end of a contract's events for now."""
        for contract in await select_log_contracts(self._conn):
            found = self._batch_events
            while found == self._batch_events:
                async with self._conn.transaction():
                    found = await self._fold_batch(contract)
                self._say(total)

    def _say(self, total: int) -> None:
        if time.monotonic() - self._said_at < self._say_every_s:
            return
        self._said_at = time.monotonic()
        done = 100 * min(self.folded, total) // max(total, 1)
        self._progress(f"Replayed {self.folded:,} of {total:,} events ({done} %), {self.rate:,.0f} a second.")

    async def _fold_batch(self, contract: LogContract) -> int:
        after = self._reached.get(contract.address, START)
        found = await select_postings(self._conn, contract, after, self._batch_events)
        for params_version, group in groupby(found, key=itemgetter(1)):
            params = await self._params_of(params_version)
            await fold_events(self._conn, [posting for _, _, posting in group], params)
        if found:
            self._reached[contract.address] = found[-1][0]
            self.folded += len(found)
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
