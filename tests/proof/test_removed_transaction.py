"""A transaction missing from what the API serves is located and reported, and nothing after it gets into the ledger."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import load_layout
from tonsurance.core.events import Cursor
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import SyncState, select_sync_states
from tonsurance.db.pool import Connection, connect, open_pool
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import Contracts, deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.http import Answer, JsonApp, Request
from tonsurance.localnet.server import Localnet
from tonsurance.localnet.server import running as serving
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.toncenter import PREFIX, TonCenter
from tonsurance.services.health import HealthReads
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.tranche_reads import TrancheReads

KEY = bytes(range(32))


class Gap:
    """The local chain's API, but for one transaction that getTransactions does not show."""

    def __init__(self, chain: LocalChain) -> None:
        self._real = TonCenter(chain)
        self.hidden: Cursor | None = None

    async def handle(self, request: Request) -> Answer:
        answer = await self._real.handle(request)
        if request.path.endswith("/getTransactions"):
            shown = [item for item in answer.content["result"] if read_hash(item) != (self.hidden and self.hidden.hash)]
            return Answer(answer.status, {**answer.content, "result": shown})
        return answer


def read_hash(item: dict[str, Any]) -> bytes:
    return base64.b64decode(item["transaction_id"]["hash"])


class World:
    """A served chain, a daemon on it, and a look into the ledger."""

    def __init__(self, localnet: Localnet, contracts: Contracts, gap: Gap, dsn: str, conn: Connection) -> None:
        self.localnet = localnet
        self.contracts = contracts
        self.gap = gap
        self.dsn = dsn
        self.conn = conn

    def cursors(self, contract: str) -> list[Cursor]:
        """Of every transaction of a contract, oldest first."""
        stored = self.localnet.chain.transactions(contract, limit=100_000)
        return [Cursor(item.lt, item.hash) for item in reversed(stored)]

    async def sync(self, contract: str) -> SyncState:
        (state,) = [s for s in await select_sync_states(self.conn) if s.contract_address == contract]
        return state

    async def until(self, contract: str, holds: Callable[[SyncState], bool]) -> SyncState:
        async with asyncio.timeout(60):
            while True:
                with suppress(ValueError):  # not registered yet
                    if holds(state := await self.sync(contract)):
                        return state
                await asyncio.sleep(0.01)


@asynccontextmanager
async def world(engine: TonpyEngine, dsn: str, blocks: int) -> AsyncIterator[World]:
    store = ChainStore()
    chain = LocalChain(engine, store, seed=4, block_seconds=250)
    contracts = deploy_contracts(chain, KEY)
    localnet, gap = Localnet(chain, contracts, Actors(chain, contracts, KEY)), Gap(chain)
    localnet.app = JsonApp({PREFIX: gap.handle})
    for _ in range(blocks):
        localnet.step()
    conn = await connect(dsn)
    try:
        async with serving(localnet) as url, following(url, dsn, contracts):
            yield World(localnet, contracts, gap, dsn, conn)
    finally:
        await conn.close()
        store.close()


@asynccontextmanager
async def following(url: str, dsn: str, contracts: Contracts) -> AsyncIterator[None]:
    """The real daemon, until the end of the block."""
    pool, writer, stop = await open_pool(dsn), LedgerWriter(dsn, DEFAULT_PARAMS), asyncio.Event()
    followed = read_contracts(contracts.vault, contracts.factory, "testnet")
    async with TonCenterClient(url) as client:
        daemon = IntegrationDaemon(
            client, writer, DatabaseRecords(pool), followed, load_layout(), poll_interval_s=0.02, grace_s=1.0
        )
        task = asyncio.create_task(daemon.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)
            await writer.close()
            await pool.close()


async def read_health(dsn: str) -> dict[str, str]:
    """Of each component, its status as /health would give it."""
    reader = PostgresLedgerReader(dsn)
    reads = TrancheReads(reader, DEFAULT_PARAMS, vault_id="main", stale_after_s=60.0)
    await reads.refresh()
    await reader.close()
    return {part.name: part.status for part in HealthReads(reads, quiet_after_s=60.0).check().components}


def named(cursor: Cursor) -> str:
    return f"({cursor.lt}, {cursor.hash.hex()})"


@pytest.mark.parametrize("which", ["vault", "factory"])
async def test_a_removed_transaction_is_located_reported_and_nothing_is_posted_past_it(
    engine: TonpyEngine, database: str, which: str
) -> None:
    async with world(engine, database, blocks=60) as w:
        contract, other = w.contracts.vault, w.contracts.factory
        if which == "factory":
            contract, other = other, contract
        before = w.cursors(contract)[-1]
        await w.until(contract, lambda s: s.cursor == before)
        for _ in range(60):
            w.localnet.step()
        await w.until(contract, lambda s: s.cursor == w.cursors(contract)[-1])
        known = w.cursors(contract)
        stopped_at = known[-1]
        await remove_next(w, contract, known)
        older, missing, newer = around_hidden(w, contract)
        state = await w.until(contract, lambda s: s.sync_status == "error")
        for cursor in (older, missing, newer):
            assert named(cursor) in str(state.error_message), state.error_message
        await w.until(other, lambda s: s.cursor == w.cursors(other)[-1])  # the other contract is not held up
        assert (await w.sync(contract)).cursor == stopped_at
        past = "SELECT count(*) FROM blockchain_events WHERE contract_address = $1 AND logical_time > $2"
        assert await w.conn.fetchval(past, contract, stopped_at.lt) == 0
        health = await read_health(w.dsn)
        kind = (await w.sync(contract)).contract_type
        assert health[f"contract {kind}"] == "down"
        w.gap.hidden = None
        await w.until(contract, lambda s: (s.cursor, s.sync_status) == (w.cursors(contract)[-1], "active"))
        assert (await w.sync(contract)).error_message is None
        assert (await read_health(w.dsn))[f"contract {kind}"] == "ok"
        assert await stored_events(w, contract) == chain_events(w, contract, kind)


async def remove_next(w: World, contract: str, known: list[Cursor]) -> None:
    """Blocks until there are three more transactions, of which the middle one is hidden before anybody saw it."""
    while len(new := w.cursors(contract)[len(known) :]) < 4:
        w.localnet.step()  # no await: the daemon does not look meanwhile
    w.gap.hidden = new[2]


def around_hidden(w: World, contract: str) -> tuple[Cursor, Cursor, Cursor]:
    """The transaction before the hidden one, itself, and the one after."""
    cursors = w.cursors(contract)
    at = [cursor == w.gap.hidden for cursor in cursors].index(True)
    return cursors[at - 1], cursors[at], cursors[at + 1]


async def stored_events(w: World, contract: str) -> set[tuple[int, int]]:
    sql = "SELECT logical_time, message_index FROM blockchain_events WHERE contract_address = $1"
    return {(row[0], row[1]) for row in await w.conn.fetch(sql, contract)}


def chain_events(w: World, contract: str, kind: str) -> set[tuple[int, int]]:
    """The same, from the chain's own store."""
    decoder = Decoder(load_layout(), contract=contract, kind=kind)
    decoded = [decoder.decode(item.boc) for item in w.localnet.chain.transactions(contract, limit=100_000)]
    return {(event.lt, event.message_index) for transaction in decoded for event in transaction.events}
