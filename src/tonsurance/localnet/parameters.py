"""Reads the parameters of a request; whatever is wrong with one is an ApiError with status 422."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from pytoniq_core.boc.address import Address

from tonsurance.core.errors import InputError, InvalidAddress
from tonsurance.localnet.cells import address_from, cell_from_outside
from tonsurance.localnet.http import ApiError

MAX_LT = 2**63 - 1
MAX_STACK = 255
MAX_STACK_DEPTH = 8
MAX_NAME = 256
_INTEGER = re.compile(r"-?[0-9]{1,80}")
_TVM_NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]{1,65}|[0-9]{1,80})")


class Parameters:
    """Named values of a request, as text from a query or as JSON from a body."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def address(self) -> Address:
        """The parameter `address`. A text that is no address gets status 416, as the public server answers."""
        given = self._values.get("address")
        if not isinstance(given, str) or not given:
            raise ApiError(422, "address: field required")
        try:
            return address_from(given)
        except InvalidAddress as error:
            raise ApiError(416, "Incorrect address") from error

    def integer(self, name: str, *, low: int, high: int) -> int | None:
        """A whole number within bounds; None when it is not given."""
        given = self._values.get(name)
        if given is None or given == "":
            return None
        value = int(given) if isinstance(given, str) and _INTEGER.fullmatch(given) else given
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ApiError(422, f"{name}: value must be an integer in [{low}, {high}]")
        return value

    def text(self, name: str) -> str | None:
        """A text; None when it is not given."""
        given = self._values.get(name)
        if given is not None and not isinstance(given, str):
            raise ApiError(422, f"{name}: value must be a string")
        return given or None

    def hash(self, name: str) -> bytes | None:
        """32 bytes in base64, url-safe base64 or hex; None when they are not given."""
        given = self.text(name)
        if given is None:
            return None
        value = bytes.fromhex(given) if re.fullmatch(r"[0-9a-fA-F]{64}", given) else decode_base64(given)
        if value is None or len(value) != 32:
            raise ApiError(422, f"{name}: value must be a hash of 32 bytes")
        return value

    def boc(self) -> bytes:
        """The bytes in the parameter `boc`."""
        value = decode_base64(self.text("boc") or "")
        if not value:
            raise ApiError(422, "boc: value must be a bag of cells in base64")
        return value

    def method(self) -> str | int:
        """The get-method's name, or its number."""
        given = self._values.get("method")
        if isinstance(given, int) or (isinstance(given, str) and _INTEGER.fullmatch(given)):
            number = self.integer("method", low=-(2**31), high=2**31 - 1)
            return 0 if number is None else number
        if not isinstance(given, str) or not 0 < len(given) <= MAX_NAME:
            raise ApiError(422, "method: value must be a name or a number")
        return given

    def stack(self) -> list[Any]:
        """The arguments of a get-method."""
        given = self._values.get("stack", [])
        if not isinstance(given, list) or len(given) > MAX_STACK:
            raise ApiError(422, f"stack: value must be a list of at most {MAX_STACK} entries")
        return [_read_entry(entry, 0) for entry in given]


def decode_base64(text: str) -> bytes | None:
    """Bytes from ordinary or url-safe base64, padded or not; None for anything else."""
    standard = text.replace("-", "+").replace("_", "/").replace(" ", "+").rstrip("=\n")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _read_entry(entry: Any, depth: int) -> Any:
    if not isinstance(entry, list) or len(entry) != 2 or depth > MAX_STACK_DEPTH:
        raise ApiError(422, "stack: each entry must be a pair of type and value")
    match entry:
        case ["num" | "int" | "number", value]:
            return _read_number(value)
        case ["cell" | "tvm.Cell", value]:
            return _read_cell(value)
        case ["slice" | "tvm.Slice", value]:
            return _read_slice(value)
        case ["null", _]:
            return None
        case ["tuple" | "list", {"elements": list(elements)}] if len(elements) <= MAX_STACK:
            return [_read_entry(element, depth + 1) for element in elements]
        case _:
            raise ApiError(422, f"stack: entries of type {str(entry[0])[:40]} are not supported")


def _read_number(value: Any) -> int:
    number = int(value, 0 if "x" in value.lower() else 10) if _is_number_text(value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not -(1 << 256) <= number < 1 << 256:
        raise ApiError(422, "stack: a number must be an integer of 257 bits")
    return number


def _is_number_text(value: Any) -> bool:
    return isinstance(value, str) and _TVM_NUMBER.fullmatch(value) is not None


def _read_cell(value: Any) -> Any:
    text = value.get("bytes") if isinstance(value, dict) else value
    boc = decode_base64(text) if isinstance(text, str) else None
    if not boc:
        raise ApiError(422, "stack: a cell must be a bag of cells in base64")
    try:
        return cell_from_outside(boc)
    except InputError as error:
        raise ApiError(422, f"stack: {error.message}") from error


def _read_slice(value: Any) -> Any:
    cell = _read_cell(value)
    if cell.type_ != -1:
        raise ApiError(422, "stack: a special cell cannot be read as a slice")
    return cell.begin_parse()
