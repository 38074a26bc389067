"""A TCP door to a PostgreSQL: while it is shut there is an outage for who comes through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from ports import free_port


class Door:
    """Stands before the database at `dsn`; its own `dsn` is the way through."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._port = free_port()
        self._pourings: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def dsn(self) -> str:
        """The database's address through the door."""
        login = self._parts.netloc.rpartition("@")[0]
        return self._parts._replace(netloc=f"{login}@127.0.0.1:{self._port}", query="").geturl()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open while the block runs; then every connection through it is cut."""
        server = await asyncio.start_server(self._enter, "127.0.0.1", self._port)
        try:
            yield
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.gather(*self._pourings)
            await server.wait_closed()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await self._knock()
        self._writers += [writer, back_writer]
        self._pourings.add(asyncio.create_task(pour(reader, back_writer)))
        self._pourings.add(asyncio.create_task(pour(back_reader, writer)))

    async def _knock(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(self._parts.query)
        if "host" in query:
            return await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        return await asyncio.open_connection(self._parts.hostname, self._parts.port or 5432)


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on all bytes until one side is gone."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
