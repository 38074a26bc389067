"""The tracker as a library: durable updates of direct vaults, and reading the ledger with and without Redis."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import uvloop

from bench.figures import ROUNDS, Figure, median, percentile, spread
from bench.posting import durable_cluster, make_database
from services.redis_server import RedisServer
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.shared_cache import SharedCache
from tonsurance.services.utilization_tracker import UtilizationTracker

UPDATES, CALLERS = 200, 16
READS = 200


def measure() -> list[Figure]:
    """Updates by one caller and by 16; the hit rate beside them; reads with Redis on and off, in turn."""
    with durable_cluster() as dsn:
        return uvloop.run(_measure(dsn))


async def _measure(dsn: str) -> list[Figure]:
    made = await make_database(dsn, "library")
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(made)
        await tracker.create_vault("lab")
        figures = [await _update_alone(tracker), await _update_together(tracker), await _watch(tracker)]
    return [*figures, await _redis_on_and_off(made)]


async def _update(tracker: UtilizationTracker) -> float:
    started = time.perf_counter()
    await tracker.update_coverage("SURE-SNR", 1)
    return (time.perf_counter() - started) * 1e3


async def _update_alone(tracker: UtilizationTracker) -> Figure:
    took = [await _update(tracker) for _ in range(UPDATES)]
    p99 = percentile(took, 0.99)
    return Figure(
        name="update of a direct vault, durable, one caller",
        value=f"p50 {median(took):.2f} ms, p99 {p99:.2f} ms",
        spread=spread(took),
        limit="p99 <= 20 ms",
        ok=p99 <= 20,
    )


async def _update_together(tracker: UtilizationTracker) -> Figure:
    async def one() -> None:
        for _ in range(UPDATES):
            await _update(tracker)

    rates = []
    for _ in range(3):
        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(CALLERS)))
        rates.append(CALLERS * UPDATES / (time.perf_counter() - started))
    return Figure(
        name=f"updates of a direct vault, durable, {CALLERS} callers",
        value=f"{median(rates):,.0f}/s",
        spread=spread(rates, 0),
        limit="(no limit)",
        ok=None,
    )


async def _watch(tracker: UtilizationTracker) -> Figure:
    """A dashboard reads all tranches ten times a second while updates are committed five times a second."""

    async def move() -> None:
        for _ in range(25):
            await _update(tracker)
            await asyncio.sleep(0.2)

    before = tracker.get_statistics()
    moving = asyncio.create_task(move())
    while not moving.done():
        for _ in range(6):
            await tracker.get_all_utilizations()
        await asyncio.sleep(0.1)
    after = tracker.get_statistics()
    hits, misses = (int(str(after[what])) - int(str(before[what])) for what in ("hits", "misses"))
    rate = hits / (hits + misses)
    return Figure(
        name="hit rate of the cache, 60 reads and 5 commits a second",
        value=f"{rate:.1%}",
        spread=f"{hits + misses} reads",
        limit=">= 95 %",
        ok=rate >= 0.95,
    )


async def _redis_on_and_off(dsn: str) -> Figure:
    name = "reading the ledger with Redis, against without"
    if shutil.which("redis-server") is None:
        return Figure(name=name, value="not measured", limit="(no limit)", ok=None, note="redis-server is not here")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            return await _compare(dsn, server, name)
        finally:
            server.end()


async def _compare(dsn: str, server: RedisServer, name: str) -> Figure:
    cache = SharedCache(server.url)
    shared, alone = PostgresLedgerReader(dsn, shared=cache), PostgresLedgerReader(dsn)
    ratios, times = [], []
    for _ in range(ROUNDS):
        one, other = await _read(shared), await _read(alone)
        ratios.append(one / other)
        times.append(one)
    await shared.close()
    await alone.close()
    await cache.close()
    return Figure(
        name=name,
        value=f"{median(ratios):.2f} x the time",
        spread=f"{spread(ratios)}; {median(times) * 1e3:.2f} ms",
        limit="(no limit)",
        ok=None,
        note="answers come from memory either way: Redis spares the database, not the reader",
    )


async def _read(reader: PostgresLedgerReader) -> float:
    started = time.perf_counter()
    for _ in range(READS):
        await reader.read_state()
    return (time.perf_counter() - started) / READS
