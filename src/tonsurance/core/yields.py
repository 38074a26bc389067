"""What a tranche pays, beside its target: what the premiums now being earned pay, and what its shares gained.

Both are figures of the past and present. Neither is the target APY, and neither takes its place.
"""

from __future__ import annotations

import math

import msgspec

from tonsurance.core.units import DAY_S, WHOLE_PERCENT, YEAR_S
from tonsurance.core.waterfall import Stream, add_premium

LEAST_WINDOW_S = DAY_S
"""A share price over less than a day says nothing about a year."""

_MOST_EXPONENT = 50.0
"""Growth by more than e^50 a year is not a rate anyone can read."""


class StreamEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche's stream after a premium came in at `since` (unix seconds): `unearned` nanoTON, all earned at `end`.

    Between two premiums it runs evenly, so this is the stream until the next one comes in.
    """

    since: int
    unearned: int
    end: int


class SharePrice(msgspec.Struct, frozen=True, kw_only=True):
    """Capital and shares after an event at `time` (unix seconds), in which all that was due is earned."""

    time: int
    capital: int
    shares: int

    @property
    def nano(self) -> float | None:
        """nanoTON of a share; None without shares."""
        return self.capital / self.shares if self.shares else None


class Yields(msgspec.Struct, frozen=True, kw_only=True):
    """Both figures in percent a year, None where there is none; and what the realised one is measured with."""

    funded_pct: float | None = None
    realised_pct: float | None = None
    window_days: float | None = None
    price_before: float | None = None
    price_now: float | None = None


def extend_stream(last: StreamEnd | None, unearned: int, premium: int, duration_s: int, now: int) -> StreamEnd:
    """The stream after a premium for cover of `duration_s` came in at `now`, which made `unearned` of what was left."""
    before = Stream(unearned - premium, now if last is None else last.end, now)
    after = add_premium(before, premium, duration_s, now)
    return StreamEnd(since=now, unearned=unearned, end=after.end)


def funded_apy(capital: int, unearned: int, stream: StreamEnd | None, now: int) -> float | None:
    """What the premiums being earned at `now` pay in a year over the capital, in percent.

    0 when nothing is unearned or all of it has run out by now; None without capital, and while it is not known until
    when the premiums run.
    """
    if capital <= 0:
        return None
    if unearned == 0:
        return 0.0
    if stream is None:
        return None
    if now >= stream.end:
        return 0.0
    return WHOLE_PERCENT * (stream.unearned * YEAR_S) / ((stream.end - stream.since) * capital)


def realised_apy(before: SharePrice | None, now: SharePrice, *, new_epoch: bool) -> float | None:
    """What a share gained or lost from one event to another, as a rate a year compounded, in percent.

    None without two prices at least a day apart, without shares, or when the shares became void between them.
    """
    if before is None or new_epoch or not before.shares or not now.shares or not before.capital:
        return None
    elapsed = now.time - before.time
    if elapsed < LEAST_WINDOW_S:
        return None
    if not now.capital:
        return -float(WHOLE_PERCENT)
    grown = math.log(now.capital * before.shares) - math.log(before.capital * now.shares)
    exponent = grown * YEAR_S / elapsed
    return None if exponent > _MOST_EXPONENT else WHOLE_PERCENT * math.expm1(exponent)


def compute_yields(
    now_price: SharePrice,
    unearned: int,
    stream: StreamEnd | None,
    before: SharePrice | None,
    *,
    new_epoch: bool,
    now: int,
) -> Yields:
    """Both figures of a tranche at `now` (unix seconds)."""
    realised = realised_apy(before, now_price, new_epoch=new_epoch)
    known = realised is not None and before is not None
    return Yields(
        funded_pct=funded_apy(now_price.capital, unearned, stream, now),
        realised_pct=realised,
        window_days=(now_price.time - before.time) / DAY_S if known and before is not None else None,
        price_before=before.nano if known and before is not None else None,
        price_now=now_price.nano if known else None,
    )
