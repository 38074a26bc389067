"""The catalogue against tables of its own: 630 products, 560 of them valid, each refusal with its reason."""

from __future__ import annotations

import pytest

from core import independent_prices as independent
from tonsurance.core.errors import InputError
from tonsurance.core.products import PRODUCTS, VALID_PRODUCTS, check_valid, find_product, find_unknown_dimension
from tonsurance.core.sale_errors import InvalidProduct

USDC = "0x8f2e7ac6ea8a786f67e9d488138bdf6bfaac0545bf00a1401ca7ba36d8829918"


def test_all_630_have_the_name_key_and_hash_of_the_independent_tables() -> None:
    found = [(one.coverage_type, one.chain, one.stablecoin) for one in PRODUCTS]
    assert found == independent.NAMES
    assert len(found) == 630
    for one, names in zip(PRODUCTS, independent.NAMES, strict=True):
        assert one.key == independent.product_key(*names)
        assert one.hash == independent.product_hash(*names)
        assert one.name == "_".join(names)
        assert find_product(*names) == one
    assert len({one.key for one in PRODUCTS}) == len({one.hash for one in PRODUCTS}) == 630


def test_the_hash_that_is_documented() -> None:
    assert find_product("depeg", "Ethereum", "USDC").hash == USDC
    assert find_product("depeg", "Ethereum", "USDC").key == 0
    assert find_product("cex_liquidation", "TON", "mkUSD").key == 4 << 16 | 8 << 8 | 13


def test_560_are_valid_and_70_are_refused_each_with_its_reason() -> None:
    for one in PRODUCTS:
        reason = independent.invalid_reason(one.coverage_type, one.chain)
        assert one.invalid_reason == reason
        assert (one in VALID_PRODUCTS) == (reason is None)
        if reason is None:
            assert check_valid(one) is one
            continue
        with pytest.raises(InvalidProduct) as caught:
            check_valid(one)
        assert caught.value.reason == reason
        assert reason in caught.value.message
    assert len(VALID_PRODUCTS) == 560


def test_the_order_of_the_products_is_that_of_their_keys() -> None:
    assert list(PRODUCTS) == sorted(PRODUCTS, key=lambda one: one.key) == sorted(PRODUCTS)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Depeg", "Ethereum", "USDC"), "Unknown coverage type: Depeg. Known: depeg, smart_contract"),
        (("depeg", "ethereum", "USDC"), "Unknown chain: ethereum. Known: Ethereum, Arbitrum"),
        (("depeg", "Ethereum", "USDC "), "Unknown stablecoin: USDC . Known: USDC, USDT"),
        (("depeg", "Ethereum", "X" * 9_999), "XXXX. Known"),
        (("", "", ""), "Unknown coverage type"),
        ((None, "Ethereum", "USDC"), "Unknown coverage type: None"),
        (("depeg", 0, "USDC"), "Unknown chain: 0"),
        (("depeg", "Ethereum", ["USDC"]), "Unknown stablecoin"),
    ],
)
def test_an_unknown_name_is_a_typed_error_with_the_names_there_are(names: tuple[str, str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        find_product(*names)
    assert said in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(("ids", "known"), [((0, 0, 0), True), ((4, 8, 13), True), ((5, 0, 0), False),
                                            ((0, 9, 0), False), ((0, 0, 14), False), ((-1, 0, 0), False)])  # fmt: skip
def test_ids_beyond_the_tables_are_named_and_never_guessed(ids: tuple[int, int, int], known: bool) -> None:
    assert (find_unknown_dimension(*ids) is None) == known
