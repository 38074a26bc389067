"""Kinds of alert about the daemon itself, and how its figures are read for them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from tonsurance.core.alerts import AlertKind, Line, Reading, Severity, Subject
from tonsurance.core.params import Params

_MINUTE_S = 60


def _say_crashed(subject: Subject, value: float, _limit: float) -> str:
    return f"TASK CRASHED: {subject.name}, {value:.0f} times since it last ran well"


def _say_stalled(_subject: Subject, value: float, limit: float) -> str:
    return f"HEAD STALLED: no new masterchain block for {value:.0f} s (limit: {limit:.0f} s)"


def _say_chain(_subject: Subject, value: float, limit: float) -> str:
    return f"CHAIN AWAY: no answer of the TON API for {value:.0f} s (limit: {limit:.0f} s)"


def _say_database(_subject: Subject, value: float, limit: float) -> str:
    return f"DATABASE AWAY: out of reach for {value:.0f} s (limit: {limit:.0f} s)"


def _say_no_events(subject: Subject, value: float, _limit: float) -> str:
    return f"No events processed in {value // _MINUTE_S:.0f} minutes (possible API failure): {subject.name}"


def _say_errors(_subject: Subject, value: float, limit: float) -> str:
    return f"SYNC ERRORS: {value:.0f} within an hour (limit: {limit:.0f})"


def _kind(
    name: str, unit: str, describe: Callable[[Subject, float, float], str], *, inclusive: bool = True
) -> AlertKind:
    return AlertKind(
        name=name,
        rising=True,
        inclusive=inclusive,
        unit=unit,
        log_as="error",
        sign="🚨 ",
        describe=describe,
    )


TASK_CRASHED = _kind("Task_Crashed", "crashes", _say_crashed)
HEAD_STALLED = _kind("Head_Stalled", "s", _say_stalled)
CHAIN_AWAY = _kind("Chain_Away", "s", _say_chain)
DATABASE_AWAY = _kind("Database_Away", "s", _say_database)
NO_EVENTS = _kind("No_Events_Processed", "s", _say_no_events)
SYNC_ERRORS = _kind("Sync_Errors", "errors", _say_errors, inclusive=False)

DAEMON_KINDS = (TASK_CRASHED, HEAD_STALLED, CHAIN_AWAY, DATABASE_AWAY, NO_EVENTS, SYNC_ERRORS)


def limit_of(kind: AlertKind, params: Params) -> float:
    """From where it is critical; one crash of a task is one."""
    match kind.name:
        case HEAD_STALLED.name:
            value = params.value("risk", "head_stall_s")
        case CHAIN_AWAY.name:
            value = params.value("risk", "chain_away_s")
        case DATABASE_AWAY.name:
            value = params.value("risk", "database_away_s")
        case NO_EVENTS.name:
            value = params.value("risk", "no_events_s")
        case SYNC_ERRORS.name:
            value = params.value("risk", "sync_errors_per_hour")
        case _:
            value = 1
    if not isinstance(value, int | float):  # the declaration says so; this is for the type checker
        raise TypeError(f"The limit of {kind.name} is not a number.")
    return value


def read_figure(kind: AlertKind, item: str, value: float, params: Params) -> Reading:
    """A figure of the daemon, held against its line. It is told again only when it opens or ends."""
    limit = limit_of(kind, params)
    return Reading(
        kind=kind,
        subject=Subject(item=item),
        value=value,
        lines=(Line(Severity.CRITICAL, limit),),
        hysteresis=0.0,
        evaluations=1,
        step=math.inf,
    )
