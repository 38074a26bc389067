"""Tells when the ledger has a new version, by PostgreSQL's LISTEN. Speed only: truth is what a reader then selects."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import asyncpg
import msgspec

from tonsurance import log

CHANNEL = "tonsurance_ledger"
ALERTS = "tonsurance_alerts"
"""The same for what happens to alerts; the version is the newest transition's number."""

_CONNECT_TIMEOUT_S = 10.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

logger = log.get("notify")


class _Payload(msgspec.Struct, frozen=True):
    v: int


class Listener:
    """Calls `on_version` with every announced version, and with None when anything may have been missed.

    None means: read everything again. It comes after each (re)connect, when LISTEN is already in force, so that no
    version falls between the reading and the listening. The callback must not block. While there is no connection
    nothing is called: the caller polls beside this.
    """

    def __init__(
        self,
        dsn: str,
        on_version: Callable[[int | None], None],
        *,
        channel: str = CHANNEL,
        heartbeat_s: float = 5.0,
        role: str | None = None,
    ) -> None:
        """`role` is the database's role to take; None stays the login."""
        self._dsn = dsn
        self._on_version = on_version
        self._channel = channel
        self._heartbeat_s = heartbeat_s
        self._session = {"application_name": "tonsurance-listener"} | ({} if role is None else {"role": role})
        self._delay_s = _FIRST_DELAY_S
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether notifications arrive now."""
        return self._connected

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set, reconnecting with back-off for as long as it takes."""
        while not stop.is_set():
            try:
                await self._listen(stop)
            except _FAILURES as error:
                logger.warning("listener_lost", error=str(error), retry_in_s=round(self._delay_s, 1))
                await _sleep(stop, self._delay_s * random.uniform(0.5, 1.0))
                self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)

    async def _listen(self, stop: asyncio.Event) -> None:
        conn = await asyncpg.connect(self._dsn, timeout=_CONNECT_TIMEOUT_S, server_settings=self._session)
        ended = asyncio.Event()
        try:
            conn.add_termination_listener(lambda _: ended.set())
            await conn.add_listener(self._channel, self._receive)
            self._connected = True
            self._delay_s = _FIRST_DELAY_S
            self._on_version(None)
            await self._watch(conn, stop, ended)
        finally:
            self._connected = False
            conn.terminate()

    async def _watch(self, conn: asyncpg.Connection[asyncpg.Record], stop: asyncio.Event, ended: asyncio.Event) -> None:
        """Return when stopped; raise when the connection is gone, also when it died without a word."""
        waits = [asyncio.create_task(event.wait()) for event in (stop, ended)]
        try:
            while not stop.is_set():
                await asyncio.wait(waits, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
                if ended.is_set():
                    raise ConnectionResetError("the server closed the connection")
                if not stop.is_set():
                    await conn.execute("SELECT 1", timeout=self._heartbeat_s)
        finally:
            for wait in waits:
                wait.cancel()

    def _receive(self, _conn: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            self._on_version(msgspec.json.decode(str(payload), type=_Payload).v)
        except (msgspec.DecodeError, msgspec.ValidationError):
            self._on_version(None)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
