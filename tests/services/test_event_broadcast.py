"""Events over a real Redis: in order and once, on after a restart, and a gap is said."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from db.chain_story import TON, batch, deposit, register, transaction
from services.redis_server import RedisServer, running_redis
from tonsurance.core.events import GENESIS, Cursor
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.event_broadcast import CHANNEL, EventBroadcast, broadcast_events
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter


class Story:
    """A ledger that gets deposits, one transaction at a time."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._writer = writer
        self._after: Cursor = GENESIS

    async def deposit(self, times: int = 1) -> None:
        for _ in range(times):
            made = transaction(self._after.lt + 10, deposit(2, TON))
            await self._writer.submit(batch(made, after=self._after))
            self._after = made.cursor


@pytest.fixture
async def story(database: str) -> AsyncIterator[Story]:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    yield Story(writer)
    await writer.close()


@asynccontextmanager
async def listening(server: RedisServer) -> AsyncIterator[Any]:
    client = Redis.from_url(server.url)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(CHANNEL)
    while await pubsub.get_message(timeout=0.05) is not None:
        pass

    async def hear() -> dict[str, Any]:
        async with asyncio.timeout(60):
            while (message := await pubsub.get_message(timeout=1)) is None:
                pass
        return dict(json.loads(message["data"]))

    try:
        yield hear
    finally:
        await pubsub.aclose()
        await client.aclose()


@asynccontextmanager
async def broadcasting(dsn: str, url: str, **options: int) -> AsyncIterator[EventBroadcast]:
    pool = LazyPool(dsn, max_size=1)
    broadcast = EventBroadcast(pool, url, **options)
    try:
        yield broadcast
    finally:
        await broadcast.close()
        await pool.close()


async def test_every_event_is_told_once_in_order_also_over_a_restart(
    database: str, story: Story, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        async with listening(server) as hear:
            await story.deposit(2)
            async with broadcasting(database, server.url) as first:
                assert await first.publish_new() == 0, "what was before anybody listened is not news"
                await story.deposit(3)
                assert await first.publish_new() == 3
                assert await first.publish_new() == 0
            await story.deposit(205)  # while nobody publishes, and more than a page
            async with broadcasting(database, server.url) as second:
                assert await second.publish_new() == 205
            heard = [await hear() for _ in range(208)]
    assert [int(message["event_id"]) for message in heard] == list(range(3, 211))
    assert heard[0]["event_type"] == "DepositMade"
    assert heard[0]["fields"]["amount"] == str(TON), "amounts are text"
    assert heard[0]["channel"] == "events"


async def test_a_redis_that_is_away_holds_nothing_up_and_loses_nothing(
    database: str, story: Story, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        async with broadcasting(database, server.url) as broadcast:
            await broadcast.publish_new()
            server.send(signal.SIGKILL)
            await story.deposit(2)
            assert await broadcast.publish_new() == 0
            assert broadcast.circuit.degraded is not None
            server.start()
            async with listening(server) as hear:
                async with asyncio.timeout(60):
                    while not await broadcast.publish_new():
                        await asyncio.sleep(0.05)
                assert [(await hear())["event_id"] for _ in range(2)] == ["1", "2"]
            assert broadcast.circuit.degraded is None


async def test_after_a_long_outage_a_gap_is_said(database: str, story: Story, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        async with broadcasting(database, server.url, most_behind=210) as broadcast, listening(server) as hear:
            await broadcast.publish_new()
            await story.deposit(211)
            assert await broadcast.publish_new() == 200
            gap = await hear()
            assert (gap["event_type"], gap["from_event_id"], gap["to_event_id"]) == ("gap", "1", "11")
            assert (await hear())["event_id"] == "12"


async def test_the_daemons_task_tells_of_a_commit_at_once(database: str, story: Story, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        stop = asyncio.Event()
        task = asyncio.create_task(broadcast_events(database, server.url, stop))
        client = Redis.from_url(server.url)
        async with listening(server) as hear:
            async with asyncio.timeout(60):
                while not await client.keys(f"{CHANNEL}:last:*"):
                    await story.deposit()
                    await asyncio.sleep(0.05)
            first = await hear()
            await story.deposit()
            later = first
            while int(later["event_id"]) < story._after.lt // 10:
                later = await hear()
        stop.set()
        await task
        await client.aclose()
