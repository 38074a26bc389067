"""A supervised loop: survives every error, backs off, and ends when told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tonsurance.core.errors import ChainUnavailable, RateLimited
from tonsurance.metrics import LOOP_RUNS
from tonsurance.services.loop import backoff_s, every

NEVER_S = 3600.0


class Job:
    """Counts its runs and raises what it is told to."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.runs = 0
        self.ran = asyncio.Condition()

    async def __call__(self) -> None:
        async with self.ran:
            self.runs += 1
            self.ran.notify_all()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def reached(self, runs: int) -> None:
        async with asyncio.timeout(60), self.ran:
            await self.ran.wait_for(lambda: self.runs >= runs)


def count(name: str, outcome: str) -> float:
    return LOOP_RUNS.labels(name, outcome)._value.get()


@asynccontextmanager
async def looping(
    job: Job,
    *,
    interval_s: float = 0.001,
    wake: asyncio.Event | None = None,
    name: str = "test",
    backoff: float = 0.002,
) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    loop = every(interval_s, job, stop=stop, wake=wake, name=name, max_backoff_s=backoff, rng=random.Random(1))
    task = asyncio.create_task(loop)
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def test_a_job_runs_again_and_again_until_stopped() -> None:
    job = Job()
    async with looping(job):
        await job.reached(5)
    ended_at = job.runs
    await asyncio.sleep(0.01)
    assert job.runs == ended_at


async def test_errors_of_every_kind_are_survived_and_counted_by_code() -> None:
    job = Job(ChainUnavailable("gone"), ValueError("a bug"), None, ChainUnavailable("gone"))
    before = {outcome: count("kinds", outcome) for outcome in ("ok", "chain_unavailable", "bug")}
    async with looping(job, name="kinds"):
        await job.reached(6)
    assert count("kinds", "chain_unavailable") - before["chain_unavailable"] == 2
    assert count("kinds", "bug") - before["bug"] == 1
    assert count("kinds", "ok") - before["ok"] >= 2


async def test_one_crashing_loop_does_not_stop_another() -> None:
    broken, healthy = Job(*[ValueError("a bug")] * 1000), Job()
    async with looping(broken, name="broken"), looping(healthy, name="healthy"):
        await healthy.reached(20)
        await broken.reached(3)


async def test_a_hint_ends_the_pause() -> None:
    job, wake = Job(), asyncio.Event()
    async with looping(job, interval_s=NEVER_S, wake=wake):
        for runs in range(2, 6):
            await job.reached(runs - 1)
            wake.set()
        await job.reached(5)


async def test_a_hint_during_the_job_is_not_lost() -> None:
    wake, job = asyncio.Event(), Job()
    runs = 0

    async def hint_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            wake.set()
        await job()

    stop = asyncio.Event()
    task = asyncio.create_task(every(NEVER_S, hint_once, stop=stop, wake=wake, name="hint"))
    await job.reached(2)
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_hints_do_not_shorten_the_back_off() -> None:
    job, wake = Job(ChainUnavailable("gone")), asyncio.Event()
    async with looping(job, interval_s=NEVER_S, wake=wake, backoff=NEVER_S):
        await job.reached(1)
        for _ in range(20):
            wake.set()
            await asyncio.sleep(0)
        assert job.runs == 1


async def test_a_stop_ends_the_pause_but_not_the_job() -> None:
    started, release, finished = asyncio.Event(), asyncio.Event(), False

    async def slow() -> None:
        nonlocal finished
        started.set()
        await release.wait()
        finished = True

    stop = asyncio.Event()
    task = asyncio.create_task(every(NEVER_S, slow, stop=stop, name="slow"))
    await started.wait()
    stop.set()
    await asyncio.sleep(0.01)
    assert not task.done()
    release.set()
    await asyncio.wait_for(task, 60)
    assert finished


async def test_a_cancelled_loop_ends() -> None:
    job = Job()
    task = asyncio.create_task(every(NEVER_S, job, stop=asyncio.Event(), name="cancelled"))
    await job.reached(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_back_off_doubles_with_jitter_and_is_bounded() -> None:
    rng = random.Random(5)
    for failures in (1, 2, 3, 40, 10_000):
        longest = min(60.0, 0.1 * 2.0 ** min(failures, 32))
        waits = [backoff_s(0.1, failures, ValueError(), 60.0, rng) for _ in range(200)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_the_back_off_is_not_shorter_than_the_other_side_asked_for() -> None:
    rng = random.Random(5)
    assert backoff_s(0.1, 1, RateLimited(retry_after_s=7.0), 60.0, rng) == 7.0
    assert backoff_s(0.1, 1, RateLimited(retry_after_s=1e9), 60.0, rng) == 60.0
