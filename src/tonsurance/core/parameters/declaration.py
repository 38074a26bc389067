"""What a parameter is, and how a raw value becomes one of it, or a list of everything that is wrong with it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

import msgspec

Value: TypeAlias = "float | int | str | bool | tuple[Value, ...] | Mapping[str, Value] | None"
"""A parsed value. Lists and objects of JSON are tuples and read-only mappings; null only stands inside of them."""

Key: TypeAlias = tuple[str, str]
"""(category, key)"""

MAX_JSON_BYTES = 16 * 1024
MAX_JSON_DEPTH = 8
MAX_TEXT = 1_000
_INT_LIMIT = 2**63 - 1
_NAMELESS = object()


class Kind(StrEnum):
    """Type of a parameter, named as the database and the API name it."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    STRING = "string"
    JSON = "json"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter. Bounds include their ends. A JSON parameter with `fields` is an object of exactly these numbers,
    each within the bounds.

    `money` needs a second person to change it; `max_factor` is the largest change of one edit (2.0: to the double or
    the half), `max_step` the same as a difference, where 0 or less is possible, for each number of an object;
    `needs_override`: no edit of it is a small one, so it takes an admin's override; `chain_owned` is enforced by a
    contract and only shown here; `awaited_by` names the feature that will use it when none does yet.
    """

    category: str
    key: str
    kind: Kind
    default: Value
    unit: str
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    money: bool = False
    max_factor: float | None = None
    max_step: float | None = None
    needs_override: bool = False
    chain_owned: bool = False
    custom: bool = False
    awaited_by: str | None = None

    @property
    def name(self) -> Key:
        """(category, key)"""
        return (self.category, self.key)


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong with one parameter."""

    category: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.category}/{self.key}: {self.reason}"


def parse_value(parameter: Parameter, raw: object) -> tuple[Value, list[Problem]]:
    """The value of a parameter from decoded JSON, and what is wrong with it (then the value must not be used).

    Numbers are numbers, not text that looks like one; -0.0 becomes 0.0, so that equal values are stored equally.
    """
    value, reasons = _PARSERS[parameter.kind](parameter, raw)
    return value, [Problem(parameter.category, parameter.key, reason) for reason in reasons]


def _parse_float(parameter: Parameter, raw: object) -> tuple[Value, list[str]]:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None, [f"must be a number, not {_shown(raw)}"]
    try:
        value = float(raw) + 0.0  # -0.0 + 0.0 is 0.0
    except OverflowError:
        return None, ["is too large for a number"]
    if not math.isfinite(value):
        return None, [f"must be a finite number, not {value}"]
    return value, _out_of_bounds(parameter, value)


def _parse_int(parameter: Parameter, raw: object) -> tuple[Value, list[str]]:
    if isinstance(raw, float) and raw.is_integer() and abs(raw) <= 2**53:
        raw = int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        return None, [f"must be a whole number, not {_shown(raw)}"]
    if not -_INT_LIMIT <= raw <= _INT_LIMIT:
        return None, ["does not fit 64 bits"]
    return raw, _out_of_bounds(parameter, raw)


def _parse_bool(_: Parameter, raw: object) -> tuple[Value, list[str]]:
    return (raw, []) if isinstance(raw, bool) else (None, [f"must be true or false, not {_shown(raw)}"])


def _parse_string(parameter: Parameter, raw: object) -> tuple[Value, list[str]]:
    if not isinstance(raw, str):
        return None, [f"must be a text, not {_shown(raw)}"]
    if len(raw) > MAX_TEXT:
        return None, [f"has {len(raw)} characters; {MAX_TEXT} are allowed"]
    if not raw.isprintable():
        return None, ["must not hold control characters"]
    if parameter.choices:
        found = [choice for choice in parameter.choices if choice.casefold() == raw.casefold()]
        return (found[0], []) if found else (None, [f"must be one of {', '.join(parameter.choices)}"])
    return raw, []


def _parse_json(parameter: Parameter, raw: object) -> tuple[Value, list[str]]:
    reason = _check_size(raw)
    if reason is not None:
        return None, [reason]
    if parameter.fields:
        return _parse_fields(parameter, raw)
    return freeze(raw), []


def _parse_fields(parameter: Parameter, raw: object) -> tuple[Value, list[str]]:
    if not isinstance(raw, Mapping):
        return None, [f"must be an object with {', '.join(parameter.fields)}"]
    reasons = [f"{name} is missing" for name in parameter.fields if name not in raw]
    reasons += [f"{_shown(name)} is not known" for name in raw if name not in parameter.fields]
    values: dict[str, Value] = {}
    for name in parameter.fields:
        if name in raw:
            values[name], wrong = _parse_float(parameter, raw[name])
            reasons += [f"{name} {reason}" for reason in wrong]
    return MappingProxyType(values), reasons


def _check_size(raw: object) -> str | None:
    if _depth(raw) > MAX_JSON_DEPTH:
        return f"is nested deeper than {MAX_JSON_DEPTH} levels"
    if not all(_can_be_stored(part) for part in _parts(raw)):
        return "holds a control character, a number of more than 64 bits, or a name that is no text"
    try:
        text = json.dumps(raw, allow_nan=False)
    except (ValueError, TypeError):
        return "is not JSON, which has no NaN and no infinity"
    return None if len(text) <= MAX_JSON_BYTES else f"is longer than {MAX_JSON_BYTES} bytes"


def _depth(raw: object, limit: int = MAX_JSON_DEPTH + 1) -> int:
    """Levels of nesting, counted no further than the limit."""
    if limit == 0 or not isinstance(raw, Mapping | list | tuple):
        return 0
    inner = raw.values() if isinstance(raw, Mapping) else raw
    return 1 + max((_depth(value, limit - 1) for value in inner), default=0)


def _parts(raw: object) -> Iterator[object]:
    """All texts, numbers and names in a value of bounded depth."""
    if isinstance(raw, Mapping):
        for name, value in raw.items():
            yield name if isinstance(name, str) else _NAMELESS
            yield from _parts(value)
    elif isinstance(raw, list | tuple):
        for value in raw:
            yield from _parts(value)
    else:
        yield raw


def _can_be_stored(part: object) -> bool:
    if isinstance(part, str):
        return part.isprintable()
    return part is not _NAMELESS and not (isinstance(part, int) and abs(part) > _INT_LIMIT)


def _out_of_bounds(parameter: Parameter, value: float) -> list[str]:
    reasons = []
    if parameter.low is not None and value < parameter.low:
        reasons.append(f"is {value:g}; the least is {parameter.low:g} ({parameter.unit})")
    if parameter.high is not None and value > parameter.high:
        reasons.append(f"is {value:g}; the most is {parameter.high:g} ({parameter.unit})")
    return reasons


def _shown(raw: object) -> str:
    if isinstance(raw, int) and not -_INT_LIMIT <= raw <= _INT_LIMIT:
        return "a number of more than 64 bits"
    text = repr(raw)
    return text if len(text) <= 40 else f"{text[:37]}..."


def freeze(raw: object) -> Value:
    """Decoded JSON as a value that nobody can change."""
    if isinstance(raw, Mapping):
        return MappingProxyType({str(name): freeze(value) for name, value in raw.items()})
    if isinstance(raw, list | tuple):
        return tuple(freeze(value) for value in raw)
    if raw is None or isinstance(raw, str | int | float | bool):
        return raw
    raise TypeError(f"{type(raw).__name__} is not JSON")


def thaw(value: Value) -> object:
    """A value as plain JSON types."""
    if isinstance(value, Mapping):
        return {name: thaw(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [thaw(inner) for inner in value]
    return value


_PARSERS = {
    Kind.FLOAT: _parse_float,
    Kind.INT: _parse_int,
    Kind.BOOL: _parse_bool,
    Kind.STRING: _parse_string,
    Kind.JSON: _parse_json,
}
