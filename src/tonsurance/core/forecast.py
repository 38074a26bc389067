"""When a tranche will be full: the first time a drifting random walk passes a line, and how good that has been so far.

The hours between two points of the series are taken as steps of a Brownian motion with drift; its first passage over
a distance has an inverse Gaussian distribution. What is not known about drift and variance is averaged over. Past
points serve as origins of the same forecast: where the truth fell in it (its probability) recalibrates the quantiles,
and tells how often intervals held and how far off they were, beside the naive line through the last 24 hours.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import NormalDist, fmean, variance

import msgspec

LEAST_POINTS = 72
"""Hours of history without which nothing is said."""

HORIZON_H = 720
WITHIN_H = (24, 72, 168)
MOST_FITTED = 336
"""Hours a forecast learns from: two weeks."""

NAIVE_H = 24
_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_SCORED = (0.1, 0.5, 0.9)
_LEAST_FITTED, _LEAST_OUTCOME_H, _MOST_OUTCOME_H = 36, 12, 168
_LEAST_ORIGINS = 5
_PRIOR_POINTS = 40
"""So many even probabilities stand beside the forty measured: trials that overlap in time err together, and would bend
the quantiles of a model that is right (bench: the 80 % interval held 71 % of a drifted walk with 10, 79 % with 40)."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_CONTINUITY = 0.5826
"""A walk seen every hour passes a line later than the motion under it: as if the line were this many steps away."""

_NORMAL = NormalDist()
_SPREAD_NODES, _DRIFT_NODES = 6, 10
_GRID: tuple[float, ...] = tuple(0.5 * math.exp(place / 47 * math.log(HORIZON_H / 0.5)) for place in range(48))


class TrackRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the same forecast did at past origins of the series: shares of the truths inside its intervals, mean pinball
    loss in hours of the 10, 50 and 90 % quantiles and that of the naive line, and 1 minus their ratio."""

    origins: int
    coverage_50: float
    coverage_80: float
    coverage_95: float
    pinball_hours: float
    naive_pinball_hours: float

    @property
    def skill(self) -> float | None:
        """Above 0: better than the naive line. None when that one was never wrong."""
        return 1.0 - self.pinball_hours / self.naive_pinball_hours if self.naive_pinball_hours else None


Interval = tuple[float | None, float | None]
"""Hours; None is later than the horizon."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Hours until full: the median, intervals, and the probability within some hours."""

    hours: float
    interval_50: Interval
    interval_80: Interval
    interval_95: Interval
    full_within: Mapping[int, float]


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast, or why there is none: `full` (it has no room now), `insufficient_history`, `not_within_30_days`,
    `not_better_than_naive`. The last two still have their record; the third its probabilities."""

    reason: str | None
    forecast: Forecast | None = None
    full_within: Mapping[int, float] | None = None
    record: TrackRecord | None = None


class Release(msgspec.Struct, frozen=True):
    """So much of what is used will end `hours` from now."""

    hours: float
    amount: float


def predict_capacity_exhaustion(
    series: Sequence[float], capacity: float, releases: Sequence[Release] = ()
) -> Forecast | None:
    """When `series`, one value an hour and the last of them now, will reach `capacity`; None when it will not within
    30 days, when there is too little history, or when the naive line did better."""
    return study_exhaustion(series, capacity, releases).forecast


def study_exhaustion(series: Sequence[float], capacity: float, releases: Sequence[Release] = ()) -> Outlook:
    """The same with the reason when there is none, and with the record.

    `series` is what was used without the releases of the past: they are known ahead, so they are no surprise to learn
    from. Those of the future move the line away at their time.
    """
    if len(series) < LEAST_POINTS:
        return Outlook(reason="insufficient_history")
    distance = capacity - series[-1]
    if distance <= 0:
        return Outlook(reason="full")
    trials = list(_look_back(series))
    record = _judge(trials)
    if record is None:
        return Outlook(reason="insufficient_history")
    passage = _Passage(series[-MOST_FITTED:], distance, releases)
    calibration = _Calibration(_probabilities(trials, len(series) - 1))
    within = {hours: calibration.level_of(passage.probability(hours)) for hours in WITHIN_H}
    quantiles = [passage.quantile(calibration.level(level)) for level in _LEVELS]
    median = quantiles[3]
    if median is None:
        return Outlook(reason="not_within_30_days", full_within=within, record=record)
    if record.pinball_hours >= record.naive_pinball_hours:
        return Outlook(reason="not_better_than_naive", record=record)
    forecast = Forecast(
        hours=median,
        interval_50=(quantiles[2], quantiles[4]),
        interval_80=(quantiles[1], quantiles[5]),
        interval_95=(quantiles[0], quantiles[6]),
        full_within=within,
    )
    return Outlook(reason=None, forecast=forecast, full_within=within, record=record)


def naive_hours(series: Sequence[float], distance: float) -> float:
    """Hours to go along the straight line through the values now and 24 hours ago; infinite when it does not rise."""
    past = min(NAIVE_H, len(series) - 1)
    slope = (series[-1] - series[-1 - past]) / past
    return distance / slope if slope > 0 else math.inf


class _Passage:
    """The distribution of the hours until a walk like `series` has gone `distance` further."""

    def __init__(self, series: Sequence[float], distance: float, releases: Sequence[Release] = ()) -> None:
        steps = [later - earlier for earlier, later in pairwise(series)]
        self.drift = fmean(steps)
        self.spread = max(math.sqrt(variance(steps)), 1e-9 * distance)
        nodes = list(_parameter_nodes(self.drift, self.spread, len(steps)))
        table = [_passed(nodes, distance + _released(releases, hours), hours) for hours in _GRID]
        self._table: list[float] = list(
            accumulate(table, max)
        )  # a release moves the line away; what had passed it stays passed

    def probability(self, hours: float) -> float:
        """The probability of having passed by then; constant beyond the horizon."""
        if hours <= _GRID[0]:
            return self._table[0] * max(hours, 0.0) / _GRID[0]
        if hours >= _GRID[-1]:
            return self._table[-1]
        place = bisect_left(_GRID, hours)
        share = math.log(hours / _GRID[place - 1]) / math.log(_GRID[place] / _GRID[place - 1])
        return self._table[place - 1] + share * (self._table[place] - self._table[place - 1])

    def quantile(self, level: float) -> float | None:
        """The hours by which it has passed with this probability; None beyond the horizon."""
        if level > self._table[-1]:
            return None
        place = bisect_left(self._table, level)
        if place == 0:
            return _GRID[0] * (level / self._table[0] if self._table[0] > 0 else 1.0)
        low, high = self._table[place - 1], self._table[place]
        share = (level - low) / (high - low)
        return _GRID[place - 1] * math.exp(share * math.log(_GRID[place] / _GRID[place - 1]))


def _parameter_nodes(mean: float, spread: float, count: int) -> Iterator[tuple[float, float]]:
    """Equally likely (drift, spread) given the steps seen: the variance a scaled inverse chi-square (its quantiles by
    Wilson and Hilferty), the drift normal around the mean."""
    free = count - 1
    for place in range(_SPREAD_NODES):
        normal = _NORMAL.inv_cdf((place + 0.5) / _SPREAD_NODES)
        chi_square = free * max(1e-3, 1 - 2 / (9 * free) + normal * math.sqrt(2 / (9 * free))) ** 3
        some_spread = spread * math.sqrt(free / chi_square)
        for other in range(_DRIFT_NODES):
            deviation = _NORMAL.inv_cdf((other + 0.5) / _DRIFT_NODES)
            yield mean + deviation * some_spread / math.sqrt(count), some_spread


def _passed(nodes: Sequence[tuple[float, float]], distance: float, hours: float) -> float:
    root = math.sqrt(hours)
    return fmean(
        _first_passage(drift, spread, distance + _CONTINUITY * spread, hours, spread * root) for drift, spread in nodes
    )


def _first_passage(drift: float, spread: float, distance: float, hours: float, width: float) -> float:
    """P(T <= t) of a Brownian motion: Phi((m t - d) / (s sqrt t)) + e^(2 m d / s^2) Phi(-(m t + d) / (s sqrt t))."""
    direct = 0.5 * math.erfc(-(drift * hours - distance) / (width * math.sqrt(2.0)))
    reflected = 2.0 * drift * distance / (spread * spread) + _log_normal(-(drift * hours + distance) / width)
    return min(1.0, direct + (math.exp(reflected) if reflected > -700 else 0.0))


def _log_normal(z: float) -> float:
    """log Phi(z), also far out where Phi itself is zero."""
    if z > -20.0:
        return math.log(0.5 * math.erfc(-z / math.sqrt(2.0)))
    return -0.5 * z * z - math.log(-z) - 0.5 * math.log(2.0 * math.pi) + math.log1p(-1.0 / (z * z))


def _released(releases: Sequence[Release], hours: float) -> float:
    return sum(release.amount for release in releases if release.hours <= hours)


class _Trial(msgspec.Struct, frozen=True):
    """A forecast from a past origin: after `waited` of the `window` hours the truth was there, or it is still to come
    and `waited` is all of them."""

    origin: int
    passage: _Passage
    distance: float
    naive: float
    window: int
    waited: float
    passed: bool


def _look_back(series: Sequence[float]) -> Iterator[_Trial]:
    """The same forecast from some forty past origins, over a distance that its own past makes likely to be gone."""
    last = len(series) - 1
    first, latest = _LEAST_FITTED, last - _LEAST_OUTCOME_H
    for origin in range(first, latest + 1, max(1, -(-(latest - first) // 40))):
        known = series[max(0, origin + 1 - MOST_FITTED) : origin + 1]
        window = min(last - origin, _MOST_OUTCOME_H)
        steps = [later - earlier for earlier, later in pairwise(known)]
        distance = 0.5 * max(fmean(steps), 0.0) * window + 0.7 * math.sqrt(variance(steps) * window)
        if distance <= 0:
            continue
        line = series[origin] + distance
        waited = next((hours for hours in range(1, window + 1) if series[origin + hours] >= line), None)
        yield _Trial(
            origin,
            _Passage(known, distance),
            distance,
            naive_hours(known, distance),
            window,
            float(waited or window),
            waited is not None,
        )


def _probabilities(trials: Sequence[_Trial], now: int) -> list[float]:
    """Where the truths fell in their forecasts, as known at `now`. One still to come lies somewhere beyond what has
    been waited for: these are spread evenly over what is left."""
    found = []
    for number, trial in enumerate(trials):
        if trial.origin >= now:
            break
        waited = min(trial.waited, float(now - trial.origin))
        probability = trial.passage.probability(waited)
        if not trial.passed or trial.waited > now - trial.origin:
            probability += (1.0 - probability) * (number * _GOLDEN % 1.0)
        found.append(probability)
    return found


class _Calibration:
    """From the wanted probability of a quantile to that of the model's quantile which had it in the past, and back."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        prior = ((place + 0.5) / _PRIOR_POINTS for place in range(_PRIOR_POINTS))
        self._points = [0.0, *sorted((*probabilities, *prior)), 1.0]

    def level(self, wanted: float) -> float:
        """The model's probability that was reached in a share `wanted` of the past."""
        place = wanted * (len(self._points) - 1)
        below = min(int(place), len(self._points) - 2)
        return self._points[below] + (place - below) * (self._points[below + 1] - self._points[below])

    def level_of(self, probability: float) -> float:
        """The share of the past in which the model's probability was at most this."""
        place = min(max(bisect_left(self._points, probability), 1), len(self._points) - 1)
        low, high = self._points[place - 1], self._points[place]
        share = (probability - low) / (high - low) if high > low else 1.0
        return (place - 1 + min(max(share, 0.0), 1.0)) / (len(self._points) - 1)


def _judge(trials: Sequence[_Trial]) -> TrackRecord | None:
    """How the forecasts did, each calibrated with what was known at its origin; None when they are too few."""
    if len(trials) < _LEAST_ORIGINS:
        return None
    ranks, losses, naive_losses = [], [], []
    truths = _probabilities(trials, trials[-1].origin + _MOST_OUTCOME_H + 1)
    for trial, truth in zip(trials, truths, strict=True):
        calibration = _Calibration(_probabilities(trials, trial.origin))
        ranks.append(calibration.level_of(truth))
        quantiles = [trial.passage.quantile(calibration.level(level)) for level in _SCORED]
        losses.append(_loss(quantiles, trial))
        naive_losses.append(_loss([trial.naive] * len(_SCORED), trial))

    def held(share: float) -> float:
        return fmean(abs(rank - 0.5) <= share / 2 for rank in ranks)

    return TrackRecord(
        origins=len(trials),
        coverage_50=held(0.5),
        coverage_80=held(0.8),
        coverage_95=held(0.95),
        pinball_hours=fmean(losses),
        naive_pinball_hours=fmean(naive_losses),
    )


def _loss(quantiles: Sequence[float | None], trial: _Trial) -> float:
    """Mean pinball loss in hours. What is later than the trial's window counts as its end: no more is known."""
    shown = [trial.window if value is None else min(value, trial.window) for value in quantiles]
    return fmean(
        (trial.waited - value) * level if value <= trial.waited else (value - trial.waited) * (1.0 - level)
        for value, level in zip(shown, _SCORED, strict=True)
    )
