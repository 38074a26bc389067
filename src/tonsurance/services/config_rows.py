"""What the configuration's readers get: values, versions, parameters and audit rows, from their stored form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.core.parameters.declaration import Key, Kind, Parameter, freeze, parse_value, thaw
from tonsurance.core.parameters.registry import PARAMETERS, REGISTRY
from tonsurance.core.params import DEFAULT_PARAMS, InvalidParameters, Params, build_params, hash_values
from tonsurance.db.config import StoredAudit, StoredParameter, StoredVersion
from tonsurance.services.config_plan import Change, is_note, note_name

_WHOLE_LIMIT = 2**63
"""Whole numbers from here on are refused, so one that is stored was a float."""


class UnknownVersion(InputError):
    """There is no such version of the configuration."""

    code = "unknown_version"


class ConfigDamaged(TonsuranceError):
    """A stored version of the configuration cannot be used."""

    code = "config_damaged"


class ParameterRow(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter: what it is and the value that holds, as plain JSON. `id`, time and person are None, and `version`
    is 0, while it was never stored.
    """

    id: int | None
    category: str
    key: str
    value_type: str
    value_data: object
    description: str | None
    last_updated_at: datetime | None
    updated_by: str | None
    version: int
    default: object
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    chain_owned: bool
    money: bool
    custom: bool
    awaited_by: str | None


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One version. `values` (category -> key -> value, plain JSON) is None in lists."""

    version: int
    created_at: datetime
    author: str
    reason: str
    kind: str
    hash: str
    values: Mapping[str, Mapping[str, object]] | None = None


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the audit log, values as plain JSON."""

    id: int
    config_id: int | None
    category: str
    key: str
    action: str
    old_value: object
    new_value: object
    changed_by: str
    role: str
    changed_at: datetime
    change_reason: str
    kind: str
    client_ip: str | None
    request_id: str | None
    dry_run: bool
    emergency: bool
    version: int


def read_values(text: str) -> dict[Key, object]:
    """Values by name from the JSON of a version."""
    nested: dict[str, dict[str, object]] = json.loads(text)
    return {(category, key): value for category, keys in nested.items() for key, value in keys.items()}


def write_values(values: Mapping[Key, object]) -> str:
    """The JSON of a version from values by name."""
    nested: dict[str, dict[str, object]] = {}
    for (category, key), value in values.items():
        nested.setdefault(category, {})[key] = value
    return json.dumps(nested, allow_nan=False)


def default_values() -> dict[Key, object]:
    """What holds when nothing was ever stored, as plain JSON."""
    return {name: thaw(value) for name, value in DEFAULT_PARAMS.values.items()}


def build_version(stored: StoredVersion | None) -> Params:
    """The parameters of a stored version; None: the defaults.

    Raises ConfigDamaged, saying everything that is wrong, when its values cannot be used or are not those written.
    """
    if stored is None:
        return DEFAULT_PARAMS
    if hash_stored(stored) != stored.hash:
        raise ConfigDamaged(f"Version {stored.version} was changed after it was written: its hash does not fit.")
    try:
        return build_params(read_values(stored.values), stored.version)
    except InvalidParameters as error:
        raise ConfigDamaged(f"Version {stored.version} cannot be used: {error.message}") from error


def hash_stored(stored: StoredVersion) -> str:
    """The hash of a version's values as they are stored now."""
    return hash_values({name: freeze(value) for name, value in read_values(stored.values).items()})


def compare_values(old: Mapping[Key, object], new: Mapping[Key, object]) -> tuple[Change, ...]:
    """Which parameters differ, by name."""
    return tuple(
        Change(*name, _action(name, old, new), old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if not is_note(name) and (name not in old or name not in new or not same_json(old[name], new[name]))
    )


class Note(msgspec.Struct, frozen=True):
    """Type and description of a parameter that people added."""

    value_type: str
    description: str | None = None


def read_note(name: Key, values: Mapping[Key, object], row: StoredParameter | None) -> Note:
    """What a parameter is that people added: as the version says; of a version that does not say it yet, as it is
    stored now, else as the value looks."""
    told = values.get(note_name(name))
    if told is not None:
        return msgspec.convert(told, Note)
    if row is not None and row.custom and _fits(row.value_type, values.get(name)):
        return Note(row.value_type, row.description)
    return Note(_kind_of(values.get(name)))


def _fits(kind: str, value: object) -> bool:
    parameter = Parameter(category="", key="", kind=Kind(kind), default=None, unit="", meaning="")
    return not parse_value(parameter, value)[1]


def _kind_of(value: object) -> str:
    """The type a value looks like. What does not fit 64 bits was no whole number."""
    kinds = {bool: "bool", int: "int", float: "float", str: "string"}
    kind = kinds.get(type(value), "json")
    return "float" if kind == "int" and not _fits(kind, value) else kind


def refit_value(kind: str, value: object) -> object:
    """A stored value in its type again: the database writes large floats as whole numbers."""
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        return {name: refit_value("json", inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [refit_value("json", inner) for inner in value]
    return float(value) if isinstance(value, int) and abs(value) >= _WHOLE_LIMIT else value


def same_json(one: object, other: object) -> bool:
    """Whether two plain JSON values are the same; 1, 1.0 and true are not."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def same_json_text(text: str, value: object) -> bool:
    """Whether JSON text says this value."""
    return same_json(json.loads(text), value)


def describe_parameters(
    stored: tuple[StoredParameter, ...], values: Mapping[Key, object], category: str | None
) -> tuple[ParameterRow, ...]:
    """All parameters by name, or those of a category: what is declared, and what people added."""
    rows = {(row.category, row.key): row for row in stored}
    held = {name for name in values if not is_note(name)}
    names = sorted({parameter.name for parameter in PARAMETERS} | rows.keys() | held)
    return tuple(
        describe_parameter(name, REGISTRY.get(name), rows.get(name), values)
        for name in names
        if category is None or name[0] == category
    )


def show_version(row: StoredVersion, *, with_values: bool) -> VersionRow:
    """A stored version for people."""
    return VersionRow(
        version=row.version,
        created_at=row.created_at,
        author=row.author,
        reason=row.reason,
        kind=row.kind,
        hash=row.hash,
        values=json.loads(row.values) if with_values else None,
    )


def show_audit(row: StoredAudit) -> AuditRow:
    """A stored audit row for people."""
    fields: dict[str, Any] = {name: getattr(row, name) for name in AuditRow.__struct_fields__}
    for name in ("old_value", "new_value"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    if row.client_ip is not None:
        fields["client_ip"] = row.client_ip.removesuffix("/32").removesuffix("/128")
    return AuditRow(**fields)


def describe_derived(name: Key, params: Params) -> ParameterRow:
    """A name that is made of others: all of a tranche as JSON."""
    made = Parameter(
        category=name[0],
        key=name[1],
        kind=Kind.JSON,
        default=None,
        unit="",
        meaning="Made of the tranche's other parameters; read only.",
    )
    row = describe_parameter(name, made, None, {name: thaw(params.value(*name))})
    return msgspec.structs.replace(row, version=params.version)


def _action(name: Key, old: Mapping[Key, object], new: Mapping[Key, object]) -> str:
    if name not in old:
        return "create"
    return "set" if name in new else "delete"


def describe_parameter(
    name: Key, parameter: Parameter | None, row: StoredParameter | None, values: Mapping[Key, object]
) -> ParameterRow:
    """One parameter for people."""
    return ParameterRow(
        id=None if row is None else row.id or None,
        category=name[0],
        key=name[1],
        value_type=_kind(parameter, row),
        value_data=values.get(name, None if parameter is None else thaw(parameter.default)),
        description=parameter.meaning if parameter is not None else row.description if row is not None else None,
        last_updated_at=None if row is None else row.last_updated_at,
        updated_by=None if row is None else row.updated_by,
        version=0 if row is None else row.version,
        default=None if parameter is None else thaw(parameter.default),
        unit="" if parameter is None else parameter.unit,
        low=None if parameter is None else parameter.low,
        high=None if parameter is None else parameter.high,
        choices=() if parameter is None else parameter.choices,
        chain_owned=parameter is not None and parameter.chain_owned,
        money=parameter is not None and parameter.money,
        custom=parameter is None,
        awaited_by=None if parameter is None else parameter.awaited_by,
    )


def _kind(parameter: Parameter | None, row: StoredParameter | None) -> str:
    if parameter is not None:
        return parameter.kind.value
    return "json" if row is None else row.value_type
