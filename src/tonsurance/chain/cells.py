"""Cells and bags of cells, read only: just what decoding a transaction needs.

Reads one level of TL-B by hand, because every transaction is parsed twice (its hash and its meaning) and because the
bytes come from outside: time and memory are linear in the size of the bag, and whatever is wrong with it is a
DecodeError. Hashes of ordinary and library cells are computed here; the rare bag with proof cells asks pytoniq-core.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise

from pytoniq_core.boc.cell import Cell as PytoniqCell
from pytoniq_core.boc.cell import CellError
from pytoniq_core.boc.deserialize import BocError
from pytoniq_core.crypto.crc import crc32c

from tonsurance.core.errors import DecodeError

MAX_BOC_BYTES = 4 * 1024 * 1024
"""A message holds at most 8,192 cells of 128 bytes; a transaction holds few messages of that size."""
MAX_CELLS = 65_536
"""A message has at most 8,192 cells. Each costs a quarter of a kilobyte here, and only two bytes in a hostile bag."""
MAX_DEPTH = 1024
_MAGIC = b"\xb5\xee\x9cr"
_LIBRARY = 2
_CRC_BYTES = 4


class Cell:
    """Up to 1023 bits and four refs. `hash` is the representation hash, b"" below a proof cell."""

    __slots__ = ("bit_count", "data", "depth", "exotic", "hash", "refs")

    def __init__(self, data: bytes, bit_count: int, refs: tuple[Cell, ...], exotic: bool = False) -> None:
        self.data = data
        self.bit_count = bit_count
        self.refs = refs
        self.exotic = exotic
        self.depth: int = 1 + max((ref.depth for ref in refs), default=-1)
        if self.depth >= MAX_DEPTH:
            raise DecodeError(f"Cells are nested deeper than {MAX_DEPTH}.")
        self.hash: bytes = _hash_of(self)

    def __eq__(self, other: object) -> bool:
        """Cells are equal when their hashes are."""
        return self is other or (isinstance(other, Cell) and self.hash != b"" and self.hash == other.hash)

    def __hash__(self) -> int:
        return hash(self.hash)

    def begin_parse(self) -> Slice:
        """Read this cell from its first bit. Raises DecodeError for an exotic cell."""
        if self.exotic:
            raise DecodeError("A special cell stands where an ordinary one should.")
        return Slice(self)


def _is_plain(cell: Cell) -> bool:
    return not cell.exotic or (bool(cell.data) and cell.data[0] == _LIBRARY)


def _hash_of(cell: Cell) -> bytes:
    if not _is_plain(cell) or any(not ref.hash for ref in cell.refs):
        return b""
    parts = [_descriptors(cell), _padded(cell)]
    parts += [ref.depth.to_bytes(2, "big") for ref in cell.refs]
    parts += [ref.hash for ref in cell.refs]
    return sha256(b"".join(parts)).digest()


def _descriptors(cell: Cell) -> bytes:
    full, odd = divmod(cell.bit_count, 8)
    return bytes((len(cell.refs) + 8 * cell.exotic, 2 * full + (odd > 0)))


def _padded(cell: Cell) -> bytes:
    """The data with the completion tag: a one bit, then zeros, when it does not fill its last byte."""
    odd = cell.bit_count % 8
    if not odd:
        return cell.data
    last = cell.data[-1] & (0xFF00 >> odd) | (0x80 >> odd)
    return cell.data[:-1] + bytes((last,))


class Slice:
    """A position in a cell. Every load raises DecodeError when the cell ends too early."""

    __slots__ = ("_end", "_position", "_refs", "_value")

    def __init__(self, cell: Cell) -> None:
        self._end = 8 * len(cell.data)
        self._position = self._end - cell.bit_count
        self._value = int.from_bytes(cell.data, "big") >> self._position
        self._refs = list(reversed(cell.refs))

    @property
    def bits_left(self) -> int:
        """Bits not read yet."""
        return self._end - self._position

    @property
    def refs_left(self) -> int:
        """Refs not read yet."""
        return len(self._refs)

    def load_uint(self, bits: int) -> int:
        """An unsigned integer of this many bits."""
        after = self._position + bits
        if after > self._end:
            raise DecodeError(f"{bits} bits are needed and {self.bits_left} are left.")
        self._position = after
        return (self._value >> (self._end - after)) & ((1 << bits) - 1)

    def load_int(self, bits: int) -> int:
        """A signed integer of this many bits."""
        value = self.load_uint(bits)
        return value - (1 << bits) if value >> (bits - 1) else value

    def load_bool(self) -> bool:
        """One bit."""
        return self.load_uint(1) == 1

    def load_coins(self) -> int:
        """An amount in nanoTON (VarUInteger 16), in its shortest form: each amount has one."""
        bits = 8 * self.load_uint(4)
        amount = self.load_uint(bits)
        if bits and not amount >> (bits - 8):
            raise DecodeError("An amount is written with leading zeros.")
        return amount

    def load_ref(self) -> Cell:
        """The next ref."""
        if not self._refs:
            raise DecodeError("A ref is needed and none is left.")
        return self._refs.pop()

    def load_maybe_ref(self) -> Cell | None:
        """A bit that says whether a ref follows, and the ref."""
        return self.load_ref() if self.load_bool() else None

    def load_address(self) -> str | None:
        """A standard address as raw text, or None for no address."""
        kind = self.load_uint(2)
        if kind == 0:
            return None
        if kind != 2 or self.load_bool():
            raise DecodeError("The address is neither a standard one nor none.")
        workchain = self.load_int(8)
        return f"{workchain}:{self.load_uint(256):064x}"

    def rest_to_cell(self) -> Cell:
        """What is left, as a cell of its own; this slice stays where it is."""
        count = self.bits_left
        width = (count + 7) // 8
        value = self._value & ((1 << count) - 1)
        return Cell((value << (8 * width - count)).to_bytes(width, "big"), count, tuple(reversed(self._refs)))

    def expect_end(self) -> None:
        """Raises DecodeError when something is left."""
        if self.bits_left or self._refs:
            raise DecodeError(f"{self.bits_left} bits and {len(self._refs)} refs are left over.")


def parse_boc(boc: bytes) -> Cell:
    """The root cell of a bag of cells with one root. Raises DecodeError, also for left-over bytes.

    The CRC of the bag is not looked at (`check_crc` does): it costs more than the rest, and what comes from the chain
    is compared by its hash.
    """
    if len(boc) > MAX_BOC_BYTES:
        raise DecodeError(f"The bag of cells has {len(boc)} bytes; at most {MAX_BOC_BYTES} are read.")
    try:
        root = _read_bag(boc)
    except IndexError as error:
        raise DecodeError("The bag of cells ends too early.") from error
    if not root.hash:
        root.hash = _proof_hash(boc)
    return root


def _read_bag(boc: bytes) -> Cell:
    if boc[:4] != _MAGIC:
        raise DecodeError("This is not a bag of cells.")
    flags, offset_width = boc[4], boc[5]
    width = flags & 7
    if not 1 <= width <= 4 or not 1 <= offset_width <= 8:
        raise DecodeError("The header of the bag of cells is not valid.")
    count, roots, absent, size = _read_counts(boc, width, offset_width)
    if roots != 1 or absent or not count:
        raise DecodeError(f"The bag has {count} cells, {roots} roots and {absent} absent cells; one root is read.")
    at = 6 + 3 * width + offset_width
    root = int.from_bytes(boc[at : at + width], "big")
    at += width + (offset_width * count if flags & 0x80 else 0)
    if len(boc) != at + size + _CRC_BYTES * bool(flags & 0x40):
        raise DecodeError("The bag of cells does not have the length it announces.")
    if count > size // 2 or root >= count:
        raise DecodeError("The bag names more cells than it holds.")
    if count > MAX_CELLS:
        raise DecodeError(f"The bag has {count} cells; at most {MAX_CELLS} are read.")
    return _build(_read_cells(boc[at : at + size], count, width), root)


def _read_counts(boc: bytes, width: int, offset_width: int) -> tuple[int, int, int, int]:
    ends = [6, 6 + width, 6 + 2 * width, 6 + 3 * width, 6 + 3 * width + offset_width]
    count, roots, absent, size = (int.from_bytes(boc[start:end], "big") for start, end in pairwise(ends))
    return count, roots, absent, size


_RawCell = tuple[bytes, int, tuple[int, ...], bool]


def _read_cells(data: bytes, count: int, width: int) -> list[_RawCell]:
    cells: list[_RawCell] = []
    at = 0
    for _ in range(count):
        cell, at = _read_cell(data, at, width)
        cells.append(cell)
    if at != len(data):
        raise DecodeError("The bag of cells does not end with its last cell.")
    return cells


def _read_cell(data: bytes, at: int, width: int) -> tuple[_RawCell, int]:
    refs_byte, bits_byte = data[at], data[at + 1]
    ref_count = refs_byte & 7
    if ref_count > 4:
        raise DecodeError("A cell has more than four refs.")
    at += 2
    if refs_byte & 16:  # stored hashes and depths: skipped, they are computed anew
        at += 34 * ((refs_byte >> 5).bit_count() + 1)
    size = (bits_byte + 1) // 2
    content = data[at : at + size]
    at += size
    refs = tuple([int.from_bytes(data[i : i + width], "big") for i in range(at, at + width * ref_count, width)])
    at += width * ref_count
    if at > len(data):
        raise DecodeError("The bag of cells ends inside a cell.")
    return (content, _count_bits(content, bits_byte), refs, bool(refs_byte & 8)), at


def _count_bits(content: bytes, bits_byte: int) -> int:
    if not bits_byte & 1:
        return 8 * len(content)
    last = content[-1]
    if not last & 0x7F:  # 0x80 would be a tag with no bit before it: the byte should not be there
        raise DecodeError("A cell's last byte has no completion tag, or nothing else.")
    return 8 * len(content) - (last & -last).bit_length()


def _build(raw: Sequence[_RawCell], root: int) -> Cell:
    """Refs point forward only, so that building from the end always finds them and no cycle can exist."""
    built: list[Cell | None] = [None] * len(raw)
    for index in range(len(raw) - 1, -1, -1):
        data, bit_count, ref_indexes, exotic = raw[index]
        refs = []
        for ref_index in ref_indexes:
            ref = built[ref_index] if ref_index > index else None
            if ref is None:
                raise DecodeError("The cells of the bag are not in order.")
            refs.append(ref)
        built[index] = Cell(data, bit_count, tuple(refs), exotic)
    found = built[root]
    if found is None:  # unreachable: every index below the count was built
        raise DecodeError("The bag has no root.")
    return found


def _proof_hash(boc: bytes) -> bytes:
    """The root hash of a bag that holds proof cells (a user may send one). Its structure was checked before."""
    try:
        return bytes(PytoniqCell.one_from_boc(boc).hash)
    except (CellError, BocError, IndexError, OverflowError, ValueError) as error:
        raise DecodeError(f"The bag holds a special cell that cannot be read: {error}") from error


def write_boc(root: Cell) -> bytes:
    """A bag of cells with this root, without index and checksum; a cell used twice is stored once."""
    order = _topological_order(root)
    width = max(1, (len(order).bit_length() + 7) // 8)
    index = {id(cell): at for at, cell in enumerate(order)}
    body = bytearray()
    for cell in order:
        body += _descriptors(cell) + _padded(cell)
        for ref in cell.refs:
            body += index[id(ref)].to_bytes(width, "big")
    offset_width = max(1, (len(body).bit_length() + 7) // 8)
    header = bytes((width, offset_width)) + len(order).to_bytes(width, "big") + (1).to_bytes(width, "big")
    return b"".join((_MAGIC, header, bytes(width), len(body).to_bytes(offset_width, "big"), bytes(width), bytes(body)))


def _topological_order(root: Cell) -> list[Cell]:
    """Parents before children, each cell object once, without recursion."""
    order: list[Cell] = []
    seen: set[int] = set()
    stack: list[tuple[Cell, bool]] = [(root, False)]
    while stack:
        cell, children_done = stack.pop()
        if children_done:
            order.append(cell)
        elif id(cell) not in seen:
            seen.add(id(cell))
            stack.append((cell, True))
            stack.extend((ref, False) for ref in cell.refs)
    order.reverse()
    return order


def check_crc(boc: bytes) -> None:
    """Raises DecodeError when the bag has a checksum and it is wrong."""
    if len(boc) > 2 * _CRC_BYTES and boc[4] & 0x40 and crc32c(boc[:-_CRC_BYTES]) != boc[-_CRC_BYTES:]:
        raise DecodeError("The checksum of the bag of cells is wrong.")


def crc16(data: bytes) -> int:
    """CRC-16/XMODEM, as in friendly addresses and method ids."""
    return binascii.crc_hqx(data, 0)
