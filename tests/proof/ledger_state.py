"""Everything a ledger holds, without what depends on when, and in which groups, it was written."""

from __future__ import annotations

import hashlib
from typing import Any

from tonsurance.db.pool import Connection, connect

CLOCKS = {"created_at", "updated_at", "last_sync_timestamp"}
NUMBERS_OF_WRITING = {"event_id", "entry_id", "quarantine_id", "ledger_version", "head_lt"}
BLOCK_TIMES = {"policies": {"created_at"}, "tranche_utilization_history": {"updated_at"}}
"""Columns of these names that are times of blocks, not of our clock."""
TABLES = (
    "blockchain_events",
    "blockchain_quarantine",
    "blockchain_sync_state",
    "blockchain_transactions",
    "ledger_entries",
    "policies",
    "tranche_utilization",
    "tranche_utilization_history",
)

State = dict[str, list[str]]


async def read_state(conn: Connection) -> State:
    """Each table's rows as text, sorted."""
    return {table: await _read_rows(conn, table) for table in TABLES}


async def _read_rows(conn: Connection, table: str) -> list[str]:
    left_out = (CLOCKS | NUMBERS_OF_WRITING) - BLOCK_TIMES.get(table, set())
    rows = await conn.fetch(f"SELECT * FROM {table}")
    return sorted(repr({name: value for name, value in row.items() if name not in left_out}) for row in rows)


async def read_state_of(dsn: str) -> State:
    """The same over a connection of its own."""
    conn = await connect(dsn)
    try:
        return await read_state(conn)
    finally:
        await conn.close()


def digest(state: Any) -> str:
    """One short text for a whole state."""
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]
