"""Cover in force by coverage type, chain and coin, in TON and dollars. Every sum is the sum of the products' amounts.

Each product's cover is valued once, to the millionth of a dollar; so the parts of a table and the tables agree.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tonsurance.core.prices import Price, value_micro_usd
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS, Product
from tonsurance.services.market_reading import Cover, CoverInForce

TOP_PRODUCTS = 10


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Cover in force in nanoTON and in millionths of a dollar (None without a price of now), and its policies."""

    nano: int
    micro_usd: int | None
    policies: int


class ExposureReport(msgspec.Struct, frozen=True, kw_only=True):
    """The cover in force of a vault, in tables that each sum up to `total`; `top` are the largest products, largest
    first, of equal ones the smaller key. `price` is what dollars were counted at."""

    cover: CoverInForce
    price: Price | None
    by_coverage_type: tuple[tuple[str, Amount], ...]
    by_chain: tuple[tuple[str, Amount], ...]
    by_stablecoin: tuple[tuple[str, Amount], ...]
    top: tuple[tuple[Product, Amount], ...]
    total: Amount


def value_cover(cover: Cover, price: Price | None) -> Amount:
    """A product's cover with its value in dollars."""
    micro_usd = None if price is None else value_micro_usd(cover.nano, price)
    return Amount(nano=cover.nano, micro_usd=micro_usd, policies=cover.policies)


def report_exposure(cover: CoverInForce, price: Price | None) -> ExposureReport:
    """All tables at one price; None: dollars are not known."""
    valued = {product: value_cover(one, price) for product, one in cover.products.items()}
    ranked = sorted(valued.items(), key=lambda item: (-item[1].nano, item[0]))
    return ExposureReport(
        cover=cover,
        price=price,
        by_coverage_type=_sum_by(COVERAGE_TYPES, ((p.coverage_type, one) for p, one in ranked), price),
        by_chain=_sum_by(CHAINS, ((p.chain, one) for p, one in ranked), price),
        by_stablecoin=_sum_by(STABLECOINS, ((p.stablecoin, one) for p, one in ranked), price),
        top=tuple(ranked[:TOP_PRODUCTS]),
        total=_sum(valued.values(), price),
    )


def _sum_by(
    names: tuple[str, ...], amounts: Iterable[tuple[str, Amount]], price: Price | None
) -> tuple[tuple[str, Amount], ...]:
    groups: dict[str, list[Amount]] = {name: [] for name in names}
    for name, amount in amounts:
        groups[name].append(amount)
    return tuple((name, _sum(group, price)) for name, group in groups.items())


def _sum(amounts: Iterable[Amount], price: Price | None) -> Amount:
    listed = list(amounts)
    return Amount(
        nano=sum(one.nano for one in listed),
        micro_usd=None if price is None else sum(one.micro_usd or 0 for one in listed),
        policies=sum(one.policies for one in listed),
    )
