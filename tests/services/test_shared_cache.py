"""Redis beside PostgreSQL: quicker when it is there, never wrong and never waited for when it is not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from db.chain_story import batch, cursor_at, deposit, register, transaction
from db.servers import DatabaseServer
from services.redis_server import RedisServer, running_redis, until
from tonsurance import metrics
from tonsurance.bus.redis import Circuit, RedisListener, RedisRelay
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.ports import LedgerState
from tonsurance.services.shared_cache import SharedCache

TON = 10**9


class Clerk:
    """Posts one deposit at a time."""

    def __init__(self, dsn: str) -> None:
        self.writer = LedgerWriter(dsn, DEFAULT_PARAMS)
        self.lt = 0

    async def deposit(self) -> None:
        after = cursor_at(self.lt) if self.lt else None
        self.lt += 1
        moved = transaction(self.lt, *(deposit(tranche, TON) for tranche in range(1, 7)))
        await self.writer.submit(batch(moved) if after is None else batch(moved, after=after))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
async def clerk(database: str) -> AsyncIterator[Clerk]:
    await register(database)
    clerk = Clerk(database)
    await clerk.deposit()
    yield clerk
    await clerk.writer.close()


class Readers:
    """One that shares and one that asks PostgreSQL alone."""

    def __init__(self, dsn: str, url: str) -> None:
        self.cache = SharedCache(url)
        self.shared = PostgresLedgerReader(dsn, shared=self.cache)
        self.alone = PostgresLedgerReader(dsn)

    async def compare(self) -> LedgerState:
        """Both read; they must have the same figures."""
        shared, alone = await self.shared.read_state(), await self.alone.read_state()
        assert strip(shared) == strip(alone)
        return shared

    async def close(self) -> None:
        await self.shared.close()
        await self.alone.close()
        await self.cache.close()


def strip(state: LedgerState) -> tuple[object, ...]:
    """What does not depend on the moment of the reading."""
    rows = [(row.vault_id, row.tranche_id, row.capital_nano, row.coverage_nano, row.lt) for row in state.tranches]
    return (state.version, state.last_event_id, sorted(rows))


@pytest.fixture
async def readers(database: str, clerk: Clerk, redis: RedisServer) -> AsyncIterator[Readers]:
    readers = Readers(database, redis.url)
    await readers.compare()
    yield readers
    await readers.close()


async def test_rows_of_a_version_are_read_once_and_shared(database: str, clerk: Clerk, readers: Readers) -> None:
    other = PostgresLedgerReader(database, shared=readers.cache)
    await other.read_state()
    system = await system_of(readers)
    stored = await readers.cache.get_utilizations(system)
    assert stored is not None
    assert (stored[0], len(stored[1])) == (1, 6)
    await clerk.deposit()
    assert (await readers.compare()).version == 2
    stored = await readers.cache.get_utilizations(system)
    assert stored is not None
    assert stored[0] == 2
    await other.close()


async def test_a_value_of_another_version_is_not_used(clerk: Clerk, readers: Readers) -> None:
    system = await system_of(readers)
    stored = await readers.cache.get_utilizations(system)
    assert stored is not None
    wrong = tuple(msgspec.structs.replace(row, total_capital_nanoton=1) for row in stored[1])
    for version in (0, 2, 99):
        await readers.cache.store_utilizations(system, version, wrong)
        await readers.compare()
    await clerk.deposit()
    await readers.compare()


async def test_what_is_no_value_of_ours_is_ignored(readers: Readers) -> None:
    system = await system_of(readers)
    key = f"tonsurance:{system}:*"
    [name] = [key async for key in readers.cache._client.scan_iter(key)]
    good = await readers.cache._client.get(name)
    for garbage in (
        b"",
        b"\xc1",
        b"null",
        good[:-1],
        good + b"x",
        b"\x92\x01\x90" * 1000,
        msgspec.msgpack.encode([1, []]),
    ):
        await readers.cache._client.set(name, garbage)
        assert len((await readers.compare()).tranches) == 6


async def test_two_systems_on_one_redis_do_not_mix(
    database: str, clerk: Clerk, readers: Readers, pg: DatabaseServer, redis: RedisServer
) -> None:
    beside = pg.create()
    await register(beside)
    other = Clerk(beside)
    await other.deposit()
    others = Readers(beside, redis.url)
    await others.compare()
    await others.compare()
    assert await system_of(others) != await system_of(readers)
    await others.close()
    await other.writer.close()
    pg.drop(beside)


async def system_of(readers: Readers) -> str:
    await readers.shared.read_state()
    assert readers.shared._system is not None
    return readers.shared._system


async def test_a_redis_killed_under_load_makes_no_answer_wrong_and_is_told(
    clerk: Clerk, readers: Readers, redis: RedisServer
) -> None:
    for number in range(30):
        if number == 10:
            redis.send(signal.SIGKILL)
        if number % 3 == 0:
            await clerk.deposit()
        await readers.compare()
    assert "answers come from PostgreSQL alone" in (readers.cache.degraded or "")
    redis.start()
    async with asyncio.timeout(60):
        while readers.cache.degraded is not None:
            await readers.compare()
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("clerk")
async def test_a_hanging_redis_is_asked_once_and_then_left_alone(database: str, redis: RedisServer) -> None:
    readers = Readers(database, redis.hasty_url)
    readers.cache._circuit = Circuit(lambda: 0.0)  # no time passes: however long it takes, it is too soon to ask again
    before = count_failures()
    redis.send(signal.SIGSTOP)
    for _ in range(20):
        await readers.compare()
    assert readers.cache.degraded is not None
    redis.send(signal.SIGCONT)
    assert count_failures() - before == 1  # one time-out, not twenty
    await readers.close()


def count_failures() -> float:
    """Of Redis, in this process."""
    samples = [sample for metric in metrics.REDIS_FAILURES.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def test_a_redis_that_is_away_full_or_refuses_the_password_costs_nothing(
    database: str, clerk: Clerk, tmp_path: Path
) -> None:
    with running_redis(tmp_path, "--maxmemory", "1", "--maxmemory-policy", "noeviction") as full:
        await degrade(database, full.url)
    with running_redis(tmp_path, "--requirepass", "right") as closed:
        await degrade(database, closed.url.replace("://", "://:wrong@"))
    await degrade(database, "redis://127.0.0.1:1/0")


async def degrade(dsn: str, url: str) -> None:
    readers = Readers(dsn, url)
    for _ in range(3):
        await readers.compare()
    assert readers.cache.degraded is not None
    assert "wrong" not in readers.cache.degraded
    await readers.close()


async def test_a_circuit_waits_longer_after_each_failure_and_forgets_when_it_works() -> None:
    now = [0.0]
    circuit = Circuit(lambda: now[0])
    pauses = []
    for _ in range(9):
        circuit.failed(TimeoutError())
        begun = now[0]
        while circuit.is_open:
            now[0] += 0.05
        pauses.append(now[0] - begun)
    assert pauses[0] <= 0.55
    assert max(pauses) <= 30.1
    assert pauses[-1] > 10
    circuit.succeeded()
    assert circuit.degraded is None


async def test_commits_are_told_and_a_newcomer_reads_everything(redis: RedisServer) -> None:
    heard: list[int | None] = []
    stop = asyncio.Event()
    listener, relay = RedisListener(redis.url, heard.append), RedisRelay(redis.url)
    tasks = [asyncio.create_task(listener.run(stop)), asyncio.create_task(relay.run(stop))]
    await until(lambda: heard == [None])
    relay.put(7)
    await until(lambda: heard[-1:] == [7])
    await relay._client.publish("tonsurance:ledger", "garbage")
    await until(lambda: heard == [None, 7, None])
    redis.send(signal.SIGKILL)
    await until(lambda: not listener.connected)
    relay.put(8)
    await until(lambda: relay.circuit.degraded is not None)
    redis.start()
    await until(lambda: listener.connected and heard[-1] is None)
    async with asyncio.timeout(60):
        while heard[-1] != 9:
            relay.put(9)
            await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*tasks)
