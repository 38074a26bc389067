"""A ledger whose tranches a test moves, the alerts that come of it, and a receiver of webhooks on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from db.chain_story import VAULT, batch, cursor_at, deposit, register, transaction
from tonsurance.core.alerts import Transition
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import GENESIS, CoverageChanged, EventBody
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.pool import Connection, connect
from tonsurance.services.alerting import AlertService
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter

TRANCHE = "SURE-MEZZ"
_PLACE = TRANCHE_IDS.index(TRANCHE)


class AlertStory:
    """The tranche SURE-MEZZ with 1,000 TON, covered as the test says, one ledger version for each `cover`."""

    def __init__(self, dsn: str, conn: Connection, writer: LedgerWriter) -> None:
        self.dsn = dsn
        self.conn = conn
        self.params = DEFAULT_PARAMS
        self._writer = writer
        self._lt = 0
        self._covered = 0.0

    async def cover(self, ton: float) -> None:
        """Bring the cover to this much."""
        delta = round((ton - self._covered) * NANO_PER_TON)
        self._covered = ton
        parts = [0] * len(TRANCHE_IDS)
        parts[_PLACE] = delta
        await self.post(CoverageChanged(7, tuple(parts)))

    async def post(self, body: EventBody) -> None:
        """One event of the vault."""
        after = cursor_at(self._lt) if self._lt else GENESIS
        self._lt += 1
        await self._writer.submit(batch(transaction(self._lt, body), after=after))
        await self.see_head()

    async def stop_writing(self) -> None:
        """The daemon goes."""
        await self._writer.close()

    async def see_head(self, ago_s: float = 0) -> None:
        """The chain was looked at just now, or some time ago."""
        await self.conn.execute(
            "UPDATE blockchain_sync_state SET last_sync_timestamp = now() - make_interval(secs => $1)", float(ago_s)
        )

    async def transitions(self) -> list[tuple[str, str, str]]:
        """All that was ever told: kind, change, severity."""
        rows = await self.conn.fetch("""
            SELECT kind, change, t.severity FROM risk_alert_transitions t JOIN risk_alerts USING (alert_id)
            ORDER BY transition_id""")
        return [tuple(row) for row in rows]

    async def of_kind(self, kind: str) -> list[tuple[str, str]]:
        """What was told of one kind."""
        return [(change, severity) for name, change, severity in await self.transitions() if name == kind]

    @asynccontextmanager
    async def service(self, **options: object) -> AsyncIterator[AlertService]:
        """A process with an alerting service, until the block ends."""
        pool = LazyPool(self.dsn)
        try:
            yield AlertService(pool, self._read_params, **options)
        finally:
            await pool.close()

    async def evaluate(self, **options: object) -> tuple[Transition, ...]:
        """One evaluation by a process that lives for it alone: every evaluation is after a restart."""
        async with self.service(**options) as service:
            return await service.evaluate_all()

    def _read_params(self) -> Params:
        return self.params


@asynccontextmanager
async def alert_story(dsn: str) -> AsyncIterator[AlertStory]:
    """A vault with one tranche that holds capital."""
    await register(dsn)
    conn, writer = await connect(dsn), LedgerWriter(dsn, DEFAULT_PARAMS)
    writer.start()
    story = AlertStory(dsn, conn, writer)
    try:
        await story.post(deposit(_PLACE + 1, 1_000 * NANO_PER_TON))
        yield story
    finally:
        await writer.close()
        await conn.close()


class Request:
    """What the receiver got."""

    def __init__(self, head: str, body: bytes) -> None:
        first, *lines = head.split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = body

    @property
    def said(self) -> dict[str, object]:
        """The body."""
        return json.loads(self.body)


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """An HTTP server that answers as the test says: `answer` by a status line, or with a coroutine of the test's."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()
        self.status = "200 OK"
        self.headers = ""
        self.hold: asyncio.Event | None = None
        """While it is set to an event, answers wait for it."""
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().strip()
                length = int(Request(head, b"").headers.get("content-length", "0"))
                self.requests.append(Request(head, await reader.readexactly(length)))
                self.arrived.set()
                if self.hold is not None:
                    await self.hold.wait()
                writer.write(f"HTTP/1.1 {self.status}\r\n{self.headers}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    found = Receiver()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        if found.hold is not None:
            found.hold.set()
        server.close()
        await server.wait_closed()


__all__ = ["TRANCHE", "VAULT", "AlertStory", "Receiver", "alert_story", "receiver"]
