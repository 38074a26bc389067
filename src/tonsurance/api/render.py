"""From the services' values to what the wire says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tonsurance.api import wire
from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import Tranche
from tonsurance.core.tranches import apy_percent
from tonsurance.core.units import ton_from_nano
from tonsurance.services.event_messages import describe_event
from tonsurance.services.event_messages import show_time as show_time
from tonsurance.services.ports import PostedEntry, PostedEvent, TrancheTotals
from tonsurance.services.tranche_reads import Freshness, Snapshot, TrancheFigures, TrancheReads

CURVE_STEPS = 40


def show_now() -> str:
    """The time of this answer."""
    return show_time(time.time())


def _show_block_time(totals: TrancheTotals) -> str | None:
    return show_time(totals.block_time) if totals.lt else None


def render_as_of(totals: TrancheTotals) -> wire.AsOf:
    """The last chain event in these totals."""
    return wire.AsOf(seqno=totals.seqno, lt=str(totals.lt), time=_show_block_time(totals))


def _apy_range(tranche: Tranche) -> wire.ApyRange:
    return wire.ApyRange(min=tranche.apy_min_pct, max=tranche.apy_max_pct)


def _tranche_fields(figures: TrancheFigures) -> dict[str, Any]:
    totals, room = figures.totals, figures.room
    capital_ton = ton_from_nano(totals.capital_nano)
    return {
        "vault_id": totals.vault_id,
        "tranche_id": totals.tranche_id,
        "tranche": totals.tranche_id,
        "current_apy": figures.current_apy_pct,
        "apy": figures.current_apy_pct,
        "funded_apy": totals.paid.funded_pct,
        "realised_apy": totals.paid.realised_pct,
        "realised_window_days": totals.paid.window_days,
        "share_price_before": totals.paid.price_before,
        "share_price": totals.paid.price_now,
        "apy_range": _apy_range(figures.tranche),
        "curve": figures.tranche.curve.value,
        "utilization": figures.used.capped,
        "utilization_raw": figures.used.raw,
        "insolvent": figures.used.insolvent,
        "high_utilization": figures.thresholds.high_utilization,
        "max_utilization": figures.thresholds.max_utilization,
        "collateralization": figures.collateralization,
        "total_capital_ton": capital_ton,
        "total_capital_nanoton": str(totals.capital_nano),
        "tvl_ton": capital_ton,
        "coverage_sold_ton": ton_from_nano(totals.coverage_nano),
        "coverage_sold_nanoton": str(totals.coverage_nano),
        "available_capacity_ton": ton_from_nano(room.available_nano),
        "available_capacity_nanoton": str(room.available_nano),
        "unearned_premiums_ton": ton_from_nano(totals.unearned_nano),
        "unearned_premiums_nanoton": str(totals.unearned_nano),
        "absorbed_losses_ton": ton_from_nano(totals.losses_nano),
        "absorbed_losses_nanoton": str(totals.losses_nano),
        "last_updated": _show_block_time(totals),
        "as_of": render_as_of(totals),
    }


def provenance(snapshot: Snapshot, freshness: Freshness) -> dict[str, Any]:
    """The fields of wire.Provenance."""
    return {
        "params_version": snapshot.params_version,
        "ledger_version": str(snapshot.state.version),
        "stale": freshness.stale,
        "age_s": None if freshness.age_s is None else round(freshness.age_s, 3),
        "timestamp": show_now(),
    }


def render_utilization(figures: TrancheFigures, snapshot: Snapshot, freshness: Freshness) -> wire.UtilizationAnswer:
    """One tranche in full."""
    return wire.UtilizationAnswer(**_tranche_fields(figures), **provenance(snapshot, freshness))


def render_vaults(reads: TrancheReads) -> wire.VaultsAnswer:
    """The first vault, then the others by name."""
    snapshot = reads.snapshot
    direct = snapshot.state.direct_vaults
    return wire.VaultsAnswer(
        vaults=tuple(
            wire.Vault(vault_id=vault_id, source="direct" if vault_id in direct else "chain")
            for vault_id in sorted(reads.vault_ids, key=lambda vault_id: (vault_id != reads.vault_id, vault_id))
        ),
        **provenance(snapshot, reads.freshness),
    )


def render_tranches(snapshot: Snapshot, freshness: Freshness) -> wire.TranchesAnswer:
    """All tranches in full."""
    return wire.TranchesAnswer(
        tranches=tuple(wire.TrancheFields(**_tranche_fields(figures)) for figures in snapshot.tranches),
        as_of=render_as_of(snapshot.latest),
        **provenance(snapshot, freshness),
    )


def render_apy(
    figures: TrancheFigures, snapshot: Snapshot, freshness: Freshness, *, at: float | None
) -> wire.ApyAnswer:
    """The tranche's target APY now or, with `at`, its curve at that utilisation."""
    tranche = figures.tranche
    current = at is None
    apy = figures.current_apy_pct if at is None else apy_percent(tranche, at)
    return wire.ApyAnswer(
        tranche_id=tranche.tranche_id,
        tranche=tranche.tranche_id,
        apy=apy,
        current_apy=figures.current_apy_pct,
        funded_apy=figures.totals.paid.funded_pct,
        realised_apy=figures.totals.paid.realised_pct,
        realised_window_days=figures.totals.paid.window_days,
        basis="current" if current else "curve",
        kind="target",
        utilization=figures.used.capped if at is None else at,
        utilization_raw=figures.used.raw if at is None else at,
        insolvent=figures.used.insolvent if current else None,
        apy_range=_apy_range(tranche),
        curve=tranche.curve.value,
        curve_points=curve_points(tranche),
        as_of=render_as_of(figures.totals) if current else None,
        **provenance(snapshot, freshness),
    )


def curve_points(tranche: Tranche) -> tuple[tuple[float, float], ...]:
    """The bonding curve at equal steps of utilisation, ends included."""
    return tuple((step / CURVE_STEPS, apy_percent(tranche, step / CURVE_STEPS)) for step in range(CURVE_STEPS + 1))


def render_capacity(figures: TrancheFigures, snapshot: Snapshot, freshness: Freshness) -> wire.CapacityAnswer:
    """Room for new cover with every limit."""
    totals, room = figures.totals, figures.room
    return wire.CapacityAnswer(
        tranche_id=totals.tranche_id,
        tranche=totals.tranche_id,
        available_ton=ton_from_nano(room.available_nano),
        available_nanoton=str(room.available_nano),
        binding_limit=room.binding_limit,
        limits=render_limits(room),
        total_capital_ton=ton_from_nano(totals.capital_nano),
        total_capital_nanoton=str(totals.capital_nano),
        coverage_sold_ton=ton_from_nano(totals.coverage_nano),
        coverage_sold_nanoton=str(totals.coverage_nano),
        reserved_ton=ton_from_nano(totals.held_nano),
        reserved_nanoton=str(totals.held_nano),
        utilization=figures.used.capped,
        utilization_raw=figures.used.raw,
        insolvent=figures.used.insolvent,
        as_of=render_as_of(totals),
        **provenance(snapshot, freshness),
    )


def render_limits(room: Capacity) -> tuple[wire.LimitOut, ...]:
    """Every limit; the one that binds is the first of the least head-room."""
    binding = next(place for place, limit in enumerate(room.limits) if limit.headroom_nano == room.available_nano)
    return tuple(
        wire.LimitOut(
            name=limit.name,
            tranche_id=limit.tranche_id,
            limit=limit.ratio,
            headroom_ton=ton_from_nano(limit.headroom_nano),
            headroom_nanoton=str(limit.headroom_nano),
            binding=place == binding,
        )
        for place, limit in enumerate(room.limits)
    )


def render_event(event: PostedEvent) -> wire.EventOut:
    """One event; large integers as strings, and the tranche's name beside its number."""
    return wire.EventOut(**describe_event(event))


def render_entry(entry: PostedEntry) -> wire.EntryOut:
    """One entry of the ledger."""
    return wire.EntryOut(
        entry_id=str(entry.entry_id),
        tranche_id=entry.tranche_id,
        tranche=entry.tranche_id,
        event_id=str(entry.event_id),
        event_type=entry.event_type,
        policy_id=None if entry.policy_id is None else str(entry.policy_id),
        capital_delta_nanoton=str(entry.capital_delta),
        coverage_delta_nanoton=str(entry.coverage_delta),
        unearned_delta_nanoton=str(entry.unearned_delta),
        loss_delta_nanoton=str(entry.loss_delta),
        shares_delta=str(entry.shares_delta),
        transaction_hash=entry.transaction_hash,
        logical_time=str(entry.lt),
        message_index=entry.message_index,
        block_time=show_time(entry.block_time),
    )


def snapshot_message(snapshot: Snapshot, freshness: Freshness) -> Mapping[str, object]:
    """The `apy_update` of the channel `tranche_apy`: always all tranches."""
    return {"type": "apy_update", **msgspec.structs.asdict(render_tranches(snapshot, freshness))}


def event_message(event: PostedEvent) -> Mapping[str, object]:
    """The `event` of the channel `events`."""
    return {"type": "event", **msgspec.structs.asdict(render_event(event)), "timestamp": show_now()}


def recent_message(events: tuple[PostedEvent, ...]) -> Mapping[str, object]:
    """Where a newcomer of the channel `events` starts: the last events, oldest first."""
    return {"type": "state", "events": [render_event(event) for event in events], "timestamp": show_now()}


def gap_message(after: int, until: int) -> Mapping[str, object]:
    """Too many events at once: those after `after` up to `until` are to be read over REST."""
    return {"type": "gap", "after": str(after), "until": str(until), "timestamp": show_now()}
