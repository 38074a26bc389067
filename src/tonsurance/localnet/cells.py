"""Cells of pytoniq-core, with types: the library has none for these few calls."""

from __future__ import annotations

from typing import Any

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.slice import Slice

from tonsurance.chain.addresses import parse_address
from tonsurance.chain.cells import check_crc, parse_boc
from tonsurance.core.errors import DecodeError, InputError

_MAGIC = b"\xb5\xee\x9cr"
MAX_BOC_BYTES = 256 * 1024
"""Larger bags are refused before they are read: the TVM itself takes external messages up to 64 KiB."""


def boc_of(root: Cell) -> bytes:
    """The cell as a bag of cells. The library's own writer takes a time exponential in the depth of shared cells."""
    order = _order(root)
    width = max(1, (len(order).bit_length() + 7) // 8)
    indexes = {cell: index for index, cell in enumerate(order)}
    content = b"".join(cell.serialize(indexes, width) for cell in order)
    offset_width = max(1, (len(content).bit_length() + 7) // 8)
    counts = b"".join(number.to_bytes(width, "big") for number in (len(order), 1, 0))
    size = len(content).to_bytes(offset_width, "big")
    return b"".join((_MAGIC, bytes((width, offset_width)), counts, size, bytes(width), content))


def _order(root: Cell) -> list[Cell]:
    """Each different cell once, parents before children."""
    order: list[Cell] = []
    seen: set[Cell] = set()
    pending = [(root, False)]
    while pending:
        cell, done = pending.pop()
        if done:
            order.append(cell)
        elif cell not in seen:
            seen.add(cell)
            pending.append((cell, True))
            pending.extend((ref, False) for ref in reversed(cell.refs))
    order.reverse()
    return order


def read(cell: Cell) -> Any:
    """A slice at the cell's first bit."""
    untyped: Any = cell
    return untyped.begin_parse()


def cell_of(rest: Slice) -> Cell:
    """What is left of a slice, as a cell."""
    untyped: Any = rest
    cell: Cell = untyped.to_cell()
    return cell


def cell_from_boc(boc: bytes) -> Cell:
    """The root of a bag that this process wrote."""
    return Cell.one_from_boc(boc)


def cell_from_outside(boc: bytes) -> Cell:
    """The root of a bag from outside. Raises InputError for whatever is wrong with it."""
    if len(boc) > MAX_BOC_BYTES:
        raise InputError(f"The bag of cells has {len(boc)} bytes; at most {MAX_BOC_BYTES} are read.")
    try:
        parse_boc(boc)  # bounded in time and memory, unlike the library's reader
        check_crc(boc)
    except DecodeError as error:
        raise InputError(error.message) from error
    return Cell.one_from_boc(boc)


def address_from(text: str) -> Address:
    """An address in raw or friendly form. Raises InvalidAddress."""
    return Address(parse_address(text))


def raw_address(address: Address) -> str:
    """`0:<64 hex>`, lower case."""
    return f"{address.wc}:{address.hash_part.hex()}"


def friendly_address(address: Address) -> str:
    """The bounceable, url-safe form that API servers answer with."""
    untyped: Any = address
    return str(untyped.to_str(is_user_friendly=True, is_bounceable=True, is_url_safe=True))


def builder() -> Builder:
    """An empty builder."""
    return Builder()
