"""A TCP door before a database that cuts a connection after so many things the client asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit


class CuttingDoor:
    """Lets `most` packets of the client through (None: all of them); `asked` counts them."""

    def __init__(self, dsn: str, most: int | None = None) -> None:
        self.asked = 0
        self._target = urlsplit(dsn)
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The address of the database through the door."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://{self._target.username}@127.0.0.1:{port}{self._target.path}?sslmode=disable"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = parse_qs(self._target.query)
        if query:
            server = await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        else:
            server = await asyncio.open_connection(self._target.hostname, self._target.port)
        both = (writer, server[1])
        self._tasks.add(asyncio.create_task(self._pump(reader, server[1], both, counted=True)))
        self._tasks.add(asyncio.create_task(self._pump(server[0], writer, both, counted=False)))

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, ...],
        *,
        counted: bool,
    ) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    self.asked += counted
                    if counted and self._most is not None and self.asked > self._most:
                        break
                    writer.write(data)
        finally:
            for one in both:
                one.transport.abort()
