"""Configuration: one access, curve and capacity with and without it, and a change until all processes have it."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import uvloop

from bench.figures import ROUNDS, Figure, alternate, median, percentile, spread
from tonsurance.core.catalog import TRANCHES
from tonsurance.core.cover_prices import price_cover, read_terms
from tonsurance.core.limits import TrancheRoom, read_rules, tranche_capacity
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.premium import MarketInputs
from tonsurance.core.tranches import apy_percent
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect
from tonsurance.db.postgres import Cluster, remove_cluster
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import Actor, ConfigStore, Edit
from tonsurance.services.lazy_pool import LazyPool

CALLS, PRICES = 100_000, 10_000
PROCESSES, CHANGES = 4, 15
_LIMIT_S = 0.1
_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
_TON = 10**9

_CHILD = """
import asyncio, sys, time
from tonsurance import log
from tonsurance.services.config_loader import ConfigLoader

async def main():
    log.configure("error", process="bench")
    loader = ConfigLoader(sys.argv[1], poll_s=3600.0)
    loader.subscribe(lambda params: print(params.version, time.monotonic(), flush=True))
    await loader.start()
    while not loader.get_cache_stats()["listening"]:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def measure() -> list[Figure]:
    """All of them."""
    loader = ConfigLoader(_NOWHERE)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        cluster.start()
        try:
            delays = uvloop.run(_measure_changes(cluster.dsn))
        finally:
            cluster.stop()
            remove_cluster(Path(folder))
    in_process = [_access(loader), _counted_access(loader), _curve(loader), _capacity(loader), _premium(loader)]
    return [*in_process, _change(delays)]


def _timed(work: Callable[[], object], calls: int = CALLS) -> Callable[[], float]:
    """Seconds of one call, over many."""
    turns = [None] * calls

    def run() -> float:
        started = time.perf_counter()
        for _ in turns:
            work()
        return (time.perf_counter() - started) / calls

    return run


def _access(loader: ConfigLoader) -> Figure:
    turns = [None] * CALLS

    def read() -> float:
        value = loader.params.value
        started = time.perf_counter()
        for _ in turns:
            value("pricing", "base_rate_USDC")
        return (time.perf_counter() - started) / CALLS

    times = [read() * 1e9 for _ in range(ROUNDS)]
    return Figure(
        name="access to a parameter",
        value=f"{median(times):.0f} ns",
        spread=spread(times, 0),
        limit="< 100 ns",
        ok=median(times) < 100,
    )


def _counted_access(loader: ConfigLoader) -> Figure:
    read = _timed(lambda: loader.get_float("pricing", "base_rate_USDC", 0.04))
    times = [read() * 1e9 for _ in range(ROUNDS)]
    return Figure(
        name="get_float, counted for the access log", value=f"{median(times):.0f} ns", spread=spread(times, 0),
        limit="(no limit)", ok=None,
    )  # fmt: skip


def _curve(loader: ConfigLoader) -> Figure:
    fixed = {tranche.tranche_id: tranche for tranche in TRANCHES}
    configured = _timed(lambda: apy_percent(loader.params.tranche("SURE-EQT"), 0.37))
    constant = _timed(lambda: apy_percent(fixed["SURE-EQT"], 0.37))
    return _ratio("curve", alternate(configured, constant))


def _capacity(loader: ConfigLoader) -> Figure:
    room = TrancheRoom(tranche_id="SURE-BTC", capital_nano=1_000 * _TON, coverage_nano=400 * _TON)
    rules = read_rules(DEFAULT_PARAMS)
    configured = _timed(lambda: tranche_capacity(room, read_rules(loader.params)))
    constant = _timed(lambda: tranche_capacity(room, rules))
    return _ratio("capacity", alternate(configured, constant))


def _premium(loader: ConfigLoader) -> Figure:
    terms = read_terms("depeg", "Ethereum", "USDC", Decimal(10_000), 90, DEFAULT_PARAMS)
    calm, usd = MarketInputs(utilization=0.6, loss_ratio=None, claims_count=0, stress="Normal"), Decimal("2.5")
    configured = _timed(lambda: price_cover(terms, usd, calm, loader.params), PRICES)
    constant = _timed(lambda: price_cover(terms, usd, calm, DEFAULT_PARAMS), PRICES)
    return _ratio("premium, by the list, in TON and technical,", alternate(configured, constant), 1.1)


def _ratio(what: str, ratios: list[float], most: float = 1.2) -> Figure:
    return Figure(
        name=f"{what} with configuration, against constants",
        value=f"{median(ratios):.2f} x",
        spread=spread(ratios),
        limit=f"<= {most:.2f} x",
        ok=median(ratios) <= most,
    )


async def _measure_changes(dsn: str) -> list[float]:
    """Seconds from the call that changes a parameter until the last process has swapped."""
    conn = await connect(dsn)
    await migrate(conn)
    await conn.close()
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _CHILD, dsn, stdout=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    pool = LazyPool(dsn)
    store = ConfigStore(pool)
    await store.seed(actor=Actor("bench", "admin"))
    try:
        for child in children:
            while await _line(child) != "ready":
                pass
        return [await _change_once(store, children, turn) for turn in range(CHANGES)]
    finally:
        await pool.close()
        for child in children:
            child.kill()
            await child.wait()


async def _change_once(store: ConfigStore, children: list[asyncio.subprocess.Process], turn: int) -> float:
    edit = Edit("tranche", "SURE_MEZZ_apy_max", "set", 15.0 + turn / 100 + 0.01)
    started = time.monotonic()
    applied = await store.apply([edit], actor=Actor("bench", "editor"), reason="a bench")
    return max([await _swapped(child, applied.version) for child in children]) - started


async def _swapped(child: asyncio.subprocess.Process, version: int) -> float:
    while True:
        words = (await _line(child)).split()
        if words[0] == str(version):
            return float(words[1])


async def _line(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    return (await child.stdout.readline()).decode().strip()


def _change(delays: list[float]) -> Figure:
    return Figure(
        name=f"change of a parameter until {PROCESSES} processes have it, durable",
        value=f"p50 {statistics.median(delays) * 1e3:.0f} ms",
        spread=f"largest of {len(delays)}: {percentile(delays, 0.99) * 1e3:.0f} ms",
        limit="< 100 ms",
        ok=percentile(delays, 0.99) < _LIMIT_S,
    )
