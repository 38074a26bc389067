"""Whether a policy can be created now: room under every limit, and nothing that keeps the product from being sold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from tonsurance.core.capacity import Capacity
from tonsurance.core.errors import InputError
from tonsurance.core.products import Product
from tonsurance.core.sale import Obstacle, SaleCheck, find_sale_obstacles
from tonsurance.core.units import BIGINT_MAX
from tonsurance.services.market_view import Market, MarketView

PolicyCheck: TypeAlias = Callable[[Market, Product, int], Iterable[Obstacle]]
"""A further condition of one policy over this cover (nanoTON), as a collateral manager has. It must not block."""


class PolicyDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `allowed` when the cover fits and there is no obstacle. A hint, the contract decides.

    `on_sale` are the obstacles of the product, `refused` those of this very policy; both empty and yet not `allowed`:
    there is no room, and `capacity` names the limit that binds.
    """

    product: Product
    coverage_nano: int
    capacity: Capacity
    on_sale: tuple[Obstacle, ...]
    refused: tuple[Obstacle, ...] = ()

    @property
    def sufficient(self) -> bool:
        """Whether there is room for the cover."""
        return self.coverage_nano <= self.capacity.available_nano

    @property
    def allowed(self) -> bool:
        """Whether the policy can be created now."""
        return self.sufficient and not self.on_sale and not self.refused

    @property
    def binding_limit(self) -> str:
        """The limit that leaves the least room."""
        return self.capacity.binding_limit

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not, in words; empty when it can be, and when only room is missing."""
        return tuple(obstacle.reason for obstacle in (*self.on_sale, *self.refused))


_Listed: TypeAlias = tuple[
    tuple[tuple[Product, ...], tuple[Obstacle, ...]],
    tuple[tuple[Obstacle, ...], ...],
]
"""What was listed last: for which products and common obstacles, and what was found."""


class PolicyChecks:
    """Decides about new policies from what is in memory."""

    def __init__(
        self, market: MarketView, sale_checks: Sequence[SaleCheck] = (), policy_checks: Sequence[PolicyCheck] = ()
    ) -> None:
        self._market = market
        self._sale_checks = tuple(sale_checks)
        self._policy_checks = tuple(policy_checks)
        self._listed: _Listed | None = None

    async def can_create_policy(
        self, product: Product, coverage_nano: int, *, vault_id: str | None = None
    ) -> PolicyDecision:
        """Whether a policy of this product over so much cover can be created now.

        What keeps it from being is in the answer. Raises InputError for an amount that is none, and what
        `MarketView.require` raises when there are no figures to decide by.
        """
        return self.decide(await self._market.current(vault_id=vault_id), product, coverage_nano)

    def decide(
        self, market: Market, product: Product, coverage_nano: int, *, capacity: Capacity | None = None
    ) -> PolicyDecision:
        """The same by one look at the market, with the market's `capacity` when it was counted already. Raises
        InputError."""
        if isinstance(coverage_nano, bool) or not isinstance(coverage_nano, int) or not 0 < coverage_nano <= BIGINT_MAX:
            raise InputError(f"An amount of cover is a whole number of nanoTON from 1 to {BIGINT_MAX}.")
        return PolicyDecision(
            product=product,
            coverage_nano=coverage_nano,
            capacity=market.capacity(product) if capacity is None else capacity,
            on_sale=find_sale_obstacles(product, market.sale, self._sale_checks),
            refused=tuple(found for check in self._policy_checks for found in check(market, product, coverage_nano)),
        )

    def list_obstacles(self, product: Product, *, vault_id: str | None = None) -> tuple[Obstacle, ...]:
        """What keeps a product from being sold now, from memory; raises nothing: what is unknown is an obstacle."""
        return find_sale_obstacles(product, self._market.sale_facts(vault_id), self._sale_checks)

    def list_all_obstacles(
        self, products: tuple[Product, ...], *, vault_id: str | None = None
    ) -> tuple[tuple[Obstacle, ...], ...]:
        """The same of many products by the same facts."""
        facts = self._market.sale_facts(vault_id)
        asked = (products, facts.obstacles)
        if not self._sale_checks and self._listed is not None and self._listed[0] == asked:
            return self._listed[1]
        found = tuple(find_sale_obstacles(product, facts, self._sale_checks) for product in products)
        self._listed = asked, found
        return found
