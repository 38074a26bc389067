"""Prices: what a coin cost at a moment, how old a price may be, and what an amount is worth at one. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from tonsurance.core.units import NANO_PER_TON, USD_DECIMALS

TON = "TON"
_CENT = Decimal("0.01")
MICRO_PER_USD: int = 10**USD_DECIMALS


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars for one unit of an asset, as `source` saw it at `observed_at` (unix seconds)."""

    asset: str
    usd: Decimal
    source: str
    observed_at: float


class PriceReading(msgspec.Struct, frozen=True, kw_only=True):
    """A price and how old it is now. Beyond `max_age_s` it is stale: it may be shown, and nothing may be counted in it.
    Without a price nothing was ever read.
    """

    asset: str
    price: Price | None
    age_s: float | None
    max_age_s: float

    @property
    def stale(self) -> bool:
        """Whether no figure in dollars may be made of it."""
        return self.age_s is None or self.age_s >= self.max_age_s

    @property
    def usable(self) -> Price | None:
        """The price, when it is one of now."""
        return None if self.stale else self.price


def read_price(price: Price | None, asset: str, now: float, max_age_s: float) -> PriceReading:
    """How a price stands at `now` (unix seconds). One seen a little ahead of our clock has the age 0."""
    age = None if price is None else max(0.0, now - price.observed_at)
    return PriceReading(asset=asset, price=price, age_s=age, max_age_s=max_age_s)


def value_usd(amount_nano: int, price: Price) -> Decimal:
    """What an amount in nanoTON is worth, in dollars to the cent, half to even."""
    return (amount_nano * price.usd / NANO_PER_TON).quantize(_CENT, ROUND_HALF_EVEN)


def value_micro_usd(amount_nano: int, price: Price) -> int:
    """The same in whole millionths of a dollar, half to even: what sums are made of."""
    usd_parts, usd_whole = price.usd.as_integer_ratio()
    whole = usd_whole * NANO_PER_TON
    micro, rest = divmod(amount_nano * usd_parts * MICRO_PER_USD, whole)
    up = 2 * rest > whole or (2 * rest == whole and micro % 2 == 1)
    return micro + up


def usd_from_micro(micro_usd: int) -> float:
    """Dollars for display: a float is exact to the millionth up to nine milliards."""
    return micro_usd / MICRO_PER_USD
