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
FROM blockchain_sync_state s WHERE contract_type <> 'DirectVault'
    AND NOT EXISTS (SELECT FROM followed_contracts f
        WHERE f.contract_address = s.contract_address AND f.wanted = 'removed')
ORDER BY contract_type
"""
SELECT_LAST_WORD = """
SELECT role, status, host, pid, extract(epoch FROM now() - heartbeat_at)::float8 AS age_s FROM daemon_status
ORDER BY role = 'active' AND heartbeat_at > now() - interval '30 seconds' DESC, heartbeat_at DESC LIMIT 1
"""
SELECT_LAST_RECONCILIATIONS = """
SELECT DISTINCT ON (contract_address) vault_id, contract_address, status,
    coalesce(error_message, differences || ' differences') AS finding
FROM vault_sync_results ORDER BY contract_address, run_id DESC
"""
SELECT_CONNECTIONS = """
SELECT count(*)::int AS used, current_setting('max_connections')::int AS most
FROM pg_stat_activity WHERE backend_type = 'client backend'
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


class LastWord(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon that matters most said of itself, `age_s` seconds ago."""

    role: str
    status: str
    host: str
    pid: int
    age_s: float


class LastReconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """How the last reconciliation of a vault's contract ended; `finding` in words."""

    vault_id: str | None
    contract_address: str
    status: str
    finding: str


async def select_last_word(conn: Connection) -> LastWord | None:
    """The active daemon, else the one heard last; None when none ever spoke."""
    row = await conn.fetchrow(SELECT_LAST_WORD)
    return None if row is None else LastWord(**dict(row))


async def select_last_reconciliations(conn: Connection) -> list[LastReconciliation]:
    """The newest run of each contract."""
    return [LastReconciliation(**dict(row)) for row in await conn.fetch(SELECT_LAST_RECONCILIATIONS)]


async def select_connections(conn: Connection) -> tuple[int, int]:
    """Client connections the server has, and may have."""
    [row] = await conn.fetch(SELECT_CONNECTIONS)
    return row["used"], row["most"]
