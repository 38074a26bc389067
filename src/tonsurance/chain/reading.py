"""What a layout makes of one message: its fields, and the event of ours they are. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from tonsurance.chain.cells import Cell, Slice
from tonsurance.chain.layout import OP_BITS, EventLayout, Layout
from tonsurance.chain.layout_fields import Field
from tonsurance.chain.transactions import ExternalOut, read_incoming
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import EventBody, build_event


class Reading(msgspec.Struct, frozen=True):
    """A message, and the event of a layout it is: its fields as they are written there."""

    event: EventLayout
    fields: dict[str, Any]


def read_out(message: ExternalOut, kind: str, layout: Layout) -> Reading:
    """What the layout makes of an external message. Raises DecodeError when it does not know it, or not like this."""
    if message.destination is not None:
        log = layout.logs.get((kind, message.destination))
        if log is not None:
            return _read(log, message.body.begin_parse())
    data = message.body.begin_parse()
    if data.bits_left < OP_BITS:
        raise DecodeError(f"The body has {data.bits_left} bits and no op{_shown_destination(message)}.")
    op = data.load_uint(OP_BITS)
    event = layout.events.get((kind, op))
    if event is None:
        raise DecodeError(f"No event of {kind} has the op {op:#010x}{_shown_destination(message)}.")
    return _read(event, data)


def _shown_destination(message: ExternalOut) -> str:
    return "" if message.destination is None else f", and none the destination {message.destination:#x}"


def read_derived(message: Cell, kind: str, layout: Layout) -> Reading | None:
    """The event an incoming message is, if any. Raises DecodeError when it is not as the layout says."""
    incoming = read_incoming(message)
    if incoming is None or incoming.body.exotic or incoming.body.bit_count < OP_BITS:
        return None
    data = incoming.body.begin_parse()
    event = layout.incoming.get((kind, data.load_uint(OP_BITS)))
    if event is None:
        return None
    reading = _read(event, data)
    for field in event.taken:
        reading.fields[field.name] = incoming.sender if field.header == "sender" else incoming.value
    return reading


def _read(event: EventLayout, data: Slice) -> Reading:
    fields: dict[str, Any] = {}
    _read_into(fields, event.fields, data)
    return Reading(event, fields)


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
        case "bits":
            return f"{data.load_uint(field.bits):0{(field.bits + 3) // 4}x}"
        case _:
            return data.load_address()


def build_body(reading: Reading, block_time: int) -> EventBody | None:
    """The event of ours; None when there is none, or the chain does not say all of it.

    Raises DecodeError for an id that is not in its map, and for values that our type cannot hold.
    """
    event = reading.event
    values = reading.fields | map_ids(reading) if event.mapped else reading.fields
    if not event.is_own:
        return build_event(event.type, values)
    if event.canonical is None:
        return None
    filled = event.canonical.fill(values, block_time)
    return None if event.canonical.missing else build_event(event.canonical.type, filled)


def map_ids(reading: Reading) -> dict[str, int]:
    """The fields whose ids have another number here, with our ids. Raises DecodeError for one that has none."""
    return {field.name: field.ids.look_up(reading.fields[field.name]) for field in reading.event.mapped if field.ids}
