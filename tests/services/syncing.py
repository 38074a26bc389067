"""A vault with a life behind it, the ledger of it, and a reconciliation whose every run is looked at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

from chain.patience import QUICK
from services.street import LAYOUT, Street, caught_up, following
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import Pool, connect, open_pool
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.replay import Replay, replay_ledger
from tonsurance.services.vault_sync import SyncResult, VaultSync

RUNS = "SELECT * FROM vault_sync_results ORDER BY run_id"
JOURNAL = "SELECT * FROM ledger_adjustments ORDER BY adjustment_id"


class Desk:
    """One reconciliation after the other on one database; each is a process of its own."""

    def __init__(self, dsn: str, client: TonCenterClient, street: Street) -> None:
        self.dsn = dsn
        self.client = client
        self.street = street

    @asynccontextmanager
    async def sync(self, **options: Any) -> AsyncIterator[VaultSync]:
        """A service over this vault."""
        vaults = [self.street.contracts.vault]
        given = {"client": self.client, "contracts": vaults, "layout": LAYOUT, "wait_s": 10.0, "lag_patience_s": 0.05}
        service = VaultSync(self.dsn, params=lambda: DEFAULT_PARAMS, **(given | options))
        try:
            yield service
        finally:
            await service.close()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Pool]:
        """The daemon at work."""
        pool = await open_pool(self.dsn)
        try:
            async with following(self.client, self.street, self.dsn, pool):
                yield pool
        finally:
            await pool.close()

    async def catch_up(self) -> None:
        """The daemon posts everything, and is gone again."""
        async with self.following() as pool:
            await caught_up(pool, self.street, self.client)

    async def run(self, **options: Any) -> SyncResult:
        """One run."""
        async with self.sync(**options) as service:
            (result,) = await service.sync_now()
        return result

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """What the database holds."""
        conn = await connect(self.dsn)
        try:
            return [dict(row) for row in await conn.fetch(sql)]
        finally:
            await conn.close()

    async def plant(self, *statements: str) -> None:
        """Change what may never change, as only a superuser can."""
        conn = await connect(self.dsn)
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL session_replication_role = replica")
                for statement in statements:
                    changed = await conn.execute(statement)
                    assert not changed.endswith(" 0"), f"nothing was planted: {statement}"
        finally:
            await conn.close()

    async def replay(self) -> Replay:
        """The read models once more from the log."""
        return await replay_ledger(self.dsn, DEFAULT_PARAMS, lambda _line: None)


@asynccontextmanager
async def open_desk(dsn: str) -> AsyncIterator[Desk]:
    """A vault that took deposits, backs a policy and paid a claim; the ledger holds it all, and the daemon is gone."""
    with closing(ChainStore()) as store:
        street = Street(store)
        street.fill()
        street.buy(200)
        street.pay_out(street.buy(150), 150)
        async with running(street.chain) as url, TonCenterClient(url, retry=QUICK) as client:
            desk = Desk(dsn, client, street)
            await desk.catch_up()
            yield desk


def explained(row: dict[str, Any]) -> dict[str, Any]:
    """The explanation of a row of results."""
    found: dict[str, Any] = json.loads(row["explanation"])
    return found
