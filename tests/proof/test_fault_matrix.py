"""Whatever the chain's API does, the ledger becomes the chain's: nothing lost, doubled, invented; no cursor goes back.

The check itself is proved by three planted bugs: each makes it fail under faults that the real follower survives.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from chain.patience import QUICK
from proof.fault_run import LAYOUT, World, a_clock, a_world, following, suffer_mixes
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower, Walk
from tonsurance.chain.retry import RetryPolicy
from tonsurance.core.errors import TonsuranceError
from tonsurance.core.events import VAULT_KIND, Cursor
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import acquire
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.fault_kinds import KINDS, Fault
from tonsurance.services.ingest import ContractIngest
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords

ALONE_S = 0.6
MIXES_S = 60.0 if os.environ.get("CI") == "true" else 10.0
PAGE, SAMPLES = 3, 10
ONCE = RetryPolicy(timeout_s=60.0, deadline_s=60.0)
"""No second try, so that the same faults meet the same requests."""
NEVER = BreakerPolicy(threshold=1_000_000)


@pytest.mark.parametrize("name", KINDS)
async def test_each_fault_alone_leaves_the_ledger_equal_to_the_chain(
    engine: TonpyEngine, database: str, name: str
) -> None:
    async with a_world(engine, database) as world:
        async with following(world):
            assert await world.caught_up()
            async with a_clock(world):
                await suffer_alone(world, name)
            assert await world.caught_up()
        assert world.localnet.faults.struck[name] > 0
        assert await world.find_faults() == []
        assert world.watch.samples > SAMPLES


async def suffer_alone(world: World, name: str) -> None:
    """Often, for a while, and until it has struck and the cursors were looked at."""
    await world.inject(Fault(name=name, rate=0.5, seconds=600))
    async with asyncio.timeout(60):
        await asyncio.sleep(ALONE_S)
        while not world.localnet.faults.struck[name] or world.watch.samples <= SAMPLES:
            await asyncio.sleep(0.05)
    await world.clear()


@pytest.mark.timeout(600)
async def test_seeded_mixes_of_faults_leave_the_ledger_equal_to_the_chain(engine: TonpyEngine, database: str) -> None:
    async with a_world(engine, database) as world:
        async with following(world):
            assert await world.caught_up()
            async with a_clock(world):
                dice, struck = random.Random(20), world.localnet.faults.struck
                await suffer_mixes(world, MIXES_S, dice)
                async with asyncio.timeout(120):
                    while sum(struck.values()) <= 2 * MIXES_S:  # a busy machine asks less often
                        await suffer_mixes(world, 1.0, dice)
                await world.clear()
            assert await world.caught_up()
        assert await world.find_faults() == []


# --- what the check is worth


class TrustsEmptyPages(Follower):
    """Takes an empty page for the end of the history."""

    async def walk(self, after: Cursor, head: Cursor) -> Walk:
        kept, wanted = [], head
        while wanted != after:
            page = await self._client.get_transactions(
                self.contract, limit=PAGE, lt=wanted.lt, hash=wanted.hash, to_lt=after.lt
            )
            if not page:
                break
            for transaction in page:
                self._check_link(transaction, wanted, "the head")
                kept.append(transaction)
                wanted = transaction.previous
        return Walk(after=after, transactions=tuple(reversed(kept)), complete=True)


class ChecksNoLinks(Follower):
    """Takes what comes, in the order it comes."""

    def _check_link(self, transaction: object, wanted: Cursor, newer: str) -> None: ...


class PostsUnpinnedHeads(Follower):
    """Follows to what the server shows now, finished or not."""

    async def read_head(self, seqno: int | None = None) -> Cursor:
        return (await self._client.get_address_information(self.contract)).last_transaction


@asynccontextmanager
async def ingesting(world: World, follower: type[Follower]) -> AsyncIterator[ContractIngest]:
    """One round at a time, of the vault."""
    (vault,) = [contract for contract in world.followed if contract.kind == VAULT_KIND]
    world.followed = (vault,)
    records, writer = DatabaseRecords(world.pool), LedgerWriter(world.dsn, DEFAULT_PARAMS)
    await records.register(vault)
    writer.start()
    try:
        async with TonCenterClient(world.url, retry=ONCE, breaker=NEVER) as client:
            yield ContractIngest(
                follower(client, vault.address, vault.kind, page_size=PAGE),
                Decoder(LAYOUT, contract=vault.address, kind=vault.kind),
                writer,
                records,
            )
    finally:
        await writer.close()


async def run_round(ingest: ContractIngest, world: World) -> None:
    """An error is one more of the things that happen."""
    with suppress(TonsuranceError):
        await ingest.run_once()
    world.watch.note(await world.cursors())


async def lie_to(world: World, ingest: ContractIngest, bursts: int) -> list[str]:
    """Bursts of lies with honest rounds between them; what is wrong with the ledger as soon as something is."""
    await run_round(ingest, world)
    for burst in range(bursts):
        await world.inject(Fault(name="lying", rate=0.2, seconds=600, seed=burst))
        for _ in range(15):
            world.step(3)
            await run_round(ingest, world)
        await world.clear()
        for _ in range(3):
            await run_round(ingest, world)
        if findings := await world.find_faults(verify=False):
            return findings
    return []


async def test_a_sound_follower_survives_a_liar(engine: TonpyEngine, database: str) -> None:
    async with a_world(engine, database) as world, ingesting(world, Follower) as ingest:
        assert await lie_to(world, ingest, bursts=3) == []
        assert world.localnet.faults.struck["lying"] > 10
        assert await world.find_faults() == []


@pytest.mark.parametrize("planted", [TrustsEmptyPages, ChecksNoLinks], ids=["trusts an empty page", "checks no links"])
async def test_a_follower_that_believes_a_liar_is_caught(
    engine: TonpyEngine, database: str, planted: type[Follower]
) -> None:
    async with a_world(engine, database) as world, ingesting(world, planted) as ingest:
        findings = await lie_to(world, ingest, bursts=20)
    assert any("lost" in text for text in findings), findings


@pytest.mark.parametrize("planted", [Follower, PostsUnpinnedHeads], ids=["sound", "posts unpinned heads"])
async def test_of_blocks_that_are_rolled_back_nothing_is_in_the_ledger(
    engine: TonpyEngine, database: str, planted: type[Follower]
) -> None:
    async with a_world(engine, database) as world, ingesting(world, planted) as ingest:
        await run_round(ingest, world)
        await world.inject(Fault(name="rollback", seconds=600))
        imagined = set()
        for _ in range(6):
            world.step(2)
            imagined |= await read_unfinished(world)
            await run_round(ingest, world)
        assert len(imagined) > 3
        world.step(4)  # the chain goes on, and not as it was shown
        await world.clear()
        for _ in range(3):
            await run_round(ingest, world)
        taken, findings = imagined & await posted_hashes(world), await world.find_faults(verify=planted is Follower)
    if planted is Follower:
        assert (taken, findings) == (set(), [])
    else:
        assert taken
        assert any("invented" in text for text in findings), findings
        assert any("lost" in text for text in findings), findings


async def read_unfinished(world: World) -> set[str]:
    """Hashes of the vault's transactions that the API shows now and that no finished block holds."""
    vault = world.contracts.vault
    async with TonCenterClient(world.url, retry=QUICK) as client:
        shown = await client.get_transactions(vault, limit=20)
    real = {made.hash for made in world.localnet.chain.transactions(vault, limit=100)}
    return {item.cursor.hash.hex() for item in shown if item.cursor.hash not in real}


async def posted_hashes(world: World) -> set[str]:
    """Of every transaction an event of which is in the ledger, and of the one the cursor is at."""
    async with acquire(world.pool) as conn:
        rows = await conn.fetch("SELECT DISTINCT transaction_hash FROM blockchain_events")
    cursors = (await world.cursors()).values()
    return {row[0] for row in rows} | {cursor.hash.hex() for cursor in cursors}
