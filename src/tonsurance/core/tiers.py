"""Rates and factors that are looked up by size: base rate, size discount, utilisation surcharge."""

from __future__ import annotations

import math

from tonsurance.core.errors import InputError, InvalidUtilization
from tonsurance.core.params import Params

TIERS = (1, 2, 3)
"""Part of the parameters' keys, from the highest threshold down: the first one reached holds."""
_NO_CHANGE = 1.0


def base_rate(params: Params, asset: str) -> float:
    """Base rate of the technical premium per year, as a fraction; assets of no rate of their own have the default."""
    own = params.values.get(("pricing", f"base_rate_{asset}"))
    return float(own) if isinstance(own, int | float) else _number(params, "base_rate_default")


def size_discount(params: Params, coverage_usd: float) -> float:
    """Premium factor of a cover of this size in USD. Raises InputError for less than 0 and for what is no number."""
    if not (math.isfinite(coverage_usd) and coverage_usd >= 0):
        raise InputError(f"The size of a cover is a number of USD from 0, not {coverage_usd}.")
    for tier in TIERS:
        if coverage_usd >= _number(params, f"size_discount_tier{tier}_threshold"):
            return _number(params, f"size_discount_tier{tier}_multiplier")
    return _NO_CHANGE


def utilization_multiplier(params: Params, utilization: float) -> float:
    """Premium factor above the utilisation thresholds. Raises InvalidUtilization for what is not a number from 0."""
    if not (math.isfinite(utilization) and utilization >= 0):
        raise InvalidUtilization(f"Utilisation must be a number from 0, not {utilization}.")
    for tier in TIERS:
        if utilization > _number(params, f"utilization_tier{tier}_threshold"):
            return _number(params, f"utilization_tier{tier}_multiplier")
    return _NO_CHANGE


def _number(params: Params, key: str) -> float:
    value = params.value("pricing", key)
    if isinstance(value, bool) or not isinstance(value, int | float):  # the registry declares them as numbers
        raise TypeError(f"pricing/{key} is not a number.")
    return float(value)
