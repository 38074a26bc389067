"""What quotes are made of, in memory: exact, never older than it says, and nothing instead of something unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from db.chain_story import FACTORY, HOLDER, TON
from services.market_story import STALE_AFTER_S, MarketStory
from tonsurance.core.errors import NotReady, PriceUnavailable, StaleFigures, UnknownVault
from tonsurance.core.events import CoverageChanged, LossAbsorbed, PayoutExecuted, PremiumsDistributed, PremiumsEarned
from tonsurance.core.limits import InForce
from tonsurance.core.params import build_params
from tonsurance.core.prices import TON as TON_ASSET
from tonsurance.core.products import find_product
from tonsurance.core.units import DAY_S
from tonsurance.db.pool import connect
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.market_reading import RECORD_KEPT_S, RECOUNT_AFTER_S
from tonsurance.services.market_view import BEHIND_AFTER_S, MarketView

USDC = find_product("depeg", "Ethereum", "USDC")
USDT = find_product("depeg", "Ethereum", "USDT")
BRIDGE = find_product("bridge", "Arbitrum", "USDC")


@pytest.fixture
async def story(database: str) -> AsyncIterator[MarketStory]:
    story = MarketStory(database)
    await story.start()
    yield story
    await story.close()


async def test_before_the_first_look_nothing_is_known_and_nothing_is_zero(story: MarketStory) -> None:
    view = story.view
    assert (view.price.price, view.price.stale, view.factory()) == (None, True, None)
    assert view.freshness.stale
    with pytest.raises(NotReady):
        view.require()
    await story.reads.refresh()
    for ask in (view.require, view.cover, view.record):
        with pytest.raises(NotReady, match="not been read"):
            ask()
    assert {one.code for one in view.sale_facts().obstacles} == {"price_stale", "factory_unknown"}


async def test_one_look_has_price_room_cover_and_the_factory(story: MarketStory) -> None:
    await story.sell(USDC, 10 * TON)
    await story.sell(USDC, 5 * TON)
    await story.sell(USDT, 3 * TON)
    await story.sell(BRIDGE, 2 * TON)
    await story.see_price("2.50")
    await story.see_factory()
    market = (await story.look()).require(need_factory=True)
    assert market.price.usd == Decimal("2.50")
    assert market.cover.of(USDC) == InForce(15 * TON, 18 * TON)
    assert market.cover.of(BRIDGE) == InForce(2 * TON, 2 * TON)
    assert market.cover.of(find_product("oracle", "Solana", "DAI")) == InForce(0, 0)
    assert market.cover.products[USDC].policies == 2
    assert market.factory is not None
    assert market.factory.factory_address == FACTORY
    capacity = market.capacity(USDC)
    headroom = {limit.name: limit.headroom_nano for limit in capacity.limits}
    assert headroom["product_cap"] == 6000 * TON // 4 - 15 * TON
    assert headroom["chain_cap"] == 6000 * TON * 6 // 10 - 18 * TON
    assert (capacity.binding_limit, capacity.available_nano) == ("max_policy_percent", 300 * TON)
    assert market.utilization.capped == 0.0


async def test_the_cover_is_what_the_database_counts_for_a_single_product(story: MarketStory) -> None:
    for product, cover in ((USDC, 7), (USDT, 11), (BRIDGE, 13)):
        await story.sell(product, cover * TON)
    await story.see_price("3")
    market = (await story.look()).require()
    for product in (USDC, USDT, BRIDGE):
        ids = (product.coverage_type_id, product.chain_id, product.stablecoin_id)
        assert market.cover.of(product) == await story.ledger.read_cover_in_force("main", *ids)


async def test_a_price_grows_old_by_our_clock_and_is_none_at_its_limit(story: MarketStory) -> None:
    await story.see_price("2", age_s=100)
    view = await story.look()
    age = view.price.age_s
    assert age is not None
    assert 100 <= age < 200
    story.clock.now += 150
    assert view.price.age_s == age + 150
    assert not view.price.stale
    story.reads.stale_after_s = 10_000
    story.clock.now += 60
    assert view.price.price is not None, "it is shown"
    with pytest.raises(PriceUnavailable, match=r"is 3\d\d s old; after 300 s"):
        view.require()
    assert [one.code for one in view.sale_facts().obstacles] == ["price_stale", "factory_unknown"]


async def test_the_limit_of_age_is_the_parameter_in_force(story: MarketStory) -> None:
    await story.see_price("2", age_s=100)
    view = await story.look()
    view.require()
    story.reads.use_params(build_params({("risk", "price_max_age_s"): 60.0}, version=2))
    with pytest.raises(PriceUnavailable, match="after 60 s"):
        view.require()


async def test_the_newest_price_is_the_one_seen_last_not_the_one_stored_last(story: MarketStory) -> None:
    await story.see_price("3", age_s=10)
    await story.see_price("2", age_s=200)
    assert (await story.look()).require().price.usd == 3


async def test_who_asks_reads_no_database_while_the_task_looks(story: MarketStory) -> None:
    await story.see_price("2")
    view = await story.look()
    looks = view.looks
    for _ in range(100):
        await view.current()
    story.clock.now += BEHIND_AFTER_S
    await view.current()
    assert view.looks == looks
    story.clock.now += 0.1
    await asyncio.gather(*(view.current() for _ in range(200)))
    assert view.looks == looks + 1, "all who asked waited for one look"


async def test_new_cover_is_seen_with_the_next_version_of_the_ledger(story: MarketStory) -> None:
    await story.see_price("2")
    view = await story.look()
    assert view.cover().of(USDC).product_nano == 0
    policy = await story.sell(USDC, 9 * TON)
    await story.look()
    assert view.cover().of(USDC).product_nano == 9 * TON
    version = view.cover().version
    await story.post(PayoutExecuted(policy, HOLDER, 4 * TON), contract=FACTORY)
    await story.look()
    assert view.cover().of(USDC).product_nano == 0
    assert view.cover().version > version


async def test_cover_is_not_read_again_within_a_version_but_is_in_time(story: MarketStory) -> None:
    await story.sell(USDC, 9 * TON)
    view = await story.look()
    await story.conn.execute("UPDATE product_exposure SET total_coverage = total_coverage + 1")  # without a version
    await story.look()
    assert view.cover().of(USDC).product_nano == 9 * TON
    story.clock.now += RECOUNT_AFTER_S
    await story.look()
    assert view.cover().of(USDC).product_nano == 9 * TON + 1


async def test_the_cover_names_the_last_event_in_it(story: MarketStory) -> None:
    await story.post(CoverageChanged(1, (TON, 0, 0, 0, 0, 0)), after_s=40)
    await story.sell(USDC, 9 * TON)
    view = await story.look()
    posted = view.cover().posted
    latest = story.reads.snapshot.latest
    assert posted is not None
    assert (posted.lt, posted.block_time) == (latest.lt, latest.block_time)


async def test_figures_that_could_not_be_read_for_too_long_are_refused_with_their_age(story: MarketStory) -> None:
    await story.see_price("2")
    view = await story.look()
    story.reads.use_params(build_params({("risk", "price_max_age_s"): 86_400.0}, version=2))
    story.clock.now += STALE_AFTER_S + 5
    with pytest.raises(StaleFigures, match=r"tranches were last read 35 s ago; after 30 s"):
        view.require()
    await story.reads.refresh()
    with pytest.raises(StaleFigures, match=r"cover in force was last read 35 s ago"):
        view.require()
    assert view.freshness.stale
    await view.refresh()
    view.require()


async def test_a_failed_look_changes_nothing_and_is_not_repeated_by_everybody(story: MarketStory) -> None:
    await story.see_price("2")
    view = await story.look()
    before = view.require()
    nowhere = MarketView(
        LazyPool("postgresql://nobody@127.0.0.1:1/nothing", max_size=1), story.reads, clock=story.clock
    )
    assert not await nowhere.refresh()
    assert nowhere.failure is not None
    for _ in range(20):
        with pytest.raises(NotReady):
            await nowhere.current()
    assert nowhere.looks == 1
    story.clock.now += 1.0
    with pytest.raises(NotReady):
        await nowhere.current()
    assert nowhere.looks == 2
    assert view.require().price == before.price


async def test_the_factorys_state_is_needed_only_by_who_sells_and_must_be_of_now(story: MarketStory) -> None:
    await story.see_price("2")
    view = await story.look()
    assert view.require().factory is None
    with pytest.raises(NotReady, match="factory"):
        view.require(need_factory=True)
    await story.see_factory(age_s=45)
    await story.look()
    age = view.require(need_factory=True).factory_age_s
    assert age is not None
    assert 45 <= age < 55
    story.clock.now += 20
    assert view.require().factory_age_s == age + 20
    with pytest.raises(StaleFigures, match=r"factory's state was read 6\d s ago; after 60 s"):
        view.require(need_factory=True)


async def test_a_factory_nobody_follows_any_more_is_not_known(story: MarketStory) -> None:
    await story.see_factory()
    view = await story.look()
    assert view.factory() is not None
    await story.conn.execute("UPDATE followed_contracts SET wanted = 'removed'")
    await story.look()
    assert view.factory() is None


async def test_of_two_factories_the_one_the_vault_backs_is_taken(story: MarketStory) -> None:
    other = "0:" + "00" * 32
    await story.see_factory(factory_address=other)
    await story.see_factory()
    view = await story.look()
    state = view.factory()
    assert state is not None
    assert state.factory_address == FACTORY, "the other one sorts first, and the vault names this one"


async def test_a_frozen_vault_is_frozen_by_the_chains_clock(story: MarketStory) -> None:
    state = await story.see_factory()
    view = await story.look()
    now = view.factory()
    assert now is not None
    until = int(now.read_at + now.age_s) + 60
    await story.see_factory(frozen_until=until, seqno=state.seqno + 1)
    await story.look()
    assert [one.code for one in view.sale_facts().obstacles] == ["price_stale", "vault_frozen"]
    story.clock.now += 59
    assert "vault_frozen" in {one.code for one in view.sale_facts().obstacles}
    story.clock.now += 2
    assert "vault_frozen" not in {one.code for one in view.sale_facts().obstacles}
    await story.see_factory(frozen_until=until + 3_600, chain_time_offset_s=7_200.0, seqno=state.seqno + 2)
    await story.look()
    assert "vault_frozen" not in {one.code for one in view.sale_facts().obstacles}, "the chain's clock is ahead of ours"


def premium(nano: int) -> tuple[PremiumsDistributed, PremiumsEarned]:
    return PremiumsDistributed(nano, 1, (nano, 0, 0, 0, 0, 0)), PremiumsEarned(1, nano)


async def test_the_record_is_of_365_days_of_blocks(story: MarketStory) -> None:
    view = await story.look()
    record = view.record()
    assert (record.claims, record.paid_nano, record.earned_nano) == (0, 0, 0)
    assert record.loss_ratio is None, "nothing was earned: there is no ratio, and it is not 0"
    first = await story.sell(USDC, 9 * TON)
    await story.post(*premium(8 * TON))
    await story.post(LossAbsorbed(6, 2 * TON, first))
    await story.post(PayoutExecuted(first, HOLDER, 2 * TON), contract=FACTORY)
    story.clock.now += RECORD_KEPT_S
    await story.look()
    assert (view.record().claims, view.record().loss_ratio) == (1, 0.25)
    second = await story.sell(USDC, 9 * TON)
    await story.post(*premium(10 * TON), after_s=366 * DAY_S)
    await story.post(LossAbsorbed(6, 1 * TON, second))
    await story.post(PayoutExecuted(second, HOLDER, 1 * TON), contract=FACTORY)
    story.clock.now += RECORD_KEPT_S
    await story.look()
    record = view.record()
    assert (record.claims, record.paid_nano, record.earned_nano) == (1, TON, 10 * TON)


async def test_where_old_steps_are_gone_the_record_begins_at_the_oldest_one_kept(story: MarketStory) -> None:
    await story.post(*premium(8 * TON))
    await story.post(*premium(10 * TON), after_s=40 * DAY_S)
    await story.post(*premium(5 * TON), after_s=40 * DAY_S)
    await story.conn.execute(
        "DELETE FROM tranche_utilization_history WHERE recorded_at < (SELECT max(recorded_at) - interval '50 days'"
        " FROM tranche_utilization_history)"
    )
    await story.conn.execute(
        "UPDATE history_horizon SET since = (SELECT min(recorded_at) FROM tranche_utilization_history)"
    )
    record = (await story.look()).record()
    assert record.earned_nano == 15 * TON, "not 23: what was earned before the oldest step is not known to be in it"


async def test_an_unknown_vault_is_named(story: MarketStory) -> None:
    await story.see_price("2")
    with pytest.raises(UnknownVault):
        (await story.look()).require(vault_id="other")


async def test_reservations_are_taken_off_the_room(story: MarketStory) -> None:
    await story.see_price("2")
    view = await story.look()
    free = view.require().capacity(USDC)
    state = story.reads.state_or_none
    assert state is not None
    held = tuple(msgspec.structs.replace(one, held_nano=949 * TON) for one in state.tranches)
    story.reads._keep(msgspec.structs.replace(state, tranches=held), story.clock())
    crowded = view.require().capacity(USDC)
    assert crowded.available_nano < free.available_nano
    assert crowded.binding_limit == "max_utilization"


async def test_the_roles_of_the_api_may_read_it_all(story: MarketStory, database: str) -> None:
    await story.see_price("2")
    await story.see_factory()
    pool = LazyPool(database, max_size=1, role="tonsurance_api")
    view = MarketView(pool, story.reads, clock=story.clock)
    assert await view.refresh()
    assert view.price.asset == TON_ASSET
    await pool.close()


async def test_a_database_that_hangs_is_an_outage_and_not_a_wait(story: MarketStory, database: str) -> None:
    view = MarketView(story.pool, story.reads, clock=story.clock, read_timeout_s=2.0)
    assert await view.refresh()
    locker = await connect(database)
    async with locker.transaction():
        await locker.execute("LOCK TABLE price_history IN ACCESS EXCLUSIVE MODE")
        assert not await view.refresh()
    await locker.close()
    assert await view.refresh()
