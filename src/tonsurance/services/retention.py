"""Upkeep of the tranches' history: a partition for every month, made ahead of time, and old months kept as days.

Money data are kept for ever unless `history_retention_days` says otherwise; events and entries always are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, timedelta

import msgspec

from tonsurance import log
from tonsurance.core.history import fill_buckets
from tonsurance.core.params import Params
from tonsurance.db import partitions, series
from tonsurance.db.pool import Connection, acquire
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

INTERVAL_S = 3_600.0
MONTHS_AHEAD = 2
_DAY_S = 86_400
_ACQUIRE_S = 30.0
_log = log.get(__name__)


class RetentionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an upkeep did, or (dry run) would do: months made, rows moved into their month, months dropped after their
    days were stored, and the rows that went with them."""

    dry_run: bool
    retention_days: int
    made: tuple[date, ...] = ()
    moved_rows: int = 0
    dropped: tuple[date, ...] = ()
    dropped_rows: int = 0


class Retention:
    """Makes, fills and drops the months of one database."""

    def __init__(self, pool: LazyPool, params: Callable[[], Params]) -> None:
        self._pool = pool
        self._params = params

    async def run(self, *, dry_run: bool = False) -> RetentionReport:
        """Bring the months up to date. A month is one transaction, so what is done stays done.

        Raises DatabaseUnavailable when the database is away, or its readers leave no moment for it: try again.
        """
        days = self._params().value("risk", "history_retention_days")
        if not isinstance(days, int):
            raise TypeError("risk/history_retention_days is not a whole number.")
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            made = await find_missing(conn)
            stray = await partitions.select_stray_months(conn)
            if dry_run:
                old = await find_old(conn, days) if days else []
                going = sum([await partitions.count_rows(conn, month) for month in old])
                moving = sum(stray.values())
            else:
                moving = sum([await partitions.make_month(conn, month) or 0 for month in made])
                old = await find_old(conn, days) if days else []
                going = sum([await drop_month(conn, month) for month in old])
        report = RetentionReport(
            dry_run=dry_run,
            retention_days=days,
            made=tuple(made),
            moved_rows=moving,
            dropped=tuple(old),
            dropped_rows=going,
        )
        if made or old:
            _log.info("history_upkeep", **msgspec.to_builtins(report))
        return report


async def find_missing(conn: Connection) -> list[date]:
    """The months to make: those around the clock and the newest block, which may be years ahead of it, first, so that
    new rows no longer fall beside them; then those whose rows are not in their month."""
    span = await partitions.select_span(conn)
    there = set(await partitions.select_months(conn))
    wanted = [
        partitions.add_months(partitions.first_of_month(moment), ahead)
        for moment in (span.newest, span.clock)
        if moment is not None
        for ahead in range(MONTHS_AHEAD, -1, -1)
    ]
    wanted += sorted(await partitions.select_stray_months(conn), reverse=True)
    return [month for month in dict.fromkeys(wanted) if month not in there]


async def find_old(conn: Connection, days: int) -> list[date]:
    """The months, without a gap, that ended more than `days` before the newest block of the vault furthest behind."""
    span, month = await partitions.select_span(conn), await partitions.select_oldest_month(conn)
    if span.slowest is None or month is None:
        return []
    limit = span.slowest - timedelta(days=days)
    old: list[date] = []
    while partitions.start_of(partitions.add_months(month, 1)) <= limit:
        old.append(month)
        month = partitions.add_months(month, 1)
    return old


async def drop_month(conn: Connection, month: date) -> int:
    """Store the month's days, exactly, and drop it, in one transaction. Returns the rows that went."""
    start = int(partitions.start_of(month).timestamp())
    until = int(partitions.start_of(partitions.add_months(month, 1)).timestamp())
    async with conn.transaction():
        await partitions.begin_drop(conn)
        for vault_id, tranche_id in await partitions.select_tranches_until(conn, month):
            before = await series.select_level_before(conn, vault_id, tranche_id, start)
            pieces = await series.select_pieces(conn, vault_id, tranche_id, start, until, _DAY_S)
            days = fill_buckets(pieces, before, start=start, until=until, step=_DAY_S)
            await series.insert_days(conn, vault_id, tranche_id, days)
        return await partitions.drop_month(conn, month)


async def keep_history(dsn: str, params: Callable[[], Params], stop: asyncio.Event) -> None:
    """Do the upkeep at once and every hour until `stop` is set."""
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance history upkeep", role=ROLE_OF["daemon"])
    try:
        await every(INTERVAL_S, Retention(pool, params).run, stop=stop, name="history upkeep")
    finally:
        await pool.close()
