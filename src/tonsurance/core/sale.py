"""Whether a product is on sale now, and everything that keeps it from being. Pure: who asks brings the facts.

Valid is another thing: a product that is not valid is never sold, one that is may stop being sold for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TypeAlias

import msgspec

from tonsurance.core.bridges import WATCHED_CHAINS
from tonsurance.core.prices import PriceReading
from tonsurance.core.products import Product

INVALID_PRODUCT = "invalid_product"
NO_WATCHED_BRIDGE = "no_watched_bridge"
PRICE_STALE = "price_stale"
FACTORY_UNKNOWN = "factory_unknown"
FACTORY_STATE_OLD = "factory_state_old"
FACTORY_PAUSED = "factory_paused"
FACTORY_NOT_BACKED = "factory_not_backed"
FACTORY_FULL = "factory_full"
VAULT_PAUSED = "vault_paused"
VAULT_FROZEN = "vault_frozen"
CLAIM_DEFERRED = "claim_deferred"

_BRIDGE_COVER = "bridge"


class Obstacle(msgspec.Struct, frozen=True):
    """One thing that keeps a product from being sold: its code for programs, and the reason for people.

    A reason does not change while its cause does not: it names no age that grows.
    """

    code: str
    reason: str


class FactoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a factory and its vault said of themselves `age_s` seconds ago. `backed`: the vault takes policies from this
    factory; `frozen`: it pays nothing out now; `claims_due` claims wait in it."""

    age_s: float
    paused: bool
    vault_paused: bool
    backed: bool
    frozen: bool
    claims_due: int
    policy_count: int
    max_policies: int
    quote_count: int
    max_quotes: int


class SaleFacts(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What the sale of any product depends on now. Without a `factory` nobody knows its state; beyond
    `factory_max_age_s` seconds what is known of it is no state of now."""

    price: PriceReading
    factory: FactoryFacts | None
    factory_max_age_s: float

    @cached_property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """What keeps every product from being sold."""
        return (*_find_price_obstacles(self.price), *_find_factory_obstacles(self.factory, self.factory_max_age_s))


SaleCheck: TypeAlias = Callable[[Product], Iterable[Obstacle]]
"""A further condition of the sale of a valid product: an incident, a coin's price, a bridge's health. It must not
block."""


def find_sale_obstacles(product: Product, facts: SaleFacts, checks: Sequence[SaleCheck] = ()) -> tuple[Obstacle, ...]:
    """All that keeps a product from being sold now; nothing: it is on sale. A product that does not exist has one."""
    reason = product.invalid_reason
    if reason is not None:
        return (Obstacle(INVALID_PRODUCT, reason),)
    return (
        *_find_bridge_obstacles(product),
        *facts.obstacles,
        *(obstacle for check in checks for obstacle in check(product)),
    )


def _find_bridge_obstacles(product: Product) -> Iterable[Obstacle]:
    if product.coverage_type == _BRIDGE_COVER and product.chain not in WATCHED_CHAINS:
        yield Obstacle(NO_WATCHED_BRIDGE, f"no bridge from {product.chain} is watched")


def _find_price_obstacles(price: PriceReading) -> Iterable[Obstacle]:
    if price.age_s is None:
        yield Obstacle(PRICE_STALE, f"no price of {price.asset} was ever read")
    elif price.stale:
        yield Obstacle(PRICE_STALE, f"the price of {price.asset} is older than {price.max_age_s:g} s")


def _find_factory_obstacles(factory: FactoryFacts | None, max_age_s: float) -> Iterable[Obstacle]:
    if factory is None:
        yield Obstacle(FACTORY_UNKNOWN, "the policy factory's state is not known")
        return
    if factory.age_s > max_age_s:
        yield Obstacle(FACTORY_STATE_OLD, f"the policy factory's state was read more than {max_age_s:g} s ago")
    conditions = (
        (factory.paused, FACTORY_PAUSED, "the policy factory is paused"),
        (not factory.backed, FACTORY_NOT_BACKED, "the vault takes no policies from this factory"),
        (factory.vault_paused, VAULT_PAUSED, "the vault is paused"),
        (factory.frozen, VAULT_FROZEN, "the vault is frozen and pays nothing out"),
        (factory.claims_due > 0, CLAIM_DEFERRED, "the vault holds a claim back and backs no policy until it is paid"),
        (factory.policy_count >= factory.max_policies, FACTORY_FULL, "the policy factory holds no more policies"),
        (factory.quote_count >= factory.max_quotes, FACTORY_FULL, "the policy factory takes no more quotes for now"),
    )
    yield from (Obstacle(code, reason) for holds, code, reason in conditions if holds)
