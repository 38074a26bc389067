"""Rules between parameters: each takes all values and names every pair that breaks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from tonsurance.core.catalog import TRANCHES, tranche_key
from tonsurance.core.parameters.declaration import Key, Problem, Value
from tonsurance.core.parameters.pricing import WEIGHT_OF_FACTOR
from tonsurance.core.products import STABLECOINS
from tonsurance.core.units import EXACT, WHOLE_PERCENT

Values = Mapping[Key, Value]
_TRANCHE_KEYS = tuple(tranche_key(tranche.tranche_id) for tranche in TRANCHES)

_NOT_ABOVE = (
    *((("tranche", f"{key}_apy_min"), ("tranche", f"{key}_apy_max")) for key in _TRANCHE_KEYS),
    *(
        (("pricing", f"{name}_tier{lower}_threshold"), ("pricing", f"{name}_tier{higher}_threshold"))
        for name in ("size_discount", "utilization")
        for lower, higher in ((2, 1), (3, 2))
    ),
    (("pricing", "size_discount_tier1_multiplier"), ("pricing", "size_discount_tier2_multiplier")),
    (("pricing", "size_discount_tier2_multiplier"), ("pricing", "size_discount_tier3_multiplier")),
    (("pricing", "utilization_tier3_multiplier"), ("pricing", "utilization_tier2_multiplier")),
    (("pricing", "utilization_tier2_multiplier"), ("pricing", "utilization_tier1_multiplier")),
    (("pricing", "min_amount_usd"), ("pricing", "max_amount_usd")),
    (("pricing", "min_duration_days"), ("pricing", "max_duration_days")),
    (("pricing", "min_trigger_price"), ("pricing", "trigger_base_price")),
    (("pricing", "trigger_base_price"), ("pricing", "max_trigger_price")),
    (("pricing", "stress_index_Normal"), ("pricing", "stress_index_Elevated")),
    (("pricing", "stress_index_Elevated"), ("pricing", "stress_index_High")),
    (("pricing", "stress_index_High"), ("pricing", "stress_index_Extreme")),
    (("risk", "var_confidence_95"), ("risk", "var_confidence_99")),
    (("risk", "webhook_utilization"), ("risk", "high_utilization")),
    (("risk", "high_utilization"), ("risk", "max_utilization")),
    (("risk", "ltv_warning"), ("risk", "ltv_critical")),
    (("risk", "reserve_ratio_critical"), ("risk", "reserve_ratio_warning")),
    (("risk", "concentration_warning"), ("risk", "concentration_critical")),
    (("risk", "correlation_warning"), ("risk", "correlation_critical")),
    (("risk", "var99_capital_warning"), ("risk", "var99_capital_critical")),
    (("risk", "drift_warning_pct"), ("risk", "drift_critical_pct")),
    (("risk", "product_cap"), ("risk", "chain_cap")),
)
"""The first must not be above the second."""


def check_rules(values: Values) -> list[Problem]:
    """Everything that is wrong between the values. Values that are missing or broken are others' business."""
    return [*_check_order(values), *_check_sums(values), *_check_trigger(values), *_check_weights(values)]


def _check_order(values: Values) -> Iterator[Problem]:
    for low, high in _NOT_ABOVE:
        smaller, larger = values.get(low), values.get(high)
        if isinstance(smaller, int | float) and isinstance(larger, int | float) and smaller > larger:
            yield Problem(*low, f"is {smaller:g}, above {high[0]}/{high[1]}, which is {larger:g}")


def _check_sums(values: Values) -> Iterator[Problem]:
    for field in ("allocation_percent", "premium_percent"):
        parts = [values.get(("tranche", f"{key}_{field}")) for key in _TRANCHE_KEYS]
        known = [part for part in parts if isinstance(part, int)]
        if len(known) == len(parts) and sum(known) != WHOLE_PERCENT:
            yield Problem("tranche", f"*_{field}", f"add up to {sum(known)}, not {WHOLE_PERCENT}")


def _check_trigger(values: Values) -> Iterator[Problem]:
    """The lowest trigger must not make a technical price less than nothing."""
    names = "trigger_base_price", "min_trigger_price", "trigger_adjustment_factor", "trigger_span"
    base, low, adjustment, span = (_read_decimal(values.get(("pricing", name))) for name in names)
    if base is None or low is None or adjustment is None or span is None:
        return
    if EXACT.multiply(EXACT.subtract(base, low), adjustment) > span:
        yield Problem("pricing", names[2], f"is {adjustment}, so that a trigger of {low} would cost less than nothing")


def _check_weights(values: Values) -> Iterator[Problem]:
    """No coin's risk factors must make its technical price less than nothing."""
    weights = {
        name: _read_decimal(values.get(("pricing", f"risk_weight_{weight}")))
        for name, weight in WEIGHT_OF_FACTOR.items()
    }
    for coin in STABLECOINS:
        factors = values.get(("pricing", f"risk_factors_{coin}"))
        if not isinstance(factors, Mapping):
            continue
        total = Decimal(1)
        for name, weight in weights.items():
            factor = _read_decimal(factors.get(name))
            if weight is not None and factor is not None:
                total = EXACT.add(total, EXACT.multiply(weight, factor))
        if total < 0:
            yield Problem(
                "pricing", f"risk_factors_{coin}", "would cost less than nothing by the weights of the risk factors"
            )


def _read_decimal(value: Value) -> Decimal | None:
    """A number as the decimal that people wrote; None of what is none, which others report."""
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
