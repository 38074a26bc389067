"""A pool that is opened when it is first needed, so that a process can start before its database."""

from __future__ import annotations

import asyncio

from tonsurance.db.pool import Pool, open_pool

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
