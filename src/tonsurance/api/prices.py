"""REST, version 2: prices."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from litestar import get

from tonsurance.api.injected import Injected
from tonsurance.api.v1 import NOT_READY
from tonsurance.core.errors import NotReady
from tonsurance.core.prices import PriceReading


class PriceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A price: `price_usd` is null when none was ever read. When `stale`, nothing may be counted in it."""

    asset: str
    price_usd: str | None
    source: str | None
    observed_at: str | None
    age_s: float | None
    max_age_s: float
    stale: bool


@get(
    "/api/v2/prices",
    summary="The TON price",
    description="US dollars for one TON, as the source saw it at `observed_at`. Beyond `max_age_s` it is `stale`: "
    "it is shown, and no figure in dollars is made of it any more.",
    tags=["prices"],
    responses={503: NOT_READY},
)
async def get_prices(services: Injected) -> list[PriceAnswer]:
    """One row for each asset."""
    if services.prices is None:
        raise NotReady("Prices are not read here.")
    return [render_price(await services.prices.read())]


def render_price(reading: PriceReading) -> PriceAnswer:
    """As it is shown."""
    price = reading.price
    seen = None if price is None else datetime.fromtimestamp(price.observed_at, UTC)
    return PriceAnswer(
        asset=reading.asset,
        price_usd=None if price is None else f"{price.usd:f}",
        source=None if price is None else price.source,
        observed_at=None if seen is None else seen.isoformat(timespec="seconds").replace("+00:00", "Z"),
        age_s=None if reading.age_s is None else round(reading.age_s, 3),
        max_age_s=reading.max_age_s,
        stale=reading.stale,
    )
