"""Health tells the truth about every component, and readiness waits for six tranches and the chain's head."""

from __future__ import annotations

import asyncio
import time

from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api
from tonsurance import __version__
from tonsurance.api.settings import ApiSettings
from tonsurance.core.errors import DatabaseUnavailable


async def test_all_is_well(api: RunningApi) -> None:
    answer = await api.get("/health")
    body = answer.json()
    assert (answer.status_code, body["status"], body["reasons"]) == (200, "healthy", [])
    assert body["version"] == __version__
    assert {part["name"] for part in body["components"]} >= {"database", "snapshot", "tranches", "following"}
    assert [contract["lag_lt"] for contract in body["contracts"]] == ["0", "0"]
    assert all(contract["age_s"] >= 0 for contract in body["contracts"])
    ready = await api.get("/health/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)


async def test_live_answers_without_a_database_and_ready_does_not() -> None:
    ledger = FakeLedger()
    ledger.failure = DatabaseUnavailable()
    async with running_api(ledger, ApiSettings(port=0, poll_interval_s=0.01)) as api:
        assert (await api.get("/health/live")).status_code == 200
        health = await api.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert health.json()["snapshot_age_s"] is None
        assert health.json()["stale"] is True
        ready = await api.get("/health/ready")
        assert ready.status_code == 503
        assert any("cannot be read" in reason for reason in ready.json()["reasons"])
        ledger.failure = None
        async with asyncio.timeout(60):
            while (await api.get("/health/ready")).status_code != 200:
                pass
        assert (await api.get("/health")).json()["status"] == "healthy"


async def test_five_tranches_are_not_ready() -> None:
    async with running_api(FakeLedger(tranches=("SURE-BTC", "SURE-SNR", "SURE-MEZZ", "SURE-JNR", "SURE-JNR+"))) as api:
        ready = await api.get("/health/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["Not posted yet: SURE-EQT."])


async def test_no_followed_contract_is_not_ready(ledger: FakeLedger) -> None:
    ledger.contracts = ()
    async with running_api(ledger) as api:
        ready = await api.get("/health/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["No contract is followed yet."])


async def test_a_stopped_contract_is_degraded_and_its_error_text_is_not_shown(ledger: FakeLedger) -> None:
    ledger.stop_following(status="error")
    async with running_api(ledger) as api:
        body = (await api.get("/health")).json()
        assert body["status"] == "degraded"
        assert body["reasons"] == ["MultiTrancheVault is not followed: its status is error."]
        assert (await api.get("/health/ready")).status_code == 503


async def test_a_head_nobody_looks_at_is_degraded(ledger: FakeLedger) -> None:
    ledger.stop_following(checked_at=time.time() - 3600)
    async with running_api(ledger) as api:
        body = (await api.get("/health")).json()
        assert body["status"] == "degraded"
        assert body["contracts"][0]["age_s"] > 3599
        assert "MultiTrancheVault was last checked 36" in body["reasons"][0]


async def test_a_head_that_was_never_reached_is_not_ready(ledger: FakeLedger) -> None:
    ledger.stop_following(head_lt=None)
    async with running_api(ledger) as api:
        body = (await api.get("/health")).json()
        assert body["contracts"][0]["lag_lt"] is None
        assert (await api.get("/health/ready")).status_code == 503


async def test_the_lag_of_a_cursor_is_shown(ledger: FakeLedger) -> None:
    ledger.stop_following(head_lt=ledger.contracts[0].last_lt + 1234)
    async with running_api(ledger) as api:
        assert (await api.get("/health")).json()["contracts"][0]["lag_lt"] == "1234"
