"""Addresses: every written form of one address is one raw text; anything else says what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.boc.address import Address

from tonsurance.chain.addresses import check_network, format_friendly, parse_address, parse_friendly
from tonsurance.core.errors import InvalidAddress, WrongNetwork

ZERO_FRIENDLY = "EQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM9c"
RAW = "0:" + "00" * 32


@given(
    workchain=st.sampled_from([0, -1]), content=st.binary(min_size=32, max_size=32),
    bounceable=st.booleans(), test_only=st.booleans(), url_safe=st.booleans(),
)  # fmt: skip
def test_every_form_gives_the_same_raw_address(
    workchain: int, content: bytes, bounceable: bool, test_only: bool, url_safe: bool
) -> None:
    raw = f"{workchain}:{content.hex()}"
    theirs = Address(raw).to_str(
        is_user_friendly=True, is_url_safe=url_safe, is_bounceable=bounceable, is_test_only=test_only
    )
    assert parse_address(theirs) == parse_address(raw) == parse_address(f" {raw.upper()}\n") == raw
    assert (parse_friendly(theirs).bounceable, parse_friendly(theirs).test_only) == (bounceable, test_only)
    if url_safe:
        assert format_friendly(raw, bounceable=bounceable, test_only=test_only) == theirs


def test_the_zero_address_has_its_well_known_form() -> None:
    assert parse_address(ZERO_FRIENDLY) == RAW
    assert format_friendly(RAW) == ZERO_FRIENDLY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "48 base64"),
        ("hello", "48 base64"),
        (ZERO_FRIENDLY[:-1], "48 base64"),
        (ZERO_FRIENDLY + "A", "48 base64"),
        (ZERO_FRIENDLY[:-1] + "d", "checksum"),
        ("EQAB" + ZERO_FRIENDLY[4:], "checksum"),
        ("0:" + "0" * 63, "64 hexadecimal"),
        ("0:" + "g" * 64, "64 hexadecimal"),
        ("5:" + "0" * 64, "64 hexadecimal"),
        ("0" * 64, "48 base64"),
        ("x" * 5000, r"\.\.\."),
        ("é" * 48, "48 base64"),
    ],
)
def test_anything_else_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=reason):
        parse_address(text)


def test_an_unknown_tag_is_refused() -> None:
    with pytest.raises(InvalidAddress, match="tag or workchain"):
        parse_address(Address((7, bytes(32))).to_str())


def test_a_test_network_address_is_not_used_on_mainnet() -> None:
    test_only = format_friendly(RAW, test_only=True)
    with pytest.raises(WrongNetwork, match="test networks"):
        check_network(test_only, "mainnet")
    assert check_network(test_only, "testnet") == check_network(test_only, "http://127.0.0.1:1") == RAW
    assert check_network(RAW, "mainnet") == check_network(ZERO_FRIENDLY, "mainnet") == RAW
