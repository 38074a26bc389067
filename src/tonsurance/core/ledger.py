"""Double-checked bookkeeping: an event becomes entries, entries move totals, totals never leave their bounds."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS, tranche_id_on_chain
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import (
    CoverageChanged,
    DepositMade,
    EpochStarted,
    EventBody,
    LedgerAdjusted,
    LossAbsorbed,
    PremiumsDistributed,
    PremiumsEarned,
    TrancheUpdated,
    WithdrawalMade,
)
from tonsurance.core.units import BIGINT_MAX


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What one event does to one tranche. Amounts in nanoTON, shares in the vault's share units."""

    tranche_id: str
    capital: int = 0
    coverage: int = 0
    unearned: int = 0
    earned: int = 0
    losses: int = 0
    shares: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tranche stands after all entries so far. `earned` and `losses` only grow: they are lifetime sums."""

    capital: int = 0
    coverage: int = 0
    unearned: int = 0
    earned: int = 0
    losses: int = 0
    shares: int = 0


def entries_of(body: EventBody) -> tuple[Entry, ...]:
    """The entries an event posts, from the amounts in the event alone (configuration only predicts them)."""
    match body:
        case PremiumsDistributed():
            if sum(body.parts) != body.premium_amount:
                raise LedgerRefused(f"Premium {body.premium_amount} of policy {body.policy_id} is not its parts' sum.")
            return _six(body.parts, "unearned")
        case CoverageChanged():
            return _six(body.parts, "coverage")
        case DepositMade() | WithdrawalMade() | PremiumsEarned() | LossAbsorbed() | EpochStarted() | TrancheUpdated():
            return (_one(body, tranche_id_on_chain(body.tranche_id)),)
        case LedgerAdjusted():
            return (_adjust(body),)
        case _:
            return ()


_OneTranche: TypeAlias = DepositMade | WithdrawalMade | PremiumsEarned | LossAbsorbed | EpochStarted | TrancheUpdated


def _one(body: _OneTranche, tranche: str) -> Entry:
    match body:
        case DepositMade(amount=amount):
            return Entry(tranche_id=tranche, capital=amount, shares=body.shares + body.locked_shares)
        case WithdrawalMade(amount=amount):
            return Entry(tranche_id=tranche, capital=-amount, shares=-body.shares)
        case PremiumsEarned(amount=amount):
            return Entry(tranche_id=tranche, capital=amount, unearned=-amount, earned=amount)
        case LossAbsorbed(loss_amount=loss):
            return Entry(tranche_id=tranche, capital=-loss, losses=loss)
        case EpochStarted():
            return Entry(tranche_id=tranche, shares=-body.voided_shares)
        case TrancheUpdated():
            return Entry(tranche_id=tranche, capital=body.capital, coverage=body.coverage)


def _adjust(body: LedgerAdjusted) -> Entry:
    return Entry(
        tranche_id=tranche_id_on_chain(body.tranche_id),
        capital=body.capital,
        coverage=body.coverage,
        unearned=body.unearned,
        shares=body.shares,
    )


def _six(parts: tuple[int, ...], field: str) -> tuple[Entry, ...]:
    if len(parts) != len(TRANCHE_IDS):
        raise LedgerRefused(f"An event has {len(parts)} parts; a vault has {len(TRANCHE_IDS)} tranches.")
    return tuple(
        msgspec.convert({"tranche_id": tranche, field: part}, Entry)
        for tranche, part in zip(TRANCHE_IDS, parts, strict=True)
        if part
    )


def post(totals: Totals, entry: Entry) -> Totals:
    """The totals after one entry. Raises LedgerRefused, naming the amount, and changes nothing."""
    after = Totals(
        capital=totals.capital + entry.capital,
        coverage=totals.coverage + entry.coverage,
        unearned=totals.unearned + entry.unearned,
        earned=totals.earned + entry.earned,
        losses=totals.losses + entry.losses,
        shares=totals.shares + entry.shares,
    )
    for name in ("capital", "coverage", "unearned"):
        value = getattr(after, name)
        if not 0 <= value <= BIGINT_MAX:
            raise LedgerRefused(f"{entry.tranche_id}: {name} would become {value} nanoTON.")
    for name in ("shares", "losses"):
        if getattr(after, name) < 0:
            raise LedgerRefused(f"{entry.tranche_id}: {name} would become {getattr(after, name)}.")
    return after
