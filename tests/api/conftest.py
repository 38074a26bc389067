"""A running API over a fake ledger: a real server on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api


@pytest.fixture
def ledger() -> FakeLedger:
    """Six tranches of 1000 TON, half covered."""
    return FakeLedger()


@pytest.fixture
async def api(ledger: FakeLedger) -> AsyncIterator[RunningApi]:
    """An API over `ledger`."""
    async with running_api(ledger) as running:
        yield running
