"""The stream's client against a server that does everything wrong: what becomes a hint, and that nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.chain.event_parser import EventParser
from tonsurance.chain.stream import MAX_LT, Hint, HintStream, StreamPatience
from tonsurance.core.errors import InvalidAddress, UsageError

VAULT, FACTORY, FOREIGN = ("0:" + digit * 64 for digit in "abc")
PATIENCE_S = 60
QUICK = StreamPatience(silence_s=60.0, connect_s=60.0, first_s=0.001, longest_s=0.01, well_after_s=5.0)
OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CONNECTED = b'event: connected\ndata: {"status":"subscribed"}\n\n'

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


class StreamServer:
    """Answers each request for a stream with the next of `scripts`; with none left it opens one and stays silent."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: asyncio.Queue[tuple[dict[str, str], dict[str, Any]]] = asyncio.Queue()
        self.scripts: deque[Serve] = deque()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs} | {"": head[0]}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            await self.requests.put((headers, body))
            script = self.scripts.popleft() if self.scripts else say()
            await script(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def say(*parts: bytes, head: bytes = OPEN + CONNECTED, stay: bool = True) -> Serve:
    """Send these, then stay silent, or end the stream."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for part in (head, *parts):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if stay:
            await asyncio.Event().wait()

    return script


def frame(content: Any) -> bytes:
    return b"event: event\ndata: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + b"\n\n"


def told(*transactions: tuple[str, Any], finality: str = "finalized") -> bytes:
    """An event about these (account, lt)."""
    shown = [{"account": account.upper(), "lt": lt, "hash": "x", "in_msg": {}} for account, lt in transactions]
    return frame({"type": "transactions", "finality": finality, "transactions": shown})


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    fake, connections = StreamServer(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await fake.serve(reader, writer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield fake
    listener.close()
    for task in list(connections):
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
    await listener.wait_closed()


class Ear:
    """Hints as they come."""

    def __init__(self) -> None:
        self.heard: list[Hint] = []
        self._news = asyncio.Event()

    def take(self, hint: Hint) -> None:
        self.heard.append(hint)
        self._news.set()

    async def until(self, wanted: Hint) -> list[Hint]:
        """All hints up to this one."""
        async with asyncio.timeout(PATIENCE_S):
            while wanted not in self.heard:
                self._news.clear()
                await self._news.wait()
        return self.heard[: self.heard.index(wanted) + 1]


@contextlib.asynccontextmanager
async def hearing(stream: HintStream) -> AsyncIterator[Ear]:
    ear, stop = Ear(), asyncio.Event()
    task = asyncio.create_task(stream.run(ear.take, stop))
    try:
        yield ear
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)


def make(server: StreamServer, *addresses: str, **more: Any) -> HintStream:
    return HintStream(server.url, addresses=addresses or (VAULT, FACTORY), **({"patience": QUICK} | more))


async def test_each_account_with_news_is_named_with_its_newest_transaction(server: StreamServer) -> None:
    server.scripts.append(say(told((VAULT, "7"), (FACTORY, "3"), (VAULT, "9")), told((FACTORY, "4"))))
    async with hearing(make(server)) as ear:
        heard = await ear.until(Hint(FACTORY, 4))
    assert heard == [Hint(VAULT), Hint(FACTORY), Hint(VAULT, 9), Hint(FACTORY, 3), Hint(FACTORY, 4)]


async def test_every_account_is_named_when_the_stream_opens_and_opens_again(server: StreamServer) -> None:
    server.scripts.extend([say(stay=False), say(told((VAULT, "5")))])
    stream = make(server)
    async with hearing(stream) as ear:
        heard = await ear.until(Hint(VAULT, 5))
        assert stream.status.connected
    assert heard == [*2 * [Hint(VAULT), Hint(FACTORY)], Hint(VAULT, 5)]
    status = stream.status
    assert (status.connected, status.connects, status.reconnects, status.events) == (False, 2, 1, 3)
    assert status.last_event_at is not None


async def test_what_is_asked_for_and_where_the_key_goes(server: StreamServer) -> None:
    async with hearing(make(server, api_key="the-key", min_finality="confirmed")):
        headers, body = await asyncio.wait_for(server.requests.get(), PATIENCE_S)
    assert body == {"types": ["transactions"], "addresses": [VAULT, FACTORY], "min_finality": "confirmed"}
    assert headers[""] == "POST /api/streaming/v2/sse HTTP/1.1"
    assert headers["x-api-key"] == "the-key"
    assert [name for name, value in headers.items() if "the-key" in value] == ["x-api-key"]
    assert headers["accept-encoding"] == "identity"


async def test_without_a_key_none_is_sent(server: StreamServer) -> None:
    async with hearing(make(server)):
        headers, _ = await asyncio.wait_for(server.requests.get(), PATIENCE_S)
    assert "x-api-key" not in headers


GARBAGE = [
    b"data: {\n\n",
    b"data: \xff\xfe\n\n",
    b"data: [1,2]\n\n",
    b"data: " + 100_000 * b"[" + b"\n\n",
    frame({"type": "transactions", "transactions": 7}),
    frame({"type": "transactions", "transactions": [{"lt": "1"}]}),
    frame({"type": 5}),
    frame({"type": "transactions", "transactions": [{"account": 7, "lt": "1"}]}),
]
HARMLESS = [
    b": keepalive\n\n",
    b"\n\n\n",
    b"event: event\n\n",
    b"id: 7\nretry: 1\nnonsense\n\n",
    frame({"type": "trace_invalidated", "trace_external_hash_norm": "x"}),
    frame({"type": "actions", "actions": [{}]}),
    frame({}),
    told((FOREIGN, "9")),
    told(("nonsense", "9")),
]


async def test_garbage_is_counted_and_is_no_hint(server: StreamServer) -> None:
    server.scripts.append(say(*GARBAGE, *HARMLESS, told((VAULT, "5"))))
    stream = make(server, VAULT)
    async with hearing(stream) as ear:
        assert await ear.until(Hint(VAULT, 5)) == [Hint(VAULT), Hint(VAULT, 5)]
    assert (stream.status.garbage, stream.status.connects) == (len(GARBAGE), 1)


@pytest.mark.parametrize("lt", ["", "-1", "0", "1e3", "٣", "9" * 30, 10**30, -1, 0, None, MAX_LT + 1])
async def test_a_logical_time_that_cannot_be_is_none(server: StreamServer, lt: Any) -> None:
    server.scripts.append(say(told((VAULT, lt)), told((VAULT, "5"))))
    async with hearing(make(server, VAULT)) as ear:
        heard = await ear.until(Hint(VAULT, 5))
    assert [hint for hint in heard if hint.lt is not None] == [Hint(VAULT, 5)]


async def test_a_changed_account_without_a_transaction_is_a_hint(server: StreamServer) -> None:
    changed = frame({"type": "account_state_change", "finality": "finalized", "account": FACTORY.upper(), "state": {}})
    server.scripts.append(say(changed, told((VAULT, "5"))))
    async with hearing(make(server)) as ear:
        heard = await ear.until(Hint(VAULT, 5))
    assert heard[2:] == [Hint(FACTORY), Hint(VAULT, 5)]


async def test_an_event_too_large_to_keep_is_a_reason_to_look_at_all(server: StreamServer) -> None:
    large = [b"data: "] + 80 * [64 * 1024 * b"x"] + [b"\n\n"]
    server.scripts.append(say(*large, told((VAULT, "5"))))
    stream = make(server)
    async with hearing(stream) as ear:
        heard = await ear.until(Hint(VAULT, 5))
    assert heard == [*2 * [Hint(VAULT), Hint(FACTORY)], Hint(VAULT, 5)]
    assert stream.status.garbage == 1


REFUSALS = {
    "401": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<html><p>",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b",
    "elsewhere": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "no answer": b"",
    "no HTTP": b"nonsense\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n: ke",
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_after_every_failure_it_is_tried_again(server: StreamServer, name: str) -> None:
    server.scripts.extend([say(head=REFUSALS[name], stay=False)] * 3)
    server.scripts.append(say(told((VAULT, "5"))))
    stream = make(server, VAULT)
    async with hearing(stream) as ear:
        await ear.until(Hint(VAULT, 5))
        assert stream.status.error is None
    assert server.requests.qsize() == 4
    assert stream.status.connects == (4 if name == "cut" else 1)  # the others never were a stream


async def test_why_it_is_not_connected_is_told(server: StreamServer) -> None:
    server.scripts.extend([say(head=REFUSALS["401"], stay=False)] * 1_000)
    stream = make(server, VAULT)
    async with hearing(stream):
        for _ in range(3):
            await asyncio.wait_for(server.requests.get(), PATIENCE_S)
    assert (stream.status.connected, stream.status.error) == (False, "the server answered 401")


async def test_a_stream_that_is_silent_for_too_long_is_opened_again(server: StreamServer) -> None:
    server.scripts.extend([say(), *[say(told((VAULT, "5")))] * 1_000])  # it is silent after each of them too
    patience = StreamPatience(silence_s=0.1, first_s=0.001, longest_s=0.01)
    async with hearing(make(server, VAULT, patience=patience)) as ear:
        await ear.until(Hint(VAULT, 5))


async def test_the_next_address_is_used_when_one_fails(server: StreamServer) -> None:
    server.scripts.append(say(told((VAULT, "5"))))
    closed = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    dead = f"http://127.0.0.1:{closed.sockets[0].getsockname()[1]}"
    closed.close()
    await closed.wait_closed()
    stream = HintStream([dead, server.url], addresses=[VAULT], patience=QUICK)
    async with hearing(stream) as ear:
        await ear.until(Hint(VAULT, 5))
        assert stream.status.url == server.url


async def test_other_accounts_can_be_followed_at_any_time(server: StreamServer) -> None:
    stream = HintStream(server.url, patience=QUICK)
    async with hearing(stream) as ear:
        await asyncio.sleep(0)
        assert server.requests.empty()  # nothing to ask for
        for accounts in ([VAULT], [VAULT, FACTORY], [FACTORY]):
            stream.follow(accounts)
            stream.follow(accounts)
            _, body = await asyncio.wait_for(server.requests.get(), PATIENCE_S)
            assert body["addresses"] == accounts
            await ear.until(Hint(accounts[-1]))
    assert server.requests.empty()
    assert stream.status.error is None


async def test_it_stops_while_it_waits_for_an_answer(server: StreamServer) -> None:
    server.scripts.append(say(head=b""))
    async with hearing(make(server)):
        await asyncio.wait_for(server.requests.get(), PATIENCE_S)


@pytest.mark.parametrize(
    ("url", "key", "addresses", "error"),
    [
        ("ftp://x", None, (), UsageError),
        ("http://x?api_key=1", None, (), UsageError),
        ("http://x", "bad\nkey", (), UsageError),
        ("http://x", None, ("nonsense",), InvalidAddress),
    ],
)
def test_a_wrong_setting_is_refused(url: str, key: str | None, addresses: tuple[str, ...], error: type) -> None:
    with pytest.raises(error):
        HintStream(url, key, addresses=addresses)


LINES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b"data:", b": c", b"event: e", b"", b"", b"x" * 12, b"data: " + b"y" * 40]),
    max_size=30,
)


@given(lines=LINES, crlf=st.booleans(), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_events_do_not_depend_on_how_their_bytes_arrive(lines: list[bytes], crlf: bool, cuts: list[int]) -> None:
    content = b"".join(line + (b"\r\n" if crlf else b"\n") for line in lines)
    whole = EventParser(32).feed(content)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    parser = EventParser(32)
    pieces = [event for start, end in pairwise(places) for event in parser.feed(content[start:end])]
    assert pieces == whole
    assert all(event is None or len(event) <= 32 for event in whole)


def test_an_event_of_many_lines_is_one() -> None:
    assert EventParser().feed(b"data: a\ndata: b\n\ndata: c\n") == [b"a\nb"]


def test_after_an_event_too_large_the_next_is_read() -> None:
    parser = EventParser(10)
    for _ in range(1_000):
        assert parser.feed(b"data: 123\n") == []
    assert parser.feed(b"\ndata: 1\n\n" + 100 * b"x" + b"\n\ndata: 2\n\n") == [None, b"1", None, b"2"]
