"""The fake TonCenter and a client of it that does not wait long."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from chain.fake_toncenter import FakeTonCenter, serving
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.retry import RetryPolicy

QUICK = RetryPolicy(timeout_s=2.0, deadline_s=10.0, base_s=0.001, cap_s=0.01)
IMPATIENT = RetryPolicy(timeout_s=0.05, deadline_s=0.3, base_s=0.001, cap_s=0.01)
"""For what hangs, or never gets better."""
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
    async with TonCenterClient(fake.url, retry=IMPATIENT, rng=random.Random(1)) as client:
        yield client
