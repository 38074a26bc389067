"""Prices from the local market into the database and out again: an old price is shown, and nothing is counted in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest

from tonsurance.core.errors import DatabaseUnavailable, PriceUnavailable
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.prices import Price, read_price, value_usd
from tonsurance.db.pool import Connection, connect
from tonsurance.db.prices import insert_price
from tonsurance.feeds.prices import PriceSource
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.alerting import AlertService
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.price_feed import PriceFeed, PriceReads, keep_prices
from tonsurance.services.value_alerts import VALUES

PARAMS = build_params({("risk", "price_max_age_s"): 60.0}, version=7)


@pytest.fixture
async def market() -> AsyncIterator[str]:
    store = ChainStore()
    async with running(LocalChain(TonpyEngine(), store, seed=1)) as url:
        yield url
    store.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[LazyPool]:
    pool = LazyPool(database, max_size=2)
    yield pool
    await pool.close()


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    conn = await connect(database)
    yield conn
    await conn.close()


async def control(market: str, **change: object) -> dict[str, object]:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(f"{market}/_localnet/price", json=change)
    answer.raise_for_status()
    return dict(answer.json())


async def test_the_price_moves_goes_away_and_comes_back(market: str, pool: LazyPool) -> None:
    reads = PriceReads(pool, lambda: PARAMS)
    assert (await reads.read()).stale, "nothing was read yet"
    with pytest.raises(PriceUnavailable, match="never read"):
        await reads.require()
    async with PriceSource(f"{market}/feeds/api/v3") as source:
        feed = PriceFeed(source, pool)
        await control(market, usd=7.5)
        first = await feed.read_once()
        assert abs(first.usd - Decimal("7.5")) < Decimal("0.01")
        assert (await reads.require()).usd == first.usd
        for mode in ("away", "broken"):
            await control(market, mode=mode)
            with pytest.raises(PriceUnavailable):
                await feed.read_once()
        assert (await reads.require()).usd == first.usd, "the price of a moment ago still holds"
        await control(market, mode="live", usd=8)
        await feed.read_once()


async def test_an_old_price_is_shown_and_is_none(pool: LazyPool, conn: Connection) -> None:
    old = Price(asset="TON", usd=Decimal("5"), source="test", observed_at=time.time() - 61)
    await insert_price(conn, old)
    reads = PriceReads(pool, lambda: PARAMS)
    reading = await reads.read()
    assert reading.stale
    assert reading.price is not None
    assert reading.usable is None
    with pytest.raises(PriceUnavailable, match=r"\d+ s old; after 60 s"):
        await reads.require()
    assert not (await PriceReads(pool, lambda: DEFAULT_PARAMS).read()).stale, "the age is a parameter"


async def test_the_same_observation_twice_is_one(pool: LazyPool, conn: Connection) -> None:
    price = Price(asset="TON", usd=Decimal("5"), source="test", observed_at=time.time())
    for _ in range(3):
        await insert_price(conn, price)
    assert await conn.fetchval("SELECT count(*) FROM price_history") == 1


async def test_the_feed_goes_on_by_itself_after_outages(market: str, database: str, conn: Connection) -> None:
    await control(market, mode="away")
    stop = asyncio.Event()
    feeding = asyncio.create_task(keep_prices(database, f"{market}/feeds/api/v3", None, stop, read_every_s=0.01))
    await control(market, mode="live")
    while not await conn.fetchval("SELECT count(*) FROM price_history"):
        await asyncio.sleep(0.02)
    stop.set()
    await feeding


async def test_a_database_that_is_away_is_said() -> None:
    away = LazyPool("postgresql://127.0.0.1:1/none", max_size=1)
    with pytest.raises(DatabaseUnavailable):
        await PriceReads(away, lambda: PARAMS).read()
    await away.close()


async def test_high_values_and_old_prices_are_alerts_that_end_by_themselves(pool: LazyPool, conn: Connection) -> None:
    service = AlertService(pool, lambda: PARAMS, (VALUES,), recount_after_s=0)
    [none] = await service.evaluate(VALUES)
    assert none.message == "The TON price was never read (limit: 60 s): no figure in dollars is made"
    await insert_price(conn, Price(asset="TON", usd=Decimal("5"), source="t", observed_at=time.time()))
    [again] = await service.evaluate(VALUES)
    assert again.change.value == "resolved"
    await conn.execute(
        "INSERT INTO high_value_events (contract_address, logical_time, message_index, event_type, policy_id, vault_id,"
        " value_usd, limit_usd, price_usd) VALUES ('0:aa', 1, 0, 'PolicyCreated', 3, 'main', 123456.78, 100000, 5),"
        " ('0:aa', 2, 0, 'PayoutExecuted', 3, 'main', 60000, 50000, 5)"
    )
    told = await service.evaluate(VALUES)
    assert sorted(transition.message for transition in told) == [
        "High-value payout executed: policy 3 of 0:aa at $60,000.00 (threshold: $50,000)",
        "High-value policy created: policy 3 of 0:aa at $123,456.78 (threshold: $100,000)",
    ]
    assert await service.evaluate(VALUES) == ()
    await conn.execute("UPDATE high_value_events SET created_at = now() - interval '25 hours'")
    assert {transition.change.value for transition in await service.evaluate(VALUES)} == {"resolved"}


def test_an_amount_is_worth_its_price_to_the_cent() -> None:
    price = Price(asset="TON", usd=Decimal("5.25"), source="t", observed_at=0.0)
    assert value_usd(1_000_000_000, price) == Decimal("5.25")
    assert value_usd(1, price) == Decimal("0.00")
    assert value_usd(2**63 - 1, price) == Decimal("48422703193.49")


def test_a_price_a_little_ahead_of_our_clock_is_of_now() -> None:
    price = Price(asset="TON", usd=Decimal(5), source="t", observed_at=100.0)
    assert read_price(price, "TON", 90.0, 60.0).age_s == 0.0
    assert not read_price(price, "TON", 159.9, 60.0).stale
    assert read_price(price, "TON", 160.0, 60.0).stale
