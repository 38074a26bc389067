"""From a transaction's bytes to events, by a layout. Pure.

An event counts only when the whole transaction succeeded. A message that no layout explains, or that does not have
exactly the fields the layout says, is kept raw as Undecoded: it can be decoded again with a better layout.
"""

from __future__ import annotations

from typing import Any

from tonsurance.chain.cells import Cell, Slice, check_crc, write_boc
from tonsurance.chain.layout import EventLayout, Field, Layout, flatten
from tonsurance.chain.transactions import (
    ExternalOut,
    Outcome,
    Transaction,
    did_succeed,
    read_external_outs,
    read_outcome,
    read_transaction,
)
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import ChainEvent, DecodedTransaction, EventBody, Undecoded, build_event

_EXACT_BITS = 53
"""Largest number of bits a JSON reader that uses doubles keeps exactly."""


class Decoder:
    """Decodes the transactions of one contract."""

    def __init__(self, layout: Layout, *, contract: str, kind: str) -> None:
        self.layout = layout
        self.contract = contract
        self.kind = kind

    def decode(self, boc: bytes) -> DecodedTransaction:
        """One transaction. Raises DecodeError when the bytes are not a transaction of this contract."""
        return self.decode_outcome(read_outcome(read_transaction(boc)))

    def decode_outcome(self, transaction: Outcome) -> DecodedTransaction:
        """One transaction that was read before. Raises DecodeError when it is of another contract."""
        if transaction.account != self.contract.partition(":")[2]:
            raise DecodeError(f"The transaction is of account {transaction.account}, not of {self.contract}.")
        if not transaction.succeeded:
            return DecodedTransaction(cursor=transaction.cursor, block_time=transaction.now, succeeded=False)
        events: list[ChainEvent] = []
        undecoded: list[Undecoded] = []
        for message in transaction.outs:
            try:
                body = read_event(message.body, self.kind, self.layout)
            except DecodeError as error:
                undecoded.append(_keep_raw(message, error))
            else:
                events.append(self._place(transaction, message, body))
        return DecodedTransaction(
            cursor=transaction.cursor,
            block_time=transaction.now,
            succeeded=True,
            events=tuple(events),
            undecoded=tuple(undecoded),
        )

    def _place(self, transaction: Outcome, message: ExternalOut, body: EventBody) -> ChainEvent:
        return ChainEvent(
            contract=self.contract,
            contract_kind=self.kind,
            lt=transaction.cursor.lt,
            message_index=message.index,
            transaction_hash=transaction.cursor.hash,
            block_time=transaction.now,
            decoder=self.layout.name,
            body=body,
            raw_body=write_boc(message.body),
        )


def _keep_raw(message: ExternalOut, error: DecodeError) -> Undecoded:
    return Undecoded(message_index=message.index, reason=error.message, raw_body=write_boc(message.body))


def decode_transaction(boc: bytes, *, contract: str, kind: str, layout: Layout) -> DecodedTransaction:
    """One transaction of a contract (raw address). Raises DecodeError when it is not one."""
    return Decoder(layout, contract=contract, kind=kind).decode(boc)


def read_event(body: Cell, kind: str, layout: Layout) -> EventBody:
    """The event in a message body. Raises DecodeError for an unknown op, and unless all of the body is used."""
    event, fields = read_fields(body, kind, layout)
    return build_event(event.type, fields)


def read_fields(body: Cell, kind: str, layout: Layout) -> tuple[EventLayout, dict[str, Any]]:
    """The layout that explains a message body, and the fields it holds."""
    data = body.begin_parse()
    if data.bits_left < 32:
        raise DecodeError(f"The body has {data.bits_left} bits and no op.")
    op = data.load_uint(32)
    event = layout.events.get((kind, op))
    if event is None:
        raise DecodeError(f"No event of {kind} has the op {op:#010x}.")
    fields: dict[str, Any] = {}
    _read_into(fields, event.fields, data)
    return event, fields


def _read_into(fields: dict[str, Any], wanted: tuple[Field, ...], data: Slice) -> None:
    """Read all wanted fields of one cell, then check that nothing is left. Refs are nested as in the layout only."""
    for field in wanted:
        if field.kind == "ref":
            _read_into(fields, field.fields, data.load_ref().begin_parse())
        elif field.count is None:
            fields[field.name] = _read_value(field, data)
        else:
            fields[field.name] = [_read_value(field, data) for _ in range(field.count)]
    data.expect_end()


def _read_value(field: Field, data: Slice) -> int | bool | str | None:
    match field.kind:
        case "uint":
            value = data.load_uint(field.bits)
            return f"{value:0{(field.bits + 3) // 4}x}" if field.as_hex else value
        case "int":
            return data.load_int(field.bits)
        case "coins":
            return data.load_coins()
        case "bool":
            return data.load_bool()
        case _:
            return data.load_address()


def decode_transaction_json(boc: bytes, layout: Layout, kind: str) -> list[dict[str, Any]]:
    """What a layout makes of a transaction, for people and scripts: one object per external out-message.

    Numbers that can pass 2^53 are strings. A message that is not understood has `event_type` null and a `reason`.
    A failed transaction gives none. Raises DecodeError when the bytes are not a transaction.
    """
    check_crc(boc)
    transaction = read_transaction(boc)
    if not did_succeed(transaction.description):
        return []
    return [_describe(transaction, message, layout, kind) for message in read_external_outs(transaction)]


def _describe(transaction: Transaction, message: ExternalOut, layout: Layout, kind: str) -> dict[str, Any]:
    identity = {
        "logical_time": str(transaction.cursor.lt),
        "transaction_hash": transaction.cursor.hash.hex(),
        "message_index": message.index,
    }
    try:
        event, fields = read_fields(message.body, kind, layout)
        build_event(event.type, fields)
    except DecodeError as error:
        raw = write_boc(message.body).hex()
        return {"event_type": None, **identity, "fields": {}, "canonical": None, "reason": error.message, "raw": raw}
    shown = {field.name: _show(field, fields[field.name]) for field in flatten(event.fields)}
    return {"event_type": event.type, **identity, "fields": shown, "canonical": event.type}


def _show(field: Field, value: Any) -> Any:
    if isinstance(value, list):
        return [_show(field, item) for item in value]
    is_wide = field.kind == "coins" or (field.kind in ("uint", "int") and field.bits > _EXACT_BITS)
    return str(value) if is_wide else value
