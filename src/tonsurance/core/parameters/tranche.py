"""Parameters of the six tranches. Keys are the key form of the tranche's name: SURE_JNR_PLUS_apy_min."""

from __future__ import annotations

from tonsurance.core.catalog import TRANCHES, Curve, Tranche, tranche_key
from tonsurance.core.parameters.declaration import Kind, Parameter


def _field(tranche: Tranche, field: str, kind: Kind, default: float | str, meaning: str, **more: object) -> Parameter:
    values = {"category": "tranche", "key": f"{tranche_key(tranche.tranche_id)}_{field}", "kind": kind}
    return Parameter(**values, default=default, meaning=meaning, **more)  # type: ignore[arg-type]


def _declare(tranche: Tranche) -> tuple[Parameter, ...]:
    name = tranche.tranche_id
    apy = {"unit": "% a year", "low": 0.0, "high": 1_000.0, "money": True, "max_factor": 2.0}
    share = {"unit": "%", "low": 0, "high": 100, "chain_owned": True}
    shape = {"unit": "", "choices": tuple(curve.value for curve in Curve), "money": True, "needs_override": True}
    score = {"unit": "1 to 10", "low": 1, "high": 10}
    low, high = tranche.apy_min_pct, tranche.apy_max_pct
    cover, premium = tranche.allocation_percent, tranche.premium_percent
    return (
        _field(tranche, "apy_min", Kind.FLOAT, low, f"Target APY of {name} when nothing is used.", **apy),
        _field(tranche, "apy_max", Kind.FLOAT, high, f"Target APY of {name} when all of it is used.", **apy),
        _field(tranche, "curve_type", Kind.STRING, tranche.curve.value, f"Shape of {name}'s bonding curve.", **shape),
        _field(tranche, "allocation_percent", Kind.INT, cover, f"Part of every cover that {name} backs.", **share),
        _field(tranche, "premium_percent", Kind.INT, premium, f"Part of every premium that {name} earns.", **share),
        _field(tranche, "risk_score", Kind.INT, tranche.on_chain_id, f"Risk of {name} as it is shown.", **score),
    )


TRANCHE: tuple[Parameter, ...] = tuple(parameter for tranche in TRANCHES for parameter in _declare(tranche))
