"""Whether a policy can be created: exact to the nano, by every limit, and with a reason that is true."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

import msgspec
import pytest

from db.chain_story import TON
from services.market_story import MarketStory
from tonsurance.core.errors import InputError, PriceUnavailable, StaleFigures
from tonsurance.core.events import CoverageChanged
from tonsurance.core.limits import InForce, cap_limits, find_tightest, policy_capacity, read_rules
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.products import Product, find_product
from tonsurance.core.sale import Obstacle
from tonsurance.core.units import BIGINT_MAX
from tonsurance.services.market_view import Market
from tonsurance.services.policies import PolicyChecks
from tonsurance.services.tranche_reads import room_of

USDC = find_product("depeg", "Ethereum", "USDC")


@pytest.fixture
async def story(database: str) -> AsyncIterator[MarketStory]:
    """6000 TON of capital, a price, and a factory that sells."""
    story = MarketStory(database)
    await story.start()
    await story.see_price("2")
    await story.see_factory()
    yield story
    await story.close()


async def test_it_is_allowed_to_the_last_nano_and_not_one_more(story: MarketStory) -> None:
    checks = PolicyChecks(await story.look())
    most = await checks.can_create_policy(USDC, 300 * TON)
    assert most.allowed
    assert most.reasons == ()
    more = await checks.can_create_policy(USDC, 300 * TON + 1)
    assert not more.allowed
    assert not more.sufficient
    assert (more.binding_limit, more.capacity.available_nano) == ("max_policy_percent", 300 * TON)
    assert more.reasons == (), "it is on sale: only room is missing, and the limit is named"


@pytest.mark.parametrize(
    ("sold", "limit", "left"),
    [
        ([(USDC, 1400)], "product_cap", 100),
        ([(find_product("oracle", "Ethereum", "DAI"), 1400)] * 2 + [(USDC, 700)], "chain_cap", 100),
    ],
)
async def test_cover_in_force_takes_from_the_caps(
    story: MarketStory, sold: list[tuple[Product, int]], limit: str, left: int
) -> None:
    for product, cover in sold:
        await story.sell(product, cover * TON)
    decision = await PolicyChecks(await story.look()).can_create_policy(USDC, left * TON)
    assert decision.allowed
    assert (decision.binding_limit, decision.capacity.available_nano) == (limit, left * TON)
    elsewhere = await PolicyChecks(story.view).can_create_policy(find_product("depeg", "Solana", "USDC"), 300 * TON)
    assert elsewhere.allowed


async def test_a_full_tranche_is_named(story: MarketStory) -> None:
    await story.post(CoverageChanged(1, (0, 0, 0, 0, 0, 950 * TON)))
    decision = await PolicyChecks(await story.look()).can_create_policy(USDC, TON)
    assert not decision.allowed
    assert (decision.binding_limit, decision.capacity.binding_tranche) == ("max_utilization", "SURE-EQT")
    assert len(decision.capacity.limits) == 9


async def test_lack_of_room_raises_nothing_whatever_the_amount(story: MarketStory) -> None:
    checks = PolicyChecks(await story.look())
    assert not (await checks.can_create_policy(USDC, BIGINT_MAX)).allowed
    for wrong in (0, -1, BIGINT_MAX + 1, True, 1.0, "5"):
        with pytest.raises(InputError):
            await checks.can_create_policy(USDC, wrong)  # type: ignore[arg-type]


async def test_what_is_not_on_sale_is_refused_with_its_reason_though_there_is_room(story: MarketStory) -> None:
    checks = PolicyChecks(await story.look())
    for product, code in (
        (find_product("bridge", "Optimism", "USDC"), "no_watched_bridge"),
        (find_product("oracle", "Bitcoin", "USDC"), "invalid_product"),
    ):
        decision = await checks.can_create_policy(product, TON)
        assert decision.sufficient
        assert not decision.allowed
        assert [one.code for one in decision.on_sale] == [code]
        assert len(decision.reasons) == 1
    await story.see_factory(paused=True, seqno=2)
    await story.look()
    assert [one.code for one in (await checks.can_create_policy(USDC, TON)).on_sale] == ["factory_paused"]


async def test_without_figures_nothing_is_decided(story: MarketStory) -> None:
    checks = PolicyChecks(await story.look())
    await story.conn.execute("UPDATE price_history SET observed_at = observed_at - interval '1 hour'")
    await story.look()
    with pytest.raises(PriceUnavailable):
        await checks.can_create_policy(USDC, TON)
    story.clock.now += 100
    with pytest.raises(StaleFigures):
        await checks.can_create_policy(USDC, TON)


async def test_checks_that_come_later_refuse_products_and_single_policies(story: MarketStory) -> None:
    seen: list[tuple[Product, int]] = []

    def depeg(product: Product) -> Iterable[Obstacle]:
        return [Obstacle("coin_below_peg", "the coin trades below 0.99")] if product.stablecoin == "DAI" else []

    def collateral(market: Market, product: Product, coverage_nano: int) -> Iterable[Obstacle]:
        seen.append((product, coverage_nano))
        return [Obstacle("too_large", "more than fits")] if coverage_nano * 10 > market.cover.version * 10 * TON else []

    checks = PolicyChecks(await story.look(), [depeg], [collateral])
    dai = await checks.can_create_policy(find_product("depeg", "Ethereum", "DAI"), TON)
    assert (dai.allowed, dai.reasons) == (False, ("the coin trades below 0.99",))
    large = await checks.can_create_policy(USDC, 200 * TON)
    assert (large.allowed, large.sufficient, large.reasons) == (False, True, ("more than fits",))
    assert (await checks.can_create_policy(USDC, TON)).allowed
    assert seen[1:] == [(USDC, 200 * TON), (USDC, TON)]
    assert [one.code for one in checks.list_obstacles(find_product("depeg", "TON", "DAI"))] == ["coin_below_peg"]


async def test_the_same_room_as_the_capacity_route_computes(story: MarketStory) -> None:
    await story.sell(USDC, 33 * TON)
    decision = await PolicyChecks(await story.look()).can_create_policy(USDC, TON)
    rooms = [room_of(figures.totals) for figures in story.reads.snapshot.tranches]
    in_force = await story.ledger.read_cover_in_force("main", 0, 0, 0)
    assert decision.capacity == policy_capacity(rooms, read_rules(DEFAULT_PARAMS), in_force=in_force)


async def test_the_tightest_of_base_and_caps_is_the_one_of_the_whole_list(story: MarketStory) -> None:
    await story.look()
    dice = random.Random(7)
    totals = [figures.totals for figures in story.reads.snapshot.tranches]
    for _ in range(500):
        rooms = [
            room_of(msgspec.structs.replace(one, capital_nano=dice.choice((0, 100, 1000)) * TON)) for one in totals
        ]
        rules = msgspec.structs.replace(
            read_rules(DEFAULT_PARAMS), product_cap=dice.choice((0.05, 0.25, 1.0)), chain_cap=dice.choice((0.05, 0.6))
        )
        in_force = InForce(dice.choice((0, 50, 900)) * TON, dice.choice((0, 1000, 9000)) * TON)
        whole = policy_capacity(rooms, rules, in_force=in_force)
        capital = sum(room.capital_nano for room in rooms)
        limit = find_tightest(policy_capacity(rooms, rules), cap_limits(capital, in_force, rules))
        assert (limit.name, limit.headroom_nano, limit.tranche_id) == (
            whole.binding_limit,
            whole.available_nano,
            whole.binding_tranche,
        )
