"""The numbers of the technical price in one version of the parameters, as exact decimals. Source: docs/formulas.md."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache, reduce
from types import MappingProxyType

import msgspec

from tonsurance.core.parameters.declaration import Value
from tonsurance.core.parameters.pricing import STRESS_LEVELS, WEIGHT_OF_FACTOR
from tonsurance.core.params import Params
from tonsurance.core.products import STABLECOINS
from tonsurance.core.tiers import TIERS, base_rate
from tonsurance.core.units import EXACT

_VERSIONS_KEPT = 16


class RiskPart(msgspec.Struct, frozen=True, kw_only=True):
    """One risk factor of a coin: what it adds to the risk adjustment is weight * factor."""

    name: str
    weight: Decimal
    factor: Decimal
    part: Decimal


class SizeTier(msgspec.Struct, frozen=True, kw_only=True):
    """Covers from `threshold_usd` on cost `multiplier` of their size, and never as if smaller than `least_usd`."""

    tier: int
    threshold_usd: Decimal
    multiplier: Decimal
    least_usd: Decimal


class UtilizationTier(msgspec.Struct, frozen=True, kw_only=True):
    """The surcharge above a utilisation."""

    threshold: Decimal
    multiplier: Decimal


class TechnicalRates(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of the technical price in one version of the parameters, by coin where they differ."""

    base: Mapping[str, Decimal]
    risk: Mapping[str, tuple[RiskPart, ...]]
    risk_adjustment: Mapping[str, Decimal]
    size_tiers: tuple[SizeTier, ...]
    utilization_tiers: tuple[UtilizationTier, ...]
    duration_base_days: Decimal
    trigger_base_price: Decimal
    trigger_span: Decimal
    trigger_adjustment: Decimal
    min_trigger_price: Decimal
    max_trigger_price: Decimal
    stress_slope: Decimal
    stress_index: Mapping[str, Decimal]
    target_loss_ratio: Decimal
    claims_dampener: Decimal
    claims_cap: Decimal
    claims_credibility_count: int
    min_premium_absolute: Decimal
    min_premium_rate: Decimal


@lru_cache(maxsize=_VERSIONS_KEPT)
def read_technical_rates(params: Params) -> TechnicalRates:
    """The technical price's numbers under these parameters; made once for each version of them."""
    risk = {coin: _read_risk(params, coin) for coin in STABLECOINS}
    adjustment = {coin: reduce(EXACT.add, (part.part for part in parts)) for coin, parts in risk.items()}
    return TechnicalRates(
        base=MappingProxyType({coin: Decimal(str(base_rate(params, coin))) for coin in STABLECOINS}),
        risk=MappingProxyType(risk),
        risk_adjustment=MappingProxyType(adjustment),
        size_tiers=_read_size_tiers(params),
        utilization_tiers=_read_utilization_tiers(params),
        duration_base_days=_decimal(params, "duration_base_days"),
        trigger_base_price=_decimal(params, "trigger_base_price"),
        trigger_span=_decimal(params, "trigger_span"),
        trigger_adjustment=_decimal(params, "trigger_adjustment_factor"),
        min_trigger_price=_decimal(params, "min_trigger_price"),
        max_trigger_price=_decimal(params, "max_trigger_price"),
        stress_slope=_decimal(params, "stress_slope"),
        stress_index=MappingProxyType({level: _decimal(params, f"stress_index_{level}") for level in STRESS_LEVELS}),
        target_loss_ratio=_decimal(params, "target_loss_ratio"),
        claims_dampener=_decimal(params, "claims_adjustment_dampener"),
        claims_cap=_decimal(params, "claims_cap"),
        claims_credibility_count=int(_decimal(params, "claims_credibility_count")),
        min_premium_absolute=_decimal(params, "min_premium_absolute"),
        min_premium_rate=_decimal(params, "min_premium_rate"),
    )


def _decimal(params: Params, key: str) -> Decimal:
    """A parameter as the decimal that people wrote, not as the binary fraction next to it."""
    return Decimal(str(params.value("pricing", key)))


def _read_risk(params: Params, coin: str) -> tuple[RiskPart, ...]:
    factors = params.value("pricing", f"risk_factors_{coin}")
    if not isinstance(factors, Mapping):  # the registry declares it as an object
        raise TypeError(f"pricing/risk_factors_{coin} is not an object.")
    return tuple(
        _make_risk_part(name, _decimal(params, f"risk_weight_{weight}"), factors[name])
        for name, weight in WEIGHT_OF_FACTOR.items()
    )


def _make_risk_part(name: str, weight: Decimal, given: Value) -> RiskPart:
    factor = Decimal(str(given))
    return RiskPart(name=name, weight=weight, factor=factor, part=EXACT.multiply(weight, factor))


def _read_size_tiers(params: Params) -> tuple[SizeTier, ...]:
    """From the largest threshold down. What a tier costs at least is what its threshold costs in the tier below."""
    tiers: list[SizeTier] = []
    for tier in reversed(TIERS):
        threshold = _decimal(params, f"size_discount_tier{tier}_threshold")
        tiers.insert(
            0,
            SizeTier(
                tier=tier,
                threshold_usd=threshold,
                multiplier=_decimal(params, f"size_discount_tier{tier}_multiplier"),
                least_usd=charge_size(threshold, tuple(tiers))[1],
            ),
        )
    return tuple(tiers)


def _read_utilization_tiers(params: Params) -> tuple[UtilizationTier, ...]:
    return tuple(
        UtilizationTier(
            threshold=_decimal(params, f"utilization_tier{tier}_threshold"),
            multiplier=_decimal(params, f"utilization_tier{tier}_multiplier"),
        )
        for tier in TIERS
    )


def charge_size(amount_usd: Decimal, tiers: tuple[SizeTier, ...]) -> tuple[int, Decimal]:
    """The tier reached (0: none) and the dollars the rate is charged on; they never fall when the amount grows."""
    for tier in tiers:
        if amount_usd >= tier.threshold_usd:
            return tier.tier, max(EXACT.multiply(amount_usd, tier.multiplier), tier.least_usd)
    return 0, amount_usd
