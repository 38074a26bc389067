"""The daemon's composition: what every daemon keeps running, and what the active one does.

It imports its parts inside the functions, so that no other process pays for them in memory or start time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from tonsurance import settings
from tonsurance.running import last_good_path, run_async, stop_on_signals

if TYPE_CHECKING:
    from tonsurance.chain.client import TonCenterClient
    from tonsurance.chain.layout import Layout
    from tonsurance.daemon_tasks import DaemonParts, Extras
    from tonsurance.db.pool import Pool
    from tonsurance.services.daemon_reports import DaemonReports
    from tonsurance.services.integration_daemon import FollowedContract
    from tonsurance.services.leadership import Leadership


class _Process(msgspec.Struct, frozen=True, kw_only=True):
    """What lives as long as the process, active or not."""

    parts: DaemonParts
    pool: Pool
    reports: DaemonReports
    leadership: Leadership
    contracts: Sequence[FollowedContract]
    layout: Layout
    poll_interval_s: float


def run_daemon(
    dsn: str, *, network: str, vault: str, factory: str, api_key: str | None, poll_interval_s: float
) -> None:
    """Stand by until no other daemon is active, then follow contracts into the ledger, until SIGINT or SIGTERM."""
    from tonsurance.chain.client import TonCenterClient
    from tonsurance.chain.layout import load_layout
    from tonsurance.services.integration_daemon import check_contracts, read_contracts
    from tonsurance.services.task_supervision import TaskSupervisor

    contracts, layout = read_contracts(vault, factory, network), load_layout()
    urls = settings.network_urls(network)

    async def work() -> None:
        stop = stop_on_signals()
        async with TonCenterClient(urls, api_key) as client:
            await check_contracts(client, contracts, layout)
            extras = _extras(client, urls, api_key)
            async with _opened(dsn, client, extras, contracts, layout, poll_interval_s) as process:
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, process.reports.say_now)
                beside = TaskSupervisor()
                for task in process.reports.tasks:
                    beside.start(task)
                try:
                    await process.leadership.run(lambda over: _lead(process, over), stop)
                finally:
                    await beside.end_all()

    run_async(work())


def _extras(client: TonCenterClient, urls: tuple[str, ...], api_key: str | None) -> Extras:
    """The streams of the same servers, how often they may have us look, and the first one's index at the same rate."""
    from tonsurance.chain.ratelimit import default_rps
    from tonsurance.chain.stream import HintStream
    from tonsurance.chain.urls import assign_keys
    from tonsurance.chain.v3 import V3Source
    from tonsurance.daemon_tasks import Extras
    from tonsurance.services.stream_hint import floor_for

    return Extras(
        lambda: HintStream(urls, api_key),
        floor_for(default_rps(urls[0], api_key)),
        lambda: V3Source(urls[0], assign_keys(urls, api_key)[urls[0]], bucket=client.buckets[urls[0]]),
    )


@asynccontextmanager
async def _opened(
    dsn: str,
    client: TonCenterClient,
    extras: Extras,
    contracts: Sequence[FollowedContract],
    layout: Layout,
    poll_interval_s: float,
) -> AsyncIterator[_Process]:
    """Everything opened, and closed again."""
    from tonsurance.daemon_tasks import DaemonParts
    from tonsurance.db.pool import open_pool
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.services.config_loader import ConfigLoader
    from tonsurance.services.daemon_health import DaemonHealth
    from tonsurance.services.daemon_reports import PROGRESS_S, DaemonReports
    from tonsurance.services.daemon_watch import DaemonWatch
    from tonsurance.services.lazy_pool import LazyPool
    from tonsurance.services.leadership import Leadership

    env, role = settings.Environment(), ROLE_OF["daemon"]
    name, size = "tonsurance daemon", settings.pool_size(env)
    pool = await open_pool(dsn, min_size=1, max_size=size, application_name=name, role=role)
    loader = ConfigLoader(dsn, last_good=last_good_path(), process="daemon", role=role)
    leadership, watch = Leadership(dsn, role=role), DaemonWatch()
    health = DaemonHealth(
        watch,
        lambda: loader.params,
        network=client.base_url,
        endpoints=lambda: client.endpoints,
        leads=lambda: leadership.leads,
    )
    spare = LazyPool(dsn, max_size=1, application_name=f"{name} status", role=role)
    reports = DaemonReports(health, client, spare, head_every_s=max(1.0, min(PROGRESS_S, poll_interval_s)))
    vault, factory = (contract.address for contract in contracts)
    parts = DaemonParts(
        dsn=dsn, vault=vault, factory=factory, client=client, extras=extras, loader=loader, health=health, env=env
    )
    await loader.start()
    loader.subscribe(lambda _params: watch.on_change())
    try:
        yield _Process(
            parts=parts,
            pool=pool,
            reports=reports,
            leadership=leadership,
            contracts=contracts,
            layout=layout,
            poll_interval_s=poll_interval_s,
        )
    finally:
        await reports.close()
        await loader.close()
        await pool.close()


async def _lead(process: _Process, over: asyncio.Event) -> None:
    """Be the active daemon until `over`."""
    from tonsurance.daemon_tasks import make_hints, make_second_source, make_tasks
    from tonsurance.services.integration_daemon import IntegrationDaemon
    from tonsurance.services.ledger_writer import LedgerWriter
    from tonsurance.services.sync_records import DatabaseRecords

    parts, watch = process.parts, process.parts.health.watch
    writer = LedgerWriter(parts.dsn, lambda: parts.loader.params)
    daemon = IntegrationDaemon(
        parts.client,
        writer,
        DatabaseRecords(process.pool),
        process.contracts,
        process.layout,
        poll_interval_s=process.poll_interval_s,
        tasks=[
            *make_tasks(parts),
            make_hints(parts, lambda address: daemon.wake(address), lambda: daemon.statuses),
            make_second_source(parts, lambda: daemon.statuses),
        ],
        on_error=watch.note_error,
        on_change=lambda: watch.on_change(),
    )
    watch.begin(lambda: daemon.statuses, lambda: daemon.tasks)
    try:
        await daemon.follow(over, take=writer.take, at_once=lambda: not process.leadership.leads)
    finally:
        watch.end()
        await writer.close()
