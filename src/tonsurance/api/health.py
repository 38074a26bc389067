"""Whether the service lives, is ready, is well; and its metrics."""

from __future__ import annotations

from litestar import Response, get
from litestar.openapi import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tonsurance import __version__, metrics
from tonsurance.api import wire
from tonsurance.api.injected import Injected
from tonsurance.api.render import show_now
from tonsurance.services.alert_feed import AlertFeed
from tonsurance.services.health import ContractHealth, Health


@get(
    "/health",
    summary="How the service is",
    description="`healthy`, `degraded` (answers, but something is not well: see `reasons`) or `unhealthy` (nothing to "
    "answer from; status 503). Answers from memory, also when the database is away.",
    tags=["health"],
    responses={503: ResponseSpec(wire.HealthAnswer, generate_examples=False, description="Unhealthy.")},
)
async def get_health(services: Injected) -> Response[wire.HealthAnswer]:
    """Every component with its reason."""
    health = services.health.check()
    return Response(render_health(health, services.alerts), status_code=503 if health.status == "unhealthy" else 200)


@get("/health/live", summary="The process answers", tags=["health"])
async def get_live() -> wire.LiveAnswer:
    """Always 200: a process that cannot say this is to be restarted."""
    return wire.LiveAnswer(status="alive", timestamp=show_now())


@get(
    "/health/ready",
    summary="May this instance get traffic?",
    description="200 once six tranches are posted and the chain's head is followed, else 503 with the reasons.",
    tags=["health"],
    responses={503: ResponseSpec(wire.ReadyAnswer, generate_examples=False, description="Not ready.")},
)
async def get_ready(services: Injected) -> Response[wire.ReadyAnswer]:
    """Ready, or why not."""
    reasons = services.health.unready_reasons()
    answer = wire.ReadyAnswer(ready=not reasons, reasons=reasons, timestamp=show_now())
    return Response(answer, status_code=503 if reasons else 200)


@get("/metrics", summary="Prometheus metrics", tags=["health"], media_type="text/plain")
async def get_metrics(services: Injected) -> Response[bytes]:
    """All metrics of this process in Prometheus' text format."""
    age = services.reads.freshness.age_s
    if age is not None:
        metrics.SNAPSHOT_AGE_SECONDS.set(age)
    cache = services.reads.statistics
    metrics.CACHE_HITS.set(cache.hits)
    metrics.CACHE_MISSES.set(cache.misses)
    metrics.CACHE_SIZE.set(cache.size)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def render_health(health: Health, alerts: AlertFeed | None) -> wire.HealthAnswer:
    """The service's picture as the API shows it."""
    age = health.freshness.age_s
    return wire.HealthAnswer(
        status=health.status,
        service="tonsurance-api",
        version=__version__,
        reasons=health.reasons,
        components=tuple(
            wire.ComponentOut(name=part.name, status=part.status, reason=part.reason) for part in health.components
        ),
        contracts=tuple(_render_contract(contract) for contract in health.contracts),
        snapshot_age_s=None if age is None else round(age, 3),
        stale=health.freshness.stale,
        ledger_version=None if health.ledger_version is None else str(health.ledger_version),
        alerts=None if alerts is None else _render_alerts(alerts),
        timestamp=show_now(),
    )


def _render_alerts(alerts: AlertFeed) -> wire.AlertHealthOut | None:
    found = alerts.open_or_none
    return None if found is None else wire.AlertHealthOut(open=len(found.alerts), critical=found.critical)


def _render_contract(contract: ContractHealth) -> wire.ContractOut:
    sync = contract.sync
    return wire.ContractOut(
        contract=sync.contract,
        contract_kind=sync.contract_kind,
        status=sync.status,
        last_synced_lt=str(sync.last_lt),
        lag_lt=None if contract.lag_lt is None else str(contract.lag_lt),
        age_s=None if contract.age_s is None else round(contract.age_s, 3),
    )
