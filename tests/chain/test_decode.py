"""Decoding: the phases decide, the layout explains, and nothing crashes on bytes from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell
from pytoniq_core.tlb.transaction import Transaction

from chain.making import (
    ALICE,
    COVERAGE_OP,
    DEPOSIT_OP,
    EARNED_OP,
    FACTORY,
    LAYOUT,
    PAUSED_OP,
    VAULT,
    Phases,
    earned,
    external_out,
    internal_out,
    make_transaction,
)
from tonsurance.chain.decode import decode_transaction, decode_transaction_json
from tonsurance.chain.layout import load_layout, parse_layout
from tonsurance.core.errors import DecodeError, UsageError
from tonsurance.core.events import (
    FACTORY_KIND,
    VAULT_KIND,
    CoverageChanged,
    DecodedTransaction,
    DepositMade,
    FactorySet,
    Paused,
    PremiumsEarned,
    QuoteKeySet,
    WithdrawalMade,
)


def decode(boc: bytes) -> DecodedTransaction:
    return decode_transaction(boc, contract=VAULT, kind=VAULT_KIND, layout=LAYOUT)


def decode_body(body: Cell, *, inline: bool = False) -> DecodedTransaction:
    return decode(make_transaction(messages=[external_out(VAULT, body, inline=inline)]).boc)


def test_an_event_carries_its_identity_and_provenance() -> None:
    body = earned(3, 5_000_000_000)
    made = make_transaction(lt=77, now=1_700_000_123, messages=[external_out(VAULT, body)])
    (event,) = decode(made.boc).events
    assert event.body == PremiumsEarned(tranche_id=3, amount=5_000_000_000)
    assert (event.contract, event.contract_kind, event.lt, event.message_index) == (VAULT, VAULT_KIND, 77, 0)
    assert (event.transaction_hash, event.block_time, event.decoder) == (made.cursor.hash, 1_700_000_123, "test-1")
    assert Cell.one_from_boc(event.raw_body).hash == body.hash


def test_a_body_is_read_inline_and_in_a_ref() -> None:
    assert decode_body(earned(1, 9), inline=True).events[0].body == decode_body(earned(1, 9)).events[0].body


def test_a_raw_inline_body_is_the_cell_of_the_body_alone() -> None:
    body = Builder().store_uint(EARNED_OP, 32).store_uint(1, 8).store_coins(2**70).end_cell()
    (event,) = decode_body(body, inline=True).events
    assert Cell.one_from_boc(event.raw_body).hash == body.hash


def test_fields_continue_in_a_ref_and_addresses_are_raw() -> None:
    more = Builder().store_uint(2**127, 128).store_uint(1000, 128).end_cell()
    body = Builder().store_uint(DEPOSIT_OP, 32).store_uint(2, 8).store_address(Address(ALICE)).store_coins(2**62)
    (event,) = decode_body(body.store_ref(more).end_cell()).events
    assert event.body == DepositMade(tranche_id=2, depositor=ALICE, amount=2**62, shares=2**127, locked_shares=1000)


def test_arrays_and_negative_numbers_are_read() -> None:
    body = Builder().store_uint(COVERAGE_OP, 32).store_uint(9, 64)
    for part in (-1, 2, -(2**63), 2**63 - 1, 0, 5):
        body.store_int(part, 64)
    (event,) = decode_body(body.end_cell()).events
    assert event.body == CoverageChanged(policy_id=9, parts=(-1, 2, -(2**63), 2**63 - 1, 0, 5))


def test_a_key_becomes_hexadecimal_text_for_the_kind_of_contract() -> None:
    body = Builder().store_uint(EARNED_OP, 32).store_uint(0xAB, 256).end_cell()
    made = make_transaction(account=FACTORY, messages=[external_out(FACTORY, body)])
    (event,) = decode_transaction(made.boc, contract=FACTORY, kind=FACTORY_KIND, layout=LAYOUT).events
    assert event.body == QuoteKeySet(public_key="ab".rjust(64, "0"))


def test_only_external_messages_are_events_and_the_index_is_the_dictionary_key() -> None:
    messages = [
        internal_out(VAULT, ALICE, earned(1, 1)) if n % 3 else external_out(VAULT, earned(1, n)) for n in range(20)
    ]
    decoded = decode(make_transaction(messages=messages).boc)
    assert [(e.message_index, e.body) for e in decoded.events] == [
        (n, PremiumsEarned(tranche_id=1, amount=n)) for n in range(0, 20, 3)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 33, 65, 129, 255])
def test_any_number_of_messages_is_read_in_order(count: int) -> None:
    decoded = decode(make_transaction(messages=[external_out(VAULT, earned(1, n)) for n in range(count)]).boc)
    assert [(e.message_index, e.body) for e in decoded.events] == [
        (n, PremiumsEarned(tranche_id=1, amount=n)) for n in range(count)
    ]


@given(keys=st.sets(st.integers(0, 2**15 - 1), min_size=1, max_size=12))
def test_any_keys_of_another_writer_are_read(keys: set[int]) -> None:
    """All three forms of a dictionary's label."""
    messages = [external_out(VAULT, earned(1, key)) for key in sorted(keys)]
    decoded = decode(make_transaction(messages=messages, keys=sorted(keys)).boc)
    assert [event.message_index for event in decoded.events] == sorted(keys)


def test_more_messages_than_a_transaction_can_make_are_refused() -> None:
    messages = [external_out(VAULT, earned(1, 1))] * 256
    with pytest.raises(DecodeError, match="more than 255"):
        decode(make_transaction(messages=messages).boc)


@pytest.mark.parametrize("destination", [None, 0x51])
def test_a_destination_does_not_disturb_the_body(destination: int | None) -> None:
    message = external_out(VAULT, earned(1, 4), destination=destination)
    assert decode(make_transaction(messages=[message]).boc).events[0].body == PremiumsEarned(tranche_id=1, amount=4)


@pytest.mark.parametrize(
    "phases",
    [
        Phases(computed=False),
        Phases(acted=False),
        Phases(aborted=True),
        Phases(skipped=True, aborted=True),
        Phases(skipped=True),
        Phases(has_action=False),
    ],
)
def test_a_transaction_that_failed_in_any_phase_has_no_events_but_a_cursor(phases: Phases) -> None:
    made = make_transaction(messages=[external_out(VAULT, earned(1, 1))], phases=phases)
    decoded = decode(made.boc)
    assert (decoded.succeeded, decoded.events, decoded.undecoded) == (False, (), ())
    assert decoded.cursor == made.cursor


def test_success_agrees_with_another_reader() -> None:
    for phases in (Phases(), Phases(computed=False), Phases(acted=False), Phases(aborted=True)):
        made = make_transaction(messages=[external_out(VAULT, earned(1, 1))], phases=phases)
        theirs = Transaction.deserialize(Cell.one_from_boc(made.boc).begin_parse()).description
        assert decode(made.boc).succeeded == (
            theirs.compute_ph.success and theirs.action.success and not theirs.aborted
        )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Builder().store_uint(0xDEAD, 32).end_cell(), "op"),
        (Builder().store_uint(1, 31).end_cell(), "no op"),
        (Builder().end_cell(), "no op"),
        (Builder().store_uint(EARNED_OP, 32).store_uint(1, 8).end_cell(), "needed"),
        (Builder().store_uint(EARNED_OP, 32).store_uint(1, 8).store_coins(5).store_bit(0).end_cell(), "left over"),
        (
            Builder().store_uint(EARNED_OP, 32).store_uint(1, 8).store_coins(5).store_ref(Cell.empty()).end_cell(),
            "left over",
        ),
        (Builder().store_uint(DEPOSIT_OP, 32).store_uint(1, 8).store_uint(0, 2).store_coins(1).end_cell(), "ref"),
        (
            Builder()
            .store_uint(DEPOSIT_OP, 32)
            .store_uint(1, 8)
            .store_uint(0, 2)
            .store_coins(1)
            .store_ref(Builder().store_uint(0, 256).end_cell())
            .end_cell(),
            "depositor",
        ),
        (Builder().store_uint(DEPOSIT_OP, 32).store_uint(1, 8).store_uint(3, 2).end_cell(), "address"),
    ],
)
def test_a_message_that_no_layout_explains_is_kept_raw_with_the_reason(body: Cell, reason: str) -> None:
    good = external_out(VAULT, earned(1, 1))
    decoded = decode(make_transaction(messages=[good, external_out(VAULT, body), good]).boc)
    assert [event.message_index for event in decoded.events] == [0, 2]
    (kept,) = decoded.undecoded
    assert kept.message_index == 1
    assert reason in kept.reason
    assert Cell.one_from_boc(kept.raw_body).hash == body.hash


def test_another_accounts_transaction_is_refused() -> None:
    with pytest.raises(DecodeError, match="of account b2"):
        decode(make_transaction(account=FACTORY).boc)


def test_a_transaction_with_fewer_messages_than_it_announces_is_refused() -> None:
    with pytest.raises(DecodeError, match="announces 2 messages and holds 1"):
        decode(make_transaction(messages=[external_out(VAULT, earned(1, 1))], announced=2).boc)


def test_a_description_of_another_kind_never_counts() -> None:
    made = make_transaction()
    assert decode(made.boc).succeeded
    tick = Builder().store_uint(0b0010, 4).end_cell()
    root = Cell.one_from_boc(made.boc)
    assert not decode(Cell(root.bits, [*root.refs[:-1], tick]).to_boc()).succeeded


def test_json_has_wide_numbers_as_text_and_says_what_was_not_understood() -> None:
    more = Builder().store_uint(5, 128).store_uint(1000, 128).end_cell()
    deposit = Builder().store_uint(DEPOSIT_OP, 32).store_uint(2, 8).store_address(Address(ALICE)).store_coins(7)
    unknown = Builder().store_uint(5, 32).end_cell()
    made = make_transaction(
        lt=2**60, messages=[external_out(VAULT, deposit.store_ref(more).end_cell()), external_out(VAULT, unknown)]
    )
    first, second = decode_transaction_json(made.boc, LAYOUT, VAULT_KIND)
    assert first == {
        "event_type": "DepositMade",
        "canonical": "DepositMade",
        "logical_time": str(2**60),
        "transaction_hash": made.cursor.hash.hex(),
        "message_index": 0,
        "fields": {"tranche_id": 2, "depositor": ALICE, "amount": "7", "shares": "5", "locked_shares": "1000"},
    }
    assert second["event_type"] is None
    assert "0x00000005" in second["reason"]


def test_json_refuses_a_bag_with_a_wrong_checksum() -> None:
    boc = Cell.one_from_boc(make_transaction().boc).to_boc(hash_crc32=True)
    assert decode_transaction_json(boc, LAYOUT, VAULT_KIND) == []
    with pytest.raises(DecodeError, match="checksum"):
        decode_transaction_json(boc[:-1] + bytes((boc[-1] ^ 1,)), LAYOUT, VAULT_KIND)


def test_a_flag_is_read() -> None:
    body = Builder().store_uint(PAUSED_OP, 32).store_bit(1).end_cell()
    assert decode_body(body, inline=True).events[0].body == Paused(paused=True)


OWN = parse_layout(f"""
name = "own-1"
[map.tranche]
9 = 6
[[event]]
contract = "{VAULT_KIND}"
incoming = 7
type = "WithdrawalMade"
fields = [
  {{name="tranche_id", type="uint8", map="tranche"}}, {{name="shares", type="uint128"}},
  {{name="withdrawer", from="sender"}}, {{name="amount", from="value"}},
]
[[event]]
contract = "{VAULT_KIND}"
destination = 7
type = "FactorySet"
fields = [{{name="factory", type="address"}}]
[[event]]
contract = "{VAULT_KIND}"
op = 7
name = "Named"
fields = [{{name="who", type="address"}}]
canonical = {{type="FactorySet", fields={{factory="who"}}}}
[[event]]
contract = "{VAULT_KIND}"
op = 8
name = "Half"
fields = [{{name="who", type="address"}}]
canonical = {{type="PolicyRefused", fields={{buyer="who"}}, missing=["policy_id", "quote_id", "reason"]}}
""")


def decode_own(*, incoming: Cell | None = None, messages: tuple[Cell, ...] = ()) -> DecodedTransaction:
    boc = make_transaction(messages=messages, in_msg=incoming).boc
    shown = decode_transaction_json(boc, OWN, VAULT_KIND)
    decoded = decode_transaction(boc, contract=VAULT, kind=VAULT_KIND, layout=OWN)
    assert [item["message_index"] for item in shown if "reason" in item] == [
        kept.message_index for kept in decoded.undecoded
    ]
    return decoded


def request(tranche: int = 9) -> Cell:
    body = Builder().store_uint(7, 32).store_uint(tranche, 8).store_uint(2**100, 128)
    return internal_out(ALICE, VAULT, body.end_cell())


def test_one_of_our_types_may_come_from_an_incoming_message_with_its_sender_value_and_mapped_ids() -> None:
    message = request()
    (event,) = decode_own(incoming=message).events
    assert event.body == WithdrawalMade(tranche_id=6, withdrawer=ALICE, amount=1000, shares=2**100)
    assert event.message_index == -1
    assert Cell.one_from_boc(event.raw_body).hash == message.hash, "sender and value are in the whole message only"
    (shown,) = decode_transaction_json(make_transaction(in_msg=message).boc, OWN, VAULT_KIND)
    assert shown["fields"] == {"withdrawer": ALICE, "amount": "1000", "tranche_id": 9, "shares": str(2**100)}
    assert (shown["mapped"], shown["canonical"]) == ({"tranche_id": 6}, "WithdrawalMade")
    assert len(decode_own(incoming=request(6)).undecoded) == 1


def test_a_destination_and_an_op_of_one_number_are_two_events() -> None:
    who = Builder().store_address(Address(ALICE))
    named = Builder().store_uint(7, 32).store_cell(who.end_cell()).end_cell()
    by_destination = external_out(VAULT, who.end_cell(), destination=7)
    decoded = decode_own(
        messages=(by_destination, external_out(VAULT, named), external_out(VAULT, named, destination=9))
    )
    assert [event.body for event in decoded.events] == [FactorySet(factory=ALICE)] * 3
    bodies = [Cell.one_from_boc(event.raw_body).hash for event in decoded.events]
    assert bodies[:2] == [by_destination.hash, named.hash], "what names the event is kept with it"


@pytest.mark.parametrize("op", [7, 8])
def test_no_address_where_our_type_has_one_is_kept_raw(op: int) -> None:
    body = Builder().store_uint(op, 32).store_uint(0, 2).end_cell()
    decoded = decode_own(messages=(external_out(VAULT, body),))
    assert (decoded.events, decoded.noted, len(decoded.undecoded)) == ((), (), 1)
    assert "factory" in decoded.undecoded[0].reason or "buyer" in decoded.undecoded[0].reason


def test_an_incoming_message_that_cannot_be_read_is_kept_and_does_not_stop_the_rest() -> None:
    anycast = Builder().store_uint(0b0110, 4).store_uint(0b101, 3).store_uint(0, 600).end_cell()
    named = Builder().store_uint(7, 32).store_address(Address(ALICE)).end_cell()
    decoded = decode_own(incoming=anycast, messages=(external_out(VAULT, named),))
    assert [kept.message_index for kept in decoded.undecoded] == [-1]
    assert Cell.one_from_boc(decoded.undecoded[0].raw_body).hash == anycast.hash
    assert len(decoded.events) == 1


def test_our_own_contracts_take_nothing_from_the_incoming_message() -> None:
    shipped = load_layout()
    boc = make_transaction(in_msg=request()).boc
    assert not any(shipped.derives(kind) for kind in shipped.kinds)
    assert decode_transaction_json(boc, shipped, VAULT_KIND) == []
    assert decode_transaction(boc, contract=VAULT, kind=VAULT_KIND, layout=shipped).undecoded == ()


def test_json_of_a_kind_the_layout_does_not_know_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no contract kind 'Nothing'"):
        decode_transaction_json(make_transaction().boc, LAYOUT, "Nothing")
