"""Putting rebuilt rows in the place of live ones, within the caller's transaction and under the ledger's write lock.

Rows are replaced, not tables: partitions, triggers, grants, sequences and whatever depends on the tables stay as they
are, readers see all of the old rows or all of the new ones, and a row that was right is not touched at all.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection
from tonsurance.db.shadow import SHADOW, STATEMENT_TIMEOUT_S, RowsOf

_MONTHS_LOCK = 8_388_070_243_181_228_897
"""Held by whoever makes or drops a month of the history (see migrations/012_tranche_history.sql)."""

_JOURNALLED = "ledger_entries"
"""The append-only one: what goes from it must stand in the journal."""

LOCK_HEAD = "SELECT version FROM lock_ledger_head()"
LOCK_MONTHS = "SELECT pg_advisory_xact_lock($1)"
SELECT_REBUILD_ID = "SELECT nextval(pg_get_serial_sequence('ledger_rebuilds', 'rebuild_id'))"
INSERT_REBUILD = """
INSERT INTO ledger_rebuilds (rebuild_id, kind, ledger_version, events, late_events, from_lt, report, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8)
"""
SELECT_EXPOSURE_RECOUNT = "SELECT update_product_exposure_cache()"
PUBLISH = "SELECT publish_version($1)"


class Swapped(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of a table were taken out and how many were put in; an altered row is both."""

    table: str
    removed: int
    inserted: int


class RebuildRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rebuild that was put in place. `report` is JSON text."""

    rebuild_id: int
    kind: str
    version: int
    events: int
    late_events: int = 0
    from_lt: int | None = None
    report: str
    started_at: datetime


async def lock_ledger(conn: Connection) -> int:
    """Keep everybody else from writing the ledger until the transaction ends; returns its version."""
    version: int = await conn.fetchval(LOCK_HEAD, timeout=STATEMENT_TIMEOUT_S)
    await conn.execute(LOCK_MONTHS, _MONTHS_LOCK, timeout=STATEMENT_TIMEOUT_S)
    return version


async def take_rebuild_id(conn: Connection) -> int:
    """The number of the next rebuild, for the journal."""
    rebuild_id: int = await conn.fetchval(SELECT_REBUILD_ID)
    return rebuild_id


async def recount_exposure(conn: Connection) -> int:
    """Make the exposure what the live policies come to; returns how many rows were not."""
    changed: int = await conn.fetchval(SELECT_EXPOSURE_RECOUNT, timeout=STATEMENT_TIMEOUT_S)
    return changed


async def swap_rows(conn: Connection, of: RowsOf, rebuild_id: int) -> Swapped:
    """Make the live rows of a table the rebuilt ones."""
    if of.model.table == _JOURNALLED:
        await conn.execute(_make_journal(of), rebuild_id, timeout=STATEMENT_TIMEOUT_S)
    removed = await conn.execute(_make_delete(of), timeout=STATEMENT_TIMEOUT_S)
    inserted = await conn.execute(_make_insert(of), timeout=STATEMENT_TIMEOUT_S)
    return Swapped(table=of.model.table, removed=_count(removed), inserted=_count(inserted))


async def finish_rebuild(conn: Connection, row: RebuildRow) -> None:
    """Write the rebuild down, and publish its version with the commit."""
    values = (row.rebuild_id, row.kind, row.version, row.events, row.late_events, row.from_lt, row.report)
    await conn.execute(INSERT_REBUILD, *values, row.started_at)
    await conn.execute(PUBLISH, row.version)


def _make_journal(of: RowsOf) -> str:
    return f"""
        INSERT INTO ledger_adjustments (rebuild_id, vault_id, relation, action, contract_address, logical_time,
            message_index, tranche_id, row_before, reason)
        SELECT $1, l.vault_id, '{of.model.table}', 'delete', l.contract_address, l.logical_time, l.message_index,
            l.tranche_id, to_jsonb(l), 'is not what the log comes to'
        FROM {of.live}.{of.model.table} l WHERE {of.condition("l")} AND NOT EXISTS ({_make_twin(of, "l", "r", SHADOW)})
    """  # noqa: S608 - names of tables and columns are ours, here and below


def _make_delete(of: RowsOf) -> str:
    return (
        f"DELETE FROM {of.live}.{of.model.table} l "  # noqa: S608
        f"WHERE {of.condition('l')} AND NOT EXISTS ({_make_twin(of, 'l', 'r', SHADOW)})"
    )


def _make_insert(of: RowsOf) -> str:
    names = ", ".join(of.written)
    return (
        f"INSERT INTO {of.live}.{of.model.table} ({names}) "  # noqa: S608
        f"SELECT {names} FROM {SHADOW}.{of.model.table} r "
        f"WHERE {of.condition('r')} AND NOT EXISTS ({_make_twin(of, 'r', 'l', of.live)}) "
        f"ORDER BY {', '.join(of.model.key)}"
    )


def _make_twin(of: RowsOf, row: str, other: str, schema: str) -> str:
    """The same row on the other side."""
    same_key = " AND ".join(f"{other}.{column} = {row}.{column}" for column in of.model.key)
    mine, theirs = (", ".join(f"{side}.{column}" for column in of.columns) for side in (row, other))
    return (
        f"SELECT FROM {schema}.{of.model.table} {other} WHERE {same_key} "  # noqa: S608
        f"AND ROW({theirs}) IS NOT DISTINCT FROM ROW({mine})"
    )


def _count(status: str) -> int:
    """The number of rows in a command's answer."""
    return int(status.rpartition(" ")[2])
