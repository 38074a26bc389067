"""The edits that bring the values of an earlier version back, those of parameters that people added included."""

from __future__ import annotations

from collections.abc import Mapping

from tonsurance.core.parameters.declaration import Key
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.db import config
from tonsurance.db.config import StoredParameter
from tonsurance.db.pool import Connection
from tonsurance.services.config_plan import Action, Change, Edit, is_added, note_name, write_note
from tonsurance.services.config_rows import compare_values, default_values, read_note, read_values, refit_value


async def newest_values(conn: Connection) -> dict[Key, object]:
    """The values that hold, plain JSON; not checked, so that broken ones can be seen and mended."""
    newest = await config.select_newest(conn)
    return default_values() | ({} if newest is None else read_values(newest.values))


async def noted_values(conn: Connection) -> dict[Key, object]:
    """The values that hold, telling of every parameter that people added what it is; early versions did not."""
    values = await newest_values(conn)
    untold = [name for name in values if is_added(name) and note_name(name) not in values]
    if not untold:
        return values
    rows = {(row.category, row.key): row for row in await config.select_parameters(conn)}
    notes = {name: read_note(name, values, rows.get(name)) for name in untold}
    return values | {note_name(name): write_note(note.value_type, note.description) for name, note in notes.items()}


async def make_rollback_edits(conn: Connection, text: str) -> tuple[Edit, ...]:
    """The edits that bring the values of a version (its JSON) back."""
    wanted = read_values(text)
    held = await noted_values(conn)
    rows = {(row.category, row.key): row for row in await config.select_parameters(conn)}
    changes = {change.name: change for change in compare_values(held, wanted) if not _stays(change)}
    for name, value in wanted.items():  # equal values of another type
        note = wanted.get(note_name(name))
        if is_added(name) and name in held and note is not None and note != held.get(note_name(name)):
            changes[name] = Change(*name, "set", held[name], value)
    return tuple(_edit_of(change, wanted, rows.get(name)) for name, change in sorted(changes.items()))


def _stays(change: Change) -> bool:
    """Whether a rollback leaves it: a contract enforces it, or it was declared after that version."""
    parameter = REGISTRY.get(change.name)
    return parameter is not None and (parameter.chain_owned or change.action == "delete")


def _edit_of(change: Change, wanted: Mapping[Key, object], row: StoredParameter | None) -> Edit:
    """The edit that brings a parameter back: one that people added with its type and description."""
    if change.name in REGISTRY:
        return Edit(change.category, change.key, "set", change.new)
    if change.action == "delete":
        return Edit(change.category, change.key, "delete")
    note = read_note(change.name, wanted, row)
    value = refit_value(note.value_type, change.new)
    action: Action = "create" if change.action == "create" else "set"
    return Edit(change.category, change.key, action, value, note.value_type, note.description or "")
