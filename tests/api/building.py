"""The builders' routes on a real socket, over a database that knows a vault and factory of a real TVM."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar import Litestar
from litestar.exceptions import HTTPException
from pytoniq_core.boc.cell import Cell
from ton_core import Address

from services.factory_reading import Reading
from tonsurance.api.builders import make_builder_router
from tonsurance.api.errors import answer_http_error, answer_known_error, answer_unexpected_error
from tonsurance.api.server import bind_socket, make_server
from tonsurance.api.settings import ApiSettings
from tonsurance.core.errors import TonsuranceError
from tonsurance.localnet.wallets import Transfer, Wallet
from tonsurance.services.chain_clock import ChainClock
from tonsurance.services.factory_state import FactoryStates
from tonsurance.services.wallet_requests import WalletRequests


@asynccontextmanager
async def running_builders(states: FactoryStates, chain: ChainClock | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Serve until the block ends. `chain` tells the chain's time."""
    app = Litestar(
        route_handlers=[make_builder_router(WalletRequests(states, chain=chain), "main")],
        exception_handlers={
            TonsuranceError: answer_known_error,
            HTTPException: answer_http_error,
            Exception: answer_unexpected_error,
        },
        openapi_config=None,
        logging_config=None,
    )
    settings = ApiSettings(port=0)
    listener = bind_socket(settings)
    server = make_server(app, settings)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    port: int = listener.getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield http
    finally:
        server.should_exit = True
        await task
        listener.close()


def send_as_told(parts: Reading, sender: Wallet, transaction: dict[str, Any]) -> None:
    """Do what a wallet does with a request, to its end: what to send, how much and whether it bounces stand in it."""
    (message,) = transaction["messages"]
    address = Address(message["address"])
    order = Transfer(
        destination=f"{address.wc}:{address.hash_part.hex()}",
        value=int(message["amount"]),
        body=Cell.one_from_boc(base64.b64decode(message["payload"], validate=True)),
        bounce=address.is_bounceable,
    )
    sender.send(parts.street.chain, order)
    parts.street.chain.mine_until_idle()
