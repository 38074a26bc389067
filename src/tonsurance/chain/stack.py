"""The stack of a get-method, in TonCenter's JSON.

Numbers on the stack itself are hexadecimal ("0x1d", "-0x5"), those inside tuples decimal. Slices come back as cells.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from tonsurance.chain.cells import Cell, parse_boc, write_boc
from tonsurance.core.errors import ChainDataError

StackValue = int | Cell | tuple["StackValue", ...] | list["StackValue"]
_MAX_DEPTH = 16


def write_stack(arguments: Sequence[int | Cell]) -> list[list[str]]:
    """Arguments of a get-method: numbers, and cells which are passed as slices (that is how addresses go)."""
    return [
        ["num", hex(value)]
        if isinstance(value, int)
        else ["tvm.Slice", base64.b64encode(write_boc(value)).decode("ascii")]
        for value in arguments
    ]


def read_stack(items: object) -> tuple[StackValue, ...]:
    """The values of a stack, the first returned one first. Raises ChainDataError for anything unexpected."""
    try:
        return tuple(_read_entry(entry) for entry in _as_list(items))
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ChainDataError(f"The stack of a get-method cannot be read: {error!r}") from error


def _as_list(items: object) -> list[Any]:
    if not isinstance(items, list):
        raise TypeError(f"a list is needed, not {type(items).__name__}")
    return items


def _read_entry(entry: Any) -> StackValue:
    kind, value = entry
    if kind == "num":
        return int(value, 16)
    if kind in ("cell", "slice"):
        return _read_cell(value)
    if kind in ("tuple", "list"):
        return _read_elements(kind, value, depth=1)
    raise ValueError(f"unknown entry {kind!r}")


def _read_elements(kind: str, value: Any, *, depth: int) -> StackValue:
    if depth > _MAX_DEPTH:
        raise ValueError("tuples are nested too deep")
    elements = [_read_element(element, depth=depth) for element in _as_list(value["elements"])]
    return tuple(elements) if kind == "tuple" else elements


def _read_element(element: Any, *, depth: int) -> StackValue:
    kind = element["@type"]
    if kind == "tvm.stackEntryNumber":
        return int(element["number"]["number"], 10)
    if kind in ("tvm.stackEntryCell", "tvm.stackEntrySlice"):
        return _read_cell(element["cell" if kind == "tvm.stackEntryCell" else "slice"])
    if kind in ("tvm.stackEntryTuple", "tvm.stackEntryList"):
        name = "tuple" if kind == "tvm.stackEntryTuple" else "list"
        return _read_elements(name, element[name], depth=depth + 1)
    raise ValueError(f"unknown element {kind!r}")


def _read_cell(value: Any) -> Cell:
    return parse_boc(base64.b64decode(value["bytes"], validate=True))
