"""Which daemon is the active one, what each says of itself, and the counts of events they show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection

_DAEMON_LOCK = 0x746F6E5F6461656D  # "ton_daem"

TRY_DAEMON_LOCK = "SELECT pg_try_advisory_lock($1)"
SELECT_ALIVE = "SELECT 1"
SET_KEEPALIVE = """
SELECT set_config('tcp_keepalives_idle', '2', false), set_config('tcp_keepalives_interval', '1', false),
    set_config('tcp_keepalives_count', '3', false)
"""
"""The server ends the session of a machine that is gone within seconds, and its lock with it."""
UPSERT_STATUS = """
INSERT INTO daemon_status AS d (instance_id, role, status, host, pid, network, started_at, report)
VALUES ($1, $2, $3, $4, $5, $6, to_timestamp($7), $8::jsonb)
ON CONFLICT (instance_id) DO UPDATE SET role = excluded.role, status = excluded.status, report = excluded.report,
    heartbeat_at = now()
"""
DELETE_OLD_STATUSES = "DELETE FROM daemon_status WHERE heartbeat_at < now() - interval '1 day'"
SELECT_STATUSES = """
SELECT instance_id, role, status, host, pid, network, started_at, report::text AS report,
    extract(epoch FROM now() - heartbeat_at)::double precision AS age_s
FROM daemon_status ORDER BY role <> 'active', heartbeat_at DESC LIMIT 100
"""
SELECT_EVENTS_AFTER = """
SELECT event_type, count(*) AS events, max(event_id) AS last_id,
    extract(epoch FROM max(created_at))::double precision AS last_at
FROM blockchain_events WHERE event_id > $1 AND contract_type <> 'DirectVault' GROUP BY event_type
"""
SELECT_SUMS = """
SELECT coalesce(sum(total_capital_nanoton), 0)::text AS capital,
    coalesce(sum(coverage_sold_nanoton), 0)::text AS coverage, count(*) AS tranches
FROM tranche_utilization
"""


class DaemonRow(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon as it said last, `age_s` seconds ago. `report` is JSON text."""

    instance_id: str
    role: str
    status: str
    host: str
    pid: int
    network: str
    started_at: datetime
    report: str
    age_s: float


class EventCount(msgspec.Struct, frozen=True):
    """Events of one type: how many, the id and the time (unix seconds) of the last."""

    event_type: str
    events: int
    last_id: int
    last_at: float


class Sums(msgspec.Struct, frozen=True):
    """All tranches together, in nanoTON."""

    capital: int
    coverage: int
    tranches: int


async def take_daemon_lock(conn: Connection) -> bool:
    """Be the active daemon for as long as this connection lives; False when another one is."""
    await conn.execute(SET_KEEPALIVE)
    taken: bool = await conn.fetchval(TRY_DAEMON_LOCK, _DAEMON_LOCK)
    return taken


async def check_alive(conn: Connection) -> None:
    """Raises what the driver raises when the connection is gone."""
    await conn.fetchval(SELECT_ALIVE)


async def write_status(conn: Connection, values: Sequence[object]) -> None:
    """Store what a daemon says: the values of UPSERT_STATUS."""
    await conn.execute(UPSERT_STATUS, *values)


async def forget_old_statuses(conn: Connection) -> None:
    """Daemons that said nothing for a day are no longer of interest."""
    await conn.execute(DELETE_OLD_STATUSES)


async def select_statuses(conn: Connection) -> tuple[DaemonRow, ...]:
    """Every daemon of the last day, the active one first."""
    return tuple(DaemonRow(**dict(row)) for row in await conn.fetch(SELECT_STATUSES))


async def count_events_after(conn: Connection, event_id: int) -> tuple[EventCount, ...]:
    """Events of contracts posted after this one, by type."""
    return tuple(EventCount(*row) for row in await conn.fetch(SELECT_EVENTS_AFTER, event_id))


async def select_sums(conn: Connection) -> Sums:
    """Capital and coverage of all vaults."""
    [row] = await conn.fetch(SELECT_SUMS)
    return Sums(int(row["capital"]), int(row["coverage"]), row["tranches"])
