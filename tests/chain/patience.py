"""How long a test's client waits: for what is well, as long as a busy machine needs; for what is not, no time at all.

No time-out here is near what a good answer takes. Who gives up does so after a number of tries, and a hang is given up
when the server says that it lets a request hang: neither depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import httpx

from chain.fake_toncenter import FakeTonCenter
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.retry import RetryPolicy

QUICK = RetryPolicy(timeout_s=30.0, deadline_s=90.0, base_s=0.001, cap_s=0.01)
"""For what passes: asked again at once, for a minute."""
IMPATIENT = RetryPolicy(timeout_s=30.0, deadline_s=7200.0, base_s=1800.0, cap_s=7200.0)
"""For what never gets better: with `ThreeTries`, three of them."""


class ThreeTries(random.Random):
    """Draws no pause, and none again; the third would end after the deadline of IMPATIENT."""

    def uniform(self, a: float, b: float) -> float:
        return a if b < IMPATIENT.cap_s else b


class GivesUpHangs(httpx.AsyncHTTPTransport):
    """Real HTTP, on which a request has timed out as soon as the server lets it hang."""

    _numbers = itertools.count(1)

    def __init__(self, fake: FakeTonCenter) -> None:
        super().__init__()
        self._fake = fake

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["X-Request"] = number = str(next(self._numbers))
        answered = asyncio.create_task(super().handle_async_request(request))
        hangs = asyncio.create_task(self._fake.hangs[number].wait())
        try:
            await asyncio.wait((answered, hangs), return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise TimeoutError("The server lets it hang.")
            return answered.result()
        finally:
            for task in (answered, hangs):
                task.cancel()
            await asyncio.gather(answered, hangs, return_exceptions=True)


def open_impatient(fake: FakeTonCenter, **more: Any) -> TonCenterClient:
    """A client that gives up after three tries. To be closed."""
    return TonCenterClient(fake.url, retry=IMPATIENT, rng=ThreeTries(), transport=GivesUpHangs(fake), **more)
