"""A running API over a fake ledger: a real server on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.admin_running import AdminApi, running_admin
from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api
from tonsurance.api.admin_settings import AdminSettings


@pytest.fixture
def ledger() -> FakeLedger:
    """Six tranches of 1000 TON, half covered."""
    return FakeLedger()


@pytest.fixture
async def api(ledger: FakeLedger) -> AsyncIterator[RunningApi]:
    """An API over `ledger`."""
    async with running_api(ledger) as running:
        yield running


@pytest.fixture
async def admin(database: str, ledger: FakeLedger) -> AsyncIterator[AdminApi]:
    """The admin API of a local run: one person is enough."""
    async with running_admin(database, ledger) as running:
        yield running


@pytest.fixture
async def guarded(database: str, ledger: FakeLedger) -> AsyncIterator[AdminApi]:
    """The admin API with approvals on; bob is registered as an approver."""
    async with running_admin(database, ledger, settings=AdminSettings()) as running:
        await running.ask("PUT", "/admin/users/bob", {"role": "approver"})
        yield running


@pytest.fixture
async def admin_without_figures(database: str) -> AsyncIterator[AdminApi]:
    """The admin API before the first tranche was posted."""
    async with running_admin(database, FakeLedger(tranches=())) as running:
        yield running


@pytest.fixture
async def admin_without_database() -> AsyncIterator[AdminApi]:
    """The admin API while its database is away."""
    async with running_admin("postgresql://nobody@127.0.0.1:1/nothing", FakeLedger()) as running:
        yield running
