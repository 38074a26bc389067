"""REST: a tranche's past, down-sampled exactly, and the forecast of when it will be full."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from litestar import get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from tonsurance.api import history_wire, wire
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.injected import Injected, TrancheInPath, VaultInQuery
from tonsurance.api.render import provenance, render_as_of, show_time
from tonsurance.api.v1 import BAD_INPUT, NOT_READY, NOT_THERE
from tonsurance.core import history
from tonsurance.core.catalog import parse_tranche_id
from tonsurance.core.errors import NotReady
from tonsurance.core.forecast import HORIZON_H, TrackRecord
from tonsurance.core.history import BILLION, Bucket, Measure
from tonsurance.core.units import ton_from_nano
from tonsurance.services.history_reads import HistoryReads, SeriesQuery, TrancheOutlook
from tonsurance.services.tranche_reads import Freshness

TOO_MUCH = ResponseSpec(
    wire.Problem,
    generate_examples=False,
    media_type=PROBLEM_JSON,
    description=f"More than {history.MAX_POINTS:,} points (the next coarser resolution is named), or a time to come.",
)
_READ_NOW = Freshness(0.0, False)


@get(
    "/api/v1/utilization/{tranche_id:str}/history",
    summary="The past of one tranche",
    description="Utilisation, target APY, capital and cover in buckets aligned to UTC, each with its start, end, "
    "least, most and mean over time, exactly: buckets of a coarse resolution are the finer ones put together. A bucket "
    "without an event carries the last value on; before the first event there is none.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 404: NOT_THERE, 422: TOO_MUCH, 503: NOT_READY},
)
async def get_history(
    services: Injected,
    tranche_id: TrancheInPath,
    from_: Annotated[
        str | None,
        QueryParameter(
            name="from",
            description="RFC 3339 (`2026-11-20T12:00:00Z`; `+` as `%2B`) or unix seconds; else a day before `to`.",
            max_length=100,
        ),
    ] = None,
    to: Annotated[
        str | None, QueryParameter(description="The end, left out itself; else the newest event.", max_length=100)
    ] = None,
    resolution: Annotated[
        str | None,
        QueryParameter(
            description=f"{', '.join(history.RESOLUTIONS)}, or seconds; else one with a few hundred points.",
            max_length=32,
        ),
    ] = None,
    vault: VaultInQuery = None,
) -> history_wire.HistoryAnswer:
    """The buckets from `from` to `to`."""
    query = SeriesQuery(
        tranche_id=parse_tranche_id(tranche_id),
        vault_id=vault,
        start=None if from_ is None else history.parse_time(from_),
        end=None if to is None else history.parse_time(to),
        step=None if resolution is None else history.parse_resolution(resolution),
    )
    found = await _reads(services).read_series(query)
    totals = found.figures.totals
    return history_wire.HistoryAnswer(
        vault_id=totals.vault_id,
        tranche_id=totals.tranche_id,
        tranche=totals.tranche_id,
        resolution=history.name_resolution(found.step),
        resolution_seconds=found.step,
        start=show_time(found.start),
        end=show_time(found.end),
        points=tuple(render_point(bucket) for bucket in found.buckets),
        as_of=render_as_of(totals),
        **provenance(found.snapshot, _READ_NOW),
    )


@get(
    "/api/v1/utilization/{tranche_id:str}/forecast",
    summary="When one tranche will be full",
    description="Hours until there is no room for new cover: the median, 50, 80 and 95 % intervals, the probability of "
    "being full within 24, 72 and 168 hours, and how often the same forecast was right before, beside the line through "
    "the last 24 hours. null with the reason when the tranche will not fill within 30 days, when there is too little "
    "history, or when the forecast did no better than that line.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 404: NOT_THERE, 503: NOT_READY},
)
async def get_forecast(
    services: Injected, tranche_id: TrancheInPath, vault: VaultInQuery = None
) -> history_wire.ForecastAnswer:
    """The forecast with its track record."""
    return render_outlook(await _reads(services).read_outlook(parse_tranche_id(tranche_id), vault))


def _reads(services: Injected) -> HistoryReads:
    if services.history is None:
        raise NotReady("There is no database to read the past from.")
    return services.history


def render_point(bucket: Bucket) -> history_wire.HistoryPoint:
    """One bucket."""
    start = show_time(bucket.start)
    return history_wire.HistoryPoint(
        recorded_at=start,
        updated_at=start,
        seconds=bucket.seconds,
        changes=bucket.changes,
        utilization=_ratio(bucket.utilization.close),
        current_apy=_ratio(bucket.apy.close),
        total_capital_ton=ton_from_nano(bucket.capital.close or 0),
        coverage_sold_ton=ton_from_nano(bucket.coverage.close or 0),
        utilization_span=_ratio_span(bucket.utilization),
        apy_span=_ratio_span(bucket.apy),
        capital_span=_amount_span(bucket.capital),
        coverage_span=_amount_span(bucket.coverage),
    )


def _ratio(billionths: float | None) -> float | None:
    return None if billionths is None else billionths / BILLION


def _ratio_span(measure: Measure) -> history_wire.RatioSpan:
    return history_wire.RatioSpan(
        open=_ratio(measure.open),
        close=_ratio(measure.close),
        min=_ratio(measure.low),
        max=_ratio(measure.high),
        mean=_ratio(measure.mean),
    )


def _amount_span(measure: Measure) -> history_wire.AmountSpan:
    return history_wire.AmountSpan(
        open_nanoton=str(measure.open),
        close_nanoton=str(measure.close),
        min_nanoton=str(measure.low),
        max_nanoton=str(measure.high),
        mean_nanoton=str(measure.mean_rounded),
    )


def render_outlook(found: TrancheOutlook) -> history_wire.ForecastAnswer:
    """The forecast, or the reason why there is none."""
    totals, outlook = found.figures.totals, found.outlook
    forecast, within = outlook.forecast, outlook.full_within or {}
    full = outlook.reason == "full"
    return history_wire.ForecastAnswer(
        vault_id=totals.vault_id,
        tranche_id=totals.tranche_id,
        tranche=totals.tranche_id,
        hours_until_full=0.0 if full else None if forecast is None else round(forecast.hours, 2),
        reason=cast("Any", outlook.reason),
        interval_50=None if forecast is None else _round_interval(forecast.interval_50),
        interval_80=None if forecast is None else _round_interval(forecast.interval_80),
        interval_95=None if forecast is None else _round_interval(forecast.interval_95),
        probability_full_24h=within.get(24),
        probability_full_72h=within.get(72),
        probability_full_168h=within.get(168),
        track_record=None if outlook.record is None else render_record(outlook.record),
        history_hours=found.points,
        horizon_hours=HORIZON_H,
        room_ton=ton_from_nano(found.room_nano),
        expiring_ton=ton_from_nano(found.expiring_nano),
        forecast_at=show_time(found.at),
        as_of=render_as_of(totals),
        **provenance(found.snapshot, _READ_NOW),
    )


def _round_interval(interval: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = (None if hours is None else round(hours, 2) for hours in interval)
    return low, high


def render_record(record: TrackRecord) -> history_wire.RecordOut:
    """How the forecast did."""
    return history_wire.RecordOut(**msgspec.structs.asdict(record), skill=record.skill)
