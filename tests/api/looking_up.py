"""The look-ups over the real ledger: a small app with their routes, and a ledger made by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar
from litestar.exceptions import HTTPException

from tonsurance.api.errors import answer_http_error, answer_known_error
from tonsurance.api.policy_reads import make_policy_router
from tonsurance.api.transactions import make_transaction_router
from tonsurance.core.errors import TonsuranceError
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.policy_reads import PolicyReads
from tonsurance.services.transaction_reads import TransactionReads


@asynccontextmanager
async def running_look_ups(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with only these routes, in this process, as the API's role."""
    pool = LazyPool(dsn, max_size=2, role=ROLE_OF["api"])
    app = Litestar(
        route_handlers=[
            make_transaction_router(TransactionReads(pool)),
            make_policy_router(PolicyReads(pool, "main")),
        ],
        exception_handlers={TonsuranceError: answer_known_error, HTTPException: answer_http_error},
        logging_config=None,
    )
    transport = httpx.ASGITransport(app=app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http
    finally:
        await pool.close()
