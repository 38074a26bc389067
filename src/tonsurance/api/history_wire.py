"""What the API says about a tranche's past and future, field by field."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from tonsurance.api.wire import Age, AsOf, Instant, LedgerVersion, NanoTon, Out, ParamsVersion, Stale, Ton, TrancheId

Part = Annotated[
    float | None,
    Meta(description="null where there was none (the target APY of an insolvent tranche).", examples=[0.5]),
]
Hours = Annotated[float | None, Meta(description="Hours from now; null is later than the horizon.", examples=[31.5])]
Share = Annotated[float, Meta(ge=0, le=1, examples=[0.8])]


class RatioSpan(Out, frozen=True, kw_only=True):
    """A figure within a bucket: at its start and end, least, most, and its mean over time."""

    open: Part
    close: Part
    min: Part
    max: Part
    mean: Part


class AmountSpan(Out, frozen=True, kw_only=True):
    """An amount within a bucket in whole nanoTON; the mean over time is rounded to the nearest."""

    open_nanoton: NanoTon
    close_nanoton: NanoTon
    min_nanoton: NanoTon
    max_nanoton: NanoTon
    mean_nanoton: NanoTon


class HistoryPoint(Out, frozen=True, kw_only=True):
    """One bucket. The plain figures are those at its end."""

    recorded_at: Annotated[Instant, Meta(description="Start of the bucket (with `raw`: time of the event).")]
    updated_at: Annotated[Instant, Meta(description="The same as `recorded_at`.")]
    seconds: Annotated[int, Meta(description="So much of the bucket is known: less in the first and last.", ge=1)]
    changes: Annotated[int, Meta(description="How often the figures changed in it; 0: carried from before.", ge=0)]
    utilization: Part
    current_apy: Part
    total_capital_ton: Ton
    coverage_sold_ton: Ton
    utilization_span: RatioSpan
    apy_span: RatioSpan
    capital_span: AmountSpan
    coverage_span: AmountSpan


class HistoryAnswer(Out, frozen=True, kw_only=True):
    """A tranche's past in buckets aligned to UTC. (The fields of Provenance stand here again.)"""

    vault_id: Annotated[str, Meta(examples=["main"])]
    tranche_id: TrancheId
    tranche: TrancheId
    resolution: Annotated[str, Meta(description="raw, a name, or seconds.", examples=["5m"])]
    resolution_seconds: Annotated[int, Meta(description="0 with `raw`.", examples=[300])]
    start: Annotated[Instant, Meta(description="`from` as it was used.")]
    end: Annotated[Instant, Meta(description="`to` as it was used; nothing after now.")]
    points: tuple[HistoryPoint, ...]
    as_of: AsOf
    params_version: ParamsVersion
    ledger_version: LedgerVersion
    stale: Stale
    age_s: Age
    timestamp: Instant


class RecordOut(Out, frozen=True, kw_only=True):
    """How the same forecast did from past hours of this tranche."""

    origins: Annotated[int, Meta(description="So many past forecasts were checked.", examples=[38])]
    coverage_50: Annotated[Share, Meta(description="Share of the truths that lay in the 50 % interval.")]
    coverage_80: Share
    coverage_95: Share
    pinball_hours: Annotated[float, Meta(description="Mean pinball loss of the 10, 50 and 90 % quantiles.")]
    naive_pinball_hours: Annotated[float, Meta(description="That of the line through the last 24 hours.")]
    skill: Annotated[float | None, Meta(description="1 - pinball / naive pinball.", examples=[0.4])]


class ForecastAnswer(Out, frozen=True, kw_only=True):
    """Hours until a tranche has no room for new cover, or why that is not said."""

    vault_id: Annotated[str, Meta(examples=["main"])]
    tranche_id: TrancheId
    tranche: TrancheId
    hours_until_full: Annotated[Hours, Meta(description="The median; null with a `reason`.")]
    reason: Annotated[
        Literal["full", "insufficient_history", "not_within_30_days", "not_better_than_naive"] | None,
        Meta(description="Why there is no figure; `full`: there is no room now."),
    ]
    interval_50: tuple[Hours, Hours] | None
    interval_80: tuple[Hours, Hours] | None
    interval_95: tuple[Hours, Hours] | None
    probability_full_24h: Part
    probability_full_72h: Part
    probability_full_168h: Part
    track_record: RecordOut | None
    history_hours: Annotated[int, Meta(description="Hours of history it is made from; 72 at least.")]
    horizon_hours: Annotated[int, Meta(examples=[720])]
    room_ton: Annotated[Ton, Meta(description="What could still be covered at `forecast_at`.")]
    expiring_ton: Annotated[Ton, Meta(description="Cover known to end within the horizon: it makes room.")]
    forecast_at: Annotated[Instant, Meta(description="The hours count from here.")]
    as_of: AsOf
    params_version: ParamsVersion
    ledger_version: LedgerVersion
    stale: Stale
    age_s: Age
    timestamp: Instant
