"""Event layouts as data: which message of which contract kind is which event, field by field.

A layout is a TOML file. An [[event]] names its contract kind, what it is recognised by (`op`: the first 32 bits of an
external body; `destination`: the external address of 256 bits; `incoming`: the op of an incoming message, where the
contract logs nothing), and either one of our types (`type`) or a name of its own (`name`), which may say what it means
to us (`canonical`). Reading a layout checks everything that could only fail later: types, names, duplicates, ids.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from tonsurance.chain.canonical import Canonical, check_names, check_value, read_canonical
from tonsurance.chain.layout_fields import Field, IdMap, check_keys, flatten, is_number, read_fields, read_maps
from tonsurance.core.errors import UsageError
from tonsurance.core.events import EVENT_TYPES

DEFAULT_LAYOUT = "tonsurance"
OP_BITS = 32
DESTINATION_BITS = 256
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_MAX_FILE_BYTES = 1024 * 1024
_PLACES = {"op": OP_BITS, "destination": DESTINATION_BITS, "incoming": OP_BITS}
"""What recognises an event, and how many bits it has."""


class EventLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `op` is the number that recognises it: of the body, or the external destination.

    After the op (a body with a destination has none) the body holds exactly these fields. `type` is the name the layout
    gives it: of one of our types, unless `is_own`; then `canonical` says what it means to us, if anything. `taken` are
    fields of the incoming message's header, `mapped` those whose ids have another number here.
    """

    contract: str
    op: int
    type: str
    fields: tuple[Field, ...]
    taken: tuple[Field, ...] = ()
    mapped: tuple[Field, ...] = ()
    is_own: bool = False
    canonical: Canonical | None = None


_Events = dict[tuple[str, int], EventLayout]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of contracts: its events by (contract kind, number) and the hashes of its code by kind.

    `events` are recognised by the op of an external body, `logs` by the external destination, `incoming` by the op of
    the incoming message.
    """

    name: str
    events: _Events
    code: dict[str, bytes]
    logs: _Events = {}
    incoming: _Events = {}
    kinds: tuple[str, ...] = ()

    def derives(self, kind: str) -> bool:
        """Whether incoming messages of this kind of contract can be events."""
        return any(contract == kind for contract, _ in self.incoming)


def list_layouts() -> tuple[str, ...]:
    """The names of the layouts shipped with the package."""
    folder = resources.files("tonsurance.chain").joinpath("layouts")
    return tuple(sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".toml")))


def load_layout(source: str | Path = DEFAULT_LAYOUT) -> Layout:
    """A layout shipped with the package, by name, or any file, by path. Raises UsageError saying what is wrong."""
    text = _read_text(source)
    try:
        return parse_layout(text)
    except UsageError as error:
        raise UsageError(f"{source}: {error.message}", advice=error.advice) from error


def _read_text(source: str | Path) -> str:
    shipped = list_layouts()
    try:
        if str(source) in shipped:
            return resources.files("tonsurance.chain").joinpath("layouts", f"{source}.toml").read_text("utf-8")
        with Path(source).open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise UsageError(f"The layout {source} is larger than {_MAX_FILE_BYTES} bytes.")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The layout {source} cannot be read: {error}.", advice=f"Known by name: {', '.join(shipped)}."
        ) from error


def parse_layout(text: str) -> Layout:
    """A layout from TOML text. Raises UsageError saying what is wrong and where."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The layout is not valid TOML: {error}") from error
    check_keys(document, {"name", "event", "code", "map"}, "The layout")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError("The layout needs a name.")
    maps = read_maps(document.get("map", {}))
    found = _read_events(document.get("event"), maps)
    kinds = sorted({kind for events in found.values() for kind, _ in events})
    return Layout(
        name=name,
        events=found["op"],
        logs=found["destination"],
        incoming=found["incoming"],
        code=_read_code(document.get("code", {})),
        kinds=tuple(kinds),
    )


def check_kind(layout: Layout, kind: str) -> None:
    """Raises UsageError for a kind of contract the layout says nothing of."""
    if kind not in layout.kinds:
        raise UsageError(
            f"The layout {layout.name} knows no contract kind {kind[:64]!r}.",
            advice=f"Known: {', '.join(layout.kinds)}.",
        )


def _read_events(tables: object, maps: dict[str, IdMap]) -> dict[str, _Events]:
    """The events by what recognises them."""
    if not isinstance(tables, list) or not tables:
        raise UsageError("The layout needs at least one [[event]].")
    found: dict[str, _Events] = {place: {} for place in _PLACES}
    for table in tables:
        place, event = _read_event(table, maps)
        key = (event.contract, event.op)
        other = found[place].get(key)
        if other is not None:
            raise UsageError(f"{event.type} and {other.type} of {event.contract} have the same {place} {event.op:#x}.")
        found[place][key] = event
    return found


def _read_event(table: object, maps: dict[str, IdMap]) -> tuple[str, EventLayout]:
    if not isinstance(table, dict):
        raise UsageError("Every event must be a table: [[event]].")
    where = f"Event {table.get('type', table.get('name', '?'))}"
    check_keys(table, {"contract", *_PLACES, "type", "name", "fields", "canonical"}, where)
    contract = table.get("contract")
    if not isinstance(contract, str) or not contract:
        raise UsageError(f"{where} names no contract.")
    where = f"{where} of {contract}"
    place, number = _read_place(table, where)
    fields = read_fields(table.get("fields", []), maps, where, op_bits=0 if place == "destination" else OP_BITS)
    if place != "incoming" and any(field.header for field in fields):
        raise UsageError(f"{where}: only an event of an incoming message has a sender and a value.")
    read = _read_own if "name" in table else _read_ours
    return place, read(table, EventLayout(contract=contract, op=number, type="", fields=fields), where)


def _read_place(table: dict[str, Any], where: str) -> tuple[str, int]:
    """What recognises the event, and its number."""
    given = [place for place in _PLACES if place in table]
    if len(given) != 1:
        raise UsageError(f"{where}: it needs exactly one of {', '.join(_PLACES)}.")
    place, number = given[0], table[given[0]]
    if not is_number(number) or not 0 <= number < 2 ** _PLACES[place]:
        raise UsageError(f"{where}: {place} must be a number of {_PLACES[place]} bits.")
    return place, number


def _read_ours(table: dict[str, Any], event: EventLayout, where: str) -> EventLayout:
    """An event that is one of our types as it stands."""
    event_type = table.get("type")
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        raise UsageError(
            f"{where}: there is no such event type. Known: {', '.join(EVENT_TYPES)}. Any other is given by `name`."
        )
    if "canonical" in table:
        raise UsageError(f"{where}: it is one of our types; canonical stands beside a name of its own.")
    annotations = {field.name: field.type for field in msgspec.structs.fields(EVENT_TYPES[event_type])}
    check_names([field.name for field in flatten(event.fields)], event_type, where)
    fields = _mark_hex(event.fields, {name for name, wanted in annotations.items() if wanted is str})
    for field in flatten(fields):
        check_value(field, field.name, annotations[field.name], f"{where}, field {field.name}")
    return _complete(event, fields, type=event_type)


def _read_own(table: dict[str, Any], event: EventLayout, where: str) -> EventLayout:
    """An event with a name and fields of its own."""
    name = table["name"]
    if "type" in table:
        raise UsageError(f"{where}: it has either a type, which is one of ours, or a name of its own.")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is not an event's name (letters, digits, _).")
    canonical = None
    if "canonical" in table:
        canonical = read_canonical(table["canonical"], {field.name: field for field in flatten(event.fields)}, where)
    return _complete(event, event.fields, type=name, is_own=True, canonical=canonical)


def _complete(event: EventLayout, fields: tuple[Field, ...], **known: Any) -> EventLayout:
    return msgspec.structs.replace(
        event,
        fields=tuple(field for field in fields if not field.header),
        taken=tuple(field for field in fields if field.header),
        mapped=tuple(field for field in flatten(fields) if field.ids is not None),
        **known,
    )


def _mark_hex(fields: tuple[Field, ...], texts: set[str]) -> tuple[Field, ...]:
    return tuple(
        msgspec.structs.replace(
            field,
            as_hex=field.kind == "uint" and field.name in texts,
            fields=_mark_hex(field.fields, texts),
        )
        for field in fields
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
