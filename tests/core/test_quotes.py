"""The list price and its TON terms: exact against fractions for all products, never below a floor; bad input named."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import independent_prices as independent
from tonsurance.core.errors import InputError, PriceUnavailable
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.products import PRODUCTS, VALID_PRODUCTS, Product, find_product
from tonsurance.core.quotes import (
    CONTRACT_MIN_RATE,
    MIN_EXECUTABLE,
    SOLD_TRIGGER,
    TRIGGER_BPS,
    ListRates,
    Terms,
    check_terms,
    convert_to_ton,
    price_list,
    read_list_rates,
    worth_usd,
)
from tonsurance.core.sale_errors import InvalidProduct
from tonsurance.core.units import BIGINT_MAX

RATES = read_list_rates(DEFAULT_PARAMS)
USDC = find_product("depeg", "Ethereum", "USDC")
AMOUNTS = ("100", "100.000001", "9999.99", "10000", "123456.789012", "1000000", "49999999.999999", "50000000")
DAYS = (1, 7, 30, 90, 364, 365)
products = st.sampled_from(VALID_PRODUCTS)
amounts = st.integers(100 * 10**6, 50_000_000 * 10**6).map(lambda micro: Decimal(micro).scaleb(-6))
days_sold = st.integers(1, 365)
ton_prices = st.integers(1, 10**9).map(lambda micro: Decimal(micro).scaleb(-6))


def names_of(product: Product) -> tuple[str, str, str]:
    """As the independent tables have them."""
    return product.coverage_type, product.chain, product.stablecoin


def terms_of(amount: str = "10000", days: int = 90, product: Product = USDC) -> Terms:
    """Checked terms."""
    return check_terms(product, Decimal(amount), days, RATES)


def rates_with(**values: float) -> ListRates:
    """The list under other parameters of prices."""
    return read_list_rates(build_params({("pricing", key): value for key, value in values.items()}, 2))


def test_ten_thousand_dollars_of_usdc_on_ethereum_for_90_days_cost_19_73() -> None:
    price = price_list(terms_of(), RATES)
    assert str(price.premium_usd) == "19.73"
    assert Fraction(*price.exact) == Fraction(10_000 * 8 * 90, 1_000 * 365)
    assert (price.base_rate, price.chain_multiplier) == (Decimal("0.008"), Decimal(1))
    assert (price.stablecoin_adjustment, price.total_rate) == (Decimal(0), Decimal("0.008"))


def test_all_630_are_priced_as_the_independent_arithmetic_prices_them_or_refused_with_the_reason() -> None:
    for product in PRODUCTS:
        names = names_of(product)
        if independent.invalid_reason(*names[:2]) is not None:
            with pytest.raises(InvalidProduct):
                terms_of(product=product)
            continue
        for amount, days in zip(AMOUNTS, (*DAYS, 1, 365), strict=True):
            price = price_list(terms_of(amount, days, product), RATES)
            exact = independent.list_premium(*names, amount, days)
            assert Fraction(*price.exact) == exact
            assert str(price.premium_usd) == independent.to_cents(exact)
            assert Fraction(price.total_rate) == independent.list_rate(*names)


@given(products, amounts, days_sold)
def test_any_amount_and_time_costs_exactly_what_the_fractions_say(product: Product, amount: Decimal, days: int) -> None:
    price = price_list(terms_of(str(amount), days, product), RATES)
    exact = independent.list_premium(*names_of(product), str(amount), days)
    assert Fraction(*price.exact) == exact
    assert str(price.premium_usd) == independent.to_cents(exact)


def test_half_a_cent_goes_to_the_even_one() -> None:
    rates = rates_with(coverage_base_rate_depeg=0.01)  # 365 days: a hundredth of the amount
    for amount, cents in (("100.5", "1.00"), ("101.5", "1.02"), ("102.5", "1.02"), ("100.500001", "1.01")):
        terms = check_terms(USDC, Decimal(amount), 365, rates)
        assert str(price_list(terms, rates).premium_usd) == cents


@given(products, amounts, amounts, days_sold, days_sold)
def test_more_cover_or_more_time_never_costs_less(
    product: Product, one: Decimal, other: Decimal, days: int, more: int
) -> None:
    small, large = sorted((one, other))
    short, long = sorted((days, more))
    assert exact_of(product, small, short) <= exact_of(product, large, short) <= exact_of(product, large, long)


def exact_of(product: Product, amount: Decimal, days: int, rates: ListRates = RATES) -> Fraction:
    """The list premium as a fraction."""
    return Fraction(*price_list(Terms(product=product, amount_usd=amount, days=days), rates).exact)


@given(st.floats(0, 1), st.floats(0, 1), amounts, days_sold)
def test_a_higher_rate_never_costs_less(one: float, other: float, amount: Decimal, days: int) -> None:
    low, high = (rates_with(coverage_base_rate_depeg=rate) for rate in sorted((one, other)))
    assert exact_of(USDC, amount, days, low) <= exact_of(USDC, amount, days, high)


@given(st.floats(0, 1), st.floats(0.1, 10), st.floats(0, 0.5))
def test_any_rates_are_exact_whatever_the_context_of_the_thread(base: float, times: float, plus: float) -> None:
    rates = rates_with(coverage_base_rate_depeg=base, chain_multiplier_Ethereum=times, stablecoin_adjustment_USDC=plus)
    with localcontext(Context(prec=3)):
        price = price_list(terms_of("49999999.999999", 365), rates)
    expected = Fraction(str(base)) * Fraction(str(times)) + Fraction(str(plus))
    found = Fraction(*price.exact) / Fraction("49999999.999999")
    assert abs(found - expected) <= expected / 10**49
    assert str(price.premium_usd) == independent.to_cents(Fraction(*price.exact))


BAD_AMOUNTS = ("NaN", "-NaN", "sNaN", "Infinity", "-Infinity", "-0", "0", "-100", "1e400", "-1e400", "1e-400",
               "99.999999", "50000000.000001", "100.0000001", "100.0000000000000000000000000001",
               "100.00000000000000000000000000000000000000000000000000000001")  # fmt: skip


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_an_amount_that_is_none_or_out_of_bounds_is_a_typed_error(amount: str) -> None:
    with pytest.raises(InputError, match="coverage_amount"):
        terms_of(amount)


@pytest.mark.parametrize("amount", [100, 100.0, "100", None, True])
def test_an_amount_that_is_no_decimal_is_a_typed_error(amount: Decimal) -> None:
    with pytest.raises(InputError, match="coverage_amount"):
        check_terms(USDC, amount, 90, RATES)


@pytest.mark.parametrize("days", [0, 366, -1, True, 10**9, 90.0, "90", None])
def test_a_time_that_is_none_or_out_of_bounds_is_a_typed_error(days: int) -> None:
    with pytest.raises(InputError, match="duration_days is a whole number from 1 to 365"):
        terms_of(days=days)


def test_the_bounds_themselves_are_sold_and_follow_the_parameters() -> None:
    for amount in ("100", "100.000000", "1E+2", "50000000", "5E+7", "100.000001", "49999999.999999"):
        assert terms_of(amount).amount_usd == Decimal(amount)
    rates = rates_with(min_amount_usd=200.0, max_amount_usd=2_000.5, min_duration_days=5, max_duration_days=10)
    assert check_terms(USDC, Decimal("2000.5"), 10, rates).days == 10
    with pytest.raises(InputError, match=r"coverage_amount is from 200 to 2,000\.5 US dollars"):
        check_terms(USDC, Decimal("2000.500001"), 10, rates)
    with pytest.raises(InputError, match="from 5 to 10"):
        check_terms(USDC, Decimal(200), 11, rates)


def test_equal_amounts_are_written_equally_in_the_terms() -> None:
    written = {str(terms_of(amount).amount_usd) for amount in ("10000", "10000.000000", "1E+4", "0.1E5", "1.0e+4")}
    assert written == {"10000"}
    assert str(terms_of("100.10").amount_usd) == "100.1"


@given(products, amounts, days_sold, ton_prices)
def test_the_cover_in_ton_is_rounded_down_the_premium_up_and_the_contract_takes_it(
    product: Product, amount: Decimal, days: int, ton_usd: Decimal
) -> None:
    terms = terms_of(str(amount), days, product)
    if independent.cover_nano(str(amount), str(ton_usd)) > BIGINT_MAX:
        with pytest.raises(InputError, match="can be covered in TON"):
            convert_to_ton(terms, price_list(terms, RATES), ton_usd, RATES)
        return
    found = convert_to_ton(terms, price_list(terms, RATES), ton_usd, RATES)
    exact = independent.list_premium(*names_of(product), str(amount), days)
    assert found.coverage_nano == independent.cover_nano(str(amount), str(ton_usd))
    assert found.list_premium_nano == independent.premium_nano(exact, str(ton_usd))
    assert found.premium_nano == independent.charged_nano(exact, str(amount), days, str(ton_usd))
    assert found.premium_nano * 3_650_000 >= found.coverage_nano * days * 50
    assert found.premium_nano >= 10**8
    assert (found.raised_to is None) == (found.premium_nano == found.list_premium_nano)


def test_a_premium_below_a_floor_is_raised_to_it_by_name() -> None:
    small = terms_of("100", 1)
    found = convert_to_ton(small, price_list(small, RATES), Decimal(5), RATES)
    assert (found.premium_nano, found.raised_to) == (10**8, MIN_EXECUTABLE)
    assert found.list_premium_nano == 438_357  # 0.8 % of 20 TON for a day: 438,356.16
    cheap = rates_with(coverage_base_rate_depeg=0.004)
    year = check_terms(USDC, Decimal(1_000_000), 365, cheap)
    found = convert_to_ton(year, price_list(year, cheap), Decimal(4), cheap)
    assert (found.premium_nano, found.raised_to) == (1_250 * 10**9, CONTRACT_MIN_RATE)
    assert found.list_premium_nano == 1_000 * 10**9
    found = convert_to_ton(terms_of(), price_list(terms_of(), RATES), Decimal(5), RATES)
    assert found.raised_to is None


def test_one_nano_less_than_the_least_premium_is_what_the_contract_refuses() -> None:
    cheap = rates_with(coverage_base_rate_depeg=0.0)
    for amount, days, ton in (("100000.01", 365, "3.3"), ("54321.987654", 211, "2.718281"), ("777777", 13, "0.31")):
        terms = check_terms(USDC, Decimal(amount), days, cheap)
        found = convert_to_ton(terms, price_list(terms, cheap), Decimal(ton), cheap)
        assert found.raised_to == CONTRACT_MIN_RATE
        assert found.premium_nano * 3_650_000 >= found.coverage_nano * days * 50
        assert (found.premium_nano - 1) * 3_650_000 < found.coverage_nano * days * 50


@pytest.mark.parametrize("price", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-0", "-1"])
def test_what_is_no_ton_price_is_a_typed_error(price: str) -> None:
    with pytest.raises(PriceUnavailable):
        convert_to_ton(terms_of(), price_list(terms_of(), RATES), Decimal(price), RATES)


@pytest.mark.parametrize("price", ["1e-10", "1e-300", "1e20"])
def test_a_cover_that_no_ton_can_hold_is_a_typed_error(price: str) -> None:
    with pytest.raises(InputError, match="can be covered in TON"):
        convert_to_ton(terms_of(), price_list(terms_of(), RATES), Decimal(price), RATES)


def test_a_premium_that_the_database_cannot_hold_is_a_typed_error() -> None:
    dear = rates_with(coverage_base_rate_depeg=1.0, chain_multiplier_Ethereum=10.0)
    terms = check_terms(USDC, Decimal(50_000_000), 365, dear)
    with pytest.raises(InputError, match="more than can be paid"):
        convert_to_ton(terms, price_list(terms, dear), Decimal("0.01"), dear)


def test_rates_are_read_once_for_each_version_and_say_what_the_quote_is_bound_to() -> None:
    assert read_list_rates(DEFAULT_PARAMS) is read_list_rates(DEFAULT_PARAMS)
    assert (RATES.validity_s, RATES.min_premium_nano) == (300, 10**8)
    assert Decimal("0.97") == SOLD_TRIGGER == Decimal(TRIGGER_BPS) / 10_000


def test_what_is_charged_is_told_to_the_cent_half_to_even() -> None:
    ton = 10**9
    told = [("0.125", "0.12"), ("0.135", "0.14"), ("0.1250000001", "0.13"), ("4.80", "4.80"), ("0.004", "0.00")]
    for usd, worth in told:
        assert f"{worth_usd(ton, Decimal(usd)):f}" == worth
    assert worth_usd(100_000_000, Decimal("4.80")) == Decimal("0.48")
    with localcontext(Context(prec=3)):
        assert worth_usd(BIGINT_MAX, Decimal("1234.56")) == Decimal("11386806181819.43")


@given(nano=st.integers(0, BIGINT_MAX), usd=ton_prices)
def test_what_is_charged_is_off_by_half_a_cent_at_most(nano: int, usd: Decimal) -> None:
    exact = Fraction(nano) * Fraction(usd) / 10**9
    assert abs(Fraction(worth_usd(nano, usd)) - exact) <= Fraction(1, 200)
