"""Alerts of the reconciliation: how far the ledger was from the chain, in percent, when it was last held against it."""

from __future__ import annotations

import msgspec

from tonsurance.core.alerts import AlertKind, Line, Reading, Severity, Subject
from tonsurance.core.params import Params
from tonsurance.core.units import WHOLE_PERCENT

_LEAST_SHOWN_PCT = 1 / WHOLE_PERCENT


def show_percent(value: float) -> str:
    """Two decimals and no idle zeros; a drift that is smaller is not shown as none."""
    if 0 < value < _LEAST_SHOWN_PCT:
        return f"<{_LEAST_SHOWN_PCT:g}%"
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def _say_capital(subject: Subject, value: float, _limit: float) -> str:
    return f"Drift detected: {show_percent(value)} capital mismatch ({subject.name})"


def _say_coverage(subject: Subject, value: float, _limit: float) -> str:
    return f"Drift detected: {show_percent(value)} coverage mismatch ({subject.name})"


CAPITAL_DRIFT = AlertKind(
    name="Capital_Drift",
    rising=True,
    inclusive=False,
    unit="%",
    log_as="error",
    sign="🚨 ",
    describe=_say_capital,
)
COVERAGE_DRIFT = AlertKind(
    name="Coverage_Drift",
    rising=True,
    inclusive=False,
    unit="%",
    log_as="error",
    sign="🚨 ",
    describe=_say_coverage,
)
DRIFT_KINDS = (CAPITAL_DRIFT, COVERAGE_DRIFT)


class DriftFigure(msgspec.Struct, frozen=True, kw_only=True):
    """How far a tranche was off when it was looked at last, in percent of the ledger."""

    vault_id: str
    tranche_id: str
    capital_pct: float
    coverage_pct: float


def read_drift(figure: DriftFigure, params: Params) -> tuple[Reading, ...]:
    """What a tranche is watched for: any drift is told of, a larger one louder."""
    lines = (
        Line(Severity.LOW, 0.0),
        Line(Severity.MEDIUM, _number(params, "drift_warning_pct")),
        Line(Severity.CRITICAL, _number(params, "drift_critical_pct")),
    )
    subject = Subject(vault_id=figure.vault_id, tranche_id=figure.tranche_id)
    return tuple(
        Reading(
            kind=kind,
            subject=subject,
            value=value,
            lines=lines,
            hysteresis=0.0,
            evaluations=int(_number(params, "alert_resolve_evaluations")),
            step=_number(params, "alert_update_step") * WHOLE_PERCENT,
        )
        for kind, value in ((CAPITAL_DRIFT, figure.capital_pct), (COVERAGE_DRIFT, figure.coverage_pct))
    )


def _number(params: Params, key: str) -> float:
    value = params.value("risk", key)
    if not isinstance(value, (int, float)):  # the declaration says so; this is for the type checker
        raise TypeError(f"risk/{key} is not a number.")
    return value
