"""A TCP door before a database: it can be shut, opened again, or made deaf for a listener without closing anything."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from ports import free_port

_LISTENER = b"tonsurance-listener"


class DatabaseDoor:
    """Shut at first. `dsn` leads through it. While `muted`, what the server says to a listener is swallowed."""

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.muted = False
        self.swallowed = 0

    @property
    def dsn(self) -> str:
        """The address of the database through the door."""
        return f"postgresql://{self._target.username}@127.0.0.1:{self._port}{self._target.path}?sslmode=disable"

    async def open(self) -> None:
        """Let connections through from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def shut(self) -> None:
        """Refuse new connections and cut the others."""
        if self._server is not None:
            self._server.close()
        self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._pumps.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65536)
        query = parse_qs(self._target.query)
        if query:
            upstream = await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        else:
            upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        upstream[1].write(first)
        self._writers |= {writer, upstream[1]}
        for source, target, can_be_muted in ((reader, upstream[1], False), (upstream[0], writer, _LISTENER in first)):
            self._pumps.add(asyncio.create_task(self._pump(source, target, can_be_muted)))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, can_be_muted: bool) -> None:
        try:
            while data := await reader.read(65536):
                if can_be_muted and self.muted:
                    self.swallowed += 1
                else:
                    writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
