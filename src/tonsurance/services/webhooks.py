"""Tells a webhook what happened to alerts: at least once each, in order for each alert, signed.

What is to be told stands in the database before anything is sent, and is marked as sent after the receiver took it. Who
dies in between leaves it to be sent again, with the same delivery id and the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

import httpx
import msgspec

from tonsurance import log, metrics
from tonsurance.core.errors import UsageError
from tonsurance.db import webhooks
from tonsurance.db.pool import acquire
from tonsurance.db.webhooks import Delivery
from tonsurance.services.lazy_pool import LazyPool

SIGNATURE = "X-Tonsurance-Signature"
DELIVERY = "X-Tonsurance-Delivery"

MOST_PER_PASS = 100
FORGET_AFTER_DAYS = 30

logger = log.get("webhooks")


class WebhookTarget(msgspec.Struct, frozen=True):
    """Where to. Both may be secrets: a chat's address lets everybody write there."""

    url: str
    secret: str | None = None

    @property
    def host(self) -> str:
        """The part of the address that may be shown."""
        return urlsplit(self.url).hostname or ""


class WebhookPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Patience. After a failed attempt the pause is `first_delay_s`, doubled each time up to `longest_delay_s`; after
    `most_attempts` the message is dead. With the defaults that is about an hour."""

    timeout_s: float = 10.0
    most_attempts: int = 20
    first_delay_s: float = 1.0
    longest_delay_s: float = 300.0

    @property
    def lease_s(self) -> float:
        """How long a claimed message is hidden from others: longer than any attempt takes."""
        return 3 * self.timeout_s

    def delay_s(self, attempts: int) -> float:
        """The pause after this many failed attempts."""
        return min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(attempts - 1, 32))


def check_webhook_url(url: str) -> str:
    """The address itself. Raises UsageError, which does not repeat it, unless it is https, or http to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if host and not parts.username and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        return url
    raise UsageError(
        "ALERT_WEBHOOK_URL must be an https address without a login; http only to this machine.",
        advice="It looks like https://hooks.example.org/services/T000/B000.",
    )


def make_target(url: str | None, secret: str | None) -> WebhookTarget | None:
    """The target of these settings; None without an address. Raises UsageError."""
    return None if url is None else WebhookTarget(check_webhook_url(url), secret)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sign_body(secret: str, body: bytes) -> str:
    """What the receiver compares: HMAC-SHA256 over the raw body."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class _Failed(Exception):
    """The receiver did not take it; the text says why and holds no address. `retry_after_s` is what it asked for."""

    def __init__(self, reason: str, outcome: str, retry_after_s: float = 0.0) -> None:
        self.outcome = outcome
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class WebhookSender:
    """Sends what the outbox holds to one address."""

    def __init__(self, pool: LazyPool, target: WebhookTarget, policy: WebhookPolicy | None = None) -> None:
        check_webhook_url(target.url)
        self._pool = pool
        self._target = target
        self._policy = policy or WebhookPolicy()
        self._http = httpx.AsyncClient(
            timeout=self._policy.timeout_s,
            follow_redirects=False,
            trust_env=not _is_loopback(target.host),
            headers={"User-Agent": "tonsurance", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        """Close the connections to the receiver."""
        await self._http.aclose()

    async def deliver_due(self) -> int:
        """Send everything that is due, one after the other; how many were taken. Raises DatabaseUnavailable."""
        taken = 0
        for _ in range(MOST_PER_PASS):
            async with acquire(await self._pool.open()) as conn:
                delivery = await webhooks.claim_delivery(conn, self._policy.lease_s)
            if delivery is None:
                break
            taken += await self._deliver(delivery)
        return taken

    async def forget_done(self) -> int:
        """Delete what ended long ago."""
        async with acquire(await self._pool.open()) as conn:
            return await webhooks.forget_done(conn, FORGET_AFTER_DAYS)

    async def _deliver(self, delivery: Delivery) -> bool:
        try:
            await self._send(delivery)
        except _Failed as failure:
            metrics.WEBHOOK_ATTEMPTS.labels(failure.outcome).inc()
            await self._put_off(delivery, failure)
            return False
        metrics.WEBHOOK_ATTEMPTS.labels("sent").inc()
        async with acquire(await self._pool.open()) as conn:
            await webhooks.finish_delivery(conn, delivery, "sent", None)
        return True

    async def _send(self, delivery: Delivery) -> None:
        body = delivery.payload.encode()
        headers = {DELIVERY: str(delivery.delivery_id)}
        if self._target.secret is not None:
            headers[SIGNATURE] = sign_body(self._target.secret, body)
        try:
            async with (
                asyncio.timeout(self._policy.timeout_s),
                self._http.stream("POST", self._target.url, content=body, headers=headers) as answer,
            ):
                _judge(answer)  # its body is not read: nothing in it matters, and it may have no end
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _Failed("It did not answer in time.", "timeout") from error
        except httpx.HTTPError as error:
            raise _Failed(f"It cannot be reached ({type(error).__name__}).", "unreachable") from error

    async def _put_off(self, delivery: Delivery, failure: _Failed) -> None:
        reason = str(failure)
        dead = delivery.attempts >= self._policy.most_attempts
        delay = max(self._policy.delay_s(delivery.attempts), min(failure.retry_after_s, self._policy.longest_delay_s))
        async with acquire(await self._pool.open()) as conn:
            if dead:
                await webhooks.finish_delivery(conn, delivery, "dead", reason)
            else:
                await webhooks.defer_delivery(conn, delivery, delay, reason)
        say = logger.error if dead else logger.warning
        say(
            "webhook given up" if dead else "webhook failed",
            host=self._target.host,
            delivery_id=delivery.delivery_id,
            attempts=delivery.attempts,
            reason=reason,
        )


def _judge(answer: httpx.Response) -> None:
    """Raises _Failed unless the receiver took it. A redirect is not followed: it would take our words elsewhere."""
    if answer.is_success:
        return
    if answer.is_redirect or answer.has_redirect_location:
        raise _Failed(f"It redirects ({answer.status_code}), which is not followed.", "redirect")
    asked = answer.headers.get("Retry-After", "")
    retry_after = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0.0
    raise _Failed(f"It answered with status {answer.status_code}.", f"{answer.status_code // 100}xx", retry_after)
