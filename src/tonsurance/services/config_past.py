"""Parameters as they were when an earlier version held: their values, and who had changed them last by then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tonsurance.core.parameters.declaration import Key
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.db import config
from tonsurance.db.config import StoredAudit, StoredParameter, StoredVersion
from tonsurance.db.pool import Connection
from tonsurance.services.config_plan import is_note
from tonsurance.services.config_rows import ParameterRow, describe_parameter, read_note, read_values


class Writing(msgspec.Struct, frozen=True):
    """When a parameter was written, in which version, and by whom."""

    version: int
    time: datetime
    by: str


async def describe_past(conn: Connection, stored: StoredVersion, category: str | None) -> tuple[ParameterRow, ...]:
    """All parameters of a version by name, or those of a category. What was not declared or added yet is not there;
    what was taken out since is."""
    values = read_values(stored.values)
    told = {(row.category, row.key): row for row in await config.select_written_last(conn, stored.version)}
    seeded = read_seeds(await config.select_seeds(conn, stored.version))
    now = {(row.category, row.key): row for row in await config.select_parameters(conn)}
    return tuple(
        describe_parameter(name, REGISTRY.get(name), _row_of(name, values, told.get(name), seeded, now), values)
        for name in sorted(values)
        if not is_note(name) and (category is None or name[0] == category)
    )


def read_seeds(seeds: tuple[StoredVersion, ...]) -> Mapping[Key, tuple[Writing, ...]]:
    """The versions that may have stored a parameter for the first time, oldest first, by its name."""
    found: dict[Key, tuple[Writing, ...]] = {}
    for seed in seeds:
        for name in read_values(seed.values):
            found[name] = (*found.get(name, ()), Writing(seed.version, seed.created_at, seed.author))
    return found


def _row_of(
    name: Key,
    values: Mapping[Key, object],
    told: StoredAudit | None,
    seeded: Mapping[Key, tuple[Writing, ...]],
    now: Mapping[Key, StoredParameter],
) -> StoredParameter | None:
    """The stored row as it was; None when it was not stored yet and its default held."""
    current = now.get(name)
    writing: Writing | None = next(iter(seeded.get(name, ())), None)
    if told is not None:
        writing = Writing(told.version, told.changed_at, told.changed_by)
    if writing is None:
        return None
    note = read_note(name, values, current)
    number = current.id if current is not None else told.config_id if told is not None else None
    return StoredParameter(
        id=number or 0,
        category=name[0],
        key=name[1],
        value_type=note.value_type,
        value_data="",
        description=note.description,
        custom=name not in REGISTRY,
        version=writing.version,
        last_updated_at=writing.time,
        updated_by=writing.by,
    )
