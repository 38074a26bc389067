"""Contracts come and go while the others are followed on, in a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from pytoniq_core.boc.builder import Builder

from chain.encoding import encode_event
from chain.fake_toncenter import FakeTonCenter, serving
from chain.making import ALICE, FACTORY, LAYOUT, VAULT, Made, external_out, make_transaction
from chain.patience import QUICK
from services.fake_ledger import FakeLedger
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout, load_layout
from tonsurance.core.errors import InputError, InvalidAddress, NotOurContract, UsageError, WrongNetwork
from tonsurance.core.events import (
    FACTORY_KIND,
    GENESIS,
    VAULT_KIND,
    ContractBatch,
    CoverageChanged,
    Cursor,
    DepositMade,
    EventBody,
)
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.contracts import ContractState
from tonsurance.db.events import select_sync_states
from tonsurance.db.pool import Pool, acquire, open_pool
from tonsurance.services.contract_admin import ContractAdmin, UnknownContract
from tonsurance.services.ingest import ContractIngest, IngestStatus
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.ledger_writer import LedgerWriter, Posted
from tonsurance.services.sync_records import DatabaseRecords

SECOND = "0:" + "d4" * 32
CODES = {VAULT_KIND: Builder().store_uint(1, 8).end_cell(), FACTORY_KIND: Builder().store_uint(2, 8).end_cell()}
KNOWN = msgspec.structs.replace(LAYOUT, code={kind: code.hash for kind, code in CODES.items()})
TON = 10**9


def read_layout(name: str) -> Layout:
    """The layout of these contracts stands in for the one of the package."""
    return KNOWN if name == DEFAULT_LAYOUT else load_layout(name)


class Chain(FakeTonCenter):
    """Vaults whose tranche 1 gets deposits of 1 TON."""

    def lengthen(self, vault: str, *bodies: EventBody, count: int = 1) -> None:
        made = self.accounts.setdefault(vault, [])
        for _ in range(count):
            previous = made[-1].cursor if made else GENESIS
            events = bodies or (DepositMade(1, ALICE, TON, TON, 0),)
            messages = [external_out(vault, encode_event(body, KNOWN, VAULT_KIND)) for body in events]
            made.append(make_transaction(account=vault, lt=previous.lt + 1_000, previous=previous, messages=messages))

    def newest(self, vault: str) -> Cursor:
        made: list[Made] = self.accounts[vault]
        return made[-1].cursor


class Following:
    """A daemon at work, and the person who changes what it follows."""

    def __init__(self, chain: Chain, client: TonCenterClient, pool: Pool, daemon: IntegrationDaemon) -> None:
        self.chain = chain
        self.client = client
        self.pool = pool
        self.daemon = daemon
        self.person = ContractAdmin(pool, actor="ann", layout_of=read_layout)

    async def add(
        self, address: str, kind: str = VAULT_KIND, vault_id: str = "second", network: str = "mainnet"
    ) -> str:
        return await self.person.add(self.client, address, kind=kind, vault_id=vault_id, network=network)

    async def want(self, address: str, wanted: str) -> None:
        await self.person.want(address, wanted, network="mainnet")

    async def state(self, address: str) -> ContractState:
        [found] = [state for state in await self.person.read_states() if state.contract_address == address]
        return found

    def status(self, address: str) -> IngestStatus | None:
        return next((status for status in self.daemon.statuses if status.contract == address), None)

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await done():
                await asyncio.sleep(0.01)

    async def caught_up(self, address: str) -> None:
        async def done() -> bool:
            return (await self.state(address)).last_synced_lt == self.chain.newest(address).lt

        await self.until(done)

    async def left(self, address: str) -> None:
        async def done() -> bool:
            return self.status(address) is None

        await self.until(done)

    async def goes_on(self, address: str) -> None:
        """The contract gets a deposit and it is posted."""
        self.chain.lengthen(address)
        await self.caught_up(address)

    async def capital(self, vault_id: str) -> int:
        async with acquire(self.pool) as conn:
            sql = "SELECT coalesce(sum(total_capital_nanoton), 0)::bigint FROM tranche_utilization WHERE vault_id = $1"
            found: int = await conn.fetchval(sql, vault_id)
            return found


@asynccontextmanager
async def following(chain: Chain, dsn: str, *, writer: LedgerWriter | None = None) -> AsyncIterator[Following]:
    pool, stop = await open_pool(dsn, max_size=6), asyncio.Event()
    writer = writer or LedgerWriter(dsn, DEFAULT_PARAMS)
    rest = BreakerPolicy(cooldown_s=0.01, cap_s=0.05)
    async with TonCenterClient(chain.url, retry=QUICK, breaker=rest) as client:
        daemon = IntegrationDaemon(
            client,
            writer,
            DatabaseRecords(pool),
            read_contracts(VAULT, FACTORY, "mainnet"),
            KNOWN,
            poll_interval_s=0.01,
            look_every_s=0.02,
        )
        task = asyncio.create_task(daemon.run(stop))
        found = Following(chain, client, pool, daemon)
        try:
            await found.until(lambda: _is_true(len(daemon.statuses) >= 1))
            yield found
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)
            await writer.close()
            await pool.close()


async def _is_true(value: bool) -> bool:
    return value


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    """The first vault with two deposits, a second one with three, and a factory that did nothing."""
    codes = {VAULT: VAULT_KIND, SECOND: VAULT_KIND, FACTORY: FACTORY_KIND}
    made = Chain(codes={address: CODES[kind].to_boc() for address, kind in codes.items()}, accounts={FACTORY: []})
    made.lengthen(VAULT, count=2)
    made.lengthen(SECOND, count=3)
    async with serving(made):
        yield made


@pytest.fixture
async def live(chain: Chain, database: str) -> AsyncIterator[Following]:
    async with following(chain, database) as found:
        await found.caught_up(VAULT)
        yield found


async def test_a_contract_that_is_added_is_followed_from_its_beginning_while_the_others_go_on(live: Following) -> None:
    assert await live.add(SECOND) == SECOND
    await live.caught_up(SECOND)
    await live.goes_on(SECOND)
    await live.goes_on(VAULT)
    assert (await live.capital("main"), await live.capital("second")) == (3 * TON, 4 * TON)
    state = await live.state(SECOND)
    assert (state.wanted, state.sync_status, state.changed_by, state.total_events_synced) == (
        "active",
        "active",
        "ann",
        4,
    )


async def test_a_paused_contract_stands_still_until_it_is_resumed(live: Following) -> None:
    await live.add(SECOND)
    await live.caught_up(SECOND)
    await live.want(SECOND, "paused")
    await live.left(SECOND)
    live.chain.lengthen(SECOND, count=2)
    await live.goes_on(VAULT)
    state = await live.state(SECOND)
    assert (state.sync_status, state.last_synced_lt) == ("paused", 3_000)
    await live.want(SECOND, "active")
    await live.caught_up(SECOND)
    assert (await live.state(SECOND)).sync_status == "active"
    assert await live.capital("second") == 5 * TON


async def test_a_removed_contract_keeps_its_history_and_goes_on_there_when_it_is_added_again(live: Following) -> None:
    await live.add(SECOND)
    await live.caught_up(SECOND)
    await live.want(SECOND, "removed")
    await live.left(SECOND)
    async with acquire(live.pool) as conn:
        assert SECOND not in {state.contract_address for state in await select_sync_states(conn)}
    assert await live.capital("second") == 3 * TON
    live.chain.lengthen(SECOND, count=2)
    with pytest.raises(InputError, match="was removed"):
        await live.want(SECOND, "active")
    await live.add(SECOND)
    await live.caught_up(SECOND)
    state = await live.state(SECOND)
    assert (state.total_events_synced, await live.capital("second")) == (5, 5 * TON)


async def test_a_backfill_reads_a_paused_contract_up_to_its_head_once(live: Following) -> None:
    await live.add(SECOND)
    await live.caught_up(SECOND)
    await live.want(SECOND, "paused")
    await live.left(SECOND)
    live.chain.lengthen(SECOND, count=4)
    await live.want(SECOND, "backfill")
    await live.caught_up(SECOND)
    await live.left(SECOND)
    state = await live.state(SECOND)
    assert (state.wanted, state.sync_status, await live.capital("second")) == ("paused", "paused", 7 * TON)
    live.chain.lengthen(SECOND)
    await live.goes_on(VAULT)
    assert (await live.state(SECOND)).last_synced_lt == state.last_synced_lt
    await live.want(VAULT, "backfill")
    assert (await live.state(VAULT)).wanted == "active"


async def test_what_cannot_be_followed_is_refused_with_the_reason_and_disturbs_nothing(live: Following) -> None:
    before = await live.person.read_states()
    refused: list[tuple[type[Exception], str, dict[str, str]]] = [
        (NotOurContract, "exchanged", {"address": SECOND, "kind": FACTORY_KIND}),
        (NotOurContract, "holds a contract with code", {"address": ALICE}),
        (NotOurContract, "knows no code", {"address": SECOND, "kind": "Nothing"}),
        (InputError, "known as the MultiTrancheVault of vault main", {"address": VAULT}),
        (InputError, "on the list already", {"address": VAULT, "vault_id": "main"}),
        (InputError, "Vault main has the MultiTrancheVault", {"address": SECOND, "vault_id": "main"}),
        (InvalidAddress, "hello", {"address": "hello"}),
    ]
    live.chain.codes[ALICE] = Builder().store_uint(9, 8).end_cell().to_boc()
    for error, reason, call in refused:
        with pytest.raises(error, match=reason):
            await live.add(**call)
    with pytest.raises(WrongNetwork):
        await live.add(format_friendly(SECOND, test_only=True))
    with pytest.raises(UsageError, match="cannot be read"):
        await live.person.add(
            live.client, SECOND, kind=VAULT_KIND, vault_id="second", network="mainnet", layout="nothing"
        )
    with pytest.raises(UnknownContract):
        await live.want(SECOND, "paused")
    live.chain.status = "uninitialized"
    with pytest.raises(NotOurContract, match="not deployed"):
        await live.add(SECOND)
    live.chain.status = "active"
    assert [(s.contract_address, s.wanted) for s in await live.person.read_states()] == [
        (s.contract_address, s.wanted) for s in before
    ]
    await live.goes_on(VAULT)


async def test_what_another_hand_put_on_the_list_is_refused_by_the_daemon_alone(live: Following) -> None:
    """Other code under the address, and a layout that is not there: the row stands, the contract is not followed."""
    live.chain.codes[ALICE] = Builder().store_uint(9, 8).end_cell().to_boc()
    async with acquire(live.pool) as conn:
        for address, layout in ((ALICE, "tonsurance"), (SECOND, "nothing")):
            await conn.execute(
                "INSERT INTO followed_contracts (contract_address, contract_type, vault_id, layout, changed_by)"
                " VALUES ($1, 'PolicyFactory', 'main', $2, 'bob')",
                address,
                layout,
            )

    async def refused() -> bool:
        status = live.status(ALICE)
        return status is not None and status.error_code == "not_our_contract"

    await live.until(refused)
    await live.goes_on(VAULT)
    assert live.status(SECOND) is None
    assert (await live.state(ALICE)).last_synced_lt == 0


async def test_a_contract_the_ledger_refused_goes_on_when_it_is_resumed(live: Following) -> None:
    await live.add(SECOND)
    await live.caught_up(SECOND)
    live.chain.lengthen(SECOND, CoverageChanged(7, (-1, 0, 0, 0, 0, 0)))

    async def stopped() -> bool:
        return (await live.state(SECOND)).sync_status == "error"

    await live.until(stopped)
    await live.goes_on(VAULT)
    live.chain.accounts[SECOND].pop()
    live.chain.lengthen(SECOND, count=2)
    await live.goes_on(VAULT)
    assert (await live.state(SECOND)).last_synced_lt == 3_000
    await live.want(SECOND, "active")
    await live.caught_up(SECOND)
    assert (await live.state(SECOND)).sync_status == "active"


class Hurdle(LedgerWriter):
    """Takes the second contract's first batch, and its others when the test says so."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, DEFAULT_PARAMS)
        self.first = True
        self.lifted = asyncio.Event()

    async def submit(self, batch: ContractBatch) -> Posted:
        if batch.contract == SECOND and not self.first:
            await self.lifted.wait()
        self.first = self.first and batch.contract != SECOND
        return await super().submit(batch)


async def test_a_long_backfill_shows_its_progress_and_does_not_hold_up_the_others(chain: Chain, database: str) -> None:
    chain.lengthen(SECOND, count=1_500)
    hurdle = Hurdle(database)
    async with following(chain, database, writer=hurdle) as found:
        await found.caught_up(VAULT)
        await found.add(SECOND)

        async def begun() -> bool:
            status = found.status(SECOND)
            return status is not None and status.progress is not None and status.progress.posted > 0

        await found.until(begun)
        progress = found.status(SECOND).progress  # type: ignore[union-attr]
        assert (progress.from_lt, progress.to_lt) == (0, chain.newest(SECOND).lt)
        assert progress.from_lt < progress.at_lt < progress.to_lt
        assert progress.read == 1_503
        assert progress.rate > 0
        for _ in range(3):
            await found.goes_on(VAULT)
        assert (await found.state(SECOND)).last_synced_lt < chain.newest(SECOND).lt
        hurdle.lifted.set()
        await found.caught_up(SECOND)
        assert await found.capital("second") == 1_503 * TON


async def test_what_is_wanted_outlives_the_daemon(chain: Chain, database: str) -> None:
    async with following(chain, database) as found:
        await found.add(SECOND)
        await found.caught_up(SECOND)
        await found.want(VAULT, "paused")
        await found.left(VAULT)
    chain.lengthen(VAULT)
    async with following(chain, database) as found:
        await found.goes_on(SECOND)
        state = await found.state(VAULT)
        assert (state.wanted, state.sync_status, state.last_synced_lt) == ("paused", "paused", 2_000)


async def test_a_hint_wakes_one_contract(chain: Chain, database: str) -> None:
    async with following(chain, database) as found:
        await found.caught_up(VAULT)
        found.daemon.wake("0:" + "ee" * 32)
        found.daemon.wake(VAULT)
        await found.goes_on(VAULT)


async def test_a_history_longer_than_one_walk_is_posted_in_stages_from_proved_heads(chain: Chain) -> None:
    """Each transaction is read twice at the most, however many stages there are."""
    chain.lengthen(SECOND, count=97)
    ledger, size = FakeLedger(), len(chain.accounts[SECOND][0].boc)
    async with TonCenterClient(chain.url, retry=QUICK) as client:
        follower = Follower(client, SECOND, VAULT_KIND, page_size=10, max_bytes=12 * size)
        ingest = ContractIngest(
            follower, Decoder(KNOWN, contract=SECOND, kind=VAULT_KIND), ledger, ledger, batch_size=5
        )
        await ingest.run_once()
    assert ledger.cursor == chain.newest(SECOND)
    posted = [made.cursor for batch in ledger.batches for made in batch.transactions]
    assert posted == [made.cursor for made in chain.accounts[SECOND]]
    assert 100 <= follower.transactions_read <= 200


async def test_a_batch_that_was_in_flight_does_not_take_a_pause_back(live: Following) -> None:
    """Whatever the daemon still writes of a paused contract, it is shown as paused; the cursor is what was posted."""
    await live.want(VAULT, "paused")
    await live.left(VAULT)
    for sql in (
        "SELECT record_head($1, 9000)",
        "SELECT record_fault($1, 'late')",
        "SELECT move_cursors(ARRAY[$1]::text[], '{9000}', ARRAY[sha256('x')], '{0}')",
    ):
        async with acquire(live.pool) as conn:
            await conn.execute(sql, VAULT)
        assert (await live.state(VAULT)).sync_status == "paused"
    assert (await live.state(VAULT)).last_synced_lt == 9_000
    await live.want(VAULT, "active")
    assert (await live.state(VAULT)).sync_status != "paused"
