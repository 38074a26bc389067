"""A process that dies while it posts leaves all of a batch or nothing of it, and the next run makes it whole."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from chain.fake_toncenter import FakeTonCenter, serving
from db.servers import DatabaseServer
from proof.chain_of_story import make_accounts
from proof.dying import DIED, LAYOUT, ingest
from proof.ledger_state import read_state_of
from proof.story import FACTORY, VAULT, Step, make_steps
from tonsurance.core.errors import WriterFenced
from tonsurance.db.pool import connect

TESTS = Path(__file__).resolve().parents[1]
SEED, EVENTS, WORKERS = 5, 120, 3
KNOWN = {event.type for event in LAYOUT.events.values()}


def known_steps() -> list[Step]:
    """A story of the events this layout can carry."""
    steps = make_steps(SEED, EVENTS)
    return [
        Step(step.contract, step.lt, tuple(body for body in step.bodies if type(body).__name__ in KNOWN))
        for step in steps
    ]


STEPS = known_steps()
WANTED = {
    contract: {(step.lt, n) for step in STEPS if step.contract == contract for n in range(len(step.bodies))}
    for contract in (VAULT, FACTORY)
}


class DyingProcess:
    """The other process; asked from a thread, because it answers only when a run is over."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proof.dying"],
            env=os.environ | {"PYTHONPATH": str(TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> DyingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, last: int, url: str, dsn: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{last} {url} {dsn}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


async def run_to_end(url: str, dsn: str) -> None:
    """An ordinary run. The server may not have noticed yet that the writer before is gone: the daemon tries again."""
    while True:
        try:
            return await ingest(url, dsn)
        except WriterFenced:
            await asyncio.sleep(0.005)


async def read_posted(dsn: str) -> dict[str, int]:
    """Events of each contract; fails unless they are those up to the cursor, all of them."""
    conn = await connect(dsn)
    async with conn.transaction(isolation="repeatable_read"):
        cursors = await conn.fetch("SELECT contract_address, last_synced_lt FROM blockchain_sync_state")
        rows = await conn.fetch("SELECT contract_address, logical_time, message_index FROM blockchain_events")
    await conn.close()
    for address, cursor in cursors:
        stored = {(row[1], row[2]) for row in rows if row[0] == address}
        assert stored == {identity for identity in WANTED[address] if identity[0] <= cursor}
    return Counter(row[0] for row in rows)


async def find_empty_tables(dsn: str) -> list[str]:
    """The tables a fresh database has nothing in: emptied again, it is as good as new."""
    conn = await connect(dsn)
    names = [
        row[0]
        for row in await conn.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND "
            "relnamespace = 'public'::regnamespace AND NOT relispartition"
        )
    ]
    empty = [name for name in names if not await conn.fetchval(f"SELECT EXISTS (SELECT FROM {name})")]
    await conn.close()
    return empty


async def empty_again(dsn: str, tables: list[str]) -> None:
    """Cheaper than a new database. Only a superuser in this mode gets past the triggers that keep the ledger."""
    conn = await connect(dsn)
    await conn.execute("SET session_replication_role = replica")
    await conn.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
    await conn.execute("UPDATE ledger_head SET version = 0, writer_epoch = 0")
    await conn.close()


class Sweep:
    """The points from the first one on, handed out to workers until a run is not ended by any."""

    def __init__(self, url: str, whole: dict[str, list[str]], tables: list[str]) -> None:
        self._url = url
        self._whole = whole
        self._tables = tables
        self._points = itertools.count(1)
        self.completed = False
        self.left_behind: Counter[int] = Counter()

    async def work(self, dsn: str) -> None:
        with DyingProcess() as process:
            while not self.completed:
                await empty_again(dsn, self._tables)
                await self._die_and_recover(process, next(self._points), dsn)

    async def _die_and_recover(self, process: DyingProcess, point: int, dsn: str) -> None:
        code = await asyncio.to_thread(process.run, point, self._url, dsn)
        assert code in (0, DIED)
        self.completed |= code == 0
        self.left_behind[sum((await read_posted(dsn)).values())] += code == DIED
        await run_to_end(self._url, dsn)
        assert await read_state_of(dsn) == self._whole, f"after an end at point {point}"


@pytest.mark.timeout(900)
async def test_an_end_at_any_await_loses_nothing_and_doubles_nothing(pg: DatabaseServer, database: str) -> None:
    async with serving(FakeTonCenter(accounts=make_accounts(STEPS, LAYOUT))) as chain:
        tables = await find_empty_tables(database)
        await ingest(chain.url, database)
        whole = await read_state_of(database)
        sweep = Sweep(chain.url, whole, tables)
        others = [await asyncio.to_thread(pg.create) for _ in range(WORKERS - 1)]
        async with asyncio.TaskGroup() as group:
            for dsn in (database, *others):
                group.create_task(sweep.work(dsn))
    for dsn in others:
        pg.drop(dsn)
    died = sum(sweep.left_behind.values())
    print(f"\nN = {died} ends, at every begin and end of an await; events in the ledger: {dict(sweep.left_behind)}")
    assert len(whole["blockchain_events"]) == sum(map(len, WANTED.values()))
    vault = len(WANTED[VAULT])
    assert set(sweep.left_behind) == {0, vault, len(whole["blockchain_events"])}
    assert died > 100
