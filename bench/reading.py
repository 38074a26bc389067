"""Reading a utilisation: in process against a dictionary look-up, and over HTTP against a constant answer."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import httpx
import uvloop

from bench.figures import ROUNDS, Figure, alternate, median, spread
from tonsurance.api.server import ApiParts, bind_socket, run_api
from tonsurance.api.settings import ApiSettings
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.tranche_reads import TrancheReads

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from api.ledger_fake import FakeLedger

READS = 200_000
REQUESTS = 1_000


def measure() -> list[Figure]:
    """Both figures."""
    return uvloop.run(_measure())


async def _measure() -> list[Figure]:
    ledger = FakeLedger()
    reads = TrancheReads(ledger, DEFAULT_PARAMS, vault_id="main", stale_after_s=60.0)
    await reads.refresh()
    return [_in_process(reads), await _over_http(ledger)]


def _in_process(reads: TrancheReads) -> Figure:
    names = ["SURE-SNR"] * READS
    table = {"SURE-SNR": reads.figures("SURE-SNR")}

    def read() -> float:
        started = time.perf_counter()
        for name in names:
            reads.figures(name)
        return (time.perf_counter() - started) / READS

    def look_up() -> float:
        started = time.perf_counter()
        for name in names:
            table[name]
        return (time.perf_counter() - started) / READS

    times = [read() * 1e6 for _ in range(ROUNDS)]
    ratio = median(alternate(read, look_up))
    return Figure(
        name="cached utilisation read, in process",
        value=f"{median(times):.2f} us",
        spread=f"{spread(times)}; {ratio:.1f} x a dict look-up",
        limit="< 1 us",
        ok=median(times) < 1,
    )


async def _over_http(ledger: FakeLedger) -> Figure:
    settings = ApiSettings(host="127.0.0.1", port=0)
    listener = bind_socket(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop, wake = asyncio.Event(), asyncio.Event()
    parts = ApiParts(ledger, settings, DEFAULT_PARAMS)
    server = asyncio.create_task(run_api(parts, listener, stop=stop, wake=wake, beside=[]))
    async with httpx.AsyncClient(base_url=url) as client:
        for path in ("/api/v1/utilization/SURE-SNR", "/health/live"):
            while (await client.get(path)).status_code != httpx.codes.OK:
                await asyncio.sleep(0.05)
        ratios = []
        for _ in range(ROUNDS):
            constant = await _time(client, "/health/live")
            ratios.append(constant / await _time(client, "/api/v1/utilization/SURE-SNR"))
    stop.set()
    await server
    return Figure(
        name="utilisation over HTTP, speed against a constant answer",
        value=f"{median(ratios):.2f}",
        spread=spread(ratios),
        limit=">= 0.8",
        ok=median(ratios) >= 0.8,
    )


async def _time(client: httpx.AsyncClient, path: str) -> float:
    started = time.perf_counter()
    for _ in range(REQUESTS):
        await client.get(path)
    return time.perf_counter() - started
