"""From a hint to the ledger: sooner than the poll, never something else than the poll, and never too often."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from chain.patience import QUICK
from db.servers import DatabaseServer
from services.ledger_tables import LEDGER_TABLES, reading, rows_of
from services.street import LAYOUT, Street, caught_up
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.stream import Hint, HintStream, StreamPatience
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import Pool, open_pool
from tonsurance.localnet.fault_kinds import Fault
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.stream_hint import HintLooks, StreamHints, floor_for
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.task_supervision import Task

VAULT, FACTORY = "0:" + "a" * 64, "0:" + "b" * 64
FLOOR_S, AGAIN_S = 0.002, (0.002, 0.004, 0.008)
NEVER_S = 3_600.0
PATIENCE_S = 60


class Loop:
    """Stands for the loops that follow contracts: every look shows the cursor what `visible` says."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.cursors: dict[str, int] = {VAULT: 10, FACTORY: 10}
        self.visible: dict[str, list[int]] = {}
        """The cursor after each of the next looks."""
        self._news = asyncio.Event()

    def wake(self, address: str) -> None:
        self.looks.append(address)
        coming = self.visible.get(address)
        if coming:
            self.cursors[address] = coming.pop(0)
        self._news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.looks) < count:
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def looking(loop: Loop, **how: Any) -> AsyncIterator[HintLooks]:
    looks, stop = (
        HintLooks(loop.wake, loop.cursors.get, **({"floor_s": FLOOR_S, "again_s": AGAIN_S} | how)),
        asyncio.Event(),
    )
    task = asyncio.create_task(looks.run(stop))
    try:
        yield looks
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)


async def settle(loop: Loop, looks: HintLooks) -> list[str]:
    """The looks until nothing is due any more."""
    async with asyncio.timeout(PATIENCE_S):
        while looks.busy:
            await asyncio.sleep(FLOOR_S)
    return loop.looks


async def test_a_hint_is_a_look_at_once_and_at_that_contract_only() -> None:
    loop = Loop()
    loop.visible = {VAULT: [11]}
    async with looking(loop) as looks:
        looks.take(Hint(VAULT, 11))
        await loop.until(1)
        assert await settle(loop, looks) == [VAULT]


async def test_what_the_ledger_has_already_is_no_reason_to_look() -> None:
    loop = Loop()
    async with looking(loop) as looks:
        for lt in (10, 9, 1):  # doubled, late
            looks.take(Hint(VAULT, lt))
        assert await settle(loop, looks) == []


async def test_a_hint_without_a_transaction_is_one_look() -> None:
    loop = Loop()
    async with looking(loop) as looks:
        looks.take(Hint(VAULT))
        looks.take(Hint(FACTORY))
        assert sorted(await settle(loop, looks)) == [VAULT, FACTORY]


async def test_what_cannot_be_read_yet_is_looked_for_again_and_then_no_more() -> None:
    loop = Loop()
    loop.visible = {VAULT: [10, 10, 11]}
    async with looking(loop) as looks:
        looks.take(Hint(VAULT, 11))
        assert await settle(loop, looks) == 3 * [VAULT]


async def test_an_invented_transaction_is_not_waited_for() -> None:
    loop = Loop()
    loop.visible = {FACTORY: [11]}
    async with looking(loop) as looks:
        looks.take(Hint(VAULT, 2**63 - 1))
        assert await settle(loop, looks) == (1 + len(AGAIN_S)) * [VAULT]
        loop.looks.clear()
        looks.take(Hint(VAULT))
        assert await settle(loop, looks) == [VAULT]
    loop.looks.clear()
    async with looking(loop) as looks:
        looks.take(Hint(FACTORY, 11))
        looks.take(Hint(VAULT, 11))
        loop.visible[VAULT] = [11]
        assert sorted(await settle(loop, looks)) == [VAULT, FACTORY]


async def test_old_news_does_not_prolong_the_wait_for_an_invented_one() -> None:
    loop = Loop()
    async with looking(loop) as looks:
        looks.take(Hint(VAULT, 99))
        for _ in range(20):
            await asyncio.sleep(FLOOR_S)
            looks.take(Hint(VAULT, 10))
        assert await settle(loop, looks) == (1 + len(AGAIN_S)) * [VAULT]


async def test_a_contract_nobody_follows_is_not_looked_at() -> None:
    loop = Loop()
    async with looking(loop) as looks:
        for number in range(1_000):
            looks.take(Hint(f"0:{number:064x}", 99))
        assert await settle(loop, looks) == []


async def test_a_storm_of_hints_is_not_a_storm_of_looks() -> None:
    """Each invents a newer transaction, so that none of them is known to be old."""
    loop, clock, floor_s = Loop(), asyncio.get_running_loop().time, 0.01
    async with looking(loop, floor_s=floor_s) as looks:
        began = clock()
        for burst in range(100):
            for number in range(200):
                looks.take(Hint(VAULT, 11 + 200 * burst + number))
            await asyncio.sleep(0.001)
        took = clock() - began
        seen = len(loop.looks)
    assert 1 <= seen <= 1 + took / floor_s


@pytest.mark.parametrize(("rps", "floor_s"), [(1_000.0, 0.05), (10.0, 0.6), (1.0, 6.0)])
def test_looks_for_hints_leave_requests_for_other_work(rps: float, floor_s: float) -> None:
    assert floor_for(rps) == floor_s


async def test_a_storm_over_a_socket_is_not_a_storm_of_looks() -> None:
    loop, clock, floor_s = Loop(), asyncio.get_running_loop().time, 0.05
    events = 20_000
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for lt in range(11, 11 + events):
            writer.write(
                b'data: {"type":"transactions","transactions":[{"account":"%s","lt":"%d"}]}\n\n' % (VAULT.encode(), lt)
            )
            if lt % 100 == 0:
                await writer.drain()
        await writer.drain()
        sent.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stream = HintStream(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        addresses=[VAULT],
        patience=StreamPatience(first_s=60.0),
    )
    async with looking(loop, floor_s=floor_s) as looks, server:
        stop, began = asyncio.Event(), clock()
        task = asyncio.create_task(stream.run(looks.take, stop))
        await asyncio.wait_for(sent.wait(), PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while stream.status.events < events:
                await asyncio.sleep(0.01)
        seen, took = len(loop.looks), clock() - began
        stop.set()
        await task
    assert 1 <= seen <= 1 + took / floor_s


# --- the whole way: block, stream, daemon, ledger


@pytest.fixture
def street() -> Iterator[Street]:
    with contextlib.closing(ChainStore()) as store:
        yield Street(store)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database)
    yield opened
    await opened.close()


class Followed:
    """A daemon that follows a street, and what its hints did."""

    def __init__(self, daemon: IntegrationDaemon, hints: StreamHints) -> None:
        self.daemon = daemon
        self.hints = hints


@contextlib.asynccontextmanager
async def following(
    url: str, street: Street, database: str, pool: Pool, *, poll_interval_s: float, hinted: bool = True
) -> AsyncIterator[Followed]:
    writer, stop = LedgerWriter(database, DEFAULT_PARAMS), asyncio.Event()
    contracts = read_contracts(street.contracts.vault, street.contracts.factory, "testnet")
    patience = StreamPatience(first_s=0.01, longest_s=0.1)
    async with TonCenterClient(url, retry=QUICK) as client:
        hints = StreamHints(
            HintStream(url, patience=patience), lambda address: daemon.wake(address), lambda: daemon.statuses
        )
        daemon = IntegrationDaemon(
            client,
            writer,
            DatabaseRecords(pool),
            contracts,
            LAYOUT,
            poll_interval_s=poll_interval_s,
            tasks=[Task("stream", hints.run)] if hinted else [],
        )
        writer.start()
        task = asyncio.create_task(daemon.run(stop))
        try:
            yield Followed(daemon, hints)
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE_S)
            await writer.close()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0.01)


async def test_a_block_is_in_the_ledger_long_before_the_next_poll(street: Street, database: str, pool: Pool) -> None:
    localnet = Localnet(street.chain)
    async with (
        running(localnet) as url,
        TonCenterClient(url, retry=QUICK) as client,
        following(url, street, database, pool, poll_interval_s=NEVER_S) as followed,
    ):
        await caught_up(pool, street, client)  # the first round needs no hint
        await until(lambda: followed.hints.status.connected)
        street.fill()
        street.buy(100)
        await caught_up(pool, street, client)
        assert followed.daemon.statuses[0].cursor_lt > 0
        assert followed.hints.status.connects == 1


async def test_a_stream_that_breaks_is_opened_again_and_nothing_is_missed(
    street: Street, database: str, pool: Pool
) -> None:
    localnet = Localnet(street.chain)
    async with (
        running(localnet) as url,
        TonCenterClient(url, retry=QUICK) as client,
        following(url, street, database, pool, poll_interval_s=NEVER_S) as followed,
    ):
        for number in range(3):
            await until(lambda: followed.hints.status.connected)
            await until(lambda: localnet.streams.count == 1)
            localnet.streams.break_all()
            street.deposit(1, 10 + number)  # nobody is there to be told
            await caught_up(pool, street, client)
        assert followed.hints.status.reconnects == 3
        assert not [task for task in followed.daemon.tasks if task.crashes]


async def live_through(street: Street, localnet: Localnet, followed: Followed | None) -> None:
    """Deposits, policies and claims, with hints of every kind of wrong if anybody hears them."""
    dice = random.Random(7)
    street.fill()
    for number in range(12):
        if followed is not None:
            invent(followed, street, dice)
        await asyncio.sleep(0)
        street.deposit(1 + number % 6, 5 + number)
        await asyncio.sleep(0.01)
        policy_id = street.buy(50)
        if number % 3 == 0:
            street.pay_out(policy_id, 20)


def invent(followed: Followed, street: Street, dice: random.Random) -> None:
    """Hints of what never was, straight to who believes in hints."""
    for address in (street.contracts.vault, street.contracts.factory, VAULT):
        for lt in (None, 1, street.chain.head.end_lt + dice.randrange(10**9), 2**63 - 1):
            followed.hints.looks.take(Hint(address, lt))


async def ledger_of(database: str) -> dict[str, list[dict[str, Any]]]:
    async with reading(database) as conn:
        return {table: await rows_of(conn, table) for table in LEDGER_TABLES if table != "blockchain_sync_state"}


async def test_whatever_the_hints_are_the_ledger_is_the_same(
    street: Street, pg: DatabaseServer, database: str, pool: Pool
) -> None:
    localnet = Localnet(street.chain)
    async with running(localnet) as url, TonCenterClient(url, retry=QUICK) as client:
        async with following(url, street, database, pool, poll_interval_s=0.3) as followed:
            await until(lambda: followed.hints.status.connected)
            for name in ("lost", "duplicated", "reordered"):
                localnet.faults.inject(Fault(name=name, rate=0.4, seconds=600))
            await live_through(street, localnet, followed)
            await caught_up(pool, street, client)
            struck = dict(localnet.faults.struck)
            localnet.faults.clear()
        plain = pg.create()
        other = await open_pool(plain)
        async with following(url, street, plain, other, poll_interval_s=0.02, hinted=False):
            await caught_up(other, street, client)
        await other.close()
        hinted, polled = await ledger_of(database), await ledger_of(plain)
        pg.drop(plain)
    assert set(struck) == {"lost", "duplicated", "reordered"}
    assert len(polled["blockchain_events"]) > 50
    assert hinted == polled


async def test_a_server_without_a_stream_is_polled_as_ever(street: Street, database: str, pool: Pool) -> None:
    localnet = Localnet(street.chain)
    async with running(localnet) as url, TonCenterClient(url, retry=QUICK) as client:
        await localnet.streams.close()  # answers 503 from now on
        async with following(url, street, database, pool, poll_interval_s=0.02) as followed:
            street.deposit(2, 10)
            await caught_up(pool, street, client)
            await until(lambda: followed.hints.status.error == "the server answered 503")
            assert not [task for task in followed.daemon.tasks if task.crashes]
