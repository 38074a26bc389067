"""Down-sampling is exact: buckets are what a second-by-second look would see, whatever their size."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.errors import InputError, TooManyPoints
from tonsurance.core.history import (
    BILLION,
    MAX_POINTS,
    RESOLUTIONS,
    Bucket,
    Level,
    Measure,
    billionths,
    check_points,
    choose_resolution,
    coarsen,
    count_buckets,
    cut_pieces,
    fill_buckets,
    name_coarser,
    parse_resolution,
    parse_time,
    show_steps,
)

START = 1_790_000_000 - 1_790_000_000 % 3_600


def level(time: int, seed: int) -> Level:
    dice = random.Random(seed)
    capital = dice.randint(0, 2**63 - 1)
    return Level(
        time=time,
        capital=capital,
        coverage=dice.randint(0, 2**63 - 1),
        utilization=dice.randint(0, BILLION),
        apy=None if dice.random() < 0.2 else dice.randint(0, 25 * BILLION),
    )


levels_of = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 2**32)), max_size=40).map(
    lambda pairs: [level(START + second, seed) for second, seed in sorted(pairs, key=lambda pair: pair[0])]
)


def every_second(levels: list[Level], before: Level | None, start: int, until: int) -> dict[int, Level]:
    """The figure at each second, without any bucket."""
    found, now = {}, before
    for second in range(start, until):
        for one in levels:
            if one.time == second:
                now = one
        if now is not None:
            found[second] = now
    return found


def look(values: list[int | None]) -> Measure:
    known = [value for value in values if value is not None]
    return Measure(values[0], values[-1], min(known, default=None), max(known, default=None), sum(known), len(known))


@given(levels=levels_of, before=st.none() | st.integers(0, 9), step=st.sampled_from([7, 60, 100, 3_600]))
def test_a_bucket_is_what_a_look_at_every_second_sees(levels: list[Level], before: int | None, step: int) -> None:
    earlier = None if before is None else level(START - 50, before)
    start, until = START - START % step, START + 640
    buckets = fill_buckets(cut_pieces(levels, until=until, step=step), earlier, start=start, until=until, step=step)
    seconds = every_second(levels, earlier, start, until)
    wanted: dict[int, list[Level]] = {}
    for second, one in seconds.items():
        wanted.setdefault(second - second % step, []).append(one)
    assert [bucket.start for bucket in buckets] == sorted(wanted)
    for bucket in buckets:
        mine = wanted[bucket.start]
        assert bucket.seconds == len(mine)
        for name in ("capital", "coverage", "utilization", "apy"):
            assert getattr(bucket, name) == look([getattr(one, name) for one in mine]), name
        changes = {one.time for one in levels if one.time - one.time % step == bucket.start}
        assert bucket.changes == len(changes)


@given(levels=levels_of, before=st.none() | st.integers(0, 9), times=st.integers(1, 12))
def test_coarse_buckets_are_the_finer_ones_put_together(levels: list[Level], before: int | None, times: int) -> None:
    earlier = None if before is None else level(START - 50, before)
    until = START + 640

    def cut(step: int) -> list[Bucket]:
        start = START - START % step
        return fill_buckets(cut_pieces(levels, until=until, step=step), earlier, start=start, until=until, step=step)

    fine, coarse = 10, 10 * times
    start = START - START % coarse
    finer = fill_buckets(cut_pieces(levels, until=until, step=fine), earlier, start=start, until=until, step=fine)
    assert coarsen(finer, coarse) == cut(coarse)
    assert sum(bucket.capital.area for bucket in cut(fine)) == sum(
        bucket.capital.area
        for bucket in fill_buckets(
            cut_pieces(levels, until=until, step=1), earlier, start=START - START % fine, until=until, step=1
        )
    )


def test_before_the_first_event_there_is_no_bucket_and_a_gap_carries_the_last_value() -> None:
    first = level(START + 130, 1)
    buckets = fill_buckets(
        cut_pieces([first], until=START + 300, step=60), None, start=START, until=START + 300, step=60
    )
    assert [(bucket.start - START, bucket.seconds, bucket.changes) for bucket in buckets] == [
        (120, 50, 1),
        (180, 60, 0),
        (240, 60, 0),
    ]
    assert {bucket.capital.close for bucket in buckets} == {first.capital}
    assert fill_buckets([], None, start=START, until=START + 300, step=60) == []


def test_the_mean_is_over_time_and_not_over_events() -> None:
    steps = [
        Level(time=START, capital=100, coverage=0, utilization=0, apy=0),
        Level(time=START + 59, capital=700, coverage=0, utilization=0, apy=0),
    ]
    (bucket,) = fill_buckets(cut_pieces(steps, until=START + 60, step=60), None, start=START, until=START + 60, step=60)
    assert (bucket.capital.mean, bucket.capital.mean_rounded) == (110.0, 110)
    assert Measure(0, 0, 0, 0, 5, 2).mean_rounded == 2
    assert Measure(0, 0, 0, 0, 7, 2).mean_rounded == 4
    assert Measure(None, None, None, None, 0, 0).mean is None


def test_steps_are_shown_as_long_as_they_held() -> None:
    steps = [level(START, 1), level(START, 2), level(START + 5, 3)]
    shown = show_steps(steps, until=START + 20)
    assert [(bucket.start - START, bucket.seconds) for bucket in shown] == [(0, 5), (5, 15)]
    assert shown[0].capital.close == steps[1].capital


@pytest.mark.parametrize(
    ("span", "step", "coarser"),
    [
        (MAX_POINTS * 60, 60, None),
        (MAX_POINTS * 60 + 1, 60, "5m"),
        (400 * 86_400, 60, "6h"),
        (6_000 * 86_400, 60, "259330"),
    ],
)
def test_too_many_points_name_the_next_coarser_resolution(span: int, step: int, coarser: str | None) -> None:
    start = 86_400 * 20_000
    if coarser is None:
        check_points(start, start + span, step)
        return
    with pytest.raises(TooManyPoints) as caught:
        check_points(start, start + span, step)
    assert caught.value.coarser == coarser
    assert f"resolution={coarser}" in caught.value.message
    assert count_buckets(start, start + span, parse_resolution(coarser)) <= MAX_POINTS


def test_a_resolution_is_chosen_that_shows_the_time_in_some_hundred_points() -> None:
    for span in (60, 3_600, 86_400, 30 * 86_400, 365 * 86_400):
        step = choose_resolution(START, START + span)
        assert step in RESOLUTIONS.values()
        assert count_buckets(START, START + span, step) <= 501
    assert name_coarser(0, 10**12, 1) is None


@pytest.mark.parametrize("text", ["", "2h", "0", "-1", "1e3", "99999999999", "RAW", "\u0661"])
def test_what_is_no_resolution_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_resolution(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [("1790000000", 1_790_000_000), ("1970-01-02T00:00:00Z", 86_400), ("1970-01-01T01:00:00.9+01:00", 0)],
)
def test_times_are_rfc_3339_or_unix_seconds(text: str, time: int) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize(
    "text", ["", "now", "-5", "1.5", "lt:5", "1960-01-01T00:00:00Z", "9" * 13, "2026-11-20T12:00:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_time(text)


def test_ratios_become_billionths() -> None:
    assert (billionths(0.5), billionths(1 / 3), billionths(0.0)) == (500_000_000, 333_333_333, 0)
