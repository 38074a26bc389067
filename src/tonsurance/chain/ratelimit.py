"""How fast the TON API may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tonsurance.chain.urls import is_toncenter
from tonsurance.core.errors import UsageError

_WITHOUT_KEY_RPS = 1.0
_WITH_KEY_RPS = 10.0
"""Of the free key; the paid ones have 25 and 100, which nothing tells but their owner."""
_OWN_SERVER_RPS = 1000.0


def default_rps(base_url: str, api_key: str | None) -> float:
    """Requests per second when nothing else is set: the public limits of toncenter.com, else generous."""
    if not is_toncenter(base_url):
        return _OWN_SERVER_RPS
    return _WITH_KEY_RPS if api_key else _WITHOUT_KEY_RPS


def assign_buckets(keys: Mapping[str, str | None], rps: float | None) -> dict[str, TokenBucket]:
    """A bucket for each URL. URLs with the same key share one, because the server counts by key."""
    by_key: dict[str, TokenBucket] = {}
    buckets: dict[str, TokenBucket] = {}
    for url, key in keys.items():
        made = TokenBucket(rps or default_rps(url, key))
        buckets[url] = made if key is None else by_key.setdefault(key, made)
    return buckets


class TokenBucket:
    """At most `rps` requests per second, in the order they were asked for; a burst of one second's worth."""

    def __init__(self, rps: float) -> None:
        if rps <= 0:
            raise UsageError(f"Requests per second must be more than 0, not {rps}.")
        self._interval_s = 1 / rps
        self._burst_s = max(1.0, self._interval_s) - self._interval_s
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Take one token and say how many seconds from `now` it may be used."""
        self._next = max(self._next, now - self._burst_s)
        wait_s = max(0.0, self._next - now)
        self._next += self._interval_s
        return wait_s

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""
        wait_s = self.reserve(asyncio.get_running_loop().time())
        if wait_s > 0:
            await asyncio.sleep(wait_s)
