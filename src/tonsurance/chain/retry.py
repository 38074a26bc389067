"""Trying again: exponential back-off with full jitter, and one deadline for all attempts together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from tonsurance.core.errors import TonsuranceError

_Result = TypeVar("_Result")


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: of one attempt, of all of them, and of the pauses between them."""

    timeout_s: float = 10.0
    deadline_s: float = 30.0
    base_s: float = 0.25
    cap_s: float = 5.0


class TryAgain(Exception):
    """An attempt failed in a way that may pass. `error` is what the caller gets when time runs out.

    `blames`: it says that the endpoint is unwell, not only that it cannot answer this one request.
    `lasting`: the endpoint will say the same again, another one may not. `unsent`: the request was surely not carried
    out. `wait_s`: what the server asked for.
    """

    def __init__(
        self,
        error: TonsuranceError,
        *,
        wait_s: float | None = None,
        blames: bool = True,
        lasting: bool = False,
        unsent: bool = False,
    ) -> None:
        self.error = error
        self.wait_s = wait_s
        self.blames = blames
        self.lasting = lasting
        self.unsent = unsent
        super().__init__(str(error))


async def call_with_retries(
    attempt: Callable[[float], Awaitable[_Result]], policy: RetryPolicy, rng: random.Random
) -> _Result:
    """Call `attempt` until it succeeds, fails for good, or another full attempt would pass the deadline.

    The first attempt is always made; each is given the deadline (the loop's time). Raises what the last one raised, so
    that the real reason is seen.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + policy.deadline_s
    pause_s = policy.base_s
    while True:
        try:
            return await attempt(end)
        except TryAgain as failure:
            wait_s = (failure.wait_s or 0.0) + rng.uniform(0, pause_s)
            if failure.lasting or clock() + wait_s + policy.timeout_s > end:
                raise failure.error from failure.__cause__
        await asyncio.sleep(wait_s)
        pause_s = min(2 * pause_s, policy.cap_s)
