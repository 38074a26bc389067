"""Prices as they were read, and the events that were worth much at them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tonsurance.core.prices import Price
from tonsurance.db.pool import Connection

INSERT_PRICE = """
INSERT INTO price_history (asset, price_usd, source, observed_at) VALUES ($1, $2, $3, to_timestamp($4))
ON CONFLICT (asset, source, observed_at) DO NOTHING
"""
SELECT_LATEST_PRICE = """
SELECT asset, price_usd, source, extract(epoch FROM observed_at)::double precision AS observed_at
FROM price_history WHERE asset = $1 ORDER BY price_history.observed_at DESC, price_id DESC LIMIT 1
"""
SELECT_NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"
SELECT_HIGH_VALUE = """
SELECT high_value_id, contract_address, event_type, policy_id, vault_id, value_usd, limit_usd,
    created_at < now() - make_interval(secs => $1) AS over
FROM high_value_events WHERE created_at > now() - 2 * make_interval(secs => $1) ORDER BY high_value_id
"""


class HighValueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase or payout above its limit, in dollars; `over` when it is told of no more."""

    high_value_id: int
    contract_address: str
    event_type: str
    policy_id: int | None
    vault_id: str | None
    value_usd: Decimal
    limit_usd: Decimal
    over: bool


async def insert_price(conn: Connection, price: Price) -> None:
    """Keep a price; the same observation again changes nothing."""
    await conn.execute(INSERT_PRICE, price.asset, price.usd, price.source, price.observed_at)


async def select_latest_price(conn: Connection, asset: str) -> tuple[Price | None, float]:
    """The price seen last, and the time of the database's clock in unix seconds."""
    row = await conn.fetchrow(SELECT_LATEST_PRICE, asset)
    now: float = await conn.fetchval(SELECT_NOW)
    if row is None:
        return None, now
    price = Price(asset=row["asset"], usd=row["price_usd"], source=row["source"], observed_at=row["observed_at"])
    return price, now


async def select_high_value(conn: Connection, told_for_s: float) -> list[HighValueRow]:
    """What was above its limit lately: within `told_for_s` seconds, or over since less than that."""
    return [HighValueRow(**dict(row)) for row in await conn.fetch(SELECT_HIGH_VALUE, told_for_s)]
