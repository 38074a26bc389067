"""Keeps the open alerts in memory and tells the channel `risk_alerts` what happens to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from tonsurance import log, metrics
from tonsurance.core.errors import TonsuranceError
from tonsurance.services.alert_records import AlertNews, AlertRecords, AlertRow, TransitionRow
from tonsurance.services.hub import Hub

ALERTS_CHANNEL = "risk_alerts"

LATE_AFTER_S = 180.0
"""Evaluations come every minute; after this time without one nobody is watching."""

logger = log.get("alert_feed")

RenderTransition = Callable[[TransitionRow], Mapping[str, object]]
RenderOpen = Callable[["OpenAlerts"], Mapping[str, object]]


class OpenAlerts(msgspec.Struct, frozen=True, kw_only=True):
    """The open alerts as last read; `stale` when the last reading failed."""

    alerts: tuple[AlertRow, ...]
    stale: bool

    @property
    def critical(self) -> int:
        """How many of them are critical."""
        return sum(alert.severity == "Critical" for alert in self.alerts)


class AlertFeed:
    """One task calls `refresh`; polling makes it right, and waking it on a notification makes it fast."""

    def __init__(
        self,
        records: AlertRecords,
        hub: Hub,
        *,
        transition: RenderTransition,
        state: RenderOpen,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = records
        self._hub = hub
        self._render_transition = transition
        self._render_state = state
        self._clock = clock
        self._news: AlertNews | None = None
        self._read_at = 0.0
        self._failed = False
        self.wake = asyncio.Event()
        """Set it to have alerts read at once instead of at the next poll."""
        hub.add_channel(ALERTS_CHANNEL, self._state)

    @property
    def open_or_none(self) -> OpenAlerts | None:
        """What is open; None when that was never read."""
        return None if self._news is None else OpenAlerts(alerts=self._news.open, stale=self._failed)

    async def refresh(self) -> None:
        """Read what is open and publish what happened. Alerts that cannot be read stay as they were, marked stale."""
        last = self._news
        started = self._clock()
        try:
            news = await self.records.read_news(None if last is None else last.newest)
        except TonsuranceError as error:
            self._fail(error)
            return
        recovered, self._failed = self._failed, False
        self._news, self._read_at = news, started
        show_metrics(news)
        if last is None or recovered or news.transitions is None:
            self.publish_state()
        for transition in news.transitions or ():
            metrics.ALERT_TRANSITIONS.labels(transition.kind, transition.change).inc()
            self._hub.publish(ALERTS_CHANNEL, self._render_transition(transition))

    def _fail(self, error: TonsuranceError) -> None:
        if self._failed:
            return
        self._failed = True
        logger.warning("alerts cannot be read", code=error.code, error=error.message)
        self.publish_state()

    def publish_state(self) -> None:
        """Publish all open alerts, changed or not."""
        state = self._state()
        if state is not None:
            self._hub.publish(ALERTS_CHANNEL, state)

    def trouble(self) -> str | None:
        """Why nobody should rely on the alerts now; None when all is well."""
        if self._failed:
            return "Alerts cannot be read."
        if self._news is None:
            return None  # the first reading is on its way
        if not self._news.ages_s:
            return "Nothing has been evaluated for alerts yet."
        name, age = max(self._news.ages_s.items(), key=lambda item: item[1])
        age += self._clock() - self._read_at
        return f"Alerts of {name} were last evaluated {age:.0f} s ago." if age > LATE_AFTER_S else None

    def _state(self) -> Mapping[str, object] | None:
        found = self.open_or_none
        return None if found is None else self._render_state(found)


def show_metrics(news: AlertNews) -> None:
    """Set the gauges."""
    metrics.ALERTS_OPEN.clear()
    for (kind, severity), count in Counter((alert.kind, alert.severity) for alert in news.open).items():
        metrics.ALERTS_OPEN.labels(kind, severity).set(count)
    for evaluator, age in news.ages_s.items():
        metrics.ALERT_EVALUATION_AGE.labels(evaluator).set(age)
    for status, count in msgspec.structs.asdict(news.outbox).items():
        metrics.WEBHOOK_OUTBOX.labels(status).set(count)
