"""Utilisation, bonding curve and APY of one tranche. Source of the formulas: docs/formulas.md."""

from __future__ import annotations

import math

import msgspec

from tonsurance.core.catalog import Curve, Tranche
from tonsurance.core.errors import InputError, InvalidUtilization
from tonsurance.core.units import ratio

_SIGMOID_SLOPE = 10.0
_SIGMOID_CENTRE = 0.5
_LOG_BASE = 2.0
_EXPONENT = 2.0


class Utilization(msgspec.Struct, frozen=True):
    """Coverage over capital: `capped` is shown (0..1), `raw` may pass 1 and is None when insolvent."""

    capped: float
    raw: float | None
    insolvent: bool


def utilization(capital_nano: int, coverage_nano: int) -> Utilization:
    """coverage / capital. 0 when both are 0; insolvent when coverage stands on no capital at all."""
    if coverage_nano == 0:
        return Utilization(0.0, 0.0, False)
    raw = ratio(coverage_nano, capital_nano)
    if raw is None:
        return Utilization(1.0, None, True)
    return Utilization(min(raw, 1.0), raw, False)


def utilization_ratio(capital_nano: int, coverage_nano: int) -> float:
    """coverage / capital as shown, 0 to 1, of amounts somebody gave. Raises InputError for what is no amount."""
    for what, amount in (("Capital", capital_nano), ("Coverage", coverage_nano)):
        if isinstance(amount, bool) or not isinstance(amount, int):
            raise InputError(f"{what} is a whole number of nanoTON, not {type(amount).__name__}.")
        if amount < 0:
            raise InputError(f"{what} is not below zero.")
    if 0 < capital_nano <= coverage_nano:
        return 1.0  # without a division, which ends where floats end
    return utilization(capital_nano, coverage_nano).capped


def curve_point(curve: Curve, u: float) -> float:
    """g(u) of the bonding curve for u in 0..1; the sigmoid does not touch its bounds, on purpose."""
    match curve:
        case Curve.FLAT:
            return 0.0
        case Curve.LOGARITHMIC:
            return math.log1p(u) / math.log(_LOG_BASE)
        case Curve.LINEAR:
            return u
        case Curve.SIGMOIDAL:
            return 1.0 / (1.0 + math.exp(-_SIGMOID_SLOPE * (u - _SIGMOID_CENTRE)))
        case Curve.QUADRATIC:
            return u * u
        case Curve.EXPONENTIAL:
            return math.expm1(_EXPONENT * u) / math.expm1(_EXPONENT)


def apy_percent(tranche: Tranche, u: float) -> float:
    """Target APY in percent at utilisation u: apy_min + (apy_max - apy_min) * g(clamp(u, 0, 1)).

    Raises InvalidUtilization for NaN and infinities.
    """
    if not math.isfinite(u):
        raise InvalidUtilization(f"Utilisation must be a number from 0 to 1, not {u}.")
    g = curve_point(tranche.curve, min(max(u, 0.0), 1.0))
    return tranche.apy_min_pct + (tranche.apy_max_pct - tranche.apy_min_pct) * g


def current_apy_percent(tranche: Tranche, used: Utilization) -> float | None:
    """Target APY of a live tranche; None when it is insolvent: there is no rate to promise."""
    return None if used.insolvent else apy_percent(tranche, used.capped)


def collateralization(capital_nano: int, coverage_nano: int) -> float | None:
    """capital / coverage; None when nothing is covered."""
    return ratio(capital_nano, coverage_nano)
