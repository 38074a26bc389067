"""The TON price from one HTTP source that speaks CoinGecko's `simple/price`.

The answer is checked like a stranger's: a price that is no number, not above zero, of the far future or of no moment at
all is an error, never a price.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from urllib.parse import urlsplit

import httpx
import msgspec

from tonsurance.core.errors import PriceUnavailable, UsageError
from tonsurance.core.prices import TON, Price

COIN = "the-open-network"
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 65_536
_MOST_USD = Decimal(10) ** 6
_MOST_AHEAD_S = 300.0


class _Quote(msgspec.Struct, frozen=True):
    usd: Decimal
    last_updated_at: int


class PriceSource:
    """One source. Use as an async context manager, or call `close`. The key, if any, goes in a header."""

    def __init__(self, url: str, api_key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = check_price_url(url)
        host = urlsplit(self._url).hostname or ""
        self.name = host
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            headers={"x-cg-demo-api-key": api_key} if api_key else {},
            timeout=timeout_s,
            trust_env=host not in ("127.0.0.1", "localhost", "::1"),
        )

    async def __aenter__(self) -> PriceSource:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def read_ton(self) -> Price:
        """The price of one TON as the source has it now, with the moment it saw it. Raises PriceUnavailable."""
        params = {"ids": COIN, "vs_currencies": "usd", "include_last_updated_at": "true", "precision": "full"}
        content = await self._fetch(params)
        try:
            quotes = msgspec.json.decode(content, type=dict[str, _Quote])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PriceUnavailable(f"{self.name} answered with no price: {error}") from error
        if COIN not in quotes:
            raise PriceUnavailable(f"{self.name} knows no price of {COIN}.")
        return self._check(quotes[COIN])

    async def _fetch(self, params: dict[str, str]) -> bytes:
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("GET", f"{self._url}/simple/price", params=params) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise PriceUnavailable(f"{self.name} answered with more than {MAX_ANSWER_BYTES} bytes.")
        except TimeoutError as error:
            raise PriceUnavailable(f"{self.name} did not answer in {self._timeout_s:g} s.") from error
        except httpx.HTTPError as error:
            raise PriceUnavailable(f"{self.name} cannot be reached: {str(error) or type(error).__name__}.") from error
        if response.status_code != httpx.codes.OK:
            raise PriceUnavailable(f"{self.name} answered with status {response.status_code}.")
        return bytes(content)

    def _check(self, quote: _Quote) -> Price:
        if not (quote.usd.is_finite() and 0 < quote.usd < _MOST_USD):
            raise PriceUnavailable(f"{self.name} says that a TON costs {quote.usd} USD.")
        if not 0 < quote.last_updated_at <= time.time() + _MOST_AHEAD_S:
            raise PriceUnavailable(f"{self.name} gives a price of the moment {quote.last_updated_at}.")
        return Price(asset=TON, usd=quote.usd, source=self.name, observed_at=float(quote.last_updated_at))


def check_price_url(url: str) -> str:
    """The URL without a trailing slash. Raises UsageError when it is not one, or carries a secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
        raise UsageError("PRICE_URL must be an http(s) URL without query or user.", advice="See the README.")
    return url.rstrip("/")
