"""The earlier generation's logs and requests, assembled bit by bit, are read as described and in no other way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.hand import (
    ACCOUNT,
    NOW,
    USER,
    Node,
    address,
    boc,
    coins,
    from_wallet,
    hash_of,
    incoming,
    log,
    transaction,
    uint,
)
from chain.reference_cases import (
    FACTORY,
    LOGS,
    QUOTE,
    REQUESTS,
    ROUTER,
    SHARD,
    TOKEN,
    TREASURY,
    VAULT,
    Case,
    as_incoming,
    as_log,
)
from chain.reference_literals import (
    FACTORY_QUOTE,
    ROUTER_ROUTED,
    SHARD_CREATED,
    TOKEN_BURNED,
    TREASURY_PAYOUT,
    VAULT_DEPOSIT,
)
from tonsurance.chain.decode import Decoder, decode_transaction_json
from tonsurance.chain.layout import load_layout
from tonsurance.chain.transactions import read_outcome, read_transaction
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import NO_FACTS, DecodedTransaction, Noted, Paused, QuoteKeySet

LAYOUT = load_layout("reference-core")
KINDS = (VAULT, FACTORY, ROUTER, SHARD, TREASURY, TOKEN)
FAILURES: tuple[dict[str, Any], ...] = (
    {"exit_code": 402}, {"acted": False}, {"exit_code": 0, "aborted": True}, {"exit_code": 405, "aborted": False},
)  # fmt: skip
EVERY_LOG = pytest.mark.parametrize("case", LOGS, ids=lambda case: case.id)
EVERY_REQUEST = pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.id)


def show(kind: str, made: Node) -> list[dict[str, Any]]:
    return decode_transaction_json(boc(made), LAYOUT, kind)


def decode(kind: str, made: Node) -> DecodedTransaction:
    return Decoder(LAYOUT, contract=ACCOUNT, kind=kind).decode(boc(made))


def identity(made: Node, index: int) -> dict[str, Any]:
    return {"logical_time": "99000001", "transaction_hash": hash_of(made).hex(), "message_index": index}


def check_refused(case: Case, made: Node, index: int) -> None:
    """The message is shown as not understood, and kept as it was."""
    (shown,) = show(case.kind, made)
    assert (shown["event_type"], shown["canonical"], shown["fields"]) == (None, None, {})
    assert shown["reason"]
    decoded = decode(case.kind, made)
    assert (decoded.events, decoded.noted) == ((), ())
    assert [kept.message_index for kept in decoded.undecoded] == [index]
    assert decoded.undecoded[0].raw_body.hex() == shown["raw"]


def test_every_message_of_the_description_has_a_case() -> None:
    assert set(LAYOUT.logs) == {(case.kind, case.number) for case in LOGS}
    assert set(LAYOUT.incoming) == {(case.kind, case.number) for case in REQUESTS}
    assert LAYOUT.events == {}
    assert set(LAYOUT.kinds) == set(KINDS)


@EVERY_LOG
def test_a_log_is_shown_with_its_fields_and_what_they_mean_here(case: Case) -> None:
    made = transaction([as_log(case)])
    assert show(case.kind, made) == [case.shown() | identity(made, 0)]


@EVERY_REQUEST
def test_a_request_that_succeeded_is_an_event_without_a_log(case: Case) -> None:
    made = transaction([], as_incoming(case))
    assert show(case.kind, made) == [case.shown() | identity(made, -1)]


@EVERY_REQUEST
def test_a_requests_body_is_read_inline_and_in_a_ref(case: Case) -> None:
    inline, apart = (show(case.kind, transaction([], as_incoming(case, inline=which)))[0] for which in (True, False))
    assert inline["fields"] == apart["fields"]
    assert inline["event_type"] == apart["event_type"] == case.name


@pytest.mark.parametrize("failure", FAILURES, ids=str)
@pytest.mark.parametrize("case", [*LOGS, *REQUESTS], ids=lambda case: case.id)
def test_a_failed_transaction_yields_none(case: Case, failure: dict[str, Any]) -> None:
    made = transaction([as_log(case)], as_incoming(case, inline=False), **failure)
    assert show(case.kind, made) == []
    decoded = decode(case.kind, made)
    assert (decoded.succeeded, decoded.events, decoded.undecoded, decoded.noted) == (False, (), (), ())


@EVERY_LOG
def test_a_log_that_is_not_as_described_is_kept_raw(case: Case) -> None:
    whole, cut = case.body, case.body.bits[:-1]
    longer = Node(whole.bits + "0", whole.refs)
    deeper = Node(whole.bits, (*whole.refs, Node()))
    for payload in (Node(cut, whole.refs), longer, deeper, Node()):
        check_refused(case, transaction([as_log(case, payload)]), 0)
    head = as_log(case)
    for message in (
        Node(head.bits),  # no ref
        Node(head.bits, (whole, whole)),
        Node(head.bits + "1", (whole,)),  # bits before the ref
        Node((head.bits + whole.bits)[:1023]),  # the payload without its ref
    ):
        check_refused(case, transaction([message]), 0)


@EVERY_LOG
def test_a_log_of_another_number_or_kind_is_not_this_event(case: Case) -> None:
    for number in (case.number + 2**32, case.number << 248, 0, 2**256 - 1):
        check_refused(case, transaction([as_log(case, number=number)]), 0)
    check_refused(case, transaction([log(case.number, case.body, width=32)]), 0)
    for kind in KINDS:
        if (kind, case.number) not in LAYOUT.logs:
            assert show(kind, transaction([as_log(case)]))[0]["event_type"] is None


def test_the_same_number_is_another_event_of_another_kind() -> None:
    shard, treasury = (
        next(case for case in LOGS if (case.kind, case.number) == (kind, 0x51)) for kind in (SHARD, TREASURY)
    )
    assert show(SHARD, transaction([as_log(shard)]))[0]["event_type"] == "PolicyCreatedInShard"
    assert show(TREASURY, transaction([as_log(treasury)]))[0]["event_type"] == "YieldConfirmed"
    check_refused(treasury, transaction([as_log(shard)]), 0)
    check_refused(shard, transaction([as_log(treasury)]), 0)


@EVERY_REQUEST
def test_a_request_that_is_not_as_described_is_kept_raw(case: Case) -> None:
    body = case.body
    variants = [Node(body.bits + "1", body.refs), Node(body.bits, (*body.refs, Node()))]
    if body.bits:
        variants.append(Node(body.bits[:-1], body.refs))
    if body.refs:
        variants.append(Node(body.bits))
    for variant in variants:
        check_refused(case, transaction([], as_incoming(case, variant)), -1)


@pytest.mark.parametrize(
    "quote",
    [
        Node("1" * 512),
        Node("1" * 511, (QUOTE,)),
        Node("1" * 513, (QUOTE,)),
        Node("1" * 512, (QUOTE, QUOTE)),
        Node("1" * 512, (Node(QUOTE.bits[:-1]),)),
        Node("1" * 512, (Node(QUOTE.bits + "0"),)),
        Node("1" * 512, (Node(QUOTE.bits, (Node(),)),)),
    ],
)
def test_a_quote_that_is_not_as_described_is_kept_raw(quote: Node) -> None:
    case = next(case for case in REQUESTS if (case.kind, case.number) == (FACTORY, 0x01))
    check_refused(case, transaction([], as_incoming(case, Node("", (quote,)))), -1)


@EVERY_REQUEST
def test_what_asks_for_nothing_known_is_no_event(case: Case) -> None:
    body = Node(uint(case.number, 32) + case.body.bits, case.body.refs)
    others = [
        as_incoming(case, bounced=True),
        incoming(Node("1" * 32 + body.bits, body.refs), bounced=True),
        from_wallet(body),
        as_incoming(case, number=0xFFFFFFFF),
        as_incoming(case, number=case.number << 24),
        incoming(Node(), value=7),
        incoming(Node(uint(case.number, 32)[:-1])),
        None,
    ]
    for message in others:
        made = transaction([], message)
        assert show(case.kind, made) == []
        decoded = decode(case.kind, made)
        assert decoded.succeeded
        assert (decoded.events, decoded.undecoded, decoded.noted) == ((), (), ())


def test_kinds_that_log_their_events_derive_none() -> None:
    for kind in (ROUTER, TREASURY, TOKEN):
        for case in REQUESTS:
            assert show(kind, transaction([], as_incoming(case))) == []


CHAINS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 5, 5: 6, 6: 8, 7: 7}
SAME = {"type": range(5), "coin": range(14)}


@pytest.mark.parametrize("name", ["type", "chain", "coin"])
@pytest.mark.parametrize("number", [*range(16), 127, 128, 255])
def test_each_id_of_a_product_is_ours_or_none_at_all(name: str, number: int) -> None:
    ids = {"type": 0, "chain": 0, "coin": 0} | {name: number}
    expected = CHAINS.get(number) if name == "chain" else (number if number in SAME[name] else None)
    product = "".join(uint(ids[key], 8) for key in ("type", "chain", "coin"))
    shard = Node(uint(1, 64) + uint(1, 8) + address(USER) + product + coins(5) + uint(30, 16) + uint(0, 32))
    routed = Node(uint(1, 64) + uint(1, 8) + address(USER) + product + coins(5) + uint(30, 16) + coins(6))
    terms = coins(5) + uint(30, 16) + address(USER) + coins(6) + uint(9, 32)
    quote = Node(uint(1, 32), (Node("0" * 512, (Node(product + terms),)),))
    ours = {"type": "coverage_type", "chain": "chain_id", "coin": "stablecoin_id"}
    for kind, made, key in (
        (SHARD, transaction([log(0x51, shard)]), name),
        (ROUTER, transaction([log(0x54, routed)]), name),
        (FACTORY, transaction([], incoming(quote)), ours[name]),
    ):
        (shown,) = show(kind, made)
        assert shown["fields"][key] == number, "what is written stays what is written"
        if expected is None:
            assert shown["canonical"] is None
            assert "mapped" not in shown
            assert f"no id {number}" in shown["reason"]
            assert len(decode(kind, made).undecoded) == 1
        else:
            assert shown["mapped"][key] == expected
            assert shown.get("canonical_fields", {}).get(ours[name], expected) == expected
            assert decode(kind, made).undecoded == ()


@pytest.mark.parametrize("number", [0, 1, 6, 7, 255])
def test_a_tranche_that_does_not_exist_is_kept_raw(number: int) -> None:
    made = transaction([], incoming(Node(uint(1, 32) + uint(number, 8)), value=10**9))
    (shown,) = show(VAULT, made)
    exists = 1 <= number <= 6
    assert shown["canonical"] == ("DepositMade" if exists else None)
    decoded = decode(VAULT, made)
    assert (len(decoded.noted), len(decoded.undecoded)) == ((1, 0) if exists else (0, 1))


def test_what_maps_wholly_flows_as_an_event_of_the_incoming_message() -> None:
    made = transaction([], incoming(Node(uint(0x10, 32)), value=10**8))
    (event,) = decode(VAULT, made).events
    assert event.body == Paused(paused=True)
    assert (event.contract, event.contract_kind, event.lt, event.message_index) == (ACCOUNT, VAULT, 99_000_001, -1)
    assert (event.transaction_hash, event.block_time, event.decoder) == (hash_of(made), NOW, "reference-core-1")
    (key,) = decode(FACTORY, transaction([], incoming(Node(uint(0x14, 32) + uint(0xAB, 256))))).events
    assert key.body == QuoteKeySet(public_key="ab".rjust(64, "0"))


@pytest.mark.parametrize("case", [*LOGS, *REQUESTS], ids=lambda case: case.id)
def test_the_decoder_posts_what_is_whole_and_notes_the_rest(case: Case) -> None:
    is_log = case in LOGS
    decoded = decode(case.kind, transaction([as_log(case)] if is_log else [], None if is_log else as_incoming(case)))
    index = 0 if is_log else -1
    if case.canonical and not case.missing:
        assert [(event.event_type, event.message_index) for event in decoded.events] == [(case.canonical, index)]
        assert decoded.noted == ()
    else:
        assert decoded.events == ()
        assert decoded.noted == (Noted(message_index=index, name=case.name),)
    assert decoded.undecoded == ()


def test_an_outcome_that_was_read_before_gives_the_same() -> None:
    for case in REQUESTS:
        made = boc(transaction([], as_incoming(case)))
        decoder = Decoder(LAYOUT, contract=ACCOUNT, kind=case.kind)
        assert decoder.decode_outcome(read_outcome(read_transaction(made))) == decoder.decode(made)


def test_requests_and_logs_of_one_transaction_come_in_order() -> None:
    rolled_back = next(case for case in LOGS if case.number == 0x95)
    pause = next(case for case in REQUESTS if (case.kind, case.number) == (VAULT, 0x10))
    made = transaction([as_log(rolled_back), incoming(Node()), as_log(rolled_back, Node())], as_incoming(pause))
    assert [(item["event_type"], item["message_index"]) for item in show(VAULT, made)] == [
        ("Paused", -1),
        ("DepositRolledBack", 0),
        (None, 2),
    ]
    decoded = decode(VAULT, made)
    assert [event.message_index for event in decoded.events] == [-1]
    assert [noted.message_index for noted in decoded.noted] == [0]
    assert [kept.message_index for kept in decoded.undecoded] == [2]


@pytest.mark.parametrize("case", [*LOGS, *REQUESTS], ids=lambda case: case.id)
def test_a_message_that_was_kept_is_read_again_without_its_transaction(case: Case) -> None:
    """A layout of another generation keeps it; with this one the kept bytes alone say what it was."""
    made = transaction([as_log(case)] if case in LOGS else [], None if case in LOGS else as_incoming(case))
    decoder = Decoder(LAYOUT, contract=ACCOUNT, kind=case.kind)
    whole = decoder.decode(boc(made))
    if case in LOGS:
        (kept,) = Decoder(load_layout(), contract=ACCOUNT, kind=case.kind).decode(boc(made)).undecoded
        raw, index = kept.raw_body, kept.message_index
    elif whole.events:
        raw, index = whole.events[0].raw_body, -1
    else:
        raw, index = boc(as_incoming(case)), -1
    again = decoder.decode_kept(raw, message_index=index, cursor=whole.cursor, block_time=whole.block_time)
    assert again == msgspec.structs.replace(whole, facts=NO_FACTS)  # an outcome is the transaction's


bits = st.text(alphabet="01", max_size=700)
nodes = st.recursive(
    st.builds(Node, bits), lambda inner: st.builds(Node, bits, st.tuples(inner) | st.tuples(inner, inner))
)


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, Node]:
    """A described message with some bits changed, cut or added, or any cell in the place of its payload."""
    case = draw(st.sampled_from((*LOGS, *REQUESTS)))
    body = draw(nodes | st.just(case.body))
    for at in draw(st.lists(st.integers(0, 700), max_size=3)):
        if at < len(body.bits):
            flipped = "1" if body.bits[at] == "0" else "0"
            body = Node(body.bits[:at] + flipped + body.bits[at + 1 :], body.refs)
    message = as_log(case, body) if case in LOGS else as_incoming(case, body, inline=draw(st.booleans()))
    if len(message.bits) > 1023:
        message = Node(message.bits[:1023], message.refs)
    cut = draw(st.just(len(message.bits)) | st.integers(0, len(message.bits)))
    message = Node(message.bits[:cut], message.refs)
    return case.kind, transaction([message], message) if draw(st.booleans()) else transaction([], message)


@settings(max_examples=800, deadline=None)
@given(made=changed())
def test_whatever_a_message_holds_it_is_an_event_or_kept_or_a_decode_error(made: tuple[str, Node]) -> None:
    kind, root = made
    try:
        decoded = decode(kind, root)
    except DecodeError:
        with pytest.raises(DecodeError):
            show(kind, root)
        return
    shown = show(kind, root)
    found = sorted(item.message_index for item in (*decoded.events, *decoded.noted, *decoded.undecoded))
    assert [item["message_index"] for item in shown] == found
    refused = {item["message_index"] for item in shown if "reason" in item}
    assert refused == {kept.message_index for kept in decoded.undecoded}


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=300), kind=st.sampled_from(KINDS), as_bag=st.booleans())
def test_any_bytes_are_a_transaction_or_a_decode_error(data: bytes, kind: str, as_bag: bool) -> None:
    good = boc(transaction([], as_incoming(REQUESTS[0])))
    given_bytes = good[: len(data)] + data + good[2 * len(data) :] if as_bag else data
    decoder = Decoder(LAYOUT, contract=ACCOUNT, kind=kind)
    for read in (
        decoder.decode,
        lambda raw: decode_transaction_json(raw, LAYOUT, kind),
        lambda raw: decoder.decode_kept(raw, message_index=-1, cursor=read_cursor(), block_time=0),
        lambda raw: decoder.decode_kept(raw, message_index=0, cursor=read_cursor(), block_time=0),
    ):
        try:
            read(given_bytes)
        except DecodeError:
            continue


def read_cursor() -> Any:
    return read_transaction(boc(transaction())).cursor


def literal(kind: str, text: str) -> dict[str, Any]:
    (shown,) = decode_transaction_json(bytes.fromhex(text), LAYOUT, kind)
    assert shown["logical_time"] == "99000001"
    return shown


def test_literally_a_deposit_of_hundred_ton() -> None:
    shown = literal(VAULT, VAULT_DEPOSIT)
    assert shown["transaction_hash"] == "f82b7f7e2397afb4b754afdf1e6469f46a7bab78bc2e61a733afb80c582a6016"
    assert (shown["event_type"], shown["message_index"]) == ("DepositMade", -1)
    assert shown["fields"] == {"tranche": 2, "sender": USER, "amount": "100000000000"}
    assert (shown["canonical"], shown["canonical_missing"]) == ("DepositMade", ["shares", "locked_shares"])


def test_literally_a_quote_that_was_accepted() -> None:
    shown = literal(FACTORY, FACTORY_QUOTE)
    assert shown["transaction_hash"] == "53885297269f96ae2526ca998f074dcc637d882999c0f71fe8dc4cf25f791503"
    assert (shown["event_type"], shown["message_index"], shown["canonical"]) == ("PolicyCreated", -1, "PolicyCreated")
    assert (shown["fields"]["chain_id"], shown["canonical_fields"]["chain_id"]) == (4, 5)
    assert shown["canonical_fields"]["end"] - shown["canonical_fields"]["start"] == 7_776_000


def test_literally_a_policy_on_its_way_to_a_shard() -> None:
    shown = literal(ROUTER, ROUTER_ROUTED)
    assert shown["transaction_hash"] == "2e6b3cb5cc10d820631c6a1a417ead157196f9d4f02c92945aa051098e1a7588"
    assert (shown["event_type"], shown["message_index"], shown["canonical"]) == ("PolicyRoutedToShard", 0, None)
    assert (shown["fields"]["policy_id"], shown["fields"]["premium"]) == ("516", "3550684931")


def test_literally_a_policy_of_a_shard() -> None:
    """The payload is the written example: policy 513 of shard 1, a thousand TON for 90 days."""
    shown = literal(SHARD, SHARD_CREATED)
    assert shown["transaction_hash"] == "5f17114454fc8169eaccfb4bb64f998f595a49a03b4cf00c43a4f18848b445fc"
    assert shown["fields"] == {
        "policy_id": "513",
        "shard_id": 1,
        "user": "0:ca6effcdd49932daba610ad5ea5fec2e9043a26953b1434351a99544d11ce137",
        "type": 0,
        "chain": 0,
        "coin": 0,
        "coverage": "1000000000000",
        "days": 90,
        "product_hash": 0,
    }


def test_literally_a_payout_of_the_treasury() -> None:
    shown = literal(TREASURY, TREASURY_PAYOUT)
    assert (shown["event_type"], shown["canonical"]) == ("PayoutExecuted", "PayoutExecuted")
    assert shown["fields"] == {
        "recipient": "-1:" + "0f" * 32,
        "amount": "100000000000",
        "total_payouts": "1000000000000",
    }


def test_literally_a_burning_of_tokens() -> None:
    shown = literal(TOKEN, TOKEN_BURNED)
    assert (shown["event_type"], shown["canonical"]) == ("TokensBurned", None)
    assert shown["fields"] == {"from": USER, "amount": "5", "supply": "0"}
