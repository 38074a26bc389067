"""People and edits that the tests of the configuration share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tonsurance.core.parameters.declaration import Value, thaw
from tonsurance.core.params import DEFAULT_PARAMS, Params, hash_values
from tonsurance.db.pool import connect
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import Actor, Applied, ConfigStore, Edit
from tonsurance.services.lazy_pool import LazyPool

ADA = Actor("ada", "editor", "10.1.2.3", "r-1")
BOB = Actor("bob", "editor", "2001:db8::7", "r-2")
ROOT = Actor("root", "admin")
APY = ("tranche", "SURE_MEZZ_apy_max")
RATE = ("pricing", "base_rate_USDC")


def put(name: tuple[str, str], value: object) -> Edit:
    """Set one parameter."""
    return Edit(*name, "set", value)


@asynccontextmanager
async def open_store(dsn: str, *, max_size: int = 4) -> AsyncIterator[ConfigStore]:
    """A store over a pool that is closed at the end."""
    pool = LazyPool(dsn, max_size=max_size)
    try:
        yield ConfigStore(pool)
    finally:
        await pool.close()


async def change(store: ConfigStore, value: float, name: tuple[str, str] = APY, actor: Actor = ADA) -> Applied:
    """One edit of one parameter."""
    return await store.apply([put(name, value)], actor=actor, reason="a test")


async def run_sql(dsn: str, *statements: str) -> None:
    """What somebody with all rights could do, past every trigger."""
    conn = await connect(dsn)
    await conn.execute("SET session_replication_role = replica")
    for statement in statements:
        await conn.execute(statement)
    await conn.close()


async def fetch_value(dsn: str, sql: str) -> object:
    """One value."""
    conn = await connect(dsn)
    value: object = await conn.fetchval(sql)
    await conn.close()
    return value


async def add_version(dsn: str, version: int, name: tuple[str, str], value: object) -> None:
    """A version as a faulty program could write it: with its hash, without our checks."""
    values: dict[tuple[str, str], Value] = {**DEFAULT_PARAMS.values, name: value}  # type: ignore[dict-item]
    nested: dict[str, dict[str, object]] = {}
    for (category, key), held in values.items():
        nested.setdefault(category, {})[key] = thaw(held)
    conn = await connect(dsn)
    await conn.execute(
        "INSERT INTO config_versions (version, created_at, author, reason, kind, values, hash)"
        " VALUES ($1, now(), 'x', '', 'edit', $2::text::jsonb, $3)",
        version,
        json.dumps(nested),
        hash_values(values),
    )
    await conn.execute("UPDATE config_head SET version = $1", version)
    await conn.execute("SELECT pg_notify('tonsurance_config', '{\"v\":9}')")
    await conn.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something a background task does."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Swaps:
    """The versions a loader swapped to, awaited one by one."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.queue: asyncio.Queue[Params] = asyncio.Queue()
        loader.subscribe(self.queue.put_nowait)

    async def until(self, version: int) -> Params:
        """The parameters when this version has come."""
        async with asyncio.timeout(60):
            while True:
                params = await self.queue.get()
                if params.version >= version:
                    return params
