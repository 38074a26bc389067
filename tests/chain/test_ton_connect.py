"""A wallet reads from the request what the contract will read from the message: looked at with a public library."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from nacl.signing import SigningKey, VerifyKey
from ton_core import Address, Cell

from tonsurance.chain import messages
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.messages import Op, Quote
from tonsurance.chain.ton_connect import MAINNET_ID, WalletRequest, request_message, show_contract
from tonsurance.core.errors import InputError, InvalidAddress
from tonsurance.core.units import BIGINT_MAX

CONTRACT, BUYER = f"0:{'c7' * 32}", f"0:{'b0' * 32}"
TESTNET_ID, UNTIL = -3, 1_790_000_300
KEY = SigningKey(b"\x07" * 32)
QUOTE = Quote(
    network_id=TESTNET_ID, factory=CONTRACT, quote_id=2**64 - 1, coverage_type=4, chain_id=8, stablecoin_id=13,
    coverage_amount=2**119 + 1, premium=2**118 + 3, duration_days=365, buyer=BUYER, deadline=UNTIL,
)  # fmt: skip


def request(body: object, **changes: Any) -> WalletRequest:
    given = {"value_nano": 1_100_000_000, "network_id": TESTNET_ID, "valid_until": UNTIL} | changes
    return request_message(CONTRACT, given.pop("value_nano"), body, **given)  # type: ignore[arg-type]


def as_json(made: WalletRequest) -> dict[str, Any]:
    """What a page is given."""
    return msgspec.json.decode(msgspec.json.encode(made.transaction))


def read_body(payload: str) -> Cell:
    """The message's body, by somebody else's code; it is one cell with its refs, in ordinary base64."""
    return Cell.one_from_boc(base64.b64decode(payload, validate=True))


def test_a_request_has_the_form_wallets_take() -> None:
    made = as_json(request(messages.deposit(2)))
    assert made == {
        "validUntil": UNTIL,
        "network": "-3",
        "messages": [
            {
                "address": format_friendly(CONTRACT, bounceable=True, test_only=True),
                "amount": "1100000000",
                "payload": made["messages"][0]["payload"],
            }
        ],
    }
    assert as_json(request(messages.deposit(2), sender=format_friendly(BUYER)))["from"] == BUYER


@pytest.mark.parametrize(("network_id", "test_only"), [(MAINNET_ID, False), (TESTNET_ID, True), (7, True)])
def test_the_address_bounces_and_says_whether_it_is_for_test_networks(network_id: int, test_only: bool) -> None:
    shown = as_json(request(messages.deposit(2), network_id=network_id))["messages"][0]["address"]
    read = Address(shown)
    assert (read.wc, read.hash_part.hex()) == (0, "c7" * 32)
    assert (read.is_bounceable, read.is_test_only) == (True, test_only)
    assert shown == show_contract(CONTRACT, network_id)
    assert not set(shown) & set("+/=")


@pytest.mark.parametrize("query_id", [0, 2**64 - 1])
def test_the_payload_of_a_purchase_is_what_the_factory_reads(query_id: int) -> None:
    signature = messages.sign_quote(QUOTE, KEY)
    made = request(messages.create_policy(QUOTE, signature, query_id=query_id))
    cell = read_body(as_json(made)["messages"][0]["payload"])
    assert cell.hash.hex() == made.payload_hash
    body = cell.begin_parse()
    assert (body.load_uint(32), body.load_uint(64)) == (Op.CREATE_POLICY, query_id)
    signed = body.load_ref().begin_parse()
    assert signed.load_bytes(64) == signature
    quote = signed.load_ref()
    VerifyKey(bytes(KEY.verify_key)).verify(quote.hash, signature)
    terms = quote.begin_parse()
    assert (terms.load_uint(32), terms.load_int(32)) == (Op.QUOTE, TESTNET_ID)
    assert terms.load_address() == Address(CONTRACT)
    assert (terms.load_uint(64), terms.load_uint(24)) == (QUOTE.quote_id, 4 << 16 | 8 << 8 | 13)
    assert (terms.load_coins(), terms.load_coins()) == (QUOTE.coverage_amount, QUOTE.premium)
    assert [terms.load_uint(16) for _ in range(3)] == [365, 9700, 9000]
    assert terms.load_address() == Address(BUYER)
    assert terms.load_uint(32) == UNTIL
    assert (terms.remaining_bits, terms.remaining_refs) == (0, 0)


@pytest.mark.parametrize(
    ("body", "op", "fields"),
    [
        (messages.deposit(6), Op.DEPOSIT, [(8, 6)]),
        (messages.request_withdraw(5, 2**128 - 1), Op.REQUEST_WITHDRAW, [(8, 5), (128, 2**128 - 1)]),
        (messages.withdraw(1), Op.WITHDRAW, [(8, 1)]),
        (messages.expire_policy(2**64 - 1), Op.EXPIRE_POLICY, [(64, 2**64 - 1)]),
    ],
)
def test_every_other_payload_is_what_the_contract_reads(body: object, op: Op, fields: list[tuple[int, int]]) -> None:
    made = request(body)
    cell = read_body(as_json(made)["messages"][0]["payload"])
    assert cell.hash.hex() == made.payload_hash
    read = cell.begin_parse()
    assert (read.load_uint(32), read.load_uint(64)) == (op, 0)
    assert [read.load_uint(bits) for bits, _ in fields] == [value for _, value in fields]
    assert (read.remaining_bits, read.remaining_refs) == (0, 0)


def test_the_link_says_the_same() -> None:
    made = request(messages.create_policy(QUOTE, messages.sign_quote(QUOTE, KEY)))
    link, message = urlsplit(made.link), made.transaction.messages[0]
    assert (link.scheme, link.netloc, link.path) == ("ton", "transfer", f"/{message.address}")
    query = parse_qs(link.query, strict_parsing=True)
    assert (query["amount"], query["exp"]) == ([message.amount], [str(UNTIL)])
    (body,) = query["bin"]
    assert not set(body) & set("+/=")
    assert base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)) == base64.b64decode(message.payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"value_nano": 0},
        {"value_nano": -1},
        {"value_nano": BIGINT_MAX + 1},
        {"valid_until": 0},
        {"valid_until": 2**32},
        {"sender": "nobody"},
    ],
)
def test_what_no_wallet_could_send_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        request(messages.deposit(1), **changes)
    with pytest.raises(InvalidAddress):
        request_message("nowhere", 1, messages.deposit(1), network_id=TESTNET_ID, valid_until=UNTIL)
