"""Every kind of alert there is, and how the figures of a tranche are read for them.

A new kind is a value in KINDS and a function that makes readings; nothing else has to know it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from tonsurance.core.alerts import ROUNDING, AlertKind, Line, Reading, Severity, Subject
from tonsurance.core.daemon_alerts import DAEMON_KINDS
from tonsurance.core.params import Params
from tonsurance.core.sync_alerts import DRIFT_KINDS
from tonsurance.core.tranches import collateralization, utilization
from tonsurance.core.units import WHOLE_PERCENT, ton_from_nano
from tonsurance.core.value_alerts import VALUE_KINDS


def _percent(value: float) -> str:
    return "no capital at all" if math.isinf(value) else f"{value:.2%}"


def _say_high(subject: Subject, value: float, limit: float) -> str:
    return f"HIGH UTILIZATION: {subject.name} at {_percent(value)} (threshold: {limit:.2%})"


def _say_undercollateralized(subject: Subject, value: float, limit: float) -> str:
    # Rounded down: 1.0996 is below 1.10 and must not look as if it were not.
    shown = "no cover" if math.isinf(value) else f"{math.floor(value * WHOLE_PERCENT + ROUNDING) / WHOLE_PERCENT:.2f}x"
    return f"UNDERCOLLATERALIZED: {subject.name} at {shown} (minimum: {limit:.2f}x)"


def _say_approaching(subject: Subject, value: float, _limit: float) -> str:
    return f"{subject.name} approaching capacity: {_percent(value)}"


def _say_insolvent(subject: Subject, value: float, _limit: float) -> str:
    return f"INSOLVENT: {subject.name} has {value:,.2f} TON of cover without capital"


HIGH_UTILIZATION = AlertKind(
    name="High_Utilization",
    rising=True,
    inclusive=True,
    unit="ratio",
    log_as="warning",
    sign="⚠️  ",
    describe=_say_high,
)
UNDERCOLLATERALIZED = AlertKind(
    name="Undercollateralized",
    rising=False,
    inclusive=False,
    unit="factor",
    log_as="error",
    sign="🚨 ",
    describe=_say_undercollateralized,
)
UTILIZATION_WEBHOOK = AlertKind(
    name="Utilization_Webhook",
    rising=True,
    inclusive=False,
    unit="ratio",
    log_as="warning",
    sign="⚠️ ",
    describe=_say_approaching,
)
INSOLVENT = AlertKind(
    name="Insolvent",
    rising=True,
    inclusive=False,
    unit="TON",
    log_as="error",
    sign="🚨 ",
    describe=_say_insolvent,
)

TRANCHE_KINDS = (INSOLVENT, UNDERCOLLATERALIZED, HIGH_UTILIZATION, UTILIZATION_WEBHOOK)
KINDS: Mapping[str, AlertKind] = MappingProxyType(
    {kind.name: kind for kind in (*TRANCHE_KINDS, *VALUE_KINDS, *DAEMON_KINDS, *DRIFT_KINDS)}
)
"""All kinds by name."""


_INSOLVENT_STEP_TON = 1.0
"""An insolvent tranche is told of again for each TON of cover more; the configured step is of ratios."""


class TrancheFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche's amounts in nanoTON; `stale` when its vault is not followed up to now."""

    vault_id: str
    tranche_id: str
    capital_nano: int
    coverage_nano: int
    stale: bool = False


def read_tranche(figure: TrancheFigure, params: Params) -> tuple[Reading, ...]:
    """What a tranche is watched for."""
    used = utilization(figure.capital_nano, figure.coverage_nano)
    raw = math.inf if used.raw is None else used.raw
    backing = collateralization(figure.capital_nano, figure.coverage_nano)
    uncovered = ton_from_nano(figure.coverage_nano) if used.insolvent else 0.0
    values = {
        INSOLVENT: uncovered,
        UNDERCOLLATERALIZED: math.inf if backing is None else backing,
        HIGH_UTILIZATION: raw,
        UTILIZATION_WEBHOOK: raw,
    }
    lines = _tranche_lines(params)
    subject = Subject(vault_id=figure.vault_id, tranche_id=figure.tranche_id)
    hysteresis, evaluations = _number(params, "alert_hysteresis"), int(_number(params, "alert_resolve_evaluations"))
    return tuple(
        Reading(
            kind=kind,
            subject=subject,
            value=value,
            lines=lines[kind],
            hysteresis=0.0 if kind is INSOLVENT else hysteresis,
            evaluations=evaluations,
            step=_INSOLVENT_STEP_TON if kind is INSOLVENT else _number(params, "alert_update_step"),
            stale=figure.stale,
        )
        for kind, value in values.items()
    )


def _tranche_lines(params: Params) -> Mapping[AlertKind, tuple[Line, ...]]:
    limits = params.thresholds
    return {
        INSOLVENT: (Line(Severity.CRITICAL, 0.0),),
        UNDERCOLLATERALIZED: (Line(Severity.CRITICAL, limits.min_collateralization),),
        HIGH_UTILIZATION: (
            Line(Severity.HIGH, limits.high_utilization),
            Line(Severity.CRITICAL, limits.max_utilization),
        ),
        UTILIZATION_WEBHOOK: (Line(Severity.MEDIUM, _number(params, "webhook_utilization")),),
    }


def _number(params: Params, key: str) -> float:
    value = params.value("risk", key)
    if not isinstance(value, (int, float)):  # the declaration says so; this is for the type checker
        raise TypeError(f"risk/{key} is not a number.")
    return value
