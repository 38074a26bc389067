"""The WebSocket: one task reads the client's frames, one writes its mailbox, and neither waits for the other."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections import Counter
from collections.abc import Iterable

from litestar import asgi
from litestar.enums import ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.types import Message, Receive, Scope, Send

from tonsurance import log, metrics
from tonsurance.api.errors import PROBLEM_JSON, encode_problem
from tonsurance.api.frames import ACTIONS, PROTOCOL, BadFrame, ClientFrame, read_frame, say
from tonsurance.api.settings import ApiSettings
from tonsurance.services.hub import Client, Close, Hub

logger = log.get("ws")

CLOSE_TIMEOUT_S = 5.0
"""A client that takes nothing cannot be told why it is closed for longer than this."""

FLOOD_STRIKES = 30
"""Frames over the rate limit that are answered with an error before the connection is closed."""


def network_of(host: str) -> str:
    """What counts as one address: the IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Admission:
    """Counts open connections, in all and per address."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Take one more connection in; False when there are too many."""
        if self._by_address.total() >= self._settings.ws_connections:
            return False
        if self._by_address[address] >= self._settings.ws_connections_per_address:
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One connection ended."""
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]


class MessageBudget:
    """How many frames a client may still send: a minute's worth at once, refilled evenly."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_second = per_minute / 60.0
        self._size = float(per_minute)
        self._left = self._size
        self._at = now

    def spend(self, now: float) -> bool:
        """Use one; False when none is left."""
        self._left = min(self._size, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Conversation:
    """What one connection says and is answered. Every answer goes through the client's mailbox."""

    def __init__(self, hub: Hub, client: Client, settings: ApiSettings) -> None:
        self._hub = hub
        self._client = client
        self._settings = settings
        self._budget = MessageBudget(settings.ws_messages_per_minute, time.monotonic())
        self._strikes = 0

    def welcome(self) -> None:
        """Say who the client is and what there is to hear."""
        self._put(
            say(
                "welcome",
                client_id=self._client.client_id,
                available_channels=self._hub.channels,
                protocol=PROTOCOL,
                epoch=self._hub.epoch,
            )
        )

    def hear(self, text: str | None) -> None:
        """Answer one frame; whatever is wrong with it is answered as an error and the connection stays."""
        if not self._budget.spend(time.monotonic()):
            self._refuse_flood()
            return
        try:
            self._obey(read_frame(text, max_bytes=self._settings.ws_frame_bytes))
        except BadFrame as error:
            self._complain(error.code, error.message)

    def _obey(self, frame: ClientFrame) -> None:
        match frame.action:
            case "ping":
                self._put(say("pong"))
            case "subscribe" | "unsubscribe" if frame.channel not in self._hub.channels:
                self._complain("unknown_channel", "Unknown channel.", valid_channels=self._hub.channels)
            case "subscribe":
                self._subscribe(str(frame.channel), frame)
            case "unsubscribe":
                self._hub.unsubscribe(self._client, str(frame.channel))
                self._put(say("unsubscribed", channel=frame.channel))
            case _:
                self._complain("unknown_action", "Unknown action.", valid_actions=ACTIONS)

    def _subscribe(self, name: str, frame: ClientFrame) -> None:
        """No await between catching up and subscribing: nothing can be published in between."""
        since = frame.position
        recovered, messages = self._hub.catch_up(name, since)
        self._hub.subscribe(self._client, name)
        self._put(
            say("subscribed", channel=name, epoch=self._hub.epoch, recovered=None if since is None else recovered)
        )
        for message in messages:
            self._put(message)

    def _complain(self, code: str, message: str, **fields: object) -> None:
        metrics.WS_FRAMES_REFUSED.labels(code).inc()
        self._put(say("error", code=code, message=message, **fields))

    def _refuse_flood(self) -> None:
        self._strikes += 1
        if self._strikes > FLOOD_STRIKES:
            self._client.kick(Close.POLICY, "too many messages")
            return
        limit = self._settings.ws_messages_per_minute
        self._complain("rate_limited", f"At most {limit} messages per minute.")

    def _put(self, text: str) -> None:
        if not self._client.put(text):
            self._hub.leave(self._client)


class Sockets:
    """Serves `/ws`."""

    def __init__(self, hub: Hub, settings: ApiSettings) -> None:
        self._hub = hub
        self._settings = settings
        self._admission = Admission(settings)

    def route(self) -> ASGIRouteHandler:
        """The route for the application."""

        @asgi("/ws", copy_scope=False)
        async def serve_ws(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP:
                await _answer_http(scope, send)
            else:
                await self._admit(scope, receive, send)

        return serve_ws

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        client = scope.get("client")
        address = network_of(client[0]) if client else "unknown"
        if not self._admission.enter(address):
            await _reject(scope, send)
            return
        try:
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await self._converse(receive, send)
        except OSError:
            logger.debug("client went away")
        finally:
            self._admission.leave(address)

    async def _converse(self, receive: Receive, send: Send) -> None:
        client = Client(f"client_{secrets.token_hex(4)}_{int(time.time())}")
        conversation = Conversation(self._hub, client, self._settings)
        self._hub.join(client)
        conversation.welcome()
        tasks = (
            asyncio.create_task(_read(receive, conversation), name=f"{client.client_id} reader"),
            asyncio.create_task(_write(client, send), name=f"{client.client_id} writer"),
            asyncio.create_task(client.kicked.wait(), name=f"{client.client_id} kick"),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.leave(client)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        if client.kicked.is_set():
            await _close(send, client)
        _raise_bugs(results)


async def _read(receive: Receive, conversation: Conversation) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        conversation.hear(text if isinstance(text, str) else None)
        await asyncio.sleep(0)  # the answers' turn: a burst of frames must not fill the mailbox


async def _write(client: Client, send: Send) -> None:
    while True:
        text = await client.queue.get()
        await send({"type": "websocket.send", "text": text, "bytes": None})
        client.queue.task_done()


async def _close(send: Send, client: Client) -> None:
    """Say why, if the client takes it in time; else the kernel ends the connection (TCP_USER_TIMEOUT)."""
    logger.info("client disconnected", client_id=client.client_id, code=int(client.close_code), why=client.close_reason)
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await send({"type": "websocket.close", "code": int(client.close_code), "reason": client.close_reason})
    except TimeoutError:
        logger.info("client does not take the close frame", client_id=client.client_id)


def _raise_bugs(results: Iterable[object]) -> None:
    """A connection that broke is everyday; any other exception of its tasks is a fault of ours."""
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result


async def _reject(scope: Scope, send: Send) -> None:
    """Refuse before the handshake, as an HTTP answer where the server can."""
    metrics.WS_FRAMES_REFUSED.labels("too_many_connections").inc()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": int(Close.POLICY), "reason": "too many connections"})
        return
    body = encode_problem(429, "too_many_connections", "Too many connections from this address.")
    start: Message = {
        "type": "websocket.http.response.start",
        "status": 429,
        "headers": [(b"content-type", PROBLEM_JSON.encode()), (b"retry-after", b"10")],
    }
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


async def _answer_http(scope: Scope, send: Send) -> None:
    body = encode_problem(426, "upgrade_required", "This address speaks WebSocket.")
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"upgrade", b"websocket"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
