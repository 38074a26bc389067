"""A process always has one whole version of the parameters, the newest it can have, and says when it is not current."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from services.config_story import (
    ADA,
    APY,
    RATE,
    ROOT,
    Swaps,
    add_version,
    change,
    fetch_value,
    open_store,
    put,
    run_sql,
    until,
)
from services.database_door import DatabaseDoor
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.core.parameters.declaration import Value, thaw
from tonsurance.core.parameters.registry import UnknownParameter
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.db.pool import connect
from tonsurance.services.config_access import MAX_NAMES, OTHERS, WHOLE_SET
from tonsurance.services.config_file import NoLastGood, load_last_good, save_last_good
from tonsurance.services.config_loader import ConfigLoader, WrongKind
from tonsurance.services.config_rows import ConfigDamaged
from tonsurance.services.config_store import ConfigStore, Edit

NEVER_S = 3_600.0
SNR = ("SURE_SNR_apy_min", "SURE_SNR_apy_max")


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


@asynccontextmanager
async def loading(dsn: str, *, last_good: Path | None = None, poll_s: float = NEVER_S) -> AsyncIterator[ConfigLoader]:
    loader = ConfigLoader(dsn, last_good=last_good, poll_s=poll_s, process="test")
    await loader.start()
    try:
        yield loader
    finally:
        await loader.close()


async def test_a_change_is_heard_by_every_loader_without_polling(database: str, store: ConfigStore) -> None:
    async with loading(database) as one, loading(database) as other:
        swaps = [Swaps(one), Swaps(other)]
        await until(lambda: all(loader.get_cache_stats()["listening"] for loader in (one, other)))
        await change(store, 16.0)
        for swap in swaps:
            assert (await swap.until(2)).tranche("SURE-MEZZ").apy_max_pct == 16.0
        assert one.get_float(*APY) == other.get_float(*APY) == 16.0
        assert one.params.hash == other.params.hash


async def test_what_was_changed_before_the_listening_began_is_read(database: str, store: ConfigStore) -> None:
    async with loading(database) as loader:
        await change(store, 16.0)  # LISTEN may not be in force yet
        await until(lambda: loader.params.version == 2)


async def test_a_listen_that_died_silently_is_made_good_by_the_poll(database: str, store: ConfigStore) -> None:
    door = DatabaseDoor(database)
    await door.open()
    async with loading(door.dsn, poll_s=0.2) as loader:
        await until(lambda: loader.get_cache_stats()["listening"])
        door.muted = True
        swaps = Swaps(loader)
        await change(store, 16.0)
        assert (await swaps.until(2)).version == 2
        assert loader.get_cache_stats()["listening"]  # it does not know yet that it is deaf
        await until(lambda: door.swallowed)
    await door.shut()


async def test_without_a_database_at_start_the_last_good_is_taken_from_disk_and_said(
    database: str, store: ConfigStore, tmp_path: Path
) -> None:
    kept, door = tmp_path / "config" / "last_good.json", DatabaseDoor(database)
    await change(store, 16.0)
    await door.open()
    async with loading(door.dsn, last_good=kept) as loader:
        assert (loader.source, loader.degraded) == ("database", None)
    await door.shut()
    await change(store, 17.0)
    async with loading(door.dsn, last_good=kept) as loader:
        assert (loader.params.version, loader.source) == (2, "disk")
        assert loader.get_float(*APY) == 16.0
        assert loader.degraded is not None
        assert "version 2 from disk (database_unavailable)" in loader.degraded
        swaps = Swaps(loader)
        await door.open()
        assert (await swaps.until(3)).tranche("SURE-MEZZ").apy_max_pct == 17.0
        assert (loader.source, loader.degraded) == ("database", None)
    assert load_last_good(kept).version == 3
    await door.shut()


async def test_without_database_and_disk_the_defaults_hold_and_it_is_said(
    database: str, store: ConfigStore, tmp_path: Path
) -> None:
    await change(store, 16.0)
    door = DatabaseDoor(database)
    async with loading(door.dsn, last_good=tmp_path / "none.json") as loader:
        assert (loader.params, loader.source) == (DEFAULT_PARAMS, "defaults")
        assert loader.degraded is not None
        assert "from defaults" in loader.degraded
        stats = loader.get_cache_stats()
        assert (stats["valid_entries"], stats["expired_entries"]) == (0, len(DEFAULT_PARAMS.values))
        with pytest.raises(DatabaseUnavailable):
            await loader.reload_cache()
        await door.open()
        await until(lambda: loader.degraded is None)
        assert loader.params.version == 2
    await door.shut()


async def test_an_outage_during_the_run_keeps_the_version_and_is_caught_up(database: str, store: ConfigStore) -> None:
    door = DatabaseDoor(database)
    await door.open()
    async with loading(door.dsn, poll_s=0.1) as loader:
        await door.shut()
        await until(lambda: loader.degraded is not None)
        await change(store, 16.0)
        assert (loader.params, loader.source) == (DEFAULT_PARAMS, "database")
        await door.open()
        await until(lambda: loader.params.version == 2)
        assert loader.degraded is None
    await door.shut()


async def test_a_set_that_cannot_be_used_is_refused_whole_and_the_last_good_stays(
    database: str, store: ConfigStore, tmp_path: Path
) -> None:
    await change(store, 16.0)
    kept = tmp_path / "last_good.json"
    async with loading(database, last_good=kept) as loader:
        await until(lambda: loader.get_cache_stats()["listening"])
        await add_version(database, 3, RATE, 7.5)
        await until(lambda: loader.degraded is not None)
        assert loader.degraded is not None
        assert "Version 3 cannot be used: pricing/base_rate_USDC: is 7.5; the most is 1" in loader.degraded
        assert (loader.params.version, loader.get_float(*APY), loader.get_float(*RATE)) == (2, 16.0, 0.04)
        with pytest.raises(ConfigDamaged):
            await loader.reload_cache()
        assert load_last_good(kept).version == 2
        await store.rollback(2, actor=ROOT, reason="mend")
        await until(lambda: loader.params.version == 4)
        assert loader.degraded is None


async def test_a_version_that_was_tampered_with_is_refused(database: str, store: ConfigStore) -> None:
    await change(store, 16.0)
    async with loading(database) as loader:
        spoil = "jsonb_set(values, '{tranche,SURE_MEZZ_apy_max}', '17')"
        await run_sql(database, f"UPDATE config_versions SET values = {spoil} WHERE version = 2")
        with pytest.raises(ConfigDamaged, match="hash does not fit"):
            await loader.reload_cache()
        assert loader.get_float(*APY) == 16.0


class HalfSwapping(ConfigLoader):
    """A loader as it must not be: it changes what readers hold, value by value."""

    def _swap(self, params: Params) -> None:
        if not hasattr(self, "_open"):
            self._open = dict(params.values)
            self.params = msgspec.structs.replace(params, values=MappingProxyType(self._open))
        for name, value in params.values.items():
            if self._open[name] != value:
                self._open[name] = value
                time.sleep(0.002)


class Readings:
    """Reads both ends of a tranche's APY again and again, and counts the pairs that never were a version."""

    def __init__(self, loader: ConfigLoader, allowed: set[tuple[Value, Value]]) -> None:
        self._loader = loader
        self._allowed = allowed
        self.seen: set[tuple[Value, Value]] = set()
        self.mixed = 0
        self.done = False

    def read(self) -> None:
        """One reading."""
        params = self._loader.params
        pair = params.value("tranche", SNR[0]), params.value("tranche", SNR[1])
        self.seen.add(pair)
        self.mixed += pair not in self._allowed

    def read_in_thread(self) -> None:
        """Read until told otherwise."""
        while not self.done:
            self.read()

    async def read_in_task(self) -> None:
        """Read, let others run, and look whether what was read is still one version."""
        while not self.done:
            params = self._loader.params
            low = params.value("tranche", SNR[0])
            await asyncio.sleep(0)
            self.mixed += (low, params.value("tranche", SNR[1])) not in self._allowed
            self.read()


async def read_under_load(loader: ConfigLoader, store: ConfigStore) -> Readings:
    """Readers in threads and tasks, while versions with other pairs follow each other."""
    pairs = [(6.5, 10.0), (10.5, 14.0), (6.0, 8.0), (11.0, 12.0)]
    readings = Readings(loader, set(pairs))
    threads = [threading.Thread(target=readings.read_in_thread) for _ in range(3)]
    tasks = [asyncio.create_task(readings.read_in_task()) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(1, 17):
            edits = [put(("tranche", key), value) for key, value in zip(SNR, pairs[turn % 4], strict=True)]
            await store.apply(edits, actor=ADA, reason="")
            await loader.reload_cache()
            await asyncio.sleep(0.005)
    finally:
        readings.done = True
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.gather(*tasks)
    return readings


async def test_readers_in_threads_and_tasks_never_see_a_mixed_version(database: str, store: ConfigStore) -> None:
    async with loading(database) as loader:
        readings = await read_under_load(loader, store)
    assert readings.mixed == 0
    assert len(readings.seen) == 4


async def test_a_planted_half_swap_is_seen_by_the_same_readers(database: str, store: ConfigStore) -> None:
    loader = HalfSwapping(database, poll_s=NEVER_S)
    await change(store, 16.0)
    await loader.start()
    readings = await read_under_load(loader, store)
    await loader.close()
    assert readings.mixed > 0


async def test_typed_reads_take_the_value_the_default_or_say_what_is_wrong(database: str, store: ConfigStore) -> None:
    await store.apply([Edit("pilot", "note", "create", "hello", "string")], actor=ADA, reason="")
    async with loading(database) as loader:
        assert loader.get_float("pricing", "base_rate_USDC", 9.9) == 0.04
        assert loader.get_float("risk", "monte_carlo_simulations") == 10_000.0
        assert loader.get_int("risk", "monte_carlo_simulations", 5) == 10_000
        assert loader.get_string("tranche", "SURE_BTC_curve_type") == "FLAT"
        assert loader.get_string("external", "polymarket_api_key", "test_key") == "test_key"
        assert loader.get_string("pilot", "note") == "hello"
        config = loader.get_json("tranche", "SURE_BTC_config")
        assert thaw(config)["allocation_percent"] == 25  # type: ignore[index, call-overload]
        assert thaw(loader.get_json("no", "such", {"a": 1})) == {"a": 1}
        for read, name in (
            (loader.get_int, ("pricing", "base_rate_USDC")),
            (loader.get_float, ("tranche", "SURE_BTC_curve_type")),
            (loader.get_float, ("risk", "enforce_min_collateralization")),
            (loader.get_int, ("risk", "enforce_min_collateralization")),
            (loader.get_string, ("pricing", "base_rate_USDC")),
        ):
            with pytest.raises(WrongKind, match="/".join(name)):
                read(*name)
        with pytest.raises(UnknownParameter):
            loader.get_float("no", "such")
        assert loader.get_base_rate("USDC") == 0.04
        assert loader.get_size_discount(5_000_000.0) == 0.90
        assert loader.get_utilization_multiplier(0.85) == 1.25


async def test_accesses_are_counted_and_written_as_samples(database: str) -> None:
    async with loading(database) as loader:
        for _ in range(3):
            loader.get_float(*RATE)
        loader.get_float("no", "such", 1.0)
        stats = loader.get_cache_stats()
        assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (3, 1, 0.75)
        assert await fetch_value(database, "SELECT count(*) FROM config_access_log") == 0
    conn = await connect(database)
    rows = await conn.fetch("SELECT process, category, key, cache_hit, accesses FROM config_access_log ORDER BY key")
    await conn.close()
    assert [tuple(row) for row in rows] == [
        ("test", "pricing", "base_rate_USDC", True, 3),
        ("test", "no", "such", False, 1),
    ]


async def test_accesses_of_many_threads_are_all_counted(database: str) -> None:
    loader = ConfigLoader(database)

    def read() -> None:
        for _ in range(2_000):
            loader.get_float(*RATE)

    await asyncio.gather(*(asyncio.to_thread(read) for _ in range(4)))
    assert loader.get_cache_stats()["hits"] == 8_000
    [count] = loader.counts.take()
    assert (count.key, count.accesses) == ("base_rate_USDC", 8_000)


async def test_names_counted_apart_are_bounded(database: str) -> None:
    loader = ConfigLoader(database)
    for number in range(MAX_NAMES + 50):
        loader.get_float("made_up", str(number), 1.0)
    counts = {(count.category, count.key): count.accesses for count in loader.counts.take()}
    assert (len(counts), counts[OTHERS]) == (MAX_NAMES + 1, 50)
    assert loader.get_cache_stats()["misses"] == MAX_NAMES + 50
    assert loader.counts.take() == ()


async def test_another_database_can_be_taken(database: str, store: ConfigStore) -> None:
    await change(store, 16.0)
    parts = urlsplit(database)
    query = parse_qs(parts.query)
    async with loading("postgresql://nobody@127.0.0.1:1/none") as loader:
        assert loader.degraded is not None
        await loader.init_db_pool(
            host=query["host"][0] if query else parts.hostname or "",
            port=int(query["port"][0]) if query else parts.port or 5432,
            database=parts.path[1:],
            user=parts.username or "",
            password=parts.password,
        )
        assert (loader.params.version, loader.degraded) == (2, None)
        assert loader.get_cache_stats()["auto_reload"]


async def test_a_new_interval_holds_although_the_following_has_begun(database: str, store: ConfigStore) -> None:
    door = DatabaseDoor(database)
    await door.open()
    async with loading(door.dsn) as loader:
        await until(lambda: loader.get_cache_stats()["listening"])
        door.muted = True
        loader.start_auto_reload(interval_seconds=0.1)
        assert loader.get_cache_stats()["ttl_seconds"] == 0.1
        reloads = loader.get_cache_stats()["reloads"]
        assert isinstance(reloads, int)
        await until(lambda: loader.get_cache_stats()["reloads"] >= reloads + 3)  # type: ignore[operator]
        await change(store, 16.0)
        await until(lambda: loader.params.version == 2)
        for interval in (NEVER_S, NEVER_S, 0.1, NEVER_S):
            loader.start_auto_reload(interval_seconds=interval)
        await change(store, 17.0)
        door.muted = False
        await until(lambda: sum(not task.done() for task in loader._tasks) == 3)  # listening, sampling and one poll
    await door.shut()


async def test_taking_the_whole_set_is_counted_and_whether_it_was_current(database: str, store: ConfigStore) -> None:
    door = DatabaseDoor(database)
    await door.open()
    async with loading(door.dsn) as loader:
        await until(lambda: loader.get_cache_stats()["listening"])
        before = loader.counts.totals
        for _ in range(5):
            assert loader.params.value(*RATE) == 0.04
        hits, misses = loader.get_cache_stats()["hits"], loader.get_cache_stats()["misses"]
        assert (hits, misses) == (before[0] + 5, before[1])
        await door.shut()
        with pytest.raises(DatabaseUnavailable):
            await loader.reload_cache()
        missed = loader.counts.totals[1]
        for _ in range(3):
            assert loader.params is DEFAULT_PARAMS
        assert loader.get_cache_stats()["misses"] == missed + 3
        await door.open()
        await loader.reload_cache()
        taken = {count.cache_hit: count.accesses for count in loader.counts.take() if count.category == WHOLE_SET[0]}
        assert taken[True] >= 5
        assert taken[False] >= 3
    await door.shut()


def test_the_file_on_disk_is_private_whole_and_proved(tmp_path: Path) -> None:
    path = tmp_path / "config" / "last_good.json"
    params = build_params({APY: 16.0, ("pilot", "x"): [1, 2.5, "a"]}, 7)
    save_last_good(path, params)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["last_good.json"]
    assert (load_last_good(path).hash, load_last_good(path).version) == (params.hash, 7)
    whole = path.read_bytes()
    for broken in (
        whole[:-20],
        whole.replace(b"16.0", b"17.0"),
        whole.replace(b"16.0", b'"x"'),
        b"",
        b"[]",
        b"\xff",
        b"{}",
    ):
        path.write_bytes(broken)
        with pytest.raises(NoLastGood):
            load_last_good(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(NoLastGood):
        load_last_good(path)


async def test_a_disk_that_cannot_be_written_does_not_stop_the_loading(database: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with loading(database, last_good=tmp_path / "file" / "below.json") as loader:
        assert (loader.source, loader.degraded) == ("database", None)


async def test_closing_twice_and_before_the_start_is_fine(database: str) -> None:
    loader = ConfigLoader(database)
    await loader.close()
    await loader.start()
    loader.start_auto_reload(interval_seconds=60)
    await loader.close()
    await loader.close()
    assert not loader.get_cache_stats()["auto_reload"]
