"""Over REST: a tranche's past in buckets, its forecast, what it really pays, and refusals that say what to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from api.ledger_fake import FakeLedger
from api.running import RunningApi
from db.chain_story import START_TIME, TON, cut, deposit, register, transaction
from ports import free_port
from tonsurance.api.server import serve_api_until
from tonsurance.api.settings import ApiSettings
from tonsurance.core.events import CoverageChanged
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.ledger_writer import LedgerWriter

PATH = "/api/v1/utilization/SURE-SNR/history"


@asynccontextmanager
async def serving(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    stop, port = asyncio.Event(), free_port()
    task = asyncio.create_task(serve_api_until(dsn, ApiSettings(port=port), DEFAULT_PARAMS, stop))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            async with asyncio.timeout(60):
                while True:
                    try:
                        if (await http.get("/api/v1/utilization/SURE-SNR")).status_code == httpx.codes.OK:
                            break
                    except httpx.TransportError:
                        pass
                    await asyncio.sleep(0.02)
            yield http
    finally:
        stop.set()
        await task


@pytest.fixture
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    half = CoverageChanged(1, (0, 500 * TON, 0, 0, 0, 0))
    for part in cut([transaction(100, deposit(2, 1_000 * TON)), transaction(1_900, half)], []):
        await writer.submit(part)
    await writer.close()
    async with serving(database) as client:
        yield client


async def test_the_past_comes_in_buckets_with_provenance(http: httpx.AsyncClient) -> None:
    start = START_TIME - START_TIME % 3_600
    answer = await http.get(PATH, params={"from": str(start), "to": str(start + 7_200), "resolution": "1h"})
    assert answer.status_code == httpx.codes.OK
    body = answer.json()
    assert (body["tranche_id"], body["resolution"], body["resolution_seconds"]) == ("SURE-SNR", "1h", 3_600)
    assert {"params_version", "ledger_version", "stale", "as_of", "timestamp", "vault_id"} <= body.keys()
    assert body["points"]
    last = body["points"][-1]
    assert last["recorded_at"] == last["updated_at"]
    assert (last["utilization"], last["utilization_span"]["min"], last["utilization_span"]["max"]) == (0.5, 0.0, 0.5)
    assert last["capital_span"]["mean_nanoton"] == str(1_000 * TON)
    assert last["coverage_span"]["close_nanoton"] == str(500 * TON)
    seconds = sum(point["seconds"] for point in body["points"])
    assert seconds == START_TIME + 1_900 + 1 - (START_TIME + 100)
    same = await http.get(
        PATH, params={"from": "2030-03-17T17:00:00Z", "to": "2030-03-17T19:00:00Z", "resolution": "3600"}
    )
    assert same.json()["points"] == body["points"]


async def test_what_cannot_be_asked_for_says_what_can(http: httpx.AsyncClient) -> None:
    late = str(START_TIME + 1_000_000)
    for path, params, status, code, word in (
        (PATH, {"from": "0", "resolution": "1m"}, 422, "too_many_points", "resolution="),
        (PATH, {"resolution": "2h"}, 400, "bad_input", "15m"),
        (PATH, {"from": "yesterday"}, 400, "bad_input", "unix seconds"),
        (PATH, {"from": late}, 422, "in_the_future", "has not come"),
        (PATH, {"from": str(START_TIME), "to": str(START_TIME)}, 400, "bad_input", "before"),
        (PATH, {"vault_id": "other"}, 404, "unknown_vault", "other"),
        ("/api/v1/utilization/SURE-XXX/history", {}, 400, "unknown_tranche", "SURE-XXX"),
        ("/api/v1/utilization/SURE-XXX/forecast", {}, 400, "unknown_tranche", "SURE-XXX"),
    ):
        answer = await http.get(path, params=params)
        assert (answer.status_code, answer.json()["code"]) == (status, code), params
        assert word in answer.json()["detail"]


async def test_the_forecast_names_its_reason(http: httpx.AsyncClient) -> None:
    body = (await http.get("/api/v1/utilization/SURE-SNR/forecast")).json()
    assert (body["hours_until_full"], body["reason"], body["track_record"]) == (None, "insufficient_history", None)
    assert (body["room_ton"], body["horizon_hours"]) == (450.0, 720)


async def test_what_is_paid_stands_beside_the_target_and_never_for_it(http: httpx.AsyncClient) -> None:
    one = (await http.get("/api/v1/utilization/SURE-SNR")).json()
    assert one["current_apy"] == pytest.approx(8.5474, abs=1e-4)
    assert (one["funded_apy"], one["realised_apy"], one["realised_window_days"]) == (0.0, None, None)
    apy = (await http.get("/api/v1/tranche/SURE-SNR/apy")).json()
    assert (apy["current_apy"], apy["funded_apy"], apy["realised_apy"]) == (one["current_apy"], 0.0, None)
    board = (await http.get("/api/v1/utilization/dashboard")).json()
    assert [row["funded_apy"] for row in board["tranches"]] == [0.0]
    then = (await http.get("/api/v1/utilization/SURE-SNR", params={"as_of": "lt:100"})).json()
    assert (then["utilization"], then["funded_apy"]) == (0.0, 0.0)


async def test_without_a_database_the_past_is_not_empty_but_unavailable(api: RunningApi, ledger: FakeLedger) -> None:
    for path in (PATH, "/api/v1/utilization/SURE-SNR/forecast"):
        answer = await api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
