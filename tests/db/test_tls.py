"""TLS to the database: a real server behind a door that speaks PostgreSQL's TLS, and real certificates."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tonsurance.bus.notify import Listener
from tonsurance.core.errors import DatabaseUnavailable, PostgresNotFound
from tonsurance.db.binaries import psql_binary
from tonsurance.db.pool import acquire, connect, open_pool
from tonsurance.settings import Environment, database_url

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Authority:
    """A certificate for `localhost` that signs itself."""

    def __init__(self, folder: Path, name: str) -> None:
        self.certificate, self.key = folder / f"{name}.crt", folder / f"{name}.key"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj"
        names = ("/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        subprocess.run(
            [*command.split(), *names, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True
        )


class TlsDoor:
    """A TCP port before a database's socket: it answers the request for TLS, and takes the TLS off."""

    def __init__(self, dsn: str, authority: Authority | None) -> None:
        self._target = urlsplit(dsn)
        self._tls = None
        if authority is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(authority.certificate, authority.key)
        self.encrypted = self.plain = 0
        self.clients: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client until either side ends."""
        task = asyncio.current_task()
        assert task is not None
        self.clients.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._connect(reader, writer)
        finally:
            await shut(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first == _SSL_REQUEST:
            writer.write(b"S" if self._tls else b"N")
            if self._tls:
                await writer.start_tls(self._tls)
            first = await reader.readexactly(8)
            self.encrypted += bool(self._tls)
        self.plain += not self._tls
        place = parse_qs(self._target.query)
        up, down = await asyncio.open_unix_connection(f"{place['host'][0]}/.s.PGSQL.{place['port'][0]}")
        down.write(first)
        pumps = [asyncio.create_task(pump(reader, down)), asyncio.create_task(pump(up, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await shut(down)

    def dsn(self, port: int, host: str = "localhost") -> str:
        return f"postgresql://{self._target.username}@{host}:{port}{self._target.path}"


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)


@asynccontextmanager
async def door(dsn: str, authority: Authority | None) -> AsyncIterator[tuple[TlsDoor, int]]:
    opened = TlsDoor(dsn, authority)
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0)
    async with server:
        yield opened, server.sockets[0].getsockname()[1]
        await asyncio.gather(*opened.clients)  # each ends with its client


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Authority(tmp_path, "ours"), Authority(tmp_path, "another")


def address(dsn: str, mode: str, authority: Authority | None = None) -> str:
    """What the settings make of an address."""
    given = {"DATABASE_URL": dsn, "DB_SSLMODE": mode}
    made = database_url(Environment(given | ({"DB_SSLROOTCERT": str(authority.certificate)} if authority else {})))
    assert made is not None
    return made


async def test_the_right_authority_is_accepted_and_another_refused(
    database: str, authorities: tuple[Authority, Authority]
) -> None:
    ours, another = authorities
    async with door(database, ours) as (opened, port):
        pool = await open_pool(address(opened.dsn(port), "verify-full", ours), max_size=1)
        async with acquire(pool) as conn:
            assert await conn.fetchval("SELECT version FROM ledger_head") == 0
        await pool.close()
        assert (opened.encrypted, opened.plain) == (1, 0)
        for mode in ("verify-full", "verify-ca"):
            with pytest.raises(DatabaseUnavailable, match=r"certificate verify failed"):
                await connect(address(opened.dsn(port), mode, another))
        with pytest.raises(DatabaseUnavailable, match=r"certificate verify failed"):  # another name than its own
            await connect(address(opened.dsn(port, "127.0.0.1"), "verify-full", ours))
        conn = await connect(address(opened.dsn(port, "127.0.0.1"), "verify-ca", ours))
        await conn.close()


async def test_a_server_without_tls_is_refused_where_tls_is_required(database: str) -> None:
    async with door(database, None) as (opened, port):
        with pytest.raises(DatabaseUnavailable, match="rejected SSL upgrade"):
            await connect(address(opened.dsn(port), "require"))
        assert opened.plain == 0
        conn = await connect(address(opened.dsn(port), "disable"))
        await conn.close()
        assert opened.plain == 1


async def test_the_listener_uses_tls_too(database: str, authorities: tuple[Authority, Authority]) -> None:
    ours, another = authorities
    stop, heard = asyncio.Event(), asyncio.Event()
    async with door(database, ours) as (opened, port):
        refused = Listener(address(opened.dsn(port), "verify-full", another), lambda _: heard.set())
        accepted = Listener(address(opened.dsn(port), "verify-full", ours), lambda _: heard.set())
        waiting = asyncio.create_task(refused.run(stop))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(heard.wait(), 0.3)
        listening = asyncio.create_task(accepted.run(stop))
        await asyncio.wait_for(heard.wait(), 60)
        assert (refused.connected, accepted.connected) == (False, True)
        stop.set()
        await asyncio.gather(waiting, listening)


def test_psql_for_tls_is_one_that_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded binaries are built without."""
    own = tmp_path / "psql"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert psql_binary(tls=True) == own
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PostgresNotFound, match="knows TLS"):
        psql_binary(tls=True)
