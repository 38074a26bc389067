"""How often people may ask, and when an address is shut out. In memory of one process; bounded."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from tonsurance.core.errors import TonsuranceError

WINDOW_S = 60.0
MAX_REMEMBERED = 10_000
"""Names or addresses kept; the one not seen for longest is forgotten first."""


class Forbidden(TonsuranceError):
    """This is not allowed to you."""

    code = "forbidden"


class TooManyRequests(TonsuranceError):
    """Too many requests."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = max(1, math.ceil(retry_after_s))
        super().__init__(message)


class AddressLocked(TooManyRequests):
    """Too many bad tokens came from this address."""

    code = "address_locked"


class RequestLimiter:
    """At most `limit()` requests of one name in any 60 seconds. Refused requests do not count."""

    def __init__(self, limit: Callable[[], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, name: str) -> None:
        """Count one request. Raises TooManyRequests."""
        now, limit = self._clock(), self._limit()
        times = _touch(self._times, name)
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if len(times) >= limit:
            # With a limit that was lowered, that many of the newest ones have to grow old.
            wait = times[len(times) - limit] + WINDOW_S - now
            raise TooManyRequests(f"{limit} requests a minute are answered.", retry_after_s=wait)
        times.append(now)


class LockOut:
    """Shuts an address out for `lock_s` after `failures` bad tokens within `window_s` seconds."""

    def __init__(
        self,
        *,
        failures: int,
        window_s: float,
        lock_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._window_s = window_s
        self._lock_s = lock_s
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._locked_until: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises AddressLocked while the address is shut out."""
        left = self._locked_until.get(address, 0.0) - self._clock()
        if left > 0:
            raise AddressLocked("Too many bad tokens came from this address.", retry_after_s=left)
        self._locked_until.pop(address, None)

    def record_failure(self, address: str) -> bool:
        """Count one bad token. True when the address is shut out by it."""
        now = self._clock()
        times = _touch(self._times, address)
        while times and times[0] <= now - self._window_s:
            times.popleft()
        times.append(now)
        if len(times) < self._failures:
            return False
        del self._times[address]
        self._locked_until[address] = now + self._lock_s
        while len(self._locked_until) > MAX_REMEMBERED:
            self._locked_until.popitem(last=False)
        return True


def _touch(known: OrderedDict[str, deque[float]], name: str) -> deque[float]:
    """The times of a name, which becomes the newest; the oldest one is forgotten when there are too many."""
    times = known.setdefault(name, deque())
    known.move_to_end(name)
    while len(known) > MAX_REMEMBERED:
        known.popitem(last=False)
    return times
