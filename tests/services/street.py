"""Real contracts in the TVM, driven by hand, and the daemon that follows them into a real database.

Where the TVM does not run, the tests that import this are skipped; tests/chain/test_golden.py decodes recorded
transactions anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from nacl.signing import SigningKey

from tonsurance.chain import messages
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import load_layout
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.events import select_sync_states
from tonsurance.db.pool import Pool, acquire
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords

pytest.importorskip("tonpy", reason="the TVM runs on x86-64 Linux with Python 3.10 to 3.12 only")

from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import CLAIMS, Contracts, deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer, Wallet

KEY = b"\x07" * 32
LAYOUT = load_layout()


class Street:
    """A chain with our contracts, and one who deposits and buys."""

    def __init__(self, store: ChainStore) -> None:
        self.chain = LocalChain(TonpyEngine(), store)
        self.contracts: Contracts = deploy_contracts(self.chain, KEY)
        self.alice, self.claims = Wallet("alice", self.chain.seed), Wallet(CLAIMS, self.chain.seed)
        for wallet in (self.alice, self.claims):
            self.chain.airdrop(wallet.address, 100_000 * NANO_PER_TON)
        self.chain.mine_until_idle()

    def deposit(self, tranche_id: int, ton: int) -> None:
        """One deposit, to its end."""
        value = ton * NANO_PER_TON + messages.DEPOSIT_GAS
        self._send(self.alice, self.contracts.vault, value, messages.deposit(tranche_id))

    def fill(self) -> None:
        """1,000 TON in each tranche."""
        for tranche_id in range(1, 7):
            self.deposit(tranche_id, 1_000)

    def buy(self, coverage_ton: int) -> int:
        """A policy, in force when this returns; its id."""
        policy_id: int = self.chain.get_method(self.contracts.factory, "get_next_policy_id").stack[0]
        quote = messages.Quote(
            network_id=self.chain.network_id,
            factory=self.contracts.factory,
            quote_id=1_000 + policy_id,
            coverage_type=0,
            chain_id=1,
            stablecoin_id=0,
            coverage_amount=coverage_ton * NANO_PER_TON,
            premium=10 * NANO_PER_TON,
            duration_days=30,
            buyer=self.alice.address,
            deadline=self.chain.now + 500,
        )
        body = messages.create_policy(quote, messages.sign_quote(quote, SigningKey(KEY)))
        self._send(self.alice, self.contracts.factory, quote.premium + messages.REQUEST_GAS, body)
        self.chain.advance_time(3_600)
        return policy_id

    def pay_out(self, policy_id: int, ton: int) -> None:
        """A claim, to its end."""
        body = messages.execute_payout(policy_id, ton * NANO_PER_TON)
        self._send(self.claims, self.contracts.factory, messages.REQUEST_GAS, body)

    def _send(self, sender: Wallet, destination: str, value: int, body: object) -> None:
        sender.send(self.chain, Transfer(destination=destination, value=value, body=body))
        self.chain.mine_until_idle()


@contextlib.asynccontextmanager
async def following(
    client: TonCenterClient, street: Street, database: str, pool: Pool
) -> AsyncIterator[IntegrationDaemon]:
    """The daemon at work."""
    writer, stop = LedgerWriter(database, DEFAULT_PARAMS), asyncio.Event()
    writer.start()
    contracts = read_contracts(format_friendly(street.contracts.vault), street.contracts.factory, "testnet")
    daemon = IntegrationDaemon(client, writer, DatabaseRecords(pool), contracts, LAYOUT, poll_interval_s=0.02)
    task = asyncio.create_task(daemon.run(stop))
    try:
        yield daemon
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)
        await writer.close()


async def caught_up(pool: Pool, street: Street, client: TonCenterClient) -> None:
    """Wait until both cursors are at the heads the chain shows now."""
    heads = {
        address: (await client.get_address_information(address)).last_transaction
        for address in (street.contracts.vault, street.contracts.factory)
    }
    async with asyncio.timeout(60):
        while True:
            async with acquire(pool) as conn:
                states = {state.contract_address: state.cursor for state in await select_sync_states(conn)}
            if states == heads:
                return
            await asyncio.sleep(0.01)
