"""Tasks of the daemon, each under a supervisor: a crash restarts that task alone, ever more slowly, and stops no other.

A task runs until its `stop` is set. Whatever gets out of it before, and a return before, is a crash.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from tonsurance import log, metrics
from tonsurance.core.errors import TonsuranceError, UsageError
from tonsurance.services.loop import pause

STOP_GRACE_S = 5.0
_ERROR_LIMIT = 300
_log = log.get(__name__)


class Task(msgspec.Struct, frozen=True):
    """Something that runs until the event is set."""

    name: str
    run: Callable[[asyncio.Event], Awaitable[object]]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How a crashed task is started again: after `first_s` seconds, each time twice as long, up to `longest_s`, with
    jitter; and from the start when it had run well for `well_after_s`."""

    first_s: float = 0.5
    longest_s: float = 60.0
    well_after_s: float = 60.0


class TaskState(msgspec.Struct, kw_only=True):
    """How a task is doing. `failures` are crashes since it last ran well; `since` is when this state began (unix s)."""

    name: str
    state: Literal["running", "waiting", "ended"] = "waiting"
    since: float = 0.0
    crashes: int = 0
    failures: int = 0
    last_error: str | None = None
    last_crash_at: float | None = None

    def unwell(self, now: float, well_after_s: float) -> int:
        """Crashes since it last ran well; 0 once it has run for so long."""
        return 0 if self.state == "running" and now - self.since >= well_after_s else self.failures


class _Kept(msgspec.Struct, frozen=True):
    state: TaskState
    stop: asyncio.Event
    keeper: asyncio.Task[None]


class TaskSupervisor:
    """Keeps tasks running. `on_change` is called after every crash and restart; it must not block."""

    def __init__(
        self,
        patience: Patience | None = None,
        *,
        on_change: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self._on_change = on_change
        self._rng = rng or random.Random()
        self._kept: dict[str, _Kept] = {}

    @property
    def states(self) -> tuple[TaskState, ...]:
        """How each task is doing, in the order they were started."""
        return tuple(kept.state for kept in self._kept.values())

    def start(self, task: Task) -> None:
        """Run a task from now on. Raises UsageError when one of this name runs."""
        if task.name in self._kept:
            raise UsageError(f"A task {task.name} runs already.")
        state, stop = TaskState(name=task.name), asyncio.Event()
        keeper = asyncio.create_task(self._keep(task, state, stop), name=task.name)
        self._kept[task.name] = _Kept(state, stop, keeper)

    async def end(self, name: str, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop one task: it is asked to, and cancelled when it takes longer. No such task: nothing to do."""
        kept = self._kept.get(name)
        if kept is None:
            return
        await _finish([kept], grace_s)
        self._kept.pop(name, None)

    async def end_all(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop every task; all are asked at the same time. Those that one of them starts meanwhile are stopped too."""
        while self._kept:
            ending = dict(self._kept)
            await _finish(list(ending.values()), grace_s)
            self._kept = {name: kept for name, kept in self._kept.items() if ending.get(name) is not kept}

    async def run(self, tasks: Sequence[Task], stop: asyncio.Event, *, grace_s: float = STOP_GRACE_S) -> None:
        """Keep these tasks, and those started meanwhile, running until `stop` is set."""
        for task in tasks:
            self.start(task)
        try:
            await stop.wait()
        finally:
            await self.end_all(grace_s=grace_s)

    async def _keep(self, task: Task, state: TaskState, stop: asyncio.Event) -> None:
        while not stop.is_set():
            state.state, state.since = "running", time.time()
            started = time.monotonic()
            running = asyncio.ensure_future(_run(task, stop))
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                running.cancel()
                await asyncio.wait({running})
                _forget(running)
                raise
            if stop.is_set() and _ended_well(running):
                break
            await self._recover(state, running, time.monotonic() - started, stop)
        state.state, state.since = "ended", time.time()

    async def _recover(
        self, state: TaskState, ended: asyncio.Future[object], ran_s: float, stop: asyncio.Event
    ) -> None:
        """Note the crash, and wait until the task may run again."""
        patience = self.patience
        state.failures = 1 if ran_s >= patience.well_after_s else state.failures + 1
        state.crashes += 1
        state.state, state.since = "waiting", time.time()
        state.last_crash_at = state.since
        longest = min(patience.longest_s, patience.first_s * 2.0 ** min(state.failures - 1, 32))
        delay_s = self._rng.uniform(longest / 2, longest)
        state.last_error = _report(state, ended, ran_s, delay_s)
        metrics.TASK_CRASHES.labels(state.name).inc()
        self._on_change()
        await pause(delay_s, stop)
        self._on_change()


async def _run(task: Task, stop: asyncio.Event) -> object:
    """The task from its first step on, so that a fault before its first await is one of the task too."""
    return await task.run(stop)


async def _finish(kept: Sequence[_Kept], grace_s: float) -> None:
    """Ask tasks to end, cancel those that do not in time; no fault of theirs gets out."""
    if not kept:
        return
    for one in kept:
        one.stop.set()
    keepers = {one.keeper for one in kept}
    if grace_s > 0:
        _, late = await asyncio.wait(keepers, timeout=grace_s)
    else:
        late = keepers
    for keeper in late:
        keeper.cancel()
    if late:
        await asyncio.wait(late)


def _ended_well(ended: asyncio.Future[object]) -> bool:
    return not ended.cancelled() and ended.exception() is None


def _forget(ended: asyncio.Future[object]) -> None:
    """Its error came while it was cancelled: nobody waits for it any more."""
    if not ended.cancelled():
        ended.exception()


def _report(state: TaskState, ended: asyncio.Future[object], ran_s: float, delay_s: float) -> str:
    """One line of log with the reason, which is returned."""
    fields = {
        "task": state.name,
        "crashes": state.crashes,
        "failures": state.failures,
        "ran_s": round(ran_s, 3),
        "restart_in_s": round(delay_s, 3),
    }
    error = None if ended.cancelled() else ended.exception()
    if isinstance(error, TonsuranceError):
        _log.error("task_crashed", code=error.code, reason=error.message, **fields)
        return f"{error.code}: {error.message}"[:_ERROR_LIMIT]
    if error is not None:
        _log.error("task_crashed", code="bug", exc_info=error, **fields)
        return f"{type(error).__name__}: {error}"[:_ERROR_LIMIT]
    reason = "it was cancelled" if ended.cancelled() else "it ended without being asked to"
    _log.error("task_crashed", code="ended", reason=reason, **fields)
    return reason
