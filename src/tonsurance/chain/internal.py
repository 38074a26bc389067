"""Internal messages: what one contract or wallet sends another.

TL-B (block.tlb): int_msg_info$0 ihr_disabled bounce bounced:Bool src dest:MsgAddressInt value:CurrencyCollection
ihr_fee fwd_fee:Grams created_lt:uint64 created_at:uint32, then init:(Maybe ...) body:(Either X ^X)
"""

from __future__ import annotations

import msgspec

from tonsurance.chain.cells import Cell, Slice


class InternalMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One internal message; addresses raw, `value` in nanoTON. `bounced`: the receiver refused it and it came back."""

    sender: str | None
    destination: str | None
    value: int
    bounced: bool
    body: Cell


def read_internal(message: Cell) -> InternalMessage | None:
    """None for an external message. Raises DecodeError."""
    data = message.begin_parse()
    if data.load_bool():
        return None
    data.load_uint(2)
    bounced = data.load_bool()
    sender, destination = data.load_address(), data.load_address()
    value = data.load_coins()
    data.load_maybe_ref()  # other currencies
    data.load_coins()
    data.load_coins()
    return InternalMessage(sender=sender, destination=destination, value=value, bounced=bounced, body=read_body(data))


def read_body(data: Slice) -> Cell:
    """The end of a message: created_lt:uint64 created_at:uint32 init body:(Either X ^X)."""
    data.load_uint(64 + 32)
    if data.load_bool():
        _skip_init(data)
    return data.load_ref() if data.load_bool() else data.rest_to_cell()


def _skip_init(data: Slice) -> None:
    """init:(Either StateInit ^StateInit), which no event needs."""
    if data.load_bool():
        data.load_ref()
        return
    if data.load_bool():  # split_depth
        data.load_uint(5)
    if data.load_bool():  # special
        data.load_uint(2)
    for _ in ("code", "data", "library"):
        data.load_maybe_ref()
