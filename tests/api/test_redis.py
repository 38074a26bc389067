"""The API beside a Redis: its health is shown, and its end changes no answer."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx

from db.chain_story import batch, deposit, register, transaction
from ports import free_port
from services.redis_server import running_redis
from tonsurance.api.server import serve_api_until
from tonsurance.api.settings import ApiSettings
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.shared_redis import SharedRedis


async def component(http: httpx.AsyncClient, name: str) -> dict[str, object]:
    parts = (await http.get("/health")).json()["components"]
    [found] = [part for part in parts if part["name"] == name]
    return found


async def test_a_redis_that_dies_is_degraded_and_answers_go_on(database: str, tmp_path: Path) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(10, *(deposit(tranche, 100 * 10**9) for tranche in range(1, 7)))))
    await writer.close()
    port, stop = free_port(), asyncio.Event()
    settings = ApiSettings(port=port, poll_interval_s=0.05)
    with running_redis(tmp_path) as redis:
        serving = asyncio.create_task(
            serve_api_until(database, settings, DEFAULT_PARAMS, stop, shared=SharedRedis(redis.url))
        )
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http, asyncio.timeout(60):
            while True:
                try:
                    if (await http.get("/api/v1/utilization/SURE-SNR")).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.02)
            while (await component(http, "redis"))["status"] != "ok":
                await asyncio.sleep(0.02)
            redis.send(signal.SIGKILL)
            while (await component(http, "redis"))["status"] == "ok":
                assert (await http.get("/api/v1/utilization/SURE-SNR")).json()["total_capital_ton"] == 100.0
                await asyncio.sleep(0.02)
            assert "PostgreSQL alone" in str((await component(http, "redis"))["reason"])
            assert (await http.get("/api/v1/utilization/SURE-SNR")).json()["stale"] is False
            redis.start()
            while (await component(http, "redis"))["status"] != "ok":
                await asyncio.sleep(0.05)
        stop.set()
        await serving
