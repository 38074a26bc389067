"""The waterfall of losses, the circuit breaker and void shares, against plain statements of the rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.claims import (
    BreakerWindow,
    absorb_loss,
    add_loss,
    holds_back,
    is_worthless,
    may_deposit,
    window_at,
)

AMOUNTS = st.integers(0, 10**18)


@given(AMOUNTS, st.lists(AMOUNTS, min_size=6, max_size=6))
def test_a_loss_is_borne_by_the_most_junior_first_and_nothing_is_dropped(loss: int, capitals: list[int]) -> None:
    borne, shortfall = absorb_loss(loss, capitals)
    assert sum(borne) + shortfall == loss
    assert all(0 <= part <= capital for part, capital in zip(borne, capitals, strict=True))
    for senior, part in enumerate(borne):
        if part:  # whoever is junior to one that bears has nothing left
            assert borne[senior + 1 :] == tuple(capitals[senior + 1 :])
    assert shortfall == max(0, loss - sum(capitals))


def test_losses_by_hand() -> None:
    assert absorb_loss(100, (50, 50, 50, 50, 30, 20)) == ((0, 0, 0, 50, 30, 20), 0)
    assert absorb_loss(0, (1, 1, 1, 1, 1, 1)) == ((0, 0, 0, 0, 0, 0), 0)
    assert absorb_loss(7, (1, 1, 1, 1, 1, 1)) == ((1, 1, 1, 1, 1, 1), 1)


def test_ten_percent_of_the_capital_at_the_opening_may_be_lost_in_a_window() -> None:
    window = window_at(BreakerWindow(), 1_009, 500_000, 86_400)
    assert (window.opened_at, window.capital, window.losses, window.limit) == (500_000, 1_009, 0, 100)
    assert not holds_back(window, 100)
    assert holds_back(window, 101)
    window = add_loss(window, 60)
    assert window_at(window, 1, 500_000 + 86_399, 86_400) == window
    assert holds_back(window, 41)
    assert window_at(window, 70, 500_000 + 86_400, 86_400) == BreakerWindow(586_400, 70, 0)


def test_shares_become_void_below_a_thousandth_and_nobody_joins_below_a_hundredth() -> None:
    assert not is_worthless(1_000, 1_000_000)
    assert is_worthless(999, 1_000_000)
    assert may_deposit(10_000, 1_000_000)
    assert not may_deposit(9_999, 1_000_000)
    assert may_deposit(0, 0)
