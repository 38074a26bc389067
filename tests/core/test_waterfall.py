"""Splits, streaming premiums and shares: conservation and who rounding favours."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.catalog import TRANCHES
from tonsurance.core.waterfall import LOCKED_SHARES, Stream, add_premium, amount_for, earn, mint, split

ALLOCATION = [t.allocation_percent for t in TRANCHES]
PREMIUM = [t.premium_percent for t in TRANCHES]
amounts = st.integers(0, 10**19)
times = st.integers(0, 10**9)


@given(amounts, st.sampled_from([ALLOCATION, PREMIUM]))
def test_a_split_keeps_every_nano_and_is_within_one_of_each_share(amount: int, percents: list[int]) -> None:
    parts = split(amount, percents)
    assert sum(parts) == amount
    assert all(abs(part - Fraction(amount * percent, 100)) < 1 for part, percent in zip(parts, percents, strict=True))
    assert min(parts) >= 0


def test_golden_splits() -> None:
    assert split(1_000_000_007, ALLOCATION) == (250000001, 200000002, 180000001, 150000001, 120000001, 100000001)
    assert split(101, PREMIUM) == (8, 15, 20, 18, 20, 20)


@given(amounts, times, st.integers(1, 10**8), st.lists(st.integers(0, 10**8), max_size=6))
def test_earning_in_steps_pays_all_and_never_more_than_is_due(
    unearned: int, start: int, life: int, steps: list[int]
) -> None:
    stream, paid = Stream(unearned, start + life, start), 0
    for now in sorted(start + step for step in steps):
        stream, earned = earn(stream, now)
        paid += earned
        assert earned >= 0
        assert paid <= Fraction(unearned * min(now - start, life), life)
    stream, rest = earn(stream, start + life)
    assert paid + rest == unearned
    assert stream.unearned == 0


@given(amounts, st.integers(1, 10**8), st.integers(1, 10**19), st.integers(1, 10**8))
def test_a_new_premium_keeps_the_money_weighted_time_left(unearned: int, left: int, premium: int, life: int) -> None:
    now = 1_000_000
    after = add_premium(Stream(unearned, now + left, now), premium, life, now)
    assert after.unearned == unearned + premium
    exact = Fraction(unearned * left + premium * life, unearned + premium)
    assert 0 <= exact - (after.end - now) < 1


def test_nothing_is_earned_backwards_or_twice() -> None:
    stream = Stream(1000, 200, 100)
    half, earned = earn(stream, 150)
    assert (earned, half.unearned) == (500, 500)
    assert earn(half, 150) == (half, 0)
    assert earn(half, 120) == (half, 0)
    assert earn(half, 10_000) == (Stream(0, 200, 10_000), 500)
    assert add_premium(stream, 0, 50, 100) == stream


@given(st.integers(1, 10**18), st.integers(1, 10**18), st.integers(1, 10**18))
def test_rounding_of_shares_favours_the_vault(amount: int, capital: int, shares: int) -> None:
    minted, locked = mint(amount, capital, shares)
    assert locked == 0
    assert amount_for(minted, capital + amount, shares + minted) <= amount if shares + minted else True


def test_the_first_deposit_of_an_epoch_is_one_to_one_and_what_was_left_is_nobodys() -> None:
    assert mint(5 * 10**9, 0, 0) == (5 * 10**9 - LOCKED_SHARES, LOCKED_SHARES)
    assert mint(5 * 10**9, 7, 0) == (5 * 10**9 - LOCKED_SHARES, LOCKED_SHARES + 7)
