"""REST answers: the documented fields, exact amounts, typed refusals, and never a made-up figure."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import msgspec
import pytest

from api.ledger_fake import FACTORY, VAULT, FakeLedger, totals
from api.running import RunningApi, running_api
from tonsurance.api.settings import ApiSettings
from tonsurance.core.catalog import TRANCHE_IDS, TRANCHES
from tonsurance.core.errors import DatabaseUnavailable, LedgerRefused
from tonsurance.core.tranches import apy_percent

TRANCHE_PATHS = ("/api/v1/utilization/{}", "/api/v1/tranche/{}/apy", "/api/v1/tranche/{}/capacity")
FIGURE_PATHS = (
    "/api/v1/utilization/SURE-SNR",
    "/api/v1/utilization/dashboard",
    "/api/v1/dashboard/vaults",
    "/api/v1/tranche/SURE-SNR/apy",
    "/api/v1/tranche/SURE-SNR/capacity",
    "/api/v2/tranches/apy",
)
DASHBOARDS = ("/api/v1/utilization/dashboard", "/api/v1/dashboard/vaults", "/api/v2/tranches/apy")
LISTS = ("/api/v2/events", "/api/v2/ledger/entries", "/api/v2/policies/counts")
ELSEWHERE = {
    "/api/v1/capacity/policy",
    "/api/v1/utilization/{tranche_id}/forecast",
    "/api/v1/utilization/{tranche_id}/history",
    "/api/v1/vaults",
    "/api/v2/prices",
    "/api/v2/products",
    "/api/v2/risk/alerts",
    "/api/v2/risk/exposure",
    "/api/v2/wallet",
}
"""Routes with tests of their own."""
ALL_PATHS = (*FIGURE_PATHS, *LISTS, "/health", "/health/live", "/health/ready", "/metrics")


def refuse_constant(name: str) -> None:
    """JSON knows no NaN and no Infinity."""
    raise AssertionError(f"{name} in JSON")


def strict_json(answer: httpx.Response) -> dict:
    """The body as JSON that any reader takes."""
    return json.loads(answer.text, parse_constant=refuse_constant)


def check_problem(answer: httpx.Response, status: int, code: str) -> dict:
    """The answer is a problem of this status and code, in the shape of all of them; returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = strict_json(answer)
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:tonsurance:problem:{code}"
    assert problem["title"]
    assert problem["detail"] == problem["error"]
    return problem


async def test_one_tranche_has_the_documented_fields(api: RunningApi) -> None:
    body = strict_json(await api.get("/api/v1/utilization/SURE-SNR"))
    assert body["tranche_id"] == "SURE-SNR"
    assert body["current_apy"] == pytest.approx(8.547368753)  # 6.5 + 3.5 * ln(1.5) / ln(2)
    assert body["utilization"] == 0.5
    assert body["total_capital_ton"] == 1000.0
    assert body["coverage_sold_ton"] == 500.0
    assert body["total_capital_nanoton"] == "1000000000000"
    assert body["coverage_sold_nanoton"] == "500000000000"
    assert body["available_capacity_nanoton"] == "450000000000"
    assert body["unearned_premiums_nanoton"] == "500000000"


async def test_every_figure_says_where_it_is_from(api: RunningApi) -> None:
    for path in FIGURE_PATHS:
        body = strict_json(await api.get(path))
        assert body["params_version"] == 1
        assert body["ledger_version"] == "1"
        assert body["stale"] is False
        assert body["age_s"] >= 0
        assert body["as_of"] == {"seqno": None, "lt": "47000000000000", "time": "2026-09-21T14:13:20.000Z"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])


async def test_dashboards_list_six_tranches_senior_to_junior_under_both_names(api: RunningApi) -> None:
    for path in DASHBOARDS:
        rows = strict_json(await api.get(path))["tranches"]
        assert [row["tranche_id"] for row in rows] == list(TRANCHE_IDS)
        for row, tranche in zip(rows, TRANCHES, strict=True):
            assert row["tranche"] == row["tranche_id"]
            assert row["apy"] == row["current_apy"] == pytest.approx(apy_percent(tranche, 0.5))
            assert row["apy_range"] == {"min": tranche.apy_min_pct, "max": tranche.apy_max_pct}
            assert row["tvl_ton"] == row["total_capital_ton"] == 1000.0
            assert row["coverage_sold_ton"] == 500.0
            assert row["available_capacity_ton"] == 450.0
            assert row["last_updated"] == "2026-09-21T14:13:20.000Z"


@pytest.mark.parametrize("name", ["SURE-JNR+", "SURE-JNR%2B", "SURE_JNR_PLUS"])
async def test_the_plus_is_read_in_every_form(api: RunningApi, name: str) -> None:
    for path in TRANCHE_PATHS:
        answer = await api.get(path.format(name))
        assert answer.status_code == 200
        assert strict_json(answer)["tranche_id"] == "SURE-JNR+"


@pytest.mark.parametrize(
    "name", ["SURE-XXX", "sure-btc", "SURE-JNR%20", "0", "dashboards", "%00", "x" * 500, "%F0%9F%92%A9"]
)
async def test_an_unknown_tranche_is_refused_with_the_valid_ids(api: RunningApi, name: str) -> None:
    for path in TRANCHE_PATHS:
        problem = check_problem(await api.get(path.format(name)), 400, "unknown_tranche")
        assert problem["valid_ids"] == list(TRANCHE_IDS)


async def test_the_curve_at_a_point_is_marked_as_such(api: RunningApi) -> None:
    body = strict_json(await api.get("/api/v1/tranche/SURE-JNR+/apy?utilization=0.37"))
    assert body["basis"] == "curve"
    assert body["apy"] == pytest.approx(16.8214)  # 16 + 6 * 0.37 ** 2
    assert body["utilization"] == 0.37
    assert body["current_apy"] == pytest.approx(17.5)
    assert body["insolvent"] is None
    assert body["as_of"] is None


async def test_the_apy_now_is_marked_as_the_target(api: RunningApi) -> None:
    body = strict_json(await api.get("/api/v1/tranche/SURE-JNR+/apy"))
    assert (body["basis"], body["kind"]) == ("current", "target")
    assert body["apy"] == body["current_apy"] == pytest.approx(17.5)
    assert body["curve_points"][0] == [0.0, 16.0]
    assert body["curve_points"][-1] == [1.0, 22.0]


@pytest.mark.parametrize(
    "value", ["1.01", "-0.01", "nan", "inf", "-inf", "1e999", "abc", "", "true", "0,5", "0x1", "%00"]
)
async def test_a_bad_utilization_is_refused_and_named(api: RunningApi, value: str) -> None:
    answer = await api.get(f"/api/v1/tranche/SURE-SNR/apy?utilization={value}")
    problem = check_problem(answer, 400, "bad_input")
    assert problem["errors"][0]["field"] == "utilization"


@pytest.mark.parametrize("value", ["0", "1", "0.0", "1.0"])
async def test_both_ends_of_the_curve_are_valid(api: RunningApi, value: str) -> None:
    body = strict_json(await api.get(f"/api/v1/tranche/SURE-SNR/apy?utilization={value}"))
    assert body["apy"] == (6.5 if float(value) == 0 else 10.0)


async def test_capacity_lists_every_limit_and_names_the_binding_one(api: RunningApi) -> None:
    body = strict_json(await api.get("/api/v1/tranche/SURE-EQT/capacity"))
    assert body["available_ton"] == 450.0
    assert body["available_nanoton"] == "450000000000"
    assert body["binding_limit"] == "max_utilization"
    assert body["limits"] == [
        {
            "name": "max_utilization",
            "tranche_id": "SURE-EQT",
            "limit": 0.95,
            "headroom_ton": 450.0,
            "headroom_nanoton": "450000000000",
            "binding": True,
        }
    ]


async def test_cover_above_capital_is_capped_and_shown_raw(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.tranches["SURE-EQT"] = totals("SURE-EQT", 400, 500)
    await api.parts.reads.refresh()
    body = strict_json(await api.get("/api/v1/utilization/SURE-EQT"))
    assert (body["utilization"], body["utilization_raw"], body["insolvent"]) == (1.0, 1.25, False)
    assert body["current_apy"] == 25.0
    assert body["available_capacity_nanoton"] == "0"


async def test_an_insolvent_tranche_has_no_apy_and_no_ratio(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.tranches["SURE-EQT"] = totals("SURE-EQT", 0, 500)
    await api.parts.reads.refresh()
    body = strict_json(await api.get("/api/v1/utilization/SURE-EQT"))
    assert (body["utilization"], body["utilization_raw"], body["insolvent"]) == (1.0, None, True)
    assert body["current_apy"] is None
    row = strict_json(await api.get("/api/v2/tranches/apy"))["tranches"][5]
    assert (row["apy"], row["insolvent"]) == (None, True)
    assert strict_json(await api.get("/api/v1/tranche/SURE-EQT/capacity"))["available_nanoton"] == "0"


async def test_amounts_beyond_a_doubles_precision_stay_exact(ledger: FakeLedger, api: RunningApi) -> None:
    exact = 9_007_199_254_740_993  # 2^53 + 1
    ledger.tranches["SURE-BTC"] = msgspec.structs.replace(ledger.tranches["SURE-BTC"], capital_nano=exact)
    await api.parts.reads.refresh()
    assert strict_json(await api.get("/api/v1/utilization/SURE-BTC"))["total_capital_nanoton"] == str(exact)


@pytest.mark.parametrize("path", DASHBOARDS)
async def test_a_dashboard_is_not_sent_again_until_something_changes(
    ledger: FakeLedger, api: RunningApi, path: str
) -> None:
    etag = (await api.get(path)).headers["etag"]
    for known in (etag, f'"other", {etag}', "*"):
        again = await api.get(path, if_none_match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    ledger.commit("SURE-SNR", 1000, 600)
    await api.parts.reads.refresh()
    changed = await api.get(path, if_none_match=etag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_reads_do_not_touch_the_ledger(ledger: FakeLedger) -> None:
    async with running_api(ledger, ApiSettings(port=0, poll_interval_s=3600)) as api:
        await api.get("/health")  # the first poll of the loop is over
        before = ledger.reads
        for path in FIGURE_PATHS:
            assert (await api.get(path)).status_code == 200
        assert ledger.reads == before


async def wait_for_row(api: RunningApi, **expected: object) -> None:
    """Return when SURE-SNR is shown with these values; fails after 10 s."""
    async with asyncio.timeout(60):
        while True:
            body = strict_json(await api.get("/api/v1/utilization/SURE-SNR"))
            if expected.items() <= body.items():
                return


async def test_an_outage_leaves_the_last_figures_and_says_stale(ledger: FakeLedger) -> None:
    settings = ApiSettings(port=0, poll_interval_s=0.01, stale_after_s=0.5)
    async with running_api(ledger, settings) as api:
        while (fresh := await api.get("/api/v1/utilization/dashboard")).json()["stale"]:
            pass
        fresh_tag = fresh.headers["etag"]
        ledger.failure = DatabaseUnavailable("secret-host refused")
        await wait_for_row(api, stale=True)
        for path in FIGURE_PATHS:
            body = strict_json(await api.get(path))
            assert body["stale"] is True
            assert body["age_s"] > settings.stale_after_s
        row = strict_json(await api.get("/api/v1/utilization/SURE-SNR"))
        assert (row["total_capital_nanoton"], row["utilization"]) == ("1000000000000", 0.5)
        assert (await api.get("/api/v1/utilization/dashboard", if_none_match=fresh_tag)).status_code == 200
        health = await api.get("/health")
        assert strict_json(health)["status"] == "degraded"
        assert "secret-host" not in health.text
        problem = await api.get("/api/v2/events")
        check_problem(problem, 503, "database_unavailable")
        assert "secret-host" not in problem.text
        ledger.failure = None
        ledger.commit("SURE-SNR", 2000, 500)
        await wait_for_row(api, utilization=0.25, stale=False)


async def test_before_any_data_there_is_a_503_and_no_figure() -> None:
    ledger = FakeLedger()
    ledger.failure = DatabaseUnavailable()
    async with running_api(ledger) as api:
        for path in FIGURE_PATHS:
            answer = await api.get(path)
            check_problem(answer, 503, "not_ready")
            assert answer.headers["retry-after"] == "1"


async def test_an_empty_ledger_is_not_six_zeros() -> None:
    async with running_api(FakeLedger(tranches=())) as api:
        for path in FIGURE_PATHS:
            check_problem(await api.get(path), 503, "not_ready")


async def test_a_tranche_without_an_event_is_not_ready_while_others_are() -> None:
    async with running_api(FakeLedger(tranches=("SURE-BTC", "SURE-SNR"))) as api:
        check_problem(await api.get("/api/v1/utilization/SURE-EQT"), 503, "not_ready")
        rows = strict_json(await api.get("/api/v1/utilization/dashboard"))["tranches"]
        assert [row["tranche_id"] for row in rows] == ["SURE-BTC", "SURE-SNR"]


async def test_events_are_paged_oldest_first_by_cursor(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.commit("SURE-MEZZ", 1000, 500, events=5)
    seen: list[str] = []
    after = ""
    while True:
        page = strict_json(await api.get(f"/api/v2/events?limit=2{after}"))
        seen += [event["event_id"] for event in page["events"]]
        if page["next_after"] is None:
            break
        after = f"&after={page['next_after']}"
    assert seen == ["1", "2", "3", "4", "5"]


async def test_events_newest_first_use_the_same_cursor(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.commit("SURE-MEZZ", 1000, 500, events=3)
    first = strict_json(await api.get("/api/v2/events?order=desc&limit=2"))
    second = strict_json(await api.get(f"/api/v2/events?order=desc&limit=2&after={first['next_after']}"))
    assert [event["event_id"] for event in first["events"] + second["events"]] == ["3", "2", "1"]


async def test_an_event_shows_large_numbers_as_strings_and_names_its_tranche(
    ledger: FakeLedger, api: RunningApi
) -> None:
    ledger.commit("SURE-MEZZ", 1000, 500)
    event = strict_json(await api.get("/api/v2/events"))["events"][0]
    assert event["transaction_hash"] == f"{1:064x}"
    assert event["lt"] == "47000000000001"
    assert event["message_index"] == 0
    assert event["event_type"] == "DepositMade"
    assert event["fields"] == {
        "tranche_id": 3,
        "tranche": "SURE-MEZZ",
        "depositor": "0:" + "c3" * 32,
        "amount": "5000000000",
        "shares": "1180591620717411303424",
        "locked_shares": "0",
    }


async def test_events_are_filtered_by_contract_and_type(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.commit("SURE-MEZZ", 1000, 500)
    assert len(strict_json(await api.get(f"/api/v2/events?contract={VAULT.upper()}"))["events"]) == 1
    assert strict_json(await api.get(f"/api/v2/events?contract={FACTORY}"))["events"] == []
    assert len(strict_json(await api.get("/api/v2/events?type=DepositMade"))["events"]) == 1
    assert strict_json(await api.get("/api/v2/events?type=PolicyCreated"))["events"] == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("type=Deposit", "bad_input"),
        ("contract=0:12", "invalid_address"),
        ("contract=%27%20OR%201=1--", "invalid_address"),
        ("after=-1", "bad_input"),
        ("after=9223372036854775808", "bad_input"),
        ("after=x", "bad_input"),
        ("limit=0", "bad_input"),
        ("limit=201", "bad_input"),
        ("limit=1.5", "bad_input"),
        ("order=up", "bad_input"),
    ],
)
async def test_bad_event_queries_are_refused(api: RunningApi, query: str, code: str) -> None:
    check_problem(await api.get(f"/api/v2/events?{query}"), 400, code)


async def test_unknown_paths_and_methods_are_problems_too(api: RunningApi) -> None:
    check_problem(await api.get("/api/v1/nothing"), 404, "not_found")
    check_problem(await api.http.post("/health"), 405, "method_not_allowed")
    check_problem(await api.get("/ws"), 426, "upgrade_required")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(api: RunningApi) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")  # and no body follows
    status = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 413")


async def test_a_crash_says_nothing_about_the_inside(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.failure = LedgerRefused("relation secret_table does not exist")
    answer = await api.get("/api/v2/events")
    check_problem(answer, 422, "ledger_refused")
    assert "secret_table" not in answer.text


async def test_every_answer_carries_the_security_headers(api: RunningApi) -> None:
    for path in (*ALL_PATHS, "/", "/schema", "/nope"):
        headers = (await api.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-request-id"]
        assert "server" not in headers


async def test_head_is_get_without_the_body(api: RunningApi) -> None:
    for path in ("/health/live", "/api/v1/utilization/dashboard", "/"):
        answer = await api.http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


async def test_other_origins_are_let_in_only_when_listed(ledger: FakeLedger) -> None:
    settings = ApiSettings(port=0, cors_origins=("https://app.example",))
    async with running_api(ledger, settings) as api:
        allowed = await api.get("/health/live", origin="https://app.example")
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        other = await api.get("/health/live", origin="https://evil.example")
        assert "access-control-allow-origin" not in other.headers


async def test_the_openapi_document_has_every_route_with_fields_explained(api: RunningApi) -> None:
    answer = await api.get("/schema")
    document = strict_json(answer)
    assert document["openapi"].startswith("3.1")
    templates = {path.replace("SURE-SNR", "{tranche_id}") for path in ALL_PATHS}
    assert set(document["paths"]) == templates | ELSEWHERE
    operations = [path["get"] for path in document["paths"].values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)
    figures = document["components"]["schemas"]["UtilizationAnswer"]["properties"]
    assert "Target APY" in figures["current_apy"]["description"]
    assert figures["current_apy"]["examples"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text))
    assert references <= set(document["components"]["schemas"])
    unknown = document["paths"]["/api/v1/utilization/{tranche_id}"]["get"]["responses"]["400"]
    assert unknown["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


async def test_answers_have_exactly_the_fields_of_the_openapi_document(api: RunningApi) -> None:
    document = strict_json(await api.get("/schema"))
    for path in (*FIGURE_PATHS, *LISTS, "/health", "/health/live", "/health/ready"):
        operation = document["paths"][path.replace("SURE-SNR", "{tranche_id}")]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        while "oneOf" in schema:
            schema = next(option for option in schema["oneOf"] if "$ref" in option)
        name = schema["$ref"].rsplit("/", 1)[1]
        assert set(strict_json(await api.get(path))) == set(document["components"]["schemas"][name]["properties"])


async def test_metrics_count_requests_by_route_not_by_path(api: RunningApi) -> None:
    await api.get("/api/v1/utilization/SURE-SNR")
    await api.get("/api/v1/utilization/NOT-ONE")
    await api.get("/some/random/path")
    text = (await api.get("/metrics")).text
    assert 'route="/api/v1/utilization/{tranche_id}",status="200"' in text
    assert 'route="/api/v1/utilization/{tranche_id}",status="400"' in text
    assert 'route="unmatched",status="404"' in text
    assert "random" not in text
    assert "NOT-ONE" not in text
