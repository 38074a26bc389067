"""When a change is answered, the process that made it works with it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.config_story import ADA, APY, BOB, RATE, ROOT, open_store, put
from tonsurance.services.admin_records import AdminRecords, ChangeRequest
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_admin import ConfigAdmin, Proposal
from tonsurance.services.config_effects import make_effects
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import Applied, ConfigStore


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


def make_admin(store: ConfigStore, loader: ConfigLoader) -> ConfigAdmin:
    """With approvals; the loader hears of nothing, for it does not follow."""
    records = AdminRecords(store.pool)
    return ConfigAdmin(store, records, make_effects(), loader, snapshot=lambda: None, approvals=True)


async def test_a_change_an_approval_and_a_rollback_hold_in_the_process_before_they_are_answered(
    store: ConfigStore, database: str
) -> None:
    loader = ConfigLoader(database)
    admin = make_admin(store, loader)
    limit = Proposal(edits=(put(("api", "admin_rate_limit"), 200),), reason="more")
    done = await admin.propose(limit, ADA)
    assert isinstance(done, Applied)
    assert (loader.params.version, loader.get_int("api", "admin_rate_limit")) == (done.version, 200)
    filed = await admin.propose(Proposal(edits=(put(APY, 16.0),), reason="market"), ADA)
    assert isinstance(filed, ChangeRequest)
    await admin.save_user("bob", Role.APPROVER, enabled=True, actor=ROOT)
    done = await admin.approve(filed.change_id, BOB)
    assert (loader.params.version, loader.get_float(*APY)) == (done.version, 16.0)
    done = await admin.roll_back(3, ROOT, reason="once more")
    assert isinstance(done, Applied)
    assert loader.params.version == done.version == 4
    await loader.close()


async def test_a_change_is_answered_although_its_own_process_cannot_read_it(store: ConfigStore) -> None:
    loader = ConfigLoader("postgresql://nobody@127.0.0.1:1/none")
    urgent = Proposal(edits=(put(RATE, 0.2),), reason="the market has broken", emergency=True)
    done = await make_admin(store, loader).propose(urgent, ROOT)
    assert isinstance(done, Applied)
    assert (await store.read()).version == done.version
    assert loader.degraded is not None
    await loader.close()
