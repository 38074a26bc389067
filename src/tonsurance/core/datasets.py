"""Data sets behind the risk figures: depegs of the past and stress scenarios, as values with their checks and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from tonsurance.core.parameters.declaration import Problem
from tonsurance.core.products import STABLECOINS

DEPEGS = "historical_depegs"
SCENARIOS = "stress_scenarios"
DATASETS = (DEPEGS, SCENARIOS)
"""Names of the data sets: of their tables, and of the category of their audit rows."""

SEVERITIES = ("low", "medium", "high", "extreme")
LONGEST_S = 10 * 365 * 86_400
HIGHEST_PRICE = 2.0
"""A coin under stress may rise above its peg, but what is quoted above this is not a stablecoin's price."""

_FIRST = datetime(2014, 1, 1, tzinfo=UTC)
"""Before the first stablecoin."""
_AHEAD = timedelta(days=1)


class Depeg(msgspec.Struct, frozen=True, kw_only=True):
    """A stablecoin below its peg: when, how far down (1 is the peg), how long it stayed there and until it was back.

    `verified`: somebody other than who entered it has checked it. Only verified ones count.
    """

    asset: str
    min_price: float
    timestamp: datetime
    duration_seconds: int
    recovery_time_seconds: int
    source: str
    verified: bool = False
    event_name: str | None = None
    notes: str | None = None
    reference: str | None = None

    @property
    def key(self) -> str:
        """What names it: coin and second."""
        return f"{self.asset}@{self.timestamp.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A stress: the price of each coin under it (1 is the peg), the move of BTC and of correlations as fractions, and
    how likely it is in a year (None: unknown)."""

    scenario_name: str
    description: str
    scenario_type: str
    asset_impacts: Mapping[str, float]
    btc_impact: float
    correlation_shift: float
    severity_level: str
    probability_annual: float | None = None
    enabled: bool = True
    reference: str | None = None

    @property
    def key(self) -> str:
        """What names it."""
        return self.scenario_name


Entry = Depeg | Scenario


def check_depeg(depeg: Depeg, now: datetime) -> tuple[Problem, ...]:
    """Everything that is wrong with an event."""
    return tuple(Problem(DEPEGS, field, reason) for field, reason in _depeg_problems(depeg, now))


def _depeg_problems(depeg: Depeg, now: datetime) -> Iterator[tuple[str, str]]:
    if depeg.asset not in STABLECOINS:
        yield "asset", f"must be one of {', '.join(STABLECOINS)}"
    if not (math.isfinite(depeg.min_price) and 0 < depeg.min_price < 1):
        yield "min_price", "must be above 0 and below 1, the peg"
    elif round(depeg.min_price, 8) != depeg.min_price:
        yield "min_price", "has at most 8 decimals"
    yield from _moment("timestamp", depeg.timestamp, now)
    if not 0 < depeg.duration_seconds <= LONGEST_S:
        yield "duration_seconds", f"must be from 1 to {LONGEST_S}"
    if not depeg.duration_seconds <= depeg.recovery_time_seconds <= LONGEST_S:
        yield "recovery_time_seconds", f"must be from duration_seconds to {LONGEST_S}"
    yield from _text("source", depeg.source, 50)
    yield from _text("event_name", depeg.event_name, 200)
    yield from _text("notes", depeg.notes, 1000)
    yield from _text("reference", depeg.reference, 1000)


def _moment(field: str, time: datetime, now: datetime) -> Iterator[tuple[str, str]]:
    if time.tzinfo is None:
        yield field, "must say its zone, as in 2023-03-10T00:00:00Z"
    elif not _FIRST <= time <= now + _AHEAD:
        yield field, "must be from 2014 on and not in the future"
    elif time.microsecond:
        yield field, "must be a whole second"


def check_scenario(scenario: Scenario) -> tuple[Problem, ...]:
    """Everything that is wrong with a scenario."""
    return tuple(Problem(SCENARIOS, field, reason) for field, reason in _scenario_problems(scenario))


def _scenario_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    yield from _text("scenario_name", scenario.scenario_name, 100)
    yield from _text("description", scenario.description, 1000)
    yield from _text("scenario_type", scenario.scenario_type, 50)
    yield from _text("reference", scenario.reference, 1000)
    if not scenario.asset_impacts:
        yield "asset_impacts", "must name at least one coin"
    for coin, price in scenario.asset_impacts.items():
        if coin not in STABLECOINS:
            yield "asset_impacts", f"{coin[:20]!r} is none of {', '.join(STABLECOINS)}"
        elif not (math.isfinite(price) and 0 < price <= HIGHEST_PRICE):
            yield "asset_impacts", f"{coin} must be above 0 and at most {HIGHEST_PRICE:g}"
    yield from _decimals("btc_impact", scenario.btc_impact, -1.0, 10.0, 2)
    yield from _decimals("correlation_shift", scenario.correlation_shift, -1.0, 1.0, 2)
    if scenario.probability_annual is not None:
        yield from _decimals("probability_annual", scenario.probability_annual, 0.0, 1.0, 8)
    if scenario.severity_level not in SEVERITIES:
        yield "severity_level", f"must be one of {', '.join(SEVERITIES)}"


def _text(field: str, text: str | None, longest: int) -> Iterator[tuple[str, str]]:
    if text is not None and not (0 < len(text) <= longest and text.isprintable()):
        yield field, f"must have 1 to {longest} characters, none of them a control character"


def _decimals(field: str, value: float, low: float, high: float, places: int) -> Iterator[tuple[str, str]]:
    if not (math.isfinite(value) and low <= value <= high):
        yield field, f"must be from {low:g} to {high:g}"
    elif round(value, places) != value:
        yield field, f"has at most {places} decimals"


def content_of(entry: Entry) -> dict[str, object]:
    """An entry as plain JSON, the way it stands in the audit log."""
    content: dict[str, object] = msgspec.to_builtins(entry)
    if isinstance(entry, Depeg):
        content["timestamp"] = entry.key.partition("@")[2]
    return content
