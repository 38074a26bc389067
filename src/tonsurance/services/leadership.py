"""One active daemon: whoever holds the lock leads, the others stand by and take over when it is free.

The lock belongs to a connection of its own. It ends with the process, with the connection, and with the server's
session; whoever finds its connection gone stops leading at once. What the old leader still sends is refused by the
ledger's writer lock and epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tonsurance import log
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.db.daemons import check_alive, take_daemon_lock
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.services.loop import pause

STANDBY_POLL_S = 0.5
CHECK_EVERY_S = 1.0
CHECK_TIMEOUT_S = 3.0
_LONGEST_DELAY_S = 2.0
_log = log.get(__name__)


class Leadership:
    """Runs `lead` for as long as this process is the active one, again each time it becomes so."""

    def __init__(
        self, dsn: str, *, role: str | None, poll_s: float = STANDBY_POLL_S, check_every_s: float = CHECK_EVERY_S
    ) -> None:
        self._dsn = dsn
        self._role = role
        self._poll_s = poll_s
        self._check_every_s = check_every_s
        self.leads = False

    async def run(self, lead: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
        """Until `stop`. `lead` gets an event that is set when it must end: `stop`, or the lock is lost.

        Raises what `lead` raises; standing by and losing the database are no errors.
        """
        while not stop.is_set():
            conn = await self._win(stop)
            if conn is None:
                return
            try:
                await self._lead(conn, lead, stop)
            finally:
                self.leads = False
                conn.terminate()

    async def _win(self, stop: asyncio.Event) -> Connection | None:
        """The connection that holds the lock; None when stopped before."""
        said, delay_s = "", self._poll_s
        conn: Connection | None = None
        while not stop.is_set():
            try:
                conn = conn or await connect(self._dsn, application_name="tonsurance-leader", role=self._role)
                with driver_errors():
                    if await take_daemon_lock(conn):
                        _log.info("leading")
                        return conn
                found, delay_s = "another daemon is active", self._poll_s
            except DatabaseUnavailable as error:
                found, delay_s = error.message, min(delay_s * 2, _LONGEST_DELAY_S)
                _drop(conn)
                conn = None
            if found != said:
                _log.info("standing_by", reason=found)
                said = found
            await pause(delay_s, stop)
        _drop(conn)
        return None

    async def _lead(
        self, conn: Connection, lead: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
    ) -> None:
        self.leads = True
        over = asyncio.Event()
        watching = asyncio.create_task(self._watch(conn, over, stop))
        try:
            await lead(over)
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _watch(self, conn: Connection, over: asyncio.Event, stop: asyncio.Event) -> None:
        """Set `over` when stopped, or when the connection that holds the lock does not answer."""
        try:
            while not stop.is_set():
                await pause(self._check_every_s, stop)
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    with driver_errors():
                        await check_alive(conn)
        except (DatabaseUnavailable, TimeoutError) as error:
            self.leads = False
            _log.error("leadership_lost", reason=str(error) or "the database did not answer in time")
        finally:
            over.set()


def _drop(conn: Connection | None) -> None:
    if conn is not None:
        conn.terminate()
