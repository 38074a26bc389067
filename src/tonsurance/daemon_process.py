"""The daemon's composition: the ledger's writer, the two contracts' followers, and what keeps watch beside them.

It imports its parts inside the function, so that no other process pays for them in memory or start time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from tonsurance import settings
from tonsurance.running import last_good_path, run_async, running_beside, stop_on_signals

if TYPE_CHECKING:
    from tonsurance.chain.client import TonCenterClient
    from tonsurance.services.config_loader import ConfigLoader


def run_daemon(
    dsn: str, *, network: str, vault: str, factory: str, api_key: str | None, poll_interval_s: float
) -> None:
    """Follow the two contracts into the ledger until SIGINT or SIGTERM."""
    from tonsurance.chain.client import TonCenterClient
    from tonsurance.chain.layout import load_layout
    from tonsurance.db.pool import open_pool
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.services.config_loader import ConfigLoader
    from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
    from tonsurance.services.ledger_writer import LedgerWriter
    from tonsurance.services.sync_records import DatabaseRecords

    contracts = read_contracts(vault, factory, network)
    size, role = settings.pool_size(settings.Environment()), ROLE_OF["daemon"]

    async def work() -> None:
        stop = stop_on_signals()
        pool = await open_pool(dsn, min_size=1, max_size=size, application_name="tonsurance daemon", role=role)
        loader = ConfigLoader(dsn, last_good=last_good_path(), process="daemon", role=role)
        await loader.start()
        writer = LedgerWriter(dsn, lambda: loader.params)
        try:
            async with TonCenterClient(settings.network_url(network), api_key) as client:
                vault_address, factory_address = (contract.address for contract in contracts)
                watching = _watch_terms(dsn, client, vault_address, factory_address, loader, stop)
                async with running_beside(stop, watching, *_keepers(dsn, loader, stop)):
                    writer.start()
                    records = DatabaseRecords(pool)
                    daemon = IntegrationDaemon(
                        client, writer, records, contracts, load_layout(), poll_interval_s=poll_interval_s
                    )
                    await daemon.run(stop)
        finally:
            await writer.close()
            await loader.close()
            await pool.close()

    run_async(work())


def _keepers(dsn: str, loader: ConfigLoader, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
    """What keeps watch over the ledger: alerts, reservations, history, queued updates, and word of commits to Redis."""
    from tonsurance.services.alert_tasks import AlertTasks
    from tonsurance.services.direct_vaults import keep_queue
    from tonsurance.services.reservation_keeper import keep_reservations
    from tonsurance.services.retention import keep_history
    from tonsurance.services.webhooks import make_target

    env = settings.Environment()
    alerts = AlertTasks(dsn, lambda: loader.params, make_target(*settings.alert_webhook(env)))
    loader.subscribe(lambda _params: alerts.wake())
    keepers = (keep_reservations, keep_history, keep_queue)
    return [
        alerts.run(stop),
        _relay_commits(dsn, env, stop),
        *(keep(dsn, lambda: loader.params, stop) for keep in keepers),
    ]


async def _watch_terms(
    dsn: str, client: TonCenterClient, vault: str, factory: str, loader: ConfigLoader, stop: asyncio.Event
) -> None:
    """Hold the configuration against what the contracts enforce, until `stop`."""
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.services.chain_params import INTERVAL_S, ChainWatch
    from tonsurance.services.config_store import ConfigStore
    from tonsurance.services.lazy_pool import LazyPool
    from tonsurance.services.loop import every

    name = "tonsurance daemon configuration"
    spare = LazyPool(dsn, max_size=1, application_name=name, role=ROLE_OF["chain parameters"])
    watch = ChainWatch(client, vault, factory, lambda: loader.params, ConfigStore(spare))
    try:
        await every(INTERVAL_S, watch.check, stop=stop, name="chain parameters")
    finally:
        await spare.close()


async def _relay_commits(dsn: str, env: settings.Environment, stop: asyncio.Event) -> None:
    url = settings.redis_url(env)
    if url is None:
        await stop.wait()
        return
    from tonsurance.services.shared_redis import relay_commits

    await relay_commits(dsn, url, stop)
