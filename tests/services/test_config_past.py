"""The past is shown as it was: values with the versions and people of then, and keys that were there then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
import pytest

from services.config_story import ADA, APY, BOB, RATE, ROOT, change, open_store, run_sql
from tonsurance.core.parameters.declaration import freeze
from tonsurance.core.parameters.registry import REGISTRY, UnknownParameter
from tonsurance.core.params import hash_values
from tonsurance.services.config_store import ConfigStore, Edit, ParameterRow

FEE = ("pilot", "fee")


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


async def time_of(store: ConfigStore, version: int) -> datetime:
    """When a version was made."""
    return (await store.version(version)).created_at


async def as_it_stands(store: ConfigStore) -> dict[tuple[str, str], ParameterRow]:
    """The list of now, by name."""
    return {(row.category, row.key): row for row in await store.list_parameters()}


async def test_every_version_is_shown_later_as_the_list_showed_it_then(store: ConfigStore) -> None:
    await store.seed(actor=ROOT)
    seen = {1: await as_it_stands(store)}
    for version, work in enumerate(
        (
            lambda: change(store, 16.0),
            lambda: change(store, 0.05, RATE, BOB),
            lambda: store.apply([Edit(*FEE, "create", 0.5, "float", "A fee")], actor=ADA, reason=""),
            lambda: change(store, 0.6, FEE, BOB),
            lambda: store.apply([Edit(*FEE, "delete")], actor=ADA, reason=""),
            lambda: store.apply([Edit(*FEE, "create", "x", "string", "A name")], actor=BOB, reason=""),
            lambda: store.rollback(2, actor=BOB, reason="back"),
        ),
        start=2,
    ):
        assert (await work()).version == version
        seen[version] = await as_it_stands(store)
    for version, rows in seen.items():
        then = {(row.category, row.key): row for row in await store.list_past(await time_of(store, version))}
        assert then.keys() == rows.keys(), version
        for name, row in rows.items():  # the number of a key that was added again is another one
            assert msgspec.structs.replace(then[name], id=row.id) == row, version


async def test_a_key_is_there_when_it_was_and_not_before_or_after(store: ConfigStore) -> None:
    await change(store, 16.0)
    await store.apply([Edit(*FEE, "create", 0.5, "float", "A fee")], actor=ADA, reason="")
    await store.apply([Edit(*FEE, "delete")], actor=BOB, reason="")
    before, there, gone = [await time_of(store, version) for version in (2, 3, 4)]
    for time in (before, gone, None):
        with pytest.raises(UnknownParameter, match="pilot/fee"):
            await store.find(*FEE, as_of=time)
    found = await store.find(*FEE, as_of=there)
    assert (found.value_data, found.value_type, found.description, found.custom) == (0.5, "float", "A fee", True)
    assert (found.version, found.updated_by, found.last_updated_at) == (3, "ada", there)
    assert [row.key for row in await store.list_past(there, "pilot")] == ["fee"]
    assert await store.list_past(before, "pilot") == await store.list_past(gone, "pilot") == ()
    assert len(await store.list_past(before)) == len(REGISTRY)


async def test_a_made_up_name_is_of_the_past_too(store: ConfigStore) -> None:
    await store.seed(actor=ROOT)
    await change(store, 16.0)
    then = await time_of(store, 1)
    now, past = [await store.find("tranche", "SURE_MEZZ_config", as_of=time) for time in (None, then)]
    assert isinstance(now.value_data, dict)
    assert isinstance(past.value_data, dict)
    assert (now.value_data["apy_max"], now.version, past.value_data["apy_max"], past.version) == (16.0, 2, 15.0, 1)


async def test_what_was_not_declared_then_is_not_shown_then(store: ConfigStore, database: str) -> None:
    await store.seed(actor=ROOT)
    await change(store, 16.0)
    known = "values #- '{pricing,base_rate_USDC}'"
    await run_sql(database, f"UPDATE config_versions SET values = {known} WHERE version = 1")
    newer = await store.version(1)
    assert newer.values is not None
    assert "base_rate_USDC" not in newer.values["pricing"]
    await run_sql(database, f"UPDATE config_versions SET hash = '{await hash_of(store)}' WHERE version = 1")
    with pytest.raises(UnknownParameter):
        await store.find(*RATE, as_of=newer.created_at)
    assert (await store.find(*APY, as_of=newer.created_at)).value_data == 15.0


async def hash_of(store: ConfigStore) -> str:
    """What the values of version 1 hash to."""
    values = (await store.version(1)).values
    assert values is not None
    return hash_values({(c, k): freeze(value) for c, keys in values.items() for k, value in keys.items()})
