"""What the active daemon runs beside following contracts: one list of tasks, each restarted when it crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from tonsurance import settings
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import load_layout
from tonsurance.chain.stream import HintStream
from tonsurance.chain.v3 import V3Source
from tonsurance.core.errors import NotReady, TonsuranceError
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.alert_tasks import AlertTasks
from tonsurance.services.alerting import TRANCHES
from tonsurance.services.chain_params import INTERVAL_S, ChainWatch
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.daemon_health import DaemonHealth
from tonsurance.services.direct_vaults import keep_queue
from tonsurance.services.factory_state import keep_factory_states
from tonsurance.services.ingest import IngestStatus
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every
from tonsurance.services.price_feed import keep_prices
from tonsurance.services.product_views import keep_product_views
from tonsurance.services.receipt_retention import keep_receipts
from tonsurance.services.reservation_keeper import keep_reservations
from tonsurance.services.retention import keep_history
from tonsurance.services.second_source import CONFIRM_EVERY_S, SecondSource
from tonsurance.services.stream_hint import StreamHints
from tonsurance.services.sync_keeper import DRIFTS, keep_vaults_synced
from tonsurance.services.task_supervision import Task
from tonsurance.services.value_alerts import VALUES
from tonsurance.services.vault_sync import SyncResult
from tonsurance.services.webhooks import make_target


class Extras(msgspec.Struct, frozen=True):
    """What else the TON API's servers give; the key is in here alone: their stream, with the seconds between two looks
    it may cause, and their index."""

    make_stream: Callable[[], HintStream]
    floor_s: float
    make_index: Callable[[], V3Source]


class DaemonParts(msgspec.Struct, frozen=True, kw_only=True):
    """What tasks are made of. `vault` and `factory` are the raw addresses given at the start."""

    dsn: str
    vault: str
    factory: str
    client: TonCenterClient
    loader: ConfigLoader
    health: DaemonHealth
    env: settings.Environment
    extras: Extras


def make_tasks(parts: DaemonParts) -> list[Task]:
    """Alerts, reservations, history, prices, queued updates, the contracts' terms, receipts, and what goes to Redis."""
    dsn, loader = parts.dsn, parts.loader
    redis_url = settings.redis_url(parts.env)
    tasks = [
        Task("chain parameters", lambda stop: _watch_terms(parts, stop)),
        Task("alerts", lambda stop: _keep_alerts(parts, stop)),
        Task("reservations", lambda stop: keep_reservations(dsn, lambda: loader.params, stop)),
        Task("history", lambda stop: keep_history(dsn, lambda: loader.params, stop)),
        Task("vault sync", lambda stop: _keep_synced(parts, stop)),
        Task("product views", lambda stop: keep_product_views(dsn, stop)),
        Task("queued updates", lambda stop: keep_queue(dsn, lambda: loader.params, stop)),
        Task("factory state", lambda stop: keep_factory_states(dsn, parts.client, stop)),
        Task("receipts", lambda stop: keep_receipts(dsn, lambda: loader.params, stop)),
    ]
    price_url, price_key = settings.price_source(parts.env)
    if price_url is not None:
        tasks.append(Task("prices", lambda stop: keep_prices(dsn, price_url, price_key, stop)))
    return tasks if redis_url is None else [*tasks, *_make_redis_tasks(dsn, redis_url)]


def _make_redis_tasks(dsn: str, url: str) -> list[Task]:
    """Word of commits, and every event. Redis is imported only where it is used."""
    from tonsurance.services.event_broadcast import broadcast_events
    from tonsurance.services.shared_redis import relay_commits

    return [
        Task("redis relay", lambda stop: relay_commits(dsn, url, stop)),
        Task("event broadcast", lambda stop: broadcast_events(dsn, url, stop)),
    ]


def make_hints(
    parts: DaemonParts, wake: Callable[[str], None], statuses: Callable[[], tuple[IngestStatus, ...]]
) -> Task:
    """The chain's stream: only a reason to look now, at the contracts that are followed."""

    async def run(stop: asyncio.Event) -> None:
        await StreamHints(parts.extras.make_stream(), wake, statuses, floor_s=parts.extras.floor_s).run(stop)

    return Task("stream", run)


def make_second_source(parts: DaemonParts, statuses: Callable[[], tuple[IngestStatus, ...]]) -> Task:
    """The same history from an index of its own."""

    async def run(stop: asyncio.Event) -> None:
        async with parts.extras.make_index() as index:
            second = SecondSource(parts.client, index, lambda: [status.contract for status in statuses()])
            await every(CONFIRM_EVERY_S, second.confirm_all, stop=stop, name="second source")

    return Task("second source", run)


async def _keep_synced(parts: DaemonParts, stop: asyncio.Event) -> None:
    """Hold every followed vault against its contract, until `stop`."""

    def note(result: SyncResult | TonsuranceError) -> None:
        if not isinstance(result, TonsuranceError):
            parts.health.note_vault_sync()
        elif not isinstance(result, NotReady):  # then the ledger is only behind
            parts.health.watch.note_error(result.code)

    await keep_vaults_synced(parts.dsn, parts.client, load_layout(), lambda: parts.loader.params, stop, on_result=note)


async def _keep_alerts(parts: DaemonParts, stop: asyncio.Event) -> None:
    """Evaluate and tell; woken by commits, by new parameters, and by what the daemon sees of itself."""
    watch = parts.health.watch
    alerts = AlertTasks(
        parts.dsn,
        lambda: parts.loader.params,
        make_target(*settings.alert_webhook(parts.env)),
        evaluators=(TRANCHES, VALUES, DRIFTS, watch.evaluator),
    )
    watch.on_change = alerts.wake
    await alerts.run(stop)


async def _watch_terms(parts: DaemonParts, stop: asyncio.Event) -> None:
    """Hold the configuration against what the contracts enforce, until `stop`."""
    name = "tonsurance daemon configuration"
    spare = LazyPool(parts.dsn, max_size=1, application_name=name, role=ROLE_OF["chain parameters"])
    watch = ChainWatch(parts.client, parts.vault, parts.factory, lambda: parts.loader.params, ConfigStore(spare))
    try:
        await every(INTERVAL_S, watch.check, stop=stop, name="chain parameters")
    finally:
        await spare.close()
