"""Adjustments that stood for events which were not known yet, and are known now.

An adjustment made the ledger of a vault exactly the chain's after one transaction. An event from before it that comes
into the log only now would be counted twice from there on; so it is taken back there, by an adjustment of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import LedgerRefused, UnknownTranche
from tonsurance.core.events import VAULT_KIND, ChainEvent, LedgerAdjusted
from tonsurance.core.ledger import Entry, entries_of

DECODER = "rescan/1"
_AMOUNTS = ("capital", "coverage", "unearned", "shares")


class AdjustedPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A vault's transaction after which it was adjusted, and the lowest message index an adjustment has there."""

    lt: int
    lowest_index: int
    transaction_hash: bytes
    block_time: int


def list_corrections(late: Sequence[ChainEvent], adjusted: Mapping[str, Sequence[AdjustedPlace]]) -> list[ChainEvent]:
    """The adjustments that take back what late events bring in twice: each before those it corrects, in order.

    Raises LedgerRefused when a late event is not one a ledger can hold.
    """
    corrections: list[ChainEvent] = []
    for contract in sorted(adjusted):
        mine = sorted((e for e in late if e.contract == contract), key=lambda e: (e.lt, e.message_index))
        for place in sorted(adjusted[contract], key=lambda place: place.lt):
            before = [event for event in mine if event.lt <= place.lt]
            mine = mine[len(before) :]
            corrections.extend(_correct(contract, place, before))
    return corrections


def _correct(contract: str, place: AdjustedPlace, late: Sequence[ChainEvent]) -> Iterator[ChainEvent]:
    sums: dict[str, dict[str, int]] = {}
    for entry in (entry for event in late for entry in _entries_of(event)):
        mine = sums.setdefault(entry.tranche_id, dict.fromkeys(_AMOUNTS, 0))
        for name in _AMOUNTS:
            mine[name] += getattr(entry, name)
    moved = [(tranche, amounts) for tranche, amounts in sums.items() if any(amounts.values())]
    for number, (tranche, amounts) in enumerate(moved, 1):
        body = LedgerAdjusted(
            tranche_id=TRANCHE_IDS.index(tranche) + 1, **{name: -amount for name, amount in amounts.items()}
        )
        yield ChainEvent(
            contract=contract,
            contract_kind=VAULT_KIND,
            lt=place.lt,
            message_index=place.lowest_index - number,
            transaction_hash=place.transaction_hash,
            block_time=place.block_time,
            decoder=DECODER,
            body=body,
            raw_body=b"",
        )


def _entries_of(event: ChainEvent) -> tuple[Entry, ...]:
    try:
        return entries_of(event.body)
    except (LedgerRefused, UnknownTranche) as error:
        raise LedgerRefused(f"{event.event_type} at logical time {event.lt}: {error.message}") from error


def describe_correction(event: ChainEvent) -> str:
    """A correction in words."""
    body = event.body
    if not isinstance(body, LedgerAdjusted):
        raise TypeError(event.event_type)
    moved = ", ".join(f"{name} {getattr(body, name):+d}" for name in _AMOUNTS if getattr(body, name))
    tranche = TRANCHE_IDS[body.tranche_id - 1]
    return f"{tranche}: adjusted at logical time {event.lt} for events that are known now; taken back: {moved}."
