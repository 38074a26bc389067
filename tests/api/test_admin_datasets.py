"""Data sets over HTTP: who may what, what a dry run says, and refusals that name everything."""

from __future__ import annotations

import pytest

from api.admin_running import AdminApi

DEPEGS, SCENARIOS = "/admin/datasets/depegs", "/admin/datasets/scenarios"
EVENT = {
    "asset": "USDY",
    "min_price": 0.95,
    "timestamp": "2025-06-01T12:00:00Z",
    "duration_seconds": 3600,
    "recovery_time_seconds": 7200,
    "source": "coingecko",
}
SCENARIO = {
    "scenario_name": "Quiet year",
    "description": "Nothing happens.",
    "scenario_type": "none",
    "asset_impacts": {"USDC": 1},
    "btc_impact": 0,
    "correlation_shift": 0.0,
    "severity_level": "low",
}


async def test_an_event_is_entered_found_verified_and_taken_out(guarded: AdminApi) -> None:
    made = await guarded.ask("POST", DEPEGS, EVENT | {"reason": "seen"}, role="editor", sub="eve")
    assert made.status_code == 201, made.text
    event = made.json()
    assert (event["entered_by"], event["verified"], event["verified_by"], event["version"]) == ("eve", False, None, 1)
    assert event["timestamp"] == "2025-06-01T12:00:00.000Z"
    path = f"{DEPEGS}/{event['id']}"
    assert (await guarded.ask("GET", path, role="viewer")).json() == event
    verified = await guarded.ask("PUT", path, EVENT | {"verified": True}, role="approver", sub="bob")
    assert verified.json()["verified_by"] == "bob", verified.text
    stale = await guarded.ask("PUT", path, EVENT | {"expected_version": 1}, role="editor")
    assert (stale.status_code, stale.json()["code"]) == (409, "config_conflict")
    listed = await guarded.ask("GET", f"{DEPEGS}?asset=USDY&verified=true&limit=1", role="viewer")
    assert [row["id"] for row in listed.json()] == [event["id"]]
    assert (await guarded.ask("GET", f"{DEPEGS}?verified=false")).json() == []
    assert (await guarded.ask("DELETE", path, role="editor")).status_code == 403
    deleted = await guarded.ask("DELETE", path, role="approver", sub="bob")
    assert deleted.json() == {"success": True, "id": event["id"]}
    assert (await guarded.ask("GET", path)).json()["code"] == "unknown_entry"
    [last, *_] = (await guarded.ask("GET", "/admin/config/audit?category=historical_depegs")).json()
    assert (last["action"], last["new_value"], last["old_value"]["min_price"]) == ("delete", None, 0.95)


async def test_one_approver_alone_cannot_rewrite_a_verified_event(guarded: AdminApi) -> None:
    made = await guarded.ask("POST", DEPEGS, EVENT, role="editor", sub="eve")
    path = f"{DEPEGS}/{made.json()['id']}"
    await guarded.ask("PUT", path, EVENT | {"verified": True}, role="approver", sub="bob")
    worse = EVENT | {"min_price": 0.2, "verified": True}
    alone = await guarded.ask("PUT", path, worse, role="approver", sub="carl")
    assert (alone.status_code, alone.json()["code"]) == (403, "forbidden")
    assert (await guarded.ask("PUT", path, worse | {"verified": False}, role="approver", sub="carl")).status_code == 200
    assert (await guarded.ask("PUT", path, worse, role="admin", sub="CARL")).status_code == 403
    second = (await guarded.ask("PUT", path, worse, role="approver", sub="bob")).json()
    assert (second["min_price"], second["verified"], second["verified_by"]) == (0.2, True, "bob")


async def test_a_coin_without_depegs_has_nulls_not_zeros(admin: AdminApi) -> None:
    await admin.ask("POST", DEPEGS, EVENT | {"verified": True})
    body = (await admin.ask("GET", f"{DEPEGS}/statistics?since=2025-01-01&until=2026-01-01", role="viewer")).json()
    coins = {coin.pop("asset"): coin for coin in body["coins"]}
    assert len(coins) == 14
    assert coins["USDC"] == {"events": 0, "has_data": False, "frequency": None, "severity": None, "expected_loss": None}
    assert coins["USDY"]["frequency"] == pytest.approx(365.25 / 365)
    assert coins["USDY"]["expected_loss"] == pytest.approx(365.25 / 365 * 0.05)
    bad = await admin.ask("GET", f"{DEPEGS}/statistics?since=2026-01-01&until=2025-01-01")
    assert bad.status_code == 400


async def test_a_dry_run_answers_200_with_what_is_wrong_or_what_it_would_do(admin: AdminApi) -> None:
    good = await admin.ask("POST", DEPEGS, EVENT | {"dry_run": True, "verified": True})
    assert (good.status_code, good.json()["valid"]) == (200, True)
    assert good.json()["after"]["min_price"] == 0.95
    [moved] = good.json()["effects"]["depeg_statistics"]
    assert (moved["before"]["has_data"], moved["after"]["severity"]) == (False, pytest.approx(0.05))
    bad = await admin.ask("POST", DEPEGS, EVENT | {"dry_run": True, "min_price": 999.99, "asset": "USDX"})
    assert (bad.status_code, bad.json()["valid"]) == (200, False)
    assert [error["field"] for error in bad.json()["errors"]] == [
        "historical_depegs/asset",
        "historical_depegs/min_price",
    ]
    assert (await admin.ask("GET", DEPEGS)).json() == []


async def test_a_scenario_is_added_switched_off_and_named_once(admin: AdminApi) -> None:
    made = await admin.ask("POST", SCENARIOS, SCENARIO)
    assert made.status_code == 201, made.text
    path = f"{SCENARIOS}/{made.json()['id']}"
    assert made.json()["asset_impacts"] == {"USDC": 1.0}
    assert (await admin.ask("POST", SCENARIOS, SCENARIO)).json()["code"] == "entry_exists"
    trial = await admin.ask("PUT", path, SCENARIO | {"enabled": False, "dry_run": True})
    assert (trial.json()["before"]["enabled"], trial.json()["after"]["enabled"]) == (True, False)
    assert (await admin.ask("PUT", path, SCENARIO | {"enabled": False})).json()["version"] == 2
    assert [row["id"] for row in (await admin.ask("GET", f"{SCENARIOS}?enabled=false")).json()] == [made.json()["id"]]
    assert (await admin.ask("GET", path, role="viewer")).json()["enabled"] is False
    assert (await admin.ask("DELETE", path)).status_code == 200
    assert (await admin.ask("DELETE", path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", DEPEGS, EVENT),
        ("PUT", f"{DEPEGS}/1", EVENT),
        ("DELETE", f"{DEPEGS}/1", None),
        ("POST", SCENARIOS, SCENARIO),
        ("PUT", f"{SCENARIOS}/1", SCENARIO),
        ("DELETE", f"{SCENARIOS}/1", None),
    ],
)
async def test_a_viewer_changes_nothing_and_nobody_comes_without_a_token(
    admin: AdminApi, method: str, path: str, body: object
) -> None:
    assert (await admin.ask(method, path, body, role="viewer")).status_code == 403
    assert (await admin.api.http.request(method, path, json=body)).status_code == 401


BAD_BODIES = (
    EVENT | {"min_price": "0.95"},
    EVENT | {"min_price": 1e400},
    EVENT | {"duration_seconds": 10**30},
    EVENT | {"duration_seconds": 1.5},
    EVENT | {"timestamp": "yesterday"},
    EVENT | {"timestamp": "٢٠٢٥-06-01T12:00:00Z"},
    EVENT | {"asset": None},
    EVENT | {"unknown": 1},
    {name: value for name, value in EVENT.items() if name != "source"},
    {**EVENT, "notes": "x" * 1001},
    [],
)


@pytest.mark.parametrize("number", range(len(BAD_BODIES)))
async def test_a_bad_body_is_400_and_changes_nothing(admin: AdminApi, number: int) -> None:
    body = BAD_BODIES[number]
    if number == 1:  # infinity is no JSON: httpx would refuse to write it
        text = '{"asset":"USDY","min_price":1e400}'
        headers = {"Authorization": f"Bearer {admin.token()}", "Content-Type": "application/json"}
        answer = await admin.api.http.request("POST", DEPEGS, content=text, headers=headers)
    else:
        answer = await admin.ask("POST", DEPEGS, body)
    assert answer.status_code == 400, answer.text
    assert (await admin.ask("GET", DEPEGS)).json() == []


async def test_what_is_wrong_together_is_listed_together(admin: AdminApi) -> None:
    answer = await admin.ask("POST", SCENARIOS, SCENARIO | {"asset_impacts": {"USDX": 1, "USDC": 9}, "btc_impact": -3})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_entry")
    assert [error["key"] for error in answer.json()["errors"]] == ["asset_impacts", "asset_impacts", "btc_impact"]
