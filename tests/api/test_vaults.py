"""Several vaults: each is asked for by name, none is mixed with another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.ledger_fake import FakeLedger, totals
from api.running import RunningApi, running_api
from api.test_rest import DASHBOARDS, TRANCHE_PATHS, check_problem, strict_json
from tonsurance.api.settings import ApiSettings
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.utilization_tracker import UtilizationTracker


@pytest.fixture
async def lab(database: str) -> AsyncIterator[UtilizationTracker]:
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(database)
        await tracker.create_vault("lab")
        await tracker.sync_from_chain("SURE-SNR", 1_000, 800)
        yield tracker


@pytest.fixture
async def api_of_two(database: str, lab: UtilizationTracker) -> AsyncIterator[RunningApi]:
    await lab.create_vault("empty")
    ledger = PostgresLedgerReader(database)
    async with running_api(ledger, settings=ApiSettings(port=0, vault_id="lab")) as running:
        yield running
    await ledger.close()


async def test_vaults_are_listed_with_what_moves_them(api_of_two: RunningApi, api: RunningApi) -> None:
    body = strict_json(await api_of_two.get("/api/v1/vaults"))
    assert body["vaults"] == [{"vault_id": "lab", "source": "direct"}, {"vault_id": "empty", "source": "direct"}]
    assert body["ledger_version"] == "1"
    body = strict_json(await api.get("/api/v1/vaults"))
    assert body["vaults"] == [{"vault_id": "main", "source": "chain"}]


async def test_each_route_answers_for_the_vault_it_is_asked_for(api_of_two: RunningApi) -> None:
    for vault, capital in (("lab", "1000"), ("empty", "0")):
        body = strict_json(await api_of_two.get(f"/api/v1/utilization/SURE-SNR?vault_id={vault}"))
        assert (body["vault_id"], body["total_capital_nanoton"]) == (vault, capital)
        for path in DASHBOARDS[:2]:
            rows = strict_json(await api_of_two.get(f"{path}?vault_id={vault}"))["tranches"]
            assert {row["vault_id"] for row in rows} == {vault}
            assert [row["total_capital_nanoton"] for row in rows] == ["0", capital, "0", "0", "0", "0"]
    capacity = strict_json(await api_of_two.get("/api/v1/tranche/SURE-SNR/capacity?vault_id=lab"))
    assert capacity["available_nanoton"] == "150"
    assert strict_json(await api_of_two.get("/api/v1/utilization/SURE-SNR"))["vault_id"] == "lab"


async def test_an_etag_of_one_vault_is_none_of_another(api_of_two: RunningApi) -> None:
    first = await api_of_two.get(f"{DASHBOARDS[0]}?vault_id=lab")
    headers = {"If-None-Match": first.headers["etag"]}
    assert (await api_of_two.get(f"{DASHBOARDS[0]}?vault_id=lab", **headers)).status_code == 304
    assert (await api_of_two.get(f"{DASHBOARDS[0]}?vault_id=empty", **headers)).status_code == 200


async def test_an_unknown_vault_is_a_404_that_names_it(api: RunningApi, ledger: FakeLedger) -> None:
    for path in (*(path.format("SURE-SNR") for path in TRANCHE_PATHS), *DASHBOARDS[:2]):
        problem = check_problem(await api.get(f"{path}?vault_id=nowhere"), 404, "unknown_vault")
        assert "nowhere" in problem["detail"]
    ledger.tranches["SURE-BTC"] = totals("SURE-BTC", 1, 0)
    assert (await api.get("/api/v1/utilization/SURE-BTC?vault_id=main")).status_code == 200
