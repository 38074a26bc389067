"""The whole way in one process: real contracts in the TVM, TonCenter over HTTP, follower, decoder, real PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from chain.patience import QUICK
from services.street import LAYOUT, Street, caught_up, following
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import FactoryReader, VaultReader, check_contract
from tonsurance.core.errors import NotOurContract
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.events import select_events, select_sync_states
from tonsurance.db.pool import Pool, acquire, open_pool
from tonsurance.db.tranches import select_tranches
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore


@pytest.fixture
def street() -> Street:
    with contextlib.closing(ChainStore()) as store:
        yield Street(store)


@pytest.fixture
async def url(street: Street) -> AsyncIterator[str]:
    async with running(street.chain) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[TonCenterClient]:
    async with TonCenterClient(url, retry=QUICK) as real:
        yield real


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database)
    yield opened
    await opened.close()


async def test_deposits_on_chain_become_the_ledger_to_the_nano(
    client: TonCenterClient, street: Street, database: str, pool: Pool
) -> None:
    async with following(client, street, database, pool):
        for tranche_id in range(1, 7):
            street.deposit(tranche_id, 100 * tranche_id)
        street.deposit(3, 5)
        await caught_up(pool, street, client)
    seqno = (await client.get_masterchain_info()).last.seqno
    on_chain = await VaultReader(client, street.contracts.vault).all_tranches(seqno)
    async with acquire(pool) as conn:
        rows = await select_tranches(conn)
        events = await select_events(conn, event_type="DepositMade", newest_first=False)
    assert len(events) == 7
    assert [row.total_capital_nanoton for row in rows] == [row.capital for row in on_chain.tranches]
    assert sum(row.total_capital_nanoton for row in rows) == (2100 + 5) * NANO_PER_TON


async def test_a_daemon_that_starts_again_goes_on_where_it_was(
    client: TonCenterClient, street: Street, database: str, pool: Pool
) -> None:
    for number in range(3):
        street.deposit(1, 10 + number)
        async with following(client, street, database, pool):
            await caught_up(pool, street, client)
    async with acquire(pool) as conn:
        events = await select_events(conn, event_type="DepositMade", newest_first=False)
        (vault, _) = sorted(await select_sync_states(conn), key=lambda state: state.contract_type)
    assert [event.metadata["amount"] // NANO_PER_TON for event in events] == [10, 11, 12]
    assert (vault.sync_status, vault.error_message) == ("active", None)


async def test_what_the_chain_holds_is_recognised(client: TonCenterClient, street: Street) -> None:
    vault, factory = street.contracts.vault, street.contracts.factory
    await check_contract(client, vault, VAULT_KIND, LAYOUT)
    await check_contract(client, factory, FACTORY_KIND, LAYOUT)
    for address, kind, reason in (
        (factory, VAULT_KIND, "exchanged"),
        (street.alice.address, VAULT_KIND, "not deployed"),
        ("0:" + "77" * 32, FACTORY_KIND, "not deployed"),
        (street.contracts.admin, VAULT_KIND, "holds a contract with code"),
    ):
        with pytest.raises(NotOurContract, match=reason):
            await check_contract(client, address, kind, LAYOUT)


async def test_every_getter_is_read_at_an_older_block_as_it_was_then(client: TonCenterClient, street: Street) -> None:
    vault, factory = VaultReader(client, street.contracts.vault), FactoryReader(client, street.contracts.factory)
    before = (await client.get_masterchain_info()).last.seqno
    street.deposit(2, 50)
    now = (await client.get_masterchain_info()).last.seqno
    then, later = await vault.all_tranches(before), await vault.all_tranches(now)
    assert (then.tranches[1].capital, later.tranches[1].capital) == (0, 50 * NANO_PER_TON)
    assert then.last_transaction.lt < later.last_transaction.lt
    assert (await vault.vault_state(before)).total_capital == 0
    assert (await vault.vault_state()).total_capital == 50 * NANO_PER_TON
    config = await factory.config()
    assert (config.vault, config.network) == (street.contracts.vault, street.chain.network_id)
    assert await factory.next_policy_id() >= 1
