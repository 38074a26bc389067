"""A stream of events on its way to one client, and what becomes of it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tonsurance.localnet.fault_kinds import STREAM_KINDS
from tonsurance.localnet.faults import Faults
from tonsurance.localnet.http import Send

Message = dict[str, Any]


class EventSender:
    """The way to a client that reads a stream: each chunk of the body is an event, and may be lost, doubled or late."""

    def __init__(self, send: Send, faults: Faults, cut: Callable[[], None]) -> None:
        self._send = send
        self._faults = faults
        self._cut = cut
        self._late: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on, or not."""
        if message["type"] != "http.response.body" or b"data:" not in message.get("body", b""):
            await self._pass(message)
            return
        struck = self._faults.draw("drop", *STREAM_KINDS)
        name, fault = next(iter(struck.items()), ("", None))
        if fault is not None:
            self._faults.note(fault)
        if name == "drop":
            self._cut()
        elif name == "reordered" and self._late is None:
            self._late = message
        elif name != "lost":
            await self._pass(message)
        if name == "duplicated":
            await self._pass(message)

    async def _pass(self, message: Message) -> None:
        """Send it, and after it what was held back."""
        late, self._late = self._late, None
        if late is not None and not message.get("more_body", False):
            await self._send(late)
            late = None
        await self._send(message)
        if late is not None:
            await self._send(late)
