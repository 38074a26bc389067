"""A transaction cell, read as far as following a contract needs: links, phases, messages that can be events.

TL-B (block.tlb): transaction$0111 account_addr:bits256 lt:uint64 prev_trans_hash:bits256 prev_trans_lt:uint64
now:uint32 outmsg_cnt:uint15 orig_status end_status ^[in_msg:(Maybe ^Message) out_msgs:(HashmapE 15 ^Message)]
total_fees:CurrencyCollection state_update:^(HASH_UPDATE Account) description:^TransactionDescr
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from tonsurance.chain.cells import Cell, Slice, parse_boc
from tonsurance.chain.facts import read_facts
from tonsurance.chain.internal import read_body, read_internal
from tonsurance.chain.phases import read_phases
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import NO_FACTS, Cursor, TransactionFacts

_INDEX_BITS = 15
_DESTINATION_BITS = 256
"""Events are named by external addresses of this length; others say nothing."""
_MAX_OUT_MESSAGES = 255
"""The action phase makes at most 255 messages."""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction: what it is, what it follows, and the cells still to be read. `account` is 64 hex digits."""

    cursor: Cursor
    previous: Cursor
    account: str
    now: int
    out_count: int
    messages: Cell
    description: Cell
    boc: bytes


class ExternalOut(msgspec.Struct, frozen=True, kw_only=True):
    """An external out-message. `index` is its key in out_msgs; `destination` the external address of 256 bits, if it
    has one. `whole` is the message itself where the body alone does not say what it is: where there is a destination.
    """

    index: int
    destination: int | None
    body: Cell
    whole: Cell | None = None


class IncomingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The internal message a transaction ran on, not a bounced one. `sender` is raw, `value` in nanoTON."""

    sender: str | None
    value: int
    body: Cell


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What decoding needs of a transaction, without the rest of its cells. A failed one has no messages that count.

    `boc` are the bytes it was read from, for the few who also need the incoming message.
    """

    cursor: Cursor
    account: str
    now: int
    succeeded: bool
    outs: tuple[ExternalOut, ...]
    boc: bytes
    facts: TransactionFacts = NO_FACTS


def read_outcome(transaction: Transaction) -> Outcome:
    """How it went, and its external out-messages when it succeeded. Raises DecodeError when it contradicts itself."""
    phases = read_phases(transaction.description)
    messages = _read_outs(transaction) if phases.succeeded else _read_outs_of_failed(transaction)
    outs = None if messages is None else [message for _, message in messages]
    return Outcome(
        cursor=transaction.cursor,
        account=transaction.account,
        now=transaction.now,
        succeeded=phases.succeeded,
        outs=tuple(_select_external(messages)) if phases.succeeded and messages else (),
        boc=transaction.boc,
        facts=read_facts(find_incoming(transaction), outs, phases),
    )


def _read_outs_of_failed(transaction: Transaction) -> list[tuple[int, Cell]] | None:
    """Nothing follows from them but what was given back, which nobody knows when they cannot be read: None."""
    with suppress(DecodeError):
        return _read_outs(transaction)
    return None


def read_transaction(boc: bytes) -> Transaction:
    """The transaction in a bag of cells. Raises DecodeError when it is none."""
    cell = parse_boc(boc)
    data = cell.begin_parse()
    if data.load_uint(4) != 0b0111:
        raise DecodeError("The cell is not a transaction.")
    account, lt = data.load_uint(256), data.load_uint(64)
    previous_hash, previous_lt = data.load_uint(256), data.load_uint(64)
    now, out_count = data.load_uint(32), data.load_uint(15)
    if len(cell.refs) < 3:
        raise DecodeError("A transaction has at least three refs.")
    return Transaction(
        cursor=Cursor(lt, cell.hash),
        previous=Cursor(previous_lt, previous_hash.to_bytes(32, "big")),
        account=f"{account:064x}",
        now=now,
        out_count=out_count,
        messages=cell.refs[0],
        description=cell.refs[-1],
        boc=boc,
    )


def read_external_outs(transaction: Transaction) -> list[ExternalOut]:
    """The external out-messages in the order of their index. Raises DecodeError when the messages contradict."""
    return _select_external(_read_outs(transaction))


def _read_outs(transaction: Transaction) -> list[tuple[int, Cell]]:
    data = transaction.messages.begin_parse()
    data.load_maybe_ref()  # in_msg
    root = data.load_maybe_ref()
    messages = _read_dictionary(root) if root else []
    if len(messages) != transaction.out_count:
        raise DecodeError(f"A transaction announces {transaction.out_count} messages and holds {len(messages)}.")
    return messages


def _select_external(messages: list[tuple[int, Cell]]) -> list[ExternalOut]:
    found = (read_external_out(index, message) for index, message in messages)
    return [message for message in found if message is not None]


def _read_dictionary(root: Cell) -> list[tuple[int, Cell]]:
    """HashmapE 15 ^Message: keys and refs, smallest key first. A label is read before every fork or leaf."""
    found: list[tuple[int, Cell]] = []
    pending = [(root, 0, _INDEX_BITS)]
    while pending:
        node, key, bits = pending.pop()
        data = node.begin_parse()
        label, length = _read_label(data, bits)
        key, bits = (key << length) | label, bits - length
        if bits:
            left, right = data.load_ref(), data.load_ref()
            pending += [(right, 2 * key + 1, bits - 1), (left, 2 * key, bits - 1)]
        else:
            found.append((key, data.load_ref()))
        if len(found) + len(pending) > _MAX_OUT_MESSAGES:
            raise DecodeError(f"A transaction has more than {_MAX_OUT_MESSAGES} out-messages.")
    return found


def _read_label(data: Slice, bits: int) -> tuple[int, int]:
    """A label of at most this many bits, and its length: short (unary), long (binary) or one repeated bit."""
    if not data.load_bool():
        length = 0
        while data.load_bool():
            length += 1
        same = None
    else:
        same = data.load_uint(1) if data.load_bool() else None
        length = data.load_uint(bits.bit_length())
    if length > bits:
        raise DecodeError("A dictionary's label is longer than its key.")
    if same is None:
        return data.load_uint(length), length
    return (1 << length) - 1 if same else 0, length


def read_external_out(index: int, message: Cell) -> ExternalOut | None:
    """ext_out_msg_info$11 src dest created_lt:uint64 created_at:uint32 init:(Maybe ...) body:(Either X ^X)."""
    data = message.begin_parse()
    if data.load_uint(1) == 0 or data.load_uint(1) == 0:
        return None
    data.load_address()
    destination = _read_external_address(data)
    body = read_body(data)
    return ExternalOut(index=index, destination=destination, body=body, whole=None if destination is None else message)


def _read_external_address(data: Slice) -> int | None:
    kind = data.load_uint(2)
    if kind == 0:
        return None
    if kind != 1:
        raise DecodeError("An external message has an internal destination.")
    bits = data.load_uint(9)
    address = data.load_uint(bits)
    return address if bits == _DESTINATION_BITS else None


def find_incoming(transaction: Transaction) -> Cell | None:
    """The message the transaction ran on, whatever it is; None when there was none."""
    return transaction.messages.begin_parse().load_maybe_ref()


def read_incoming(message: Cell) -> IncomingMessage | None:
    """None for an external message and for one that bounced: neither asks the contract for anything.

    Raises DecodeError.
    """
    read = read_internal(message)
    if read is None or read.bounced:
        return None
    return IncomingMessage(sender=read.sender, value=read.value, body=read.body)
