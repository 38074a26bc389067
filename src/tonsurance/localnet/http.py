"""The little HTTP the local chain needs, as one ASGI application.

Why no framework: every answer, those to broken requests included, must have the shape of the server it stands for, and
that is less code than teaching a framework not to answer in its own way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tonsurance import log

MAX_BODY_BYTES = 1024 * 1024
MAX_PARAMETERS = 100

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = log.get("localnet.http")


class Request(msgspec.Struct, frozen=True):
    """A request. Parameters are those of the query, or of the JSON object in the body of a POST."""

    method: str
    path: str
    parameters: dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """Status code and JSON value."""

    status: int
    content: Any


class ApiError(Exception):
    """A request that gets no result: HTTP status and what to say."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


Handler = Callable[[Request], Awaitable[Answer]]


class JsonApp:
    """Routes by the longest prefix of the path; every answer is JSON."""

    def __init__(self, routes: Mapping[str, Handler]) -> None:
        self._routes = sorted(routes.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http":
            raise ValueError(f"This server has no {scope['type']} endpoints.")
        answer = await self._answer(scope, receive)
        body = msgspec.json.encode(answer.content)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer:
        try:
            handler = self._find_handler(scope["path"])
            return await handler(await _read_request(scope, receive))
        except ApiError as error:
            return refuse(error.status, error.message)
        except Exception:  # noqa: BLE001  # the outermost edge: a fault in one answer must not end the chain
            _log.exception("request_failed", path=scope["path"])
            return refuse(500, "LITE_SERVER_UNKNOWN: internal error")

    def _find_handler(self, path: str) -> Handler:
        for prefix, handler in self._routes:
            if path.startswith(prefix):
                return handler
        raise ApiError(404, "Not Found")


def refuse(status: int, message: str) -> Answer:
    """An error as TonCenter words it."""
    return Answer(status, {"ok": False, "error": message, "code": status})


async def _read_request(scope: dict[str, Any], receive: Receive) -> Request:
    method, path = str(scope["method"]), str(scope["path"])
    if method == "POST":
        return Request(method, path, _parse_body(await _read_body(receive)))
    try:
        query = bytes(scope["query_string"]).decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError as error:
        raise ApiError(422, "The query cannot be read.") from error
    return Request(method, path, dict(pairs))


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
