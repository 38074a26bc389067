"""The running product: start, time from a block to a WebSocket client, memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from bench.figures import Figure, median, percentile, spread
from tonsurance.db.postgres import remove_cluster

POLL_INTERVAL_S = 0.1
LISTEN_S = 30.0
WARM_STARTS = 3
START_LIMIT_S = 3.0
MEMORY_LIMIT_MB = 400


def measure() -> list[Figure]:
    """A first start on an empty home, three warm ones, and half a minute of listening."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        first, _ = _with_stack(home, None)
        warm = [_with_stack(home, None)[0] for _ in range(WARM_STARTS - 1)]
        last, figures = _with_stack(home, _listen)
        warm.append(last)
        remove_cluster(home)
    return [
        Figure(
            name="start on an empty home, packages installed",
            value=f"{first:.1f} s",
            limit="< 90 s with the installation of the packages",
            ok=None,
            note="the installation itself depends on the package index and is not timed here",
        ),
        Figure(
            name="warm start, command to first figures",
            value=f"{median(warm):.1f} s",
            spread=spread(warm, 1),
            limit=f"< {START_LIMIT_S:.0f} s",
            ok=median(warm) < START_LIMIT_S,
        ),
        *figures,
    ]


Measurement = Callable[[dict[str, Any]], Coroutine[Any, Any, list[Figure]]]


def _with_stack(home: Path, measurement: Measurement | None) -> tuple[float, list[Figure]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "tonsurance", "run", "--poll-interval", str(POLL_INTERVAL_S)],
        env=os.environ | {"TONSURANCE_HOME": str(home), "TONSURANCE_PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not _is_ready(port):
            time.sleep(0.02)
        took = time.perf_counter() - started
        status = json.loads((home / "status.json").read_text())
        return took, uvloop.run(measurement(status)) if measurement else []
    finally:
        child.send_signal(signal.SIGINT)
        child.wait()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


async def _listen(status: dict[str, Any]) -> list[Figure]:
    """Events say which transaction they are from; the chain says when it had that transaction's block on disk."""
    received: list[tuple[int, float]] = []
    mined: dict[int, tuple[int, float]] = {}
    async with connect(status["api_url"].replace("http", "ws") + "/ws") as client, httpx.AsyncClient() as http:
        await client.send(json.dumps({"action": "subscribe", "channel": "events"}))
        reader = asyncio.create_task(_read(client, received))
        until = time.monotonic() + LISTEN_S
        while time.monotonic() < until:
            for block in (await http.get(f"{status['chain_url']}/_localnet/status")).json()["blocks"]:
                mined[int(block["start_lt"])] = (int(block["end_lt"]), block["mined_at"])
            await asyncio.sleep(2)
        reader.cancel()
    memory_mb = sum(_pss_mb(pid) for pid in status["pids"].values())
    return [_latency(received, mined), _memory(memory_mb)]


async def _read(client: ClientConnection, received: list[tuple[int, float]]) -> None:
    async for text in client:
        message = json.loads(text)
        if message.get("type") == "event":
            received.append((int(message["lt"]), time.time()))


def _latency(received: list[tuple[int, float]], mined: dict[int, tuple[int, float]]) -> Figure:
    starts = sorted(mined)
    delays = []
    for lt, at in received[20:]:  # the first ones are what the client missed before it subscribed
        start = starts[bisect_right(starts, lt) - 1]
        end, mined_at = mined[start]
        if start <= lt <= end:
            delays.append(at - mined_at)
    limit_s = POLL_INTERVAL_S + 0.2
    return Figure(
        name="block to WebSocket client, p99",
        value=f"{percentile(delays, 0.99) * 1e3:.0f} ms",
        spread=f"p50 {percentile(delays, 0.5) * 1e3:.0f} ms over {len(delays)} events",
        limit=f"< {limit_s * 1e3:.0f} ms (poll interval + 200 ms)",
        ok=percentile(delays, 0.99) < limit_s,
    )


def _memory(megabytes: float) -> Figure:
    return Figure(
        name="memory of the whole run (PSS)",
        value=f"{megabytes:.0f} MB",
        limit=f"< {MEMORY_LIMIT_MB} MB",
        ok=megabytes < MEMORY_LIMIT_MB,
    )


def _pss_mb(pid: int) -> float:
    """Proportional memory of a process and its children, in MB."""
    own = sum(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if "Pss:" in line
    )
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
        children = []  # those of `run` are listed on their own
    return own / 1024 + sum(_pss_mb(int(child)) for child in children)
