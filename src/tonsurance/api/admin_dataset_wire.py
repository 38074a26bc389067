"""What the admin API hears and says about data sets, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from tonsurance.api.admin_wire import Body, Expected, ParameterProblem, Person, Reason
from tonsurance.api.wire import Instant, Out

Coin = Annotated[str, Meta(max_length=20, examples=["USDC"])]
Text = Annotated[str, Meta(max_length=1000)]
Fraction = Annotated[float | None, Meta(description="null: nothing is on record, which is not zero.", examples=[0.04])]


class DepegBody(Body, frozen=True, kw_only=True):
    """A depeg as it happened. PUT replaces all of it."""

    asset: Coin
    min_price: Annotated[float, Meta(description="Lowest price; the peg is 1.", examples=[0.88])]
    timestamp: Annotated[datetime, Meta(description="When it began, with its zone.")]
    duration_seconds: Annotated[int, Meta(examples=[172800])]
    recovery_time_seconds: Annotated[int, Meta(examples=[259200])]
    source: Annotated[str, Meta(max_length=50, examples=["coingecko"])]
    event_name: Annotated[str, Meta(max_length=200, examples=["SVB Banking Crisis"])] | None = None
    notes: Text | None = None
    reference: Annotated[str, Meta(max_length=1000, description="Where it can be looked up.")] | None = None
    verified: Annotated[bool, Meta(description="An approver other than its author has checked it.")] = False
    reason: Reason = ""
    dry_run: Annotated[bool, Meta(description="Only say what it would do.")] = False
    expected_version: Expected = None


class ScenarioBody(Body, frozen=True, kw_only=True):
    """A stress scenario. PUT replaces all of it."""

    scenario_name: Annotated[str, Meta(max_length=100, examples=["Banking Crisis (SVB)"])]
    description: Text
    scenario_type: Annotated[str, Meta(max_length=50, examples=["banking"])]
    asset_impacts: Annotated[
        dict[str, float], Meta(max_length=100, description="Coin to its price under stress.", examples=[{"USDC": 0.88}])
    ]
    btc_impact: Annotated[float, Meta(description="Move of BTC as a fraction.", examples=[-0.5])]
    correlation_shift: Annotated[float, Meta(examples=[0.5])]
    severity_level: Literal["low", "medium", "high", "extreme"]
    probability_annual: Annotated[float, Meta(examples=[0.02])] | None = None
    enabled: bool = True
    reference: Text | None = None
    reason: Reason = ""
    dry_run: Annotated[bool, Meta(description="Only say what it would do.")] = False
    expected_version: Expected = None


class EntryAbout(Out, frozen=True, kw_only=True):
    """An entry's place in its table."""

    id: Annotated[int, Meta(description="Pass the last one as `before` for the next page.", examples=[14])]
    version: Annotated[int, Meta(description="How often it was written.", examples=[1])]
    entered_by: Person
    created_at: Instant
    updated_at: Instant


class DepegOut(EntryAbout, frozen=True, kw_only=True):
    """A depeg on record."""

    asset: Coin
    min_price: float
    timestamp: Instant
    duration_seconds: int
    recovery_time_seconds: int
    source: str
    event_name: str | None
    notes: str | None
    reference: str | None
    verified: bool
    verified_by: Person | None


class ScenarioOut(EntryAbout, frozen=True, kw_only=True):
    """A stress scenario."""

    scenario_name: str
    description: str
    scenario_type: str
    asset_impacts: dict[str, float]
    btc_impact: float
    correlation_shift: float
    severity_level: str
    probability_annual: float | None
    enabled: bool
    reference: str | None


class CoinStatistics(Out, frozen=True, kw_only=True):
    """What the verified depegs of one coin come to."""

    asset: Coin
    events: Annotated[int, Meta(description="Verified depegs in the window.", examples=[2])]
    has_data: Annotated[bool, Meta(description="false: nothing is on record, and the figures are null.")]
    frequency: Annotated[float | None, Meta(description="Depegs a year.", examples=[0.4])]
    severity: Fraction
    expected_loss: Annotated[float | None, Meta(description="frequency x severity: a year, of the cover.")]


class StatisticsOut(Out, frozen=True, kw_only=True):
    """Every coin of the catalogue in a window."""

    since: Instant
    until: Instant
    coins: tuple[CoinStatistics, ...]


class MovedStatistics(Out, frozen=True, kw_only=True):
    """The statistics of a coin before and after a change."""

    before: CoinStatistics
    after: CoinStatistics


class EntryTrialOut(Out, frozen=True, kw_only=True):
    """What a change would do. Nothing was changed."""

    dry_run: Literal[True]
    valid: bool
    errors: tuple[ParameterProblem, ...]
    effects: dict[str, tuple[MovedStatistics, ...]]
    before: dict[str, object] | None
    after: dict[str, object] | None


class EntryDeletedOut(Out, frozen=True, kw_only=True):
    """The entry is gone; the audit log keeps what it was."""

    success: Literal[True]
    id: int
