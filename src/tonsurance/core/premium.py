"""The technical price: what the risk of a coin costs by its measured factors and by the market of now, part by part.

Calculated in decimals of 50 digits, 40 of which are kept. Source: docs/formulas.md, section 14.
"""

from __future__ import annotations

from decimal import Decimal
from functools import reduce

import msgspec

from tonsurance.core.errors import InputError, InvalidUtilization
from tonsurance.core.parameters.pricing import STRESS_LEVELS
from tonsurance.core.quotes import Terms
from tonsurance.core.technical_rates import RiskPart, TechnicalRates, charge_size
from tonsurance.core.units import CENT, DAYS_PER_YEAR, EXACT, RESULT

NO_FLOOR = "none"
MIN_ABSOLUTE = "min_premium_absolute"
MIN_RATE = "min_premium_rate"
"""What a premium was raised to: nothing, or the parameter of that name."""
_ONE = Decimal(1)
_ZERO = Decimal(0)


class MarketInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the technical price takes of now: cover over capital (0 to 1), claims over premiums (None while no premium
    was earned), how many claims there were in 365 days, and how stressed the market is."""

    utilization: Decimal | float
    loss_ratio: Decimal | float | None
    claims_count: int
    stress: str


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a technical price that is the same for all coins, each factor by its name.

    `charged_usd` is what the cover costs the rate on, after the discount of its size; `size` is that over the cover.
    """

    amount_usd: Decimal
    days: int
    size_tier: int
    charged_usd: Decimal
    size: Decimal
    utilization: Decimal
    trigger_price: Decimal
    floor_price: Decimal
    trigger: Decimal
    stress: Decimal
    claims: Decimal
    duration_days: Decimal


class TechnicalPrice(msgspec.Struct, frozen=True, kw_only=True):
    """A technical price with all it was made of.

    `annual_rate` = base_rate * (1 + risk_adjustment) * size * utilization * trigger * stress * claims, per year;
    `duration_days` is what is charged for, `size_tier` 0 without a discount (1 the largest), `floor_applied` one of
    NO_FLOOR, MIN_ABSOLUTE, MIN_RATE. `premium_usd` is to the cent, half to even; `exact` has 40 digits.
    """

    base_rate: Decimal
    risk: tuple[RiskPart, ...]
    risk_adjustment: Decimal
    size_tier: int
    size: Decimal
    charged_usd: Decimal
    utilization: Decimal
    trigger_price: Decimal
    floor_price: Decimal
    trigger: Decimal
    stress: Decimal
    claims: Decimal
    annual_rate: Decimal
    duration_days: Decimal
    floor_applied: str
    premium_usd: Decimal
    exact: Decimal


def price_technical(
    terms: Terms, trigger_price: Decimal, inputs: MarketInputs, rates: TechnicalRates
) -> TechnicalPrice:
    """The technical price of a cover that pays below `trigger_price` dollars.

    Raises InputError for a trigger or a market that cannot be, InvalidUtilization.
    """
    charge = make_charge(terms.amount_usd, terms.days, trigger_price, inputs, rates)
    coin = terms.product.stablecoin
    base, adjustment = rates.base[coin], rates.risk_adjustment[coin]
    rate = EXACT.multiply(base, _add(_ONE, adjustment))
    exact, floor_applied = _raise_to_floor(EXACT.multiply(rate, scale_of(charge)), charge, rates)
    factors = charge.utilization, charge.trigger, charge.stress, charge.claims
    return TechnicalPrice(
        base_rate=base,
        risk=rates.risk[coin],
        risk_adjustment=adjustment,
        size_tier=charge.size_tier,
        size=charge.size,
        charged_usd=charge.charged_usd,
        utilization=charge.utilization,
        trigger_price=charge.trigger_price,
        floor_price=charge.floor_price,
        trigger=charge.trigger,
        stress=charge.stress,
        claims=charge.claims,
        annual_rate=_multiply(rate, charge.size, *factors),
        duration_days=charge.duration_days,
        floor_applied=floor_applied,
        premium_usd=exact.quantize(CENT, context=EXACT),
        exact=exact,
    )


def make_charge(
    amount_usd: Decimal, days: int, trigger_price: Decimal, inputs: MarketInputs, rates: TechnicalRates
) -> Charge:
    """The factors that are the same for all coins. Raises InputError, InvalidUtilization."""
    tier, charged = charge_size(amount_usd, rates.size_tiers)
    trigger = _check_trigger(trigger_price, rates)
    return Charge(
        amount_usd=amount_usd,
        days=days,
        size_tier=tier,
        charged_usd=charged,
        size=EXACT.divide(charged, amount_usd),
        utilization=charge_utilization(inputs.utilization, rates),
        trigger_price=trigger,
        floor_price=EXACT.subtract(trigger, rates.trigger_span),
        trigger=charge_trigger(trigger, rates),
        stress=charge_stress(inputs.stress, rates),
        claims=charge_claims(inputs.loss_ratio, inputs.claims_count, rates),
        duration_days=charge_days(days, rates),
    )


def scale_of(charge: Charge) -> Decimal:
    """What a coin's rate per year is multiplied by to get the premium before its floors."""
    factors = charge.utilization, charge.trigger, charge.stress, charge.claims, charge.duration_days
    return EXACT.divide(_multiply(charge.charged_usd, *factors), Decimal(DAYS_PER_YEAR))


def least_premiums(amount_usd: Decimal, days: int, rates: TechnicalRates) -> tuple[Decimal, Decimal]:
    """The floors in dollars: the absolute one, and that of the rate on the cover."""
    by_rate = EXACT.divide(_multiply(rates.min_premium_rate, amount_usd, Decimal(days)), Decimal(DAYS_PER_YEAR))
    return rates.min_premium_absolute, by_rate


def _raise_to_floor(premium: Decimal, charge: Charge, rates: TechnicalRates) -> tuple[Decimal, str]:
    floor_applied = NO_FLOOR
    floors = least_premiums(charge.amount_usd, charge.days, rates)
    for floor, name in zip(floors, (MIN_ABSOLUTE, MIN_RATE), strict=True):
        if floor > premium:
            premium, floor_applied = floor, name
    return RESULT.plus(premium), floor_applied


def charge_utilization(utilization: Decimal | float, rates: TechnicalRates) -> Decimal:
    """The surcharge of the highest tier that is exceeded. Raises InvalidUtilization for what is no number from 0."""
    used = _read_exact(utilization)
    if not (used.is_finite() and used >= 0):
        raise InvalidUtilization(f"Utilisation must be a number from 0, not {utilization}.")
    return next((tier.multiplier for tier in rates.utilization_tiers if used > tier.threshold), _ONE)


def _check_trigger(trigger_price: Decimal, rates: TechnicalRates) -> Decimal:
    low, high = rates.min_trigger_price, rates.max_trigger_price
    if not (trigger_price.is_finite() and low <= trigger_price <= high):
        raise InputError(f"trigger_price is from {low} to {high} US dollars.")
    return trigger_price


def charge_trigger(trigger_price: Decimal, rates: TechnicalRates) -> Decimal:
    """1 at the base price; a higher trigger pays sooner and costs more."""
    away = EXACT.subtract(trigger_price, rates.trigger_base_price)
    return _add(_ONE, EXACT.divide(EXACT.multiply(away, rates.trigger_adjustment), rates.trigger_span))


def charge_stress(level: str, rates: TechnicalRates) -> Decimal:
    """1 + slope * index of the level. Raises InputError for a level there is not."""
    index = rates.stress_index.get(level)
    if index is None:
        raise InputError(f"The stress of the market is one of {', '.join(STRESS_LEVELS)}.")
    return _add(_ONE, EXACT.multiply(rates.stress_slope, index))


def charge_claims(loss_ratio: Decimal | float | None, count: int, rates: TechnicalRates) -> Decimal:
    """Above the target 1 + (L - T) / T up to the cap; below it 1 - (T - L) / T * dampener, when there were enough
    claims to believe it. 1 when no premium was earned yet. Raises InputError."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InputError("The number of claims is a whole number from 0.")
    if loss_ratio is None:
        return _ONE
    ratio, target = _read_exact(loss_ratio), rates.target_loss_ratio
    if not (ratio.is_finite() and ratio >= 0):
        raise InputError(f"The loss ratio is a number from 0, not {loss_ratio}.")
    away = EXACT.divide(EXACT.subtract(ratio, target), target)
    if away > 0:
        return min(_add(_ONE, away), rates.claims_cap)
    return _add(_ONE, EXACT.multiply(away, rates.claims_dampener)) if count >= rates.claims_credibility_count else _ONE


def charge_days(days: int, rates: TechnicalRates) -> Decimal:
    """The days that are charged: short covers as the square root of their time, the rest as they are."""
    return max(Decimal(days), EXACT.sqrt(EXACT.multiply(rates.duration_base_days, Decimal(days))))


def payout_ratio(price: Decimal, trigger: Decimal, floor: Decimal) -> Decimal:
    """The part of a depeg cover that is paid at this price of the coin: 0 at or above the trigger, 1 at or below the
    floor, in between in proportion. Raises InputError unless these are prices and the floor is below the trigger."""
    if not all(one.is_finite() and one >= 0 for one in (price, trigger, floor)) or floor >= trigger:
        raise InputError("A payout needs a price from 0, and a floor from 0 below the trigger.")
    if price >= trigger:
        return _ZERO
    if price <= floor:
        return _ONE
    return EXACT.divide(EXACT.subtract(trigger, price), EXACT.subtract(trigger, floor))


def _read_exact(number: Decimal | float) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(str(number))


def _multiply(*factors: Decimal) -> Decimal:
    return reduce(EXACT.multiply, factors, _ONE)


def _add(*parts: Decimal) -> Decimal:
    return reduce(EXACT.add, parts, _ZERO)
