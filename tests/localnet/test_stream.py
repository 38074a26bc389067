"""The stream of the local chain: what is sent when, to whom, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from toncenter.streaming.models import Finality, TransactionsNotification
from toncenter.streaming.sse import ToncenterSSE
from toncenter.types import Network

from localnet.probe import COUNT, PASS_ON, TON, body, deploy_probe
from tonsurance.localnet import stream
from tonsurance.localnet.cells import friendly_address, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.http import JsonApp, Route, refuse_plainly
from tonsurance.localnet.messages import normalized_hash, read_transaction
from tonsurance.localnet.render import b64
from tonsurance.localnet.render_v3 import raw_address_v3
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.stream import PREFIX, SSE_PATH, Streams
from tonsurance.localnet.wallets import Transfer, Wallet

PATIENCE_S = 60


@pytest.fixture
def localnet(chain: LocalChain) -> Localnet:
    return Localnet(chain)


@pytest.fixture
async def url(localnet: Localnet) -> AsyncIterator[str]:
    async with running(localnet) as address:
        yield address


class Listener:
    """An open stream; the first event, which says that it is open, was read."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def event(self) -> Any:
        """The data of the next event."""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if line.startswith("data: "):
                    return json.loads(line.removeprefix("data: "))
        return None

    async def line(self) -> str:
        """The next line that is not empty."""
        async with asyncio.timeout(PATIENCE_S):
            return await anext(line async for line in self._lines if line)


@contextlib.asynccontextmanager
async def listening(url: str, *addresses: str, **more: Any) -> AsyncIterator[Listener]:
    asked = {"types": ["transactions"], "addresses": list(addresses), **more}
    async with httpx.AsyncClient(timeout=60) as client, client.stream("POST", url + SSE_PATH, json=asked) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
        listener = Listener(response)
        assert await listener.event() == {"status": "subscribed"}
        yield listener


async def test_a_transaction_is_told_of_when_its_block_is_made(url: str, chain: LocalChain, probe_code: bytes) -> None:
    here, there = deploy_probe(chain, probe_code), deploy_probe(chain, probe_code, number=9)
    async with listening(url, friendly_address(here), min_finality="confirmed") as listener:
        chain.submit_internal(there, TON, body(COUNT))
        chain.submit_internal(here, TON, body(COUNT))
        chain.mine()
        events = [await listener.event(), await listener.event()]
    (made,) = chain.transactions(here, limit=1)
    assert [event["finality"] for event in events] == ["confirmed", "finalized"]
    for event in events:
        (shown,) = event["transactions"]
        assert (shown["account"], shown["lt"], shown["hash"]) == (raw_address_v3(here), str(made.lt), b64(made.hash))
        assert event["type"] == "transactions"
        assert shown["finality"] == event["finality"]
        assert event["trace_external_hash_norm"] == shown["in_msg"]["hash"]  # given coins: no message from outside


async def test_only_final_ones_come_unless_earlier_ones_are_asked_for(
    url: str, chain: LocalChain, probe_code: bytes
) -> None:
    probe = deploy_probe(chain, probe_code)
    async with listening(url, raw_address(probe)) as listener:
        for _ in range(2):
            chain.submit_internal(probe, TON, body(COUNT))
            chain.mine()
        events = [await listener.event(), await listener.event()]
    assert [event["finality"] for event in events] == ["finalized", "finalized"]
    assert int(events[0]["transactions"][0]["lt"]) < int(events[1]["transactions"][0]["lt"])


async def test_one_message_from_outside_is_the_trace_of_all_that_follows_from_it(
    url: str, chain: LocalChain, probe_code: bytes
) -> None:
    probes = [deploy_probe(chain, probe_code, number=number) for number in (1, 2)]
    wallet = Wallet("me", chain.seed)
    chain.airdrop(wallet.address, 100 * TON)
    chain.mine()
    back_and_forth = body(PASS_ON, (2, 8), to=probes[1])
    async with listening(url, *map(raw_address, probes)) as listener:
        hash_ = wallet.send(chain, Transfer(destination=raw_address(probes[0]), value=TON, body=back_and_forth))
        chain.mine_until_idle()
        events = [await listener.event() for _ in range(3)]
    root = chain.transactions(wallet.address, limit=1)[0]
    assert hash_ is not None
    (message,) = {event["transactions"][0]["trace_external_hash"] for event in events}
    assert {event["transactions"][0]["trace_id"] for event in events} == {b64(root.hash)}
    assert {event["trace_external_hash_norm"] for event in events} == {b64(_norm_of(root.boc))}
    assert message
    accounts = [event["transactions"][0]["account"] for event in events]
    assert accounts == [raw_address_v3(probes[index]) for index in (0, 1, 0)]


def _norm_of(boc: bytes) -> bytes:
    message = read_transaction(boc).in_message
    assert message is not None
    return normalized_hash(message)


async def test_a_changed_account_is_told_of_with_its_hashes(url: str, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    async with listening(url, raw_address(probe), types=["account_state_change"]) as listener:
        chain.submit_internal(probe, TON, body(COUNT))
        chain.mine()
        event = await listener.event()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.get("/api/v3/transactions", params={"account": raw_address(probe), "limit": 1})
    state = event.pop("state")
    assert event == {"type": "account_state_change", "finality": "finalized", "account": raw_address_v3(probe)}
    assert state["hash"] == answer.json()["transactions"][0]["account_state_after"]["hash"]
    assert (state["balance"], state["account_status"]) == (str(chain.balance(probe)), "active")


async def test_a_query_opens_the_same_stream(url: str, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    asked = {"types": "transactions", "addresses": f"{raw_address(probe)},{'0:' + '22' * 32}"}
    async with httpx.AsyncClient(timeout=60) as client, client.stream("GET", url + SSE_PATH, params=asked) as response:
        listener = Listener(response)
        await listener.event()
        chain.submit_internal(probe, TON, body(COUNT))
        chain.mine()
        assert (await listener.event())["transactions"][0]["account"] == raw_address_v3(probe)


async def test_a_public_client_hears_what_happens(url: str, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    heard: asyncio.Queue[TransactionsNotification] = asyncio.Queue()
    client = ToncenterSSE(api_key="any", network=Network.TESTNET, base_url=url)
    client.on_transactions(heard.put, min_finality=Finality.CONFIRMED)
    task = asyncio.create_task(client.start(addresses=[friendly_address(probe)]))
    await client.wait_subscribed(PATIENCE_S)
    chain.submit_internal(probe, TON, body(COUNT))
    chain.mine()
    first = await asyncio.wait_for(heard.get(), PATIENCE_S)
    second = await asyncio.wait_for(heard.get(), PATIENCE_S)
    await client.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert first.is_confirmed
    assert second.is_finalized
    assert first.transactions[0]["lt"] == str(chain.account(probe).last_lt)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "types are required"),
        ({"types": ["transactions"]}, "addresses are required"),
        ({"types": ["blocks"], "addresses": ["0:" + "11" * 32]}, "invalid event type: blocks"),
        ({"types": ["actions"], "addresses": ["0:" + "11" * 32]}, "no events of type actions"),
        ({"types": ["transactions"], "addresses": ["nonsense"]}, "invalid address: nonsense"),
        ({"types": "transactions", "addresses": ["0:" + "11" * 32]}, "types must be a list"),
        ({"types": ["transactions"], "addresses": [7]}, "addresses must be a list"),
        ({"types": ["transactions"], "addresses": ["0:" + "11" * 32], "min_finality": "soon"}, "min_finality must be"),
        ({"types": ["transactions"], "addresses": ["0:" + "11" * 32] * 1_001}, "too many addresses: 1001"),
    ],
)
async def test_a_wrong_subscription_is_refused_in_the_servers_words(url: str, asked: dict[str, Any], said: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.post(SSE_PATH, json=asked)
    assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert said in answer.json()["error"]


async def test_other_paths_and_verbs_are_refused(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.get("/api/streaming/v2/ws")).json() == {"error": "Not Found"}
        assert (await client.put(SSE_PATH)).status_code == 405
        assert (await client.post(SSE_PATH, content=b"{")).json() == {"error": "The body must be a JSON object."}


async def test_there_are_not_more_streams_than_allowed(localnet: Localnet, url: str, chain: LocalChain) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(stream.MAX_CLIENTS):
            await stack.enter_async_context(listening(url, "0:" + "11" * 32))
        async with httpx.AsyncClient(timeout=60) as client:
            asked = {"types": ["transactions"], "addresses": ["0:" + "11" * 32]}
            answer = await client.post(url + SSE_PATH, json=asked)
        assert (answer.status_code, localnet.streams.count) == (429, stream.MAX_CLIENTS)
        assert "connection limit reached" in answer.json()["error"]


async def test_each_event_is_one_piece_of_the_body(localnet: Localnet, chain: LocalChain, probe_code: bytes) -> None:
    """Who stands between us and the client may lose, double or exchange pieces: then it does so to whole events."""
    probe = deploy_probe(chain, probe_code)
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asked = json.dumps({"types": ["transactions"], "addresses": [raw_address(probe)], "min_finality": "confirmed"})
    requests = iter([{"type": "http.request", "body": asked.encode()}])

    async def receive() -> dict[str, Any]:
        event = next(requests, None)
        if event is None:
            await asyncio.Event().wait()
        return event or {}

    scope = {"type": "http", "method": "POST", "path": SSE_PATH, "query_string": b""}
    task = asyncio.create_task(localnet.app(scope, receive, sent.put))
    messages = [await asyncio.wait_for(sent.get(), PATIENCE_S) for _ in range(2)]
    chain.submit_internal(probe, TON, body(COUNT))
    chain.mine()
    messages += [await asyncio.wait_for(sent.get(), PATIENCE_S) for _ in range(2)]
    await localnet.streams.close()
    messages.append(await asyncio.wait_for(sent.get(), PATIENCE_S))
    await task
    assert [message["type"] for message in messages] == ["http.response.start"] + 4 * ["http.response.body"]
    assert [message["more_body"] for message in messages[1:]] == [True, True, True, False]
    for message in messages[1:4]:
        assert message["body"].startswith(b"event: ")
        assert message["body"].endswith(b"\n\n")
        assert message["body"].count(b"\n\n") == 1


@contextlib.asynccontextmanager
async def serving_streams(chain: LocalChain, **how: Any) -> AsyncIterator[tuple[str, Streams]]:
    """Streams made in another way than the server makes them."""
    localnet = Localnet(chain)
    localnet.streams = streams = Streams(chain, **how)
    localnet.app = JsonApp({PREFIX: Route(streams.handle, refuse_plainly)})
    async with running(localnet) as url:
        yield url, streams


async def test_a_silent_stream_says_that_it_lives(chain: LocalChain) -> None:
    async with serving_streams(chain, keepalive_s=0.01) as (url, _), listening(url, "0:" + "11" * 32) as listener:
        assert [await listener.line() for _ in range(3)] == 3 * [": keepalive"]


async def open_and_never_read(url: str, address: str) -> socket.socket:
    """A client that asks for a stream and reads nothing of it."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    query = f"types=transactions&addresses={address}&min_finality=confirmed"
    await loop.sock_sendall(client, f"GET {SSE_PATH}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


async def read_rest(client: socket.socket) -> bytes:
    """What still comes, to the end of the connection."""
    content = b""
    with client:
        async with asyncio.timeout(PATIENCE_S):
            while part := await asyncio.get_running_loop().sock_recv(client, 65_536):
                content = (content + part)[-65_536:]
    return content


async def mine_until(chain: LocalChain, probe: Any, reached: Any) -> None:
    async with asyncio.timeout(60):
        while not reached():
            chain.submit_internal(probe, TON, body(COUNT))
            chain.mine()
            await asyncio.sleep(0)


async def test_a_client_that_does_not_read_is_cut_off_and_the_others_hear_all(
    chain: LocalChain, probe_code: bytes
) -> None:
    probe = deploy_probe(chain, probe_code)
    async with serving_streams(chain, max_waiting=8) as (url, streams):
        stuck = await open_and_never_read(url, raw_address(probe))
        async with listening(url, raw_address(probe)) as listener:
            async with asyncio.timeout(PATIENCE_S):
                while streams.count < 2:
                    await asyncio.sleep(0.01)
            heard: list[int] = []

            async def hear() -> None:
                while (event := await listener.event()) is not None:
                    heard.append(int(event["transactions"][0]["lt"]))

            hearing = asyncio.create_task(hear())
            before = chain.account(probe).last_lt
            await mine_until(chain, probe, lambda: streams.count < 2)
            await mine_until(chain, probe, lambda: heard and heard[-1] > before)
            newest = chain.account(probe).last_lt
            async with asyncio.timeout(PATIENCE_S):
                while heard[-1] < newest:
                    await asyncio.sleep(0.01)
            hearing.cancel()
        made = [one.lt for one in chain.transactions(probe, after_lt=before, limit=100_000)]
        assert heard == made[::-1]
        assert not (await read_rest(stuck)).endswith(b"0\r\n\r\n"), "the answer looks as if it were whole"


async def test_a_client_that_went_away_is_forgotten(localnet: Localnet, url: str) -> None:
    async with listening(url, "0:" + "11" * 32):
        assert localnet.streams.count == 1
    async with asyncio.timeout(PATIENCE_S):
        while localnet.streams.count:
            await asyncio.sleep(0.01)


async def test_the_server_ends_with_open_streams_and_tells_who_reads(localnet: Localnet, chain: LocalChain) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(PATIENCE_S), running(localnet) as url:
            listener = await stack.enter_async_context(listening(url, "0:" + "11" * 32))
        assert await listener.event() is None  # the end, not an error
        assert localnet.streams.count == 0


async def test_the_server_ends_with_a_client_that_does_not_read(chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    async with asyncio.timeout(60), serving_streams(chain, max_waiting=100_000) as (url, streams):
        stuck = await open_and_never_read(url, raw_address(probe))
        for _ in range(800):
            chain.submit_internal(probe, TON, body(COUNT))
            chain.mine()
            await asyncio.sleep(0)
        assert streams.count == 1
    assert streams.count == 0
    stuck.close()
