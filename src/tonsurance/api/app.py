"""The application: routes, errors, OpenAPI. It is given its services and owns none of them."""

from __future__ import annotations

from litestar import Litestar, MediaType, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from tonsurance import __version__
from tonsurance.api import alerts, capacity, health, history, policies, prices, products, risk, v1, v2, wallet
from tonsurance.api.admin_routes import BEARER, AdminParts, make_admin_router, make_guarded_router
from tonsurance.api.edge import Edge
from tonsurance.api.errors import answer_http_error, answer_known_error, answer_unexpected_error
from tonsurance.api.event_stream import EventStreams
from tonsurance.api.injected import Services
from tonsurance.api.page import page_routes
from tonsurance.api.quick_quotes import QuickQuotes
from tonsurance.api.reservations import WriteParts, make_reservation_router
from tonsurance.api.shop_parts import ShopParts
from tonsurance.api.ws import Sockets
from tonsurance.core.errors import TonsuranceError

DESCRIPTION = """Parametric cover on TON: where the vault's tranches stand, from the chain's own events.

APY is in percent. `current_apy` and `apy` are the **target** of the bonding curve. Amounts come as decimal TON and as
strings of nanoTON. Every figure says its `as_of`, `ledger_version`, `params_version` and whether it is `stale`.
Errors are problem details (RFC 9457). The WebSocket at `/ws` pushes the same figures on every commit."""


def make_alert_router(admin: AdminParts) -> Router:
    """What people with a token may do with alerts."""
    return make_guarded_router(admin, "/api/v2/risk", [alerts.acknowledge_alert], "risk")


def _list_routes(
    services: Services, admin: AdminParts | None, writes: WriteParts | None, shop: ShopParts | None
) -> list[HTTPRouteHandler | ASGIRouteHandler | Router]:
    return [
        v1.get_utilization_dashboard,
        v1.get_vault_dashboard,
        v1.get_vaults,
        v1.get_utilization,
        v1.get_tranche_apy,
        v1.get_tranche_capacity,
        history.get_history,
        history.get_forecast,
        capacity.get_policy_capacity,
        v2.get_tranches_apy,
        v2.get_events,
        v2.get_ledger_entries,
        policies.get_policy_counts,
        prices.get_prices,
        alerts.get_alerts,
        health.get_health,
        health.get_live,
        health.get_ready,
        health.get_metrics,
        Sockets(services.hub, services.settings).route(),
        products.get_products,
        risk.get_exposure,
        wallet.get_wallet,
        *page_routes(),
        *([] if admin is None else [make_admin_router(admin), make_alert_router(admin)]),
        *([] if writes is None else [make_reservation_router(writes)]),
        *([] if shop is None else shop.routers()),
    ]


def make_app(
    services: Services,
    admin: AdminParts | None = None,
    writes: WriteParts | None = None,
    shop: ShopParts | None = None,
) -> Litestar:
    """The ASGI application over these services; the admin API, what writes and what sells cover are part of it when
    their parts are given."""
    settings = services.settings

    def provide_services() -> Services:
        return services

    app = Litestar(
        route_handlers=_list_routes(services, admin, writes, shop),
        dependencies={"services": Provide(provide_services, sync_to_thread=False)},
        exception_handlers={
            TonsuranceError: answer_known_error,
            HTTPException: answer_http_error,
            Exception: answer_unexpected_error,
        },
        openapi_config=OpenAPIConfig(
            title="Tonsurance",
            version=__version__,
            description=DESCRIPTION,
            path="/schema",
            components=Components(
                security_schemes={BEARER: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
            ),
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"], media_type=MediaType.JSON)],
        ),
        cors_config=CORSConfig(
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "OPTIONS"],
            expose_headers=["ETag", "X-Request-Id", "Retry-After"],
        )
        if settings.cors_origins
        else None,
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
    )
    app.state.event_streams = EventStreams(services)
    handler = app.asgi_handler if shop is None else QuickQuotes(app.asgi_handler, shop.desk)
    # Around the framework's own error handling too, so that no answer leaves without headers and metrics.
    app.asgi_handler = Edge(handler, max_body_bytes=settings.max_body_bytes, wallet_url=settings.test_wallet_url)
    return app
