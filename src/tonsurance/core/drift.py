"""How far a ledger is from its chain, and what differs between them, in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from tonsurance.core.ledger import Totals
from tonsurance.core.units import WHOLE_PERCENT


class Fault(StrEnum):
    """What is wrong with a row, or with the vault's history as it is served."""

    MISSING = "missing"
    FOREIGN = "foreign"
    ALTERED = "altered"
    UNREADABLE = "unreadable"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One row that is not what the chain demands. `relation` is its table, `event_type` the class of the event it is
    or belongs to (None: nobody can say), `said` all of it in a sentence."""

    relation: str
    fault: Fault
    event_type: str | None
    tranche_id: str | None
    lt: int
    message_index: int
    said: str


class FindingGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Findings of one kind: how many, in which logical times, and the first of them in words."""

    relation: str
    fault: Fault
    event_type: str | None
    tranche_id: str | None
    count: int
    first_lt: int
    last_lt: int
    examples: tuple[str, ...]


class TrancheDrift(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche on both sides at one block, and how far the ledger is off, in percent of the ledger."""

    tranche_id: str
    chain: Totals
    ledger: Totals

    @property
    def capital_pct(self) -> float:
        """Drift of the capital."""
        return drift_percent(self.chain.capital, self.ledger.capital)

    @property
    def coverage_pct(self) -> float:
        """Drift of the coverage."""
        return drift_percent(self.chain.coverage, self.ledger.coverage)

    @property
    def unearned_pct(self) -> float:
        """Drift of the unearned premium."""
        return drift_percent(self.chain.unearned, self.ledger.unearned)

    @property
    def worst_pct(self) -> float:
        """The largest of them."""
        return max(self.capital_pct, self.coverage_pct, self.unearned_pct)


def drift_percent(chain: int, ledger: int) -> float:
    """|chain - ledger| of the ledger, in percent: 0 when they are equal, 100 when the ledger has nothing."""
    if chain == ledger:
        return 0.0
    if ledger == 0:
        return float(WHOLE_PERCENT)
    # Never rounded to nothing: one nanoTON of more than 2^53 is a drift.
    return max(abs(chain - ledger) / abs(ledger) * WHOLE_PERCENT, math.ulp(0.0))


def choose_worst(chain: Totals, told: Iterable[Totals]) -> Totals:
    """Of what the ledger's tables say of a tranche, that which is furthest from the chain; the first of equals."""
    return max(told, key=lambda totals: TrancheDrift(tranche_id="", chain=chain, ledger=totals).worst_pct)


def group_findings(findings: Iterable[Finding], examples: int) -> tuple[FindingGroup, ...]:
    """Findings by table, fault, class of event and tranche, in the order in which each was first met; so many of each
    in full."""
    groups: dict[tuple[str, Fault, str | None, str | None], list[Finding]] = {}
    for found in findings:
        groups.setdefault((found.relation, found.fault, found.event_type, found.tranche_id), []).append(found)
    return tuple(
        FindingGroup(
            relation=relation,
            fault=fault,
            event_type=event_type,
            tranche_id=tranche_id,
            count=len(members),
            first_lt=min(found.lt for found in members),
            last_lt=max(found.lt for found in members),
            examples=tuple(found.said for found in members[:examples]),
        )
        for (relation, fault, event_type, tranche_id), members in groups.items()
    )


def describe_changes(wanted: object, held: object, names: Iterable[str]) -> list[str]:
    """For each of these fields that differs what it is and must be."""
    pairs = ((name, getattr(wanted, name), getattr(held, name)) for name in names)
    return [f"{name} is {told} and must be {demanded}" for name, demanded, told in pairs if demanded != told]


def describe_amounts(moved: object, names: Iterable[str]) -> str:
    """The amounts that are not zero, with their sign."""
    amounts = ((name, getattr(moved, name)) for name in names)
    return ", ".join(f"{name} {value:+d}" for name, value in amounts if value) or "no amount"
