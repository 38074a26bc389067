"""The routes of products and exposure over a real database, on a real socket; time passes when the story says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from services.market_story import MarketStory
from tonsurance.api.app import make_app
from tonsurance.api.injected import Services
from tonsurance.api.server import bind_socket, make_server
from tonsurance.api.settings import ApiSettings
from tonsurance.core.sale import SaleCheck
from tonsurance.services.health import HealthReads
from tonsurance.services.hub import Hub
from tonsurance.services.policies import PolicyChecks
from tonsurance.services.product_list import ProductList


@asynccontextmanager
async def running_market(story: MarketStory, sale_checks: Sequence[SaleCheck] = ()) -> AsyncIterator[httpx.AsyncClient]:
    """Serve until the block ends; the figures are those that the story looked at last."""
    settings = ApiSettings(port=0)
    services = Services(
        reads=story.reads,
        ledger=story.ledger,
        health=HealthReads(story.reads, quiet_after_s=settings.quiet_after_s),
        hub=Hub(),
        settings=settings,
        market=story.view,
        products=ProductList(story.view, story.reads, PolicyChecks(story.view, sale_checks)),
    )
    listener = bind_socket(settings)
    server = make_server(make_app(services), settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        port = listener.getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield http
    finally:
        server.should_exit = True
        await serving
        listener.close()
