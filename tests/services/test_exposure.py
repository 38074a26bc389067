"""Cover in force in tables: equal to a recount of the policies, exact, and its parts and sums agree."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest

from db.chain_story import FACTORY, HOLDER, TON, expired
from services.market_story import MarketStory
from tonsurance.core.events import PayoutApproved, PayoutExecuted
from tonsurance.core.prices import Price, value_micro_usd
from tonsurance.core.products import VALID_PRODUCTS, find_product
from tonsurance.services.exposure import Amount, ExposureReport, report_exposure
from tonsurance.services.market_reading import Cover, CoverInForce

RECOUNT = """
SELECT {names} FROM (
    SELECT t.type_name, c.chain_name, s.coin_symbol, sum(p.coverage_amount_nanoton) AS nano, count(*) AS policies
    FROM policies p JOIN coverage_types t ON t.type_id = p.coverage_type
        JOIN chain_risk_metrics c USING (chain_id) JOIN stablecoins s ON s.coin_id = p.stablecoin_id
    WHERE p.vault_id = 'main' AND p.closed_at IS NULL
    GROUP BY 1, 2, 3
) by_product
"""


@pytest.fixture
async def story(database: str) -> AsyncIterator[MarketStory]:
    story = MarketStory(database)
    await story.start()
    yield story
    await story.close()


async def tell(story: MarketStory, seed: int) -> None:
    """Some forty policies of a dozen products; some ended, some with a payout approved."""
    dice = random.Random(seed)
    some = dice.sample(VALID_PRODUCTS, 14)
    sold = [await story.sell(dice.choice(some), dice.randrange(1, 40 * TON)) for _ in range(40)]
    for policy in dice.sample(sold, 12):
        await story.post(dice.choice((expired(policy), PayoutExecuted(policy, HOLDER, 0))), contract=FACTORY)
    still = await story.conn.fetch("SELECT policy_id FROM policies WHERE closed_at IS NULL ORDER BY policy_id LIMIT 3")
    for row in still:
        await story.post(PayoutApproved(row["policy_id"], 1), contract=FACTORY)


def check_sums(report: ExposureReport) -> None:
    for table in (report.by_coverage_type, report.by_chain, report.by_stablecoin):
        parts = [amount for _, amount in table]
        assert sum(one.nano for one in parts) == report.total.nano
        assert sum(one.policies for one in parts) == report.total.policies
        assert sum(one.micro_usd or 0 for one in parts) == report.total.micro_usd


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_table_is_a_recount_of_the_policies(story: MarketStory, seed: int) -> None:
    await tell(story, seed)
    price = await story.see_price("2.345678")
    report = report_exposure((await story.look()).cover(), price)
    usd = "sum(round(nano * 2.345678 / 1000))::bigint"  # no amount of this story is half a millionth
    for column, table in (
        ("type_name", report.by_coverage_type),
        ("chain_name", report.by_chain),
        ("coin_symbol", report.by_stablecoin),
    ):
        rows = await story.conn.fetch(
            RECOUNT.format(
                names=f"{column} AS name, sum(nano)::bigint AS nano, {usd} AS usd, sum(policies) AS policies"
            )
            + "GROUP BY 1"
        )
        counted = {
            row["name"]: Amount(nano=row["nano"], micro_usd=row["usd"], policies=row["policies"]) for row in rows
        }
        assert {name: amount for name, amount in table if amount.policies} == counted
    [total] = await story.conn.fetch(
        RECOUNT.format(names=f"sum(nano)::bigint AS nano, {usd} AS usd, sum(policies)::bigint AS policies")
    )
    assert report.total == Amount(nano=total["nano"], micro_usd=total["usd"], policies=total["policies"])
    assert report.total.policies == 28
    check_sums(report)
    top = await story.conn.fetch(RECOUNT.format(names="*") + "ORDER BY nano DESC LIMIT 10")
    assert [((p.coverage_type, p.chain, p.stablecoin), one.nano, one.policies) for p, one in report.top] == [
        ((row["type_name"], row["chain_name"], row["coin_symbol"]), row["nano"], row["policies"]) for row in top
    ]


async def test_without_a_price_dollars_are_unknown_and_not_zero(story: MarketStory) -> None:
    await story.sell(find_product("depeg", "Ethereum", "USDC"), 5 * TON)
    view = await story.look()
    report = report_exposure(view.cover(), view.price.usable)
    amounts = [one for table in (report.by_coverage_type, report.by_chain, report.top) for _, one in table]
    assert {one.micro_usd for one in (*amounts, report.total)} == {None}
    assert report.total.nano == 5 * TON


async def test_nothing_in_force_is_zero_in_every_row(story: MarketStory) -> None:
    price = await story.see_price("2")
    report = report_exposure((await story.look()).cover(), price)
    assert report.total == Amount(nano=0, micro_usd=0, policies=0)
    assert [len(table) for table in (report.by_coverage_type, report.by_chain, report.by_stablecoin)] == [5, 9, 14]
    assert report.top == ()


def test_of_equal_products_the_smaller_key_is_first_however_they_were_read() -> None:
    products = {product: Cover(TON, 1) for product in reversed(VALID_PRODUCTS[:12])}
    report = report_exposure(CoverInForce(version=1, products=products, chains={}), None)
    assert [product for product, _ in report.top] == list(VALID_PRODUCTS[:10])


def test_dollars_are_exact_to_the_millionth_half_to_even() -> None:
    def value(nano: int, usd: str) -> int:
        return value_micro_usd(nano, Price(asset="TON", usd=Decimal(usd), source="test", observed_at=0.0))

    assert value(TON, "2.5") == 2_500_000
    assert [value(nano, "0.5") for nano in (1_000, 3_000, 5_000)] == [0, 2, 2]
    assert value(2**63 - 1, "999999999999.999999") == round(
        Fraction(2**63 - 1) * Fraction("999999999999.999999") / 1000
    )
    dice = random.Random(3)
    for _ in range(500):
        nano, usd = dice.randrange(2**63), Decimal(dice.randrange(1, 10**12)).scaleb(-dice.randrange(12))
        with localcontext() as context:
            context.prec = 80
            exact = (nano * usd / 1000).quantize(Decimal(1), ROUND_HALF_EVEN)
        assert value(nano, str(usd)) == exact
