"""The TON price: read from its source again and again, kept in the database, and read from there by everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tonsurance import log, metrics
from tonsurance.core.errors import PriceUnavailable
from tonsurance.core.params import Params
from tonsurance.core.prices import TON, Price, PriceReading, read_price
from tonsurance.db.pool import acquire
from tonsurance.db.prices import insert_price, select_latest_price
from tonsurance.db.roles import ROLE_OF
from tonsurance.feeds.prices import PriceSource
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

READ_EVERY_S = 10.0
MAX_BACKOFF_S = 60.0
_MAX_AGE = "price_max_age_s"
logger = log.get("price_feed")


def max_age_s(params: Params) -> float:
    """Age from which a price is none any more, in seconds."""
    return float(str(params.value("risk", _MAX_AGE)))


def check_price(reading: PriceReading) -> Price:
    """The price, of now. Raises PriceUnavailable when it is stale or was never read."""
    price = reading.usable
    if price is None:
        known = "was never read" if reading.age_s is None else f"is {reading.age_s:.0f} s old"
        raise PriceUnavailable(
            f"The {reading.asset} price {known}; after {reading.max_age_s:.0f} s it is none any more.",
            advice="See the daemon's log for `price_feed`, and PRICE_URL.",
        )
    return price


class PriceReads:
    """The price as the database has it, for whoever makes a figure in dollars of it."""

    def __init__(self, pool: LazyPool, params: Callable[[], Params]) -> None:
        self._pool = pool
        self._params = params

    async def read(self, asset: str = TON) -> PriceReading:
        """The price seen last and its age; it may be stale, or none. Raises DatabaseUnavailable."""
        async with acquire(await self._pool.open()) as conn:
            price, now = await select_latest_price(conn, asset)
        return read_price(price, asset, now, max_age_s(self._params()))

    async def require(self, asset: str = TON) -> Price:
        """The price, of now. Raises PriceUnavailable when it is stale or was never read, DatabaseUnavailable."""
        return check_price(await self.read(asset))


class PriceFeed:
    """Reads the source and keeps what it says."""

    def __init__(self, source: PriceSource, pool: LazyPool) -> None:
        self._source = source
        self._pool = pool

    async def read_once(self) -> Price:
        """One look. Raises PriceUnavailable, DatabaseUnavailable; then nothing changed and the last price grows old."""
        price = await self._source.read_ton()
        async with acquire(await self._pool.open()) as conn:
            await insert_price(conn, price)
        metrics.PRICE_USD.labels(price.asset).set(float(price.usd))
        metrics.PRICE_OBSERVED_AT.labels(price.asset).set(price.observed_at)
        return price


async def keep_prices(
    dsn: str, url: str, api_key: str | None, stop: asyncio.Event, *, read_every_s: float = READ_EVERY_S
) -> None:
    """Read the price until `stop` is set, over a connection of its own."""
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance prices", role=ROLE_OF["daemon"])
    try:
        async with PriceSource(url, api_key) as source:
            feed = PriceFeed(source, pool)
            logger.info("price_feed", source=source.name)
            await every(read_every_s, feed.read_once, stop=stop, name="prices", max_backoff_s=MAX_BACKOFF_S)
    finally:
        await pool.close()
