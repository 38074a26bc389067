"""Keeps the statistics by product and the hedges they require as fresh as a materialised view need be."""

from __future__ import annotations

import asyncio

from tonsurance.bus.notify import Listener
from tonsurance.db.pool import acquire
from tonsurance.db.products import refresh_product_views
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

REFRESH_EVERY_S = 60.0
"""Also without a commit: a hedge is required at the price of now."""

REST_S = 5.0
"""Between two refreshes: they read all events of policies."""


async def keep_product_views(
    dsn: str, stop: asyncio.Event, *, every_s: float = REFRESH_EVERY_S, rest_s: float = REST_S
) -> None:
    """Refresh after commits, and every minute, until `stop` is set, over a connection of its own."""
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance products", role=ROLE_OF["daemon"])
    wake = asyncio.Event()
    commits = Listener(dsn, lambda _version: wake.set(), role=ROLE_OF["daemon"])

    async def refresh() -> None:
        async with acquire(await pool.open()) as conn:
            await refresh_product_views(conn)
        with_stop = asyncio.create_task(stop.wait())
        await asyncio.wait((with_stop,), timeout=rest_s)
        with_stop.cancel()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(commits.run(stop))
            group.create_task(every(every_s, refresh, stop=stop, wake=wake, name="product views"))
    finally:
        await pool.close()
