"""A whole daemon beside real contracts and a real database, both of which go away and come back: nobody helps it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chain.patience import QUICK
from services.database_door import DatabaseDoor
from services.street import LAYOUT, Street, Wallet
from tonsurance.chain import deployment, messages
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import VaultReader
from tonsurance.core.errors import NotOurContract
from tonsurance.core.events import VAULT_KIND
from tonsurance.core.params import build_params
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.pool import Connection, Pool, connect, open_pool
from tonsurance.localnet.deploy import ADMIN
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer
from tonsurance.services.alert_tasks import AlertTasks
from tonsurance.services.contract_admin import ContractAdmin
from tonsurance.services.daemon_health import DaemonHealth
from tonsurance.services.daemon_reports import DaemonReports
from tonsurance.services.daemon_watch import DaemonWatch
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.leadership import Leadership
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.task_supervision import Patience, Task, TaskSupervisor

IMPATIENT_LIMITS = ("database_away_s", "chain_away_s", "task_well_s")
PARAMS = build_params({("risk", key): 1 for key in IMPATIENT_LIMITS}, 2)
TON = NANO_PER_TON


class Crashing:
    """A task that crashes when the test says so."""

    def __init__(self) -> None:
        self.crash = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (stop, self.crash)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self.crash.is_set():
            self.crash.clear()
            raise ValueError("planted")


class Whole:
    """The daemon as its process joins it, with doors before chain and database."""

    def __init__(self, street: Street, client: TonCenterClient, dsn: str, pool: Pool, conn: Connection) -> None:
        self.street = street
        self.client = client
        self.conn = conn
        self.crashing = Crashing()
        self._dsn = dsn
        self._pool = pool
        self.leadership = Leadership(dsn, role=None, poll_s=0.05, check_every_s=0.1)
        self.watch = DaemonWatch()
        self.health = DaemonHealth(
            self.watch, lambda: PARAMS, network=client.base_url, leads=lambda: self.leadership.leads
        )

    async def run(self, stop: asyncio.Event) -> None:
        reports = DaemonReports(
            self.health,
            self.client,
            LazyPool(self._dsn, max_size=1),
            head_every_s=0.1,
            heartbeat_s=0.1,
            sample_s=0.05,
        )
        beside = TaskSupervisor()
        for task in reports.tasks:
            beside.start(task)
        try:
            await self.leadership.run(self._lead, stop)
        finally:
            await beside.end_all()
            await reports.close()

    async def _lead(self, over: asyncio.Event) -> None:
        writer = LedgerWriter(self._dsn, PARAMS)
        contracts = self.street.contracts
        daemon = IntegrationDaemon(
            self.client,
            writer,
            DatabaseRecords(self._pool),
            read_contracts(contracts.vault, contracts.factory, "testnet"),
            LAYOUT,
            poll_interval_s=0.02,
            look_every_s=0.05,
            tasks=[Task("alerts", self._keep_alerts), Task("planted", self.crashing.run)],
            patience=Patience(first_s=0.01, longest_s=0.1),
            on_error=self.watch.note_error,
            on_change=lambda: self.watch.on_change(),
        )
        self.watch.begin(lambda: daemon.statuses, lambda: daemon.tasks)
        try:
            await daemon.follow(over, take=writer.take, at_once=lambda: not self.leadership.leads)
        finally:
            self.watch.end()
            await writer.close()

    async def _keep_alerts(self, stop: asyncio.Event) -> None:
        alerts = AlertTasks(self._dsn, lambda: PARAMS, evaluators=(self.watch.evaluator,))
        self.watch.on_change = alerts.wake
        await alerts.run(stop)

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await done():
                await asyncio.sleep(0.02)

    async def ledger_is(self, ton: int, vault_id: str = "main") -> None:
        """Wait until the tranches hold this much."""

        async def done() -> bool:
            sql = "SELECT coalesce(sum(total_capital_nanoton), 0)::bigint FROM tranche_utilization WHERE vault_id = $1"
            return await self.conn.fetchval(sql, vault_id) == ton * TON

        await self.until(done)

    async def alert_is(self, kind: str, *, over: bool) -> None:
        """Wait until such an alert is open, or was and is over."""

        async def done() -> bool:
            rows = await self.conn.fetch("SELECT resolved_at FROM risk_alerts WHERE kind = $1", kind)
            return bool(rows) and all((row["resolved_at"] is not None) == over for row in rows)

        await self.until(done)

    async def check(self) -> None:
        """Each event once, and the ledger is the chain's."""
        seqno = (await self.client.get_masterchain_info()).last.seqno
        reading = await VaultReader(self.client, self.street.contracts.vault).all_tranches(seqno)
        await self.ledger_is(sum(row.capital for row in reading.tranches) // TON)
        counted = await self.conn.fetchval("SELECT sum(total_events_synced) FROM blockchain_sync_state")
        assert counted == await self.conn.fetchval("SELECT count(*) FROM blockchain_events")
        assert [task.crashes for task in self.watch.tasks if task.name != "planted"] == [0] * (
            len(self.watch.tasks) - 1
        )


class ChainDoor(DatabaseDoor):
    """The same door before the chain."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"


@pytest.fixture
async def doors(database: str) -> AsyncIterator[tuple[Street, ChainDoor, DatabaseDoor]]:
    with contextlib.closing(ChainStore()) as store:
        street = Street(store)
        async with running(street.chain) as url:
            chain, door = ChainDoor(url), DatabaseDoor(database)
            await chain.open()
            await door.open()
            yield street, chain, door
            await chain.shut()
            await door.shut()


@pytest.fixture
async def whole(doors: tuple[Street, ChainDoor, DatabaseDoor], database: str) -> AsyncIterator[Whole]:
    street, chain, door = doors
    rest = BreakerPolicy(cooldown_s=0.05, cap_s=0.2)
    pool, conn, stop = await open_pool(door.dsn, max_size=4), await connect(database), asyncio.Event()
    async with TonCenterClient(chain.url, retry=QUICK, breaker=rest) as client:
        found = Whole(street, client, door.dsn, pool, conn)
        task = asyncio.create_task(found.run(stop))
        street.deposit(1, 10)
        await found.ledger_is(10)
        yield found
        stop.set()
        await asyncio.wait_for(task, 60)
    pool.terminate()
    await conn.close()


async def test_a_crashed_task_is_started_again_and_nothing_else_stops(whole: Whole) -> None:
    whole.crashing.crash.set()
    await whole.alert_is("Task_Crashed", over=False)
    whole.street.deposit(2, 5)
    await whole.ledger_is(15)
    await whole.alert_is("Task_Crashed", over=True)
    [planted] = [task for task in whole.watch.tasks if task.name == "planted"]
    assert (planted.state, planted.crashes, planted.last_error) == ("running", 1, "ValueError: planted")
    await whole.check()


@pytest.mark.parametrize("away", [("chain",), ("database",), ("chain", "database")], ids="+".join)
async def test_an_outage_ends_without_a_hand_and_is_told(
    whole: Whole, doors: tuple[Street, ChainDoor, DatabaseDoor], away: tuple[str, ...]
) -> None:
    _, chain, database = doors
    shut = [{"chain": chain, "database": database}[name] for name in away]
    for door in shut:
        await door.shut()
    whole.street.deposit(2, 5)

    async def noticed() -> bool:
        figures = {kind.name: value for (kind, _), value in whole.watch.figures(PARAMS).items()}
        return all(figures[{"chain": "Chain_Away", "database": "Database_Away"}[name]] > 1.0 for name in away)

    await whole.until(noticed)
    assert whole.health.report().status == "UNHEALTHY"
    for door in shut:
        await door.open()
    await whole.ledger_is(15)
    for name in away:
        await whole.alert_is({"chain": "Chain_Away", "database": "Database_Away"}[name], over=True)
    whole.street.deposit(3, 7)
    await whole.ledger_is(22)
    await whole.check()

    async def well() -> bool:
        return not [reason for reason in whole.health.report().reasons if "AWAY" in reason]

    await whole.until(well)


async def test_a_second_real_vault_is_added_while_the_first_goes_on(whole: Whole) -> None:
    street = whole.street
    admin = Wallet(ADMIN, street.chain.seed)
    second = deployment.vault_deployment(deployment.VaultTerms(admin=admin.address, withdraw_delay_s=1_234))
    person = ContractAdmin(whole._pool, actor="ann")

    async def add() -> str:
        return await person.add(whole.client, second.address, kind=VAULT_KIND, vault_id="second", network="testnet")

    with pytest.raises(NotOurContract, match="not deployed"):
        await add()
    order = Transfer(
        destination=second.address, value=2 * TON, body=messages.top_up(), state_init=second.state_init, bounce=False
    )
    admin.send(street.chain, order)
    street.chain.mine_until_idle()
    value = 3 * TON + messages.DEPOSIT_GAS
    street.alice.send(street.chain, Transfer(destination=second.address, value=value, body=messages.deposit(4)))
    street.chain.mine_until_idle()
    assert await add() == second.address
    await whole.ledger_is(3, "second")
    street.deposit(2, 5)
    await whole.ledger_is(15)
