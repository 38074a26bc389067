"""Versions over Redis, beside PostgreSQL's NOTIFY: the same hints for processes that share a Redis. Never the truth.

A Redis that is away, hangs, is full or refuses the password costs nobody anything: publishing drops the hint, and
listening tries again with back-off. What is wrong is said by `degraded`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tonsurance import log, metrics

CHANNEL = "tonsurance:ledger"
TIMEOUT_S = 0.2
"""Longer is a hang: nobody waits for a cache."""

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_HEARTBEAT_S = 1.0
FAILURES = (RedisError, OSError, TimeoutError)

logger = log.get("redis")


def connect_redis(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """A client that never waits long and never retries by itself. Nothing is connected yet."""
    return Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry_on_timeout=False, retry=None
    )


class Circuit:
    """After a failure nothing is asked for a while, longer after each one; `degraded` says why."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.degraded: str | None = None
        self._clock = clock
        self._delay_s = 0.0
        self._closed_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether Redis is left alone for now."""
        return self._clock() < self._closed_at

    def failed(self, error: Exception) -> None:
        """Note a failure."""
        kind = type(error).__name__
        metrics.REDIS_FAILURES.labels(kind).inc()
        if self.degraded is None:
            logger.warning("redis_degraded", error=kind)
        self._delay_s = min(max(self._delay_s * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        self._closed_at = self._clock() + self._delay_s * random.uniform(0.5, 1.0)
        self.degraded = f"Redis does not answer as it should ({kind}); answers come from PostgreSQL alone."

    def succeeded(self) -> None:
        """Note that it works."""
        if self.degraded is not None:
            logger.info("redis_is_back")
        self.degraded, self._delay_s = None, 0.0


class RedisListener:
    """Calls `on_version` with every published version, and with None after each (re)connect, like bus/notify."""

    def __init__(self, url: str, on_version: Callable[[int | None], None], *, channel: str = CHANNEL) -> None:
        self._url = url
        self._on_version = on_version
        self._channel = channel
        self._connected = False
        self._delay_s = _FIRST_DELAY_S

    @property
    def connected(self) -> bool:
        """Whether versions arrive now."""
        return self._connected

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set."""
        while not stop.is_set():
            try:
                await self._listen(stop)
            except FAILURES as error:
                logger.info("redis_listener_lost", error=type(error).__name__)
                await _sleep(stop, self._delay_s * random.uniform(0.5, 1.0))
                self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)
            finally:
                self._connected = False

    async def _listen(self, stop: asyncio.Event) -> None:
        client = connect_redis(self._url, timeout_s=2 * _HEARTBEAT_S)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(self._channel)
            self._connected, self._delay_s = True, _FIRST_DELAY_S
            self._on_version(None)
            while not stop.is_set():
                message = await pubsub.get_message(timeout=_HEARTBEAT_S)
                if message is None:
                    await client.execute_command("PING")  # type: ignore[no-untyped-call]
                elif message["type"] == "message":
                    self._on_version(_read_version(message["data"]))
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()


class RedisRelay:
    """Publishes versions after they were committed. `put` never waits: a hint that finds no Redis is dropped."""

    def __init__(self, url: str, *, channel: str = CHANNEL) -> None:
        self._client = connect_redis(url)
        self._channel = channel
        self._newest: int | None = None
        self._wake = asyncio.Event()
        self.circuit = Circuit()

    def put(self, version: int | None) -> None:
        """Have this version published next; only the newest one counts."""
        if version is not None:
            self._newest = version if self._newest is None else max(self._newest, version)
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set."""
        ending = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                waiting = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait([ending, waiting], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                self._wake.clear()
                await self._publish()
        finally:
            ending.cancel()
            await self._client.aclose()

    async def _publish(self) -> None:
        version, self._newest = self._newest, None
        if version is None or self.circuit.is_open:
            return
        try:
            await self._client.publish(self._channel, str(version))
        except FAILURES as error:
            self.circuit.failed(error)
        else:
            self.circuit.succeeded()


def _read_version(data: object) -> int | None:
    """A published version; None (read everything again) for what is none."""
    text = data if isinstance(data, bytes) else b""
    return int(text) if text.isdigit() and len(text) < 20 else None


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
