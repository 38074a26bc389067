"""The API over the real ledger: what is committed is shown and pushed, and an outage is survived."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
import pytest
from websockets.asyncio.client import connect as connect_socket

from api.door import Door
from api.running import Talk
from db.chain_story import FACTORY, TON, VAULT, batch, cursor_at, deposit, register, transaction
from ports import free_port
from tonsurance.api.server import serve_api_until
from tonsurance.api.settings import ApiSettings
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.core.events import CoverageChanged, DecodedTransaction, Paused, PolicyExpired
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.prices import Price
from tonsurance.db.alerts import record_evaluated
from tonsurance.db.events import record_head
from tonsurance.db.pool import connect
from tonsurance.db.prices import insert_price
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.ports import EventQuery


class Story:
    """Writes a vault's history into the database, transaction by transaction."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._writer = LedgerWriter(dsn, DEFAULT_PARAMS)
        self._lt = 0

    async def post(self, *bodies: object) -> None:
        """One transaction with these events."""
        await self.post_all(bodies)

    async def post_all(self, *transactions: tuple[object, ...]) -> None:
        """Transactions with these events, in one batch."""
        after = cursor_at(self._lt) if self._lt else None
        made: list[DecodedTransaction] = []
        for bodies in transactions:
            self._lt += 1
            made.append(transaction(self._lt, *bodies))  # type: ignore[arg-type]
        await self._writer.submit(batch(*made, **({"after": after} if after else {})))

    async def fill(self) -> None:
        """1000 TON in each tranche, half of it covered, and both contracts read up to their heads."""
        await register(self._dsn)
        for tranche in range(1, 7):
            await self.post(deposit(tranche, 1000 * TON))
        await self.post(CoverageChanged(1, (500 * TON,) * 6))
        conn = await connect(self._dsn)
        await record_head(conn, VAULT, self._lt)
        await record_head(conn, FACTORY, 0)
        await record_evaluated(conn, "tranches", self._lt, 1)
        await conn.close()

    async def close(self) -> None:
        """Give the ledger back."""
        await self._writer.close()


@pytest.fixture
async def story(database: str) -> AsyncIterator[Story]:
    """A filled ledger."""
    story = Story(database)
    await story.fill()
    yield story
    await story.close()


@asynccontextmanager
async def served(dsn: str, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """The whole API process, in this loop; the block begins when it answers."""
    settings = ApiSettings(port=free_port(), **changes)  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(serve_api_until(dsn, settings, DEFAULT_PARAMS, stop))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=60) as http:
            while not await answers(http):
                await asyncio.sleep(0.01)
            yield http
    finally:
        stop.set()
        await task


async def answers(http: httpx.AsyncClient) -> bool:
    """Whether the process is up."""
    try:
        return (await http.get("/health/live")).status_code == 200
    except httpx.TransportError:
        return False


async def wait_until_ready(http: httpx.AsyncClient, status: int = 200) -> None:
    """Return when /health/ready has this status; fails after a minute."""
    async with asyncio.timeout(60):
        while (await http.get("/health/ready")).status_code != status:
            await asyncio.sleep(0.02)


async def test_a_commit_is_pushed_to_the_socket_and_shown_by_rest(database: str, story: Story) -> None:
    async with served(database, poll_interval_s=3600.0) as http:  # only the announcement can be this fast
        await wait_until_ready(http)
        assert (await http.get("/health")).json()["status"] == "healthy"
        address = str(http.base_url).replace("http", "ws")
        async with connect_socket(f"{address}/ws", compression=None) as connection:
            talk = Talk(connection)
            await talk.hear()
            for channel in ("tranche_apy", "events"):
                await talk.say(action="subscribe", channel=channel)
            state = await talk.hear_type("state")
            assert len(state["events"]) == 7
            await story.post(deposit(6, 1000 * TON, 2**70))
            update = await talk.hear_type("apy_update")
            while update["ledger_version"] != "8":
                update = await talk.hear_type("apy_update")
            event = await talk.hear_type("event")
        assert update["tranches"][5]["utilization"] == 0.25
        assert event["transaction_hash"] == cursor_at(8).hash.hex()
        assert event["fields"]["shares"] == str(2**70)
        assert "type" not in event["fields"]
        body = (await http.get("/api/v1/utilization/SURE-EQT")).json()
        assert body["total_capital_nanoton"] == str(2000 * TON)
        assert body["as_of"]["lt"] == "8"
        page = (await http.get("/api/v2/events?order=desc&limit=1")).json()
        assert page["events"][0]["event_id"] == event["event_id"]


async def test_the_api_starts_before_its_database_and_finds_it(database: str) -> None:
    door = Door(database)
    async with served(door.dsn, poll_interval_s=0.05) as http:
        assert (await http.get("/health/live")).status_code == 200
        assert (await http.get("/health/ready")).status_code == 503
        assert (await http.get("/api/v1/utilization/SURE-SNR")).json()["code"] == "not_ready"
        assert (await http.get("/api/v2/events")).json()["code"] == "database_unavailable"
        assert (await http.get("/health")).json()["status"] == "unhealthy"
        story = Story(database)
        await story.fill()
        async with door.opened():
            await wait_until_ready(http)
            assert (await http.get("/api/v1/utilization/SURE-SNR")).json()["utilization"] == 0.5
        await story.close()


async def test_the_api_outlives_its_database(database: str, story: Story) -> None:
    door = Door(database)
    async with served(door.dsn, poll_interval_s=0.05, stale_after_s=0.2) as http:
        async with door.opened():
            await wait_until_ready(http)
        await wait_until_ready(http, 503)
        row = (await http.get("/api/v1/utilization/SURE-SNR")).json()
        async with asyncio.timeout(60):
            while not row["stale"]:
                row = (await http.get("/api/v1/utilization/SURE-SNR")).json()
        assert (row["total_capital_nanoton"], row["utilization"]) == (str(1000 * TON), 0.5)
        assert (await http.get("/health")).json()["status"] == "degraded"
        await story.post(deposit(2, 1000 * TON))
        async with door.opened():
            await wait_until_ready(http)
            async with asyncio.timeout(60):
                while row["stale"]:
                    row = (await http.get("/api/v1/utilization/SURE-SNR")).json()
            assert row["utilization"] == 0.25


async def test_the_reader_gives_what_the_ledger_holds(database: str, story: Story) -> None:
    await story.post_all((Paused(True),), ())
    reader = PostgresLedgerReader(database)
    state = await reader.read_state()
    assert (state.version, state.last_event_id) == (8, 8)
    assert [row.tranche_id for row in state.tranches][:2] == ["SURE-BTC", "SURE-SNR"]
    assert {(row.capital_nano, row.coverage_nano, row.lt) for row in state.tranches} == {(1000 * TON, 500 * TON, 7)}
    by_kind = {sync.contract_kind: sync for sync in state.contracts}
    assert by_kind["MultiTrancheVault"].last_lt == 9
    assert abs(time.time() - (by_kind["MultiTrancheVault"].checked_at or 0)) < 60
    newest = await reader.read_events(EventQuery(newest_first=True, limit=2))
    assert [(event.event_type, event.fields.get("paused")) for event in newest] == [
        ("Paused", True),
        ("CoverageChanged", None),
    ]
    older = await reader.read_events(EventQuery(newest_first=True, limit=2, after=newest[-1].event_id))
    assert [event.event_id for event in older] == [6, 5]
    assert await reader.read_events(EventQuery(event_type=PolicyExpired.__name__)) == ()
    await reader.close()


async def test_a_database_that_does_not_answer_is_an_outage_and_not_a_wait() -> None:
    with socket.socket() as silent:  # the kernel accepts for it, and nobody ever answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        reader = PostgresLedgerReader(f"postgresql://nobody@127.0.0.1:{port}/x", read_timeout_s=0.2)
        with pytest.raises(DatabaseUnavailable):
            await reader.read_state()
        await reader.close()


@pytest.mark.usefixtures("database")  # the server knows the roles, as soon as any of its databases was migrated
async def test_a_schema_that_is_not_there_yet_is_not_ready(pg: object) -> None:
    dsn = pg.create_empty()  # type: ignore[attr-defined]
    async with served(dsn, poll_interval_s=0.05) as http:
        assert (await http.get("/health/ready")).status_code == 503
        answer = await http.get("/api/v2/events")
        assert (answer.status_code, answer.json()["code"]) == (503, "migration")
        assert "blockchain" not in answer.text
    pg.drop(dsn)  # type: ignore[attr-defined]


async def test_prices_are_shown_with_their_age_and_an_old_one_is_stale(database: str, story: Story) -> None:
    async with served(database) as http:
        await wait_until_ready(http)
        [none] = (await http.get("/api/v2/prices")).json()
        assert (none["price_usd"], none["stale"], none["age_s"], none["max_age_s"]) == (None, True, None, 300.0)
        conn = await connect(database)
        for age_s, usd in ((400, "5.5"), (20, "6.123456789")):
            price = Price(asset="TON", usd=Decimal(usd), source="test", observed_at=time.time() - age_s)
            await insert_price(conn, price)
            [shown] = (await http.get("/api/v2/prices")).json()
            assert (shown["price_usd"], shown["source"], shown["stale"]) == (usd, "test", age_s > 300)
            assert shown["age_s"] >= age_s
        await conn.close()
