"""The little HTTP the local chain needs, as one ASGI application.

Why no framework: every answer, those to broken requests included, must have the shape of the server it stands for, and
that is less code than teaching a framework not to answer in its own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tonsurance import log
from tonsurance.localnet.cutting import cut_now

MAX_BODY_BYTES = 1024 * 1024
MAX_PARAMETERS = 100

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = log.get("localnet.http")


class Request(msgspec.Struct, frozen=True):
    """A request. Parameters are those of the query, or of the JSON object in the body of a POST.

    In a query a name may come more than once: `pairs` has them all, `parameters` the last.
    """

    method: str
    path: str
    parameters: dict[str, Any]
    pairs: tuple[tuple[str, str], ...] = ()

    def texts(self, name: str) -> list[str]:
        """All that a query says under a name: given again and again, or separated by commas."""
        given = (value for key, value in self.pairs if key == name)
        return [part for value in given for part in value.split(",") if part]


class Answer(msgspec.Struct, frozen=True):
    """Status code and JSON value."""

    status: int
    content: Any


class Stream(msgspec.Struct, frozen=True):
    """An answer that goes on: each chunk is sent as one piece as soon as it comes.

    The end of `chunks` ends the answer. `cut` ends it at once, also while a piece waits for a client that does not
    read. `chunks` is closed whatever happens.
    """

    media_type: str
    chunks: AsyncGenerator[bytes, None]
    cut: asyncio.Event


class ApiError(Exception):
    """A request that gets no result: HTTP status and what to say."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


Handler = Callable[[Request], Awaitable[Answer | Stream]]
Refusal = Callable[[int, str], Answer]


class Route(msgspec.Struct, frozen=True):
    """A handler, and how errors are worded under its prefix."""

    handler: Handler
    refuse: Refusal


class JsonApp:
    """Routes by the longest prefix of the path; every answer is JSON, or a stream."""

    def __init__(self, routes: Mapping[str, Handler | Route]) -> None:
        made = ((prefix, _as_route(route)) for prefix, route in routes.items())
        self._routes = sorted(made, key=lambda item: -len(item[0]))

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http":
            raise ValueError(f"This server has no {scope['type']} endpoints.")
        answer = await self._answer(scope, receive)
        if isinstance(answer, Stream):
            await _send_stream(answer, scope, receive, send)
            return
        body = msgspec.json.encode(answer.content)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer | Stream:
        route = self._find_route(scope["path"])
        if route is None:
            return refuse(404, "Not Found")
        try:
            return await route.handler(await _read_request(scope, receive))
        except ApiError as error:
            return route.refuse(error.status, error.message)
        except Exception:  # noqa: BLE001  # the outermost edge: a fault in one answer must not end the chain
            _log.exception("request_failed", path=scope["path"])
            return route.refuse(500, "LITE_SERVER_UNKNOWN: internal error")

    def _find_route(self, path: str) -> Route | None:
        return next((route for prefix, route in self._routes if path.startswith(prefix)), None)


def _as_route(given: Handler | Route) -> Route:
    return given if isinstance(given, Route) else Route(given, refuse)


def refuse(status: int, message: str) -> Answer:
    """An error as TonCenter's v2 words it."""
    return Answer(status, {"ok": False, "error": message, "code": status})


def refuse_plainly(status: int, message: str) -> Answer:
    """An error as TonCenter's v3 and streaming API word it."""
    return Answer(status, {"error": message})


async def _send_stream(stream: Stream, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send until the chunks end, the client is gone, or the stream is cut."""
    sending = asyncio.ensure_future(_send_chunks(stream, send))
    gone, cut = asyncio.ensure_future(_wait_until_gone(receive)), asyncio.ensure_future(stream.cut.wait())
    try:
        await asyncio.wait([sending, gone, cut], return_when=asyncio.FIRST_COMPLETED)
        if not sending.done() and not gone.done():
            cut_now(scope)
            await gone  # the server must have seen it, or it would miss the rest of the answer
    finally:
        await _end_tasks(sending, gone, cut)
        await stream.chunks.aclose()


async def _end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs; a fault of what does not is logged."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.error("stream_failed", exc_info=outcome)


async def _send_chunks(stream: Stream, send: Send) -> None:
    headers = [(b"content-type", stream.media_type.encode()), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for chunk in stream.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_request(scope: dict[str, Any], receive: Receive) -> Request:
    method, path = str(scope["method"]), str(scope["path"])
    if method == "POST":
        return Request(method, path, _parse_body(await _read_body(receive)))
    try:
        query = bytes(scope["query_string"]).decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError as error:
        raise ApiError(422, "The query cannot be read.") from error
    return Request(method, path, dict(pairs), tuple(pairs))


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ApiError(400, "The request ended early.")
        body += event.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"The body has more than {MAX_BODY_BYTES} bytes.")
        if not event.get("more_body", False):
            return body


def _parse_body(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any]) if body else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(422, "The body must be a JSON object.") from error
