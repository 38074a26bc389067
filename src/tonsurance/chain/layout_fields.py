"""The fields of a layout's events: names, types, refs and id maps, read from TOML and checked."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from tonsurance.core.errors import DecodeError, UsageError

_TYPE = re.compile(r"(uint|int|bits|coins|address|bool|ref)(\d{0,4})(?:\[(\d{1,4})\])?")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DECIMAL = re.compile(r"0|[1-9]\d{0,18}")
_NUMBER_BITS, _CELL_BITS, _MAX_COUNT, _MAX_REFS, _MAX_NESTING = 256, 1023, 64, 4, 8
_LEAST_BITS = {"coins": 4, "address": 2, "bool": 1}
"""Bits of the shortest value of a type that has no number of bits."""
_MAX_BITS = {"uint": _NUMBER_BITS, "int": _NUMBER_BITS, "bits": _CELL_BITS}
_HELD_AS: dict[str, type] = {"uint": int, "int": int, "coins": int, "bool": bool, "address": str, "bits": str}
_HEADER = {"sender": "address", "value": "coins"}
"""What an event may take from the header of the incoming message, and the type it has there."""
_EXACT_BITS = 53
"""Largest number of bits a JSON reader that uses doubles keeps exactly."""


class IdMap(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of a generation and what they are called here."""

    name: str
    ids: dict[int, int]

    def look_up(self, number: int) -> int:
        """Our id of theirs. Raises DecodeError for one that is not in the map: it is never guessed."""
        found = self.ids.get(number)
        if found is None:
            raise DecodeError(f"The map {self.name} has no id {number}.")
        return found


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field. `bits` is for uint, int and bits; `count` makes it a list; `fields` are those of a ref.

    `as_hex`: the event type holds this number as hexadecimal text (keys, hashes). `header`: it is not in the body, but
    the sender or the value of the incoming message. `ids`: its number is an id that has another one here.
    """

    name: str
    kind: str
    bits: int = 0
    count: int | None = None
    as_hex: bool = False
    header: str = ""
    ids: IdMap | None = None
    fields: tuple[Field, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether its number can pass what a JSON reader keeps exactly."""
        return self.kind == "coins" or (self.kind in ("uint", "int") and self.bits > _EXACT_BITS)


def read_maps(tables: object) -> dict[str, IdMap]:
    """The [map.NAME] tables: their ids to ours."""
    if not isinstance(tables, dict):
        raise UsageError("Maps are tables: [map.NAME].")
    return {name: IdMap(name=name, ids=_read_ids(table, f"[map.{name}]")) for name, table in tables.items()}


def _read_ids(table: object, where: str) -> dict[int, int]:
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{where}: a map needs at least one `theirs = ours`.")
    ids: dict[int, int] = {}
    for theirs, ours in table.items():
        if not _DECIMAL.fullmatch(theirs) or not is_number(ours) or ours < 0:
            raise UsageError(f"{where}: {theirs} = {ours!r} does not map a whole number to one.")
        ids[int(theirs)] = ours
    return ids


def is_number(value: object) -> typing.TypeGuard[int]:
    """Whether this is a whole number; TOML's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def read_fields(items: object, maps: Mapping[str, IdMap], where: str, *, op_bits: int) -> tuple[Field, ...]:
    """The fields of an event whose root cell begins with an op of this many bits. Names are unique over all refs."""
    fields = _read_cell(items, maps, where, op_bits, 0)
    names = [field.name for field in flatten(fields)]
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two fields have the same name.")
    return fields


def flatten(fields: tuple[Field, ...]) -> list[Field]:
    """All fields that carry a value, those inside refs too, in reading order."""
    found: list[Field] = []
    for field in fields:
        found += flatten(field.fields) if field.kind == "ref" else [field]
    return found


def _read_cell(items: object, maps: Mapping[str, IdMap], where: str, used: int, nesting: int) -> tuple[Field, ...]:
    """The fields of one cell, of whose bits some are `used` already."""
    if not isinstance(items, list):
        raise UsageError(f"{where}: fields must be a list of {{name, type}}.")
    if nesting > _MAX_NESTING:
        raise UsageError(f"{where}: refs are nested deeper than {_MAX_NESTING}.")
    fields = tuple(_read_field(item, maps, where, nesting) for item in items)
    if sum(field.kind == "ref" for field in fields) > _MAX_REFS:
        raise UsageError(f"{where}: a cell has at most {_MAX_REFS} refs.")
    least = used + sum(map(_least_bits, fields))
    if least > _CELL_BITS:
        raise UsageError(f"{where}: the fields of a cell need {least} bits at least and it holds {_CELL_BITS}.")
    return fields


def _least_bits(field: Field) -> int:
    if field.kind == "ref" or field.header:
        return 0
    return (field.bits or _LEAST_BITS[field.kind]) * (field.count or 1)


def _read_field(item: object, maps: Mapping[str, IdMap], where: str, nesting: int) -> Field:
    if not isinstance(item, dict):
        raise UsageError(f"{where}: a field must be {{name, type}}.")
    name = item.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is not a field name (small letters, digits, _).")
    where = f"{where}, field {name}"
    if "from" in item:
        return _read_header_field(item, name, where, nesting)
    text = item.get("type")
    match = _TYPE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(
            f"{where}: unknown type {text!r}. Known: uintN, intN, bitsN, coins, address, bool, any [k] of them, ref."
        )
    kind, bits, count = match[1], match[2], match[3]
    check_keys(item, {"name", "type", "fields"} if kind == "ref" else {"name", "type", "map"}, where)
    _check_size(kind, bits, count, where)
    return Field(
        name=name,
        kind=kind,
        bits=int(bits or 0),
        count=int(count) if count else None,
        ids=_choose_map(item, maps, kind, int(bits or 0), where),
        fields=_read_cell(item.get("fields", []), maps, where, 0, nesting + 1) if kind == "ref" else (),
    )


def _read_header_field(item: dict[str, Any], name: str, where: str, nesting: int) -> Field:
    check_keys(item, {"name", "from"}, where)
    source = item["from"]
    if not isinstance(source, str) or source not in _HEADER:
        raise UsageError(f"{where}: from {source!r} is not in a message. Known: {', '.join(_HEADER)}.")
    if nesting:
        raise UsageError(f"{where}: what comes from the message's header cannot stand in a ref.")
    return Field(name=name, kind=_HEADER[source], header=source)


def _check_size(kind: str, bits: str, count: str | None, where: str) -> None:
    if kind in _MAX_BITS:
        if not bits or not 1 <= int(bits) <= _MAX_BITS[kind]:
            raise UsageError(f"{where}: {kind} needs 1 to {_MAX_BITS[kind]} bits.")
    elif bits:
        raise UsageError(f"{where}: {kind} takes no number of bits.")
    if count is not None and (kind == "ref" or not 1 <= int(count) <= _MAX_COUNT):
        raise UsageError(f"{where}: an array has 1 to {_MAX_COUNT} elements and holds no refs.")


def _choose_map(item: dict[str, Any], maps: Mapping[str, IdMap], kind: str, bits: int, where: str) -> IdMap | None:
    name = item.get("map")
    if name is None:
        return None
    chosen = maps.get(name) if isinstance(name, str) else None
    if chosen is None:
        raise UsageError(f"{where}: there is no map {name!r}. Known: {', '.join(maps) or 'none'}.")
    if kind != "uint" or "[" in item["type"]:
        raise UsageError(f"{where}: only a single uintN is an id that can be mapped.")
    if max(chosen.ids) >= 2**bits:
        raise UsageError(f"{where}: the id {max(chosen.ids)} of the map {name} does not fit {bits} bits.")
    return chosen


def fits(field: Field, wanted: Any) -> bool:
    """Whether a field of an event type can hold this field's values."""
    held = str if field.as_hex else _HELD_AS[field.kind]
    if typing.get_origin(wanted) is tuple:
        return field.count is not None and typing.get_args(wanted)[0] is held
    return field.count is None and wanted is held


def check_keys(table: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raises UsageError for keys that mean nothing here."""
    unknown = sorted(set(table) - known)
    if unknown:
        raise UsageError(f"{where}: unknown keys {', '.join(unknown)}.")
