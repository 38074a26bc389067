"""The business numbers as one frozen value. Everything published carries the version it was computed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import msgspec

from tonsurance.core.catalog import TRANCHES, Curve, Tranche, tranche_key
from tonsurance.core.errors import InputError, UnknownTranche
from tonsurance.core.parameters.declaration import Key, Problem, Value, freeze, parse_value, thaw
from tonsurance.core.parameters.registry import PARAMETERS, REGISTRY, unknown_parameter
from tonsurance.core.parameters.rules import check_rules

Plain = TypeVar("Plain", float, int, str, bool)


DERIVED_NAMES: Mapping[Key, str] = MappingProxyType(
    {("tranche", f"{tranche_key(tranche.tranche_id)}_config"): tranche.tranche_id for tranche in TRANCHES}
)
"""Names that are made of other parameters (all of one tranche as JSON), and the tranche each is of."""


class InvalidParameters(InputError):
    """These parameters cannot be used together."""

    code = "invalid_parameters"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a tranche, as ratios. `max_utilization` is enforced by the vault contract."""

    high_utilization: float
    max_utilization: float
    min_collateralization: float


class Params(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One version of all business parameters: every value, and the pieces calculations take.

    `hash` is SHA-256 over the values in canonical JSON, hex; two versions with equal values have the same.
    """

    version: int
    hash: str
    values: Mapping[Key, Value]
    derived: Mapping[Key, Value]
    tranches: tuple[Tranche, ...]
    thresholds: Thresholds
    tranche_by_id: Mapping[str, Tranche]

    def value(self, category: str, key: str) -> Value:
        """One value, also of the derived names. Raises UnknownParameter."""
        try:
            return self.values[category, key]
        except KeyError:
            return self._derived_value(category, key)

    def _derived_value(self, category: str, key: str) -> Value:
        if (category, key) not in self.derived:
            raise unknown_parameter(category, key)
        return self.derived[category, key]

    def tranche(self, tranche_id: str) -> Tranche:
        """The parameters of one tranche, by its shown id."""
        try:
            return self.tranche_by_id[tranche_id]
        except KeyError:
            raise UnknownTranche(tranche_id, tuple(self.tranche_by_id)) from None


def build_params(stored: Mapping[Key, object], version: int) -> Params:
    """One version from stored values (decoded JSON); what is not stored has its default.

    Names that are not declared are kept as they are (parameters people added). Raises InvalidParameters with
    everything that is wrong, not only the first.
    """
    values, problems = parse_values(stored)
    if problems:
        raise InvalidParameters(tuple(problems))
    tranches = tuple(_tranche(tranche, values) for tranche in TRANCHES)
    return Params(
        version=version,
        hash=hash_values(values),
        values=MappingProxyType(values),
        derived=_derive(tranches, values),
        tranches=tranches,
        thresholds=_thresholds(values),
        tranche_by_id=MappingProxyType({tranche.tranche_id: tranche for tranche in tranches}),
    )


def parse_values(stored: Mapping[Key, object]) -> tuple[dict[Key, Value], list[Problem]]:
    """All values by name, defaults included, and all that is wrong with them, alone and together."""
    values: dict[Key, Value] = {}
    problems: list[Problem] = []
    for parameter in PARAMETERS:
        if parameter.name not in stored:
            values[parameter.name] = parameter.default
            continue
        values[parameter.name], wrong = parse_value(parameter, stored[parameter.name])
        problems += wrong
    values |= {name: freeze(raw) for name, raw in stored.items() if name not in REGISTRY}
    return values, problems + check_rules(values)


def hash_values(values: Mapping[Key, Value]) -> str:
    """SHA-256 of the values in canonical JSON, hex."""
    plain = {f"{category}/{key}": thaw(value) for (category, key), value in values.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _take(values: Mapping[Key, Value], category: str, key: str, kind: type[Plain]) -> Plain:
    value = values[category, key]
    if not isinstance(value, kind):  # parse_values has checked it; this is for the type checker and for our mistakes
        raise TypeError(f"{category}/{key} is not of type {kind.__name__}.")
    return value


def _tranche(declared: Tranche, values: Mapping[Key, Value]) -> Tranche:
    key = tranche_key(declared.tranche_id)
    return msgspec.structs.replace(
        declared,
        apy_min_pct=_take(values, "tranche", f"{key}_apy_min", float),
        apy_max_pct=_take(values, "tranche", f"{key}_apy_max", float),
        curve=Curve(_take(values, "tranche", f"{key}_curve_type", str)),
        allocation_percent=_take(values, "tranche", f"{key}_allocation_percent", int),
        premium_percent=_take(values, "tranche", f"{key}_premium_percent", int),
    )


def _derive(tranches: tuple[Tranche, ...], values: Mapping[Key, Value]) -> Mapping[Key, Value]:
    by_id = {tranche.tranche_id: tranche for tranche in tranches}
    derived: dict[Key, Value] = {}
    for name, tranche_id in DERIVED_NAMES.items():
        tranche = by_id[tranche_id]
        derived[name] = MappingProxyType(
            {
                "tranche_id": tranche_id,
                "apy_min": tranche.apy_min_pct,
                "apy_max": tranche.apy_max_pct,
                "curve_type": tranche.curve.value,
                "allocation_percent": tranche.allocation_percent,
                "premium_percent": tranche.premium_percent,
                "risk_score": values["tranche", f"{tranche_key(tranche_id)}_risk_score"],
            }
        )
    return MappingProxyType(derived)


def _thresholds(values: Mapping[Key, Value]) -> Thresholds:
    return Thresholds(
        high_utilization=_take(values, "risk", "high_utilization", float),
        max_utilization=_take(values, "risk", "max_utilization", float),
        min_collateralization=_take(values, "risk", "min_collateralization", float),
    )


DEFAULT_PARAMS = build_params({}, version=1)
"""What holds when nothing was ever configured."""
