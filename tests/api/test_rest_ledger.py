"""REST over the real ledger: the past as it was, entries with their events, filters, and losses everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api
from api.test_rest import check_problem, strict_json
from db.chain_story import (
    FACTORY,
    START_TIME,
    TON,
    batch,
    cursor_at,
    deposit,
    policy_created,
    register,
    transaction,
)
from tonsurance.api.render import render_event
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.core.events import ClaimDeferred, CoverageChanged, EpochStarted, Frozen, LossAbsorbed
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.ports import EventQuery


@pytest.fixture
async def reader(database: str) -> AsyncIterator[PostgresLedgerReader]:
    """A ledger of four versions: deposits into two tranches, cover, a policy, and a claim that ends an epoch."""
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(10, deposit(6, 100 * TON))))
    cover = CoverageChanged(41, (0, 0, 0, 0, 0, 50 * TON))
    await writer.submit(batch(transaction(20, deposit(1, 7 * TON), cover), after=cursor_at(10)))
    await writer.submit(batch(transaction(25, policy_created(41), contract=FACTORY), contract=FACTORY))
    claim = (
        LossAbsorbed(6, 100 * TON, 41),
        EpochStarted(6, 1, 100 * TON),
        CoverageChanged(41, (0, 0, 0, 0, 0, -50 * TON)),
    )
    await writer.submit(batch(transaction(30, *claim), after=cursor_at(20)))
    await writer.close()
    reader = PostgresLedgerReader(database)
    yield reader
    await reader.close()


@pytest.fixture
async def http(reader: PostgresLedgerReader) -> AsyncIterator[httpx.AsyncClient]:
    async with running_api(reader) as api:
        yield api.http


def time_of(lt: int) -> str:
    """The block time of a transaction of this story."""
    return datetime.fromtimestamp(START_TIME + lt, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("moment", ["lt:29", "version:2", "version:3", time_of(20), time_of(29)])
async def test_a_tranche_is_shown_as_it_was(http: httpx.AsyncClient, moment: str) -> None:
    body = strict_json(await http.get("/api/v1/utilization/SURE-EQT", params={"as_of": moment}))
    assert (body["total_capital_nanoton"], body["coverage_sold_nanoton"]) == (str(100 * TON), str(50 * TON))
    assert (body["utilization"], body["insolvent"], body["absorbed_losses_nanoton"]) == (0.5, False, "0")
    assert body["as_of"] == {"seqno": None, "lt": "20", "time": time_of(20).replace("Z", ".000Z")}
    assert (body["ledger_version"], body["stale"]) == ("2", False)


async def test_the_dashboard_is_shown_as_it_was_and_now_has_the_losses(http: httpx.AsyncClient) -> None:
    past = strict_json(await http.get("/api/v1/utilization/dashboard?as_of=lt:20"))
    assert [row["tranche_id"] for row in past["tranches"]] == ["SURE-BTC", "SURE-EQT"]
    assert (past["as_of"]["lt"], past["ledger_version"]) == ("20", "2")
    first = await http.get("/api/v1/utilization/dashboard?as_of=version:1")
    assert [row["tranche_id"] for row in strict_json(first)["tranches"]] == ["SURE-EQT"]
    assert "etag" not in first.headers
    now = strict_json(await http.get("/api/v1/utilization/dashboard"))["tranches"][-1]
    assert (now["absorbed_losses_nanoton"], now["absorbed_losses_ton"]) == (str(100 * TON), 100.0)
    assert now["total_capital_nanoton"] == "0"
    last = strict_json(await http.get("/api/v1/utilization/SURE-EQT?as_of=lt:30"))
    assert {name: last[name] for name in now} == now


@pytest.mark.parametrize(
    ("moment", "status", "code"),
    [
        ("lt:9", 404, "before_history"),
        ("version:0", 404, "before_history"),
        ("2001-01-01T00:00:00Z", 404, "before_history"),
        ("lt:31", 422, "in_the_future"),
        ("version:5", 422, "in_the_future"),
        ("9999-01-01T00:00:00Z", 422, "in_the_future"),
        ("yesterday", 400, "bad_input"),
        ("", 400, "bad_input"),
        ("2030-01-01T00:00:00", 400, "bad_input"),
        ("lt:99999999999999999999", 400, "bad_input"),
        ("\x00", 400, "bad_input"),
        ("lt:1" + "0" * 200, 400, "bad_input"),
    ],
)
async def test_a_moment_without_an_answer_is_a_typed_problem(
    http: httpx.AsyncClient, moment: str, status: int, code: str
) -> None:
    for path in ("/api/v1/utilization/SURE-EQT", "/api/v1/utilization/dashboard"):
        check_problem(await http.get(path, params={"as_of": moment}), status, code)


async def test_a_tranche_without_an_event_until_then_is_not_zero(http: httpx.AsyncClient) -> None:
    check_problem(await http.get("/api/v1/utilization/SURE-BTC?as_of=lt:19"), 404, "before_history")
    check_problem(await http.get("/api/v1/utilization/SURE-XXX?as_of=lt:19"), 400, "unknown_tranche")


async def test_an_outage_of_the_past_is_an_outage(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.failure = DatabaseUnavailable("secret-host refused")
    for path in ("/api/v1/utilization/dashboard?as_of=version:1", "/api/v2/ledger/entries"):
        answer = await api.get(path)
        check_problem(answer, 503, "database_unavailable")
        assert "secret-host" not in answer.text


async def test_an_entry_says_what_its_event_did(http: httpx.AsyncClient) -> None:
    page = strict_json(await http.get("/api/v2/ledger/entries?tranche_id=SURE-EQT&limit=3"))
    released, voided, loss = page["entries"]
    assert page["order"] == "newest"
    assert loss == {
        "entry_id": loss["entry_id"],
        "tranche_id": "SURE-EQT",
        "tranche": "SURE-EQT",
        "event_id": loss["event_id"],
        "event_type": "LossAbsorbed",
        "policy_id": "41",
        "capital_delta_nanoton": str(-100 * TON),
        "coverage_delta_nanoton": "0",
        "unearned_delta_nanoton": "0",
        "loss_delta_nanoton": str(100 * TON),
        "shares_delta": "0",
        "transaction_hash": cursor_at(30).hash.hex(),
        "logical_time": "30",
        "message_index": 0,
        "block_time": time_of(30).replace("Z", ".000Z"),
    }
    assert (voided["event_type"], voided["policy_id"], voided["shares_delta"]) == (
        "EpochStarted",
        None,
        str(-100 * TON),
    )
    assert released["coverage_delta_nanoton"] == str(-50 * TON)


async def test_entries_are_paged_in_both_orders(http: httpx.AsyncClient) -> None:
    whole = strict_json(await http.get("/api/v2/ledger/entries"))["entries"]
    assert len(whole) == 6
    for order, expected in (("newest", whole), ("oldest", whole[::-1])):
        seen, after = [], ""
        while True:
            page = strict_json(await http.get(f"/api/v2/ledger/entries?limit=4&order={order}{after}"))
            seen += page["entries"]
            if page["next_after"] is None:
                break
            after = f"&after={page['next_after']}"
        assert seen == expected
    assert strict_json(await http.get("/api/v2/ledger/entries?tranche_id=SURE-SNR"))["entries"] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("ledger/entries?tranche_id=SURE-XXX", "unknown_tranche"),
        ("ledger/entries?after=-1", "bad_input"),
        ("ledger/entries?limit=0", "bad_input"),
        ("ledger/entries?limit=201", "bad_input"),
        ("ledger/entries?order=asc", "bad_input"),
        ("events?transaction=12", "bad_input"),
        ("events?transaction=" + "g" * 64, "bad_input"),
        ("events?transaction=", "bad_input"),
        ("events?policy_id=-1", "bad_input"),
        ("events?policy_id=9223372036854775808", "bad_input"),
        ("events?policy_id=x", "bad_input"),
    ],
)
async def test_bad_filters_are_refused(http: httpx.AsyncClient, path: str, code: str) -> None:
    check_problem(await http.get(f"/api/v2/{path}"), 400, code)


async def test_events_are_found_by_transaction_and_by_policy(http: httpx.AsyncClient) -> None:
    digits = cursor_at(30).hash.hex()
    for given in (digits, digits.upper()):
        found = strict_json(await http.get(f"/api/v2/events?transaction={given}"))["events"]
        assert [event["event_type"] for event in found] == ["LossAbsorbed", "EpochStarted", "CoverageChanged"]
    found = strict_json(await http.get("/api/v2/events?policy_id=41&order=desc"))["events"]
    assert [(event["event_type"], event["lt"]) for event in found] == [
        ("CoverageChanged", "30"),
        ("LossAbsorbed", "30"),
        ("PolicyCreated", "25"),
        ("CoverageChanged", "20"),
    ]
    page = strict_json(await http.get(f"/api/v2/events?policy_id=41&type=CoverageChanged&contract={FACTORY}"))
    assert (page["events"], page["next_after"]) == ([], None)


async def test_times_and_counters_of_claims_are_numbers(database: str, reader: PostgresLedgerReader) -> None:
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    said = transaction(40, Frozen(START_TIME), ClaimDeferred(41, TON, START_TIME))
    await writer.submit(batch(said, after=cursor_at(30)))
    await writer.close()
    shown = [render_event(event).fields for event in await reader.read_events(EventQuery(newest_first=True, limit=4))]
    assert shown[0] == {"policy_id": "41", "amount": str(TON), "due_at": START_TIME}
    assert shown[1] == {"until": START_TIME}
    assert shown[3]["epoch"] == 1
