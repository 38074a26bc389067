"""Events of ours as message bodies, written with pytoniq-core: the other direction of chain/decode."""

from __future__ import annotations

from typing import Any

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.layout import EventLayout, Field, Layout
from tonsurance.core.events import EventBody


def encode_event(body: EventBody, layout: Layout, kind: str) -> Cell:
    """The message body of an event of this kind of contract. Raises KeyError when the layout does not have it."""
    named = {(event.contract, event.type): event for event in layout.events.values()}
    event = named[kind, type(body).__name__]
    return encode_fields(event, {name: getattr(body, name) for name in body.__struct_fields__})


def encode_fields(event: EventLayout, values: dict[str, Any]) -> Cell:
    """The same from a layout and the values of its fields."""
    return _store(Builder().store_uint(event.op, 32), event.fields, values).end_cell()


def _store(builder: Builder, fields: tuple[Field, ...], values: dict[str, Any]) -> Builder:
    for field in fields:
        if field.kind == "ref":
            builder.store_ref(_store(Builder(), field.fields, values).end_cell())
            continue
        items = [values[field.name]] if field.count is None else values[field.name]
        for item in items:
            _store_value(builder, field, item)
    return builder


def _store_value(builder: Builder, field: Field, value: Any) -> None:
    match field.kind:
        case "uint":
            builder.store_uint(int(value, 16) if field.as_hex else value, field.bits)
        case "int":
            builder.store_int(value, field.bits)
        case "coins":
            builder.store_coins(value)
        case "bool":
            builder.store_bit(value)
        case _:
            builder.store_address(None if value is None else Address(value))
