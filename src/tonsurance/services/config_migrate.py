"""Loads the declared defaults into a database that has none, checks what is there, and says both in a report."""

from __future__ import annotations

from collections import Counter

import msgspec

from tonsurance.core.parameters.declaration import Key, parse_value
from tonsurance.core.parameters.registry import CATEGORIES, REGISTRY
from tonsurance.services.config_rows import ParameterRow
from tonsurance.services.config_store import Actor, ConfigStore
from tonsurance.services.datasets import Datasets

AUTHOR = Actor("config migrate", "system")


class CategoryCount(msgspec.Struct, frozen=True):
    """Parameters of one category: declared, stored, changed from their default, and added by people."""

    category: str
    declared: int
    stored: int
    changed: int
    custom: int


class ConfigReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded (parameters, historical depegs and stress scenarios), what is there, and all that is wrong with
    it."""

    dry_run: bool
    loaded: tuple[Key, ...]
    depegs: int
    scenarios: int
    version: int
    hash: str
    categories: tuple[CategoryCount, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all that is there can be used and is as it was written."""
        return not self.problems


async def migrate_config(store: ConfigStore, *, dry_run: bool = False, actor: Actor = AUTHOR) -> ConfigReport:
    """Load what is missing and check all. No value that holds changes; a second run changes nothing.

    Raises ConfigDamaged when the version that holds cannot be used: nothing is loaded then.
    """
    loaded = await store.seed(actor=actor, dry_run=dry_run)
    depegs, scenarios = await Datasets(store.pool, approvals=True).seed(dry_run=dry_run)
    rows = await store.list_parameters()
    params = await store.read()
    report = await store.verify()
    return ConfigReport(
        dry_run=dry_run,
        loaded=loaded,
        depegs=depegs,
        scenarios=scenarios,
        version=params.version,
        hash=params.hash,
        categories=_count(rows),
        problems=(*_check_rows(rows), *(str(fault) for fault in report.faults)),
    )


def report_lines(report: ConfigReport) -> tuple[str, ...]:
    """The report for people."""
    verb = "would be loaded" if report.dry_run else "loaded"
    stored = sum(count.stored for count in report.categories)
    lines = [
        "Configuration migration report",
        f"  parameters {verb}: {len(report.loaded)}",
        f"  parameters stored: {stored}",
        f"  historical depegs {verb}: {report.depegs}",
        f"  stress scenarios {verb}: {report.scenarios}",
        *(_category_line(count) for count in report.categories if count.declared or count.custom),
        f"  version: {report.version}",
        f"  hash: {report.hash}",
        f"  validation: {'passed' if report.ok else f'{len(report.problems)} problems'}",
    ]
    return (*lines, *(f"    {problem}" for problem in report.problems))


def _category_line(count: CategoryCount) -> str:
    return (
        f"    {count.category}: {count.stored} of {count.declared + count.custom} stored,"
        f" {count.changed} changed from the default, {count.custom} added"
    )


def _count(rows: tuple[ParameterRow, ...]) -> tuple[CategoryCount, ...]:
    declared = Counter(row.category for row in rows if not row.custom)
    custom = Counter(row.category for row in rows if row.custom)
    stored = Counter(row.category for row in rows if row.id is not None)
    changed = Counter(row.category for row in rows if not row.custom and row.value_data != row.default)
    names = (*CATEGORIES, *sorted((declared | custom | stored).keys() - set(CATEGORIES)))
    return tuple(CategoryCount(name, declared[name], stored[name], changed[name], custom[name]) for name in names)


def _check_rows(rows: tuple[ParameterRow, ...]) -> tuple[str, ...]:
    """Values that do not fit what is declared."""
    found: list[str] = []
    for row in rows:
        parameter = REGISTRY.get((row.category, row.key))
        if parameter is not None:
            found += (str(problem) for problem in parse_value(parameter, row.value_data)[1])
    return tuple(found)
