"""From a block of the local chain through the ledger to a client that listens, with the stream's hints and without.

All parts are real and run in one process, so that each waits for the others' work too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from bench.figures import Figure, percentile
from bench.posting import durable_cluster, make_database
from tonsurance.bus.notify import Listener
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.stream import HintStream
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import open_pool
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.stream_hint import StreamHints
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.task_supervision import Task

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from services.street import LAYOUT, Street

BLOCKS_HINTED, BLOCKS_POLLED = 200, 40
HINTED_POLL_S, POLL_S = 10.0, 0.5
HINTED_LIMIT_S, POLLED_LIMIT_S = 0.3, POLL_S + 0.2
PATIENCE_S = 30


def measure() -> list[Figure]:
    """Both, each on a database of its own."""
    with durable_cluster() as dsn, contextlib.closing(ChainStore()) as store:
        street = Street(store)
        hinted = uvloop.run(_measure(dsn, "hinted", street, blocks=BLOCKS_HINTED, poll_s=HINTED_POLL_S, hinted=True))
        polled = uvloop.run(_measure(dsn, "polled", street, blocks=BLOCKS_POLLED, poll_s=POLL_S, hinted=False))
    return [
        _show(
            f"block to client with the stream's hint (poll every {HINTED_POLL_S:.0f} s)",
            hinted,
            HINTED_LIMIT_S,
            f"< {HINTED_LIMIT_S * 1e3:.0f} ms",
        ),
        _show(
            f"block to client without it (poll every {POLL_S * 1e3:.0f} ms)",
            polled,
            POLLED_LIMIT_S,
            f"< {POLLED_LIMIT_S * 1e3:.0f} ms (poll interval + 200 ms)",
        ),
    ]


def _show(name: str, delays: list[float], limit_s: float, limit: str) -> Figure:
    p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
    return Figure(
        name=f"{name}, p99",
        value=f"{p99 * 1e3:.0f} ms",
        spread=f"p50 {p50 * 1e3:.0f} ms over {len(delays)} blocks",
        limit=limit,
        ok=p99 < limit_s,
    )


async def _measure(dsn: str, name: str, street: Street, *, blocks: int, poll_s: float, hinted: bool) -> list[float]:
    database = await make_database(dsn, f"latency_{name}")
    heard: asyncio.Queue[float] = asyncio.Queue()
    stop, dice = asyncio.Event(), random.Random(1)
    listener = Listener(database, lambda version: heard.put_nowait(time.time()) if version is not None else None)
    async with _following(database, street, poll_s, hinted=hinted):
        listening = asyncio.create_task(listener.run(stop))
        while not listener.connected:
            await asyncio.sleep(0.01)
        delays = []
        for number in range(blocks):
            await asyncio.sleep(dice.uniform(0.02, 0.2 if hinted else 0.02 + poll_s))
            delays.append(await _time_one(street, heard, number))
        stop.set()
        await listening
    return delays


async def _time_one(street: Street, heard: asyncio.Queue[float], number: int) -> float:
    """Seconds from the block with a deposit to the word that the ledger has it. Nothing else happens meanwhile."""
    while not heard.empty():
        heard.get_nowait()
    street.deposit(1 + number % 6, 5)
    (made,) = street.chain.transactions(street.contracts.vault, limit=1)
    async with asyncio.timeout(PATIENCE_S):
        return await heard.get() - street.chain.header(made.seqno).mined_at


@contextlib.asynccontextmanager
async def _following(database: str, street: Street, poll_s: float, *, hinted: bool) -> AsyncIterator[None]:
    """The daemon at work, and up to date."""
    writer, stop = LedgerWriter(database, DEFAULT_PARAMS), asyncio.Event()
    contracts = read_contracts(street.contracts.vault, street.contracts.factory, "testnet")
    pool = await open_pool(database)
    async with running(Localnet(street.chain)) as url, TonCenterClient(url) as client:
        hints = StreamHints(HintStream(url), lambda address: daemon.wake(address), lambda: daemon.statuses)
        tasks = [Task("stream", hints.run)] if hinted else []
        daemon = IntegrationDaemon(
            client, writer, DatabaseRecords(pool), contracts, LAYOUT, poll_interval_s=poll_s, tasks=tasks
        )
        writer.start()
        working = asyncio.create_task(daemon.run(stop))
        head = street.chain.account(street.contracts.vault).last_lt
        while (hinted and not hints.status.connected) or not any(one.cursor_lt == head for one in daemon.statuses):
            await asyncio.sleep(0.05)
        try:
            yield
        finally:
            stop.set()
            await working
            await writer.close()
            await pool.close()
