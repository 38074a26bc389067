"""Alerts over REST and WebSocket: what is open, what happened, who has seen it, and when nobody is watching."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.admin_running import AdminApi
from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api
from services.alert_story import AlertStory, alert_story
from tonsurance.services.alert_feed import AlertFeed
from tonsurance.services.alert_records import AlertRecords
from tonsurance.services.hub import Hub
from tonsurance.services.lazy_pool import LazyPool

ALERTS = "/api/v2/risk/alerts"


@pytest.fixture
async def story(database: str) -> AsyncIterator[AlertStory]:
    """A tranche with 1,000 TON and no cover."""
    async with alert_story(database) as story:
        yield story


@pytest.fixture
async def api(ledger: FakeLedger, story: AlertStory) -> AsyncIterator[RunningApi]:
    """An API that reads the story's alerts; its figures are the fake ledger's."""
    records = AlertRecords(LazyPool(story.dsn))
    async with running_api(ledger, alerts=records) as running:
        yield running
    await records.close()


async def covers(story: AlertStory, *amounts: float) -> None:
    """Evaluate each of these covers."""
    for amount in amounts:
        await story.cover(amount)
        await story.evaluate()


async def test_an_alert_has_the_documented_fields(story: AlertStory, api: RunningApi) -> None:
    await covers(story, 905)
    body = (await api.get(ALERTS)).json()
    assert (body["total_alerts"], body["critical_count"], body["next_before"]) == (2, 0, None)
    [alert] = [alert for alert in body["alerts"] if alert["alert_type"] == "High_Utilization"]
    assert alert["severity"] == "High"
    assert alert["message"] == "HIGH UTILIZATION: SURE-MEZZ at 90.50% (threshold: 90.00%)"
    assert (alert["current_value"], alert["limit_value"], alert["unit"]) == (0.905, 0.9, "ratio")
    assert (alert["vault_id"], alert["tranche_id"], alert["status"]) == ("main", "SURE-MEZZ", "open")
    assert alert["timestamp"] == alert["opened_at"] == alert["updated_at"]
    assert (alert["resolved_at"], alert["acknowledged_by"], alert["params_version"]) == (None, None, 1)


async def test_figure_and_message_are_those_of_the_last_evaluation(story: AlertStory, api: RunningApi) -> None:
    await covers(story, 905, 907)
    [alert] = (await api.get(f"{ALERTS}?alert_type=High_Utilization")).json()["alerts"]
    assert (alert["current_value"], alert["sequence"]) == (0.907, 1)
    assert alert["message"] == "HIGH UTILIZATION: SURE-MEZZ at 90.70% (threshold: 90.00%)"


async def test_before_the_first_alert_the_list_is_empty(api: RunningApi) -> None:
    body = (await api.get(ALERTS)).json()
    assert (body["alerts"], body["total_alerts"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("", ["High_Utilization", "Undercollateralized"]),
        ("severity=critical", ["Undercollateralized", "High_Utilization"]),
        ("severity=MEDIUM", []),
        ("alert_type=high_utilization", ["High_Utilization"]),
        ("status=resolved", ["Utilization_Webhook"]),
        ("status=all&severity=medium", ["Utilization_Webhook"]),
        ("status=all&alert_type=Insolvent", []),
    ],
)
async def test_filters(story: AlertStory, api: RunningApi, query: str, kinds: list[str]) -> None:
    await covers(story, 960)
    await story.conn.execute("UPDATE risk_alerts SET resolved_at = now() WHERE kind = 'Utilization_Webhook'")
    found = (await api.get(f"{ALERTS}?{query}")).json()
    assert {alert["alert_type"] for alert in found["alerts"]} == set(kinds)
    assert found["total_alerts"] == len(found["alerts"])


@pytest.mark.parametrize(
    "query",
    ["severity=terrible", "alert_type=no_such", "status=closed", "limit=0", "limit=201", "before=0", "before=x",
     f"before={2**63}"],
)  # fmt: skip
async def test_bad_filters_are_refused_and_say_what_is_valid(api: RunningApi, query: str) -> None:
    answer = await api.get(f"{ALERTS}?{query}")
    assert answer.status_code == 400
    if query.startswith(("severity", "alert_type")):
        assert "Critical" in answer.json()["detail"] or "High_Utilization" in answer.json()["detail"]


async def test_pages_follow_one_another_without_gap_or_double(story: AlertStory, api: RunningApi) -> None:
    await covers(story, *[960, 500, 501] * 4)
    whole = (await api.get(f"{ALERTS}?status=all&limit=200")).json()
    ids = [alert["alert_id"] for alert in whole["alerts"]]
    assert len(ids) == 12
    assert ids == sorted(ids, key=int, reverse=True)
    paged: list[str] = []
    before: str | None = None
    while before is not None or not paged:
        page = (await api.get(f"{ALERTS}?status=all&limit=5" + (f"&before={before}" if before else ""))).json()
        paged += [alert["alert_id"] for alert in page["alerts"]]
        assert page["total_alerts"] == 12
        before = page["next_before"]
    assert paged == ids


async def test_an_infinite_figure_is_null(story: AlertStory, api: RunningApi) -> None:
    await covers(story, 900)
    await story.conn.execute(
        "UPDATE tranche_utilization SET total_capital_nanoton = 0, insolvent = true, utilization_raw = NULL, "
        "current_apy = NULL"
    )
    await story.evaluate(recount_after_s=0.0)
    found = (await api.get(f"{ALERTS}?severity=critical")).json()["alerts"]
    by_kind = {alert["alert_type"]: alert["current_value"] for alert in found}
    assert by_kind == {"Insolvent": 900.0, "Undercollateralized": 0.0, "High_Utilization": None}


async def test_the_socket_tells_of_a_life_and_starts_newcomers_with_what_is_open(
    story: AlertStory, api: RunningApi
) -> None:
    feed = _feed(api)
    async with api.socket() as early:
        assert "risk_alerts" in early.welcome["available_channels"]
        await early.say(action="subscribe", channel="risk_alerts")
        start = await early.hear_type("state")
        assert (start["alerts"], start["total_alerts"], start["stale"]) == ([], 0, False)
        await covers(story, 905)
        feed.wake.set()
        opened = await early.hear_type("new_alert")
        assert (opened["channel"], opened["alert_type"], opened["severity"]) == (
            "risk_alerts", "High_Utilization", "High")  # fmt: skip
        assert opened["message"] == "HIGH UTILIZATION: SURE-MEZZ at 90.50% (threshold: 90.00%)"
        assert (opened["current_value"], opened["limit_value"]) == (0.905, 0.9)
        await covers(story, 951)
        feed.wake.set()
        assert (await early.hear_type("alert_updated"))["severity"] == "Critical"
        async with api.socket() as late:
            await late.say(action="subscribe", channel="risk_alerts")
            state = await late.hear_type("state")
            assert {alert["alert_type"] for alert in state["alerts"]} == {
                "High_Utilization", "Undercollateralized", "Utilization_Webhook"}  # fmt: skip
            assert (state["total_alerts"], state["critical_count"]) == (3, 2)
        await covers(story, 500, 501)
        feed.wake.set()
        resolved = await early.hear_type("alert_resolved")
        assert resolved["alert_id"]


async def test_a_client_that_comes_back_hears_what_it_missed(story: AlertStory, api: RunningApi) -> None:
    async with api.socket() as talk:
        await talk.say(action="subscribe", channel="risk_alerts")
        seen = await talk.hear_type("state")
    await covers(story, 905)
    await _feed(api).refresh()
    async with api.socket() as talk:
        since = {"epoch": seen["epoch"], "offset": seen["offset"]}
        assert (await talk.ask(action="subscribe", channel="risk_alerts", since=since))["recovered"] is True
        assert (await talk.hear())["type"] == "new_alert"


async def test_a_restarted_api_announces_nothing_anew(story: AlertStory, ledger: FakeLedger) -> None:
    await covers(story, 905)
    heard: list[object] = []
    records = AlertRecords(LazyPool(story.dsn))
    hub = Hub()
    feed = AlertFeed(
        records, hub, transition=lambda told: heard.append(told) or {}, state=lambda _: heard.append("state") or {}
    )
    for _ in range(3):
        await feed.refresh()
    assert heard == ["state"]
    await records.close()


async def test_too_much_news_is_told_as_the_state(story: AlertStory, api: RunningApi) -> None:
    await covers(story, 905)
    await _feed(api).refresh()
    async with api.socket() as talk:
        await talk.say(action="subscribe", channel="risk_alerts")
        await talk.hear_type("state")
        await story.conn.execute("""
            INSERT INTO risk_alert_transitions (alert_id, sequence, change, severity, message, value, threshold,
                ledger_version, params_version)
            SELECT 1, n, 'updated', 'High', 'again', 1, 1, 1, 1 FROM generate_series(100, 400) AS n""")
        _feed(api).wake.set()
        assert (await talk.hear())["type"] == "state"


async def test_health_counts_them_and_says_when_nobody_is_watching(story: AlertStory, api: RunningApi) -> None:
    health = (await api.get("/health")).json()
    assert (health["status"], health["reasons"]) == ("degraded", ["Nothing has been evaluated for alerts yet."])
    assert (await api.get("/health/ready")).status_code == 200, "figures are served all the same"
    await covers(story, 951)
    await _feed(api).refresh()
    health = (await api.get("/health")).json()
    assert (health["status"], health["alerts"]) == ("healthy", {"open": 3, "critical": 2})
    await story.conn.execute("UPDATE alert_evaluations SET evaluated_at = now() - interval '10 minutes'")
    await _feed(api).refresh()
    assert "were last evaluated" in (await api.get("/health")).json()["reasons"][0]


async def test_metrics_count_open_ones_and_forget_those_that_are_over(story: AlertStory, api: RunningApi) -> None:
    line = 'tonsurance_alerts_open{kind="High_Utilization",severity="High"}'
    await covers(story, 905)
    await _feed(api).refresh()
    assert f"{line} 1.0" in (await api.get("/metrics")).text
    await covers(story, 500, 501)
    await _feed(api).refresh()
    text = (await api.get("/metrics")).text
    assert line not in text
    assert 'tonsurance_alert_transitions_total{change="resolved",kind="High_Utilization"}' in text
    assert 'tonsurance_webhook_outbox{status="pending"} 0.0' in text


async def test_while_the_database_is_away_alerts_are_not_shown_as_none(ledger: FakeLedger) -> None:
    records = AlertRecords(LazyPool("postgresql://nobody@127.0.0.1:1/nothing"))
    async with running_api(ledger, alerts=records) as api:
        answer = await api.get(ALERTS)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        health = (await api.get("/health")).json()
        assert (health["alerts"], health["status"]) == (None, "degraded")
    await records.close()


async def test_an_outage_is_told_once_and_keeps_what_was_known(story: AlertStory, api: RunningApi) -> None:
    await covers(story, 905)
    await _feed(api).refresh()
    async with api.socket() as talk:
        await talk.say(action="subscribe", channel="risk_alerts")
        await talk.hear_type("state")
        await story.conn.execute("ALTER TABLE risk_alerts RENAME TO away")
        _feed(api).wake.set()
        state = await talk.hear()
        assert (state["type"], state["stale"], state["total_alerts"]) == ("state", True, 2)
        await story.conn.execute("ALTER TABLE away RENAME TO risk_alerts")
        _feed(api).wake.set()
        assert (await talk.hear())["stale"] is False


async def test_without_alerts_the_route_says_so(ledger: FakeLedger) -> None:
    async with running_api(ledger) as api:
        assert (await api.get(ALERTS)).status_code == 503
        assert (await api.get("/health")).json()["alerts"] is None


async def test_who_may_acknowledge(database: str, admin: AdminApi) -> None:
    async with alert_story(database) as story:
        await covers(story, 905)
        alert_id = (await admin.api.get(ALERTS)).json()["alerts"][0]["alert_id"]
        path = f"{ALERTS}/{alert_id}/acknowledge"
        assert (await admin.api.http.post(path)).status_code == 401
        assert (await admin.ask("POST", path, role="viewer")).status_code == 403
        done = await admin.ask("POST", path, role="editor", sub="ann")
        assert (done.status_code, done.json()["acknowledged_by"], done.json()["status"]) == (200, "ann", "open")
        again = await admin.ask("POST", path, role="admin", sub="bob")
        assert (again.status_code, again.json()["acknowledged_by"]) == (200, "ann")
        unknown = await admin.ask("POST", f"{ALERTS}/999999/acknowledge", role="editor")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_alert")


async def test_without_a_secret_nobody_can_acknowledge(api: RunningApi) -> None:
    assert (await api.http.post(f"{ALERTS}/1/acknowledge")).status_code in (404, 405)


def _feed(api: RunningApi) -> AlertFeed:
    feed = api.parts.alerts
    assert feed is not None
    return feed
