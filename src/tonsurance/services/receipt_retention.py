"""Upkeep of the receipts of quotes: those that may go are deleted, and the figures of conversion are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

import msgspec

from tonsurance import log, metrics
from tonsurance.core.params import Params
from tonsurance.core.products import CHAINS, COVERAGE_TYPES
from tonsurance.db.pool import Connection, acquire
from tonsurance.db.quotes import ConversionSum, Forgotten, forget_quotes, select_conversion_sums
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

FORGET_EVERY_S = 3_600.0
COUNT_EVERY_S = 60.0
BATCH = 1_000
"""Receipts of one statement: nobody waits long behind it."""
NEW_BATCHES = 500
"""Most batches of one pass of receipts whose time has come: 12 million a day."""
OLD_BATCHES = 10
"""Most batches of one pass of receipts that had to stay: of a million each is seen again every four days."""
RECENT = timedelta(days=3)
"""What becomes of a quote is known long before, while the daemon follows the chain."""
_ACQUIRE_S = 30.0
Place = tuple[int, int]
"""A deadline and a quote's id: receipts are in this order."""
_BEFORE_ALL: Place = (0, 0)
_log = log.get(__name__)


class ForgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass did: receipts past their time that it looked at, and those of them that went."""

    looked_at: int = 0
    unused: int = 0
    bought: int = 0


class ReceiptRetention:
    """Deletes receipts of one database as `api/quote_retention_days` and `api/bought_quote_retention_days` say."""

    def __init__(self, pool: LazyPool, params: Callable[[], Params], *, batch: int = BATCH) -> None:
        self._pool = pool
        self._params = params
        self._batch = batch
        self._reached = _BEFORE_ALL
        self._again = _BEFORE_ALL
        self._counted_on: date | None = None
        self._older: tuple[ConversionSum, ...] = ()

    async def forget(self) -> ForgetReport:
        """One pass, in batches, whose work is bounded; what is gone stays gone when a later batch fails.

        It looks at the receipts whose time has come since the last pass, and at some of those that had to stay then,
        from where it left off: bought ones stay for years, and all of them every hour would be too many.
        Raises DatabaseUnavailable.
        """
        report, first = ForgetReport(), self._reached == _BEFORE_ALL
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            if not first:
                report = await self._look_again(conn)
            for _ in range(NEW_BATCHES):
                step, self._reached = await self._step(conn, self._reached)
                report = _add(report, step)
                if step.looked_at < self._batch:
                    break
        if report.unused or report.bought:
            _log.info("receipts_forgotten", **msgspec.to_builtins(report))
        return report

    async def _look_again(self, conn: Connection) -> ForgetReport:
        """The next of those that stayed; from the first one again when all were seen."""
        report = ForgetReport()
        for _ in range(OLD_BATCHES):
            step, self._again = await self._step(conn, self._again)
            report = _add(report, step)
            if step.looked_at < self._batch or self._again >= self._reached:
                self._again = _BEFORE_ALL
                break
        return report

    async def _step(self, conn: Connection, after: Place) -> tuple[Forgotten, Place]:
        """One batch after a place, and the place it came to."""
        unused_days, bought_days = (_read_days(self._params(), key) for key in ("quote", "bought_quote"))
        deadline, quote_id = after
        step = await forget_quotes(conn, unused_days, bought_days, (deadline, str(quote_id)), self._batch)
        metrics.QUOTES_FORGOTTEN.labels("unused").inc(step.unused)
        metrics.QUOTES_FORGOTTEN.labels("bought").inc(step.bought)
        if step.last_deadline is None or step.last_id is None:
            return step, after
        return step, (step.last_deadline, int(step.last_id))

    async def count(self) -> None:
        """Show how many quotes there were and how many became policies. Raises DatabaseUnavailable.

        What became of quotes of some days ago is read once a day.
        """
        today = datetime.now(UTC).date()
        recent = today - RECENT
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            if self._counted_on != today:
                self._older = await select_conversion_sums(conn, date.min, recent)
                self._counted_on = today
            sums = await select_conversion_sums(conn, recent, date.max)
        for names, (issued, bought) in add_up((*self._older, *sums)).items():
            metrics.QUOTES_ISSUED.labels(*names).set(issued)
            metrics.QUOTES_BOUGHT.labels(*names).set(bought)


def add_up(sums: Iterable[ConversionSum]) -> dict[tuple[str, str], tuple[int, int]]:
    """Issued and bought by coverage type and chain."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row in sums:
        names = COVERAGE_TYPES[row.coverage_type], CHAINS[row.chain_id]
        issued, bought = found.get(names, (0, 0))
        found[names] = issued + row.issued, bought + row.bought
    return found


def _add(report: ForgetReport, step: Forgotten) -> ForgetReport:
    return ForgetReport(
        looked_at=report.looked_at + step.looked_at,
        unused=report.unused + step.unused,
        bought=report.bought + step.bought,
    )


def _read_days(params: Params, whose: str) -> int:
    days = params.value("api", f"{whose}_retention_days")
    if not isinstance(days, int):  # the declaration says so; this is for the type checker
        raise TypeError(f"api/{whose}_retention_days is not a whole number.")
    return days


async def keep_receipts(dsn: str, params: Callable[[], Params], stop: asyncio.Event) -> None:
    """Do the upkeep of receipts until `stop` is set, over a connection of its own."""
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance receipts", role=ROLE_OF["daemon"])
    retention = ReceiptRetention(pool, params)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(every(FORGET_EVERY_S, retention.forget, stop=stop, name="receipts"))
            group.create_task(every(COUNT_EVERY_S, retention.count, stop=stop, name="quote conversion"))
    finally:
        await pool.close()
