"""Every posted event to other programs over Redis: in order, once, and on from where it stopped after a restart.

A hint like all of Redis: who listens sees a gap by the `event_id`s and reads what is missing from `/api/v2/events`.
"""

from __future__ import annotations

import asyncio

import msgspec

from tonsurance import log
from tonsurance.bus.notify import Listener
from tonsurance.bus.redis import FAILURES, Circuit, connect_redis
from tonsurance.db.events import select_events
from tonsurance.db.pool import acquire
from tonsurance.db.roles import ROLE_OF
from tonsurance.db.tranches import select_system
from tonsurance.services.event_messages import describe_event
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import event_of
from tonsurance.services.loop import every

CHANNEL = "tonsurance:events"
LOOK_EVERY_S = 5.0
MAX_BACKOFF_S = 5.0
PAGE_EVENTS = 200
MOST_BEHIND = 10_000
"""So many events are told after an outage; of a longer one a `gap` says which are to be read elsewhere."""

logger = log.get("event_broadcast")


class EventBroadcast:
    """Publishes what was posted since the last event that was published."""

    def __init__(self, pool: LazyPool, url: str, *, channel: str = CHANNEL, most_behind: int = MOST_BEHIND) -> None:
        self._pool = pool
        self._redis = connect_redis(url)
        self._channel = channel
        self._most_behind = most_behind
        self._system: str | None = None
        self._last: int | None = None
        self.circuit = Circuit()

    async def publish_new(self) -> int:
        """Publish every event not published yet; returns how many. Raises DatabaseUnavailable; a Redis that is away is
        `circuit.degraded`, and the events wait.
        """
        if self.circuit.is_open:
            return 0
        published = 0
        try:
            last = await self._find_place()
            while page := await self._read_page(last):
                last = page[-1][0]
                await self._publish([msgspec.json.encode(message) for _, message in page], last)
                self._last = last
                published += len(page)
        except FAILURES as error:
            self.circuit.failed(error)
        else:
            self.circuit.succeeded()
        return published

    async def _find_place(self) -> int:
        """The event published last: known, kept in Redis, or, where nobody ever published, the newest there is."""
        newest = await self._newest()
        if self._last is None:
            kept = await self._redis.get(self._key)
            text = kept if isinstance(kept, bytes) else b""
            self._last = int(text) if text.isdigit() and int(text) <= newest else newest
        if newest - self._last > self._most_behind:
            first, self._last = self._last + 1, newest - PAGE_EVENTS
            gap = {"event_type": "gap", "from_event_id": str(first), "to_event_id": str(self._last)}
            logger.warning("events_skipped", first=first, last=self._last)
            await self._publish([msgspec.json.encode(gap)], self._last)
        return self._last

    async def _publish(self, messages: list[bytes], last: int) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for message in messages:
                pipe.publish(self._channel, message)
            pipe.set(self._key, last)
            await pipe.execute()

    @property
    def _key(self) -> str:
        return f"{self._channel}:last:{self._system}"

    async def _newest(self) -> int:
        async with acquire(await self._pool.open()) as conn:
            if self._system is None:
                self._system = await select_system(conn)
            rows = await select_events(conn, limit=1, newest_first=True)
        return rows[0].event_id if rows else 0

    async def _read_page(self, after: int) -> list[tuple[int, dict[str, object]]]:
        async with acquire(await self._pool.open()) as conn:
            rows = await select_events(conn, after=after, limit=PAGE_EVENTS, newest_first=False)
        return [(row.event_id, {"channel": "events", **describe_event(event_of(row))}) for row in rows]

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()


async def broadcast_events(dsn: str, url: str, stop: asyncio.Event) -> None:
    """Publish after every commit, and look every few seconds, until `stop` is set."""
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance broadcast", role=ROLE_OF["daemon"])
    wake = asyncio.Event()
    commits = Listener(dsn, lambda _version: wake.set(), role=ROLE_OF["daemon"])
    broadcast = EventBroadcast(pool, url)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(commits.run(stop))
            publish = broadcast.publish_new
            name = "event broadcast"
            group.create_task(
                every(LOOK_EVERY_S, publish, stop=stop, wake=wake, name=name, max_backoff_s=MAX_BACKOFF_S)
            )
    finally:
        await broadcast.close()
        await pool.close()
