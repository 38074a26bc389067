"""A running API over a fake ledger: a real server on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tonsurance.api.server import ApiParts, bind_socket, run_api
from tonsurance.api.settings import ApiSettings
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.alert_records import AlertRecords
from tonsurance.services.ports import LedgerReader


class RunningApi:
    """One API process' worth of parts in this event loop, with clients for it."""

    def __init__(self, parts: ApiParts, port: int, wake: asyncio.Event, http: httpx.AsyncClient) -> None:
        self.parts = parts
        self.port = port
        self.wake = wake
        self.http = http

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """One request."""
        return await self.http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    @asynccontextmanager
    async def socket(self, **options: object) -> AsyncIterator[Talk]:
        """A WebSocket client that has read its welcome."""
        async with connect(f"ws://127.0.0.1:{self.port}/ws", compression=None, **options) as connection:
            talk = Talk(connection)
            talk.welcome = await talk.hear()
            yield talk


class Talk:
    """A WebSocket client in words."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.welcome: dict[str, object] = {}

    async def hear(self) -> dict[str, object]:
        """The next message; fails the test after a minute of silence."""
        async with asyncio.timeout(60):
            return json.loads(await self.connection.recv())

    async def hear_type(self, kind: str) -> dict[str, object]:
        """The next message of this type; others are passed over."""
        while True:
            message = await self.hear()
            if message["type"] == kind:
                return message

    async def say(self, **frame: object) -> None:
        """Send one frame."""
        await self.connection.send(json.dumps(frame))

    async def ask(self, **frame: object) -> dict[str, object]:
        """Send one frame and hear what comes next."""
        await self.say(**frame)
        return await self.hear()


@asynccontextmanager
async def running_api(
    ledger: LedgerReader, settings: ApiSettings | None = None, alerts: AlertRecords | None = None
) -> AsyncIterator[RunningApi]:
    """Serve on a free port until the block ends; the ledger was read once before it begins."""
    settings = settings or ApiSettings(port=0)
    listener = bind_socket(settings)
    stop, wake = asyncio.Event(), asyncio.Event()
    parts = ApiParts(ledger, settings, DEFAULT_PARAMS, alerts=alerts)
    await parts.feed.refresh()
    if parts.alerts is not None:
        await parts.alerts.refresh()
    port: int = listener.getsockname()[1]
    task = asyncio.create_task(run_api(parts, listener, stop=stop, wake=wake))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield RunningApi(parts, port, wake, http)
    finally:
        stop.set()
        await task
        listener.close()
