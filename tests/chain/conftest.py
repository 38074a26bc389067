"""The fake TonCenter, a client of it that waits for what passes, and one that soon gives up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from chain.fake_toncenter import FakeTonCenter, serving
from chain.patience import QUICK, open_impatient
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient

NO_BREAKER = BreakerPolicy(threshold=1_000_000)
"""For tests of something else than the breaker."""


@pytest.fixture
async def fake() -> AsyncIterator[FakeTonCenter]:
    async with serving(FakeTonCenter()) as server:
        yield server


@pytest.fixture
async def client(fake: FakeTonCenter) -> AsyncIterator[TonCenterClient]:
    async with TonCenterClient(fake.url, retry=QUICK, rng=random.Random(1)) as quick:
        yield quick


@pytest.fixture
async def impatient(fake: FakeTonCenter) -> AsyncIterator[TonCenterClient]:
    """For what hangs, or never gets better."""
    async with open_impatient(fake) as client:
        yield client
