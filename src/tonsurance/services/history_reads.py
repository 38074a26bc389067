"""A tranche's past as a series of exact buckets, and from it the forecast of when it will be full."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import msgspec

from tonsurance.core import history
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import BeforeHistory, InputError, InTheFuture, TooManyPoints
from tonsurance.core.forecast import HORIZON_H, Outlook, Release, study_exhaustion
from tonsurance.core.history import RAW, Bucket
from tonsurance.core.waterfall import split
from tonsurance.db import series
from tonsurance.db.pool import Connection
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.tranche_reads import Snapshot, TrancheFigures, TrancheReads

READ_TIMEOUT_S = 10.0
FORECAST_KEPT_S = 60.0
_HOUR_S, _DAY_S = 3_600, 86_400
_DEFAULT_SPAN_S = _DAY_S


class SeriesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to show: unix seconds and a resolution in seconds, RAW for the steps themselves; None is the default."""

    tranche_id: str
    vault_id: str | None = None
    start: int | None = None
    end: int | None = None
    step: int | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The buckets from `start` on, up to now at most, and what is known of the tranche now."""

    snapshot: Snapshot
    figures: TrancheFigures
    start: int
    end: int
    step: int
    buckets: list[Bucket]


class TrancheOutlook(msgspec.Struct, frozen=True, kw_only=True):
    """When a tranche will be full, as of `at` (unix seconds); `points` hours of history, `room_nano` now, and what of
    its cover ends within the horizon."""

    snapshot: Snapshot
    figures: TrancheFigures
    at: int
    points: int
    room_nano: int
    expiring_nano: int
    outlook: Outlook


class HistoryReads:
    """Reads series from the database; the present figures, and what they are computed with, come from `reads`."""

    def __init__(self, pool: LazyPool, reads: TrancheReads) -> None:
        self._pool = pool
        self._reads = reads
        self._forecasts: dict[tuple[str, str, int], tuple[float, TrancheOutlook]] = {}
        self._forecasting = asyncio.Lock()

    async def read_series(self, query: SeriesQuery) -> Series:
        """The series. Raises InputError, TooManyPoints, BeforeHistory, InTheFuture, and what makes the ledger
        unreadable."""
        figures, snapshot = self._reads.find(query.tranche_id, query.vault_id)
        now = _now(snapshot)
        start, end, step = _choose(query, snapshot, now)
        vault_id = figures.totals.vault_id
        until = now + 1 if step == RAW else min(-(-end // step) * step, now + 1)
        async with self._pool.read(READ_TIMEOUT_S) as conn:
            if step == RAW:
                buckets = await _read_steps(conn, vault_id, query.tranche_id, start, min(end, until))
            else:
                buckets = await _read_buckets(conn, vault_id, query.tranche_id, start, until, step)
        return Series(snapshot=snapshot, figures=figures, start=start, end=end, step=step, buckets=buckets)

    async def read_outlook(self, tranche_id: str, vault_id: str | None = None) -> TrancheOutlook:
        """When the tranche will be full; kept for a minute. Raises what makes the ledger unreadable."""
        figures, snapshot = self._reads.find(tranche_id, vault_id)
        key = (figures.totals.vault_id, tranche_id, snapshot.params_version)
        async with self._forecasting:
            kept = self._forecasts.get(key)
            if kept is not None and time.monotonic() - kept[0] < FORECAST_KEPT_S:
                return kept[1]
            self._forecasts = {
                old: found for old, found in self._forecasts.items() if time.monotonic() - found[0] < FORECAST_KEPT_S
            }
            found = await self._forecast(figures, snapshot)
            self._forecasts[key] = (time.monotonic(), found)
            return found

    async def _forecast(self, figures: TrancheFigures, snapshot: Snapshot) -> TrancheOutlook:
        now = _now(snapshot)
        start, totals = now - now % _HOUR_S - HORIZON_H * _HOUR_S, figures.totals
        grace_s = self._whole("claim_grace_s")
        async with self._pool.read(READ_TIMEOUT_S) as conn:
            horizon = await series.select_horizon(conn)
            start = max(start, horizon or 0)
            buckets = await _read_buckets(conn, totals.vault_id, totals.tranche_id, start, now + 1, _HOUR_S)
            ended = await series.select_releases(conn, totals.vault_id, totals.tranche_id, start)
            ending = await series.select_expiries(conn, totals.vault_id, now + HORIZON_H * _HOUR_S - grace_s)
        cap = figures.thresholds.max_utilization
        used, capacity = make_usage(buckets, ended, cap)
        releases = self._share_releases(ending, totals.tranche_id, now - grace_s)
        outlook = await asyncio.to_thread(study_exhaustion, used, capacity, releases)
        return TrancheOutlook(
            snapshot=snapshot,
            figures=figures,
            at=now,
            points=len(used),
            room_nano=max(0, int(capacity - used[-1])) if used else 0,
            expiring_nano=int(sum(release.amount for release in releases)),
            outlook=outlook,
        )

    def _share_releases(self, ending: list[series.Amount], tranche_id: str, now: int) -> list[Release]:
        """The tranche's part of the cover of policies that will have ended. Those that are over and not released yet
        are left out: nobody knows when somebody will ask for it."""
        percents = [tranche.allocation_percent for tranche in self._reads.params.tranches]
        place = TRANCHE_IDS.index(tranche_id)
        return [
            Release((policy.time - now) / _HOUR_S, float(split(policy.amount, percents)[place]))
            for policy in ending
            if policy.time > now
        ]

    def _whole(self, key: str) -> int:
        value = self._reads.params.value("risk", key)
        if not isinstance(value, int):
            raise TypeError(f"risk/{key} is not a whole number.")
        return value

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()


def _now(snapshot: Snapshot) -> int:
    """The clock, or the newest block where a chain runs ahead of it."""
    newest = max((figures.totals.block_time for figures in snapshot.tranches), default=0.0)
    return int(max(time.time(), newest))


def _choose(query: SeriesQuery, snapshot: Snapshot, now: int) -> tuple[int, int, int]:
    """Start, end and resolution: what was asked for, else the last day up to the newest event."""
    latest = int(max((figures.totals.block_time for figures in snapshot.tranches), default=0.0))
    end = query.end if query.end is not None else (latest + 1 if latest else now)
    start = query.start if query.start is not None else max(0, end - _DEFAULT_SPAN_S)
    if start > now:
        raise InTheFuture(f"{datetime.fromtimestamp(start, UTC).isoformat()} has not come yet.")
    if query.end is None and start >= end:
        end = now + 1
    if start >= end:
        raise InputError("`from` must be before `to`.")
    end = min(end, now + 1)
    step = history.choose_resolution(start, end) if query.step is None else query.step
    history.check_points(start, end, step)
    return start, end, step


async def _read_steps(conn: Connection, vault_id: str, tranche_id: str, start: int, end: int) -> list[Bucket]:
    await _check_kept(conn, start, "1d")
    before = await series.select_level_before(conn, vault_id, tranche_id, start)
    levels = await series.select_levels(conn, vault_id, tranche_id, start, end, 4 * history.MAX_POINTS)
    steps = history.show_steps(levels, until=end)
    if len(steps) >= history.MAX_POINTS or len(levels) == 4 * history.MAX_POINTS:
        raise TooManyPoints(history.MAX_POINTS, history.name_coarser(start, end, RAW))
    first = steps[0].start if steps else end
    if before is not None and start < first:
        carried = msgspec.structs.replace(before, time=start)
        (held,) = history.show_steps([carried], until=first)
        steps.insert(0, msgspec.structs.replace(held, changes=0))
    return steps


async def _read_buckets(
    conn: Connection, vault_id: str, tranche_id: str, start: int, until: int, step: int
) -> list[Bucket]:
    """Buckets from the one `start` is in; where the steps are no longer kept, from the days that are."""
    opens = start - start % step
    horizon = await series.select_horizon(conn)
    if horizon is None or opens >= horizon:
        return await _sum_up(conn, vault_id, tranche_id, opens, until, step)
    if step % _DAY_S:
        await _check_kept(conn, opens, "1d")
    days = await series.select_days(conn, vault_id, tranche_id, opens, min(horizon, until))
    if until > horizon:
        days += await _sum_up(conn, vault_id, tranche_id, horizon, until, _DAY_S)
    return history.coarsen(days, step)


async def _sum_up(conn: Connection, vault_id: str, tranche_id: str, start: int, until: int, step: int) -> list[Bucket]:
    before = await series.select_level_before(conn, vault_id, tranche_id, start)
    pieces = await series.select_pieces(conn, vault_id, tranche_id, start, until, step)
    return history.fill_buckets(pieces, before, start=start, until=until, step=step)


async def _check_kept(conn: Connection, start: int, coarsest: str) -> None:
    horizon = await series.select_horizon(conn)
    if horizon is not None and start < horizon:
        kept = datetime.fromtimestamp(horizon, UTC).isoformat()
        raise BeforeHistory(f"Every step is kept from {kept} on; ask for resolution={coarsest} of the time before.")


def make_usage(buckets: list[Bucket], ended: list[series.Amount], max_utilization: float) -> tuple[list[float], float]:
    """Hour by hour what a tranche used, and its capacity now, both in nanoTON.

    Capital that came or went moves what is used by as much as the room changed. Cover that ended was known ahead, so it
    is added to both: what is learned from is what was not known.
    """
    if not buckets:
        return [], 0.0
    caps = [max_utilization * (bucket.capital.close or 0) for bucket in buckets]
    gone, place, released = [], 0, 0
    for bucket in buckets:
        while place < len(ended) and ended[place].time < bucket.start + _HOUR_S:
            released += ended[place].amount
            place += 1
        gone.append(released)
    used = [
        (bucket.coverage.close or 0) + (caps[-1] - cap) + over
        for bucket, cap, over in zip(buckets, caps, gone, strict=True)
    ]
    return used, caps[-1] + gone[-1]
