"""The admin API as it runs: a real server on a real socket over a real database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from api.ledger_fake import FakeLedger
from api.running import RunningApi
from tonsurance.api.admin_guard import AdminGuard
from tonsurance.api.admin_routes import AdminParts
from tonsurance.api.admin_settings import AdminSettings
from tonsurance.api.server import ApiParts, bind_socket, run_api
from tonsurance.api.settings import ApiSettings
from tonsurance.core.params import Params
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.admin_tokens import TokenKeys, issue_token
from tonsurance.services.alert_records import AlertRecords
from tonsurance.services.config_admin import ConfigAdmin
from tonsurance.services.config_effects import make_effects
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.datasets import Datasets
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.tranche_reads import TrancheReads

SECRET, OLD_SECRET = "test secret of thirty-two bytes!", "the test secret we had before it"
PARAMETER = "/admin/config/pricing/base_rate_USDC"


class Clock:
    """A clock that can be moved ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead


class AdminApi:
    """A running API with the admin routes, and people to talk to it as."""

    def __init__(self, api: RunningApi, keys: TokenKeys, clock: Clock) -> None:
        self.api = api
        self.keys = keys
        self.clock = clock

    def token(self, role: str = "admin", sub: str | None = None, *, ttl_s: int = 60) -> str:
        """A token of a person; named like the role when no name is given."""
        return issue_token(self.keys, sub=sub or role, role=role, ttl_s=ttl_s)[0]

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        role: str = "admin",
        sub: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request of a person."""
        sent = {"Authorization": f"Bearer {self.token(role, sub)}"} | (headers or {})
        return await self.api.http.request(method, path, json=body, headers=sent)

    async def value(self, path: str = PARAMETER) -> object:
        """The value of a parameter as the API gives it."""
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()["value_data"]

    async def version(self) -> int:
        """The newest version."""
        answer = await self.ask("GET", "/admin/config/versions?limit=1")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return int(found[0]["version"]) if found else 0

    async def until_served(self, version: int) -> None:
        """Wait until the figures carry this version of the parameters; fails the test after 10 s."""
        async with asyncio.timeout(60):
            while (await self.api.get("/api/v2/tranches/apy")).json()["params_version"] < version:
                self.api.wake.set()


@asynccontextmanager
async def running_admin(
    dsn: str, ledger: FakeLedger, *, settings: AdminSettings | None = None
) -> AsyncIterator[AdminApi]:
    """Serve on a free port until the block ends, with the parameters of the database at `dsn`."""
    settings = settings or AdminSettings(approvals=False)
    api_settings, stop, wake, clock = ApiSettings(port=0), asyncio.Event(), asyncio.Event(), Clock()
    listener = bind_socket(api_settings)
    pool, loader = LazyPool(dsn), ConfigLoader(dsn, process="test")
    keys, records = TokenKeys(SECRET, OLD_SECRET), AdminRecords(pool)
    await loader.start()

    def make_admin(reads: TrancheReads) -> AdminParts:
        def swap(params: Params) -> None:
            reads.use_params(params)  # as the server does
            wake.set()

        def rate_limit() -> int:
            return loader.get_int("api", "admin_rate_limit")

        loader.subscribe(swap)
        return AdminParts(
            admin=ConfigAdmin(
                ConfigStore(pool),
                records,
                make_effects(),
                loader,
                snapshot=lambda: reads.snapshot_or_none,
                approvals=settings.approvals,
            ),
            datasets=Datasets(pool, approvals=settings.approvals),
            guard=AdminGuard(keys, records, settings, rate_limit, clock=clock),
            settings=settings,
        )

    parts = ApiParts(ledger, api_settings, loader.params, make_admin, AlertRecords(pool))
    await parts.feed.refresh()
    port: int = listener.getsockname()[1]
    task = asyncio.create_task(run_api(parts, listener, stop=stop, wake=wake))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield AdminApi(RunningApi(parts, port, wake, http), keys, clock)
    finally:
        stop.set()
        await task
        await loader.close()
        await pool.close()
        listener.close()
