"""A job that runs again and again and survives its own errors. The only place with a broad `except`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tonsurance import log, metrics
from tonsurance.core.errors import TonsuranceError

MAX_BACKOFF_S = 60.0
_log = log.get(__name__)


async def every(
    interval_s: float,
    job: Callable[[], Awaitable[object]],
    *,
    stop: asyncio.Event,
    wake: asyncio.Event | None = None,
    name: str,
    max_backoff_s: float = MAX_BACKOFF_S,
    rng: random.Random | None = None,
) -> None:
    """Run `job` every `interval_s` seconds (from start to start), sooner when `wake` is set, until `stop` is set.

    A job in flight is finished first. After an error the pause doubles, with jitter, up to `max_backoff_s`; hints do
    not shorten it. The error is logged with its code and counted; nothing else stops.
    """
    rng = rng or random.Random()
    clock = asyncio.get_running_loop().time
    failures = 0
    while not stop.is_set():
        started = clock()
        if wake is not None:
            wake.clear()
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - one loop's fault must not end the others
            failures += 1
            _report(name, error, failures)
            await pause(backoff_s(interval_s, failures, error, max_backoff_s, rng), stop)
        else:
            failures = 0
            metrics.LOOP_RUNS.labels(name, "ok").inc()
            await pause(interval_s - (clock() - started), stop, wake)


def backoff_s(interval_s: float, failures: int, error: Exception, max_backoff_s: float, rng: random.Random) -> float:
    """Half to all of interval * 2^failures seconds, and not before the time the other side asked for."""
    longest = min(max_backoff_s, interval_s * 2.0 ** min(failures, 32))
    asked_for = getattr(error, "retry_after_s", None) or 0.0
    return max(min(float(asked_for), max_backoff_s), rng.uniform(longest / 2, longest))


def _report(name: str, error: Exception, failures: int) -> None:
    if isinstance(error, TonsuranceError):
        metrics.LOOP_RUNS.labels(name, error.code).inc()
        _log.warning("loop_failed", loop=name, code=error.code, reason=str(error), failures=failures)
    else:
        metrics.LOOP_RUNS.labels(name, "bug").inc()
        _log.error("loop_failed", loop=name, code="bug", failures=failures, exc_info=error)


async def pause(seconds: float, *events: asyncio.Event | None) -> None:
    """Wait this long, or until one of the events is set; always lets other tasks run."""
    given = [event for event in events if event is not None]
    if seconds <= 0 or any(event.is_set() for event in given):
        await asyncio.sleep(0)
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in given]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
