"""The API with its writing routes as it runs: a real server on a real socket over a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from api.admin_running import SECRET
from services.reserving import ChainByHand
from tonsurance.api.server import ApiParts, bind_socket, run_api
from tonsurance.api.settings import ApiSettings
from tonsurance.api.write_parts import WriteWiring
from tonsurance.services.admin_tokens import TokenKeys, issue_token
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.ledger_reads import PostgresLedgerReader

PATH = "/api/v1/reservations"


class WritingApi:
    """A running API, its chain, and people who write."""

    def __init__(self, http: httpx.AsyncClient, chain: ChainByHand, parts: ApiParts) -> None:
        self.http = http
        self.chain = chain
        self.parts = parts
        self._keys = TokenKeys(SECRET)
        self._numbers = 0

    def token(self, sub: str, role: str = "editor") -> dict[str, str]:
        """The header of a person."""
        return {"Authorization": f"Bearer {issue_token(self._keys, sub=sub, role=role, ttl_s=60)[0]}"}

    async def reserve(
        self, amount: object, *, who: dict[str, str] | None = None, key: str | None = None, **other: object
    ) -> httpx.Response:
        """Ask for room, under a new key unless one is given."""
        self._numbers += 1
        body = {"vault_id": "main", "tranche_id": None, "amount_nanoton": amount, "ttl_s": 60} | other
        headers = {"Idempotency-Key": key or f"key-{self._numbers}"} | (who or {})
        return await self.http.post(PATH, json=body, headers=headers)

    async def act(self, made: httpx.Response, what: str, body: object = None, **who: dict[str, str]) -> httpx.Response:
        """Commit or release."""
        return await self.http.post(f"{PATH}/{made.json()['reservation_id']}/{what}", json=body, **who)


@asynccontextmanager
async def running_writes(
    dsn: str, *, open_to_all: bool = True, secret: str | None = SECRET
) -> AsyncIterator[WritingApi]:
    """Serve on a free port until the block ends; nothing is read again unless something tells of a change."""
    settings, stop, wake = ApiSettings(port=0, poll_interval_s=3600.0), asyncio.Event(), asyncio.Event()
    listener, ledger, chain = bind_socket(settings), PostgresLedgerReader(dsn), ChainByHand(dsn)
    loader = ConfigLoader(dsn, process="test")
    await loader.start()
    writing = WriteWiring(dsn, loader, secret, None, proxies=(), open_to_all=open_to_all)
    parts = ApiParts(ledger, settings, loader.params, writes=writing.make(wake.set))
    await parts.feed.refresh()
    port: int = listener.getsockname()[1]
    task = asyncio.create_task(run_api(parts, listener, stop=stop, wake=wake))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield WritingApi(http, chain, parts)
    finally:
        stop.set()
        await task
        await writing.close()
        await chain.close()
        await loader.close()
        await ledger.close()
        listener.close()
