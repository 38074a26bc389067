"""TON addresses: any written form in, raw lower case (`0:<64 hex>`) out.

The friendly form is base64 (ordinary or url-safe) of 36 bytes: a tag (0x11 bounceable, 0x51 not; + 0x80 for test
networks only), the workchain, 32 bytes, and a CRC-16 of what precedes.
"""

from __future__ import annotations

import base64
import re

import msgspec

from tonsurance.chain.cells import crc16
from tonsurance.core.errors import InvalidAddress, WrongNetwork

_RAW = re.compile(r"(-1|0):([0-9a-fA-F]{64})")
_FRIENDLY = re.compile(r"[A-Za-z0-9+/_-]{48}")
_BOUNCEABLE, _NON_BOUNCEABLE, _TEST_ONLY = 0x11, 0x51, 0x80


class FriendlyAddress(msgspec.Struct, frozen=True, kw_only=True):
    """What the friendly form says beside the address itself."""

    raw: str
    bounceable: bool
    test_only: bool


def parse_address(text: str) -> str:
    """The raw form of an address in any form. Raises InvalidAddress saying what is wrong with it."""
    if not isinstance(text, str):
        raise InvalidAddress(f"A TON address is a text, not {type(text).__name__}.")
    given = text.strip()
    match = _RAW.fullmatch(given)
    if match:
        return f"{match[1]}:{match[2].lower()}"
    if ":" in given:
        raise InvalidAddress(
            f"{_shown(given)} is not a TON address: the raw form is 0: or -1: and 64 hexadecimal digits."
        )
    return parse_friendly(given).raw


def parse_friendly(text: str) -> FriendlyAddress:
    """Read the friendly form. Raises InvalidAddress saying what is wrong with it."""
    if not _FRIENDLY.fullmatch(text):
        raise InvalidAddress(f"{_shown(text)} is not a TON address: the friendly form is 48 base64 characters.")
    content = base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))
    if crc16(content[:34]) != int.from_bytes(content[34:], "big"):
        raise InvalidAddress(f"{_shown(text)} is not a TON address: its checksum is wrong, a character was changed.")
    tag = content[0] & ~_TEST_ONLY
    workchain = int.from_bytes(content[1:2], "big", signed=True)
    if tag not in (_BOUNCEABLE, _NON_BOUNCEABLE) or workchain not in (0, -1):
        raise InvalidAddress(f"{_shown(text)} is not a TON address: its tag or workchain is unknown.")
    return FriendlyAddress(
        raw=f"{workchain}:{content[2:34].hex()}",
        bounceable=tag == _BOUNCEABLE,
        test_only=bool(content[0] & _TEST_ONLY),
    )


def format_friendly(raw: str, *, bounceable: bool = True, test_only: bool = False) -> str:
    """The url-safe friendly form of a raw address."""
    workchain, _, digits = parse_address(raw).partition(":")
    tag = (_BOUNCEABLE if bounceable else _NON_BOUNCEABLE) | (_TEST_ONLY if test_only else 0)
    content = bytes((tag,)) + int(workchain).to_bytes(1, "big", signed=True) + bytes.fromhex(digits)
    return base64.urlsafe_b64encode(content + crc16(content).to_bytes(2, "big")).decode()


def check_network(text: str, network: str) -> str:
    """The raw form, unless a friendly address made for test networks is used on mainnet (WrongNetwork).

    A raw address, and a friendly one without the test flag, says nothing about its network.
    """
    raw = parse_address(text)
    if network == "mainnet" and ":" not in text and parse_friendly(text.strip()).test_only:
        raise WrongNetwork(f"{_shown(text)} is an address for test networks and the network is mainnet.")
    return raw


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "...")
