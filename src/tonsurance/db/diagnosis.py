"""What `doctor` asks the database. Reads only."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection

SELECT_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
SELECT_WRITERS = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid::bigint = $1 AND objid::bigint = $2 AND objsubid = 1
"""
SELECT_UNREFLECTED = """
SELECT e.params_version, e.created_at, v.version, v.created_at AS changed_at
FROM config_head h JOIN config_versions v USING (version) JOIN blockchain_events e
    ON e.params_version < v.version AND e.created_at > v.created_at + make_interval(secs => $1)
ORDER BY e.event_id DESC LIMIT 1
"""
SELECT_SNAPSHOT_LAG = """
SELECT (SELECT max(ledger_version) FROM ledger_entries) AS entries,
    (SELECT max(ledger_version) FROM tranche_utilization) AS snapshot
"""
SELECT_STUCK = """
SELECT contract_type, contract_address, sync_status, error_message, last_synced_lt, head_lt,
    extract(epoch FROM now() - last_sync_timestamp)::float8 AS age_s
FROM blockchain_sync_state WHERE contract_type <> 'DirectVault' ORDER BY contract_type
"""


class Unreflected(msgspec.Struct, frozen=True):
    """An event that was posted with older parameters than held by then."""

    params_version: int
    created_at: datetime
    version: int
    changed_at: datetime


class Following(msgspec.Struct, frozen=True, kw_only=True):
    """How a contract is followed; `age_s` since the chain was last read (None: never)."""

    contract_type: str
    contract_address: str
    sync_status: str
    error_message: str | None
    last_synced_lt: int
    head_lt: int | None
    age_s: float | None


async def select_clock(conn: Connection) -> float:
    """The database's time, unix seconds."""
    now: float = await conn.fetchval(SELECT_CLOCK)
    return now


async def select_writers(conn: Connection, lock: int) -> int:
    """How many sessions hold this advisory lock: 1 while somebody writes the ledger."""
    count: int = await conn.fetchval(SELECT_WRITERS, lock >> 32, lock & 0xFFFF_FFFF)
    return count


async def select_unreflected(conn: Connection, grace_s: float) -> Unreflected | None:
    """The newest event posted with older parameters than had held for `grace_s` seconds; None: there is none."""
    row = await conn.fetchrow(SELECT_UNREFLECTED, grace_s)
    return None if row is None else Unreflected(*row)


async def select_snapshot_lag(conn: Connection) -> tuple[int | None, int | None]:
    """The ledger's version of the newest entry and of the newest tranche row."""
    [row] = await conn.fetch(SELECT_SNAPSHOT_LAG)
    return row["entries"], row["snapshot"]


async def select_following(conn: Connection) -> tuple[Following, ...]:
    """Every contract of a chain."""
    return tuple(Following(**row) for row in await conn.fetch(SELECT_STUCK))
