"""What edits of parameters would lead to, and every reason to refuse them. Writes nothing and reads nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

from tonsurance.core.errors import InputError
from tonsurance.core.parameters.declaration import MAX_TEXT, Key, Kind, Parameter, Problem, parse_value, thaw
from tonsurance.core.parameters.registry import REGISTRY, UnknownParameter
from tonsurance.core.params import DERIVED_NAMES, InvalidParameters, parse_values

EDITS_PER_HOUR = 20
"""Cage: how often one parameter may be edited within an hour."""
MAX_CUSTOM = 500
"""How many parameters people may add."""

NOTES = "_added"
"""Category of the entries that tell type and description of the parameters people added: they stand among a version's
values, so that its hash covers them. No parameter can have it."""

_ROUNDING = 1e-9

Action: TypeAlias = Literal["set", "create", "reset", "delete"]

_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,49}")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


class Refused(InputError):
    """The edit is refused. `problems` names the parameters."""

    def __init__(self, message: str | None = None, *, problems: tuple[Problem, ...] = ()) -> None:
        self.problems = problems
        super().__init__(message or "; ".join(str(problem) for problem in problems) or None)


class ChainOwned(Refused):
    """A contract enforces this parameter; it is changed on chain."""

    code = "chain_owned"


class ParameterExists(Refused):
    """There is a parameter of this name already."""

    code = "parameter_exists"


class ConfigConflict(Refused):
    """Somebody else changed it in the meantime."""

    code = "config_conflict"


class CageExceeded(Refused):
    """The change is larger, or comes more often, than one edit may."""

    code = "cage_exceeded"


class EmergencyRefused(InputError):
    """Only an admin may override the cage."""

    code = "forbidden"


class Actor(msgspec.Struct, frozen=True):
    """Who acts, with which role, and where from."""

    sub: str
    role: str
    client_ip: str | None = None
    request_id: str | None = None


class Edit(msgspec.Struct, frozen=True):
    """One wish. `kind` (float, int, bool, string, json) and `description` belong to `create`; a rollback also sets them
    where a parameter that people added has others by now.
    """

    category: str
    key: str
    action: Action
    value: object = None
    kind: str | None = None
    description: str | None = None

    @property
    def name(self) -> Key:
        """(category, key)"""
        return (self.category, self.key)


class Change(msgspec.Struct, frozen=True):
    """One parameter before and after, as plain JSON. A created one has no `old`, a deleted one no `new` (None)."""

    category: str
    key: str
    action: str
    old: object
    new: object

    @property
    def name(self) -> Key:
        """(category, key)"""
        return (self.category, self.key)


class Known(msgspec.Struct, frozen=True):
    """What is stored about a parameter: its type, the version that changed it last, and its edits in the last hour."""

    kind: str
    version: int
    custom: bool = False
    description: str | None = None
    recent_edits: int = 0


class Standing(msgspec.Struct, frozen=True):
    """The values that hold (plain JSON), their version, and what is known about the edited parameters."""

    version: int
    values: Mapping[Key, object]
    known: Mapping[Key, Known]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On which terms edits are made. `rollback` passes the cage's step: its values have held before; `emergency`
    passes the whole cage; `chain` writes what a contract enforces, and nothing else.
    """

    kind: str = "edit"
    expected_version: int | None = None
    emergency: bool = False


class Draft(msgspec.Struct, frozen=True):
    """The values after the edits (plain JSON), what changes, the declarations of the edited parameters, and every
    reason to refuse the edits: when there is one, the values must not be used.
    """

    values: Mapping[Key, object]
    changes: tuple[Change, ...]
    declared: Mapping[Key, Parameter]
    refusals: tuple[Refused | InvalidParameters, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All reasons as problems of single parameters."""
        return tuple(problem for refusal in self.refusals for problem in getattr(refusal, "problems", ()))

    @property
    def refusal(self) -> InputError | None:
        """The gravest reason as an error that names all of them; None when there is none."""
        return _refuse(type(self.refusals[0]), self.problems) if self.refusals else None


def draft_edits(edits: tuple[Edit, ...], standing: Standing, terms: Terms) -> Draft:
    """What the edits would lead to. Raises UnknownParameter."""
    declared = {edit.name: _find(edit, standing) for edit in edits}
    after: dict[Key, object] = dict(standing.values)
    changes = tuple(_apply(edit, declared[edit.name], after) for edit in edits)
    wrong = [*_check_edits(edits, standing), *_check_parsed(changes, declared)]
    _, problems = parse_values(after)
    groups: tuple[tuple[type[Refused | InvalidParameters], list[Problem]], ...] = (
        (ChainOwned, list(_check_owner(changes, declared, terms))),
        (ParameterExists, list(_check_new(edits, standing))),
        (ConfigConflict, list(_check_version(edits, standing, terms))),
        (InvalidParameters, [*wrong, *(problem for problem in problems if problem not in wrong)]),
        (CageExceeded, list(_check_cage(changes, declared, standing, terms))),
    )
    refusals = (_refuse(kind, tuple(found)) for kind, found in groups if found)
    return Draft(after, changes, declared, tuple(refusals))


def _refuse(kind: type[Refused | InvalidParameters], problems: tuple[Problem, ...]) -> Refused | InvalidParameters:
    return InvalidParameters(problems) if issubclass(kind, InvalidParameters) else kind(problems=problems)


def _find(edit: Edit, standing: Standing) -> Parameter:
    """The declaration of an edited parameter; of one that people add, or added, made up from what they said."""
    declared = REGISTRY.get(edit.name)
    if declared is not None:
        return declared
    known = standing.known.get(edit.name)
    if known is None and edit.action != "create":
        raise UnknownParameter(f"There is no parameter {edit.category[:64]}/{edit.key[:128]}.")
    kind, meaning = edit.kind, edit.description
    if known is not None:
        kind, meaning = kind or known.kind, known.description if meaning is None else meaning
    return Parameter(
        category=edit.category,
        key=edit.key,
        kind=Kind(kind) if kind in set(Kind) else Kind.JSON,
        default=None,
        unit="",
        meaning=meaning or "",
        custom=True,
    )


def _apply(edit: Edit, parameter: Parameter, after: dict[Key, object]) -> Change:
    """Put one edit into the values; what it does."""
    old = after.get(edit.name)
    if edit.action == "delete":
        after.pop(edit.name, None)
        after.pop(note_name(edit.name), None)
        return Change(edit.category, edit.key, edit.action, old, None)
    new = thaw(parameter.default) if edit.action == "reset" else edit.value
    parsed, problems = parse_value(parameter, new)
    if not problems:
        new = thaw(parsed)
    if not problems or not parameter.custom:  # a bad value of a declared one is found again among all values
        after[edit.name] = new
    if parameter.custom and not problems:
        after[note_name(edit.name)] = write_note(parameter.kind, parameter.meaning or None)
    return Change(edit.category, edit.key, edit.action, old, new)


def _check_edits(edits: tuple[Edit, ...], standing: Standing) -> Iterator[Problem]:
    """Edits that make no sense whatever their value is."""
    seen: set[Key] = set()
    for edit in edits:
        if edit.name in seen:
            yield Problem(*edit.name, "is edited twice")
        seen.add(edit.name)
        declared = edit.name in REGISTRY
        if edit.action == "delete" and declared:
            yield Problem(*edit.name, "is declared and cannot be deleted; it can be reset")
        if edit.action == "reset" and not declared:
            yield Problem(*edit.name, "has no default; it can be deleted")
        if edit.action == "create" and not declared:
            yield from _check_creation(edit)
    added = sum(is_added(name) for name in standing.values) + sum(edit.action == "create" for edit in edits)
    if added > MAX_CUSTOM:
        yield Problem("*", "*", f"{MAX_CUSTOM} parameters may be added; this would be number {added}")


def is_name(name: Key) -> bool:
    """Whether a parameter could be called so."""
    return _CATEGORY.fullmatch(name[0]) is not None and _KEY.fullmatch(name[1]) is not None


def is_note(name: Key) -> bool:
    """Whether a name among a version's values is no parameter, but tells of one that people added."""
    return name[0] == NOTES


def is_added(name: Key) -> bool:
    """Whether people added this parameter."""
    return name not in REGISTRY and not is_note(name)


def note_name(name: Key) -> Key:
    """Where a version tells of a parameter that people added."""
    return (NOTES, "/".join(name))


def write_note(kind: str, description: str | None) -> dict[str, object]:
    """What a version tells of a parameter that people added."""
    return {"value_type": str(kind), "description": description}


def _check_creation(edit: Edit) -> Iterator[Problem]:
    category, key = edit.category[:64], edit.key[:128]
    if not _CATEGORY.fullmatch(edit.category):
        yield Problem(category, key, "the category has 1 to 50 of a-z, 0-9 and _, a letter first")
    if not _KEY.fullmatch(edit.key):
        yield Problem(category, key, "the key has 1 to 100 of A-Z, a-z, 0-9 and _, a letter first")
    if edit.kind not in set(Kind):
        yield Problem(category, key, f"the type is one of {', '.join(Kind)}")
    if edit.description and (len(edit.description) > MAX_TEXT or not edit.description.isprintable()):
        yield Problem(category, key, f"the description has at most {MAX_TEXT} characters, without control characters")


def _check_parsed(changes: tuple[Change, ...], declared: Mapping[Key, Parameter]) -> Iterator[Problem]:
    """Values of added parameters; those of declared ones are checked with all others."""
    for change in changes:
        parameter = declared[change.name]
        if parameter.custom and change.action != "delete":
            yield from parse_value(parameter, change.new)[1]


def _check_owner(changes: tuple[Change, ...], declared: Mapping[Key, Parameter], terms: Terms) -> Iterator[Problem]:
    for change in changes:
        owned = declared[change.name].chain_owned
        if owned and terms.kind != "chain":
            yield Problem(*change.name, "is enforced by a contract; it is changed by an admin message on chain")
        if not owned and terms.kind == "chain":
            yield Problem(*change.name, "is not enforced by a contract")


def _check_new(edits: tuple[Edit, ...], standing: Standing) -> Iterator[Problem]:
    for edit in edits:
        taken = edit.name in REGISTRY or edit.name in standing.values or edit.name in DERIVED_NAMES
        if edit.action == "create" and taken:
            yield Problem(*edit.name, "exists already")


def _check_version(edits: tuple[Edit, ...], standing: Standing, terms: Terms) -> Iterator[Problem]:
    """What was changed after the version the editor saw."""
    seen = terms.expected_version
    if seen is None:
        return
    if seen > standing.version:
        yield Problem("*", "*", f"version {seen} does not exist; the newest is {standing.version}")
    for edit in edits:
        known = standing.known.get(edit.name)
        if known is not None and known.version > seen:
            yield Problem(*edit.name, f"was changed by version {known.version}, after version {seen}")
        if known is None and edit.name not in REGISTRY and edit.action != "create":
            yield Problem(*edit.name, "is not there any more")


def _check_cage(
    changes: tuple[Change, ...], declared: Mapping[Key, Parameter], standing: Standing, terms: Terms
) -> Iterator[Problem]:
    """How far and how often one parameter may be changed."""
    if terms.emergency or terms.kind in ("rollback", "chain", "seed"):
        return
    for change in changes:
        parameter, known = declared[change.name], standing.known.get(change.name)
        if parameter.needs_override and terms.kind == "edit" and change.new != change.old:
            yield Problem(*change.name, "is changed by an admin's emergency override alone")
        if known is not None and known.recent_edits >= EDITS_PER_HOUR:
            yield Problem(
                *change.name, f"was changed {known.recent_edits} times within an hour; the most is {EDITS_PER_HOUR}"
            )
        if parse_value(parameter, change.new)[1]:  # refused for its value already
            continue
        factor = _factor(change, parameter)
        if parameter.max_factor is not None and factor > parameter.max_factor:
            yield Problem(
                *change.name,
                f"would change by a factor of {factor:g}; the most of one edit is {parameter.max_factor:g}",
            )
        yield from _check_step(change, parameter)


def _check_step(change: Change, parameter: Parameter) -> Iterator[Problem]:
    """How far a number, or each number of an object, may go in one edit."""
    if parameter.max_step is None:
        return
    old = _numbers(thaw(parameter.default) if change.old is None else change.old)
    for member, value in _numbers(change.new).items():
        step = abs(value - old.get(member, value))
        if step > parameter.max_step * (1 + _ROUNDING):
            yield Problem(
                *change.name,
                f"{member} would change by {step:g}; the most of one edit is {parameter.max_step:g}".lstrip(),
            )


def _numbers(value: object) -> dict[str, float]:
    """The numbers of an object by name, or a number alone."""
    named = value if isinstance(value, dict) else {"": value}
    return {name: float(number) for name, number in named.items() if isinstance(number, int | float)}


def _factor(change: Change, parameter: Parameter) -> float:
    """How many times one value is the other. From 0 it is measured against the default, unless that is 0 too."""
    old, new = change.old or thaw(parameter.default), change.new
    if not isinstance(old, int | float) or not isinstance(new, int | float) or not old or old == new:
        return 1.0
    return math.inf if new == 0 or (old < 0) != (new < 0) else max(new / old, old / new)
