"""The local market's price of TON, served as the real service does it, and what can be done to it.

The price is a function of the seed and of the time, so that two runs see the same market.
"""

from __future__ import annotations

import math
import random
import time
from typing import Any

from tonsurance.core.errors import InputError
from tonsurance.localnet.http import Answer, ApiError, Handler, Request

FEED_PREFIX = "/feeds/api/v3/"
CONTROL_PATH = "/_localnet/price"
COIN = "the-open-network"
_START_USD = 5.0
_WAVES = ((86_400.0, 0.05), (7_200.0, 0.02), (600.0, 0.005))
"""Period in seconds and height of the swings, as fractions of the price."""
MODES = ("live", "frozen", "away", "broken")


class PriceMarket:
    """The price at any time: `live` moves, `frozen` keeps price and moment, `away` fails, `broken` answers nonsense."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"price {seed}")
        self._phases = [rng.uniform(0, 2 * math.pi) for _ in _WAVES]
        self._factor = 1.0
        self._mode = "live"
        self._frozen: tuple[float, int] | None = None

    @property
    def routes(self) -> dict[str, Handler]:
        """What is answered where."""
        return {FEED_PREFIX: self.handle, CONTROL_PATH: self.control}

    def price_at(self, at: float) -> float:
        """US dollars for one TON at a unix time."""
        waves = zip(_WAVES, self._phases, strict=True)
        swing = sum(height * math.sin(2 * math.pi * at / period + phase) for (period, height), phase in waves)
        return round(_START_USD * self._factor * math.exp(swing), 6)

    def set_price(self, usd: float | None, mode: str | None) -> None:
        """Move the price to `usd` from now on, or change the mode. Raises InputError."""
        if usd is not None and not (math.isfinite(usd) and 0 < usd <= 1_000):
            raise InputError(f"A price is above 0 and at most 1000 USD, not {usd}.")
        if mode is not None and mode not in MODES:
            raise InputError(f"{mode} is not a mode: {', '.join(MODES)}.")
        now = time.time()
        if usd is not None:
            self._factor *= usd / self.price_at(now)
        if mode is not None or usd is not None:
            self._mode = mode or self._mode
            self._frozen = (self.price_at(now), int(now)) if self._mode == "frozen" else None

    async def handle(self, request: Request) -> Answer:
        """Answer `simple/price` of the service this one stands for."""
        if request.path.removeprefix(FEED_PREFIX) != "simple/price":
            raise ApiError(404, "Not Found")
        if self._mode == "away":
            raise ApiError(503, "Service Unavailable")
        wanted = str(request.parameters.get("ids", "")).split(",")
        currencies = str(request.parameters.get("vs_currencies", "")).split(",")
        if COIN not in wanted or "usd" not in currencies:
            return Answer(200, {})
        if self._mode == "broken":
            return Answer(200, {COIN: {"usd": None}})
        return Answer(200, {COIN: self._quote(request.parameters)})

    def _quote(self, parameters: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        usd, at = self._frozen or (self.price_at(now), now)
        quote: dict[str, Any] = {"usd": usd}
        if str(parameters.get("include_last_updated_at", "")).lower() == "true":
            quote["last_updated_at"] = at
        return quote

    async def control(self, request: Request) -> Answer:
        """Change price or mode: POST {usd, mode}. Answers how it stands."""
        if request.method == "POST":
            usd, mode = request.parameters.get("usd"), request.parameters.get("mode")
            if (usd is not None and not isinstance(usd, int | float)) or isinstance(usd, bool):
                raise ApiError(422, "usd must be a number")
            try:
                self.set_price(None if usd is None else float(usd), None if mode is None else str(mode))
            except InputError as error:
                raise ApiError(422, error.message) from error
        usd_now, at = self._frozen or (self.price_at(time.time()), int(time.time()))
        return Answer(200, {"ok": True, "usd": usd_now, "at": at, "mode": self._mode})
