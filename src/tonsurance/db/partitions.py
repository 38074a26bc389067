"""The months of the tranches' history: which there are, making one ahead of time, and dropping one that is old."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import msgspec

from tonsurance.db.pool import Connection

LOCK_TIMEOUT_MS = 2_000
"""So long a month waits for the readers before it gives up until the next time: posting waits behind it."""

MOVE_TIMEOUT_S = 600
_NAME = re.compile(r"tranche_utilization_history_y(\d{4,})m(\d\d)")

SELECT_MONTHS = """
SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'tranche_utilization_history'::regclass ORDER BY c.relname
"""
SELECT_STRAY_MONTHS = """
SELECT date_trunc('month', recorded_at)::date AS month, count(*) AS rows
FROM tranche_utilization_history_default, history_horizon
WHERE since IS NULL OR recorded_at >= since GROUP BY 1 ORDER BY 1
"""
SELECT_OLDEST = """
SELECT coalesce((SELECT since FROM history_horizon), (SELECT min(recorded_at) FROM tranche_utilization_history))
"""
SELECT_SPAN = """
SELECT min(newest) AS slowest, max(newest) AS newest, now() AS clock
FROM (SELECT max(block_time) AS newest FROM tranche_utilization GROUP BY vault_id) AS vault
"""
SELECT_MONTH_ROWS = "SELECT count(*) FROM tranche_utilization_history WHERE recorded_at >= $1 AND recorded_at < $2"
SELECT_MONTH_TRANCHES = """
SELECT DISTINCT vault_id, tranche_id FROM tranche_utilization_history WHERE recorded_at < $1
ORDER BY vault_id, tranche_id
"""
SELECT_MADE = "SELECT make_history_month($1)"
SELECT_DROPPED = "SELECT drop_history_month($1)"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The newest block time of any vault, that of the vault that is furthest behind (None before the first event),
    and the database's clock."""

    slowest: datetime | None
    newest: datetime | None
    clock: datetime


def first_of_month(moment: datetime) -> date:
    """The first day of the month (UTC) a moment is in."""
    return moment.astimezone(UTC).date().replace(day=1)


def add_months(month: date, count: int) -> date:
    """The first day of a later month, or an earlier one."""
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)


def start_of(month: date) -> datetime:
    """The month's first moment."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


async def select_months(conn: Connection) -> list[date]:
    """The months that have a partition, oldest first."""
    names = [_NAME.fullmatch(row["name"]) for row in await conn.fetch(SELECT_MONTHS)]
    return sorted(date(int(name[1]), int(name[2]), 1) for name in names if name is not None)


async def select_stray_months(conn: Connection) -> dict[date, int]:
    """The months whose rows are in the default partition, and how many; not those kept as states at the horizon."""
    return {row["month"]: row["rows"] for row in await conn.fetch(SELECT_STRAY_MONTHS)}


async def select_span(conn: Connection) -> Span:
    """How far block times and the clock are."""
    row = await conn.fetchrow(SELECT_SPAN)
    return msgspec.convert(dict(row or {}), Span)


async def select_oldest_month(conn: Connection) -> date | None:
    """The oldest month whose steps are kept; None before the first event."""
    oldest: datetime | None = await conn.fetchval(SELECT_OLDEST)
    return None if oldest is None else first_of_month(oldest)


async def make_month(conn: Connection, month: date) -> int | None:
    """Make a month's partition with the rows that were in the default one, in one transaction: the number of rows, None
    when the month was there. Raises DatabaseUnavailable (by the driver's errors) when readers hold the table too long;
    nothing has changed then."""
    async with conn.transaction():
        await _set_limits(conn)
        moved: int | None = await conn.fetchval(SELECT_MADE, month, timeout=MOVE_TIMEOUT_S)
    return moved


async def drop_month(conn: Connection, month: date) -> int:
    """Drop the oldest month after its days were stored, in the caller's transaction; the last state of every tranche
    stays. Returns the number of rows that went."""
    dropped: int = await conn.fetchval(SELECT_DROPPED, month, timeout=MOVE_TIMEOUT_S)
    return dropped


async def _set_limits(conn: Connection) -> None:
    await conn.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    await conn.execute(f"SET LOCAL statement_timeout = '{MOVE_TIMEOUT_S}s'")


async def begin_drop(conn: Connection) -> None:
    """Set the limits of a transaction in which a month is dropped."""
    await _set_limits(conn)


async def count_rows(conn: Connection, month: date) -> int:
    """The rows of a month."""
    count: int = await conn.fetchval(SELECT_MONTH_ROWS, start_of(month), start_of(add_months(month, 1)))
    return count


async def select_tranches_until(conn: Connection, month: date) -> list[tuple[str, str]]:
    """The (vault, tranche) that had an event in this month or before it."""
    rows = await conn.fetch(SELECT_MONTH_TRANCHES, start_of(add_months(month, 1)))
    return [(row["vault_id"], row["tranche_id"]) for row in rows]
