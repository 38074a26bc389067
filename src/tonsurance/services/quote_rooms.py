"""The room for each product, counted once for each look at tranches, parameters and cover in force."""

from __future__ import annotations

from tonsurance.core.capacity import Capacity
from tonsurance.core.params import Params
from tonsurance.core.products import Product
from tonsurance.services.market_reading import CoverInForce
from tonsurance.services.market_view import Market
from tonsurance.services.tranche_reads import Snapshot


class QuoteRooms:
    """Room does not depend on what is asked for, and many ask between two changes of the ledger."""

    def __init__(self) -> None:
        self._counted: tuple[Snapshot, Params, CoverInForce] | None = None
        self._rooms: dict[Product, Capacity] = {}

    def find(self, market: Market, product: Product) -> Capacity:
        """What `market.capacity` says."""
        counted = market.snapshot, market.params, market.cover
        if self._counted is None or any(old is not new for old, new in zip(self._counted, counted, strict=True)):
            self._counted, self._rooms = counted, {}
        room = self._rooms.get(product)
        if room is None:
            room = self._rooms[product] = market.capacity(product)
        return room
