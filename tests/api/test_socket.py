"""The WebSocket protocol over a real socket: every answer, every refusal, resuming, floods and stuck clients."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.ledger_fake import FakeLedger
from api.running import RunningApi, Talk, running_api
from tonsurance.api.settings import ApiSettings
from tonsurance.api.ws import FLOOD_STRIKES, Admission, MessageBudget, network_of
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import DatabaseUnavailable

CHANNELS = ["tranche_apy", "events"]


async def subscribe(talk: Talk, channel: str, **more: object) -> dict[str, object]:
    """Subscribe and return the confirmation."""
    answer = await talk.ask(action="subscribe", channel=channel, **more)
    assert (answer["type"], answer["channel"]) == ("subscribed", channel)
    return answer


async def test_the_welcome_says_what_there_is(api: RunningApi) -> None:
    async with api.socket() as talk:
        assert talk.welcome["type"] == "welcome"
        assert str(talk.welcome["client_id"]).startswith("client_")
        assert talk.welcome["available_channels"] == CHANNELS
        assert talk.welcome["protocol"] == "tonsurance.1"
        assert talk.welcome["timestamp"]


async def test_ping_is_answered_with_and_without_a_channel(api: RunningApi) -> None:
    async with api.socket() as talk:
        assert (await talk.ask(action="ping"))["type"] == "pong"
        assert (await talk.ask(action="ping", channel="heartbeat"))["type"] == "pong"


async def test_a_newcomer_gets_the_full_state(api: RunningApi) -> None:
    async with api.socket() as talk:
        confirmed = await subscribe(talk, "tranche_apy")
        assert confirmed["recovered"] is None
        state = await talk.hear()
    assert (state["channel"], state["type"]) == ("tranche_apy", "apy_update")
    assert state["epoch"] == talk.welcome["epoch"]
    assert state["ledger_version"] == "1"
    rows = state["tranches"]
    assert [row["tranche_id"] for row in rows] == list(TRANCHE_IDS)
    assert rows[1]["apy"] == pytest.approx(8.547368753)
    assert {"utilization", "utilization_raw", "insolvent", "total_capital_ton", "last_updated"} <= set(rows[1])


async def test_a_commit_is_pushed_on_both_channels(ledger: FakeLedger, api: RunningApi) -> None:
    async with api.socket() as talk:
        for channel in CHANNELS:
            await subscribe(talk, channel)
            await talk.hear()
        ledger.commit("SURE-EQT", 1000, 700)
        api.wake.set()
        update = await talk.hear_type("apy_update")
        event = await talk.hear_type("event")
    assert update["tranches"][5]["utilization"] == 0.7
    assert update["ledger_version"] == "2"
    assert (event["channel"], event["event_type"], event["event_id"]) == ("events", "DepositMade", "1")
    assert event["transaction_hash"] == f"{1:064x}"
    assert (event["lt"], event["message_index"]) == ("47000000000001", 0)
    assert event["fields"]["shares"] == "1180591620717411303424"
    assert event["fields"]["tranche"] == "SURE-EQT"


async def test_every_event_is_pushed_once_and_in_order(ledger: FakeLedger, api: RunningApi) -> None:
    async with api.socket() as talk:
        await subscribe(talk, "events")
        await talk.hear_type("state")
        for size in (1, 250, 3):
            ledger.commit("SURE-SNR", 1000, 500, events=size)
            api.wake.set()
        heard = [await talk.hear_type("event") for _ in range(254)]
        for _ in range(3):
            await api.parts.feed.refresh()  # nothing new, nothing said
        ledger.commit("SURE-SNR", 1000, 500)
        await api.parts.feed.refresh()
        heard.append(await talk.hear_type("event"))
    assert [int(str(event["event_id"])) for event in heard] == list(range(1, 256))
    assert [event["offset"] for event in heard] == list(range(1, 256))


async def test_a_flood_of_old_events_is_one_gap(ledger: FakeLedger, api: RunningApi) -> None:
    async with api.socket() as talk:
        await subscribe(talk, "events")
        await talk.hear_type("state")
        ledger.commit("SURE-SNR", 1000, 500, events=5000)
        api.wake.set()
        gap = await talk.hear()
        assert (gap["type"], gap["after"], gap["until"]) == ("gap", "0", "4900")
        assert [(await talk.hear())["event_id"] for _ in range(100)] == [str(n) for n in range(4901, 5001)]


async def test_events_before_this_process_are_state_and_not_news(ledger: FakeLedger) -> None:
    ledger.commit("SURE-SNR", 1000, 500, events=30)
    async with running_api(ledger) as api, api.socket() as talk:
        await subscribe(talk, "events")
        state = await talk.hear()
    assert state["type"] == "state"
    assert [event["event_id"] for event in state["events"]] == [str(number) for number in range(11, 31)]
    assert state["offset"] == 0


async def test_unsubscribed_channels_are_silent(ledger: FakeLedger, api: RunningApi) -> None:
    async with api.socket() as talk:
        await subscribe(talk, "tranche_apy")
        await talk.hear()
        answer = await talk.ask(action="unsubscribe", channel="tranche_apy")
        assert (answer["type"], answer["channel"]) == ("unsubscribed", "tranche_apy")
        await subscribe(talk, "events")
        await talk.hear()
        ledger.commit("SURE-EQT", 1000, 700)
        api.wake.set()
        assert (await talk.hear())["type"] == "event"


async def test_a_reconnected_client_gets_what_it_missed(ledger: FakeLedger, api: RunningApi) -> None:
    async with api.socket() as talk:
        await subscribe(talk, "events")
        state = await talk.hear()
    ledger.commit("SURE-EQT", 1000, 700, events=3)
    await api.parts.feed.refresh()
    async with api.socket() as talk:
        since = {"epoch": state["epoch"], "offset": state["offset"]}
        assert (await subscribe(talk, "events", since=since))["recovered"] is True
        assert [(await talk.hear())["event_id"] for _ in range(3)] == ["1", "2", "3"]
        assert (await subscribe(talk, "events", since=2, epoch=state["epoch"]))["recovered"] is True
        assert (await talk.hear())["event_id"] == "3"


@pytest.mark.parametrize(
    "since",
    [
        {"since": {"epoch": "another life", "offset": 0}},
        {"since": 0},
        {"since": {"epoch": "EPOCH", "offset": 99}},
        {"since": {"epoch": "EPOCH", "offset": -1}},
        {"since": {"epoch": "EPOCH", "offset": 2**70}},
    ],
)
async def test_what_cannot_be_resumed_says_so_and_sends_the_state(api: RunningApi, since: dict) -> None:
    text = json.dumps({"action": "subscribe", "channel": "tranche_apy", **since})
    async with api.socket() as talk:
        await talk.connection.send(text.replace("EPOCH", str(talk.welcome["epoch"])))
        assert (await talk.hear())["recovered"] is False
        assert (await talk.hear())["type"] == "apy_update"


async def test_a_position_older_than_the_buffer_is_not_recovered(ledger: FakeLedger, api: RunningApi) -> None:
    ledger.commit("SURE-EQT", 1000, 700, events=400)
    await api.parts.feed.refresh()
    async with api.socket() as talk:
        answer = await subscribe(talk, "events", since=0, epoch=talk.welcome["epoch"])
        assert answer["recovered"] is False
        assert (await talk.hear())["type"] == "state"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "bad_frame"),
        ("{", "bad_frame"),
        ("null", "bad_frame"),
        ("[]", "bad_frame"),
        ('"ping"', "bad_frame"),
        ("{}", "bad_frame"),
        ('{"action": 1}', "bad_frame"),
        ('{"action": "subscribe", "channel": ["events"]}', "bad_frame"),
        ('{"action": "subscribe", "channel": "events", "since": "x"}', "bad_frame"),
        ('{"action": "subscribe", "channel": "events", "since": 1.5}', "bad_frame"),
        ('{"action": "subscribe", "channel": "events", "since": {"epoch": 1, "offset": 1}}', "bad_frame"),
        ('{"action": "ping", "x": ' + "[" * 2000 + "]" * 2000 + "}", "bad_frame"),
        ('{"action": "ping", "x": "' + "x" * 5000 + '"}', "bad_frame"),
        ('{"action": "ping", "x": "' + "é" * 2500 + '"}', "bad_frame"),
        (b'{"action": "ping"}', "bad_frame"),
        ('{"action": "dance"}', "unknown_action"),
        ('{"action": "SUBSCRIBE", "channel": "events"}', "unknown_action"),
        ('{"action": "subscribe"}', "unknown_channel"),
        ('{"action": "subscribe", "channel": null}', "unknown_channel"),
        ('{"action": "subscribe", "channel": "bridge_health"}', "unknown_channel"),
        ('{"action": "unsubscribe", "channel": "nothing"}', "unknown_channel"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_bad_frame_is_answered_and_the_connection_stays(api: RunningApi, frame: str | bytes, code: str) -> None:
    async with api.socket() as talk:
        await talk.connection.send(frame)
        error = await talk.hear()
        assert (error["type"], error["code"]) == ("error", code)
        assert error["message"]
        assert error["timestamp"]
        if code == "unknown_channel":
            assert error["valid_channels"] == CHANNELS
        assert (await talk.ask(action="ping"))["type"] == "pong"


async def test_a_frame_of_exactly_the_limit_is_read(api: RunningApi) -> None:
    frame = '{"action": "ping", "x": ""}'
    async with api.socket() as talk:
        await talk.connection.send(frame[:-2] + "x" * (4096 - len(frame)) + frame[-2:])
        assert (await talk.hear())["type"] == "pong"


async def test_a_huge_frame_closes_the_connection_unread(api: RunningApi) -> None:
    async with api.socket() as talk:
        await talk.connection.send("x" * 100_000)
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_flood_is_slowed_by_errors_and_then_closed(ledger: FakeLedger) -> None:
    async with running_api(ledger, ApiSettings(port=0, ws_messages_per_minute=5)) as api, api.socket() as talk:
        for _ in range(5 + FLOOD_STRIKES + 2):
            await talk.say(action="ping")
        kinds = [(await talk.hear())["type"] for _ in range(5)]
        error = await talk.hear()
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear_type("nothing that is ever said")
    assert kinds == ["pong"] * 5
    assert error["code"] == "rate_limited"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_connections_per_address_are_limited_and_given_back(ledger: FakeLedger) -> None:
    async with running_api(ledger, ApiSettings(port=0, ws_connections_per_address=2)) as api:
        async with api.socket(), api.socket():
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{api.port}/ws")
            assert refused.value.response.status_code == 429
            assert json.loads(refused.value.response.body)["code"] == "too_many_connections"
        while api.parts.hub.clients:
            await asyncio.sleep(0)
        async with api.socket() as talk:
            assert talk.welcome["type"] == "welcome"


async def test_an_outage_is_pushed_as_stale_with_the_last_figures(ledger: FakeLedger) -> None:
    settings = ApiSettings(port=0, poll_interval_s=0.01, stale_after_s=0.5)
    async with running_api(ledger, settings) as api, api.socket() as talk:
        await subscribe(talk, "tranche_apy")
        while (await talk.hear_type("apy_update"))["stale"]:
            pass
        ledger.failure = DatabaseUnavailable()
        async with asyncio.timeout(60):
            while not (update := await talk.hear_type("apy_update"))["stale"]:
                pass
        assert update["tranches"][0]["total_capital_nanoton"] == "1000000000000"
        ledger.failure = None
        while (await talk.hear_type("apy_update"))["stale"]:
            pass


async def test_the_full_state_is_repeated_without_changes(ledger: FakeLedger) -> None:
    async with running_api(ledger, ApiSettings(port=0, full_state_interval_s=0.02)) as api, api.socket() as talk:
        await subscribe(talk, "tranche_apy")
        first, second = await talk.hear(), await talk.hear()
        assert first["ledger_version"] == second["ledger_version"]
        assert second["offset"] == first["offset"] + 1


async def test_before_any_data_a_subscriber_waits_and_is_served_when_it_comes() -> None:
    ledger = FakeLedger()
    ledger.failure = DatabaseUnavailable()
    async with running_api(ledger) as api, api.socket() as talk:
        await subscribe(talk, "tranche_apy")
        assert (await talk.ask(action="ping"))["type"] == "pong"
        ledger.failure = None
        await api.parts.feed.refresh()
        assert (await talk.hear())["type"] == "apy_update"


async def test_a_shutdown_is_told_with_1012_after_the_last_message(ledger: FakeLedger) -> None:
    async with running_api(ledger) as api:
        talk_manager = api.socket()
        talk = await talk_manager.__aenter__()
        await subscribe(talk, "events")
        await talk.hear()
        ledger.commit("SURE-SNR", 1000, 400, events=200)
        await api.parts.feed.refresh()
    heard = [await talk.hear() for _ in range(200)]
    with pytest.raises(ConnectionClosed) as closed:
        await talk.hear()
    await talk_manager.__aexit__(None, None, None)
    assert heard[-1]["event_id"] == "200"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def open_stuck_client(port: int) -> socket.socket:
    """A client that subscribes to events and never reads again."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", port))
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    await loop.sock_sendall(
        raw, b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key + b"\r\n"
    )
    await loop.sock_recv(raw, 10)
    frame = b'{"action":"subscribe","channel":"events"}'
    await loop.sock_sendall(raw, bytes([0x81, 0x80 | len(frame), 0, 0, 0, 0]) + frame)
    return raw


async def test_a_client_that_does_not_read_is_dropped_and_delays_nobody(ledger: FakeLedger, api: RunningApi) -> None:
    stuck = await open_stuck_client(api.port)
    try:
        async with api.socket() as talk:
            await subscribe(talk, "events")
            await talk.hear_type("state")
            rounds = 0
            while len(api.parts.hub.clients) > 1:
                assert rounds < 500
                ledger.commit("SURE-SNR", 1000, 500, events=100)
                async with asyncio.timeout(60):
                    await api.parts.feed.refresh()
                for _ in range(100):
                    await talk.hear_type("event")
                rounds += 1
            assert rounds > 1
            ledger.commit("SURE-SNR", 1000, 600)
            await api.parts.feed.refresh()
            assert (await talk.hear_type("event"))["event_id"] == str(rounds * 100 + 1)
    finally:
        stuck.close()


def test_an_ipv6_network_counts_as_one_address() -> None:
    assert network_of("2001:db8:1:2:aaaa::1") == network_of("2001:db8:1:2:bbbb::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("testclient") == "testclient"


def test_admission_counts_all_connections_and_forgets_addresses() -> None:
    admission = Admission(ApiSettings(ws_connections=3, ws_connections_per_address=2))
    assert [admission.enter(address) for address in "aaabb"] == [True, True, False, True, False]
    admission.leave("a")
    assert admission.enter("b")
    admission.leave("a")
    assert admission.enter("c")


def test_the_message_budget_refills_evenly() -> None:
    budget = MessageBudget(60, now=0.0)
    assert [budget.spend(0.0) for _ in range(61)] == [True] * 60 + [False]
    assert not budget.spend(0.5)
    assert budget.spend(1.0)
    assert not budget.spend(1.0)
    assert [budget.spend(3600.0) for _ in range(61)] == [True] * 60 + [False]
