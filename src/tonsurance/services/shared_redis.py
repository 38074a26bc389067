"""What processes share through Redis: the tranches' rows, and word of each commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tonsurance.bus.notify import Listener
from tonsurance.bus.redis import RedisListener, RedisRelay
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.shared_cache import SharedCache


class SharedRedis:
    """One process's view of a Redis; nothing is connected yet."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.cache = SharedCache(url)

    async def listen(self, on_version: Callable[[int | None], None], stop: asyncio.Event) -> None:
        """Call `on_version` at each commit that is told there, until `stop`."""
        await RedisListener(self._url, on_version).run(stop)

    async def close(self) -> None:
        """Give the connections back."""
        await self.cache.close()


async def relay_commits(dsn: str, url: str, stop: asyncio.Event) -> None:
    """Tell Redis of every commit that PostgreSQL tells of, until `stop`. The writer never waits for it."""
    relay = RedisRelay(url)
    await asyncio.gather(Listener(dsn, relay.put, role=ROLE_OF["daemon"]).run(stop), relay.run(stop))
