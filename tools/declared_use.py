"""Holds the declared parameters against what the source reads: all are used or awaited by name, and none is unknown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from parameter_reads import DECLARATIONS, Module, Read, constants, find_reads, list_attributes, list_pairs

if TYPE_CHECKING:
    from tonsurance.core.parameters.declaration import Parameter

Key: TypeAlias = tuple[str, str]
REGISTRY_MODULE = f"{DECLARATIONS}registry.py"
RULES_MODULE = f"{DECLARATIONS}rules.py"
_SQL_READ = re.compile(r"config_number\('(\w+)', '(\w+)', ([0-9.]+)\)")


def check_use(modules: list[Module], mirrored: set[Key]) -> Iterator[str]:
    """Faults between the registry of the folder that is first on the path, and the modules of that folder."""
    from tonsurance.core.parameters import registry  # noqa: PLC0415 - which one is known only now
    from tonsurance.core.params import DERIVED_NAMES  # noqa: PLC0415

    by_name = {module.name: module for module in modules}
    if Path(registry.__file__ or "").resolve() != by_name[REGISTRY_MODULE].path.resolve():
        raise SystemExit(f"{registry.__file__} is not the registry of the folder to check")
    reads = find_reads(modules, registry.CATEGORIES)
    rules = list_pairs(by_name[RULES_MODULE], registry.CATEGORIES)
    yield from _check_keys([*reads, *rules], {*registry.REGISTRY, *DERIVED_NAMES})
    by_sql = list(_find_sql_reads(by_name[REGISTRY_MODULE].path))
    yield from _check_sql(by_sql, registry.REGISTRY)
    used = _list_used(reads, list_attributes(modules), set(registry.REGISTRY)) | mirrored
    used |= {key for _, key, _ in by_sql}
    places = _Places(modules)
    for parameter in registry.PARAMETERS:
        yield from _check_parameter(parameter, parameter.name in used, registry.AWAITED, places)
    waiting = {parameter.awaited_by for parameter in registry.PARAMETERS}
    for feature in registry.AWAITED:
        if feature not in waiting:
            at = places.find(by_name[REGISTRY_MODULE].name, feature)
            yield f"{at}: {feature!r}, a feature that no parameter waits for, take it out of AWAITED"


def _find_sql_reads(registry_path: Path) -> Iterator[tuple[str, Key, float]]:
    """Where migrations read a parameter, which, and the value they take until it was stored."""
    package = registry_path.parents[2]  # core/parameters/registry.py
    for path in sorted(package.glob("db/migrations/*.sql")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for category, key, otherwise in _SQL_READ.findall(line):
                yield f"{path}:{number}", (category, key), float(otherwise)


def _check_sql(reads: list[tuple[str, Key, float]], declared: Mapping[Key, Any]) -> Iterator[str]:
    for at, key, otherwise in reads:
        if key not in declared:
            yield f"{at}: {'/'.join(key)}, read but not declared, declare it in core/parameters"
        elif float(declared[key].default) != otherwise:
            yield f"{at}: {'/'.join(key)}, {otherwise:g} is not its default {declared[key].default}, make them equal"


def mirror_faults(modules: list[Module], mirrors: Mapping[tuple[str, str], Key]) -> Iterator[str]:
    """Constants of contracts that differ from the declared default they stand for."""
    from tonsurance.core.parameters.registry import REGISTRY  # noqa: PLC0415

    by_name = {module.name: module for module in modules}
    for (module_name, constant), key in mirrors.items():
        module = by_name[module_name]
        given = dict(constants(module.tree)).get(constant)
        default = REGISTRY[key].default if key in REGISTRY else None
        if given is None or ast.literal_eval(given) != default:
            line = 1 if given is None else given.lineno
            yield f"{module.path}:{line}: {constant}, differs from {'/'.join(key)} ({default}), make them equal"


def _check_keys(reads: Iterable[Read], known: set[Key]) -> Iterator[str]:
    for read in reads:
        if read.strict and not any(_matches(read, name) for name in known):
            what = f"{read.category}/{read.shown}"
            yield f"{read.module.path}:{read.line}: {what}, read but not declared, declare it in core/parameters"


def _list_used(reads: list[Read], attributes: set[str], declared: set[Key]) -> set[Key]:
    effective = [read for read in reads if read.attribute is None or read.attribute in attributes]
    return {name for name in declared if any(_matches(read, name) for read in effective)}


def _matches(read: Read, name: Key) -> bool:
    return read.category == name[0] and re.fullmatch(read.pattern, name[1]) is not None


def _check_parameter(parameter: Parameter, used: bool, awaited: tuple[str, ...], places: _Places) -> Iterator[str]:
    what = f"{places.find_parameter(parameter.name)}: {'/'.join(parameter.name)}"
    feature = parameter.awaited_by
    if feature is None and not used:
        yield f"{what}, declared but read nowhere, use it or say in awaited_by which feature will"
    elif feature is not None and used:
        yield f"{what}, read now but marked as awaited by {feature!r}, take the mark away"
    elif feature is not None and feature not in awaited:
        yield f"{what}, awaited by {feature!r}, which AWAITED does not list, name a listed feature"


class _Places:
    """Where the registry says something."""

    def __init__(self, modules: list[Module]) -> None:
        self._modules = [module for module in modules if module.name.startswith(DECLARATIONS)]

    def find(self, module_name: str, text: str) -> str:
        """`path:line` of a text in a module; line 1 when it is put together there."""
        for module in self._modules:
            if module.name == module_name:
                lines = [n.lineno for n in module.nodes if isinstance(n, ast.Constant) and n.value == text]
                return f"{module.path}:{min(lines, default=1)}"
        return module_name

    def find_parameter(self, name: Key) -> str:
        """`path:line` of a parameter's declaration."""
        category, key = name
        return self.find(f"{DECLARATIONS}{category}.py", key)
