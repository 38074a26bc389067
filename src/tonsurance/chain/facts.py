"""What a transaction was asked and what it gave back, from its messages: kept of every transaction, failed ones too.

Anybody may send our contracts anything, so a message that cannot be read leaves its facts unknown and stops nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from tonsurance.chain.cells import Cell, Slice
from tonsurance.chain.internal import InternalMessage, read_internal
from tonsurance.chain.messages import Op
from tonsurance.chain.phases import Phases
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import TransactionFacts
from tonsurance.core.units import BIGINT_MAX

_OP_BITS, _NUMBER_BITS = 32, 64
_BOUNCED = 0xFFFF_FFFF
_NAMES_POLICY = frozenset(
    {
        Op.EXPIRE_POLICY,
        Op.RETRY_POLICY,
        Op.EXECUTE_PAYOUT,
        Op.BACK_POLICY,
        Op.RELEASE_COVERAGE,
        Op.PAY_CLAIM,
        Op.EXECUTE_CLAIM,
        Op.OVERRIDE_CLAIM,
        Op.CANCEL_CLAIM,
        Op.POLICY_BACKED,
        Op.COVERAGE_RELEASED,
        Op.CLAIM_SETTLED,
        Op.CLAIM_HELD,
        Op.CLAIM_DROPPED,
    }
)
"""Bodies in which a policy's id follows the query id."""

_Head = tuple[int | None, int | None, int | None]
"""Op, query id and policy id of a body, as far as it has them."""


def read_facts(incoming: Cell | None, outs: Sequence[Cell] | None, phases: Phases) -> TransactionFacts:
    """The facts of a transaction from its incoming message, all its out-messages, and how it went. Of out-messages that
    cannot be read (None) nobody knows what went back."""
    message = None if incoming is None else _read_message(incoming)
    facts = TransactionFacts(
        in_msg_hash=None if incoming is None else incoming.hash or None,
        exit_code=phases.exit_code,
        action_code=phases.action_code,
    )
    if message is None:
        return facts
    sent = [sent for cell in outs or () if (sent := _read_message(cell)) is not None]
    op, query_id, policy_id = _read_head(message)
    refunded, refunded_to = (None, None) if outs is None else _find_refund(message, sent)
    return msgspec.structs.replace(
        facts,
        body_hash=message.body.hash or None,
        op=op,
        query_id=query_id,
        sender=message.sender,
        value=_stored(message.value),
        bounced=message.bounced,
        refunded=None if refunded is None else _stored(refunded),
        refunded_to=refunded_to,
        policy_id=_find_new_policy(sent) if op == Op.CREATE_POLICY else policy_id,
    )


def _read_message(cell: Cell) -> InternalMessage | None:
    with suppress(DecodeError):
        return read_internal(cell)
    return None


def _read_head(message: InternalMessage) -> _Head:
    """Of a bounced message: what had been asked."""
    with suppress(DecodeError):
        data = message.body.begin_parse()
        if message.bounced:
            _skip_bounce_mark(data)
        return _read_numbers(data)
    return None, None, None


def _skip_bounce_mark(data: Slice) -> None:
    if data.bits_left >= _OP_BITS and data.load_uint(_OP_BITS) != _BOUNCED:
        raise DecodeError("A bounced message does not begin as one.")


def _read_numbers(data: Slice) -> _Head:
    op = data.load_uint(_OP_BITS) if data.bits_left >= _OP_BITS else None
    query_id = data.load_uint(_NUMBER_BITS) if data.bits_left >= _NUMBER_BITS else None
    if op not in _NAMES_POLICY or data.bits_left < _NUMBER_BITS:
        return op, query_id, None
    return op, query_id, _stored(data.load_uint(_NUMBER_BITS))


def _find_new_policy(sent: Sequence[InternalMessage]) -> int | None:
    """The id a purchase was given: the factory names it when it asks the vault."""
    heads = (_read_head(message) for message in sent)
    return next((policy_id for op, _, policy_id in heads if op == Op.BACK_POLICY), None)


def _find_refund(asked: InternalMessage, sent: Sequence[InternalMessage]) -> tuple[int, str | None]:
    """What was left of the message's value and went back, and to whom where that is not the sender.

    Our contracts send the rest as `excesses`, to whom it belongs; an answer, a bounce or anything else counts when it
    goes to the sender. A claim that is paid is nobody's refund.
    """
    rest = [message for message in sent if _read_head(message)[0] == Op.EXCESSES and not message.bounced]
    back = rest or [
        message
        for message in sent
        if message.destination == asked.sender and _read_head(message)[0] != Op.CLAIM_PAYMENT
    ]
    receiver = back[0].destination if back else asked.sender
    value = sum(message.value for message in back if message.destination == receiver)
    return value, None if receiver == asked.sender else receiver


def _stored(number: int) -> int | None:
    """None for what the database cannot hold; there is not that much TON, nor are there that many policies."""
    return number if number <= BIGINT_MAX else None
