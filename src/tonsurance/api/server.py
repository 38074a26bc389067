"""Runs the API: uvicorn on a socket of ours, the feed's tasks beside it, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import uvicorn
from litestar.types import ASGIApp

from tonsurance import log
from tonsurance.api import alert_render, render
from tonsurance.api.admin_parts import AdminWiring
from tonsurance.api.admin_routes import AdminParts
from tonsurance.api.app import make_app
from tonsurance.api.injected import Services
from tonsurance.api.reservations import WriteParts
from tonsurance.api.settings import ApiSettings
from tonsurance.api.shop_parts import ShopWiring
from tonsurance.api.write_parts import WriteWiring
from tonsurance.bus.notify import ALERTS as ALERTS_NOTIFIED
from tonsurance.bus.notify import Listener
from tonsurance.core.errors import DependencyError
from tonsurance.core.params import Params
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.alert_feed import AlertFeed
from tonsurance.services.alert_records import AlertRecords
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.health import HealthReads
from tonsurance.services.history_reads import HistoryReads
from tonsurance.services.hub import Hub
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import DEFAULT_WINDOW_DAYS, PostgresLedgerReader
from tonsurance.services.live_feed import LiveFeed, Renderers
from tonsurance.services.loop import every
from tonsurance.services.ports import LedgerReader
from tonsurance.services.price_feed import PriceReads
from tonsurance.services.tranche_reads import Snapshot, TrancheReads

if TYPE_CHECKING:  # Redis is imported only where it is used
    from tonsurance.services.shared_redis import SharedRedis

logger = log.get("api")

DRAIN_TIMEOUT_S = 1.0
SHUTDOWN_TIMEOUT_S = 5
MAX_BACKOFF_S = 2.0
WS_HARD_LIMIT_BYTES = 64 * 1024
"""Frames above the documented limit are answered with an error; above this one they are not even read."""


def bind_socket(settings: ApiSettings) -> socket.socket:
    """The listening socket, with the kernel's patience for peers that take nothing. Port 0 takes a free one.

    Raises DependencyError when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # By its number, for asyncio turns Nagle's delay (40 ms for each answer) off only where it sees that this is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.tcp_user_timeout_ms)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise DependencyError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.",
            advice="Set TONSURANCE_PORT to a free port.",
        ) from error
    return listener


class ApiServer(uvicorn.Server):
    """uvicorn without its signal handling: when to stop is decided by who runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def make_server(app: ASGIApp, settings: ApiSettings) -> ApiServer:
    """uvicorn as measured: httptools, sans-I/O WebSockets without compression, keep-alive pings."""
    return ApiServer(
        uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=WS_HARD_LIMIT_BYTES,
            ws_ping_interval=settings.ws_ping_interval_s,
            ws_ping_timeout=max(1.0, settings.ws_silent_after_s - settings.ws_ping_interval_s),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # whose X-Forwarded-For is believed is decided in api/client_address.py
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
    )


class ApiParts:
    """The services of one API process, wired: ledger -> reads -> feed -> hub -> routes."""

    def __init__(
        self,
        ledger: LedgerReader,
        settings: ApiSettings,
        params: Params,
        make_admin: Callable[[TrancheReads], AdminParts] | None = None,
        alerts: AlertRecords | None = None,
        writes: WriteParts | None = None,
        history: LazyPool | None = None,
        shop: ShopWiring | None = None,
    ) -> None:
        self.settings = settings
        self.reads = TrancheReads(ledger, params, vault_id=settings.vault_id, stale_after_s=settings.stale_after_s)
        self.health = HealthReads(self.reads, quiet_after_s=settings.quiet_after_s)
        self.hub = Hub()
        self.feed = LiveFeed(self.reads, ledger, self.hub, self._renderers())
        self.alerts = None if alerts is None else self._make_alert_feed(alerts)
        self.shop = None if shop is None else shop.make(self.reads)
        self.app = make_app(
            Services(
                reads=self.reads,
                ledger=ledger,
                health=self.health,
                hub=self.hub,
                settings=settings,
                alerts=self.alerts,
                history=None if history is None else HistoryReads(history, self.reads),
                prices=None if history is None else PriceReads(history, lambda: self.reads.params),
                market=None if self.shop is None else self.shop.market,
                products=None if self.shop is None else self.shop.products,
            ),
            None if make_admin is None else make_admin(self.reads),
            writes,
            self.shop,
        )

    def _make_alert_feed(self, records: AlertRecords) -> AlertFeed:
        render_told, render_state = alert_render.transition_message, alert_render.state_message
        feed = AlertFeed(records, self.hub, transition=render_told, state=render_state)
        self.health.watch_alerts(feed.trouble)
        return feed

    def _renderers(self) -> Renderers:
        def render_snapshot(snapshot: Snapshot) -> dict[str, object]:
            return dict(render.snapshot_message(snapshot, self.reads.freshness))

        return Renderers(
            snapshot=render_snapshot,
            event=render.event_message,
            recent=render.recent_message,
            gap=render.gap_message,
        )


async def run_api(
    parts: ApiParts,
    listener: socket.socket,
    *,
    stop: asyncio.Event,
    wake: asyncio.Event,
    beside: Sequence[Coroutine[Any, Any, None]] = (),
) -> None:
    """Serve until `stop`, with the coroutines `beside` (which end at `stop` too). Setting `wake` has the ledger read
    at once instead of at the next poll.
    """
    settings = parts.settings
    server = make_server(parts.app, settings)

    async def publish_state() -> None:
        parts.feed.publish_state()
        if parts.alerts is not None:
            parts.alerts.publish_state()

    tasks = [
        asyncio.create_task(
            every(
                settings.poll_interval_s,
                parts.feed.refresh,
                stop=stop,
                wake=wake,
                name="live feed",
                max_backoff_s=MAX_BACKOFF_S,
            )
        ),
        asyncio.create_task(every(settings.full_state_interval_s, publish_state, stop=stop, name="full state")),
        asyncio.create_task(server.serve(sockets=[listener])),
        *(asyncio.create_task(task) for task in _follow_alerts(parts, stop)),
        *(asyncio.create_task(task) for task in beside),
    ]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await parts.hub.drain(timeout_s=DRAIN_TIMEOUT_S)
        server.should_exit = True
        await asyncio.gather(stopping, *tasks)


def _follow_alerts(parts: ApiParts, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
    feed = parts.alerts
    if feed is None:
        return []
    pause = parts.settings.poll_interval_s
    return [every(pause, feed.refresh, stop=stop, wake=feed.wake, name="alerts", max_backoff_s=MAX_BACKOFF_S)]


@contextlib.contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve_api(
    dsn: str,
    settings: ApiSettings,
    params: Params | ConfigLoader,
    admin: AdminWiring | None = None,
    writes: WriteWiring | None = None,
    shared: SharedRedis | None = None,
    shop: ShopWiring | None = None,
) -> None:
    """One API process over the ledger at `dsn`, until SIGTERM or SIGINT.

    It starts and answers while the database is not there yet, and outlives its outages. Raises DependencyError when
    the address to listen on cannot be had.
    """
    with stop_on_signals() as stop:
        await serve_api_until(dsn, settings, params, stop, admin, writes, shared, shop)


async def serve_api_until(
    dsn: str,
    settings: ApiSettings,
    params: Params | ConfigLoader,
    stop: asyncio.Event,
    admin: AdminWiring | None = None,
    writes: WriteWiring | None = None,
    shared: SharedRedis | None = None,
    shop: ShopWiring | None = None,
) -> None:
    """Like serve_api, until `stop` is set."""
    listener = bind_socket(settings)
    ledger = PostgresLedgerReader(
        dsn,
        pool_size=settings.pool_size,
        window_days=lambda: _window_days(params),
        shared=None if shared is None else shared.cache,
    )
    past = LazyPool(dsn, max_size=2, application_name="tonsurance api history", role=ROLE_OF["api"])
    alerts = AlertRecords(LazyPool(dsn, max_size=2, application_name="tonsurance api alerts", role=ROLE_OF["api"]))
    wake = asyncio.Event()

    def note_commit(_version: int | None) -> None:
        wake.set()
        if shop is not None:
            shop.note_commit()

    commits = Listener(dsn, note_commit, role=ROLE_OF["api"])
    try:
        logger.info("serving", host=settings.host, port=listener.getsockname()[1])
        now = params if isinstance(params, Params) else params.params
        writing = None if writes is None else writes.make(wake.set)
        parts = ApiParts(ledger, settings, now, None if admin is None else admin.make, alerts, writing, past, shop)
        beside = [commits.run(stop), hear_alerts(dsn, parts).run(stop), *([] if shop is None else shop.jobs(stop))]
        if shared is not None:
            cache = shared.cache
            parts.health.watch_redis(lambda: cache.degraded)
            beside.append(shared.listen(note_commit, stop))
        if isinstance(params, ConfigLoader):
            loader = params
            loader.subscribe(lambda new: _use_params(parts, new, wake))
            parts.health.watch_configuration(lambda: loader.degraded)
            await loader.start()
        await run_api(parts, listener, stop=stop, wake=wake, beside=beside)
    finally:
        listener.close()
        loading = params if isinstance(params, ConfigLoader) else None
        for part in (loading, admin, writes, shop, shared, alerts, past, ledger):
            if part is not None:
                await part.close()
    logger.info("stopped")


def hear_alerts(dsn: str, parts: ApiParts) -> Listener:
    """Has alerts read as soon as something happened to one."""

    def wake(_version: int | None) -> None:
        if parts.alerts is not None:
            parts.alerts.wake.set()

    return Listener(dsn, wake, channel=ALERTS_NOTIFIED, role=ROLE_OF["api"])


def _window_days(params: Params | ConfigLoader) -> int:
    now = params if isinstance(params, Params) else params.params
    days = now.value("risk", "realised_apy_window_days")
    return days if isinstance(days, int) else DEFAULT_WINDOW_DAYS


def _use_params(parts: ApiParts, params: Params, wake: asyncio.Event) -> None:
    """New parameters: the next answer has their figures, and who is subscribed hears of them at once."""
    parts.reads.use_params(params)
    wake.set()
