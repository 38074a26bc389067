"""Supervised tasks: a crash restarts that task alone, ever more slowly, and a stop lets everybody finish."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tonsurance.core.errors import ChainUnavailable, UsageError
from tonsurance.metrics import TASK_CRASHES
from tonsurance.services.task_supervision import Patience, Task, TaskState, TaskSupervisor

HASTY = Patience(first_s=0.001, longest_s=0.004, well_after_s=60.0)
Body = Callable[[asyncio.Event], Awaitable[object]]


class Runs:
    """A task that does one thing after the other, then runs until it is stopped."""

    def __init__(self, *bodies: Body) -> None:
        self.bodies = list(bodies)
        self.count = 0
        self.ended = 0
        self._began = asyncio.Condition()

    async def __call__(self, stop: asyncio.Event) -> None:
        async with self._began:
            self.count += 1
            self._began.notify_all()
        if self.bodies:
            await self.bodies.pop(0)(stop)
            return
        await stop.wait()
        self.ended += 1

    async def reached(self, count: int) -> None:
        async with asyncio.timeout(60), self._began:
            await self._began.wait_for(lambda: self.count >= count)


def raises(error: BaseException) -> Body:
    async def body(_stop: asyncio.Event) -> None:
        raise error

    return body


async def returns(_stop: asyncio.Event) -> None:
    """Ends without being asked to."""


async def cancels_itself(_stop: asyncio.Event) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def raises_at_once(_stop: asyncio.Event) -> Awaitable[object]:
    raise KeyError("before the first await")


@asynccontextmanager
async def supervising(*tasks: Task, patience: Patience = HASTY) -> AsyncIterator[TaskSupervisor]:
    supervisor, stop = TaskSupervisor(patience, rng=random.Random(1)), asyncio.Event()
    running = asyncio.create_task(supervisor.run(tasks, stop))
    try:
        yield supervisor
    finally:
        stop.set()
        await asyncio.wait_for(running, 60)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (raises(ValueError("a bug")), "ValueError: a bug"),
        (raises(ChainUnavailable("gone")), "chain_unavailable: gone"),
        (returns, "it ended without being asked to"),
        (cancels_itself, "it was cancelled"),
        (raises_at_once, "KeyError: 'before the first await'"),
    ],
)
async def test_whatever_gets_out_of_a_task_restarts_it_and_no_other(body: Body, said: str) -> None:
    crashing, steady = Runs(body, body), Runs()
    before = TASK_CRASHES.labels("crashing")._value.get()
    async with supervising(Task("steady", steady), Task("crashing", crashing)) as supervisor:
        await crashing.reached(3)
        well, crashed = supervisor.states
        assert (crashed.state, crashed.crashes, crashed.failures, crashed.last_error) == ("running", 2, 2, said)
        assert (well.state, well.crashes, well.last_error) == ("running", 0, None)
    assert (steady.count, steady.ended) == (1, 1)
    assert TASK_CRASHES.labels("crashing")._value.get() - before == 2


async def test_a_task_that_keeps_crashing_waits_longer_and_longer_up_to_a_bound() -> None:
    waits: list[float] = []

    class Timed(random.Random):
        def uniform(self, a: float, b: float) -> float:
            waits.append(b)
            assert a == b / 2
            return 0.0

    supervisor = TaskSupervisor(Patience(first_s=1.0, longest_s=8.0), rng=Timed())
    crashing = Runs(*[raises(ValueError())] * 6)
    supervisor.start(Task("crashing", crashing))
    await crashing.reached(7)
    await supervisor.end_all()
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_a_task_that_had_run_well_starts_again_soon() -> None:
    crashing = Runs(*[raises(ValueError())] * 5)
    async with supervising(
        Task("crashing", crashing), patience=Patience(first_s=0.001, longest_s=0.001, well_after_s=0.0)
    ) as supervisor:
        await crashing.reached(6)
        (state,) = supervisor.states
        assert (state.crashes, state.failures) == (5, 1)


def test_a_task_is_well_again_after_it_ran_for_a_while() -> None:
    state = TaskState(name="x", state="running", since=1_000.0, crashes=3, failures=3)
    assert (state.unwell(1_059.9, 60.0), state.unwell(1_060.0, 60.0)) == (3, 0)
    state.state = "waiting"
    assert state.unwell(9_999.0, 60.0) == 3


async def test_changes_are_told() -> None:
    told = asyncio.Queue[str]()
    supervisor = TaskSupervisor(HASTY, on_change=lambda: told.put_nowait(supervisor.states[0].state))
    crashing = Runs(raises(ValueError()))
    supervisor.start(Task("crashing", crashing))
    async with asyncio.timeout(60):
        assert await told.get() == "waiting"
        await told.get()
    await supervisor.end_all()


async def test_a_stop_lets_each_task_finish_and_cancels_who_does_not() -> None:
    finished, cancelled, begun = [], [], asyncio.Event()

    async def polite(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(0.01)
        finished.append("polite")

    async def deaf(_stop: asyncio.Event) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("deaf")
            raise

    supervisor = TaskSupervisor(HASTY)
    for task in (Task("polite", polite), Task("deaf", deaf)):
        supervisor.start(task)
    await begun.wait()
    await supervisor.end_all(grace_s=0.2)
    assert (finished, cancelled, supervisor.states) == (["polite"], ["deaf"], ())


async def test_a_crash_while_stopping_is_noted_and_does_not_start_it_again() -> None:
    async def fails_at_the_end(stop: asyncio.Event) -> None:
        await stop.wait()
        raise ValueError("too late")

    failing = Runs(fails_at_the_end)
    supervisor = TaskSupervisor(HASTY)
    supervisor.start(Task("failing", failing))
    await failing.reached(1)
    await supervisor.end_all()
    assert failing.count == 1


async def test_a_stop_ends_the_wait_of_a_crashed_task() -> None:
    crashing = Runs(raises(ValueError()))
    supervisor = TaskSupervisor(Patience(first_s=3_600.0, longest_s=3_600.0))
    supervisor.start(Task("crashing", crashing))
    while supervisor.states[0].crashes == 0:
        await asyncio.sleep(0)
    await asyncio.wait_for(supervisor.end_all(), 60)
    assert crashing.count == 1


async def test_one_task_can_be_ended_and_started_again_alone() -> None:
    one, other = Runs(), Runs()
    async with supervising(Task("one", one), Task("other", other)) as supervisor:
        await other.reached(1)
        await supervisor.end("one")
        await supervisor.end("nobody")
        assert [state.name for state in supervisor.states] == ["other"]
        supervisor.start(Task("one", one))
        await one.reached(2)
        with pytest.raises(UsageError, match="runs already"):
            supervisor.start(Task("one", one))
    assert (one.ended, other.ended, other.count) == (2, 1, 1)


async def test_a_task_that_is_started_while_all_are_stopped_is_stopped_too() -> None:
    supervisor, late = TaskSupervisor(HASTY), Runs()

    async def starts_another(stop: asyncio.Event) -> None:
        await stop.wait()
        supervisor.start(Task("late", late))

    supervisor.start(Task("first", starts_another))
    await asyncio.sleep(0)
    await asyncio.wait_for(supervisor.end_all(), 60)
    assert supervisor.states == ()
    assert late.count == late.ended


async def test_since_is_the_time_of_the_last_change() -> None:
    steady, before = Runs(), time.time()
    async with supervising(Task("steady", steady)) as supervisor:
        await steady.reached(1)
        assert before <= supervisor.states[0].since <= time.time()
