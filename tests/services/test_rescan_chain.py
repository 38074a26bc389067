"""A daemon with an old layout on a real chain, its reconciliations' adjustments, and what a rescan makes of it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from chain.patience import QUICK
from services.rescanning import LAYOUT, read_waiting, replay, rescan, without
from services.street import Street, caught_up
from services.syncing import Desk
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import Layout
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import open_pool
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.verdicts import describe_replay, describe_rescan


async def catch_up(desk: Desk, layout: Layout) -> None:
    """A daemon with this layout posts everything, and is gone again."""
    writer, stop, pool = LedgerWriter(desk.dsn, DEFAULT_PARAMS), asyncio.Event(), await open_pool(desk.dsn)
    writer.start()
    contracts = read_contracts(format_friendly(desk.street.contracts.vault), desk.street.contracts.factory, "testnet")
    daemon = IntegrationDaemon(desk.client, writer, DatabaseRecords(pool), contracts, layout, poll_interval_s=0.02)
    task = asyncio.create_task(daemon.run(stop))
    try:
        await caught_up(pool, desk.street, desk.client)
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)
        await writer.close()
        await pool.close()


@asynccontextmanager
async def a_desk(dsn: str) -> AsyncIterator[Desk]:
    with closing(ChainStore()) as store:
        street = Street(store)
        async with running(street.chain) as url, TonCenterClient(url, retry=QUICK) as client:
            yield Desk(dsn, client, street)


@pytest.mark.parametrize("types", [("LossAbsorbed",), ("CoverageChanged",)], ids="+".join)
async def test_adjustments_that_stood_for_unknown_events_are_taken_back(database: str, types: tuple[str, ...]) -> None:
    """Twice the reconciliation adjusts what the old layout does not explain. After the rescan vault and ledger are
    equal at once, and the ledger is right at each of those moments too."""
    async with a_desk(database) as desk:
        desk.street.fill()
        desk.street.buy(100)
        desk.street.pay_out(desk.street.buy(150), 150)
        old = without(*types)
        for _ in range(2):
            await catch_up(desk, old)
            assert await read_waiting(database)
            assert (await desk.run(layout=old)).adjusted
            desk.street.buy(200)
            desk.street.pay_out(desk.street.buy(150), 140)
            desk.street.deposit(6, 400)
        await catch_up(desk, old)
        found = await rescan(database, layout=LAYOUT)
        assert (found.refused, found.applied, found.clean) == (None, True, True)
        assert found.corrections
        assert set(found.corrections) < set(describe_rescan(found))
        assert (await desk.run()).status == "equal"
        again = await replay(database)
        assert again.equal, "\n".join(describe_replay(again))
