"""What keeps a product from being sold: each thing by itself, with its own code and words, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from tonsurance.core.bridges import BRIDGES
from tonsurance.core.prices import Price, PriceReading
from tonsurance.core.products import CHAINS, PRODUCTS, VALID_PRODUCTS, Product, find_product
from tonsurance.core.sale import FactoryFacts, Obstacle, SaleFacts, find_sale_obstacles

USDC = find_product("depeg", "Ethereum", "USDC")
PRICE = Price(asset="TON", usd=Decimal(2), source="test", observed_at=0.0)
FACTORY = FactoryFacts(
    age_s=1.0,
    paused=False,
    vault_paused=False,
    backed=True,
    frozen=False,
    claims_due=0,
    policy_count=9,
    max_policies=10,
    quote_count=19,
    max_quotes=20,
)


def facts(price_age_s: float | None = 1.0, **changes: object) -> SaleFacts:
    """All well, but for these changes of the factory."""
    return SaleFacts(
        price=PriceReading(asset="TON", price=PRICE, age_s=price_age_s, max_age_s=300.0),
        factory=msgspec.structs.replace(FACTORY, **changes),
        factory_max_age_s=60.0,
    )


def test_when_all_is_well_every_valid_product_but_two_chains_bridges_is_on_sale() -> None:
    refused = {(product.coverage_type, product.chain) for product in PRODUCTS if find_sale_obstacles(product, facts())}
    invalid = {(one.coverage_type, one.chain) for one in PRODUCTS if one.invalid_reason}
    assert len(invalid) == 5
    assert refused == invalid | {("bridge", "Optimism"), ("bridge", "TON")}


def test_bridges_are_covered_exactly_where_one_is_watched() -> None:
    watched = {bridge.source for bridge in BRIDGES}
    assert watched | {bridge.destination for bridge in BRIDGES} <= set(CHAINS)
    assert len({bridge.bridge_id for bridge in BRIDGES}) == len(BRIDGES) == 9
    for product in VALID_PRODUCTS:
        found = find_sale_obstacles(product, facts())
        if product.coverage_type == "bridge" and product.chain not in watched:
            assert found == (Obstacle("no_watched_bridge", f"no bridge from {product.chain} is watched"),)
        else:
            assert found == ()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"paused": True}, "factory_paused", "factory is paused"),
        ({"vault_paused": True}, "vault_paused", "vault is paused"),
        ({"backed": False}, "factory_not_backed", "takes no policies"),
        ({"frozen": True}, "vault_frozen", "pays nothing out"),
        ({"claims_due": 1}, "claim_deferred", "holds a claim back"),
        ({"policy_count": 10}, "factory_full", "no more policies"),
        ({"quote_count": 20}, "factory_full", "no more quotes"),
        ({"age_s": 60.5}, "factory_state_old", "more than 60 s ago"),
        ({"price_age_s": 300.0}, "price_stale", "older than 300 s"),
        ({"price_age_s": None}, "price_stale", "ever read"),
    ],
)
def test_each_thing_alone_stops_the_sale_and_says_itself(change: dict[str, object], code: str, words: str) -> None:
    [found] = find_sale_obstacles(USDC, facts(**change))  # type: ignore[arg-type]
    assert found.code == code
    assert words in found.reason


@pytest.mark.parametrize("change", [{"age_s": 60.0}, {"price_age_s": 299.9}])
def test_at_the_last_moment_it_is_still_sold(change: dict[str, float]) -> None:
    assert find_sale_obstacles(USDC, facts(**change)) == ()


def test_an_unknown_factory_is_no_factory_that_sells() -> None:
    unknown = msgspec.structs.replace(facts(), factory=None)
    assert [one.code for one in find_sale_obstacles(USDC, unknown)] == ["factory_unknown"]


def test_all_reasons_are_given_and_they_do_not_change_with_time() -> None:
    before = facts(price_age_s=400.0, age_s=100.0, paused=True, claims_due=2)
    later = facts(price_age_s=500.0, age_s=200.0, paused=True, claims_due=2)
    found = find_sale_obstacles(find_product("bridge", "TON", "DAI"), before)
    assert [one.code for one in found] == [
        "no_watched_bridge",
        "price_stale",
        "factory_state_old",
        "factory_paused",
        "claim_deferred",
    ]
    assert found == find_sale_obstacles(find_product("bridge", "TON", "DAI"), later)


def test_what_does_not_exist_says_only_that() -> None:
    bitcoin = find_product("oracle", "Bitcoin", "USDC")
    asked: list[Product] = []

    def check(product: Product) -> list[Obstacle]:
        asked.append(product)
        return []

    [found] = find_sale_obstacles(bitcoin, facts(paused=True, price_age_s=None), [check])
    assert (found.code, found.reason) == ("invalid_product", bitcoin.invalid_reason)
    assert not asked


def test_later_conditions_join_in_without_a_change_here() -> None:
    incident = Obstacle("incident", "an incident is open")

    def check(product: Product) -> tuple[Obstacle, ...]:
        return (incident,) if product.chain == "Ethereum" else ()

    assert find_sale_obstacles(USDC, facts(), [check]) == (incident,)
    assert find_sale_obstacles(find_product("depeg", "Solana", "USDC"), facts(), [check]) == ()
