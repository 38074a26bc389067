"""Every announced version arrives, and whatever may have been missed leads to reading everything again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import pytest

from db.chain_story import TON, batch, deposit, register, transaction
from tonsurance.bus.notify import CHANNEL, Listener
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db import ledger
from tonsurance.db.pool import Connection, connect
from tonsurance.services.ledger_writer import LedgerWriter

WAIT_S = 60.0


class Heard:
    """The calls a listener made."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | None] = asyncio.Queue()

    def __call__(self, version: int | None) -> None:
        self.queue.put_nowait(version)

    async def next(self) -> int | None:
        return await asyncio.wait_for(self.queue.get(), WAIT_S)


@asynccontextmanager
async def listening(dsn: str, *, heartbeat_s: float = 5.0) -> AsyncIterator[tuple[Heard, Listener]]:
    heard, stop = Heard(), asyncio.Event()
    listener = Listener(dsn, heard, heartbeat_s=heartbeat_s)
    task = asyncio.create_task(listener.run(stop))
    try:
        yield heard, listener
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    conn = await connect(database)
    yield conn
    await conn.close()


def test_writer_and_listener_use_the_same_channel() -> None:
    assert ledger.CHANNEL == CHANNEL


async def test_a_posted_version_is_heard(database: str) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    async with listening(database) as (heard, listener):
        assert await heard.next() is None  # LISTEN is in force: now read everything
        assert listener.connected
        await writer.submit(batch(transaction(10, deposit(1, TON))))
        assert await heard.next() == 1
    assert not listener.connected
    await writer.close()


async def test_after_a_lost_connection_everything_is_read_again(database: str, conn: Connection) -> None:
    async with listening(database) as (heard, _):
        assert await heard.next() is None
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tonsurance-listener' AND datname = current_database()"
        )
        assert await heard.next() is None
        await conn.execute(f"NOTIFY {CHANNEL}, '{{\"v\":5}}'")
        assert await heard.next() == 5


async def test_a_payload_nobody_understands_leads_to_reading_everything(database: str, conn: Connection) -> None:
    async with listening(database) as (heard, _):
        assert await heard.next() is None
        await conn.execute(f"NOTIFY {CHANNEL}, 'what'")
        assert await heard.next() is None


async def test_a_connection_that_died_silently_is_noticed_by_the_heartbeat(database: str, conn: Connection) -> None:
    async with mute_proxy(database) as (dsn, mute), listening(dsn, heartbeat_s=0.2) as (heard, listener):
        assert await heard.next() is None
        mute.set()
        while listener.connected:
            await asyncio.sleep(0.02)
        mute.clear()
        assert await heard.next() is None


@asynccontextmanager
async def mute_proxy(dsn: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A TCP proxy before the server that, while the event is set, swallows everything without closing anything."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    mute = asyncio.Event()
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not mute.is_set():
                    writer.write(data)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if query:
            upstream = await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        else:
            upstream = await asyncio.open_connection(parts.hostname, parts.port)
        for source, target in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(pump(source, target))
            pumps.add(task)

    listener = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=listener)
    port = listener.getsockname()[1]
    try:
        yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable", mute
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
