"""The outermost layer of every HTTP answer: request id, size limit, security headers, metrics."""

from __future__ import annotations

import secrets
import time
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tonsurance import metrics
from tonsurance.api.errors import PROBLEM_JSON, encode_problem

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


def allow_origin_of(url: str | None) -> tuple[tuple[bytes, bytes], ...]:
    """The security headers; with an address, pages of ours may talk to its origin too, and to no other."""
    if url is None:
        return SECURITY_HEADERS
    parts = urlsplit(url)
    connect = f"connect-src 'self' {parts.scheme}://{parts.netloc};".encode()
    return tuple((name, value.replace(b"connect-src 'self';", connect)) for name, value in SECURITY_HEADERS)


class Edge:
    """ASGI layer around the whole application, so that answers to unknown paths pass through it too."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, wallet_url: str | None = None) -> None:
        self._app = app
        self._security_headers = allow_origin_of(wallet_url)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; WebSockets pass through untouched."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        await self._handle(dict(scope), receive, send)  # type: ignore[arg-type]

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        method = scope["method"]  # type: ignore[typeddict-item]
        request_id = secrets.token_hex(8)
        scope["request_id"] = request_id  # type: ignore[typeddict-unknown-key]
        if method == "HEAD":
            scope["method"] = "GET"  # type: ignore[typeddict-unknown-key]  # the server leaves the body out itself
        status, streams = 500, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
                message["headers"] = [
                    *message["headers"],
                    *self._security_headers,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            if self._declared_length(scope) > self._max_body_bytes:
                await self._refuse_body(send_with_headers, request_id)
            else:
                await self._app(scope, receive, send_with_headers)
        finally:
            route = str(scope.get("path_template") or "unmatched")
            metrics.HTTP_REQUESTS.labels(_known_method(method), route, str(status)).inc()
            if not streams:  # a stream lasts as long as its reader wants
                metrics.HTTP_SECONDS.labels(route).observe(time.perf_counter() - started)

    @staticmethod
    def _declared_length(scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length":
                return int(value) if value.isdigit() else 0
        return 0

    async def _refuse_body(self, send: Send, request_id: str) -> None:
        body = encode_problem(
            413, "body_too_large", f"The body may have at most {self._max_body_bytes} bytes.", request_id=request_id
        )
        headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _known_method(method: str) -> str:
    """Bounded label values, whatever a client calls its method."""
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "other"
