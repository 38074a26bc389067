"""The technical price: each factor by hand, all against fractions, never below a floor, never cheaper for more."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import independent_prices as independent
from tonsurance.core.errors import InputError, InvalidUtilization
from tonsurance.core.params import DEFAULT_PARAMS, InvalidParameters, build_params
from tonsurance.core.premium import (
    MIN_ABSOLUTE,
    MIN_RATE,
    NO_FLOOR,
    MarketInputs,
    TechnicalPrice,
    charge_claims,
    charge_days,
    charge_stress,
    charge_trigger,
    charge_utilization,
    payout_ratio,
    price_technical,
)
from tonsurance.core.products import PRODUCTS, STABLECOINS, find_product
from tonsurance.core.quotes import SOLD_TRIGGER, Terms
from tonsurance.core.technical_rates import TechnicalRates, charge_size, read_technical_rates
from tonsurance.core.tiers import base_rate, size_discount, utilization_multiplier

RATES = read_technical_rates(DEFAULT_PARAMS)
CALM = MarketInputs(utilization=Decimal("0.3"), loss_ratio=None, claims_count=0, stress="Normal")
TINY = Fraction(1, 10**38)
amounts = st.integers(100 * 10**6, 50_000_000 * 10**6).map(lambda micro: Decimal(micro).scaleb(-6))
near_tiers = st.builds(
    lambda at, off: at + off,
    st.sampled_from([Decimal(10**5), Decimal(10**6), Decimal(10**7), Decimal("1055555.555555")]),
    st.integers(-2_000_000, 2_000_000).map(lambda micro: Decimal(micro).scaleb(-6)),
)
any_amount = amounts | near_tiers
days_sold = st.integers(1, 365)
triggers = st.integers(900_000, 995_000).map(lambda micro: Decimal(micro).scaleb(-6))
ratios = st.integers(0, 2_000_000).map(lambda parts: Decimal(parts).scaleb(-6))
markets = st.builds(
    MarketInputs,
    utilization=st.sampled_from([Decimal(0), Decimal("0.5"), Decimal("0.75"), Decimal("0.9"), Decimal(1)]) | ratios,
    loss_ratio=st.none() | ratios,
    claims_count=st.integers(0, 20),
    stress=st.sampled_from(list(independent.STRESS)),
)
coins = st.sampled_from(STABLECOINS)


def price(
    amount: str | Decimal = "10000",
    days: int = 90,
    coin: str = "USDC",
    trigger: str | Decimal = SOLD_TRIGGER,
    inputs: MarketInputs = CALM,
    rates: TechnicalRates = RATES,
) -> TechnicalPrice:
    """The technical price of a depeg cover on Ethereum."""
    terms = Terms(product=find_product("depeg", "Ethereum", coin), amount_usd=Decimal(amount), days=days)
    return price_technical(terms, Decimal(trigger), inputs, rates)


def rates_with(**values: object) -> TechnicalRates:
    """The numbers under other parameters of prices."""
    return read_technical_rates(build_params({("pricing", key): value for key, value in values.items()}, 2))


def independent_premium(coin: str, amount: Decimal, days: int, trigger: Decimal, inputs: MarketInputs) -> Fraction:
    """The same by the fractions."""
    ratio = None if inputs.loss_ratio is None else str(inputs.loss_ratio)
    return independent.technical_premium(
        coin, str(amount), days, trigger=str(trigger), utilization=str(inputs.utilization),
        loss_ratio=ratio, claims=inputs.claims_count, stress=inputs.stress,
    )  # fmt: skip


def test_ten_thousand_dollars_of_usdc_for_90_days_cost_102_33_and_every_factor_is_shown() -> None:
    found = price()
    parts = {part.name: (str(part.weight), str(part.factor)) for part in found.risk}
    assert parts == {
        "reserve_quality": ("0.3", "0.1"),
        "banking_exposure": ("0.25", "0.2"),
        "redemption_velocity": ("0.2", "0.15"),
        "market_illiquidity": ("0.15", "0.05"),
        "regulatory_clarity": ("-0.1", "0.8"),
    }
    # 0.03 + 0.05 + 0.03 + 0.0075 - 0.08 = 0.0375; 10000 * 0.04 * 1.0375 * 90 / 365 = 102.3287671...
    assert sum(part.part for part in found.risk) == found.risk_adjustment == Decimal("0.0375")
    assert (found.base_rate, found.annual_rate) == (Decimal("0.04"), Decimal("0.0415"))
    assert {found.size, found.utilization, found.trigger, found.stress, found.claims} == {Decimal(1)}
    assert (found.trigger_price, found.floor_price) == (Decimal("0.97"), Decimal("0.90"))
    assert (found.duration_days, found.size_tier, found.floor_applied) == (90, 0, NO_FLOOR)
    assert str(found.premium_usd) == "102.33"
    assert abs(Fraction(found.exact) - Fraction(7_470, 73)) < Fraction(1, 10**35)


def test_a_large_cover_in_a_bad_market_by_hand() -> None:
    inputs = MarketInputs(utilization=0.8, loss_ratio=Decimal("0.6"), claims_count=3, stress="High")
    found = price("2000000", 365, "USDT", "0.985", inputs)
    # 0.06 * (1 + 0.09 + 0.0875 + 0.02 + 0.0045 - 0.04) = 0.06972; 2,000,000 at 0.9; 1.25; 1 + 0.015/0.07*0.5; 1.7; 1.5
    assert found.risk_adjustment == Decimal("0.162")
    assert (found.size_tier, found.size, found.utilization) == (2, Decimal("0.9"), Decimal("1.25"))
    assert (found.stress, found.claims) == (Decimal("1.7"), Decimal("1.5"))
    exact = Fraction(2_000_000) * Fraction("0.06972") * Fraction("0.9") * Fraction("1.25") * Fraction("1.7")
    exact *= Fraction("1.5") * (1 + Fraction(15, 140))
    assert abs(Fraction(found.exact) - exact) < exact * TINY
    assert str(found.premium_usd) == "442877.62"  # 442877.625: half a cent goes to the even one
    assert found.floor_price == Decimal("0.915")


def test_short_cover_is_charged_by_the_square_root_of_time() -> None:
    assert charge_days(90, RATES) == 90
    assert charge_days(365, RATES) == 365
    assert charge_days(10, RATES) == 30
    assert charge_days(40, RATES) == 60
    week = charge_days(7, RATES)  # the root of 630
    assert abs(Fraction(week) ** 2 - 630) < Fraction(1, 10**45)
    found = price("1000000", 10)
    assert found.duration_days == 30
    assert str(found.premium_usd) == "3240.41"  # 950,000 * 0.0415 * 30 / 365 = 3240.4109...


def test_all_coins_and_places_cost_what_the_fractions_say() -> None:
    inputs = MarketInputs(utilization=Decimal("0.76"), loss_ratio=Decimal("0.1"), claims_count=12, stress="Elevated")
    for product in PRODUCTS:  # a technical price is of the coin; the type and the chain have no part in it
        terms = Terms(product=product, amount_usd=Decimal("123456.789"), days=30)
        found = price_technical(terms, Decimal("0.95"), inputs, RATES)
        exact = independent_premium(product.stablecoin, terms.amount_usd, 30, Decimal("0.95"), inputs)
        assert str(found.premium_usd) == independent.to_cents(exact)


@given(coins, any_amount, days_sold, triggers, markets)
def test_any_cover_in_any_market_costs_what_the_fractions_say(
    coin: str, amount: Decimal, days: int, trigger: Decimal, inputs: MarketInputs
) -> None:
    found = price(amount, days, coin, trigger, inputs)
    exact = independent_premium(coin, amount, days, trigger, inputs)
    assert abs(Fraction(found.exact) - exact) <= exact * TINY
    assert str(found.premium_usd) == independent.to_cents(exact)
    product = found.base_rate * (1 + found.risk_adjustment) * found.size * found.utilization
    product *= found.trigger * found.stress * found.claims
    assert abs(product - found.annual_rate) < Decimal("1e-20")
    if found.floor_applied == NO_FLOOR:
        by_rate = amount * found.annual_rate * found.duration_days / 365
        assert abs(by_rate - found.exact) < Decimal("1e-15")


@given(coins, any_amount, days_sold, triggers, markets)
def test_no_premium_is_below_its_floors_and_the_floor_is_named(
    coin: str, amount: Decimal, days: int, trigger: Decimal, inputs: MarketInputs
) -> None:
    found = price(amount, days, coin, trigger, inputs)
    by_rate = Fraction(amount) / 100 * Fraction(days, 365)
    assert found.exact >= 100
    assert Fraction(found.exact) >= by_rate * (1 - TINY)
    floor = {NO_FLOOR: None, MIN_ABSOLUTE: Fraction(100), MIN_RATE: by_rate}[found.floor_applied]
    assert floor is None or abs(Fraction(found.exact) - floor) <= floor * TINY


def test_the_floors_by_hand() -> None:
    assert (price("100", 1).premium_usd, price("100", 1).floor_applied) == (Decimal("100.00"), MIN_ABSOLUTE)
    held = price("1000000", 365, rates=rates_with(min_premium_rate=0.05))
    assert (str(held.premium_usd), held.floor_applied) == ("50000.00", MIN_RATE)
    assert price("1000000", 365).floor_applied == NO_FLOOR
    no_floor = rates_with(min_premium_rate=0.0, min_premium_absolute=0.0, base_rate_USDC=0.0)
    assert (price(rates=no_floor).exact, price(rates=no_floor).floor_applied) == (0, NO_FLOOR)


@given(coins, any_amount, any_amount, days_sold, days_sold, triggers, triggers, markets)
def test_more_cover_more_time_or_a_higher_trigger_never_cost_less(
    coin: str, one: Decimal, other: Decimal, days: int, more: int, low: Decimal, high: Decimal, inputs: MarketInputs
) -> None:
    small, large = sorted((one, other))
    short, long = sorted((days, more))
    far, near = sorted((low, high))
    ways = [(small, short, far), (large, short, far), (large, long, far), (large, long, near)]
    premiums = [price(amount, time, coin, trigger, inputs).exact for amount, time, trigger in ways]
    assert premiums == sorted(premiums)


@given(st.floats(0, 1), st.floats(0, 1), any_amount, days_sold, markets)
def test_a_higher_base_rate_never_costs_less(
    one: float, other: float, amount: Decimal, days: int, inputs: MarketInputs
) -> None:
    low, high = (rates_with(base_rate_USDC=rate) for rate in sorted((one, other)))
    assert price(amount, days, inputs=inputs, rates=low).exact <= price(amount, days, inputs=inputs, rates=high).exact


@st.composite
def size_tiers(draw: st.DrawFn) -> dict[str, float]:
    """Any three tiers the registry takes, also some that begin at the same cover, or just beside each other."""
    third = draw(st.floats(1_000, 10_000))
    second = third * draw(st.just(1.0) | st.floats(1, 1.2))
    first = second * draw(st.just(1.0) | st.floats(1, 1.2))
    one, two, three = sorted(draw(st.lists(st.floats(0.1, 1), min_size=3, max_size=3)))
    return {
        "size_discount_tier1_threshold": first, "size_discount_tier1_multiplier": one,
        "size_discount_tier2_threshold": second, "size_discount_tier2_multiplier": two,
        "size_discount_tier3_threshold": third, "size_discount_tier3_multiplier": three,
    }  # fmt: skip


@given(size_tiers(), st.lists(st.floats(500, 20_000).map(lambda usd: Decimal(f"{usd:.6f}")), min_size=2, max_size=12))
def test_no_tiers_of_size_make_more_cover_cheaper(values: dict[str, float], given_amounts: list[Decimal]) -> None:
    rates = rates_with(**values)
    edges = [tier.threshold_usd for tier in rates.size_tiers]
    found = [charge_size(amount, rates.size_tiers)[1] for amount in sorted([*given_amounts, *edges])]
    assert found == sorted(found)
    for amount in given_amounts:
        charged = charge_size(amount, rates.size_tiers)[1]
        assert charged <= amount
        reached = next((tier for tier in rates.size_tiers if amount >= tier.threshold_usd), None)
        assert reached is None or charged >= amount * reached.multiplier - Decimal("1e-20")


def test_the_discount_of_the_size_at_its_edges() -> None:
    for amount, tier, charged in (
        ("99999.999999", 0, "99999.999999"),
        ("100000", 3, "100000"),  # not 95,000: the threshold costs as much as without the discount
        ("105263", 3, "100000"),
        ("200000", 3, "190000"),
        ("1000000", 2, "950000"),
        ("1100000", 2, "990000"),
        ("10000000", 1, "9000000"),
        ("50000000", 1, "40000000"),
    ):
        assert charge_size(Decimal(amount), RATES.size_tiers) == (tier, Decimal(charged))


def test_the_factors_are_those_of_the_loaders_helpers() -> None:
    for coin in STABLECOINS:
        assert float(RATES.base[coin]) == base_rate(DEFAULT_PARAMS, coin)
    for tier in RATES.size_tiers:
        assert float(tier.multiplier) == size_discount(DEFAULT_PARAMS, float(tier.threshold_usd))
    for used in (0.0, 0.5, 0.51, 0.75, 0.7500001, 0.9, 0.91, 1.0):
        assert float(charge_utilization(used, RATES)) == utilization_multiplier(DEFAULT_PARAMS, used)


@pytest.mark.parametrize(
    ("used", "factor"),
    [("0", "1"), ("0.5", "1"), ("0.500001", "1.1"), ("0.75", "1.1"), ("0.750001", "1.25"), ("0.9", "1.25"),
     ("0.900001", "1.5"), ("1", "1.5"), ("7", "1.5")],
)  # fmt: skip
def test_the_surcharge_is_that_of_the_highest_tier_that_is_exceeded(used: str, factor: str) -> None:
    assert charge_utilization(Decimal(used), RATES) == charge_utilization(float(used), RATES) == Decimal(factor)


@pytest.mark.parametrize(
    ("level", "factor"), [("Normal", "1"), ("Elevated", "1.3"), ("High", "1.7"), ("Extreme", "2.5")]
)
def test_stress_is_one_and_twice_its_index(level: str, factor: str) -> None:
    assert charge_stress(level, RATES) == Decimal(factor)


@pytest.mark.parametrize(
    ("ratio", "count", "factor"),
    [
        (None, 0, "1"),
        ("0.4", 0, "1"),
        ("0.4", 100, "1"),
        ("0.6", 0, "1.5"),
        ("0.8", 0, "2"),
        ("1.2", 0, "3"),
        ("1.3", 0, "3"),
        ("1000", 0, "3"),
        ("0", 10, "0.5"),
        ("0.2", 10, "0.75"),
        ("0.2", 9, "1"),
        ("0", 0, "1"),
    ],
)
def test_claims_raise_a_premium_up_to_the_cap_and_lower_it_only_when_there_were_enough(
    ratio: str | None, count: int, factor: str
) -> None:
    assert charge_claims(None if ratio is None else Decimal(ratio), count, RATES) == Decimal(factor)
    assert charge_claims(None if ratio is None else float(ratio), count, RATES) == Decimal(factor)


def test_a_higher_trigger_costs_more_and_the_base_price_nothing() -> None:
    assert charge_trigger(Decimal("0.97"), RATES) == 1
    assert charge_trigger(Decimal("0.90"), RATES) == Decimal("0.5")
    assert abs(charge_trigger(Decimal("0.995"), RATES) - (1 + Decimal("0.025") / Decimal("0.14"))) < Decimal("1e-25")


BAD_NUMBERS = ("NaN", "sNaN", "Infinity", "-Infinity", "-1", "-1e-30")


@pytest.mark.parametrize("trigger", [*BAD_NUMBERS, "0", "0.899999", "0.995001", "97", "1e400"])
def test_a_trigger_that_has_no_price_is_a_typed_error(trigger: str) -> None:
    with pytest.raises(InputError, match=r"trigger_price is from 0\.9 to 0\.995"):
        price(trigger=trigger)


@pytest.mark.parametrize("used", [*BAD_NUMBERS, float("nan"), float("inf"), -0.1])
def test_a_utilization_that_is_none_is_a_typed_error(used: str | float) -> None:
    with pytest.raises(InvalidUtilization):
        charge_utilization(Decimal(used) if isinstance(used, str) else used, RATES)


@pytest.mark.parametrize("ratio", [*BAD_NUMBERS, float("nan"), float("inf"), -0.1])
def test_a_loss_ratio_that_is_none_is_a_typed_error(ratio: str | float) -> None:
    with pytest.raises(InputError, match="loss ratio"):
        charge_claims(Decimal(ratio) if isinstance(ratio, str) else ratio, 10, RATES)


@pytest.mark.parametrize("count", [-1, True, 1.0, "1", None])
def test_a_number_of_claims_that_is_none_is_a_typed_error(count: int) -> None:
    with pytest.raises(InputError, match="number of claims"):
        charge_claims(None, count, RATES)


@pytest.mark.parametrize("level", ["normal", "", "Worst", None])
def test_an_unknown_stress_is_a_typed_error(level: str) -> None:
    with pytest.raises(InputError, match="Normal, Elevated, High, Extreme"):
        charge_stress(level, RATES)


def test_no_price_depends_on_the_context_of_the_thread() -> None:
    inputs = MarketInputs(utilization=Decimal("0.76"), loss_ratio=Decimal("0.37"), claims_count=12, stress="High")
    expected = price("1234567.891", 17, "USDT", "0.9551", inputs)
    params = build_params({}, 7)
    with localcontext(Context(prec=2)):
        assert price("1234567.891", 17, "USDT", "0.9551", inputs, read_technical_rates(params)) == expected


def test_a_market_written_and_read_again_gives_the_same_price() -> None:
    for inputs in (
        MarketInputs(utilization=0.1 + 0.2, loss_ratio=1 / 3, claims_count=11, stress="High"),
        MarketInputs(utilization=Decimal("0.33"), loss_ratio=None, claims_count=0, stress="Normal"),
    ):
        again = msgspec.json.decode(msgspec.json.encode(inputs), type=MarketInputs)
        assert again == inputs
        assert price(inputs=again) == price(inputs=inputs)


@pytest.mark.parametrize(
    ("at", "part"),
    [("1.02", 0), ("0.97", 0), ("0.969999", "0.000001"), ("0.935", "0.035"), ("0.900001", "0.069999"),
     ("0.90", "0.07"), ("0.5", "0.07"), ("0", "0.07")],
)  # fmt: skip
def test_a_depeg_pays_in_proportion_between_trigger_and_floor(at: str, part: str) -> None:
    found = payout_ratio(Decimal(at), Decimal("0.97"), Decimal("0.90"))
    assert abs(Fraction(found) - Fraction(part) / Fraction("0.07")) < TINY


@given(*[st.integers(0, 1_200_000).map(lambda micro: Decimal(micro).scaleb(-6))] * 3)
def test_what_a_depeg_pays_is_what_the_fractions_say(at: Decimal, one: Decimal, other: Decimal) -> None:
    floor, trigger = sorted((one, other))
    if floor == trigger:
        with pytest.raises(InputError):
            payout_ratio(at, trigger, floor)
        return
    found = payout_ratio(at, trigger, floor)
    assert 0 <= found <= 1
    assert abs(Fraction(found) - independent.payout(str(at), str(trigger), str(floor))) < TINY


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("place", range(3))
def test_a_payout_at_what_is_no_price_is_a_typed_error(place: int, bad: str) -> None:
    given_prices = [Decimal("0.95"), Decimal("0.97"), Decimal("0.90")]
    given_prices[place] = Decimal(bad)
    with pytest.raises(InputError):
        payout_ratio(*given_prices)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trigger_adjustment_factor": 1.01}, "would cost less than nothing"),
        ({"trigger_span": 0.03}, "would cost less than nothing"),
        ({"risk_weight_reserve_quality": -1.0, "risk_factors_USDT": dict.fromkeys(
            ("reserve_quality", "banking_exposure", "redemption_velocity", "market_illiquidity", "regulatory_clarity"),
            1.0), "risk_weight_banking_exposure": -1.0}, "risk_factors_USDT: would cost less than nothing"),
        ({"stress_index_High": 0.1}, "stress_index_Elevated"),
        ({"trigger_base_price": 0.91, "min_trigger_price": 0.92}, "min_trigger_price"),
    ],
)  # fmt: skip
def test_parameters_that_would_make_a_price_of_less_than_nothing_are_refused(
    values: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidParameters, match=said):
        rates_with(**values)


def test_the_trigger_that_is_sold_has_a_price_under_all_parameters() -> None:
    for values in ({"min_trigger_price": 0.97}, {"max_trigger_price": 0.97}):
        assert price(rates=rates_with(**values)).trigger == 1
    rates_with(trigger_adjustment_factor=1.0)  # the lowest trigger costs nothing, not less
