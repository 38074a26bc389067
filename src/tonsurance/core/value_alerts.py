"""Alerts about dollars: purchases and payouts worth much, and a price that is none any more."""

from __future__ import annotations

import math

from tonsurance.core.alerts import AlertKind, Line, Reading, Severity, Subject
from tonsurance.core.prices import PriceReading


def _say_policy(subject: Subject, value: float, limit: float) -> str:
    return f"High-value policy created: {subject.item} at ${value:,.2f} (threshold: ${limit:,.0f})"


def _say_payout(subject: Subject, value: float, limit: float) -> str:
    return f"High-value payout executed: {subject.item} at ${value:,.2f} (threshold: ${limit:,.0f})"


def _say_stale(subject: Subject, value: float, limit: float) -> str:
    known = "was never read" if math.isinf(value) else f"is {value:.0f} s old"
    return f"The {subject.item} price {known} (limit: {limit:.0f} s): no figure in dollars is made"


HIGH_VALUE_POLICY = AlertKind(
    name="High_Value_Policy",
    rising=True,
    inclusive=False,
    unit="USD",
    log_as="warning",
    sign="⚠️  ",
    describe=_say_policy,
)
HIGH_VALUE_PAYOUT = AlertKind(
    name="High_Value_Payout",
    rising=True,
    inclusive=False,
    unit="USD",
    log_as="warning",
    sign="⚠️  ",
    describe=_say_payout,
)
PRICE_STALE = AlertKind(
    name="Price_Stale",
    rising=True,
    inclusive=True,
    unit="s",
    log_as="warning",
    sign="⚠️  ",
    describe=_say_stale,
)
VALUE_KINDS = (HIGH_VALUE_POLICY, HIGH_VALUE_PAYOUT, PRICE_STALE)


def read_high_value(event_type: str, policy: str, value: float, limit: float, *, over: bool) -> Reading:
    """One purchase or payout above its limit. It is over when it was told of for long enough."""
    return Reading(
        kind=HIGH_VALUE_POLICY if event_type == "PolicyCreated" else HIGH_VALUE_PAYOUT,
        subject=Subject(item=policy),
        value=0.0 if over else value,
        lines=(Line(Severity.MEDIUM, limit),),
        hysteresis=0.0,
        evaluations=1,
        step=math.inf,
    )


def read_price_age(price: PriceReading) -> Reading:
    """The price's age against the age from which it is none."""
    return Reading(
        kind=PRICE_STALE,
        subject=Subject(item=price.asset),
        value=math.inf if price.age_s is None else price.age_s,
        lines=(Line(Severity.MEDIUM, price.max_age_s),),
        hysteresis=0.0,
        evaluations=1,
        step=math.inf,
    )
