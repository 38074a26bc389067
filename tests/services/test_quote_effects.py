"""What a dry run says of prices is what happens to them; what it does not mention does not change."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from core import independent_prices as independent
from services.config_story import ROOT, open_store, put
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.core.premium import MarketInputs, price_technical
from tonsurance.core.products import STABLECOINS, VALID_PRODUCTS, Product
from tonsurance.core.quotes import SOLD_TRIGGER, Terms, check_terms, price_list, read_list_rates
from tonsurance.core.technical_rates import read_technical_rates
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.config_admin import ConfigAdmin, Proposal
from tonsurance.services.config_effects import make_effects
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import Applied, ConfigStore
from tonsurance.services.quote_effects import CALM, MOST_SHOWN, compare_prices

BY_NAME = {product.name: product for product in VALID_PRODUCTS}


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


def params_with(version: int = 2, **values: object) -> Params:
    """The defaults with these parameters of prices."""
    return build_params({("pricing", key): value for key, value in values.items()}, version)


def compare(**values: object) -> Any:
    """What these would do to the prices, as it comes out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(compare_prices(DEFAULT_PARAMS, params_with(**values))))


def list_usd(params: Params, product: Product) -> str:
    """The list price at the reference under these parameters, as a quote has it."""
    rates = read_list_rates(params)
    return str(price_list(check_terms(product, Decimal(10_000), 90, rates), rates).premium_usd)


CHANGES: tuple[tuple[tuple[str, str], object, int, int], ...] = (
    (("pricing", "coverage_base_rate_oracle"), 0.018, 7 * 14, 0),
    (("pricing", "chain_multiplier_Bitcoin"), 1.2, 2 * 14, 0),
    (("pricing", "stablecoin_adjustment_GHO"), 0.002, 40, 0),
    (("pricing", "base_rate_GHO"), 0.08, 0, 40),
    (("pricing", "stress_slope"), 2.5, 0, 560),
    (("risk", "high_utilization"), 0.93, 0, 0),
    (("tranche", "SURE_MEZZ_apy_max"), 16.0, 0, 0),
    (("api", "admin_rate_limit"), 120, 0, 0),
)


@pytest.mark.parametrize(("name", "value", "listed", "technical"), CHANGES, ids=[name[1] for name, *_ in CHANGES])
async def test_the_effect_of_a_dry_run_is_what_happens_to_all_prices(
    store: ConfigStore, database: str, name: tuple[str, str], value: object, listed: int, technical: int
) -> None:
    loader = ConfigLoader(database)
    admin = ConfigAdmin(store, AdminRecords(store.pool), make_effects(), loader, snapshot=lambda: None, approvals=False)
    before = await store.read()
    trial = await admin.try_out(Proposal(edits=(put(name, value),), reason="try"), ROOT)
    assert (await store.read()).hash == before.hash
    applied = await admin.propose(Proposal(edits=(put(name, value),), reason="do"), ROOT)
    assert isinstance(applied, Applied)
    after = loader.params
    assert after.version == applied.version
    said: Any = trial.effects["quotes"]
    check_said(said, before, after)
    assert (said["list_price"]["changed"], said["technical_price"]["changed"]) == (listed, technical)
    await loader.close()


def check_said(said: Any, before: Params, after: Params) -> None:
    """Every figure of the dry run against the prices under the parameters that are in force before and after."""
    changed = {product.name for product in VALID_PRODUCTS if list_usd(before, product) != list_usd(after, product)}
    assert said["list_price"]["changed"] == len(changed)
    for row in said["list_price"]["most_changed"]:
        product = BY_NAME[row["product"]]
        assert (row["before_usd"], row["after_usd"]) == (list_usd(before, product), list_usd(after, product))
        assert row["product"] in changed
    for row in said["technical_price"]["most_changed"]:
        terms = Terms(product=BY_NAME[row["product"]], amount_usd=Decimal(row["amount_usd"]), days=row["duration_days"])
        inputs = MarketInputs(utilization=0.0, loss_ratio=None, claims_count=0, stress=row["market"].split()[-1])
        inputs = CALM if row["market"] == "calm" else inputs
        found = [price_technical(terms, SOLD_TRIGGER, inputs, read_technical_rates(one)) for one in (before, after)]
        assert [row["before_usd"], row["after_usd"]] == [str(one.premium_usd) for one in found]


def test_the_largest_change_is_named_with_both_prices() -> None:
    found = compare(coverage_base_rate_depeg=0.012, stablecoin_adjustment_USDC=0.001)
    assert found["list_price"]["changed"] == 9 * 14 + 31
    assert found["list_price"]["largest"] == {
        "product": "depeg_Bitcoin_USDC",
        "amount_usd": "10000",
        "duration_days": 90,
        "before_usd": independent.to_cents(independent.list_premium("depeg", "Bitcoin", "USDC", "10000", 90)),
        "after_usd": "29.10",  # 0.012 * 0.9 + 0.001 = 0.0118, of 10,000 for 90 of 365 days: 29.0958...
        "change_percent": pytest.approx(100 * (0.0118 / 0.0072 - 1)),
    }


def test_no_change_and_one_that_touches_no_price_have_no_effect() -> None:
    for values in ({}, {"base_rate_default": 0.15}, {"quote_validity_s": 300}):
        found = compare(**values)
        assert (found["products"], found["terms"]) == (560, [])
        for kind in ("list_price", "technical_price"):
            assert found[kind] == {"changed": 0, "largest": None, "most_changed": []}


EVERYWHERE = (
    ("trigger_base_price", 0.96), ("trigger_adjustment_factor", 0.6), ("trigger_span", 0.08),
    ("duration_base_days", 100.0), ("duration_base_days", 60.0), ("stress_index_Normal", 0.01),
    ("stress_index_Elevated", 0.2), ("stress_index_High", 0.36), ("stress_index_Extreme", 0.8), ("stress_slope", 1.5),
    ("target_loss_ratio", 0.41), ("claims_adjustment_dampener", 0.45), ("claims_cap", 3.1), ("claims_cap", 2.9),
    ("claims_credibility_count", 11), ("claims_credibility_count", 9), ("min_premium_absolute", 101.0),
    ("utilization_tier1_threshold", 0.91), ("utilization_tier2_threshold", 0.74), ("utilization_tier3_threshold", 0.51),
    ("utilization_tier1_multiplier", 1.51), ("utilization_tier2_multiplier", 1.26),
    ("utilization_tier3_multiplier", 1.11), ("size_discount_tier1_threshold", 1.1e7),
    ("size_discount_tier2_threshold", 9e5), ("size_discount_tier3_threshold", 1.01e5),
    ("size_discount_tier1_multiplier", 0.81), ("size_discount_tier2_multiplier", 0.91),
    ("size_discount_tier3_multiplier", 0.94), ("risk_weight_banking_exposure", 0.26),
)  # fmt: skip


@pytest.mark.parametrize(("key", "value"), EVERYWHERE)
def test_every_parameter_of_the_technical_price_is_seen_to_change_all_of_them(key: str, value: float) -> None:
    found = compare(**{key: value})
    assert found["technical_price"]["changed"] == 560
    assert found["list_price"]["changed"] == 0
    rows = found["technical_price"]["most_changed"]
    assert (len(rows), found["technical_price"]["largest"]) == (MOST_SHOWN, rows[0])
    sizes = [abs(row["change_percent"]) for row in rows]
    assert all(one >= other * (1 - 1e-6) for one, other in pairwise(sizes))
    assert sizes[-1] > 0


def test_a_price_that_falls_is_shown_where_it_falls_the_most() -> None:
    [largest, *_] = compare(stress_slope=1.5)["technical_price"]["most_changed"]
    assert (largest["market"], largest["amount_usd"], largest["duration_days"]) == ("stress Extreme", "10000", 90)
    assert largest["change_percent"] == pytest.approx(-15.0)  # 1 + 1.5 * 0.75 = 2.125 in the place of 2.5
    assert (largest["before_usd"], largest["after_usd"]) == ("255.82", "217.45")


def test_factors_of_one_coin_change_that_coin() -> None:
    factors = dict(DEFAULT_PARAMS.value("pricing", "risk_factors_DAI"))  # type: ignore[call-overload]
    found = compare(risk_factors_DAI=factors | {"banking_exposure": 0.2})
    assert found["technical_price"]["changed"] == 40
    assert {BY_NAME[row["product"]].stablecoin for row in found["technical_price"]["most_changed"]} == {"DAI"}


def test_floors_that_come_to_hold_are_named() -> None:
    found = compare(coverage_base_rate_depeg=0.0049, min_premium_absolute=110.0)
    raised = found["floors"]["list_price"]
    below = sum(
        (Decimal("0.0049") * Decimal(independent.TIMES[one.chain]) + Decimal(independent.PLUS[one.stablecoin]) / 10_000)
        < Decimal("0.005")
        for one in VALID_PRODUCTS
        if one.coverage_type == "depeg"
    )
    assert (raised["held_before"], raised["held_after"], len(raised["newly_raised"])) == (
        0,
        below,
        min(below, MOST_SHOWN),
    )
    assert "depeg_Ethereum_USDC" in raised["newly_raised"]
    held = {row["stablecoin"]: (row["before"], row["after"]) for row in found["floors"]["technical_price"]}
    assert held["USDC"] == ("none", "min_premium_absolute")  # 102.33 and 110
    assert "FRAX" not in held
    back = compare_prices(params_with(coverage_base_rate_depeg=0.0049), params_with(3))
    released: Any = back["floors"]
    assert "depeg_Ethereum_USDC" in released["list_price"]["newly_released"]


def test_terms_that_change_are_named_and_the_places_looked_at_are_sold_under_both() -> None:
    found = compare(min_amount_usd=20_000.0, max_duration_days=60, quote_validity_s=200, max_trigger_price=0.99)
    assert {row["term"]: (row["before"], row["after"]) for row in found["terms"]} == {
        "min_amount_usd": ("100.0", "20000.0"),
        "max_days": ("365", "60"),
        "validity_s": ("300", "200"),
        "max_trigger_price": ("0.995", "0.99"),
    }
    looked = found["looked_at"]
    assert looked["reference"] == {"amount_usd": "10000", "duration_days": 90}
    assert (looked["amounts_usd"][0], looked["amounts_usd"][-1]) == ("20000", "50000000")
    assert (looked["duration_days"], "trigger 0.99" in looked["markets"]) == ([1, 60], True)


def test_a_price_that_comes_from_nothing_has_no_percentage_and_comes_first() -> None:
    free = params_with(coverage_base_rate_depeg=0.0)
    found: Any = compare_prices(free, params_with(3, coverage_base_rate_depeg=0.001))
    assert found["list_price"]["largest"]["product"] == "depeg_Ethereum_USDC"
    assert (found["list_price"]["largest"]["before_usd"], found["list_price"]["largest"]["change_percent"]) == (
        "0.00",
        None,
    )
    msgspec.json.encode(found)


def test_a_change_anywhere_is_seen_by_who_looks_at_random_too() -> None:
    """Whatever differs at a random place, the dry run has said of the product that it changes."""
    chance = random.Random(7)
    for key, value in EVERYWHERE:
        after = params_with(**{key: value})
        said: Any = compare_prices(DEFAULT_PARAMS, after)
        for _ in range(5):
            terms = Terms(
                product=chance.choice(VALID_PRODUCTS), amount_usd=Decimal(chance.randint(100, 50_000_000)),
                days=chance.randint(1, 365),
            )  # fmt: skip
            inputs = MarketInputs(
                utilization=round(chance.random(), 3), loss_ratio=round(chance.random(), 3),
                claims_count=chance.randint(0, 20), stress=chance.choice(list(independent.STRESS)),
            )  # fmt: skip
            premiums = {price_technical(terms, SOLD_TRIGGER, inputs, read_technical_rates(one)).exact
                        for one in (DEFAULT_PARAMS, after)}  # fmt: skip
            assert len(premiums) == 1 or said["technical_price"]["changed"] == len(VALID_PRODUCTS)


def test_the_coins_are_all_looked_at() -> None:
    for coin in STABLECOINS:
        assert compare(**{f"base_rate_{coin}": 0.2})["technical_price"]["changed"] == 40
