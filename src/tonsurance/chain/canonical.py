"""How an event that has its own name and fields becomes one of our types: renames, id maps, constants, times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tonsurance.chain.layout_fields import Field, check_keys, fits, is_number
from tonsurance.core.catalog import TRANCHES
from tonsurance.core.errors import DecodeError, UsageError
from tonsurance.core.events import EVENT_TYPES
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS

_BLOCK_TIME = "block_time"
_KNOWN_IDS = {
    "coverage_type": range(len(COVERAGE_TYPES)),
    "chain_id": range(len(CHAINS)),
    "stablecoin_id": range(len(STABLECOINS)),
    "tranche_id": range(1, len(TRANCHES) + 1),
}
"""Fields of our types that hold an id of a catalogue, and the ids there are."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where one field of our type comes from: a constant, or a field or the block's time, plus `times` another one.

    `field` is empty for the block's time; `plus` is empty when nothing is added.
    """

    constant: Any = None
    field: str = ""
    plus: str = ""
    times: int = 1
    is_wide: bool = False

    def take(self, values: Mapping[str, Any], block_time: int) -> Any:
        """The value, from the event's fields with their ids mapped."""
        if self.constant is not None:
            return self.constant
        value = values[self.field] if self.field else block_time
        return value + values[self.plus] * self.times if self.plus else value


class Canonical(msgspec.Struct, frozen=True, kw_only=True):
    """One of our types, what fills its fields, and which of them the chain does not say.

    With anything missing it says what an event means to us; only a whole one can be posted.
    """

    type: str
    sources: dict[str, Source]
    missing: tuple[str, ...]

    def fill(self, values: Mapping[str, Any], block_time: int) -> dict[str, Any]:
        """The fields of our type, but for the missing ones. Raises DecodeError for no address: ours always have one."""
        filled = {name: source.take(values, block_time) for name, source in self.sources.items()}
        for name, value in filled.items():
            if value is None:
                raise DecodeError(f"{self.type}: {name} is no address.")
        return filled


def read_canonical(table: object, fields: Mapping[str, Field], where: str) -> Canonical:
    """The `canonical` of an event with these fields. Raises UsageError saying what is wrong."""
    where = f"{where}, canonical"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: it must be a table with a type and fields.")
    check_keys(table, {"type", "fields", "missing"}, where)
    event_type, given, missing = table.get("type"), table.get("fields", {}), table.get("missing", [])
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        raise UsageError(f"{where}: there is no such event type. Known: {', '.join(EVENT_TYPES)}.")
    if not isinstance(given, dict):
        raise UsageError(f"{where}: fields must be a table of our names.")
    if not isinstance(missing, list) or not all(isinstance(name, str) for name in missing):
        raise UsageError(f"{where}: missing must be a list of names.")
    check_names([*given, *missing], event_type, where)
    annotations = {field.name: field.type for field in msgspec.structs.fields(EVENT_TYPES[event_type])}
    sources = {
        name: _read_source(item, name, annotations[name], fields, f"{where}, field {name}")
        for name, item in given.items()
    }
    return Canonical(type=event_type, sources=sources, missing=tuple(missing))


def check_names(names: list[str], event_type: str, where: str) -> None:
    """Raises UsageError unless these are the fields of our type, each once."""
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two fields have the same name.")
    needed = set(EVENT_TYPES[event_type].__struct_fields__)
    if set(names) != needed:
        raise UsageError(
            f"{where}: its fields are not those of {event_type}: "
            f"missing {sorted(needed - set(names))}, unknown {sorted(set(names) - needed)}."
        )


def _read_source(item: object, name: str, wanted: Any, fields: Mapping[str, Field], where: str) -> Source:
    if isinstance(item, str):
        item = {"field": item}
    if not isinstance(item, dict):
        raise UsageError(f"{where}: it comes from the name of a field, {{value}}, {{field}} or {{from}}.")
    if "value" in item:
        return _read_constant(item, name, wanted, where)
    source = _read_sum(item, fields, where)
    if source.plus or not source.field:
        if wanted is not int:
            raise UsageError(f"{where}: a time or a sum is a number, and this is none.")
    else:
        check_value(fields[source.field], name, wanted, where)
    return source


def check_value(field: Field, name: str, wanted: Any, where: str) -> None:
    """Raises UsageError unless the field's values, and the ids it is mapped to, can stand in ours of this name."""
    if not fits(field, wanted):
        shown = wanted.__name__ if isinstance(wanted, type) else wanted
        raise UsageError(f"{where}: {field.kind} values do not fit {shown}.")
    for number in field.ids.ids.values() if field.ids else ():
        _check_id(name, number, where)


def _check_id(name: str, number: int, where: str) -> None:
    known = _KNOWN_IDS.get(name)
    if known is not None and number not in known:
        raise UsageError(f"{where}: there is no {name} {number}: {known[0]} to {known[-1]}.")


def _read_constant(item: dict[str, Any], name: str, wanted: Any, where: str) -> Source:
    check_keys(item, {"value"}, where)
    try:
        value = msgspec.convert(item["value"], wanted, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: the value does not fit: {error}.") from error
    if is_number(value):
        _check_id(name, value, where)
    return Source(constant=value, is_wide=is_number(value) and abs(value) > 2**53)


def _read_sum(item: dict[str, Any], fields: Mapping[str, Field], where: str) -> Source:
    check_keys(item, {"field", "from", "plus", "times"}, where)
    if ("field" in item) == ("from" in item):
        raise UsageError(f"{where}: it needs either field or from.")
    if "from" in item and item["from"] != _BLOCK_TIME:
        raise UsageError(f"{where}: from {item['from']!r} is not known. Known: {_BLOCK_TIME}.")
    times = item.get("times", 1)
    if not is_number(times) or ("times" in item and "plus" not in item):
        raise UsageError(f"{where}: times is a whole number beside plus.")
    used = [_find(item[key], fields, where) for key in ("field", "plus") if key in item]
    if "plus" in item and not all(_is_plain_number(field) for field in used):
        raise UsageError(f"{where}: only single numbers can be added.")
    return Source(
        field=item.get("field", ""),
        plus=item.get("plus", ""),
        times=times,
        is_wide=any(field.is_wide for field in used),
    )


def _find(name: object, fields: Mapping[str, Field], where: str) -> Field:
    found = fields.get(name) if isinstance(name, str) else None
    if found is None:
        raise UsageError(f"{where}: the event has no field {name!r}. It has: {', '.join(fields) or 'none'}.")
    return found


def _is_plain_number(field: Field) -> bool:
    return field.kind in ("uint", "int", "coins") and field.count is None
