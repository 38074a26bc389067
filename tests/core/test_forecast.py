"""The forecast's intervals hold as often as they say, and it keeps quiet when it has nothing to say."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import accumulate

import pytest

from tonsurance.core.forecast import (
    LEAST_POINTS,
    WITHIN_H,
    Release,
    TrackRecord,
    _first_passage,
    naive_hours,
    predict_capacity_exhaustion,
    study_exhaustion,
)


def walk(seed: int, hours: int, drift: float, spread: float) -> list[float]:
    dice = random.Random(seed)
    return list(accumulate((dice.gauss(drift, spread) for _ in range(hours)), initial=0.0))


def sales(seed: int, hours: int, drift: float, _spread: float) -> list[float]:
    """A policy now and then, of any size."""
    dice = random.Random(seed)
    return list(
        accumulate((dice.expovariate(0.1 / drift) if dice.random() < 0.1 else 0.0 for _ in range(hours)), initial=0.0)
    )


def passage(path: list[float], origin: int, line: float) -> float:
    return next((hours - origin for hours in range(origin, len(path)) if path[hours] >= line), math.inf)


@pytest.mark.parametrize("process", [walk, sales])
def test_the_80_percent_interval_holds_about_80_percent_of_the_truths(process: Callable[..., list[float]]) -> None:
    """60 seeded paths: between 68 and 92 %, which a true 80 % misses once in 50 times. Better than the naive line."""
    inside, said, records = 0, 0, list[TrackRecord]()
    for seed in range(60):
        path = process(seed, 336 + 720, 1.0, 5.0)
        line = path[336] + 100.0
        outlook = study_exhaustion(path[:337], line)
        if outlook.record is not None:
            records.append(outlook.record)
        if outlook.forecast is not None:
            low, high = outlook.forecast.interval_80
            said += 1
            inside += (low or 0.0) <= passage(path, 336, line) <= (high or math.inf)
    assert said >= 50
    assert 0.68 <= inside / said <= 0.92
    assert 0.7 <= sum(record.coverage_80 for record in records) / len(records) <= 0.9
    assert sum(record.pinball_hours for record in records) < 0.8 * sum(record.naive_pinball_hours for record in records)


def test_a_steady_rise_is_full_when_the_line_says_so() -> None:
    path = walk(3, 200, 2.0, 1.0)
    forecast = predict_capacity_exhaustion(path, path[-1] + 120.0)
    assert forecast is not None
    assert forecast.hours == pytest.approx(60.0, rel=0.15)
    intervals = (forecast.interval_95, forecast.interval_80, forecast.interval_50)
    lows = [low for low, _ in intervals]
    highs = [high for _, high in intervals]
    assert lows == sorted(lows, key=float)  # type: ignore[arg-type]
    assert highs == sorted(highs, key=float, reverse=True)  # type: ignore[arg-type]
    assert [forecast.full_within[hours] for hours in WITHIN_H] == sorted(forecast.full_within.values())
    assert forecast.full_within[24] < 0.05
    assert forecast.full_within[168] > 0.9


def test_what_falls_does_not_fill() -> None:
    path = walk(4, 300, -1.0, 3.0)
    outlook = study_exhaustion(path, path[-1] + 200.0)
    assert (outlook.reason, outlook.forecast) == ("not_within_30_days", None)
    assert outlook.full_within is not None
    assert outlook.full_within[168] < 0.1
    assert predict_capacity_exhaustion(path, path[-1] + 200.0) is None


def test_too_little_history_says_nothing() -> None:
    path = walk(5, LEAST_POINTS - 2, 1.0, 1.0)
    assert study_exhaustion(path, path[-1] + 5.0).reason == "insufficient_history"
    assert study_exhaustion([0.0] * 200, 10.0).reason == "insufficient_history"
    assert study_exhaustion([], 10.0).reason == "insufficient_history"


def test_no_room_is_full_now() -> None:
    path = walk(6, 100, 1.0, 1.0)
    assert study_exhaustion(path, path[-1]).reason == "full"


def test_a_forecast_that_does_no_better_than_the_naive_line_is_not_shown() -> None:
    """Sales begin to run straight after two quiet days: the line through the last day knows, the walk learns late."""
    path = list(accumulate((0.1 if hour < 48 else 50.0 for hour in range(300)), initial=0.0))
    outlook = study_exhaustion(path, path[-1] + 1_000.0)
    assert (outlook.reason, outlook.forecast, outlook.full_within) == ("not_better_than_naive", None, None)
    assert outlook.record is not None
    assert outlook.record.skill is not None
    assert outlook.record.skill < 0
    assert predict_capacity_exhaustion(path, path[-1] + 1_000.0) is None


@pytest.mark.parametrize("distance", [0.5, 3.0, 20.0])
def test_without_drift_the_passage_is_twice_the_end_beyond_the_line(distance: float) -> None:
    """The reflection principle: P(T <= t) = 2 (1 - Phi(d / (s sqrt t)))."""
    for hours in (1.0, 10.0, 500.0):
        width = 2.0 * math.sqrt(hours)
        wanted = math.erfc(distance / (width * math.sqrt(2.0)))
        assert _first_passage(0.0, 2.0, distance, hours, width) == pytest.approx(wanted, rel=1e-9)
    assert _first_passage(-0.5, 2.0, 50.0, 1e9, 2.0 * math.sqrt(1e9)) == pytest.approx(math.exp(-12.5), rel=1e-6)
    assert _first_passage(5.0, 1e-3, 1e3, 300.0, 1e-3 * math.sqrt(300.0)) == 1.0


def test_known_expiries_make_room_and_delay_it() -> None:
    path = walk(7, 200, 2.0, 1.0)
    line = path[-1] + 120.0
    without = predict_capacity_exhaustion(path, line)
    soon = predict_capacity_exhaustion(path, line, [Release(10.0, 100.0)])
    late = predict_capacity_exhaustion(path, line, [Release(500.0, 100.0)])
    assert without is not None
    assert soon is not None
    assert late is not None
    assert soon.hours == pytest.approx(without.hours + 50.0, rel=0.2)
    assert late.hours == pytest.approx(without.hours)


def test_the_same_series_gives_the_same_forecast_in_any_unit() -> None:
    path = walk(8, 200, 2.0, 2.0)
    one = predict_capacity_exhaustion(path, path[-1] + 90.0)
    nano = predict_capacity_exhaustion([value * 1e9 for value in path], (path[-1] + 90.0) * 1e9)
    assert one is not None
    assert nano is not None
    assert nano.hours == pytest.approx(one.hours, rel=1e-6)
    assert predict_capacity_exhaustion(path, path[-1] + 90.0) == one


def test_the_naive_line_never_fills_when_it_does_not_rise() -> None:
    assert naive_hours([0.0] * 30, 5.0) == math.inf
    assert naive_hours([float(hour) for hour in range(30)], 5.0) == 5.0
