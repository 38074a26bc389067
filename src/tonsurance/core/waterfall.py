"""How the vault divides cover and premium over the tranches, earns premium over time and prices shares.

The same rules as contracts/multi_tranche_vault.fc, in integers, equal to the nano. Source:
docs/formulas.md, sections 3 to 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise

import msgspec

from tonsurance.core.units import WHOLE_PERCENT

LOCKED_SHARES = 100_000_000
"""Shares of an epoch's first deposit that belong to nobody, so that the first depositor cannot inflate the price."""


def split(amount: int, percents: Iterable[int]) -> tuple[int, ...]:
    """Parts of `amount` by cumulated percent: part_i = floor(a * cum_i / 100) - floor(a * cum_(i-1) / 100).

    The parts sum to the amount exactly when the percents sum to 100; each is within one of its share.
    """
    edges = [amount * cumulated // WHOLE_PERCENT for cumulated in accumulate(percents, initial=0)]
    return tuple(high - low for low, high in pairwise(edges))


class Stream(msgspec.Struct, frozen=True):
    """Premium a tranche has not earned yet: `unearned` nanoTON, earned evenly until `end`, counted up to `last`."""

    unearned: int
    end: int
    last: int


def earn(stream: Stream, now: int) -> tuple[Stream, int]:
    """Move what was earned by `now` out of the stream: U * (now - last) / (end - last), everything from `end` on."""
    if now <= stream.last:
        return stream, 0
    if now >= stream.end:
        return Stream(0, stream.end, now), stream.unearned
    earned = stream.unearned * (now - stream.last) // (stream.end - stream.last)
    return Stream(stream.unearned - earned, stream.end, now), earned


def add_premium(stream: Stream, premium: int, duration_s: int, now: int) -> Stream:
    """Add a premium earned over `duration_s` to a stream already earned up to `now`.

    end' = now + (U * (end - now) + P * D) / (U + P): the amount-weighted mean of what is left, so nothing is earned
    sooner than it was promised on average.
    """
    if premium == 0:
        return stream
    left = max(0, stream.end - now)
    total = stream.unearned + premium
    end = now + (stream.unearned * left + premium * duration_s) // total
    return Stream(total, end, now)


def mint(amount: int, capital: int, shares: int) -> tuple[int, int]:
    """Shares for a deposit: (the depositor's, nobody's).

    The first of an epoch sets the price 1:1; of its shares LOCKED_SHARES are nobody's, and so is capital that was left
    when the epoch began. Later ones get floor(amount * S / C). Rounding favours the vault.
    """
    if shares == 0:
        return amount - LOCKED_SHARES, LOCKED_SHARES + capital
    return amount * shares // capital, 0


def amount_for(shares_burned: int, capital: int, shares: int) -> int:
    """nanoTON paid for shares: floor(x * C / S). Rounding favours the vault."""
    return shares_burned * capital // shares
