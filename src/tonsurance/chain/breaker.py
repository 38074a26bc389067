"""A circuit breaker: what failed again and again is left alone for a while, then tried with one request."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half-open"]

MAX_HOLD_S = 3600.0
"""A server may ask to be left alone for so long; no answer of it can switch it off for good."""
_EARLY_S = 0.005
"""A timer may fire this much before its time."""


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """It opens after `threshold` failures in a row; the cool-down, in seconds, doubles from probe to probe."""

    threshold: int = 5
    cooldown_s: float = 1.0
    cap_s: float = 30.0


class Breaker:
    """One endpoint's breaker. It has no clock: times are seconds, given by the caller.

    closed: requests pass. open: none does. half-open: the cool-down is over and one request, the probe, may pass; the
    others wait for its end. A success closes it. Who passes holds a ticket; what comes back with a ticket of an
    earlier state says nothing about this one and is not counted.
    """

    def __init__(self, policy: BreakerPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self.failures = 0
        """Failures in a row."""
        self._trips = 0
        self._until = 0.0
        self._held_until = 0.0
        self._round = 0
        self._probing = False

    def state(self, now: float) -> BreakerState:
        """The state at this time; `open` also while the other side asked to be left alone."""
        if self.wait_s(now) > 0:
            return "open"
        return "half-open" if self._trips else "closed"

    def wait_s(self, now: float) -> float:
        """Seconds until it is not open any more."""
        left = max(self._until, self._held_until) - now
        return left if left > _EARLY_S else 0.0

    def may_pass(self, now: float) -> bool:
        """Whether `enter` would give a ticket."""
        return self.wait_s(now) == 0 and not self._probing

    def enter(self, now: float) -> int | None:
        """A ticket for one request; None when none may pass. It must be handed back in one of the ways below."""
        if not self.may_pass(now):
            return None
        self._probing = self._trips > 0
        return self._round

    def succeed(self, ticket: int) -> None:
        """The request was answered."""
        if ticket != self._round:
            return
        self.failures = 0
        if self._trips:
            self._trips, self._until = 0, 0.0
            self._begin_round()

    def fail(self, ticket: int, now: float) -> None:
        """The request failed."""
        if ticket != self._round:
            return
        self.failures += 1
        if self._trips or self.failures >= self._policy.threshold:
            longest = min(self._policy.cap_s, self._policy.cooldown_s * 2.0 ** min(self._trips, 32))
            self._until = now + self._rng.uniform(longest / 2, longest)
            self._trips += 1
            self._begin_round()

    def leave(self, ticket: int) -> None:
        """The request ended without a verdict; another one may probe."""
        if ticket == self._round:
            self._probing = False

    def hold(self, now: float, seconds: float) -> None:
        """Let nothing pass for this long, as the other side asked."""
        self._held_until = max(self._held_until, now + min(seconds, MAX_HOLD_S))

    def _begin_round(self) -> None:
        self._round += 1
        self._probing = False
