"""Alerts as other services see them: pages of them, who has seen them, and what happened since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tonsurance.core.alerts import Severity
from tonsurance.core.errors import InputError
from tonsurance.db import alerts, webhooks
from tonsurance.db.alerts import AlertCounts, AlertRow, TransitionRow
from tonsurance.db.pool import Connection, acquire
from tonsurance.db.webhooks import OutboxCounts
from tonsurance.services.lazy_pool import LazyPool

MOST_OPEN = 500
"""Open alerts kept in memory and shown to newcomers; the rest is to be read page by page."""

MOST_NEWS = 200
"""More transitions than this at once are told as the state they led to."""

__all__ = ["AlertCounts", "AlertRow", "OutboxCounts", "TransitionRow"]


class UnknownAlert(InputError):
    """There is no such alert."""

    code = "unknown_alert"


class AlertQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts: `is_open` None is all; `before` is an alert's id."""

    severity: Severity | None = None
    kind: str | None = None
    is_open: bool | None = True
    before: int | None = None
    limit: int = 50


class AlertPage(msgspec.Struct, frozen=True):
    """Alerts, newest first, and how many there are on all pages."""

    alerts: tuple[AlertRow, ...]
    counts: AlertCounts


class AlertNews(msgspec.Struct, frozen=True, kw_only=True):
    """What is open now, what happened since the transition asked for (None: too much, or from another database), the
    newest transition, seconds since each evaluator's last evaluation, and the webhook's outbox."""

    open: tuple[AlertRow, ...]
    transitions: tuple[TransitionRow, ...] | None
    newest: int
    ages_s: dict[str, float]
    outbox: OutboxCounts


class AlertRecords:
    """Alerts in the database. Every method raises DatabaseUnavailable when it cannot be reached."""

    def __init__(self, pool: LazyPool) -> None:
        self._pool = pool

    async def read_page(self, query: AlertQuery) -> AlertPage:
        """One page."""
        severity = None if query.severity is None else query.severity.value
        async with self._connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            rows = await alerts.select_alerts(
                conn,
                severity=severity,
                kind=query.kind,
                is_open=query.is_open,
                before=query.before,
                limit=query.limit,
            )
            counts = await alerts.select_alert_counts(conn, severity=severity, kind=query.kind, is_open=query.is_open)
        return AlertPage(rows, counts)

    async def read_news(self, after: int | None) -> AlertNews:
        """What is open, and what happened after a transition (None: nothing was seen yet)."""
        async with self._connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            rows = await alerts.select_open_alerts(conn, MOST_OPEN)
            newest = await alerts.select_newest_transition(conn)
            news: tuple[TransitionRow, ...] | None = None
            if after is not None and after <= newest:
                news = await alerts.select_transitions(conn, after, MOST_NEWS + 1)
            ages = await alerts.select_evaluation_ages(conn)
            outbox = await webhooks.select_outbox_counts(conn)
        told = None if news is None or len(news) > MOST_NEWS else news
        return AlertNews(open=rows, transitions=told, newest=newest, ages_s=ages, outbox=outbox)

    async def acknowledge(self, alert_id: int, actor: str) -> AlertRow:
        """Note who has seen an alert; who was first stays. Raises UnknownAlert."""
        async with self._connection() as conn, conn.transaction():
            await alerts.lock_alerts(conn)
            alert = await alerts.acknowledge_alert(conn, alert_id, actor)
        if alert is None:
            raise UnknownAlert(f"There is no alert {alert_id}.")
        return alert

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        pool = await self._pool.open()
        async with acquire(pool) as conn:
            yield conn
