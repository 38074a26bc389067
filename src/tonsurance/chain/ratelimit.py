"""How fast the TON API may be asked."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from tonsurance.core.errors import UsageError

_WITHOUT_KEY_RPS = 1.0
_WITH_KEY_RPS = 10.0
_OWN_SERVER_RPS = 1000.0


def default_rps(base_url: str, api_key: str | None) -> float:
    """Requests per second when nothing else is set: the public limits of toncenter.com, else generous."""
    host = urlsplit(base_url).hostname or ""
    if host != "toncenter.com" and not host.endswith(".toncenter.com"):
        return _OWN_SERVER_RPS
    return _WITH_KEY_RPS if api_key else _WITHOUT_KEY_RPS


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
