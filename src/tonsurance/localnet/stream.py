"""TonCenter's streaming API v2 by server-sent events: word of each transaction of the accounts a client asked for.

As with the public server nothing is sent again: what a client misses, it misses. A client that does not read is cut
off. The local chain's blocks are final when they are made: `confirmed` and `finalized` come one right after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import msgspec

from tonsurance import log
from tonsurance.core.errors import InvalidAddress
from tonsurance.localnet.blocks import Block, account_key
from tonsurance.localnet.cells import address_from
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.http import Answer, ApiError, Request, Stream
from tonsurance.localnet.render import b64
from tonsurance.localnet.render_v3 import TransactionRenderer, raw_address_v3, render_account_state
from tonsurance.localnet.store import StoredTransaction
from tonsurance.localnet.v3 import account_address

PREFIX = "/api/streaming/"
SSE_PATH = "/api/streaming/v2/sse"
KEEPALIVE_S = 5.0
CLOSE_S = 0.5
MAX_CLIENTS = 64
MAX_ADDRESSES = 1_000
MAX_WAITING = 64
"""Events that wait for one client; one more and it is cut off."""
_KINDS = ("transactions", "account_state_change")
_KNOWN_KINDS = (*_KINDS, "actions", "trace", "jettons_change")
_FINALITIES = ("pending", "confirmed", "finalized")
_SENT_FINALITIES = ("confirmed", "finalized")
_KEEPALIVE = b": keepalive\n\n"
_log = log.get("localnet.stream")


class Subscription(msgspec.Struct, frozen=True):
    """What a client wants to hear: kinds of events, accounts as they are stored, and from which finality on."""

    kinds: frozenset[str]
    accounts: frozenset[bytes]
    finality: str


class _Client:
    """One open stream: what waits for it, and the ways it ends."""

    def __init__(self, subscription: Subscription, max_waiting: int) -> None:
        self.subscription = subscription
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue(max_waiting + 1)  # one more for the end
        self.cut = asyncio.Event()

    def offer(self, event: bytes) -> bool:
        """False when too much waits already."""
        if self.waiting.qsize() >= self.waiting.maxsize - 1:
            return False
        self.waiting.put_nowait(event)
        return True

    def end(self) -> None:
        """End the stream after what waits."""
        if not self.waiting.full():
            self.waiting.put_nowait(None)


class Streams:
    """The open streams of one chain."""

    def __init__(self, chain: LocalChain, *, keepalive_s: float = KEEPALIVE_S, max_waiting: int = MAX_WAITING) -> None:
        self._chain = chain
        self._renderer = TransactionRenderer(chain)
        self._keepalive_s = keepalive_s
        self._max_waiting = max_waiting
        self._clients: set[_Client] = set()
        self._empty = asyncio.Event()
        """Set when the last stream ended; only waited for when no new ones are opened."""
        self._closed = False
        chain.on_block.append(self.announce)

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    async def handle(self, request: Request) -> Answer | Stream:
        """Open a stream; refusals are ApiErrors."""
        if request.path != SSE_PATH:
            raise ApiError(404, "Not Found")
        if request.method not in ("GET", "POST"):
            raise ApiError(405, "Method Not Allowed")
        subscription = read_subscription(request)
        if self._closed:
            raise ApiError(503, "the server is stopping")
        if len(self._clients) >= MAX_CLIENTS:
            raise ApiError(429, f"connection limit reached: {MAX_CLIENTS} active connections")
        client = _Client(subscription, self._max_waiting)
        return Stream("text/event-stream", self._send_events(client), client.cut)

    async def _send_events(self, client: _Client) -> AsyncGenerator[bytes, None]:
        self._clients.add(client)
        try:
            yield _frame("connected", {"status": "subscribed"})
            while True:
                try:
                    async with asyncio.timeout(self._keepalive_s):
                        event = await client.waiting.get()
                except TimeoutError:
                    event = _KEEPALIVE
                if event is None:
                    return
                yield event
        finally:
            self._clients.discard(client)
            if not self._clients:
                self._empty.set()

    def announce(self, block: Block) -> None:
        """Tell every client what it asked for of this block. Never waits."""
        if not block.transactions:
            return
        for client in list(self._clients):
            events = [_frame("event", event) for event in self._make_events(client.subscription, block)]
            if not all(client.offer(event) for event in events):
                _log.warning("slow_client_cut_off", waiting=client.waiting.qsize())
                self._cut_off(client)

    async def close(self) -> None:
        """End every stream after what waits for it; those of clients that do not read now are cut off."""
        self._closed = True
        self._empty.clear()
        for client in self._clients:
            client.end()
        if not self._clients:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._empty.wait()
        self.break_all()

    def break_all(self) -> None:
        """Cut every open stream in the middle, as a network does that fails."""
        for client in list(self._clients):
            self._cut_off(client)

    def _cut_off(self, client: _Client) -> None:
        self._clients.discard(client)
        client.cut.set()

    def _make_events(self, wanted: Subscription, block: Block) -> Iterable[dict[str, Any]]:
        made = [stored for stored in block.transactions if stored.account in wanted.accounts]
        for finality in _SENT_FINALITIES:
            if _FINALITIES.index(finality) < _FINALITIES.index(wanted.finality):
                continue
            if "transactions" in wanted.kinds:
                yield from self._make_transaction_events(made, finality)
            if "account_state_change" in wanted.kinds:
                yield from self._make_state_events(made, block.seqno, finality)

    def _make_transaction_events(self, made: list[StoredTransaction], finality: str) -> Iterable[dict[str, Any]]:
        """One event for each trace, its transactions newest first."""
        traces: dict[bytes, list[dict[str, Any]]] = {}
        for stored in sorted(made, key=lambda one: -one.lt):
            shown, trace = self._renderer.render_with_trace(account_address(stored.account), stored)
            traces.setdefault(trace.normalized_hash, []).append(shown | {"finality": finality})
        for norm, transactions in traces.items():
            yield {
                "type": "transactions",
                "finality": finality,
                "trace_external_hash_norm": b64(norm),
                "transactions": transactions,
            }

    def _make_state_events(self, made: list[StoredTransaction], seqno: int, finality: str) -> Iterable[dict[str, Any]]:
        for stored in made:
            address = account_address(stored.account)
            yield {
                "type": "account_state_change",
                "finality": finality,
                "account": raw_address_v3(address),
                "state": render_account_state(self._chain.account_boc(address, seqno)),
            }


def _frame(name: str, content: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(content))


def read_subscription(request: Request) -> Subscription:
    """What a request asks for: JSON in the body of a POST, or a query. Raises ApiError with status 400."""
    kinds, addresses = _read_texts(request, "types"), _read_texts(request, "addresses")
    if not kinds:
        raise ApiError(400, "types are required for subscription")
    for kind in kinds:
        if kind not in _KNOWN_KINDS:
            raise ApiError(400, f"invalid event type: {kind[:64]}")
        if kind not in _KINDS:
            raise ApiError(400, f"the local chain has no events of type {kind}")
    if not addresses:
        raise ApiError(400, "addresses are required for subscription")
    if len(addresses) > MAX_ADDRESSES:
        raise ApiError(400, f"too many addresses: {len(addresses)} > max {MAX_ADDRESSES}")
    finality = request.parameters.get("min_finality") or "finalized"
    if finality not in _FINALITIES:
        raise ApiError(400, f"min_finality must be one of {', '.join(_FINALITIES)}")
    return Subscription(frozenset(kinds), frozenset(map(_read_account, addresses)), finality)


def _read_account(text: str) -> bytes:
    try:
        return account_key(address_from(text))
    except InvalidAddress as error:
        raise ApiError(400, f"invalid address: {text[:80]}") from error


def _read_texts(request: Request, name: str) -> list[str]:
    if request.pairs:
        return request.texts(name)
    given = request.parameters.get(name) or []
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise ApiError(400, f"invalid subscription request: {name} must be a list of strings")
    return given
