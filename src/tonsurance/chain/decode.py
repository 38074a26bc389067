"""From a transaction's bytes to events, by a layout. Pure.

An event counts only when the whole transaction succeeded. A message that no layout explains, or that does not have
exactly the fields the layout says, is kept raw as Undecoded: it can be decoded again with a better layout. A message
the layout knows that is none of our types is noted.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from tonsurance.chain.cells import Cell, check_crc, parse_boc, write_boc
from tonsurance.chain.layout import Layout, check_kind
from tonsurance.chain.layout_fields import Field, flatten
from tonsurance.chain.reading import Reading, build_body, map_ids, read_derived, read_out
from tonsurance.chain.transactions import (
    ExternalOut,
    Outcome,
    find_incoming,
    read_external_out,
    read_outcome,
    read_transaction,
)
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import (
    NO_FACTS,
    ChainEvent,
    Cursor,
    DecodedTransaction,
    Noted,
    TransactionFacts,
    Undecoded,
)

INCOMING_INDEX = -1
"""The message index of an event derived from the incoming message."""


class Decoder:
    """Decodes the transactions of one contract."""

    def __init__(self, layout: Layout, *, contract: str, kind: str) -> None:
        self.layout = layout
        self.contract = contract
        self.kind = kind
        self._derives = layout.derives(kind)

    def decode(self, boc: bytes) -> DecodedTransaction:
        """One transaction. Raises DecodeError when the bytes are not a transaction of this contract."""
        return self.decode_outcome(read_outcome(read_transaction(boc)))

    def decode_outcome(self, transaction: Outcome) -> DecodedTransaction:
        """One transaction that was read before. Raises DecodeError when it is of another contract."""
        if transaction.account != self.contract.partition(":")[2]:
            raise DecodeError(f"The transaction is of account {transaction.account}, not of {self.contract}.")
        if not transaction.succeeded:
            return DecodedTransaction(
                cursor=transaction.cursor, block_time=transaction.now, succeeded=False, facts=transaction.facts
            )
        sorted_out = _SortedOut(self, transaction.cursor, transaction.now, transaction.facts)
        if self._derives:
            sorted_out.take_incoming(find_incoming(read_transaction(transaction.boc)))
        for message in transaction.outs:
            sorted_out.take_out(message)
        return sorted_out.show()

    def decode_kept(self, raw: bytes, *, message_index: int, cursor: Cursor, block_time: int) -> DecodedTransaction:
        """One message that was kept (`raw_body` of an event or of the quarantine), as all its transaction holds.

        For another layout than the one it was read with. Raises DecodeError when the bytes are not a bag of cells.
        """
        kept = parse_boc(raw)
        sorted_out = _SortedOut(self, cursor, block_time)
        if message_index == INCOMING_INDEX:
            sorted_out.take_incoming(kept)
        else:
            sorted_out.take_out(self._restore_out(message_index, kept))
        return sorted_out.show()

    def _restore_out(self, index: int, kept: Cell) -> ExternalOut:
        """The body was kept where it says itself what it is; else the whole message was, for its destination."""
        bare = ExternalOut(index=index, destination=None, body=kept)
        try:
            read_out(bare, self.kind, self.layout)
        except DecodeError:
            with suppress(DecodeError):
                whole = read_external_out(index, kept)
                return bare if whole is None or whole.destination is None else whole
        return bare


class _SortedOut:
    """The messages of one transaction, by what they are."""

    def __init__(self, decoder: Decoder, cursor: Cursor, block_time: int, facts: TransactionFacts = NO_FACTS) -> None:
        self._decoder = decoder
        self._cursor = cursor
        self._block_time = block_time
        self._facts = facts
        self.events: list[ChainEvent] = []
        self.undecoded: list[Undecoded] = []
        self.noted: list[Noted] = []

    def show(self) -> DecodedTransaction:
        """All of them, as a transaction that succeeded."""
        return DecodedTransaction(
            cursor=self._cursor,
            block_time=self._block_time,
            succeeded=True,
            facts=self._facts,
            events=tuple(self.events),
            undecoded=tuple(self.undecoded),
            noted=tuple(self.noted),
        )

    def take_out(self, message: ExternalOut) -> None:
        """An external message is an event of ours, or the layout knows it, or it is kept."""
        kept = message.whole or message.body
        try:
            reading = read_out(message, self._decoder.kind, self._decoder.layout)
            self._place(reading, message.index, kept)
        except DecodeError as error:
            self._keep(message.index, error, kept)

    def take_incoming(self, message: Cell | None) -> None:
        """The incoming message is an event where the layout says so; else it is nothing."""
        if message is None:
            return
        try:
            reading = read_derived(message, self._decoder.kind, self._decoder.layout)
            if reading is not None:
                self._place(reading, INCOMING_INDEX, message)
        except DecodeError as error:
            self._keep(INCOMING_INDEX, error, message)

    def _place(self, reading: Reading, index: int, raw: Cell) -> None:
        decoder = self._decoder
        body = build_body(reading, self._block_time)
        if body is None:
            self.noted.append(Noted(message_index=index, name=reading.event.type))
            return
        self.events.append(
            ChainEvent(
                contract=decoder.contract,
                contract_kind=decoder.kind,
                lt=self._cursor.lt,
                message_index=index,
                transaction_hash=self._cursor.hash,
                block_time=self._block_time,
                decoder=decoder.layout.name,
                body=body,
                raw_body=write_boc(raw),
            )
        )

    def _keep(self, index: int, error: DecodeError, raw: Cell) -> None:
        self.undecoded.append(Undecoded(message_index=index, reason=error.message, raw_body=write_boc(raw)))


def decode_transaction(boc: bytes, *, contract: str, kind: str, layout: Layout) -> DecodedTransaction:
    """One transaction of a contract (raw address). Raises DecodeError when it is not one."""
    return Decoder(layout, contract=contract, kind=kind).decode(boc)


def decode_transaction_json(boc: bytes, layout: Layout, kind: str) -> list[dict[str, Any]]:
    """What a layout makes of a transaction, for people and scripts: one object per event or external out-message.

    Numbers that can pass 2^53 are strings. `fields` is what is written in the message, under the layout's names;
    `mapped` gives those of them that are ids with another number here. `canonical` is the type of ours it means; where
    the event has a name of its own, `canonical_fields` are our fields and `canonical_missing` those the chain does not
    say. A message that is not understood has `event_type` null and a `reason`; one that is understood and still cannot
    be one of ours (an unknown id) keeps its name and has `canonical` null and a `reason`. A failed transaction gives
    none. Raises DecodeError when the bytes are not a transaction, UsageError for a kind the layout does not know.
    """
    check_kind(layout, kind)
    check_crc(boc)
    transaction = read_outcome(read_transaction(boc))
    if not transaction.succeeded:
        return []
    shown = []
    incoming = find_incoming(read_transaction(boc)) if layout.derives(kind) else None
    if incoming is not None and (derived := _show_derived(incoming, kind, layout, transaction)) is not None:
        shown.append(derived)
    return shown + [_show_out(message, kind, layout, transaction) for message in transaction.outs]


def _show_derived(message: Cell, kind: str, layout: Layout, transaction: Outcome) -> dict[str, Any] | None:
    try:
        reading = read_derived(message, kind, layout)
        return None if reading is None else _show(transaction, INCOMING_INDEX, message, reading)
    except DecodeError as error:
        return _show_unknown(transaction, INCOMING_INDEX, message, error)


def _show_out(message: ExternalOut, kind: str, layout: Layout, transaction: Outcome) -> dict[str, Any]:
    kept = message.whole or message.body
    try:
        return _show(transaction, message.index, kept, read_out(message, kind, layout))
    except DecodeError as error:
        return _show_unknown(transaction, message.index, kept, error)


def _identify(transaction: Outcome, index: int) -> dict[str, Any]:
    return {
        "logical_time": str(transaction.cursor.lt),
        "transaction_hash": transaction.cursor.hash.hex(),
        "message_index": index,
    }


def _show_unknown(transaction: Outcome, index: int, raw: Cell, error: DecodeError) -> dict[str, Any]:
    identity = {"event_type": None, **_identify(transaction, index)}
    return identity | {"fields": {}, "canonical": None, "reason": error.message, "raw": write_boc(raw).hex()}


def _show(transaction: Outcome, index: int, raw: Cell, reading: Reading) -> dict[str, Any]:
    """Raises DecodeError when one of our types is not what it should be."""
    event = reading.event
    fields = {
        field.name: _show_value(field, reading.fields[field.name]) for field in (*event.taken, *flatten(event.fields))
    }
    shown = {"event_type": event.type, **_identify(transaction, index), "fields": fields}
    try:
        return shown | _show_meaning(reading, transaction.now)
    except DecodeError as error:
        if not event.is_own:
            raise
        return shown | {"canonical": None, "reason": error.message, "raw": write_boc(raw).hex()}


def _show_meaning(reading: Reading, block_time: int) -> dict[str, Any]:
    """What the event is to us. Raises DecodeError as the decoder does."""
    event = reading.event
    build_body(reading, block_time)
    mapped = map_ids(reading)
    shown: dict[str, Any] = {"mapped": mapped} if mapped else {}
    if not event.is_own:
        return shown | {"canonical": event.type}
    if event.canonical is None:
        return shown | {"canonical": None}
    values = event.canonical.fill(reading.fields | mapped, block_time)
    return shown | {
        "canonical": event.canonical.type,
        "canonical_fields": {
            name: _show_number(value, event.canonical.sources[name].is_wide) for name, value in values.items()
        },
        "canonical_missing": list(event.canonical.missing),
    }


def _show_value(field: Field, value: Any) -> Any:
    return _show_number(value, field.is_wide)


def _show_number(value: Any, is_wide: bool) -> Any:
    if isinstance(value, list | tuple):
        return [_show_number(item, is_wide) for item in value]
    return str(value) if is_wide and isinstance(value, int) else value
