"""The daemon: refuses what it cannot follow before anything is written, follows both contracts, stops cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from pytoniq_core.boc.builder import Builder

from chain.fake_toncenter import HANG, RATE_LIMITED, FakeTonCenter, serving
from chain.making import FACTORY, LAYOUT, VAULT, make_chain
from chain.patience import QUICK, open_impatient
from services.fake_ledger import FakeLedger
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.errors import (
    ChainUnavailable,
    DatabaseUnavailable,
    InvalidAddress,
    LedgerRefused,
    NotOurContract,
    UsageError,
    WriterFenced,
    WrongNetwork,
)
from tonsurance.core.events import FACTORY_KIND, GENESIS, VAULT_KIND, ContractBatch, Cursor
from tonsurance.services.contract_set import WantedContract
from tonsurance.services.integration_daemon import FollowedContract, IntegrationDaemon, read_contracts
from tonsurance.services.task_supervision import Patience, Task

CODES = {VAULT: Builder().store_uint(1, 8).end_cell(), FACTORY: Builder().store_uint(2, 8).end_cell()}
KNOWN = msgspec.structs.replace(LAYOUT, code={VAULT_KIND: CODES[VAULT].hash, FACTORY_KIND: CODES[FACTORY].hash})
SHORT_REST = BreakerPolicy(cooldown_s=0.01, cap_s=0.05)
CONTRACTS = read_contracts(VAULT, FACTORY, "mainnet")


class TwoLedgers:
    """One FakeLedger per contract, and an event that something was posted."""

    def __init__(self) -> None:
        self.of = {VAULT: FakeLedger(), FACTORY: FakeLedger()}
        self.posted = asyncio.Condition()
        self.registered: list[FollowedContract] = []

    async def submit(self, batch: ContractBatch) -> None:
        try:
            await self.of[batch.contract].submit(batch)
        finally:
            async with self.posted:
                self.posted.notify_all()

    async def read_cursor(self, contract: str) -> Cursor:
        return self.of[contract].cursor

    async def record_head(self, contract: str, head_lt: int) -> None:
        await self.of[contract].record_head(contract, head_lt)

    async def record_fault(self, contract: str, message: str) -> None:
        await self.of[contract].record_fault(contract, message)

    async def register(self, contract: FollowedContract) -> None:
        if contract not in self.registered:
            self.registered.append(contract)

    async def read_wanted(self) -> list[WantedContract]:
        return [WantedContract(contract=contract, wanted="active", revision=1) for contract in self.registered]

    async def end_backfill(self, address: str, revision: int) -> None:
        raise AssertionError("nobody asked for a backfill")

    async def until(self, **wanted: Cursor) -> None:
        """Wait until the cursors are these (names: vault, factory)."""
        cursors = {VAULT: wanted.get("vault"), FACTORY: wanted.get("factory")}
        async with asyncio.timeout(60), self.posted:
            await self.posted.wait_for(
                lambda: all(c is None or self.of[name].cursor == c for name, c in cursors.items())
            )


@pytest.fixture
async def fake() -> AsyncIterator[FakeTonCenter]:
    accounts = {VAULT: make_chain(5), FACTORY: make_chain(3, account=FACTORY)}
    codes = {address: code.to_boc() for address, code in CODES.items()}
    async with serving(FakeTonCenter(accounts=accounts, codes=codes)) as server:
        yield server


@asynccontextmanager
async def running(fake: FakeTonCenter, ledgers: TwoLedgers) -> AsyncIterator[IntegrationDaemon]:
    stop = asyncio.Event()
    async with TonCenterClient(fake.url, retry=QUICK, breaker=SHORT_REST) as client:
        daemon = IntegrationDaemon(client, ledgers, ledgers, CONTRACTS, KNOWN, poll_interval_s=0.005, grace_s=0.2)
        task = asyncio.create_task(daemon.run(stop))
        try:
            yield daemon
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)  # less than a request may take


async def refuse(fake: FakeTonCenter) -> None:
    ledgers = TwoLedgers()
    async with open_impatient(fake) as client:
        daemon = IntegrationDaemon(client, ledgers, ledgers, CONTRACTS, KNOWN, poll_interval_s=0.005)
        try:
            await daemon.run(asyncio.Event())
        finally:
            assert ledgers.registered == []
            assert all(ledger.batches == [] for ledger in ledgers.of.values())


async def test_both_contracts_are_registered_and_followed_to_their_heads(fake: FakeTonCenter) -> None:
    ledgers = TwoLedgers()
    async with running(fake, ledgers) as daemon:
        await ledgers.until(vault=fake.accounts[VAULT][-1].cursor, factory=fake.accounts[FACTORY][-1].cursor)
        assert [status.contract for status in daemon.statuses] == [VAULT, FACTORY]
    assert ledgers.registered == list(CONTRACTS)


async def test_new_transactions_are_posted_while_it_runs(fake: FakeTonCenter) -> None:
    ledgers = TwoLedgers()
    async with running(fake, ledgers) as daemon:
        for _ in range(3):
            fake.accounts[VAULT] += make_chain(1, after=fake.accounts[VAULT][-1].cursor)
            daemon.wake()
            await ledgers.until(vault=fake.accounts[VAULT][-1].cursor)


async def test_one_refused_contract_does_not_hold_up_the_other(fake: FakeTonCenter) -> None:
    ledgers = TwoLedgers()
    ledgers.of[VAULT].errors.append(LedgerRefused("no"))
    async with running(fake, ledgers) as daemon:
        await ledgers.until(factory=fake.accounts[FACTORY][-1].cursor)
        fake.accounts[FACTORY] += make_chain(1, account=FACTORY, after=fake.accounts[FACTORY][-1].cursor)
        await ledgers.until(factory=fake.accounts[FACTORY][-1].cursor)
        assert [status.status for status in daemon.statuses] == ["error", "active"]
    assert ledgers.of[VAULT].cursor == GENESIS


async def test_an_outage_of_the_chain_is_survived(fake: FakeTonCenter) -> None:
    ledgers = TwoLedgers()
    async with running(fake, ledgers) as daemon:
        await ledgers.until(vault=fake.accounts[VAULT][-1].cursor)
        fake.faults.extend([RATE_LIMITED] * 20)
        fake.accounts[VAULT] += make_chain(1, after=fake.accounts[VAULT][-1].cursor)
        daemon.wake()
        await ledgers.until(vault=fake.accounts[VAULT][-1].cursor)


async def test_a_stop_does_not_wait_for_a_chain_that_hangs(fake: FakeTonCenter) -> None:
    ledgers = TwoLedgers()
    async with running(fake, ledgers):
        await ledgers.until(vault=fake.accounts[VAULT][-1].cursor)
        fake.faults.extend([HANG] * 1000)
        await fake.hangs[""].wait()


async def test_a_stop_finishes_the_batch_in_flight(fake: FakeTonCenter) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    class Slow(TwoLedgers):
        async def submit(self, batch: ContractBatch) -> None:
            entered.set()
            await release.wait()
            await super().submit(batch)

    ledgers, stop = Slow(), asyncio.Event()
    async with open_impatient(fake) as client:
        daemon = IntegrationDaemon(client, ledgers, ledgers, CONTRACTS, KNOWN, poll_interval_s=0.005)
        task = asyncio.create_task(daemon.run(stop))
        await entered.wait()
        stop.set()
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.wait_for(task, 60)
    assert ledgers.of[VAULT].cursor == fake.accounts[VAULT][-1].cursor


async def test_it_begins_when_the_old_writer_is_gone_and_the_database_is_there(fake: FakeTonCenter) -> None:
    refusals: list[Exception] = [WriterFenced(), DatabaseUnavailable()]

    async def take() -> None:
        if refusals:
            raise refusals.pop(0)

    ledgers, stop = TwoLedgers(), asyncio.Event()
    async with open_impatient(fake) as client:
        daemon = IntegrationDaemon(client, ledgers, ledgers, CONTRACTS, KNOWN, poll_interval_s=0.005, retry_s=0.001)
        task = asyncio.create_task(daemon.follow(stop, take=take))
        await ledgers.until(vault=fake.accounts[VAULT][-1].cursor)
        stop.set()
        await asyncio.wait_for(task, 60)
    assert refusals == []


async def test_a_stop_ends_the_wait_for_the_writer(fake: FakeTonCenter) -> None:
    asked, stop = asyncio.Event(), asyncio.Event()

    async def take() -> None:
        asked.set()
        raise WriterFenced

    ledgers = TwoLedgers()
    async with open_impatient(fake) as client:
        daemon = IntegrationDaemon(client, ledgers, ledgers, CONTRACTS, KNOWN, retry_s=3_600.0)
        task = asyncio.create_task(daemon.follow(stop, take=take))
        await asked.wait()
        stop.set()
        await asyncio.wait_for(task, 60)
    assert ledgers.registered == []


async def test_a_crashing_task_beside_stops_no_contract(fake: FakeTonCenter) -> None:
    crashes = asyncio.Semaphore(0)

    async def crash(_stop: asyncio.Event) -> None:
        crashes.release()
        raise ChainUnavailable("planted")

    ledgers, stop = TwoLedgers(), asyncio.Event()
    async with open_impatient(fake) as client:
        daemon = IntegrationDaemon(
            client, ledgers, ledgers, CONTRACTS, KNOWN, poll_interval_s=0.005,
            tasks=[Task("crashing", crash)], patience=Patience(first_s=0.02, longest_s=0.02),
        )  # fmt: skip
        task = asyncio.create_task(daemon.run(stop))
        for _ in range(3):
            await asyncio.wait_for(crashes.acquire(), 60)
            fake.accounts[VAULT] += make_chain(1, after=fake.accounts[VAULT][-1].cursor)
            daemon.wake(VAULT)
            await ledgers.until(vault=fake.accounts[VAULT][-1].cursor)
        assert {state.name: state.crashes > 0 for state in daemon.tasks} == {
            "contracts": False, "ingest:MultiTrancheVault:a1a1a1a1": False, "ingest:PolicyFactory:b2b2b2b2": False,
            "crashing": True}  # fmt: skip
        stop.set()
        await asyncio.wait_for(task, 60)


async def test_a_contract_that_is_not_deployed_is_said_before_anything_is_written(fake: FakeTonCenter) -> None:
    fake.status = "uninitialized"
    with pytest.raises(NotOurContract, match=r"MultiTrancheVault 0:a1.* is not deployed"):
        await refuse(fake)


async def test_exchanged_addresses_are_said_before_anything_is_written(fake: FakeTonCenter) -> None:
    fake.codes[VAULT], fake.codes[FACTORY] = fake.codes[FACTORY], fake.codes[VAULT]
    with pytest.raises(NotOurContract, match="exchanged"):
        await refuse(fake)


async def test_a_chain_that_does_not_answer_is_said_before_anything_is_written(fake: FakeTonCenter) -> None:
    fake.faults.extend([HANG] * 1000)
    with pytest.raises(ChainUnavailable, match="in time"):
        await refuse(fake)


def test_addresses_are_taken_in_any_form_and_mistakes_are_named() -> None:
    friendly = format_friendly(VAULT, bounceable=False)
    assert read_contracts(friendly, FACTORY, "mainnet")[0].address == VAULT
    with pytest.raises(InvalidAddress, match="hello"):
        read_contracts("hello", FACTORY, "mainnet")
    with pytest.raises(WrongNetwork):
        read_contracts(VAULT, format_friendly(FACTORY, test_only=True), "mainnet")
    with pytest.raises(UsageError, match="same address"):
        read_contracts(VAULT, format_friendly(VAULT), "testnet")
