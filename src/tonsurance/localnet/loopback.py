"""Lets pages of this machine, and no others, use some routes from a browser (CORS)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tonsurance.localnet.http import Receive, Send, refuse

_LOOPBACK = re.compile(rb"http://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"content-type"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
)

App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class LoopbackPages:
    """An ASGI layer. Under `prefix` a request of a page from elsewhere is refused before it does anything: a browser
    would carry out a plain POST and only withhold the answer. Requests without an Origin are not from another page.
    """

    def __init__(self, app: App, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http" or not self._covers(scope["path"]):
            await self._app(scope, receive, send)
            return
        origin = dict(scope["headers"]).get(b"origin")
        if origin is not None and not _LOOPBACK.fullmatch(origin):
            await _refuse_origin(send)
            return
        allowed: Headers = [] if origin is None else [(b"access-control-allow-origin", origin)]
        allowed.append((b"vary", b"Origin"))
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [*allowed, *_PREFLIGHT]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_allowed(event: dict[str, Any]) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *allowed]}
            await send(event)

        await self._app(scope, receive, send_allowed)

    def _covers(self, path: str) -> bool:
        return path == self._prefix or path.startswith(f"{self._prefix}/")


async def _refuse_origin(send: Send) -> None:
    answer = refuse(403, "Only pages of this machine may use this.")
    body = msgspec.json.encode(answer.content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
