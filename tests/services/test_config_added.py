"""Parameters that people add keep their type and description through every version, rollback and change request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from services.config_story import ADA, BOB, change, fetch_value, open_store, run_sql
from tonsurance.core.parameters.declaration import freeze
from tonsurance.core.params import InvalidParameters, hash_values
from tonsurance.services.config_rows import read_values
from tonsurance.services.config_store import ConfigStore, Edit

FEE, NOTE = ("pilot", "fee"), ("pilot", "note")


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


async def add(store: ConfigStore, name: tuple[str, str], value: object, kind: str, about: str | None = None) -> int:
    """Add a parameter; the version."""
    return (await store.apply([Edit(*name, "create", value, kind, about)], actor=ADA, reason="")).version


async def drop(store: ConfigStore, name: tuple[str, str]) -> None:
    """Take a parameter out."""
    await store.apply([Edit(*name, "delete")], actor=ADA, reason="")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("hello", "json"),
        ("hello", "string"),
        (3e18, "float"),
        (1e300, "float"),
        (1.0, "float"),
        (1, "int"),
        (1, "json"),
        (True, "json"),
        (True, "bool"),
        ([1.0, {"a": 1e20}], "json"),
    ],
)
async def test_a_rollback_brings_value_type_and_description_back(store: ConfigStore, value: object, kind: str) -> None:
    version = await add(store, FEE, value, kind, "What it is")
    before = await store.find(*FEE)
    await drop(store, FEE)
    await store.rollback(version, actor=BOB, reason="back")
    after = await store.find(*FEE)
    assert (after.value_type, after.description, after.value_data) == (kind, "What it is", before.value_data)
    assert (await store.read()).hash == (await store.version(version)).hash
    await drop(store, FEE)
    other = ("x", "string") if kind != "string" else (5, "int")
    await add(store, FEE, *other)
    await store.rollback(version, actor=BOB, reason="back over another type")
    again = await store.find(*FEE)
    assert (again.value_type, again.description, again.value_data) == (kind, "What it is", before.value_data)
    assert (await store.verify()).ok


async def test_equal_values_of_another_type_are_brought_back_too(store: ConfigStore) -> None:
    version = await add(store, FEE, 1.0, "float", "A number")
    await drop(store, FEE)
    await add(store, FEE, 1.0, "json")
    await store.rollback(version, actor=BOB, reason="")
    found = await store.find(*FEE)
    assert (found.value_type, found.description) == ("float", "A number")


async def test_a_key_with_a_huge_value_refuses_no_rollback_of_others(store: ConfigStore) -> None:
    version = await add(store, FEE, 1e300, "float")
    await change(store, 16.0)
    await drop(store, FEE)
    back = await store.rollback(version, actor=BOB, reason="")
    assert sorted(change.key for change in back.changes) == ["SURE_MEZZ_apy_max", "fee"]


async def test_setting_a_value_keeps_type_and_description(store: ConfigStore) -> None:
    await add(store, NOTE, "a", "string", "A note")
    changed = await store.apply([Edit(*NOTE, "set", "b")], actor=ADA, reason="")
    found = await store.find(*NOTE)
    assert (found.value_data, found.value_type, found.description) == ("b", "string", "A note")
    await drop(store, NOTE)
    await store.rollback(changed.version, actor=BOB, reason="")
    assert (await store.find(*NOTE)).description == "A note"


async def test_versions_that_did_not_tell_types_yet_are_still_rolled_back_to(store: ConfigStore, database: str) -> None:
    await add(store, FEE, 3e19, "float", "A fee")
    old = await add(store, NOTE, "a", "string", "A note")
    for version in (old - 1, old):  # as versions were written before they told what was added
        await forget_notes(database, version)
    assert (await change(store, 16.0)).params.values["_added", "pilot/note"] == {
        "value_type": "string",
        "description": "A note",
    }
    await drop(store, FEE)
    await store.rollback(old, actor=BOB, reason="")
    fee, note = await store.find(*FEE), await store.find(*NOTE)
    assert (fee.value_type, note.value_type, note.description) == ("float", "string", "A note")


async def test_no_parameter_is_called_like_what_tells_of_others(store: ConfigStore) -> None:
    await add(store, FEE, 1.0, "float", "A fee")
    assert [row.category for row in await store.list_parameters() if row.custom] == ["pilot"]
    assert [c.name for c in await store.diff(1, 2)] == [FEE]
    with pytest.raises(InvalidParameters):
        await add(store, ("_added", "pilot"), 1.0, "float")


async def forget_notes(database: str, version: int) -> None:
    """Make a version look as before; only its hash has to fit."""
    where = f"WHERE version = {version}"
    await run_sql(database, f"UPDATE config_versions SET values = values - '_added' {where}")
    text = await fetch_value(database, f"SELECT values::text FROM config_versions {where}")
    assert isinstance(text, str)
    assert "_added" not in json.loads(text)
    found = hash_values({name: freeze(value) for name, value in read_values(text).items()})
    await run_sql(database, f"UPDATE config_versions SET hash = '{found}' {where}")
