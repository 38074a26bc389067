"""What premiums and shares pay: null where nothing can be said, and never the target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.waterfall import Stream, add_premium, earn
from tonsurance.core.yields import (
    YEAR_S,
    SharePrice,
    StreamEnd,
    compute_yields,
    extend_stream,
    funded_apy,
    realised_apy,
)

TON = 10**9
NOW = 1_800_000_000
DAY = 86_400


def test_premiums_of_a_year_over_the_capital_are_the_funded_apy() -> None:
    stream = extend_stream(None, 40 * TON, 40 * TON, YEAR_S, NOW)
    assert funded_apy(1_000 * TON, 40 * TON, stream, NOW) == pytest.approx(4.0)
    later = stream.unearned - stream.unearned // 4
    assert funded_apy(1_000 * TON, later, stream, NOW + YEAR_S // 4) == pytest.approx(4.0)


def test_the_funded_apy_is_nothing_without_capital_and_zero_without_premium() -> None:
    stream = StreamEnd(since=NOW, unearned=TON, end=NOW + DAY)
    assert funded_apy(0, TON, stream, NOW) is None
    assert funded_apy(TON, 0, stream, NOW) == 0.0
    assert funded_apy(TON, 0, None, NOW) == 0.0
    assert funded_apy(TON, TON, stream, NOW + DAY) == 0.0
    assert funded_apy(TON, TON, None, NOW) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 30 * DAY), st.integers(0, 100 * TON), st.integers(1, 365)), min_size=1, max_size=20
    )
)
def test_the_stream_folded_from_premiums_alone_is_the_one_that_earns(parts: list[tuple[int, int, int]]) -> None:
    """Between premiums nothing moves the end, so the rate is that of the contract's stream, to the nanos lost in
    rounding each time it is earned."""
    stream, end, now = Stream(0, NOW, NOW), None, NOW
    for count, (wait, premium, days) in enumerate(parts, 1):
        now += wait
        stream, _ = earn(stream, now)
        stream = add_premium(stream, premium, days * DAY, now)
        if premium:
            end = extend_stream(end, stream.unearned, premium, days * DAY, now)
        if end is None or now >= stream.end or not stream.unearned:
            continue
        assert end.end == stream.end
        rate = stream.unearned / (stream.end - stream.last)
        assert end.unearned / (end.end - end.since) == pytest.approx(rate, abs=count / (stream.end - now))


def test_the_realised_apy_compounds_what_a_share_gained() -> None:
    before = SharePrice(time=NOW - 30 * DAY, capital=1_000 * TON, shares=1_000 * TON)
    now = SharePrice(time=NOW, capital=2_020 * TON, shares=2_000 * TON)
    assert realised_apy(before, now, new_epoch=False) == pytest.approx(100 * (1.01 ** (365 / 30) - 1))
    lost = SharePrice(time=NOW, capital=900 * TON, shares=1_000 * TON)
    assert realised_apy(before, lost, new_epoch=False) == pytest.approx(100 * (0.9 ** (365 / 30) - 1))


@pytest.mark.parametrize(
    ("before", "now", "new_epoch"),
    [
        (None, SharePrice(time=NOW, capital=5, shares=5), False),
        (SharePrice(time=NOW - DAY + 1, capital=5, shares=5), SharePrice(time=NOW, capital=5, shares=5), False),
        (SharePrice(time=NOW - 9 * DAY, capital=5, shares=5), SharePrice(time=NOW, capital=5, shares=5), True),
        (SharePrice(time=NOW - 9 * DAY, capital=5, shares=0), SharePrice(time=NOW, capital=5, shares=5), False),
        (SharePrice(time=NOW - 9 * DAY, capital=5, shares=5), SharePrice(time=NOW, capital=5, shares=0), False),
        (SharePrice(time=NOW - 9 * DAY, capital=0, shares=5), SharePrice(time=NOW, capital=5, shares=5), False),
        (SharePrice(time=NOW - DAY, capital=1, shares=10**30), SharePrice(time=NOW, capital=10**9, shares=1), False),
    ],
)
def test_without_two_prices_of_one_epoch_nothing_is_said(
    before: SharePrice | None, now: SharePrice, new_epoch: bool
) -> None:
    assert realised_apy(before, now, new_epoch=new_epoch) is None
    yields = compute_yields(now, 0, None, before, new_epoch=new_epoch, now=NOW)
    assert (yields.realised_pct, yields.window_days, yields.price_before, yields.price_now) == (None,) * 4


def test_prices_and_window_are_shown_with_the_realised_apy() -> None:
    before = SharePrice(time=NOW - 45 * DAY, capital=100 * TON, shares=100 * TON)
    now = SharePrice(time=NOW, capital=101 * TON, shares=100 * TON)
    yields = compute_yields(now, 0, None, before, new_epoch=False, now=NOW)
    assert (yields.window_days, yields.price_before, yields.price_now) == (45.0, 1.0, 1.01)
