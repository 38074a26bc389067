"""Turns what was committed to the ledger into messages of the channels `tranche_apy` and `events`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from tonsurance import log
from tonsurance.core.errors import TonsuranceError
from tonsurance.services.hub import Hub
from tonsurance.services.ports import EventQuery, LedgerReader, PostedEvent
from tonsurance.services.tranche_reads import Snapshot, TrancheReads

logger = log.get("live_feed")

APY_CHANNEL = "tranche_apy"
EVENTS_CHANNEL = "events"

PAGE_EVENTS = 100
"""Events read and published at a time; between two pages every client's writer gets its turn."""

CATCH_UP_EVENTS = 1_000
"""More unread events than this (a rescan, a long outage) are announced as one gap, not poured over the clients."""

RECENT_EVENTS = 20

RenderSnapshot = Callable[[Snapshot], Mapping[str, object]]
RenderEvent = Callable[[PostedEvent], Mapping[str, object]]
RenderRecent = Callable[[tuple[PostedEvent, ...]], Mapping[str, object]]
RenderGap = Callable[[int, int], Mapping[str, object]]


class Renderers:
    """How values become messages. The API owns the wire format; this service only decides what is sent when."""

    def __init__(self, *, snapshot: RenderSnapshot, event: RenderEvent, recent: RenderRecent, gap: RenderGap) -> None:
        self.snapshot = snapshot
        self.event = event
        self.recent = recent
        self.gap = gap


class LiveFeed:
    """Refreshes the tranches and publishes what changed. One task calls `refresh`; polling makes it right, and
    waking it on a commit makes it fast.
    """

    def __init__(self, reads: TrancheReads, reader: LedgerReader, hub: Hub, render: Renderers) -> None:
        self._reads = reads
        self._reader = reader
        self._hub = hub
        self._render = render
        self._sent: tuple[int, int, bool, tuple[int, ...]] | None = None
        self._last_event_id: int | None = None
        self._recent: deque[PostedEvent] = deque(maxlen=RECENT_EVENTS)
        hub.add_channel(APY_CHANNEL, self._apy_state)
        hub.add_channel(EVENTS_CHANNEL, self._events_state)

    async def refresh(self) -> None:
        """Read the ledger and publish what is new. An unreadable ledger is published as `stale`, once."""
        readable = await self._reads.refresh()
        snapshot = self._reads.snapshot_or_none
        if snapshot is None:
            return
        held = tuple(totals.held_nano for totals in snapshot.state.tranches)
        mark = (snapshot.state.version, snapshot.params_version, self._reads.freshness.stale, held)
        if mark != self._sent:
            self._sent = mark
            self.publish_state()
        if readable:
            await self._publish_events(snapshot.state.last_event_id)

    def publish_state(self) -> None:
        """Publish all tranches, changed or not: the documented cadence and every change go through here."""
        state = self._apy_state()
        if state is not None:
            self._hub.publish(APY_CHANNEL, state)

    async def _publish_events(self, newest: int) -> None:
        try:
            if self._last_event_id is None:
                await self._start(newest)
            elif newest < self._last_event_id:
                await self._start(newest)  # another ledger stands at this address now
            elif newest > self._last_event_id:
                await self._follow(self._last_event_id, newest)
        except TonsuranceError as error:
            # The next refresh reads on from the last event that was published.
            logger.warning("events cannot be read", code=error.code, error=error.message)

    async def _start(self, newest: int) -> None:
        """Events from before this process are a newcomer's state, not news."""
        recent = await self._reader.read_events(EventQuery(newest_first=True, limit=RECENT_EVENTS))
        self._recent.clear()
        self._recent.extend(event for event in reversed(recent) if event.event_id <= newest)
        self._last_event_id = newest

    async def _follow(self, last: int, newest: int) -> None:
        if newest - last > CATCH_UP_EVENTS:
            self._hub.publish(EVENTS_CHANNEL, self._render.gap(last, newest - PAGE_EVENTS))
            last = self._last_event_id = newest - PAGE_EVENTS
        while last < newest:
            page = await self._reader.read_events(EventQuery(after=last, limit=PAGE_EVENTS))
            if not page:
                break
            for event in page:
                self._hub.publish(EVENTS_CHANNEL, self._render.event(event))
                self._recent.append(event)
            last = self._last_event_id = page[-1].event_id
            await asyncio.sleep(0)
        self._last_event_id = max(last, newest)

    def _apy_state(self) -> Mapping[str, object] | None:
        snapshot = self._reads.snapshot_or_none
        return None if snapshot is None else self._render.snapshot(snapshot)

    def _events_state(self) -> Mapping[str, object] | None:
        return None if self._last_event_id is None else self._render.recent(tuple(self._recent))
