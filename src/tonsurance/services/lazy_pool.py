"""A pool that is opened when it is first needed, so that a process can start before its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.db.pool import Connection, Pool, acquire, open_pool

CLOSE_TIMEOUT_S = 2.0


class LazyPool:
    """At most `max_size` connections to `dsn`, which take this role (None: stay the login)."""

    def __init__(
        self, dsn: str, *, max_size: int = 4, application_name: str = "tonsurance", role: str | None = None
    ) -> None:
        self._dsn = dsn
        self._max_size = max_size
        self._application_name = application_name
        self._role = role
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Pool:
        """The pool. Raises DatabaseUnavailable."""
        async with self._opening:
            if self._pool is None:
                self._pool = await open_pool(
                    self._dsn,
                    min_size=1,
                    max_size=self._max_size,
                    application_name=self._application_name,
                    role=self._role,
                )
            return self._pool

    @asynccontextmanager
    async def read(self, timeout_s: float) -> AsyncIterator[Connection]:
        """A connection on which all reads see one moment. Raises DatabaseUnavailable, also when it took too long."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                acquire(await self.open(), timeout_s=timeout_s) as conn,
                conn.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield conn
        except TimeoutError as error:
            raise DatabaseUnavailable("The database did not answer in time.") from error

    async def close(self) -> None:
        """Give the connections back; those that hang are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()
