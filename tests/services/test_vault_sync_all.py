"""Every followed vault is reconciled and verified, not only the first one."""

from __future__ import annotations

import asyncio

from services.street import LAYOUT
from services.syncing import Desk, open_desk
from tonsurance.chain import deployment, messages
from tonsurance.chain.layout import DEFAULT_LAYOUT
from tonsurance.core.events import VAULT_KIND
from tonsurance.core.units import NANO_PER_TON as TON
from tonsurance.db.pool import acquire, connect
from tonsurance.db.sync_results import select_synced_vaults
from tonsurance.localnet.deploy import ADMIN
from tonsurance.localnet.wallets import Transfer, Wallet
from tonsurance.services.contract_admin import ContractAdmin
from tonsurance.services.sync_keeper import sync_once


async def deploy_second(desk: Desk) -> str:
    """A vault with a deposit of 3 TON in tranche 4; its address."""
    chain, admin = desk.street.chain, Wallet(ADMIN, desk.street.chain.seed)
    second = deployment.vault_deployment(deployment.VaultTerms(admin=admin.address, withdraw_delay_s=1_234))
    order = Transfer(
        destination=second.address, value=2 * TON, body=messages.top_up(), state_init=second.state_init, bounce=False
    )
    admin.send(chain, order)
    chain.mine_until_idle()
    value = 3 * TON + messages.DEPOSIT_GAS
    desk.street.alice.send(chain, Transfer(destination=second.address, value=value, body=messages.deposit(4)))
    chain.mine_until_idle()
    return second.address


async def follow_second(desk: Desk, address: str) -> None:
    """The daemon is told to follow it, and posts its deposit."""
    async with desk.following() as pool:
        person = ContractAdmin(pool, actor="ann")
        await person.add(desk.client, address, kind=VAULT_KIND, vault_id="second", network="testnet")
        async with asyncio.timeout(60):
            while True:
                async with acquire(pool) as conn:
                    if await conn.fetchval("SELECT count(*) FROM ledger_entries WHERE vault_id = 'second'"):
                        return
                await asyncio.sleep(0.02)


async def test_damage_to_another_vault_is_found_without_naming_it(database: str) -> None:
    async with open_desk(database) as desk:
        second = await deploy_second(desk)
        await follow_second(desk, second)
        conn = await connect(database)
        followed = await select_synced_vaults(conn, DEFAULT_LAYOUT)
        await conn.close()
        assert set(followed) == {desk.street.contracts.vault, second}

        async def sync() -> dict[str, str]:
            results = await sync_once(
                database, desk.client, None, LAYOUT, repair=True, wait_s=60, progress=lambda _line: None
            )
            return {result.contract: result.status for result in results}

        assert set((await sync()).values()) == {"equal"}
        await desk.plant("DELETE FROM ledger_entries WHERE vault_id = 'second'")
        found = await sync()
        assert (found[second], found[desk.street.contracts.vault]) == ("repaired", "equal")
        assert set((await sync()).values()) == {"equal"}
