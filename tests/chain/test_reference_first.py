"""The first public factory's one event, assembled bit by bit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.hand import ACCOUNT, USER, Node, address, boc, coins, hash_of, incoming, log, transaction, uint
from chain.reference_literals import FIRST_CREATED
from tonsurance.chain.decode import Decoder, decode_transaction_json
from tonsurance.chain.layout import load_layout
from tonsurance.core.events import DecodedTransaction, Noted

LAYOUT = load_layout("reference-first")
KIND = "PolicyFactory"
MISSING = ["quote_id", "chain_id", "stablecoin_id", "start", "end", "trigger_bps", "floor_bps"]


def created(coverage_type: int = 1, *, days: int = 90) -> str:
    """Policy 1 for a thousand TON."""
    terms = coins(10**12) + uint(days, 16) + coins(1_972_602_739)
    return uint(1, 64) + address(USER) + uint(coverage_type, 8) + terms


def show(made: Node) -> list[dict[str, Any]]:
    return decode_transaction_json(boc(made), LAYOUT, KIND)


def decode(made: Node) -> DecodedTransaction:
    return Decoder(LAYOUT, contract=ACCOUNT, kind=KIND).decode(boc(made))


def test_the_layout_has_one_kind_and_one_event() -> None:
    assert (LAYOUT.kinds, set(LAYOUT.logs), LAYOUT.events, LAYOUT.incoming) == ((KIND,), {(KIND, 1)}, {}, {})


def test_the_written_example_is_read() -> None:
    made = transaction([log(0x01, Node(created()))])
    assert boc(made).hex() == FIRST_CREATED
    (shown,) = decode_transaction_json(bytes.fromhex(FIRST_CREATED), LAYOUT, KIND)
    assert shown == {
        "event_type": "PolicyCreated",
        "logical_time": "99000001",
        "transaction_hash": "d2002d07764fa4eeb5f5d5e5a75c9af4dacf4772e99e5aa10f323a30aeea953f",
        "message_index": 0,
        "fields": {
            "policy_id": "1",
            "user": USER,
            "coverage_type": 1,
            "coverage": "1000000000000",
            "days": 90,
            "premium": "1972602739",
        },
        "mapped": {"coverage_type": 0},
        "canonical": "PolicyCreated",
        "canonical_fields": {
            "policy_id": "1",
            "buyer": USER,
            "coverage_type": 0,
            "coverage_amount": "1000000000000",
            "premium": "1972602739",
        },
        "canonical_missing": MISSING,
    }
    assert hash_of(made).hex() == shown["transaction_hash"]
    decoded = decode(made)
    assert (decoded.events, decoded.undecoded) == ((), ())
    assert decoded.noted == (Noted(message_index=0, name="PolicyCreated"),)


@pytest.mark.parametrize(("theirs", "ours"), [(0, None), (1, 0), (2, 1), (3, 3), (4, None), (5, None), (255, None)])
def test_each_coverage_type_is_ours_or_none_at_all(theirs: int, ours: int | None) -> None:
    made = transaction([log(0x01, Node(created(theirs)))])
    (shown,) = show(made)
    assert shown["fields"]["coverage_type"] == theirs
    if ours is None:
        assert (shown["event_type"], shown["canonical"]) == ("PolicyCreated", None)
        assert f"coverage_type has no id {theirs}" in shown["reason"]
        (kept,) = decode(made).undecoded
        assert kept.raw_body.hex() == shown["raw"]
    else:
        assert shown["canonical_fields"]["coverage_type"] == ours


@pytest.mark.parametrize("failure", [{"exit_code": 402}, {"acted": False}, {"aborted": True}], ids=str)
def test_a_failed_transaction_yields_none(failure: dict[str, Any]) -> None:
    assert show(transaction([log(0x01, Node(created()))], **failure)) == []


@pytest.mark.parametrize(
    "message",
    [
        log(0x02, Node(created())),
        log(0x54, Node(created())),
        log(0x01, Node(created()), width=255),
        log(0x01, Node(created()[:-1])),
        log(0x01, Node(created() + "0")),
        log(0x01, Node(created(), (Node(),))),
        log(0x01, Node()),
        Node(log(0x01, Node()).bits),
        Node((log(0x01, Node()).bits + created())[:1023]),
    ],
)
def test_what_is_not_as_described_is_kept_raw(message: Node) -> None:
    made = transaction([message])
    (shown,) = show(made)
    assert (shown["event_type"], shown["canonical"]) == (None, None)
    assert len(decode(made).undecoded) == 1


def test_a_request_is_no_event_of_a_contract_that_logs() -> None:
    request = incoming(Node(uint(1, 32) + uint(1, 8) + coins(10**12) + uint(90, 16)), value=10**9)
    made = transaction([log(0x01, Node(created()))], request)
    assert [item["message_index"] for item in show(made)] == [0]


@settings(max_examples=300, deadline=None)
@given(payload=st.text(alphabet="01", max_size=600), has_ref=st.booleans())
def test_any_payload_is_the_event_or_kept(payload: str, has_ref: bool) -> None:
    made = transaction([log(0x01, Node(payload, (Node(),) if has_ref else ()))])
    decoded, (shown,) = decode(made), show(made)
    assert ("reason" in shown) == (len(decoded.undecoded) == 1)
    assert len(decoded.noted) + len(decoded.undecoded) == 1
