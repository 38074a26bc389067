"""The subscriber as a library: a factory's events from the real TVM become policies, exposure and its statistics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import structlog

from chain.patience import QUICK
from services.street import Street, caught_up, following
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.errors import ChainUnavailable, InvalidAddress, NotOurContract
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.pool import acquire, connect, open_pool
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.policy_event_subscriber import (
    PolicyEventSubscriber,
    SubscriberConfig,
    default_subscriber_config,
    describe_statistics,
)


@pytest.fixture
def street() -> Street:
    with contextlib.closing(ChainStore()) as store:
        yield Street(store)


@pytest.fixture
async def url(street: Street) -> AsyncIterator[str]:
    async with running(street.chain) as address:
        yield address


def config(url: str, street: Street, database: str) -> SubscriberConfig:
    return SubscriberConfig(
        factory_address=street.contracts.factory, database_url=database, network=url, poll_interval_s=0.02
    )


@contextlib.asynccontextmanager
async def subscribed(config: SubscriberConfig, **options: float) -> AsyncIterator[PolicyEventSubscriber]:
    subscriber, stop = PolicyEventSubscriber(config, **options), asyncio.Event()
    task = asyncio.create_task(subscriber.start_subscription(stop))
    try:
        yield subscriber
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def wait_for(subscriber: PolicyEventSubscriber, *, policies: int, payouts: int) -> None:
    async with asyncio.timeout(60):
        while True:
            counts = await subscriber.statistics()
            if (counts.policies, counts.payouts) == (policies, payouts):
                return
            await asyncio.sleep(0.02)


async def test_policies_payouts_and_exposure_follow_the_factory(url: str, street: Street, database: str) -> None:
    street.fill()
    with structlog.testing.capture_logs() as lines:
        async with subscribed(config(url, street, database), statistics_every_s=0.05) as subscriber:
            paid, _kept = street.buy(100), street.buy(50)
            await wait_for(subscriber, policies=2, payouts=0)
            street.pay_out(paid, 60)
            await wait_for(subscriber, policies=2, payouts=1)
            counts = await subscriber.statistics()
        assert any("Event Stats: total=" in str(line.get("event")) for line in lines)
    assert (counts.errors, counts.last_event_age_s is not None) == (0, True)
    conn = await connect(database)
    statuses = await conn.fetch("SELECT status, payout_nanoton FROM policies ORDER BY policy_id")
    assert [tuple(row) for row in statuses] == [("claimed", 60 * NANO_PER_TON), ("active", 0)]
    exposure = await conn.fetch("SELECT chain_id, total_coverage, policy_count FROM product_exposure")
    assert [tuple(row) for row in exposure] == [(1, 50 * NANO_PER_TON, 1)]
    assert await conn.fetchval("SELECT count(*) FROM tranche_utilization") == 0, "the vault is not followed here"
    await conn.close()


async def test_a_second_run_goes_on_where_the_first_stopped(url: str, street: Street, database: str) -> None:
    street.fill()
    street.buy(10)
    for policies in (1, 2):
        async with subscribed(config(url, street, database)) as subscriber:
            await wait_for(subscriber, policies=policies, payouts=0)
        street.buy(10)


async def test_what_cannot_begin_is_said(url: str, street: Street, database: str) -> None:
    right = config(url, street, database)
    with pytest.raises(NotOurContract, match="are two addresses exchanged"):
        await PolicyEventSubscriber(
            SubscriberConfig(factory_address=street.contracts.vault, database_url=database, network=url)
        ).start_subscription(asyncio.Event())
    with pytest.raises(InvalidAddress):
        default_subscriber_config("nobody", database)
    assert default_subscriber_config(street.contracts.factory, database).poll_interval_s == 10.0
    assert database not in repr(right)
    with pytest.raises(ChainUnavailable):
        await PolicyEventSubscriber(
            SubscriberConfig(
                factory_address=street.contracts.factory, database_url=database, network="http://127.0.0.1:9"
            )
        ).start_subscription(asyncio.Event())


async def test_the_line_is_the_documents(url: str, street: Street, database: str) -> None:
    async with subscribed(config(url, street, database)) as subscriber:
        line = describe_statistics(await subscriber.statistics())
    assert line.endswith("policies=0, payouts=0, errors=0, last_event=never")


async def test_only_its_factory_is_followed_and_beside_a_daemon_it_waits(
    url: str, street: Street, database: str
) -> None:
    street.fill()
    street.buy(10)
    pool = await open_pool(database)
    async with TonCenterClient(url, retry=QUICK) as client, following(client, street, database, pool):
        await caught_up(pool, street, client)  # the daemon: vault and factory
        async with subscribed(config(url, street, database)) as waiting:
            street.buy(10)
            await wait_for(waiting, policies=2, payouts=0)
    async with acquire(pool) as conn:
        before = await conn.fetchval("SELECT count(*) FROM ledger_entries")
    async with subscribed(config(url, street, database)) as alone:
        street.buy(10)
        await wait_for(alone, policies=3, payouts=0)
    async with acquire(pool) as conn:
        assert await conn.fetchval("SELECT count(*) FROM ledger_entries") == before, "the vault stands still"
    await pool.close()
