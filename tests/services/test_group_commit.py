"""Jobs in groups: in order, none lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tonsurance.core.errors import DatabaseUnavailable, InputError, TonsuranceError
from tonsurance.services.group_commit import GroupCommit


class Desk:
    """Does groups of numbers; waits before each until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()
        self.fault: Exception | None = None

    async def post(self, jobs: Sequence[int]) -> Sequence[str | TonsuranceError]:
        self.groups.append(list(jobs))
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return [InputError(f"no {job}") if job < 0 else f"done {job}" for job in jobs]


async def test_alone_a_job_is_done_at_once_and_what_comes_meanwhile_goes_together() -> None:
    desk = Desk()
    group: GroupCommit[int, str] = GroupCommit(desk.post, name="desk", most=3)
    first = asyncio.create_task(group.submit(1))
    while not desk.groups:
        await asyncio.sleep(0)
    rest = [asyncio.create_task(group.submit(number)) for number in (2, 3, -4, 5)]
    await asyncio.sleep(0)
    desk.open.set()
    assert await first == "done 1"
    assert await asyncio.gather(*rest, return_exceptions=True) == ["done 2", "done 3", rest[2].exception(), "done 5"]
    assert isinstance(rest[2].exception(), InputError)
    assert desk.groups == [[1], [2, 3, -4], [5]]
    await group.close()


async def test_a_failed_group_is_every_jobs_error_and_the_next_one_goes_on() -> None:
    desk = Desk()
    desk.open.set()
    desk.fault = DatabaseUnavailable("gone")
    group: GroupCommit[int, str] = GroupCommit(desk.post, name="desk")
    answers = await asyncio.gather(group.submit(1), group.submit(2), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["gone", "gone"]
    desk.fault = None
    assert await group.submit(3) == "done 3"
    await group.close()


async def test_a_group_that_fails_for_its_data_is_done_job_by_job_and_only_the_bad_one_fails() -> None:
    groups: list[list[int]] = []

    async def post(jobs: Sequence[int]) -> Sequence[str | TonsuranceError]:
        groups.append(list(jobs))
        if 3 in jobs:
            raise InputError("3 is no number")
        return [f"done {job}" for job in jobs]

    group: GroupCommit[int, str] = GroupCommit(post, name="desk")
    answers = await asyncio.gather(*map(group.submit, range(5)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["done 0", "done 1", "done 2", "3 is no number", "done 4"]
    assert sorted(groups[-5:]) == [[0], [1], [2], [3], [4]]
    await group.close()


async def test_a_fault_of_ours_leaves_nobody_waiting_and_the_next_submit_starts_again() -> None:
    desk = Desk()
    desk.fault = ZeroDivisionError()
    group: GroupCommit[int, str] = GroupCommit(desk.post, name="desk", most=1)
    waiting = [asyncio.create_task(group.submit(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    desk.open.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {DatabaseUnavailable}
    desk.fault = None
    assert await group.submit(4) == "done 4"
    await group.close()


async def test_who_gave_up_waiting_is_not_posted_and_closing_does_what_was_submitted() -> None:
    desk = Desk()
    group: GroupCommit[int, str] = GroupCommit(desk.post, name="desk")
    first = asyncio.create_task(group.submit(1))
    while not desk.groups:
        await asyncio.sleep(0)
    gone, left = asyncio.create_task(group.submit(2)), asyncio.create_task(group.submit(3))
    await asyncio.sleep(0)
    gone.cancel()
    closing = asyncio.create_task(group.close())
    await asyncio.sleep(0)
    desk.open.set()
    await closing
    assert (await first, await left) == ("done 1", "done 3")
    assert desk.groups == [[1], [3]]
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await group.submit(4)


async def test_more_than_the_queue_takes_wait_and_all_are_done() -> None:
    desk = Desk()
    desk.open.set()
    group: GroupCommit[int, str] = GroupCommit(desk.post, name="desk", most=7, queue_size=5)
    assert await asyncio.gather(*(group.submit(n) for n in range(100))) == [f"done {n}" for n in range(100)]
    assert max(map(len, desk.groups)) <= 7
    await group.close()
