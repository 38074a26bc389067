"""Event layouts as data: which op of which contract kind is which event, field by field.

A layout is a TOML file. Reading it checks everything that could only fail later: types, names, duplicates, and that
the fields are those of the event type they fill.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from tonsurance.core.errors import UsageError
from tonsurance.core.events import EVENT_TYPES

DEFAULT_LAYOUT = "tonsurance"
_TYPE = re.compile(r"(uint|int|coins|address|bool|ref)(\d*)(?:\[(\d+)\])?")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MAX_BITS, _MAX_COUNT, _MAX_REFS = 256, 64, 4
_MAX_FILE_BYTES = 1024 * 1024


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field. `bits` is for uint and int; `count` makes it a list; `fields` are those of a ref.

    `as_hex`: the event type holds this number as hexadecimal text (keys, hashes).
    """

    name: str
    kind: str
    bits: int = 0
    count: int | None = None
    as_hex: bool = False
    fields: tuple[Field, ...] = ()


class EventLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One event: after the op, the body holds exactly these fields."""

    contract: str
    op: int
    type: str
    fields: tuple[Field, ...]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of contracts: its events by (contract kind, op) and the hashes of its code by kind."""

    name: str
    events: dict[tuple[str, int], EventLayout]
    code: dict[str, bytes]


def load_layout(source: str | Path = DEFAULT_LAYOUT) -> Layout:
    """A layout shipped with the package, by name, or any file, by path. Raises UsageError saying what is wrong."""
    path = Path(source)
    try:
        if path.suffix == ".toml":
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise UsageError(f"The layout {path} is larger than {_MAX_FILE_BYTES} bytes.")
            text = path.read_text("utf-8")
        else:
            text = resources.files("tonsurance.chain").joinpath("layouts", f"{path.name}.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The layout {source} cannot be read: {error}") from error
    return parse_layout(text)


def parse_layout(text: str) -> Layout:
    """A layout from TOML text. Raises UsageError saying what is wrong and where."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The layout is not valid TOML: {error}") from error
    _check_keys(document, {"name", "event", "code"}, "The layout")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError("The layout needs a name.")
    return Layout(name=name, events=_read_events(document.get("event")), code=_read_code(document.get("code", {})))


def _read_events(tables: object) -> dict[tuple[str, int], EventLayout]:
    if not isinstance(tables, list) or not tables:
        raise UsageError("The layout needs at least one [[event]].")
    events: dict[tuple[str, int], EventLayout] = {}
    for table in tables:
        event = _read_event(table)
        key = (event.contract, event.op)
        if key in events:
            raise UsageError(f"{event.type} and {events[key].type} of {event.contract} have the same op {event.op:#x}.")
        events[key] = event
    return events


def _read_event(table: object) -> EventLayout:
    if not isinstance(table, dict):
        raise UsageError("Every event must be a table: [[event]].")
    where = f"Event {table.get('type', '?')}"
    _check_keys(table, {"contract", "op", "type", "fields"}, where)
    contract, op, event_type = table.get("contract"), table.get("op"), table.get("type")
    if not isinstance(contract, str) or not contract:
        raise UsageError(f"{where} names no contract.")
    if not isinstance(op, int) or isinstance(op, bool) or not 0 <= op < 2**32:
        raise UsageError(f"{where}: op must be a number of 32 bits.")
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        raise UsageError(f"{where}: there is no such event type. Known: {', '.join(EVENT_TYPES)}.")
    fields = _read_fields(table.get("fields", []), where)
    _check_names(fields, event_type, where)
    texts = {field.name for field in msgspec.structs.fields(EVENT_TYPES[event_type]) if field.type is str}
    return EventLayout(contract=contract, op=op, type=event_type, fields=_mark_hex(fields, texts))


def _mark_hex(fields: tuple[Field, ...], texts: set[str]) -> tuple[Field, ...]:
    return tuple(
        msgspec.structs.replace(
            field,
            as_hex=field.kind == "uint" and field.name in texts,
            fields=_mark_hex(field.fields, texts),
        )
        for field in fields
    )


def _read_fields(items: object, where: str) -> tuple[Field, ...]:
    if not isinstance(items, list):
        raise UsageError(f"{where}: fields must be a list of {{name, type}}.")
    fields = tuple(_read_field(item, where) for item in items)
    if sum(field.kind == "ref" for field in fields) > _MAX_REFS:
        raise UsageError(f"{where}: a cell has at most {_MAX_REFS} refs.")
    return fields


def _read_field(item: object, where: str) -> Field:
    if not isinstance(item, dict):
        raise UsageError(f"{where}: a field must be {{name, type}}.")
    name, text = item.get("name"), item.get("type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is not a field name (small letters, digits, _).")
    where = f"{where}, field {name}"
    match = _TYPE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(
            f"{where}: unknown type {text!r}. Known: uintN, intN, coins, address, bool, any [k] of them, ref."
        )
    kind, bits, count = match[1], match[2], match[3]
    _check_keys(item, {"name", "type", "fields"} if kind == "ref" else {"name", "type"}, where)
    _check_size(kind, bits, count, where)
    return Field(
        name=name,
        kind=kind,
        bits=int(bits or 0),
        count=int(count) if count else None,
        fields=_read_fields(item.get("fields", []), where) if kind == "ref" else (),
    )


def _check_size(kind: str, bits: str, count: str | None, where: str) -> None:
    if kind in ("uint", "int"):
        if not bits or not 1 <= int(bits) <= _MAX_BITS:
            raise UsageError(f"{where}: {kind} needs 1 to {_MAX_BITS} bits.")
    elif bits:
        raise UsageError(f"{where}: {kind} takes no number of bits.")
    if count is not None and (kind == "ref" or not 1 <= int(count) <= _MAX_COUNT):
        raise UsageError(f"{where}: an array has 1 to {_MAX_COUNT} elements and holds no refs.")


def flatten(fields: tuple[Field, ...]) -> list[Field]:
    """All fields that carry a value, those inside refs too, in reading order."""
    found: list[Field] = []
    for field in fields:
        found += flatten(field.fields) if field.kind == "ref" else [field]
    return found


def _check_names(fields: tuple[Field, ...], event_type: str, where: str) -> None:
    names = [field.name for field in flatten(fields)]
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two fields have the same name.")
    needed = set(EVENT_TYPES[event_type].__struct_fields__)
    if set(names) != needed:
        raise UsageError(
            f"{where}: its fields are not those of {event_type}: "
            f"missing {sorted(needed - set(names))}, unknown {sorted(set(names) - needed)}."
        )


def _read_code(table: object) -> dict[str, bytes]:
    if not isinstance(table, dict):
        raise UsageError("[code] must map contract kinds to code hashes.")
    code: dict[str, bytes] = {}
    for kind, text in table.items():
        if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", text):
            raise UsageError(f"[code] {kind}: a code hash is 64 hexadecimal digits.")
        code[kind] = bytes.fromhex(text)
    return code


def _check_keys(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise UsageError(f"{where}: unknown keys {', '.join(unknown)}.")
