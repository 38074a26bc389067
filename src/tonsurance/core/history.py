"""Exact down-sampling: a tranche's figures are step functions of time, and a bucket is what one did in a time.

A step holds from its second until the next one; of several in one second the last holds. Sums over time are whole
numbers (nanoTON times seconds; ratios and percents as billionths), so that buckets of a coarse resolution are exactly
the finer ones put together, and are divided once, when they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import msgspec

from tonsurance.core.errors import InputError, TooManyPoints
from tonsurance.core.moments import parse_moment

BILLION = 10**9
MAX_POINTS = 2_000
RAW = 0
"""The resolution of the steps themselves."""

RESOLUTIONS: Mapping[str, int] = MappingProxyType(
    {"raw": RAW, "1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "6h": 21_600, "1d": 86_400}
)
"""Seconds of a bucket by the resolution's name."""

_MOST_SECONDS = 31 * 86_400
_WANTED_POINTS = 500
_LATEST = 253_402_300_799
"""The last second of the year 9999."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tranche stands from `time` (unix seconds) on: nanoTON, utilisation in billionths, the target APY in
    billionths of a percent (None while insolvent)."""

    time: int
    capital: int
    coverage: int
    utilization: int
    apy: int | None


class Measure(msgspec.Struct, frozen=True):
    """One figure within a time: at its start and end, least and most, its sum over time, and the seconds in which
    there was one."""

    open: int | None
    close: int | None
    low: int | None
    high: int | None
    area: int
    seconds: int

    @property
    def mean(self) -> float | None:
        """The mean over time in the figure's unit."""
        return self.area / self.seconds if self.seconds else None

    @property
    def mean_rounded(self) -> int | None:
        """The mean over time to the nearest whole, ties to even."""
        if not self.seconds:
            return None
        whole, rest = divmod(self.area, self.seconds)
        return whole + (2 * rest > self.seconds or (2 * rest == self.seconds and whole % 2 == 1))


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What a tranche did from `start` (unix seconds): `seconds` are known of it, in which it changed so often."""

    start: int
    seconds: int
    changes: int
    capital: Measure
    coverage: Measure
    utilization: Measure
    apy: Measure


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a bucket from its first step on: what a database can sum up without knowing what went before.

    `last.time` and `first.time` are the times of the bucket's first and last step; the measures' opens are the first's.
    """

    start: int
    changes: int
    first: Level
    last: Level
    capital: Measure
    coverage: Measure
    utilization: Measure
    apy: Measure


def billionths(value: float) -> int:
    """A ratio or percentage as whole billionths."""
    return round(value * BILLION)


def hold(value: int | None, seconds: int) -> Measure:
    """A figure that stands still."""
    if value is None:
        return Measure(None, None, None, None, 0, 0)
    return Measure(value, value, value, value, value * seconds, seconds)


def join(one: Measure, other: Measure) -> Measure:
    """A figure over two times that follow each other."""
    lows = [value for value in (one.low, other.low) if value is not None]
    highs = [value for value in (one.high, other.high) if value is not None]
    return Measure(
        one.open,
        other.close,
        min(lows, default=None),
        max(highs, default=None),
        one.area + other.area,
        one.seconds + other.seconds,
    )


def _hold_level(level: Level, start: int, seconds: int, changes: int) -> Bucket:
    return Bucket(
        start=start,
        seconds=seconds,
        changes=changes,
        capital=hold(level.capital, seconds),
        coverage=hold(level.coverage, seconds),
        utilization=hold(level.utilization, seconds),
        apy=hold(level.apy, seconds),
    )


def merge(buckets: Sequence[Bucket], start: int) -> Bucket:
    """Buckets that follow each other as one that starts at `start`."""
    result = buckets[0]
    for bucket in buckets[1:]:
        result = Bucket(
            start=start,
            seconds=result.seconds + bucket.seconds,
            changes=result.changes + bucket.changes,
            capital=join(result.capital, bucket.capital),
            coverage=join(result.coverage, bucket.coverage),
            utilization=join(result.utilization, bucket.utilization),
            apy=join(result.apy, bucket.apy),
        )
    return msgspec.structs.replace(result, start=start)


def coarsen(buckets: Iterable[Bucket], step: int) -> list[Bucket]:
    """Buckets of a resolution that theirs divides."""
    groups: dict[int, list[Bucket]] = {}
    for bucket in buckets:
        groups.setdefault(bucket.start - bucket.start % step, []).append(bucket)
    return [merge(group, start) for start, group in groups.items()]


def cut_pieces(levels: Sequence[Level], *, until: int, step: int) -> list[Piece]:
    """The pieces of steps in the order in which they happened, up to `until`."""
    groups: dict[int, list[tuple[Level, int]]] = {}
    for level, end in _held_until(levels, until):
        start = level.time - level.time % step
        groups.setdefault(start, []).append((level, min(end, start + step) - level.time))
    return [_piece(start, group) for start, group in groups.items()]


def _piece(start: int, group: Sequence[tuple[Level, int]]) -> Piece:
    whole = merge([_hold_level(level, start, seconds, 1) for level, seconds in group], start)
    return Piece(
        start=start,
        changes=whole.changes,
        first=group[0][0],
        last=group[-1][0],
        capital=whole.capital,
        coverage=whole.coverage,
        utilization=whole.utilization,
        apy=whole.apy,
    )


def fill_buckets(pieces: Iterable[Piece], before: Level | None, *, start: int, until: int, step: int) -> list[Bucket]:
    """Every bucket from `start` to `until`: a gap carries the last value on, `before` is the one at the start.

    Before the first value there is no bucket. The last bucket ends at `until`.
    """
    found = {piece.start: piece for piece in pieces}
    buckets: list[Bucket] = []
    level = before
    for begin in range(start - start % step, until, step):
        piece = found.get(begin)
        if piece is not None:
            buckets.append(_complete(piece, level, min(begin + step, until)))
            level = piece.last
        elif level is not None:
            buckets.append(_hold_level(level, begin, min(begin + step, until) - begin, 0))
    return buckets


def _complete(piece: Piece, before: Level | None, end: int) -> Bucket:
    known = Bucket(
        start=piece.start,
        seconds=end - piece.first.time,
        changes=piece.changes,
        capital=piece.capital,
        coverage=piece.coverage,
        utilization=piece.utilization,
        apy=piece.apy,
    )
    waited = piece.first.time - piece.start
    if before is None or waited == 0:
        return known
    return merge([_hold_level(before, piece.start, waited, 0), known], piece.start)


def show_steps(levels: Sequence[Level], *, until: int) -> list[Bucket]:
    """The steps themselves as buckets, each as long as it held."""
    return [_hold_level(level, level.time, end - level.time, 1) for level, end in _held_until(levels, until)]


def _held_until(levels: Sequence[Level], until: int) -> list[tuple[Level, int]]:
    """The last step of every second, with the time of the next one."""
    last_of_second = {level.time: level for level in levels}
    return [(last_of_second[time], end) for time, end in pairwise((*last_of_second, until))]


def parse_resolution(text: str) -> int:
    """Seconds of a bucket from its name or a number of seconds; RAW for `raw`. Raises InputError."""
    if text in RESOLUTIONS:
        return RESOLUTIONS[text]
    if text.isascii() and text.isdecimal() and 1 <= int(text[:10]) <= _MOST_SECONDS and len(text) <= 10:
        return int(text)
    raise InputError(
        f"{text[:32]!r} is no resolution: write {', '.join(RESOLUTIONS)}, or seconds from 1 to {_MOST_SECONDS}."
    )


def parse_time(text: str) -> int:
    """Unix seconds from RFC 3339 (`2026-11-20T12:00:00Z`) or from the number itself. Raises InputError."""
    if text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) <= _LATEST:
        return int(text)
    try:
        time = parse_moment(text).time
    except InputError:
        time = None
    if time is None or time.timestamp() < 0:
        raise InputError(
            f"{text[:64]!r} is no time: write it with its zone as 2026-11-20T12:00:00Z (+ as %2B), or unix seconds."
        )
    return int(time.timestamp())


def count_buckets(start: int, end: int, step: int) -> int:
    """How many buckets of a resolution it takes from `start` to `end`."""
    return -(-end // step) - start // step


def check_points(start: int, end: int, step: int) -> None:
    """Raises TooManyPoints, naming the next coarser resolution with few enough buckets."""
    if step != RAW and count_buckets(start, end, step) > MAX_POINTS:
        raise TooManyPoints(MAX_POINTS, name_coarser(start, end, step))


def name_coarser(start: int, end: int, step: int) -> str | None:
    """The next coarser resolution that gives few enough points; None when not even the coarsest does."""
    for name, seconds in RESOLUTIONS.items():
        if seconds > step and count_buckets(start, end, seconds) <= MAX_POINTS:
            return name
    needed = -(-(end - start) // (MAX_POINTS - 1))
    return str(needed) if step < needed <= _MOST_SECONDS else None


def choose_resolution(start: int, end: int) -> int:
    """The finest named one, in seconds, that shows this time in a few hundred points."""
    named = [seconds for seconds in RESOLUTIONS.values() if seconds]
    for seconds in named:
        if count_buckets(start, end, seconds) <= _WANTED_POINTS:
            return seconds
    return named[-1]


def name_resolution(step: int) -> str:
    """A resolution's name, else its seconds."""
    return next((name for name, seconds in RESOLUTIONS.items() if seconds == step), str(step))
