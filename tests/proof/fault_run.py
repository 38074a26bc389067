"""A chain with a clock behind an API that fails in seeded mixes, the daemon on it, and what became of the ledger.

    make faults MINUTES=10
    python -m proof.fault_run --minutes 10 --seed 7      (with tests on PYTHONPATH)

Exit code 1 when an event was lost, doubled or invented, a cursor went back, or ledger and chain differ afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import httpx
from rich.console import Console
from rich.table import Table

from db.servers import running_server
from tonsurance import log, metrics
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import load_layout
from tonsurance.chain.retry import RetryPolicy
from tonsurance.chain.stream import HintStream, StreamPatience
from tonsurance.core.events import Cursor
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.binaries import find_binaries
from tonsurance.db.events import select_sync_states
from tonsurance.db.pool import Pool, acquire, open_pool
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import Contracts, deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.fault_kinds import KINDS, REFUSALS, SILENCES, Fault
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.integration_daemon import FollowedContract, IntegrationDaemon, read_contracts
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.stream_hint import StreamHints
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.verification import VaultVerifier

KEY = bytes(range(32))
LAYOUT = load_layout()
RETRY = RetryPolicy(timeout_s=0.4, deadline_s=1.2, base_s=0.005, cap_s=0.05)
BREAKER = BreakerPolicy(cooldown_s=0.05, cap_s=0.5)
"""All as in life but many times faster: the faults too pass sooner."""
PATIENCE = StreamPatience(silence_s=3.0, connect_s=1.0, first_s=0.05, longest_s=0.5, well_after_s=1.0)
BLOCK_S, POLL_S, SAMPLE_S = 0.05, 0.2, 0.02
CATCH_UP_S = 120.0
RATES = (0.1, 0.3, 0.3, 1.0)
OUTAGE_RATES = (0.02, 0.05, 0.1, 0.3, 1.0)
"""Less often: where nothing is answered, nothing else can go wrong."""

STORED = "SELECT logical_time, message_index, transaction_hash, event_type, raw_body FROM blockchain_events"
QUARANTINED = "SELECT logical_time, message_index FROM blockchain_quarantine"

Event = tuple[int, int, str, str, bytes]
"""Logical time, message index, hash of the transaction, type and body."""


@dataclass
class Watch:
    """The cursors, looked at all the time: a contract's may only grow, and is never two transactions at one time."""

    samples: int = 0
    broken: list[str] = field(default_factory=list)
    seen: dict[str, Cursor] = field(default_factory=dict)
    longest_still_s: float = 0.0
    _moved_at: float = field(default_factory=time.monotonic)

    def note(self, cursors: dict[str, Cursor]) -> None:
        """One look."""
        self.samples += 1
        for contract, now in cursors.items():
            before = self.seen.get(contract, now)
            if now.lt < before.lt or (now.lt == before.lt and now.hash != before.hash):
                self.broken.append(f"the cursor of {contract} went from {before} to {now}")
        if cursors != self.seen:
            self._moved_at = time.monotonic()
        self.longest_still_s = max(self.longest_still_s, time.monotonic() - self._moved_at)
        self.seen = cursors


class World:
    """A served chain, and a look into the ledger that follows it."""

    def __init__(self, localnet: Localnet, contracts: Contracts, url: str, dsn: str, pool: Pool) -> None:
        self.localnet = localnet
        self.contracts = contracts
        self.url = url
        self.dsn = dsn
        self.pool = pool
        self.watch = Watch()
        self.followed: tuple[FollowedContract, ...] = read_contracts(contracts.vault, contracts.factory, "testnet")

    # --- what happens

    def step(self, blocks: int = 1) -> None:
        """Blocks at once, full of what the actors do."""
        for _ in range(blocks):
            self.localnet.step()

    async def inject(self, fault: Fault) -> None:
        """Switch a fault on, as anybody can."""
        values = {"name": fault.name, "rate": fault.rate, "seconds": fault.seconds, "seed": fault.seed}
        await self._control("fault", values)

    async def clear(self) -> None:
        """Switch all faults off."""
        await self._control("fault/clear", {})

    async def _control(self, action: str, values: dict[str, object]) -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            (await http.post(f"{self.url}/_localnet/{action}", json=values)).raise_for_status()

    # --- what came of it

    def heads(self) -> dict[str, Cursor]:
        """The newest transaction of each contract, from the chain itself."""
        newest = {item.address: self.localnet.chain.transactions(item.address, limit=1) for item in self.followed}
        return {address: Cursor(made[0].lt, made[0].hash) for address, made in newest.items()}

    async def cursors(self) -> dict[str, Cursor]:
        """How far the ledger is, contract by contract."""
        async with acquire(self.pool) as conn:
            return {state.contract_address: state.cursor for state in await select_sync_states(conn)}

    async def caught_up(self, longest_s: float = CATCH_UP_S) -> bool:
        """Wait until the ledger is where the chain is; whether it came there. A busy machine may need long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                while await self.cursors() != self.heads():
                    await asyncio.sleep(SAMPLE_S)
                return True
        return False

    async def find_faults(self, *, verify: bool = True) -> list[str]:
        """Everything in which the ledger is not what the chain says. To be asked when no blocks are made."""
        found = list(self.watch.broken)
        for contract in self.followed:
            found += await self._compare_events(contract)
        if await self.cursors() != self.heads():
            found.append(f"the ledger stands at {await self.cursors()} and the chain at {self.heads()}")
        elif verify:
            async with TonCenterClient(self.url) as client:
                verifier = VaultVerifier(client, self.pool, self.contracts.vault, LAYOUT, print, wait_s=60.0)
                found += [text for vault in (await verifier.verify()).vaults for text in vault.differences]
        return found

    async def _compare_events(self, contract: FollowedContract) -> Iterator[str]:
        where = " WHERE contract_address = $1"
        async with acquire(self.pool) as conn:
            stored = [tuple(row) for row in await conn.fetch(STORED + where, contract.address)]
            quarantined = [tuple(row) for row in await conn.fetch(QUARANTINED + where, contract.address)]
        ledger, chain = Counter(map(_as_event, stored)), Counter(self._chain_events(contract))
        findings = {
            "lost": chain.keys() - ledger.keys(),
            "invented": ledger.keys() - chain.keys(),
            "doubled": {event for event, times in ledger.items() if times > 1},
            "quarantined": set(quarantined),
        }
        return (f"{len(some)} {name}, such as {min(some)[:4]}" for name, some in findings.items() if some)

    def _chain_events(self, contract: FollowedContract) -> Iterator[Event]:
        """Decoded from the chain's own store, by no way that a fault could touch."""
        decoder = Decoder(LAYOUT, contract=contract.address, kind=contract.kind)
        for made in self.localnet.chain.transactions(contract.address, limit=1_000_000):
            for event in decoder.decode(made.boc).events:
                yield event.lt, event.message_index, made.hash.hex(), type(event.body).__name__, event.raw_body

    async def count_events(self) -> int:
        """How many the ledger holds."""
        async with acquire(self.pool) as conn:
            count: int = await conn.fetchval("SELECT count(*) FROM blockchain_events")
            return count


def _as_event(row: tuple[object, ...]) -> Event:
    lt, index, hash_, event_type, body = row
    return int(str(lt)), int(str(index)), str(hash_), str(event_type), bytes(body)  # type: ignore[call-overload]


@asynccontextmanager
async def a_world(engine: TonpyEngine, dsn: str, *, seed: int = 4, blocks: int = 30) -> AsyncIterator[World]:
    """With this many blocks made."""
    store = ChainStore()
    chain = LocalChain(engine, store, seed=seed, block_seconds=250)
    contracts = deploy_contracts(chain, KEY)
    localnet = Localnet(chain, contracts, Actors(chain, contracts, KEY))
    for _ in range(blocks):
        localnet.step()
    pool = await open_pool(dsn, max_size=4)
    try:
        async with running(localnet) as url:
            yield World(localnet, contracts, url, dsn, pool)
    finally:
        await pool.close()
        store.close()


@asynccontextmanager
async def following(world: World) -> AsyncIterator[None]:
    """The real daemon at work with the stream's hints, and its cursors watched."""
    writer, stop = LedgerWriter(world.dsn, DEFAULT_PARAMS), asyncio.Event()
    async with TonCenterClient(world.url, retry=RETRY, breaker=BREAKER) as client:
        daemon = IntegrationDaemon(
            client, writer, DatabaseRecords(world.pool), world.followed, LAYOUT, poll_interval_s=POLL_S, grace_s=1.0
        )
        hints = StreamHints(HintStream(world.url, patience=PATIENCE), daemon.wake, lambda: daemon.statuses)
        writer.start()
        tasks = [asyncio.create_task(job) for job in (daemon.run(stop), hints.run(stop), _sample(world, stop))]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
            await writer.close()


async def _sample(world: World, stop: asyncio.Event) -> None:
    while not stop.is_set():
        world.watch.note(await world.cursors())
        await asyncio.sleep(SAMPLE_S)


@asynccontextmanager
async def a_clock(world: World, interval_s: float = BLOCK_S) -> AsyncIterator[None]:
    """A block every interval, until the end of the block."""
    stop = asyncio.Event()

    async def tick() -> None:
        while not stop.is_set():
            world.step()
            await asyncio.sleep(interval_s)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        stop.set()
        await task


async def suffer_mixes(world: World, seconds: float, dice: random.Random) -> int:
    """Random faults for so long, one to four at a time; returns how many were switched on."""
    ends_at, count = time.monotonic() + seconds, 0
    while (left := ends_at - time.monotonic()) > 0:
        for name in dice.sample(KINDS, dice.randint(1, 4)):
            count += 1
            await world.inject(_draw_fault(name, dice))
        await asyncio.sleep(min(left, dice.uniform(0.1, 1.0)))
    return count


def _draw_fault(name: str, dice: random.Random) -> Fault:
    rate = dice.choice(OUTAGE_RATES if name in (*SILENCES, *REFUSALS) else RATES)
    longest_s = 0.5 if rate == 1.0 else 2.0
    return Fault(name=name, rate=rate, seconds=dice.uniform(0.1, longest_s), seed=dice.randrange(1 << 30))


# --- by hand


@contextmanager
def a_database() -> Iterator[str]:
    """A fresh one in a PostgreSQL of our own."""
    with running_server(find_binaries()) as server:
        yield server.create()
        server.close()


async def run_faults(dsn: str, seconds: float, seed: int) -> tuple[list[str], Table]:
    """The whole run; what was wrong afterwards, and its figures."""
    async with a_world(TonpyEngine(), dsn) as world:
        async with following(world):
            await world.caught_up()
            blocks, before, requests = world.localnet.chain.head.seqno, await world.count_events(), count_requests()
            async with a_clock(world):
                switched_on = await suffer_mixes(world, seconds, random.Random(seed))
                await world.clear()
            took_s = await _timed(world.caught_up)
        found = await world.find_faults()
        table = Table("figure", "value", title=f"Faults, {seconds:.0f} s, seed {seed}")
        figures = {
            "blocks": world.localnet.chain.head.seqno - blocks,
            "events posted": await world.count_events() - before,
            "faults switched on": switched_on,
            **{f"struck: {name}": count for name, count in sorted(world.localnet.faults.struck.items())},
            **{f"requests: {code}": count for code, count in sorted((count_requests() - requests).items())},
            "looks at the cursors": world.watch.samples,
            "longest time no cursor moved": f"{world.watch.longest_still_s:.1f} s",
            "caught up after the faults in": f"{took_s:.2f} s",
            "lost, doubled, invented, other differences": len(found),
        }
        for name, value in figures.items():
            table.add_row(name, str(value))
    return found, table


async def _timed(job: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await job()
    return time.monotonic() - began


def count_requests() -> Counter[str]:
    """The client's requests since the start of the process, by what came of them."""
    counts: Counter[str] = Counter()
    for metric in metrics.CHAIN_REQUESTS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                counts[list(sample.labels.values())[-1]] += int(sample.value)
    return counts


def main() -> int:
    """Run, print the figures, and say what was wrong."""
    parser = argparse.ArgumentParser(description="Follow a chain through seeded faults of its API.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    log.configure("error", process="faults")
    console = Console()
    with a_database() as dsn:
        found, table = asyncio.run(run_faults(dsn, given.minutes * 60, given.seed))
    console.print(table)
    for text in found:
        console.print(f"WRONG: {text}", markup=False, soft_wrap=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
