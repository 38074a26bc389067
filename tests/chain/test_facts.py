"""What is kept of a transaction beside its events: from messages of any shape, and never stopping anything."""

from __future__ import annotations

import pytest
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from chain.making import ALICE, FACTORY, LAYOUT, VAULT, Phases, internal_out, make_transaction
from tonsurance.chain import messages
from tonsurance.chain import phases as read
from tonsurance.chain.cells import parse_boc
from tonsurance.chain.decode import decode_transaction
from tonsurance.chain.facts import read_facts
from tonsurance.chain.messages import Op, build_cell
from tonsurance.core.events import FACTORY_KIND, TransactionFacts

BOB = "0:" + "d4" * 32
WELL = Phases()


def internal(
    body: Cell,
    *,
    sender: str = ALICE,
    to: str = FACTORY,
    value: int = 5_000,
    bounced: bool = False,
    inline: bool = False,
) -> Cell:
    """An internal message as it stands in a block."""
    head = Builder().store_uint(0b0101 if bounced else 0b0110, 4).store_address(Address(sender))
    head.store_address(Address(to)).store_coins(value).store_bit(0).store_coins(0).store_coins(3)
    head.store_uint(7, 64).store_uint(1_700_000_000, 32).store_bit(0).store_bit(0 if inline else 1)
    return (head.store_cell(body) if inline else head.store_ref(body)).end_cell()


def facts_of(in_msg: Cell | None, *outs: Cell, phases: Phases = WELL) -> TransactionFacts:
    """The facts of the factory's transaction."""
    made = make_transaction(account=FACTORY, in_msg=in_msg, messages=outs, phases=phases)
    return decode_transaction(made.boc, contract=FACTORY, kind=FACTORY_KIND, layout=LAYOUT).facts


EXCESS = build_cell(("uint32", Op.EXCESSES), ("uint64", 9))
EXPIRE = messages.expire_policy(41, query_id=2**64 - 1)


@pytest.mark.parametrize("inline", [False, True])
def test_what_was_asked_is_read_and_hashed(inline: bool) -> None:
    message = internal(EXPIRE, inline=inline)
    facts = facts_of(message, internal(EXCESS, sender=FACTORY, to=ALICE, value=1_200))
    assert facts == TransactionFacts(
        in_msg_hash=message.hash, body_hash=EXPIRE.hash, op=Op.EXPIRE_POLICY, query_id=2**64 - 1, sender=ALICE,
        value=5_000, exit_code=0, action_code=0, refunded=1_200, policy_id=41,
    )  # fmt: skip


def test_of_messages_that_cannot_be_read_nobody_knows_what_went_back() -> None:
    message = parse_boc(internal(EXPIRE).to_boc())
    facts = read_facts(message, None, read.Phases(False, 405))
    assert (facts.refunded, facts.refunded_to, facts.exit_code, facts.value) == (None, None, 405, 5_000)
    assert read_facts(message, (), read.Phases(False, 405)).refunded == 0


def test_a_failed_one_has_its_codes_and_what_bounced() -> None:
    back = internal(build_cell(("uint32", 0xFFFFFFFF)), sender=FACTORY, to=ALICE, value=4_000, bounced=True)
    facts = facts_of(internal(EXPIRE), back, phases=Phases(computed=False, aborted=True, has_action=False))
    assert (facts.exit_code, facts.action_code, facts.refunded, facts.refunded_to) == (405, None, 4_000, None)
    facts = facts_of(internal(EXPIRE), back, phases=Phases(acted=False, aborted=True))
    assert (facts.exit_code, facts.action_code) == (0, 37)
    facts = facts_of(internal(EXPIRE), phases=Phases(skipped=True, aborted=True))
    assert (facts.exit_code, facts.action_code, facts.refunded) == (None, None, 0)


def test_a_bounced_message_names_what_had_been_asked() -> None:
    body = build_cell(("uint32", 0xFFFFFFFF), ("uint32", Op.BACK_POLICY), ("uint64", 6), ("uint64", 41))
    refund = internal(EXCESS, sender=FACTORY, to=BOB, value=777)
    facts = facts_of(internal(body, sender=VAULT, bounced=True), refund)
    assert (facts.bounced, facts.op, facts.query_id, facts.policy_id) == (True, Op.BACK_POLICY, 6, 41)
    assert (facts.refunded, facts.refunded_to) == (777, BOB)


def test_a_purchase_has_the_id_the_factory_gave_it() -> None:
    asked = internal_out(FACTORY, VAULT, messages.back_policy(41, 10, 1, 86_400))
    body = build_cell(("uint32", Op.CREATE_POLICY), ("uint64", 41_000))
    assert facts_of(internal(body), asked).policy_id == 41
    assert facts_of(internal(body)).policy_id is None


def test_a_paid_claim_is_nobodys_refund() -> None:
    paid = internal(build_cell(("uint32", Op.CLAIM_PAYMENT), ("uint64", 1)), sender=FACTORY, to=ALICE, value=10**12)
    answer = internal(build_cell(("uint32", Op.CLAIM_SETTLED), ("uint64", 1)), sender=FACTORY, to=VAULT, value=30)
    rest = internal(EXCESS, sender=FACTORY, to=ALICE, value=55)
    assert facts_of(internal(EXPIRE), paid, answer, rest).refunded == 55
    assert facts_of(internal(EXPIRE), paid, answer).refunded == 0
    assert facts_of(internal(EXPIRE, sender=VAULT), paid, answer).refunded == 30


@pytest.mark.parametrize(
    ("body", "op", "query_id"),
    [
        (Builder().end_cell(), None, None),
        (Builder().store_uint(7, 31).end_cell(), None, None),
        (Builder().store_uint(0, 32).store_bytes(b"hello").end_cell(), 0, None),
        (
            Builder().store_uint(Op.EXPIRE_POLICY, 32).store_uint(5, 64).store_uint(1, 63).end_cell(),
            Op.EXPIRE_POLICY,
            5,
        ),
        (
            Builder().store_uint(Op.EXPIRE_POLICY, 32).store_uint(5, 64).store_uint(2**63, 64).end_cell(),
            Op.EXPIRE_POLICY,
            5,
        ),
    ],
    ids=["empty", "too short", "a comment", "no whole policy id", "a policy id beyond the database"],
)
def test_bodies_of_any_shape_are_read_as_far_as_they_go(body: Cell, op: int | None, query_id: int | None) -> None:
    facts = facts_of(internal(body))
    assert (facts.op, facts.query_id, facts.policy_id, facts.body_hash) == (op, query_id, None, body.hash)


def test_a_message_that_cannot_be_read_leaves_its_facts_unknown_and_stops_nothing() -> None:
    broken = Builder().store_uint(0b0110, 4).store_uint(0b11, 2).end_cell()
    facts = facts_of(broken)
    assert facts == TransactionFacts(in_msg_hash=broken.hash, exit_code=0, action_code=0)
    external = Builder().store_uint(0b10, 2).store_uint(0, 2).store_address(Address(FACTORY)).store_coins(0)
    external = external.store_uint(0, 2).end_cell()
    assert facts_of(external) == TransactionFacts(in_msg_hash=external.hash, exit_code=0, action_code=0)
    assert facts_of(None) == TransactionFacts(exit_code=0, action_code=0)
    huge = facts_of(internal(EXPIRE, value=2**63))
    assert (huge.value, huge.op) == (None, Op.EXPIRE_POLICY)
