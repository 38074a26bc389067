"""What a claim costs whom: the waterfall of losses, the circuit breaker that holds claims back, and void shares.

The same rules as contracts/vault_claims.fc, in integers, equal to the nano. Source: docs/formulas.md, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tonsurance.core.units import WHOLE_PERCENT

BREAKER_PERCENT = 10
"""Losses within one window, in percent of the capital at its opening, above which claims are held back."""
LEAST_PRICE = 1_000
"""Shares per nanoTON of capital above which a loss makes all shares of a tranche void."""
LEAST_PRICE_OF_DEPOSIT = 100
"""Shares per nanoTON of capital above which nobody may join: the next loss could take all of his capital."""


def absorb_loss(loss: int, capitals: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """What each tranche bears of a loss, senior to junior, and the shortfall nobody could bear.

    The most junior tranche is exhausted first. nanoTON.
    """
    borne = [0] * len(capitals)
    for place in reversed(range(len(capitals))):
        borne[place] = min(loss, capitals[place])
        loss -= borne[place]
    return tuple(borne), loss


def is_worthless(capital: int, shares: int) -> bool:
    """After a loss: whether so little is left behind the shares that they become void and a new epoch starts."""
    return capital * LEAST_PRICE < shares


def may_deposit(capital: int, shares: int) -> bool:
    """Whether a share is worth enough for somebody to join; always at the start of an epoch."""
    return shares == 0 or capital * LEAST_PRICE_OF_DEPOSIT >= shares


class BreakerWindow(msgspec.Struct, frozen=True):
    """Losses since a window opened (unix seconds), and the whole vault's capital at that moment, in nanoTON."""

    opened_at: int = 0
    capital: int = 0
    losses: int = 0

    @property
    def limit(self) -> int:
        """The most that may be lost in this window before claims are held back."""
        return self.capital * BREAKER_PERCENT // WHOLE_PERCENT


def window_at(window: BreakerWindow, total_capital: int, now: int, length_s: int) -> BreakerWindow:
    """The window a loss at this moment belongs to: the present one, or a new one if that is over."""
    if now >= window.opened_at + length_s:
        return BreakerWindow(now, total_capital, 0)
    return window


def holds_back(window: BreakerWindow, loss: int) -> bool:
    """Whether the breaker holds a claim back: losses would pass 10 % of the capital at the window's opening."""
    return window.losses + loss > window.limit


def add_loss(window: BreakerWindow, loss: int) -> BreakerWindow:
    """The window after a loss."""
    return BreakerWindow(window.opened_at, window.capital, window.losses + loss)
