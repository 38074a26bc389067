"""The API that sells cover as it runs: a real server and a real database, and a chain that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from nacl.signing import SigningKey

from services.market_story import MarketStory
from tonsurance.api.server import ApiParts, bind_socket, run_api
from tonsurance.api.settings import ApiSettings
from tonsurance.api.shop_parts import ShopParts, ShopWiring
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.quote_signer import Signer
from tonsurance.services.signing_key import SecretKey

PATH = "/api/v2/quote/multi-dimensional"
SEED = bytes(range(32))
PUBLIC_KEY = bytes(SigningKey(SEED).verify_key)
BUYER = "0:" + "5e" * 32
ASKED: dict[str, Any] = {
    "coverage_type": "depeg",
    "chain": "Ethereum",
    "stablecoin": "USDC",
    "coverage_amount": 10000,
    "duration_days": 90,
}
"""The documented example."""


class Shop:
    """A running API, its market, and people who ask for quotes."""

    def __init__(self, http: httpx.AsyncClient, story: MarketStory, parts: ApiParts) -> None:
        self.http = http
        self.story = story
        self.parts = parts

    @property
    def shop(self) -> ShopParts:
        """What sells."""
        assert self.parts.shop is not None
        return self.parts.shop

    async def ask(self, *, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
        """Ask for the documented quote with these fields changed; None leaves one out."""
        body = {name: value for name, value in (ASKED | changes).items() if value is not None}
        return await self.http.post(PATH, json=body, headers=headers)

    async def look(self) -> None:
        """Have the process see what the story told."""
        assert await self.parts.reads.refresh()
        assert await self.shop.market.refresh()

    async def count(self, table: str = "quotes") -> int:
        """Rows of a table."""
        found: int = await self.story.conn.fetchval(f"SELECT count(*) FROM {table}")
        return found


@asynccontextmanager
async def running_shop(
    dsn: str, *, sells: bool = True, capital_ton: int = 100_000, signer: Signer | None = None
) -> AsyncIterator[Shop]:
    """Serve on a free port until the block ends: so much capital in each tranche, TON at 2.50, a factory that sells.

    Quotes are signed in the process, or by `signer`, which is closed at the end.
    """
    story = MarketStory(dsn)
    await story.start(capital_ton)
    await story.see_price("2.50")
    await story.see_factory(public_key=PUBLIC_KEY)
    settings, stop, wake = (
        ApiSettings(port=0, poll_interval_s=3600.0, stale_after_s=3600.0),
        asyncio.Event(),
        asyncio.Event(),
    )
    listener, ledger = bind_socket(settings), PostgresLedgerReader(dsn)
    wiring = ShopWiring(dsn, keys=(SecretKey(SEED),) if sells else (), signer=signer)
    parts = ApiParts(ledger, settings, story.reads.params, shop=wiring)
    port: int = listener.getsockname()[1]
    task = asyncio.create_task(run_api(parts, listener, stop=stop, wake=wake))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            running = Shop(http, story, parts)
            await running.look()
            yield running
    finally:
        stop.set()
        await task
        await wiring.close()
        await ledger.close()
        await story.close()
        listener.close()
