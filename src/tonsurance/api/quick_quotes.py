"""A short way for the busiest request, POST of a quote: the framework's routing and injection cost more than a quote.

The route of api/quotes.py stays: it documents the request, and answers what does not come in one piece or comes from a
page of another origin. Both ways end in the same functions, so that nobody can tell which one answered.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from tonsurance.api.bodies import read_body
from tonsurance.api.quote_wire import QuoteBody
from tonsurance.api.quotes import MAX_BODY_BYTES, QUOTE_PATH, answer_quote, answer_quote_crash, answer_quote_error
from tonsurance.core.errors import TonsuranceError
from tonsurance.services.quotes import QuoteDesk

_NO_STORE = (b"cache-control", b"no-store")
_JSON = (b"content-type", b"application/json")


class QuickQuotes:
    """ASGI layer around the application."""

    def __init__(self, app: ASGIApp, desk: QuoteDesk) -> None:
        self._app = app
        self._desk = desk
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a quote's request; pass everything else on."""
        if not _is_plain_quote(scope):
            await self._app(scope, receive, send)
            return
        first: Any = await receive()
        body = _whole_body(first)
        if body is None:
            await self._app(scope, _again(first, receive), send)
            return
        scope["path_template"] = QUOTE_PATH  # what the metrics call the route
        await self._answer(Request(scope), body, send)

    async def _answer(self, request: Request[Any, Any, Any], body: bytes, send: Send) -> None:
        try:
            asked = read_body(body, QuoteBody)
            content = self._encoder.encode(await answer_quote(self._desk, asked))
        except TonsuranceError as error:
            await _send_response(send, answer_quote_error(request, error))
        except Exception as error:  # noqa: BLE001 - the outermost edge of this way, as the framework's handler of its own
            await _send_response(send, answer_quote_crash(request, error))
        else:
            await _send(send, HTTPStatus.OK, [_JSON, _NO_STORE], content)


def _is_plain_quote(scope: Scope) -> bool:
    """Whether it is a quote's request, with nothing about it that is the framework's business."""
    if scope["type"] != ScopeType.HTTP or scope["path"] != QUOTE_PATH or scope["method"] != "POST":
        return False
    return not any(name == b"origin" for name, _ in scope["headers"])


def _whole_body(first: Any) -> bytes | None:
    """The body, when it came in one piece and is not too long."""
    if first["type"] != "http.request" or first.get("more_body") or len(first.get("body", b"")) > MAX_BODY_BYTES:
        return None
    body: bytes = first.get("body", b"")
    return body


def _again(first: Any, receive: Receive) -> Receive:
    """What was received already, and then the rest."""
    waiting = [first]

    async def receive_again() -> Any:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def _send_response(send: Send, response: Response[bytes]) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
    kind = (b"content-type", str(response.media_type).encode())
    await _send(send, response.status_code or 500, [kind, *headers], response.content)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content, "more_body": False})
