"""The API with faults between it and the client: an ASGI application around the real one.

Only the routes of the API are struck, never those that control the chain. A request is struck as a whole before it is
answered; each event of a stream for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec

from tonsurance.localnet.calls import Call, read_call
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.cutting import cut_after_sending, cut_now
from tonsurance.localnet.event_sender import EventSender
from tonsurance.localnet.fault_kinds import (
    HANG_S,
    LAG_BLOCKS,
    PRUNED_KEEPS_BLOCKS,
    REFUSALS,
    REQUEST_KINDS,
    SLOW_S,
    VIEWS,
)
from tonsurance.localnet.faults import ActiveFault, Faults
from tonsurance.localnet.http import Receive, Send
from tonsurance.localnet.lies import Liar
from tonsurance.localnet.refusals import send_refusal
from tonsurance.localnet.speculation import Sights

STREAM_PREFIX = "/api/streaming/"
PREFIXES = ("/api/v2/", "/api/v3/", STREAM_PREFIX)
_SEEN_UNPINNED = (
    "getAddressInformation", "getAddressBalance", "getAddressState", "getTransactions", "runGetMethod", "transactions",
)  # fmt: skip
"""What shows an unfinished block when no block is named. getMasterchainInfo names finished ones only."""
_WRITES = ("sendBoc", "sendBocReturnHash", "message")

AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Message = dict[str, Any]
Struck = dict[str, ActiveFault]


class FaultyApp:
    """Answers as `app` does, but for the faults that are on. `serve` makes an app for another sight of the chain."""

    def __init__(self, app: AsgiApp, faults: Faults, chain: LocalChain, serve: Callable[[LocalChain], AsgiApp]) -> None:
        self._app = app
        self._faults = faults
        self._sights = Sights(chain)
        self._liar = Liar(chain)
        self._serve = serve

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            await self._app(scope, receive, send)
            return
        struck = self._faults.draw(*REQUEST_KINDS)
        if await self._withhold(scope, receive, send, struck):
            return
        if scope["path"].startswith(STREAM_PREFIX):
            await self._app(scope, receive, EventSender(send, self._faults, lambda: cut_after_sending(scope)))
        elif not struck:
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, await read_call(scope, receive), send, struck)

    async def _withhold(self, scope: dict[str, Any], receive: Receive, send: Send, struck: Struck) -> bool:
        """What comes instead of the answer, if anything does."""
        if slow := struck.get("slow"):
            self._faults.note(slow)
            await asyncio.sleep(slow.dice.uniform(*SLOW_S))
        if hang := struck.get("hang"):
            self._faults.note(hang)
            await _wait_until_gone(receive)
            await _cut(cut_now, scope, receive)
            return True
        if (drop := struck.get("drop")) and drop.dice.random() < 0.5:
            self._faults.note(drop)
            await _cut(cut_now, scope, receive)
            return True
        for name in REFUSALS:
            if name in struck:
                self._faults.note(struck[name])
                await send_refusal(name, struck[name].dice, send)
                return True
        return False

    async def _answer(self, scope: dict[str, Any], call: Call, send: Send, struck: Struck) -> None:
        app = self._choose_app(call, struck)
        if not {"lying", "truncated", "drop"} & struck.keys():
            await app(scope, call.receive, send)
            return
        start, body = await _collect_answer(app, scope, call.receive)
        if lying := struck.get("lying"):
            body = self._lie(body, call, lying)
        if (truncated := struck.get("truncated")) and len(body) > 1:
            self._faults.note(truncated)
            body = body[: truncated.dice.randrange(1, len(body))]
        await send({**start, "headers": _headers_for(body)})
        if (drop := struck.get("drop")) and len(body) > 1:
            self._faults.note(drop)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            await _cut(cut_after_sending, scope, call.receive)
            return
        await send({"type": "http.response.body", "body": body})

    def _choose_app(self, call: Call, struck: Struck) -> AsgiApp:
        """The real one, or that of a server which sees another part of the chain."""
        if call.method in _WRITES:
            return self._app
        for name in VIEWS:
            fault = struck.get(name)
            sight = self._look(name, call, fault) if fault is not None else None
            if fault is not None and sight is not None:
                self._faults.note(fault)
                return self._serve(sight)
        return self._app

    def _look(self, name: str, call: Call, fault: ActiveFault) -> LocalChain | None:
        if name == "pruned":
            return self._sights.pruned(PRUNED_KEEPS_BLOCKS)
        if name == "lagging":
            return self._sights.behind(Random(fault.fault.seed).randint(*LAG_BLOCKS))
        return self._sights.drafted() if call.seqno is None and call.method in _SEEN_UNPINNED else None

    def _lie(self, body: bytes, call: Call, fault: ActiveFault) -> bytes:
        try:
            content = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return body
        if not self._liar.lie(content, fault.dice, pinned=call.seqno is not None):
            return body
        self._faults.note(fault)
        return msgspec.json.encode(content)


async def _collect_answer(app: AsgiApp, scope: dict[str, Any], receive: Receive) -> tuple[Message, bytes]:
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    start, *bodies = messages
    return start, b"".join(message.get("body", b"") for message in bodies)


def _headers_for(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]


async def _cut(cut: Callable[[dict[str, Any]], None], scope: dict[str, Any], receive: Receive) -> None:
    """The server must see it before we return, or it would answer for us."""
    cut(scope)
    await _wait_until_gone(receive)


async def _wait_until_gone(receive: Receive) -> None:
    """Until the client gives up, but not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANG_S):
            while (await receive())["type"] != "http.disconnect":
                pass
