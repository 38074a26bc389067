"""The admin API over HTTP: every request of the documents, and every way to be refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from api.admin_running import PARAMETER, AdminApi

REASON = {"reason": "Adjusting for market conditions"}


# What the documents ask with curl.


async def test_list_gives_every_parameter_in_order(admin: AdminApi) -> None:
    answer = await admin.ask("GET", "/admin/config")
    assert answer.status_code == 200
    rows = answer.json()
    assert len(rows) > 100
    names = [(row["category"], row["key"]) for row in rows]
    assert names == sorted(names)
    documented = {"id", "category", "key", "value_type", "value_data", "description", "last_updated_at", "updated_by"}
    assert all(documented <= row.keys() for row in rows)
    assert answer.headers["cache-control"] == "no-store"


async def test_a_category_gives_its_own_and_an_unknown_one_nothing(admin: AdminApi) -> None:
    rows = (await admin.ask("GET", "/admin/config/tranche")).json()
    assert {row["category"] for row in rows} == {"tranche"}
    unknown = await admin.ask("GET", "/admin/config/nothing_here")
    assert (unknown.status_code, unknown.json()) == (200, [])


async def test_one_parameter_says_what_it_is(admin: AdminApi) -> None:
    row = (await admin.ask("GET", PARAMETER)).json()
    assert (row["value_type"], row["value_data"], row["chain_owned"]) == ("float", 0.04, False)
    missing = await admin.ask("GET", "/admin/config/pricing/base_rate_NOPE")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_parameter")


async def test_a_tranche_is_shown_as_one_json_value(admin: AdminApi) -> None:
    row = (await admin.ask("GET", "/admin/config/tranche/SURE_BTC_config")).json()
    assert (row["value_type"], row["value_data"]["apy_min"]) == ("json", 4.0)


async def test_a_dry_run_says_ok_and_changes_nothing(admin: AdminApi) -> None:
    body = {"value": 0.05, "dry_run": True} | REASON
    answer = await admin.ask("PUT", PARAMETER, body)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["dry_run"], found["valid"], found["validation"], found["errors"]) == (True, True, "OK", [])
    assert (found["category"], found["key"], found["new_value"]) == ("pricing", "base_rate_USDC", 0.05)
    assert found["effects"]["risk"] == "not_available"
    assert found["effects"]["quotes"]["technical_price"]["changed"] == 40  # USDC, wherever and whatever is covered
    assert found["effects"]["quotes"]["list_price"]["changed"] == 0
    assert await admin.value() == 0.04


async def test_a_dry_run_of_999_99_is_answered_200_with_what_is_wrong(admin: AdminApi) -> None:
    answer = await admin.ask("PUT", PARAMETER, {"value": 999.99, "dry_run": True})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["valid"], found["effects"]) == (False, {})
    assert any("999.99" in problem["message"] for problem in found["errors"])
    assert await admin.value() == 0.04


async def test_an_update_holds_and_says_who_made_it(admin: AdminApi) -> None:
    answer = await admin.ask("PUT", PARAMETER, {"value": 0.05} | REASON, sub="ada@example.org")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["success"], found["category"], found["key"]) == (True, "pricing", "base_rate_USDC")
    assert (found["new_value"], found["old_value"], found["updated_by"]) == (0.05, 0.04, "ada@example.org")
    assert found["updated_at"].endswith("Z")
    row = (await admin.ask("GET", PARAMETER)).json()
    assert (row["value_data"], row["updated_by"], row["version"]) == (0.05, "ada@example.org", found["version"])


async def test_an_update_needs_no_reason_where_approvals_are_off(admin: AdminApi) -> None:
    assert (await admin.ask("PUT", PARAMETER, {"value": 0.045})).status_code == 200
    assert await admin.value() == 0.045


async def test_reload_answers_with_the_figures_of_the_cache(admin: AdminApi) -> None:
    answer = await admin.ask("POST", "/admin/config/reload")
    assert answer.status_code == 200
    found = answer.json()
    assert found["success"] is True
    assert found["message"]
    assert {"total_entries", "valid_entries", "expired_entries", "ttl_seconds"} <= found["stats"].keys()


async def test_stats_are_the_documented_figures(admin: AdminApi) -> None:
    found = (await admin.ask("GET", "/admin/config/stats")).json()
    assert found["total_entries"] > 100
    assert found["ttl_seconds"] == 60


async def test_the_audit_log_tells_who_changed_what_from_where_and_why(admin: AdminApi) -> None:
    await admin.ask("PUT", PARAMETER, {"value": 0.05, "dry_run": True, "reason": "a look"}, sub="ada")
    done = await admin.ask("PUT", PARAMETER, {"value": 0.05} | REASON, sub="bob")
    answer = await admin.ask("GET", "/admin/config/audit?limit=50&category=pricing&key=base_rate_USDC")
    assert answer.status_code == 200
    change, trial = answer.json()[:2]
    assert (change["changed_by"], change["change_reason"], change["client_ip"]) == (
        "bob",
        REASON["reason"],
        "127.0.0.1",
    )
    assert (change["old_value"], change["new_value"], change["dry_run"]) == (0.04, 0.05, False)
    assert change["request_id"] == done.headers["x-request-id"]
    assert (trial["changed_by"], trial["dry_run"], trial["change_reason"]) == ("ada", True, "a look")
    page = (await admin.ask("GET", f"/admin/config/audit?limit=1&category=pricing&before={change['id']}")).json()
    assert [row["id"] for row in page] == [trial["id"]]


async def test_an_invalid_token_is_401(admin: AdminApi) -> None:
    answer = await admin.api.get("/admin/config", Authorization="Bearer invalid_token")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    found = answer.json()
    assert (found["status"], found["code"]) == (401, "unauthorized")
    assert found["error"]


async def test_a_text_for_a_number_is_400_validation_failed(admin: AdminApi) -> None:
    answer = await admin.ask("PUT", PARAMETER, {"value": "not_a_number"})
    assert answer.status_code == 400
    found = answer.json()
    assert found["error"] == "Validation failed"
    assert "not_a_number" in found["message"]
    assert found["errors"][0]["field"] == "pricing/base_rate_USDC"
    assert answer.headers["content-type"] == "application/problem+json"
    assert await admin.value() == 0.04


# More than the curls.


async def test_every_error_of_a_value_is_named(admin: AdminApi) -> None:
    before = await admin.version()
    answer = await admin.ask("PUT", "/admin/config/tranche/SURE_MEZZ_apy_min", {"value": 500.0})
    assert answer.status_code == 400
    assert "SURE_MEZZ_apy_max" in answer.text
    assert await admin.version() == before


async def test_a_parameter_of_ones_own_is_created_and_deleted(admin: AdminApi) -> None:
    path = "/admin/config/pilot/fee"
    body = {"value": 1.5, "value_type": "float", "description": "Fee of the pilot"} | REASON
    created = await admin.ask("POST", path, body)
    assert (created.status_code, created.json()["new_value"]) == (201, 1.5)
    row = (await admin.ask("GET", path)).json()
    assert (row["custom"], row["value_type"], row["description"]) == (True, "float", "Fee of the pilot")
    again = await admin.ask("POST", path, body)
    assert (again.status_code, again.json()["code"]) == (409, "parameter_exists")
    assert (await admin.ask("DELETE", path)).status_code == 200
    assert (await admin.ask("GET", path)).status_code == 404


async def test_delete_brings_a_declared_parameter_back_to_its_default(admin: AdminApi) -> None:
    await admin.ask("PUT", PARAMETER, {"value": 0.05})
    answer = await admin.ask("DELETE", f"{PARAMETER}?reason=enough")
    assert (answer.status_code, answer.json()["new_value"]) == (200, 0.04)
    assert await admin.value() == 0.04


async def test_no_category_can_take_the_name_of_a_route(admin: AdminApi) -> None:
    names = {"audit", "changes", "diff", "reload", "rollback", "stats", "versions"}
    for name in names:
        answer = await admin.ask("POST", f"/admin/config/{name}/fee", {"value": 1, "value_type": "int"})
        assert answer.json()["code"] in ("reserved_category", "method_not_allowed"), name
    assert names.isdisjoint(row["category"] for row in (await admin.ask("GET", "/admin/config")).json())


async def test_what_a_contract_enforces_is_shown_and_not_changed(admin: AdminApi) -> None:
    path = "/admin/config/risk/max_utilization"
    assert (await admin.ask("GET", path)).json()["chain_owned"] is True
    answer = await admin.ask("PUT", path, {"value": 0.9} | REASON)
    assert (answer.status_code, answer.json()["code"]) == (409, "chain_owned")
    trial = await admin.ask("PUT", path, {"value": 0.9, "dry_run": True})
    assert (trial.status_code, trial.json()["valid"]) == (200, False)


async def test_a_step_beyond_the_cage_is_422_and_names_both_numbers(admin: AdminApi) -> None:
    path = "/admin/config/tranche/SURE_EQT_apy_max"
    old = await admin.value(path)
    assert isinstance(old, float)
    answer = await admin.ask("PUT", path, {"value": old * 3})
    assert (answer.status_code, answer.json()["code"]) == (422, "cage_exceeded")
    assert "factor of 3" in answer.text
    assert "2" in answer.json()["detail"]
    assert await admin.value(path) == old


async def test_the_next_answer_of_the_process_has_the_new_version(admin: AdminApi) -> None:
    path, asked = "/admin/config/tranche/SURE_MEZZ_apy_max", "/api/v1/tranche/SURE-MEZZ/apy"
    for turn in range(10):
        version = (await admin.ask("PUT", path, {"value": 16.0 + turn / 10})).json()["version"]
        assert (await admin.api.get(asked)).json()["params_version"] == version
    version = (await admin.ask("POST", "/admin/config/rollback", {"version": 1})).json()["version"]
    assert (await admin.api.get(asked)).json()["params_version"] == version
    edits = {"changes": [{"category": "tranche", "key": "SURE_MEZZ_apy_max", "value": 17.0}]} | REASON
    await admin.ask("PUT", "/admin/users/bob", {"role": "approver"})
    change_id = (await admin.ask("POST", "/admin/config/changes", edits)).json()["change_id"]
    done = await admin.ask("POST", f"/admin/config/changes/{change_id}/approve", role="approver", sub="bob")
    assert (await admin.api.get(asked)).json()["params_version"] == done.json()["version"]


async def test_a_key_of_the_past_has_its_past_version_and_person_and_is_gone_where_it_was_not(admin: AdminApi) -> None:
    await admin.ask("POST", "/admin/config/reload")
    first = (await admin.ask("PUT", PARAMETER, {"value": 0.05}, sub="ada")).json()
    fee = {"value": 1.5, "value_type": "float", "description": "Fee of the pilot"}
    made = (await admin.ask("POST", "/admin/config/pilot/fee", fee, sub="ada")).json()
    await admin.ask("PUT", PARAMETER, {"value": 0.06}, sub="bob")
    await admin.ask("DELETE", "/admin/config/pilot/fee")
    times = {row["version"]: row["created_at"] for row in (await admin.ask("GET", "/admin/config/versions")).json()}
    row = (await admin.ask("GET", f"{PARAMETER}?as_of={times[first['version']]}")).json()
    assert (row["value_data"], row["version"], row["updated_by"]) == (0.05, first["version"], "ada")
    assert row["last_updated_at"] == times[first["version"]]
    missing = await admin.ask("GET", f"/admin/config/pilot/fee?as_of={times[first['version']]}")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_parameter")
    [then] = (await admin.ask("GET", f"/admin/config/pilot?as_of={times[made['version']]}")).json()
    assert (then["value_data"], then["value_type"], then["description"]) == (1.5, "float", "Fee of the pilot")
    assert (await admin.ask("GET", "/admin/config/pilot")).json() == []
    config = await admin.ask("GET", f"/admin/config/tranche/SURE_BTC_config?as_of={times[made['version']]}")
    assert config.json()["value_data"]["apy_min"] == 4.0


async def test_every_reason_is_named_whatever_the_first_one_is(admin: AdminApi) -> None:
    edits = [
        {"category": "risk", "key": "max_utilization", "value": 0.9},
        {"category": "pricing", "key": "base_rate_USDC", "value": "x"},
        {"category": "tranche", "key": "SURE_EQT_apy_max", "value": 900.0},
    ]
    answer = await admin.ask("POST", "/admin/config/changes", {"changes": edits} | REASON)
    assert (answer.status_code, answer.json()["code"]) == (409, "chain_owned")
    assert {error["key"] for error in answer.json()["errors"]} == {edit["key"] for edit in edits}


async def test_no_category_is_called_like_other_things_in_the_audit_log(admin: AdminApi) -> None:
    for name in ("admin_users", "historical_depegs", "stress_scenarios", "all"):
        answer = await admin.ask("POST", f"/admin/config/{name}/fee", {"value": 1, "value_type": "int"})
        assert answer.json()["code"] == "reserved_category", name


async def test_a_person_written_down_stands_in_the_audit_log(admin: AdminApi) -> None:
    await admin.ask("PUT", "/admin/users/bob", {"role": "editor"})
    await admin.ask("PUT", "/admin/users/bob", {"role": "approver", "enabled": False}, sub="ada")
    rows = (await admin.ask("GET", "/admin/config/audit?category=admin_users&key=bob")).json()
    assert [(row["action"], row["changed_by"], row["client_ip"]) for row in rows] == [
        ("set", "ada", "127.0.0.1"),
        ("create", "admin", "127.0.0.1"),
    ]
    assert (rows[0]["old_value"], rows[0]["new_value"]) == (
        {"role": "editor", "enabled": True},
        {"role": "approver", "enabled": False},
    )


async def test_an_admin_overrides_the_cage_with_a_reason_and_it_is_written_down(admin: AdminApi) -> None:
    path = "/admin/config/tranche/SURE_EQT_apy_max"
    old = await admin.value(path)
    assert isinstance(old, float)
    body = {"value": old * 3, "emergency": True, "reason": "the market has broken"}
    assert (await admin.ask("PUT", path, body, role="approver")).status_code == 403
    assert (await admin.ask("PUT", path, body | {"reason": "now"})).json()["code"] == "reason_needed"
    answer = await admin.ask("PUT", path, body)
    assert (answer.status_code, answer.json()["emergency"]) == (200, True)
    [row] = (await admin.ask("GET", "/admin/config/audit?limit=1")).json()
    assert (row["emergency"], row["change_reason"]) == (True, "the market has broken")


async def test_what_others_changed_since_is_409(admin: AdminApi) -> None:
    seen = (await admin.ask("PUT", PARAMETER, {"value": 0.05})).json()["version"]
    assert (await admin.ask("PUT", PARAMETER, {"value": 0.06, "expected_version": seen})).status_code == 200
    late = await admin.ask("PUT", PARAMETER, {"value": 0.03, "expected_version": seen})
    assert (late.status_code, late.json()["code"]) == (409, "config_conflict")
    other = "/admin/config/pricing/base_rate_DAI"
    assert (await admin.ask("PUT", other, {"value": 0.06, "expected_version": seen})).status_code == 200
    assert await admin.value() == 0.06


async def test_of_two_editors_at_once_exactly_one_gets_409(admin: AdminApi) -> None:
    for _ in range(5):
        seen = (await admin.ask("PUT", PARAMETER, {"value": 0.04})).json()["version"]
        answers = await asyncio.gather(
            *(
                admin.ask("PUT", PARAMETER, {"value": value, "expected_version": seen}, sub=sub)
                for sub, value in (("ada", 0.05), ("bob", 0.06))
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        [won] = [answer.json() for answer in answers if answer.status_code == 200]
        assert await admin.value() == won["new_value"]


async def test_a_version_that_does_not_exist_is_not_expected_in_vain(admin: AdminApi) -> None:
    answer = await admin.ask("PUT", PARAMETER, {"value": 0.05, "expected_version": 1_000_000})
    assert answer.status_code == 409


async def test_versions_diff_rollback_and_the_past(admin: AdminApi) -> None:
    first = (await admin.ask("PUT", PARAMETER, {"value": 0.05} | REASON)).json()
    second = (await admin.ask("PUT", PARAMETER, {"value": 0.06} | REASON)).json()
    one, two = first["version"], second["version"]
    versions = (await admin.ask("GET", "/admin/config/versions?limit=2")).json()
    assert [row["version"] for row in versions] == [two, one]
    older = (await admin.ask("GET", f"/admin/config/versions?limit=1&before={two}")).json()
    assert [row["version"] for row in older] == [one]
    whole = (await admin.ask("GET", f"/admin/config/versions/{one}")).json()
    assert whole["values"]["pricing"]["base_rate_USDC"] == 0.05
    diff = (await admin.ask("GET", f"/admin/config/diff?from={one}&to={two}")).json()
    assert [(c["key"], c["old_value"], c["new_value"]) for c in diff["changes"]] == [("base_rate_USDC", 0.05, 0.06)]
    past = (await admin.ask("GET", f"{PARAMETER}?as_of={versions[1]['created_at']}")).json()
    back = await admin.ask("POST", "/admin/config/rollback", {"version": one} | REASON)
    assert (back.status_code, back.json()["changes"][0]["new_value"]) == (200, 0.05)
    assert back.json()["version"] == two + 1
    assert await admin.value() == 0.05
    assert past["value_data"] == 0.05
    for path in ("/admin/config/versions/999", "/admin/config/diff?from=1&to=999"):
        assert (await admin.ask("GET", path)).status_code == 404
    assert (await admin.ask("POST", "/admin/config/rollback", {"version": 999})).status_code == 404


async def test_as_of_shows_what_held_then(admin: AdminApi) -> None:
    await admin.ask("PUT", PARAMETER, {"value": 0.05})
    await admin.ask("PUT", PARAMETER, {"value": 0.06})
    rows = (await admin.ask("GET", "/admin/config/versions?limit=1")).json()
    later = await admin.ask("GET", "/admin/config/pricing?as_of=2999-01-01T00:00:00")
    values = {row["key"]: row["value_data"] for row in later.json()}
    assert rows
    assert values["base_rate_USDC"] == 0.06
    assert (await admin.ask("GET", "/admin/config?as_of=yesterday")).status_code == 400
    assert (await admin.ask("GET", f"{PARAMETER}?as_of=1999-01-01")).status_code == 404


async def test_the_effect_of_a_dry_run_is_the_effect_of_the_change(admin: AdminApi) -> None:
    path = "/admin/config/tranche/SURE_MEZZ_apy_max"
    old = await admin.value(path)
    assert isinstance(old, float)
    trial = (await admin.ask("PUT", path, {"value": old * 1.5, "dry_run": True})).json()
    expected = {row["tranche_id"]: row for row in trial["effects"]["apy"]["tranches"]}
    rooms = {row["tranche_id"]: row for row in trial["effects"]["capacity"]["tranches"]}
    assert [name for name, row in expected.items() if row["changed"]] == ["SURE-MEZZ"]
    for name, row in expected.items():
        assert (await admin.api.get(f"/api/v1/tranche/{name}/apy")).json()["apy"] == row["before"]
    version = (await admin.ask("PUT", path, {"value": old * 1.5})).json()["version"]
    await admin.until_served(version)
    for name, row in expected.items():
        measured = (await admin.api.get(f"/api/v1/tranche/{name}/apy")).json()
        room = (await admin.api.get(f"/api/v1/tranche/{name}/capacity")).json()
        assert (measured["apy"], measured["params_version"]) == (row["after"], version)
        curve = {point["utilization"]: point["after"] for point in row["curve"]}
        shown = {u: apy for u, apy in measured["curve_points"] if u in curve}
        assert len(shown) == len(curve)
        assert all(abs(curve[u] - apy) < 1e-4 for u, apy in shown.items())
        assert room["available_nanoton"] == rooms[name]["after_nanoton"]
        assert room["binding_limit"] == rooms[name]["binding_limit_after"]


async def test_a_dry_run_names_the_alerts_it_would_open_and_close(admin: AdminApi) -> None:
    path = "/admin/config/risk/high_utilization"
    await admin.ask("PUT", "/admin/config/risk/webhook_utilization", {"value": 0.3})
    opened = (await admin.ask("PUT", path, {"value": 0.4, "dry_run": True})).json()["effects"]["alerts"]
    assert len(opened["would_open"]) == 6
    assert opened["would_open"][0] == {"tranche_id": "SURE-BTC", "alert": "High_Utilization", "severity": "High"}
    assert (await admin.ask("PUT", path, {"value": 0.4})).status_code == 200
    closed = (await admin.ask("PUT", path, {"value": 0.9, "dry_run": True})).json()["effects"]["alerts"]
    assert (closed["would_open"], len(closed["would_close"])) == ([], 6)


async def test_without_figures_the_dry_run_says_so(admin_without_figures: AdminApi) -> None:
    path = "/admin/config/tranche/SURE_MEZZ_apy_max"
    effects = (await admin_without_figures.ask("PUT", path, {"value": 20.0, "dry_run": True})).json()["effects"]
    assert effects["capacity"] == effects["alerts"] == "not_available"
    [mezz] = [row for row in effects["apy"]["tranches"] if row["changed"]]
    assert (mezz["before"], mezz["after"]) == (None, None)
    assert mezz["curve"][-1]["after"] == pytest.approx(20.0)


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b'"value"',
    b"{}",
    b'{"value": NaN}',
    b'{"value": Infinity}',
    b'{"value": -Infinity}',
    b'{"value": 1e999}',
    b'{"value": 0.05,}',
    b'{"value": 0.05} {}',
    b'{"value": .05}',
    b'{"value": 0x1}',
    b'{"value": 0.05, "reasn": "x"}',
    b'{"value": 0.05, "dry_run": "no"}',
    b'{"value": 0.05, "dry_run": 0}',
    b'{"value": 0.05, "reason": 7}',
    b'{"value": 0.05, "reason": null}',
    b'{"value": 0.05, "expected_version": "1"}',
    b'{"value": 0.05, "expected_version": -1}',
    b'{"value": 0.05, "expected_version": 1.5}',
    b'{"value": 0.05, "expected_version": true}',
    b'{"value": 0.05, "emergency": "yes"}',
    b'{"value": \xff}',
    b"\x00",
    b'{"value": "\xed\xa0\x80"}',
    b'{"value": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b"[" * 30_000,
    b'{"value": ' + b"9" * 20_000 + b"}",
    b'{"value": 0.05, "reason": "' + b"r" * 1_001 + b'"}',
    *(
        f'{{"value": {value}}}'.encode()
        for value in (
            *(
                "null",
                "true",
                "false",
                '""',
                '"0.05"',
                '"\u0660.\u0660\u0665"',
                "[]",
                "[0.05]",
                "{}",
                '{"value": 0.05}',
            ),
            *("-1", "-0.01", "-1e-9", "1e300", "-1e300", "1.01", "5", "1e18", "123456789012345678901234567890"),
            *(f"{number}" for number in range(2, 140)),
            *(f'"{chr(65 + number % 26)}{number}"' for number in range(20)),
        )
    ),
]


async def test_200_bad_bodies_change_nothing(admin: AdminApi) -> None:
    assert len(BAD_BODIES) >= 200
    version, audit = await admin.version(), (await admin.ask("GET", "/admin/config/audit?limit=1")).json()
    headers = {"Authorization": f"Bearer {admin.token()}", "Content-Type": "application/json"}
    for number, body in enumerate(BAD_BODIES):
        if number % 40 == 0:
            admin.clock.ahead += 61
        answer = await admin.api.http.put(PARAMETER, content=body, headers=headers)
        assert answer.status_code == 400, (body[:60], answer.text)
        found = answer.json()
        assert found["error"], body[:60]
        assert found["status"] == 400
    admin.clock.ahead += 61
    assert await admin.version() == version
    assert (await admin.ask("GET", "/admin/config/audit?limit=1")).json() == audit
    assert await admin.value() == 0.04


async def test_a_body_too_large_is_413(admin: AdminApi) -> None:
    answer = await admin.ask("PUT", PARAMETER, {"value": 0.05, "reason": "r" * 100_000})
    assert answer.status_code == 413
    assert await admin.value() == 0.04


async def test_a_database_that_is_away_is_503_and_lets_nobody_in(admin_without_database: AdminApi) -> None:
    for method, path, body in (("GET", "/admin/config", None), ("PUT", PARAMETER, {"value": 0.05})):
        answer = await admin_without_database.ask(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "127.0.0.1" not in answer.text


async def test_the_figures_of_the_cache_are_told_while_the_database_is_away(admin_without_database: AdminApi) -> None:
    path = "/admin/config/stats"
    answer = await admin_without_database.ask("GET", path, role="viewer")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["source"], found["total_entries"] > 100, bool(found["degraded"])) == ("defaults", True, True)
    bad = {"Authorization": "Bearer x.y.z"}
    assert (await admin_without_database.api.http.get(path, headers=bad)).status_code == 401


async def test_every_admin_route_is_described_with_the_token_it_needs(admin: AdminApi) -> None:
    schema = (await admin.api.get("/schema/openapi.json")).json()
    routes = {path: item for path, item in schema["paths"].items() if path.startswith("/admin")}
    assert len(routes) >= 17
    for item in routes.values():
        for operation in item.values():
            assert operation["security"] == [{"bearer": []}]
            assert {"401", "403", "429"} <= operation["responses"].keys()
    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    examples = json.dumps(schema["components"]["schemas"]["UpdateBody"])
    assert "Adjusting for market conditions" in examples
