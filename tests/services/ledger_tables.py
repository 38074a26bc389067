"""What the tables of a ledger hold, and what core alone makes of the same history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from db.chain_story import register
from tonsurance.core.events import ContractBatch, DecodedTransaction
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.tranches import apy_percent
from tonsurance.db.pool import Connection, connect
from tonsurance.services.ledger_writer import LedgerWriter


async def rows_of(conn: Connection, table: str) -> list[dict[str, Any]]:
    """A table without what depends on when and in which groups it was written."""
    times = {"created_at", "updated_at", "last_sync_timestamp", "ledger_version", "event_id", "entry_id"}
    if table == "policies":
        times -= {"created_at"}  # of the block
    rows = [dict(row) for row in await conn.fetch(f"SELECT * FROM {table}")]
    kept = [{name: value for name, value in row.items() if name not in times} for row in rows]
    return sorted(kept, key=repr)


LEDGER_TABLES = (
    "blockchain_events",
    "ledger_entries",
    "tranche_utilization",
    "tranche_utilization_history",
    "blockchain_sync_state",
    "blockchain_transactions",
    "policies",
    "premium_streams",
)


async def whole_ledger(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    return {table: await rows_of(conn, table) for table in LEDGER_TABLES}


async def post_all(dsn: str, batches: list[ContractBatch]) -> dict[str, list[dict[str, Any]]]:
    """Post batches one after the other through a writer of their own, and return the whole ledger."""
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    for part in batches:
        await writer.submit(part)
    await writer.close()
    return await read_ledger(dsn)


async def read_ledger(dsn: str) -> dict[str, list[dict[str, Any]]]:
    async with reading(dsn) as conn:
        return await whole_ledger(conn)


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[Connection]:
    conn = await connect(dsn)
    try:
        yield conn
    finally:
        await conn.close()


def recompute(transactions: list[DecodedTransaction]) -> list[tuple[int, int, str, Totals]]:
    """Every step of the history, folded through core alone."""
    totals: dict[str, Totals] = {}
    steps = []
    for event in (event for item in transactions for event in item.events):
        for entry in entries_of(event.body):
            totals[entry.tranche_id] = post(totals.get(entry.tranche_id, Totals()), entry)
            steps.append((event.lt, event.message_index, entry.tranche_id, totals[entry.tranche_id]))
    return steps


def totals_of(row: dict[str, Any]) -> Totals:
    return Totals(
        capital=row["total_capital_nanoton"],
        coverage=row["coverage_sold_nanoton"],
        unearned=row["unearned_premium_nanoton"],
        earned=int(row["earned_premium_nanoton"]),
        losses=int(row["absorbed_losses_nanoton"]),
        shares=int(row["shares"]),
    )


def check_against_core(ledger: dict[str, list[dict[str, Any]]], transactions: list[DecodedTransaction]) -> None:
    """History equals the recomputation step by step, the snapshot its last step, the totals the sums of the entries."""
    steps = recompute(transactions)
    history = {
        (row["logical_time"], row["message_index"], row["tranche_id"]): row
        for row in ledger["tranche_utilization_history"]
    }
    assert {key: totals_of(row) for key, row in history.items()} == {step[:3]: step[3] for step in steps}
    last = {tranche: totals for _, _, tranche, totals in steps}
    assert {row["tranche_id"]: totals_of(row) for row in ledger["tranche_utilization"]} == last
    for row in history.values():
        assert row["current_apy"] == expected_apy(row["tranche_id"], totals_of(row))
    for tranche_id, totals in last.items():
        mine = [row for row in ledger["ledger_entries"] if row["tranche_id"] == tranche_id]
        assert sum(row["capital_delta_nanoton"] for row in mine) == totals.capital
        assert sum(row["coverage_delta_nanoton"] for row in mine) == totals.coverage
        assert sum(row["unearned_delta_nanoton"] for row in mine) == totals.unearned
        assert sum(row["earned_delta_nanoton"] for row in mine) == totals.earned
        assert sum(row["loss_delta_nanoton"] for row in mine) == totals.losses
        assert sum(int(row["shares_delta"]) for row in mine) == totals.shares


def expected_apy(tranche_id: str, totals: Totals) -> float | None:
    """The curve at coverage / capital; no rate without capital under the coverage."""
    if totals.coverage and not totals.capital:
        return None
    used = totals.coverage / totals.capital if totals.coverage else 0.0
    return apy_percent(DEFAULT_PARAMS.tranche(tranche_id), min(used, 1.0))
