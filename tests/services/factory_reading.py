"""A real vault and factory on a local chain, followed by a database, and readings of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from chain.conftest import QUICK
from services.street import Street
from tonsurance.chain import messages
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.db.contracts import insert_followed
from tonsurance.db.factory_state import FactoryState
from tonsurance.db.pool import connect
from tonsurance.db.roles import ROLE_OF
from tonsurance.localnet.deploy import ADMIN
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer, Wallet
from tonsurance.services.factory_state import FactoryStates, FactoryWatch
from tonsurance.services.lazy_pool import LazyPool


class Reading:
    """The daemon's half (`watch`) and the API's (`states`), each with its own role, over one database."""

    def __init__(self, dsn: str, street: Street, client: TonCenterClient) -> None:
        self.dsn = dsn
        self.street = street
        self.client = client
        self.admin = Wallet(ADMIN, street.chain.seed)
        self.daemon_pool = LazyPool(dsn, max_size=2, role=ROLE_OF["daemon"])
        self.api_pool = LazyPool(dsn, max_size=2, role=ROLE_OF["api"])
        self.watch = FactoryWatch(client, self.daemon_pool)
        self.states = FactoryStates(self.api_pool)

    async def read(self) -> FactoryState:
        """Look at the chain, and ask the database."""
        await self.watch.read_all()
        return await self.states.read("main")

    def order(self, to: str, body: object, value: int = messages.SIMPLE_GAS) -> None:
        """The admin does something, to its end."""
        self.admin.send(self.street.chain, Transfer(destination=to, value=value, body=body))
        self.street.chain.mine_until_idle()

    async def execute(self, sql: str, *values: object) -> None:
        """Change the database as its owner."""
        conn = await connect(self.dsn)
        try:
            await conn.execute(sql, *values)
        finally:
            await conn.close()


async def follow(dsn: str, vault: str | None, factory: str | None, vault_id: str = "main") -> None:
    """Have these contracts followed."""
    conn = await connect(dsn)
    try:
        for address, kind in ((vault, VAULT_KIND), (factory, FACTORY_KIND)):
            if address is not None:
                given = {"vault_id": vault_id, "layout": "tonsurance", "note": "", "changed_by": "test"}
                await insert_followed(conn, address=address, kind=kind, **given)
    finally:
        await conn.close()


@asynccontextmanager
async def reading(dsn: str, *, follows: bool = True) -> AsyncIterator[Reading]:
    """Contracts on a chain that is driven by hand; the database follows them, unless told otherwise."""
    with closing(ChainStore()) as store:
        street = Street(store)
        if follows:
            await follow(dsn, street.contracts.vault, street.contracts.factory)
        async with running(street.chain) as url, TonCenterClient(url, retry=QUICK) as client:
            parts = Reading(dsn, street, client)
            try:
                yield parts
            finally:
                await parts.daemon_pool.close()
                await parts.api_pool.close()
