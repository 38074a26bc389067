"""Collects jobs while a transaction is in flight and does them together in the next one.

No timer is involved: alone, a job is done at once; under load, the group grows to what arrived meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from tonsurance import log
from tonsurance.core.errors import DatabaseUnavailable, DependencyError, MigrationError, TonsuranceError

Job = TypeVar("Job")
Result = TypeVar("Result")
Post: TypeAlias = "Callable[[Sequence[Job]], Awaitable[Sequence[Result | TonsuranceError]]]"

_CLOSE_TIMEOUT_S = 20.0

logger = log.get("group_commit")


class GroupCommit(Generic[Job, Result]):
    """Does jobs of any number of submitters, in the order they came, by one task.

    `post` does a group and gives each job's result or its error, in order; when it raises, nothing of the group was
    done. An outage is then every job's error; anything else is about somebody's data, and each job is done for itself,
    so that one bad job is nobody else's error. Jobs weighing at most `most` together (plus the last one's weight) go
    into one group, and `queue_size` wait; further submitters wait for room.
    """

    def __init__(
        self,
        post: Post[Job, Result],
        *,
        name: str,
        most: int = 256,
        queue_size: int = 1024,
        weigh: Callable[[Job], int] = lambda _job: 1,
    ) -> None:
        self._post = post
        self._name = name
        self._most = most
        self._weigh = weigh
        self._queue: asyncio.Queue[_Waiting[Job, Result] | None] = asyncio.Queue(queue_size)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Start the task; the first submit does it too."""
        if self._task is not None and not self._task.done():
            return
        if self._task is not None and not self._task.cancelled() and self._task.exception() is not None:
            logger.error("group_commit_ended", group=self._name, exc_info=self._task.exception())
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def submit(self, job: Job) -> Result:
        """Have one job done; returns when it is durable. Raises the job's error.

        After DatabaseUnavailable it may have been done all the same (the connection broke during the commit):
        repeat it under the same identity.
        """
        if self._closed:
            raise DatabaseUnavailable(f"{self._name} is closed.")
        waiting: _Waiting[Job, Result] = _Waiting(job)
        self.start()
        await self._queue.put(waiting)
        if self._task is None or self._task.done():  # it ended while we waited for room
            self._abandon([])
        return await waiting.done

    async def close(self) -> None:
        """Do what was submitted, then stop."""
        self._closed = True
        if self._task is None or self._task.done():
            return
        await self._queue.put(None)
        await asyncio.wait([self._task], timeout=_CLOSE_TIMEOUT_S)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        group: list[_Waiting[Job, Result]] = []
        try:
            while True:
                group, last = await self._collect()
                await self._do([waiting for waiting in group if not waiting.done.cancelled()])
                if last:
                    return
        finally:
            self._abandon(group)

    async def _collect(self) -> tuple[list[_Waiting[Job, Result]], bool]:
        """Everything that waits, up to the limit; True when nothing comes after it."""
        group: list[_Waiting[Job, Result]] = []
        weight = 0
        item = await self._queue.get()
        while item is not None:
            group.append(item)
            weight += self._weigh(item.job)
            if weight >= self._most or self._queue.empty():
                return group, False
            item = self._queue.get_nowait()
        return group, True

    async def _do(self, group: Sequence[_Waiting[Job, Result]]) -> None:
        if not group:
            return
        try:
            results = await self._post([waiting.job for waiting in group])
        except TonsuranceError as error:
            logger.warning("group_failed", group=self._name, jobs=len(group), code=error.code, error=error.message)
            if len(group) > 1 and not isinstance(error, DependencyError | MigrationError):
                for waiting in group:
                    await self._do([waiting])
                return
            results = [error] * len(group)
        for waiting, result in zip(group, results, strict=True):
            waiting.settle(result)

    def _abandon(self, group: Sequence[_Waiting[Job, Result]]) -> None:
        """Nobody may wait for ever, also when the task ends by a fault."""
        left = list(group)
        while not self._queue.empty():
            item = self._queue.get_nowait()
            left += [item] if item is not None else []
        for waiting in left:
            waiting.settle(DatabaseUnavailable(f"{self._name} stopped; repeat the request under the same key."))


class _Waiting(Generic[Job, Result]):
    """A job, and where its submitter waits."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: Result | TonsuranceError) -> None:
        """Answer the submitter, who may have gone away."""
        if self.done.done():
            return
        if isinstance(outcome, TonsuranceError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)
