"""Messages and transactions of the local chain, written and read cell by cell (TL-B: block.tlb).

Nothing is ever packed again: a message's hash is the hash of the cell the TVM made.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.cells import Slice as OutsideSlice
from tonsurance.chain.cells import parse_boc
from tonsurance.core.errors import DecodeError, InputError
from tonsurance.localnet.cells import address_from, builder, cell_from_boc, cell_of, read

_INDEX_BITS = 15


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Amounts in nanoTON; an address that is none or external is None."""

    kind: str
    source: Address | None
    destination: Address | None
    body: Cell
    init: Cell | None
    value: int = 0
    forward_fee: int = 0
    ihr_fee: int = 0
    created_lt: int = 0
    created_at: int = 0
    bounce: bool = False
    bounced: bool = False


class TransactionView(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction. `exit_code` is None when the TVM did not run; `in_message` when there was none."""

    lt: int
    hash: bytes
    prev_lt: int
    prev_hash: bytes
    now: int
    total_fees: int
    storage_fee: int
    exit_code: int | None
    succeeded: bool
    in_message: Cell | None
    out_messages: tuple[Cell, ...]


def internal_message(
    source: Address | None,
    destination: Address,
    value: int,
    body: Cell | None = None,
    *,
    state_init: Cell | None = None,
    bounce: bool = True,
    lt: int = 0,
    at: int = 0,
) -> Cell:
    """An internal message of `value` nanoTON. With a state init it also deploys; the TVM fills in a missing source."""
    header = builder().store_uint(0b010, 3) if not bounce else builder().store_uint(0b011, 3)
    header.store_bit_int(0).store_address(source).store_address(destination).store_coins(value)
    header.store_bit_int(0).store_coins(0).store_coins(0).store_uint(lt, 64).store_uint(at, 32)
    _store_init(header, state_init)
    return header.store_bit_int(1).store_ref(body or builder().end_cell()).end_cell()


def external_message(destination: Address, body: Cell, *, state_init: Cell | None = None) -> Cell:
    """An external message, as a wallet's owner sends it."""
    header = builder().store_uint(0b10, 2).store_uint(0, 2).store_address(destination).store_coins(0)
    _store_init(header, state_init)
    return header.store_bit_int(1).store_ref(body).end_cell()


def _store_init(header: Any, state_init: Cell | None) -> None:
    if state_init is None:
        header.store_bit_int(0)
    else:
        header.store_uint(0b11, 2).store_ref(state_init)


def state_init_of(code: Cell, data: Cell) -> Cell:
    """The StateInit of a contract; its hash is the contract's address."""
    return builder().store_uint(0b00110, 5).store_ref(code).store_ref(data).end_cell()


def address_of(state_init: Cell) -> Address:
    """Where a contract with this StateInit lives: in the basic workchain."""
    return Address((0, bytes(state_init.hash)))


def external_destination(boc: bytes) -> Address:
    """The account an external message is for. Raises InputError when the bytes are not such a message, whole."""
    try:
        message = parse_boc(boc).begin_parse()
        if message.load_uint(2) != 0b10:
            raise InputError("The bag of cells is not an external message to a contract.")
        _skip_external_source(message)
        destination = message.load_address()
        message.load_coins()
        _skip_init_and_body(message)
    except DecodeError as error:
        raise InputError(f"The bag of cells is not an external message: {error.message}") from error
    if destination is None:
        raise InputError("The external message has no destination.")
    return address_from(destination)


def _skip_external_source(message: OutsideSlice) -> None:
    kind = message.load_uint(2)
    if kind == 1:
        message.load_uint(message.load_uint(9))
    elif kind != 0:
        raise InputError("The external message comes from an internal address.")


def _skip_init_and_body(message: OutsideSlice) -> None:
    if message.load_bool():
        if message.load_bool():
            message.load_ref()
        else:
            for bits in (5, 2):
                if message.load_bool():
                    message.load_uint(bits)
            for _ in ("code", "data", "library"):
                message.load_maybe_ref()
    if message.load_bool():
        message.load_ref()
        message.expect_end()


def normalized_hash(message: Cell) -> bytes:
    """The hash an external message is looked up by, whatever way its sender packed it: no init, body in a ref."""
    view = read_message(message)
    if view.destination is None:
        raise InputError("The message is not an external message to a contract.")
    return bytes(external_message(view.destination, view.body).hash)


def read_message(cell: Cell) -> MessageView:
    """A message that the TVM made or accepted."""
    data = read(cell)
    if not data.load_bit():
        return _read_internal(data)
    if not data.load_bit():
        _account(data)
        destination = _account(data)
        data.load_coins()
        init, body = _read_init_and_body(data)
        return MessageView(kind="external_in", source=None, destination=destination, body=body, init=init)
    source = _account(data)
    _account(data)
    created_lt, created_at = data.load_uint(64), data.load_uint(32)
    init, body = _read_init_and_body(data)
    return MessageView(
        kind="external_out", source=source, destination=None, body=body, init=init, created_lt=created_lt,
        created_at=created_at,
    )  # fmt: skip


def _read_internal(data: Any) -> MessageView:
    data.load_bit()
    bounce, bounced = data.load_bool(), data.load_bool()
    source, destination, value = _account(data), _account(data), data.load_coins()
    data.load_maybe_ref()
    ihr_fee, forward_fee, created_lt, created_at = (
        data.load_coins(), data.load_coins(), data.load_uint(64), data.load_uint(32),
    )  # fmt: skip
    init, body = _read_init_and_body(data)
    return MessageView(
        kind="internal", source=source, destination=destination, body=body, init=init, value=value,
        forward_fee=forward_fee, ihr_fee=ihr_fee, created_lt=created_lt, created_at=created_at, bounce=bounce,
        bounced=bounced,
    )  # fmt: skip


def _account(data: Any) -> Address | None:
    address = data.load_address()
    return address if isinstance(address, Address) else None


def _read_init_and_body(data: Any) -> tuple[Cell | None, Cell]:
    init = None
    if data.load_bool():
        init = data.load_ref() if data.load_bool() else _read_inline_init(data)
    return init, data.load_ref() if data.load_bool() else cell_of(data)


def _read_inline_init(data: Any) -> Cell:
    """A StateInit that stands in the message itself, as a cell of its own."""
    init = builder()
    for bits in (5, 2):  # fixed prefix length, tick-tock
        init.store_bit_int(data.preload_bit())
        if data.load_bit():
            init.store_uint(data.load_uint(bits), bits)
    for _ in ("code", "data", "library"):
        init.store_maybe_ref(data.load_maybe_ref())
    return init.end_cell()


def read_transaction(boc: bytes) -> TransactionView:
    """A transaction that the TVM made."""
    cell = cell_from_boc(boc)
    data = read(cell)
    data.load_uint(4 + 256)
    lt, prev_hash, prev_lt, now = data.load_uint(64), data.load_bytes(32), data.load_uint(64), data.load_uint(32)
    data.load_uint(15 + 2 + 2)
    messages = read(data.load_ref())
    in_message = messages.load_maybe_ref()
    out_messages = messages.load_dict(_INDEX_BITS, value_deserializer=lambda value: value.load_ref()) or {}
    total_fees = data.load_coins()
    storage_fee, exit_code, succeeded = _read_phases(read(cell.refs[-1]))
    return TransactionView(
        lt=lt, hash=bytes(cell.hash), prev_lt=prev_lt, prev_hash=prev_hash, now=now, total_fees=total_fees,
        storage_fee=storage_fee, exit_code=exit_code, succeeded=succeeded, in_message=in_message,
        out_messages=tuple(out_messages[index] for index in sorted(out_messages)),
    )  # fmt: skip


def _read_phases(data: Any) -> tuple[int, int | None, bool]:
    """(storage fee, exit code, whether it was not aborted) of an ordinary transaction."""
    data.load_uint(4 + 1)
    storage_fee = _read_storage_phase(data) if data.load_bool() else 0
    if data.load_bool():  # credit phase
        if data.load_bool():
            data.load_coins()
        data.load_coins()
        data.load_maybe_ref()
    exit_code = _read_compute_phase(data)
    data.load_maybe_ref()  # action phase
    return storage_fee, exit_code, not data.load_bool()


def _read_storage_phase(data: Any) -> int:
    collected = data.load_coins()
    if data.load_bool():
        data.load_coins()
    if data.load_bool():
        data.load_bit()
    return int(collected)


def _read_compute_phase(data: Any) -> int | None:
    if not data.load_bool():
        if data.load_uint(2) == 3:
            data.load_bit()
        return None
    data.load_uint(3)
    data.load_coins()
    details = read(data.load_ref())
    details.load_var_uint(3)  # gas used, in a VarUInteger 7
    details.load_var_uint(3)
    if details.load_bool():
        details.load_var_uint(2)
    details.load_uint(8)
    return int(details.load_int(32))
