"""The list price of a product, in dollars and in TON. Exact: decimals and whole nanoTON, no float.

Source: docs/formulas.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

import msgspec

from tonsurance.core.errors import BadField, InputError, PriceUnavailable
from tonsurance.core.params import Params
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS, Product, check_valid
from tonsurance.core.units import (
    BIGINT_MAX,
    CENT,
    CENTS_PER_USD,
    DAYS_PER_YEAR,
    EXACT,
    NANO_PER_TON,
    SMALLEST_USD,
    USD_DECIMALS,
)

TRIGGER_BPS = 9700
FLOOR_BPS = 9000
"""The only trigger, and the floor, that are sold: in basis points of the peg."""
SOLD_TRIGGER = Decimal(TRIGGER_BPS).scaleb(-4)
"""The trigger in dollars."""
MIN_EXECUTABLE = "min_executable_premium_ton"
CONTRACT_MIN_RATE = "contract_min_rate"
"""What a premium was raised to: the parameter of that name, or the least rate at which the factory contract sells."""
CONTRACT_RATE_PARTS = 3_650_000
CONTRACT_MIN_PARTS = 50
"""The factory sells when premium * 3650000 >= cover * days * 50 (contracts/quote.fc): 0.5 % a year."""
_VERSIONS_KEPT = 16


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What cover is wanted: of a valid product, for so many US dollars, for whole days."""

    product: Product
    amount_usd: Decimal
    days: int


class ListRates(msgspec.Struct, frozen=True, kw_only=True):
    """The list rates of one version of the parameters: per year as exact decimals, by the names of the dimensions."""

    base: Mapping[str, Decimal]
    multiplier: Mapping[str, Decimal]
    adjustment: Mapping[str, Decimal]
    min_amount_usd: Decimal
    max_amount_usd: Decimal
    min_days: int
    max_days: int
    min_premium_nano: int
    validity_s: int


class ListPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a cover costs by the list: rates per year, the premium in dollars to the cent, and exactly as a fraction."""

    base_rate: Decimal
    chain_multiplier: Decimal
    stablecoin_adjustment: Decimal
    total_rate: Decimal
    premium_usd: Decimal
    exact: tuple[int, int]


class TonTerms(msgspec.Struct, frozen=True, kw_only=True):
    """A cover in nanoTON at one TON price: cover rounded down, premium rounded up. `raised_to` names what the premium
    was raised to, None when it is the list's."""

    coverage_nano: int
    list_premium_nano: int
    premium_nano: int
    raised_to: str | None


@lru_cache(maxsize=_VERSIONS_KEPT)
def read_list_rates(params: Params) -> ListRates:
    """The list's numbers under these parameters; made once for each version of them."""
    return ListRates(
        base=MappingProxyType({name: _decimal(params, f"coverage_base_rate_{name}") for name in COVERAGE_TYPES}),
        multiplier=MappingProxyType({name: _decimal(params, f"chain_multiplier_{name}") for name in CHAINS}),
        adjustment=MappingProxyType({coin: _decimal(params, f"stablecoin_adjustment_{coin}") for coin in STABLECOINS}),
        min_amount_usd=_decimal(params, "min_amount_usd"),
        max_amount_usd=_decimal(params, "max_amount_usd"),
        min_days=int(_decimal(params, "min_duration_days")),
        max_days=int(_decimal(params, "max_duration_days")),
        min_premium_nano=ceil_ratio(*_scaled(_decimal(params, "min_executable_premium_ton"), NANO_PER_TON)),
        validity_s=int(_decimal(params, "quote_validity_s")),
    )


def _decimal(params: Params, key: str) -> Decimal:
    """A parameter as the decimal that people wrote, not as the binary fraction next to it."""
    return Decimal(str(params.value("pricing", key)))


def _scaled(value: Decimal, factor: int) -> tuple[int, int]:
    numerator, denominator = value.as_integer_ratio()
    return numerator * factor, denominator


def check_terms(product: Product, amount_usd: Decimal, days: int, rates: ListRates) -> Terms:
    """The terms, when such a cover is sold; equal amounts are written equally in them. Raises BadField for amounts
    and times out of bounds, InvalidProduct."""
    if not isinstance(amount_usd, Decimal) or not amount_usd.is_finite():
        raise BadField("coverage_amount", "coverage_amount is a finite number of US dollars.")
    if not rates.min_amount_usd <= amount_usd <= rates.max_amount_usd:
        low, high = (f"{bound:,f}".removesuffix(".0") for bound in (rates.min_amount_usd, rates.max_amount_usd))
        raise BadField("coverage_amount", f"coverage_amount is from {low} to {high} US dollars.")
    amount = amount_usd.quantize(SMALLEST_USD, context=EXACT)
    if amount != amount_usd:
        raise BadField("coverage_amount", f"coverage_amount has at most {USD_DECIMALS} decimals.")
    if isinstance(days, bool) or not isinstance(days, int) or not rates.min_days <= days <= rates.max_days:
        raise BadField("duration_days", f"duration_days is a whole number from {rates.min_days} to {rates.max_days}.")
    return Terms(product=check_valid(product), amount_usd=Decimal(f"{amount.normalize(EXACT):f}"), days=days)


def add_rates(product: Product, rates: ListRates) -> Decimal:
    """The whole rate of a product per year: base * multiplier + adjustment."""
    base, multiplier = rates.base[product.coverage_type], rates.multiplier[product.chain]
    return EXACT.add(EXACT.multiply(base, multiplier), rates.adjustment[product.stablecoin])


def price_list(terms: Terms, rates: ListRates) -> ListPrice:
    """amount * (base * multiplier + adjustment) * days / 365, half to even at the cent."""
    product = terms.product
    total = add_rates(product, rates)
    rate_parts, rate_whole = total.as_integer_ratio()
    amount_parts, amount_whole = terms.amount_usd.as_integer_ratio()
    exact = amount_parts * rate_parts * terms.days, amount_whole * rate_whole * DAYS_PER_YEAR
    return ListPrice(
        base_rate=rates.base[product.coverage_type],
        chain_multiplier=rates.multiplier[product.chain],
        stablecoin_adjustment=rates.adjustment[product.stablecoin],
        total_rate=total,
        premium_usd=EXACT.multiply(Decimal(round(Fraction(*exact) * CENTS_PER_USD)), CENT),
        exact=exact,
    )


def convert_to_ton(terms: Terms, price: ListPrice, ton_usd: Decimal, rates: ListRates) -> TonTerms:
    """The same cover in TON at `ton_usd` dollars for one. Raises PriceUnavailable for what is no price, InputError when
    it is more than there can be."""
    if not (ton_usd.is_finite() and ton_usd > 0):
        raise PriceUnavailable(f"The TON price is {ton_usd}, which is no price.")
    usd_parts, usd_whole = ton_usd.as_integer_ratio()
    amount_parts, amount_whole = terms.amount_usd.as_integer_ratio()
    coverage = amount_parts * usd_whole * NANO_PER_TON // (amount_whole * usd_parts)
    listed = ceil_ratio(price.exact[0] * usd_whole * NANO_PER_TON, price.exact[1] * usd_parts)
    if not 0 < coverage <= BIGINT_MAX:
        raise InputError("coverage_amount is more or less than can be covered in TON.")
    floors = (
        (rates.min_premium_nano, MIN_EXECUTABLE),
        (contract_min_premium_nano(coverage, terms.days), CONTRACT_MIN_RATE),
    )
    premium, raised_to = listed, None
    for floor, name in floors:
        if floor > premium:
            premium, raised_to = floor, name
    if premium > BIGINT_MAX:
        raise InputError("The premium is more than can be paid in TON.")
    return TonTerms(coverage_nano=coverage, list_premium_nano=listed, premium_nano=premium, raised_to=raised_to)


def worth_usd(nano: int, ton_usd: Decimal) -> Decimal:
    """What so much nanoTON is worth at `ton_usd` dollars for one TON, half to even at the cent."""
    parts, whole = ton_usd.as_integer_ratio()
    cents = round(Fraction(nano * parts * CENTS_PER_USD, whole * NANO_PER_TON))
    return EXACT.multiply(Decimal(cents), CENT)


def contract_min_premium_nano(coverage_nano: int, days: int) -> int:
    """The least premium the factory contract takes for a cover."""
    return ceil_ratio(coverage_nano * days * CONTRACT_MIN_PARTS, CONTRACT_RATE_PARTS)


def ceil_ratio(numerator: int, denominator: int) -> int:
    """The quotient of two whole numbers, rounded up."""
    return -(-numerator // denominator)
