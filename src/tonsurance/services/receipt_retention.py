"""Upkeep of the receipts of quotes: those that may go are deleted, and the figures of conversion are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from tonsurance import log, metrics
from tonsurance.core.params import Params
from tonsurance.core.products import CHAINS, COVERAGE_TYPES
from tonsurance.db.pool import acquire
from tonsurance.db.quotes import forget_quotes, select_conversion_sums
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

FORGET_EVERY_S = 3_600.0
COUNT_EVERY_S = 60.0
BATCH = 1_000
"""Receipts of one statement: nobody waits long behind it."""
_ACQUIRE_S = 30.0
_BEFORE_ALL = (0, "0")
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

    async def forget(self) -> ForgetReport:
        """One pass over all receipts past their time, in batches; what is gone stays gone when a later batch fails.

        Raises DatabaseUnavailable.
        """
        unused_days, bought_days = (_read_days(self._params(), key) for key in ("quote", "bought_quote"))
        after, report, full = _BEFORE_ALL, ForgetReport(), True
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            while full:
                step = await forget_quotes(conn, unused_days, bought_days, after, self._batch)
                metrics.QUOTES_FORGOTTEN.labels("unused").inc(step.unused)
                metrics.QUOTES_FORGOTTEN.labels("bought").inc(step.bought)
                report = ForgetReport(
                    looked_at=report.looked_at + step.looked_at,
                    unused=report.unused + step.unused,
                    bought=report.bought + step.bought,
                )
                full = step.looked_at == self._batch
                if step.last_deadline is not None and step.last_id is not None:
                    after = step.last_deadline, step.last_id
        if report.unused or report.bought:
            _log.info("receipts_forgotten", **msgspec.to_builtins(report))
        return report

    async def count(self) -> None:
        """Show how many quotes there were and how many became policies. Raises DatabaseUnavailable."""
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            sums = await select_conversion_sums(conn)
        for row in sums:
            names = COVERAGE_TYPES[row.coverage_type], CHAINS[row.chain_id]
            metrics.QUOTES_ISSUED.labels(*names).set(row.issued)
            metrics.QUOTES_BOUGHT.labels(*names).set(row.bought)


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
