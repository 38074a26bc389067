"""The keeper of reservations as the daemon runs it: a pass every second, and one after every commit of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tonsurance.bus.notify import Listener
from tonsurance.core.params import Params
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every
from tonsurance.services.reservations import Reservations

KEEP_EVERY_S = 1.0
MAX_BACKOFF_S = 5.0


async def keep_reservations(dsn: str, params: Callable[[], Params], stop: asyncio.Event) -> None:
    """Settle reservations until `stop` is set, over a connection of its own."""
    pool, wake = (
        LazyPool(dsn, max_size=1, application_name="tonsurance reservations", role=ROLE_OF["daemon"]),
        asyncio.Event(),
    )
    commits = Listener(dsn, lambda _version: wake.set(), role=ROLE_OF["daemon"])
    reservations = Reservations(pool, params)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(commits.run(stop))
            settle = reservations.settle
            group.create_task(
                every(KEEP_EVERY_S, settle, stop=stop, wake=wake, name="reservations", max_backoff_s=MAX_BACKOFF_S)
            )
    finally:
        await reservations.close()
        await pool.close()
