"""The audit log as server-sent events, over real sockets: nothing missed, nothing twice, also after coming back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from api.ledger_fake import VAULT, FakeLedger
from api.running import RunningApi, running_api
from tonsurance.api.event_stream import AFTER_FAILURE_S, EventStreams
from tonsurance.api.settings import ApiSettings
from tonsurance.core.errors import DatabaseUnavailable

STREAM = {"accept": "text/event-stream"}


class Reading:
    """One open stream, message by message."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def hear(self) -> dict[str, str]:
        """The next message; fails the test after a minute of silence."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            async for line in self._lines:
                if not line:
                    return fields
                name, _, value = line.partition(":")
                fields[name or "comment"] = value.strip()
        raise EOFError

    async def hear_events(self, count: int) -> list[dict[str, str]]:
        return [await self.hear() for _ in range(count)]


@asynccontextmanager
async def stream(api: RunningApi, query: str = "", **headers: str) -> AsyncIterator[Reading]:
    sent = STREAM | {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.http.stream("GET", f"/api/v2/events{query}", headers=sent) as answer:
        reading = Reading(answer)
        if answer.status_code == 200:
            opened = await reading.hear()
            assert opened["retry"] == "1000"
        yield reading


def commit(ledger: FakeLedger, api: RunningApi, *, events: int = 1) -> None:
    ledger.commit("SURE-SNR", 1000, 500, events=events)
    api.wake.set()


async def test_a_commit_is_in_the_stream_as_rest_shows_it(api: RunningApi, ledger: FakeLedger) -> None:
    async with stream(api) as reading:
        assert reading.answer.headers["content-type"].startswith("text/event-stream")
        assert reading.answer.headers["cache-control"] == "no-store"
        commit(ledger, api)
        message = await reading.hear()
    shown = (await api.get("/api/v2/events?order=desc&limit=1")).json()["events"][0]
    assert json.loads(message["data"]) == shown
    assert (message["id"], message["event"]) == (shown["event_id"], shown["event_type"])


async def test_who_comes_back_misses_nothing_and_gets_nothing_twice(api: RunningApi, ledger: FakeLedger) -> None:
    commit(ledger, api, events=250)  # more than a page
    async with stream(api, "?after=0") as reading:
        heard = [message["id"] for message in await reading.hear_events(120)]
    async with stream(api, "?after=0", Last_Event_ID=heard[-1]) as reading:
        heard += [message["id"] for message in await reading.hear_events(100)]
        commit(ledger, api, events=3)
        newest = max(event.event_id for event in ledger.events)
        while heard[-1] != str(newest):
            heard.append((await reading.hear())["id"])
    assert heard == [str(event.event_id) for event in ledger.events]


async def test_only_what_is_asked_for_is_streamed(api: RunningApi, ledger: FakeLedger) -> None:
    other = "0:" + "99" * 32
    async with stream(api, f"?after=0&contract={other}") as foreign, stream(api, f"?after=0&contract={VAULT}") as ours:
        commit(ledger, api)
        assert json.loads((await ours.hear())["data"])["contract"] == VAULT
        quiet = asyncio.create_task(foreign.hear())
        done, _ = await asyncio.wait((quiet,), timeout=0.1)
        assert not done
        quiet.cancel()
        await asyncio.gather(quiet, return_exceptions=True)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?type=Nothing", {}),
        ("?after=-1", {}),
        ("?after=1e3", {}),
        ("?after=٣", {}),
        (f"?after={2**63}", {}),
        ("?policy_id=x", {}),
        ("?contract=nobody", {}),
        ("", {"Last_Event_ID": "abc"}),
        ("", {"Last_Event_ID": "9" * 40}),
    ],
)
async def test_bad_input_gets_a_problem_and_no_stream(api: RunningApi, query: str, headers: dict[str, str]) -> None:
    async with stream(api, query, **headers) as reading:
        assert reading.answer.status_code == 400
        assert reading.answer.headers["content-type"] == "application/problem+json"


async def test_a_place_beyond_all_there_is_is_reset_and_said(api: RunningApi, ledger: FakeLedger) -> None:
    commit(ledger, api)
    sent = STREAM | {"last-event-id": str(2**63 - 1)}
    async with api.http.stream("GET", "/api/v2/events", headers=sent) as answer:
        reading = Reading(answer)
        opened = await reading.hear()
        assert (opened["event"], opened["id"]) == ("reset", str(ledger.events[-1].event_id))
        commit(ledger, api)
        assert (await reading.hear())["id"] == str(ledger.events[-1].event_id)


async def test_an_outage_is_said_once_and_the_place_is_kept(api: RunningApi, ledger: FakeLedger) -> None:
    async with stream(api) as reading:
        ledger.failure = DatabaseUnavailable("secret host")
        api.wake.set()
        commit(ledger, api)
        async with stream(api, "?after=0") as late:
            degraded = await late.hear()
            assert degraded["event"] == "degraded"
            assert "id" not in degraded
            assert "secret" not in degraded["data"]
            again = asyncio.create_task(late.hear())
            done, _ = await asyncio.wait((again,), timeout=3 * AFTER_FAILURE_S)
            assert not done, "said once"
            ledger.failure = None
            api.wake.set()
            assert (await again)["id"] == str(ledger.events[0].event_id)
        assert (await reading.hear()).get("event") in ("DepositMade", "degraded")


async def test_a_quiet_stream_is_kept_open(ledger: FakeLedger) -> None:
    async with running_api(ledger) as api:
        streams = api.parts.app.state.event_streams
        api.parts.app.state.event_streams = EventStreams(streams._services, keep_alive_s=0.02)
        async with stream(api) as reading:
            assert (await reading.hear())["comment"] == "still here"


async def test_streams_of_one_address_are_limited_and_given_back(ledger: FakeLedger) -> None:
    settings = ApiSettings(port=0, ws_connections_per_address=2)
    async with running_api(ledger, settings) as api:
        async with stream(api), stream(api), stream(api) as third:
            assert third.answer.status_code == 429
        async with asyncio.timeout(60):
            while api.parts.hub.clients:  # the server hears of the end a moment later
                await asyncio.sleep(0.01)
        async with stream(api) as again:
            assert again.answer.status_code == 200


async def test_a_shutdown_ends_open_streams(ledger: FakeLedger) -> None:
    async with running_api(ledger) as api:
        reading = api.http.stream("GET", "/api/v2/events", headers=STREAM)
        answer = await reading.__aenter__()
        lines = answer.aiter_lines()
        await anext(lines)
    with contextlib.suppress(httpx.HTTPError):
        async with asyncio.timeout(60):
            async for _ in lines:
                pass
    await reading.__aexit__(None, None, None)


async def test_the_page_is_still_the_answer_to_everybody_else(api: RunningApi, ledger: FakeLedger) -> None:
    for accept in ("*/*", "application/json", "application/json, text/event-stream"):
        answer = await api.get("/api/v2/events", accept=accept)
        assert answer.headers["content-type"] == "application/json"
