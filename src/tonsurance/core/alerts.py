"""Alerts: when a figure that passed its line opens one, makes it worse, and ends it. Pure; the kinds are data.

A figure that stands at its line would open and end an alert with every event. So an alert is milder or over only after
the figure was `hysteresis` beyond the line for some evaluations in a row; worse is told at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Literal

import msgspec

ROUNDING = 1e-9
"""0.95 - 0.93 is a little less than 0.02 in floating point."""


FIRST_VAULT = "main"


class Severity(StrEnum):
    """How bad, from the mildest to the worst."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


class Change(StrEnum):
    """What happened to an alert."""

    OPENED = "opened"
    UPDATED = "updated"
    RESOLVED = "resolved"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert is about: a tranche of a vault, a whole vault, or another thing by its name (a bridge, a coin)."""

    vault_id: str | None = None
    tranche_id: str | None = None
    item: str | None = None

    @property
    def name(self) -> str:
        """What people call it: a tranche of the first vault by its id alone."""
        if self.tranche_id and self.vault_id not in (None, FIRST_VAULT):
            return f"{self.tranche_id} of {self.vault_id}"
        return self.tranche_id or self.item or self.vault_id or "system"


class Line(msgspec.Struct, frozen=True):
    """From `limit` on an alert is of this severity."""

    severity: Severity
    limit: float


class AlertKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of alert, as data.

    `rising`: larger is worse. `inclusive`: the line itself counts as passed. `unit` is of value and limit: `ratio`,
    `factor`, `TON` and the like. `describe` makes the message of a subject, its value and the limit that was passed.
    """

    name: str
    rising: bool
    inclusive: bool
    unit: str
    log_as: Literal["warning", "error"]
    sign: str
    describe: Callable[[Subject, float, float], str]

    def passes(self, value: float, limit: float) -> bool:
        """Whether the value is at the wrong side of the limit."""
        if value == limit:
            return self.inclusive
        return (value > limit) == self.rising

    def excess(self, value: float, limit: float) -> float:
        """How far the value is beyond the limit; negative at the good side."""
        return value - limit if self.rising else limit - value


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A figure now, and the lines it is held against, mildest first.

    `value` may be infinite. `step` is how much worse a figure of an open alert must get to be told again. A `stale`
    figure can open an alert and make it worse, but it is no evidence that anything got better.
    """

    kind: AlertKind
    subject: Subject
    value: float
    lines: tuple[Line, ...]
    hysteresis: float
    evaluations: int
    step: float
    stale: bool = False

    @property
    def key(self) -> Key:
        """Which alert this is about."""
        return (self.kind.name, self.subject)


Key = tuple[str, Subject]
"""At most one alert of a kind is open about a subject."""


class AlertState(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it stands. `threshold` is the limit of its severity, `told_value` the value of the last transition,
    `back` for each line how many evaluations in a row the figure was well beyond it.
    """

    kind: str
    subject: Subject
    severity: Severity
    value: float
    threshold: float
    told_value: float
    back: tuple[int, ...]

    @property
    def key(self) -> Key:
        """Which alert this is."""
        return (self.kind, self.subject)


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A change worth telling, the alert after it (resolved: as it was last, with the value now), its words for people,
    and the severity it had before (None: opened)."""

    change: Change
    kind: AlertKind
    alert: AlertState
    message: str
    before: Severity | None

    @property
    def text(self) -> str:
        """The message with its sign, for logs and chats."""
        sign = "✅ RESOLVED: " if self.change is Change.RESOLVED else self.kind.sign
        return f"{sign}{self.message}"

    @property
    def escalated(self) -> bool:
        """Whether it is of a worse severity than what people have seen."""
        return self.before is None or rank(self.alert.severity) > rank(self.before)


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that are open after an evaluation, and what is to be told."""

    open: Mapping[Key, AlertState]
    transitions: tuple[Transition, ...]


def rank(severity: Severity) -> int:
    """0 for the mildest."""
    return tuple(Severity).index(severity)


def evaluate(open_alerts: Mapping[Key, AlertState], readings: Iterable[Reading]) -> Evaluation:
    """One evaluation. An alert without a reading (its figure is not known now) stays as it is."""
    after = dict(open_alerts)
    transitions: list[Transition] = []
    for reading in readings:
        if math.isnan(reading.value):
            continue
        state, transition = _judge(after.pop(reading.key, None), reading)
        if state is not None:
            after[reading.key] = state
        if transition is not None:
            transitions.append(transition)
    return Evaluation(open=after, transitions=tuple(transitions))


def _judge(alert: AlertState | None, reading: Reading) -> tuple[AlertState | None, Transition | None]:
    passed = _passed(reading)
    if alert is None:
        if passed < 0:
            return None, None
        opened = _state(reading, passed, reading.value, (0,) * len(reading.lines))
        return opened, _transition(Change.OPENED, reading, opened, None)
    return _follow(alert, reading, passed)


def _follow(alert: AlertState, reading: Reading, passed: int) -> tuple[AlertState | None, Transition | None]:
    back = _count_back(alert.back, reading)
    level = _level_of(alert, reading)
    held = max((i for i, times in enumerate(back) if i <= level and times < reading.evaluations), default=-1)
    now = max(passed, held)
    if now < 0:
        ended = msgspec.structs.replace(alert, value=reading.value, back=back)
        return None, _transition(Change.RESOLVED, reading, ended, alert.severity)
    worse = reading.kind.excess(reading.value, alert.told_value) >= reading.step - ROUNDING
    told = reading.lines[now].severity is not alert.severity or (worse and reading.value != alert.told_value)
    state = _state(reading, now, reading.value if told else alert.told_value, back)
    return state, _transition(Change.UPDATED, reading, state, alert.severity) if told else None


def _passed(reading: Reading) -> int:
    """The worst line the figure passed; -1 for none."""
    kind, value = reading.kind, reading.value
    return max((i for i, line in enumerate(reading.lines) if kind.passes(value, line.limit)), default=-1)


def _count_back(before: tuple[int, ...], reading: Reading) -> tuple[int, ...]:
    """For each line the evaluations in a row in which the figure was well at its good side."""
    known = before if len(before) == len(reading.lines) else (0,) * len(reading.lines)
    counts = zip(known, reading.lines, strict=True)
    return tuple(_count_line(times, line, reading) for times, line in counts)


def _count_line(times: int, line: Line, reading: Reading) -> int:
    kind, value = reading.kind, reading.value
    if kind.passes(value, line.limit) or kind.excess(value, line.limit) > ROUNDING - reading.hysteresis:
        return 0
    return times if reading.stale else min(times + 1, reading.evaluations)


def _level_of(alert: AlertState, reading: Reading) -> int:
    """The line of the alert's severity; the nearest milder one when there is none any more."""
    levels = (i for i, line in enumerate(reading.lines) if rank(line.severity) <= rank(alert.severity))
    return max(levels, default=0)


def _state(reading: Reading, level: int, told: float, back: tuple[int, ...]) -> AlertState:
    line = reading.lines[level]
    return AlertState(
        kind=reading.kind.name,
        subject=reading.subject,
        severity=line.severity,
        value=reading.value,
        threshold=line.limit,
        told_value=told,
        back=back,
    )


def _transition(change: Change, reading: Reading, alert: AlertState, before: Severity | None) -> Transition:
    message = reading.kind.describe(reading.subject, alert.value, alert.threshold)
    return Transition(change=change, kind=reading.kind, alert=alert, message=message, before=before)
