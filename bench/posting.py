"""Posting to the ledger, durable (fsync on): one update after the other, and a backfill in large batches."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench.figures import Figure, percentile
from tonsurance.core.events import ContractBatch
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect
from tonsurance.db.postgres import Cluster, remove_cluster
from tonsurance.services.ledger_writer import LedgerWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from db.chain_story import batch, cut, legal_transactions, register

SINGLE, BACKFILL = 500, 20_000


def measure() -> list[Figure]:
    """Update latency with one caller, and events per second of a backfill."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        cluster.start()
        try:
            return uvloop.run(_measure(cluster.dsn))
        finally:
            cluster.stop()
            remove_cluster(Path(folder))


async def _measure(dsn: str) -> list[Figure]:
    conn = await connect(dsn)
    await migrate(conn)
    await conn.close()
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    writer.start()
    story = legal_transactions(7, SINGLE + BACKFILL)
    events = sum(len(item.events) for item in story)
    try:
        latencies = [await _post(writer, one) for one in cut(story[:SINGLE], [1] * SINGLE)]
        started = time.perf_counter()
        after = story[SINGLE - 1].cursor
        for first in range(SINGLE, len(story), 1000):
            part = story[first : first + 1000]
            await writer.submit(batch(*part, after=after))
            after = part[-1].cursor
        rate = BACKFILL / (time.perf_counter() - started)
    finally:
        await writer.close()
    return [
        Figure(
            name="ledger update, durable, one caller",
            value=f"p50 {percentile(latencies, 0.5) * 1e3:.2f} ms",
            spread=f"p99 {percentile(latencies, 0.99) * 1e3:.2f} ms",
            limit="10-20 ms (documents)",
            ok=percentile(latencies, 0.99) < 0.020,
        ),
        Figure(
            name="backfill into the ledger, batches of 1,000 transactions",
            value=f"{rate:,.0f} transactions/s",
            spread=f"{events / len(story):.1f} events each",
            limit="ratio to COPY comes with the proof of the spine",
            ok=None,
        ),
    ]


async def _post(writer: LedgerWriter, batch: ContractBatch) -> float:
    started = time.perf_counter()
    await writer.submit(batch)
    return time.perf_counter() - started
