"""What a change of parameters does to the prices of all products: how many change, which the most, what is held at a
floor, and which terms differ.

Technical prices are compared wherever a factor may begin or end to differ under the old or the new parameters: every
amount at which the discount of the size bends, in a calm market, and every market that is one thing away from calm, at
the reference and at the largest cover. The prices shown are made by the code that quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tonsurance.core.params import Params
from tonsurance.core.premium import MarketInputs, price_technical
from tonsurance.core.premium_matrix import PriceMatrix, read_matrix
from tonsurance.core.products import VALID_PRODUCTS, Product
from tonsurance.core.quotes import (
    CONTRACT_MIN_PARTS,
    CONTRACT_RATE_PARTS,
    SOLD_TRIGGER,
    ListRates,
    Terms,
    add_rates,
    price_list,
    read_list_rates,
)
from tonsurance.core.technical_rates import TechnicalRates, read_technical_rates
from tonsurance.core.units import DAYS_PER_YEAR, EXACT, SMALLEST_USD, WHOLE_PERCENT

REFERENCE_USD = Decimal(10_000)
REFERENCE_DAYS = 90
MOST_SHOWN = 20
_NOISE = 1e-9
"""A change must be larger by more than this part of it to be called larger: floats are off by less."""
CALM = MarketInputs(utilization=Decimal(0), loss_ratio=None, claims_count=0, stress="Normal")
"""Nothing covered, no claims, no stress: every factor of the market is 1 by default."""
_LIST_TERMS = ("min_amount_usd", "max_amount_usd", "min_days", "max_days", "min_premium_nano", "validity_s")
_TECHNICAL_TERMS = ("min_trigger_price", "max_trigger_price", "trigger_span")

Floats: TypeAlias = NDArray[np.float64]


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """A state of the market, and a trigger, under a name."""

    name: str
    trigger_price: Decimal = SOLD_TRIGGER
    inputs: MarketInputs = CALM


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where two sets of prices are compared."""

    amount_usd: Decimal
    days: int
    market: Market


_CALM_MARKET = Market(name="calm")
REFERENCE = Place(amount_usd=REFERENCE_USD, days=REFERENCE_DAYS, market=_CALM_MARKET)


class Both(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of all prices, under the old and the new parameters."""

    listed: tuple[ListRates, ListRates]
    technical: tuple[TechnicalRates, TechnicalRates]
    matrices: tuple[PriceMatrix, PriceMatrix]


class Changes:
    """For each product, where its price changes the most, and by which part; grows place by place."""

    def __init__(self) -> None:
        self.differs = np.zeros(len(VALID_PRODUCTS), dtype=bool)
        self.most: Floats = np.zeros(len(VALID_PRODUCTS))
        self.where = np.zeros(len(VALID_PRODUCTS), dtype=np.int64)

    def take(self, place: int, before: Floats, after: Floats) -> None:
        """Note the prices of one place."""
        differs = before != after
        if not differs.any():
            return
        part = np.where(differs, np.inf, 0.0)
        np.divide(np.abs(after - before), before, out=part, where=before > 0)
        larger = differs & (~self.differs | (part > self.most * (1 + _NOISE)))
        self.differs |= differs
        self.most[larger] = part[larger]
        self.where[larger] = place

    def rank(self) -> list[tuple[Product, int]]:
        """The products that change, each with its place, from the largest change down."""
        order = np.argsort(-np.rint(self.most / _NOISE), kind="stable")
        return [(VALID_PRODUCTS[index], int(self.where[index])) for index in order if self.differs[index]]


def compare_prices(old: Params, new: Params) -> Mapping[str, object]:
    """All that changes about prices, as plain JSON; amounts of money are texts, changes are percent (null from 0)."""
    both = Both(
        listed=(read_list_rates(old), read_list_rates(new)),
        technical=(read_technical_rates(old), read_technical_rates(new)),
        matrices=(read_matrix(old), read_matrix(new)),
    )
    places = list_places(both)
    return {
        "products": len(VALID_PRODUCTS),
        "looked_at": _show_places(places),
        "list_price": _compare_list(both),
        "technical_price": _compare_technical(both, places),
        "floors": {"list_price": _compare_list_floors(both), "technical_price": _compare_technical_floors(both)},
        "terms": [*_compare_terms(_LIST_TERMS, *both.listed), *_compare_terms(_TECHNICAL_TERMS, *both.technical)],
    }


def list_places(both: Both) -> list[Place]:
    """Where technical prices are compared: within what is sold under the old and under the new parameters."""
    old, new = both.listed
    low, high = max(old.min_amount_usd, new.min_amount_usd), min(old.max_amount_usd, new.max_amount_usd)
    first, last = max(old.min_days, new.min_days), min(old.max_days, new.max_days)
    amounts = {amount for amount in (low, REFERENCE_USD, high, *_list_bends(both)) if low <= amount <= high}
    times = {days for days in (first, REFERENCE_DAYS, last) if first <= days <= last}
    places = [
        Place(amount_usd=amount, days=days, market=market)
        for market in (_CALM_MARKET, *_list_markets(both))
        for amount in sorted(amounts if market is _CALM_MARKET else amounts & {REFERENCE_USD, high})
        for days in sorted(times)
    ]
    return sorted(places, key=lambda place: place != REFERENCE)


def _list_bends(both: Both) -> Iterator[Decimal]:
    """Where the discount of the size bends: a tier begins, or costs more than its threshold."""
    for rates in both.technical:
        for tier in rates.size_tiers:
            yield tier.threshold_usd
            yield EXACT.divide(tier.least_usd, tier.multiplier).quantize(SMALLEST_USD, context=EXACT)


def _list_markets(both: Both) -> Iterator[Market]:
    old, new = both.technical
    lowest = max(old.min_trigger_price, new.min_trigger_price)
    highest = min(old.max_trigger_price, new.max_trigger_price)
    for trigger in (lowest, highest):
        yield Market(name=f"trigger {trigger}", trigger_price=trigger)
    for used in sorted({tier.threshold for rates in both.technical for tier in rates.utilization_tiers} | {Decimal(1)}):
        yield Market(name=f"utilization {used}", inputs=msgspec.structs.replace(CALM, utilization=used))
    for level in old.stress_index:
        yield Market(name=f"stress {level}", inputs=msgspec.structs.replace(CALM, stress=level))
    yield from _list_claims(both)


def _list_claims(both: Both) -> Iterator[Market]:
    """No claims paid though many were looked at, losses as large as premiums, and losses beyond every cap."""
    counts = sorted({rates.claims_credibility_count for rates in both.technical})
    worst = max(rates.claims_cap for rates in both.technical)
    for ratio, count in ((Decimal(0), counts[0]), (Decimal(0), counts[-1]), (Decimal(1), 0), (worst, 0)):
        inputs = msgspec.structs.replace(CALM, loss_ratio=ratio, claims_count=count)
        yield Market(name=f"loss ratio {ratio}, {count} claims", inputs=inputs)


def _show_places(places: list[Place]) -> Mapping[str, object]:
    """List prices are compared at the reference, to which all are in proportion; technical ones at all of these."""
    return {
        "reference": {"amount_usd": str(REFERENCE_USD), "duration_days": REFERENCE_DAYS},
        "amounts_usd": [_show_usd(amount) for amount in sorted({place.amount_usd for place in places})],
        "duration_days": sorted({place.days for place in places}),
        "markets": list(dict.fromkeys(place.market.name for place in places)),
    }


def _compare_list(both: Both) -> Mapping[str, object]:
    changes = Changes()
    before, after = (matrix.list_premiums(REFERENCE_USD, REFERENCE_DAYS) for matrix in both.matrices)
    changes.take(0, before, after)
    return _show_changes(changes, lambda product, _: _show_list_change(product, both))


def _compare_technical(both: Both, places: list[Place]) -> Mapping[str, object]:
    changes = Changes()
    for number, place in enumerate(places):
        before, after = (_price_place(matrix, place) for matrix in both.matrices)
        changes.take(number, before, after)
    return _show_changes(changes, lambda product, number: _show_technical_change(product, places[number], both))


def _price_place(matrix: PriceMatrix, place: Place) -> Floats:
    return matrix.technical_premiums(place.amount_usd, place.days, place.market.trigger_price, place.market.inputs)


def _show_changes(changes: Changes, show: Callable[[Product, int], dict[str, object]]) -> Mapping[str, object]:
    ranked = changes.rank()
    rows = [{"product": product.name, **show(product, place)} for product, place in ranked[:MOST_SHOWN]]
    return {"changed": len(ranked), "largest": rows[0] if rows else None, "most_changed": rows}


def _show_list_change(product: Product, both: Both) -> dict[str, object]:
    terms = Terms(product=product, amount_usd=REFERENCE_USD, days=REFERENCE_DAYS)
    before, after = (price_list(terms, rates) for rates in both.listed)
    parts = (EXACT.divide(Decimal(price.exact[0]), Decimal(price.exact[1])) for price in (before, after))
    return _show_terms(terms) | _show_change(before.premium_usd, after.premium_usd, *parts)


def _show_technical_change(product: Product, place: Place, both: Both) -> dict[str, object]:
    terms = Terms(product=product, amount_usd=place.amount_usd, days=place.days)
    market = place.market
    before, after = (price_technical(terms, market.trigger_price, market.inputs, rates) for rates in both.technical)
    shown = _show_change(before.premium_usd, after.premium_usd, before.exact, after.exact)
    return _show_terms(terms) | {"market": market.name} | shown


def _show_terms(terms: Terms) -> dict[str, object]:
    return {"amount_usd": _show_usd(terms.amount_usd), "duration_days": terms.days}


def _show_usd(amount: Decimal) -> str:
    return f"{amount.normalize(EXACT):f}"


def _show_change(before_usd: Decimal, after_usd: Decimal, before: Decimal, after: Decimal) -> dict[str, object]:
    part = EXACT.divide(EXACT.subtract(after, before), before) if before > 0 else None
    return {
        "before_usd": str(before_usd),
        "after_usd": str(after_usd),
        "change_percent": None if part is None else float(EXACT.multiply(part, Decimal(WHOLE_PERCENT))),
    }


def _compare_list_floors(both: Both) -> Mapping[str, object]:
    """The products whose list price is below the least rate of the factory contract, so that a quote raises it."""
    before, after = (
        {product.name for product in VALID_PRODUCTS if _is_below_contract(add_rates(product, rates))}
        for rates in both.listed
    )
    raised, released = sorted(after - before), sorted(before - after)
    return {
        "held_before": len(before),
        "held_after": len(after),
        "newly_raised": raised[:MOST_SHOWN],
        "newly_released": released[:MOST_SHOWN],
    }


def _is_below_contract(rate: Decimal) -> bool:
    return EXACT.multiply(rate, Decimal(CONTRACT_RATE_PARTS)) < CONTRACT_MIN_PARTS * DAYS_PER_YEAR


def _compare_technical_floors(both: Both) -> list[Mapping[str, object]]:
    """The coins whose technical price at the reference, when all is calm, is held at another floor than before."""
    rows: list[Mapping[str, object]] = []
    for product in {product.stablecoin: product for product in VALID_PRODUCTS}.values():
        terms = Terms(product=product, amount_usd=REFERENCE_USD, days=REFERENCE_DAYS)
        before, after = (price_technical(terms, SOLD_TRIGGER, CALM, rates).floor_applied for rates in both.technical)
        if before != after:
            rows.append({"stablecoin": product.stablecoin, "before": before, "after": after})
    return rows


def _compare_terms(names: tuple[str, ...], old: msgspec.Struct, new: msgspec.Struct) -> list[Mapping[str, object]]:
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in names)
    return [
        {"term": name, "before": str(before), "after": str(after)} for name, before, after in pairs if before != after
    ]
