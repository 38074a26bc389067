"""What became of a message to our contracts: looked up by a hash, from the database alone.

A transaction is found by its own hash, by that of the message it ran on, or by that of the message's body: what a
payload built here hashes to, and so known before anything was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from tonsurance.chain.messages import Op
from tonsurance.core.events import FACTORY_KIND
from tonsurance.core.exit_codes import ExitCode, explain_failure
from tonsurance.core.sale_errors import UnknownTransaction
from tonsurance.db import transactions
from tonsurance.db.events import EventRow, select_events
from tonsurance.db.pool import Connection
from tonsurance.db.transactions import IssuedQuote, TransactionRow
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import READ_TIMEOUT_S, event_of
from tonsurance.services.ports import PostedEvent

Status = Literal["pending", "confirmed", "failed"]
Stage = Literal["done", "backed", "awaited", "awaiting_vault", "refused", "refused_by_vault", "expired"]

EXPIRED = ExitCode("expired", "Nothing with this payload reached the contract while the quote was valid.")
_PURCHASE_ENDS = ("PolicyCreated", "PolicyRefused")


class PolicyLink(msgspec.Struct, frozen=True):
    """A policy in force or over: its factory and its id there."""

    factory: str
    policy_id: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The transaction in which the factory learned what the vault did."""

    hash: bytes
    lt: int
    block_time: datetime


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `row` is None while nothing was seen; `others` are transactions with the same body.
    `ambiguous`: several wallets sent this body and none was named, so `row` is only the newest.

    `exit_code` and `reason` are of the transaction that refused: this one, or the vault's. `refunded` (nanoTON, None:
    cannot be told) went to `refunded_to` in this transaction, or in the answer. `events` are those of this transaction,
    then what the answer made of a purchase.
    """

    status: Status
    stage: Stage
    row: TransactionRow | None = None
    others: tuple[bytes, ...] = ()
    ambiguous: bool = False
    exit_code: int | None = None
    action_code: int | None = None
    reason: ExitCode | None = None
    refunded: int | None = None
    refunded_to: str | None = None
    answer: Answer | None = None
    events: tuple[PostedEvent, ...] = ()
    policy: PolicyLink | None = None
    quote: IssuedQuote | None = None
    followed_until: float | None = None


class TransactionReads:
    """Reads transactions over a pool."""

    def __init__(self, pool: LazyPool) -> None:
        self._pool = pool

    async def find(self, hash_: bytes, sender: str | None = None) -> Lookup:
        """What became of it; `sender` (raw): of messages with this body only that sender's. Unnamed it is the buyer
        where the body is a quote's that was issued here.

        Raises UnknownTransaction, and DatabaseUnavailable when the ledger cannot be read.
        """
        async with self._pool.read(READ_TIMEOUT_S) as conn:
            quote = await transactions.select_issued_quote(conn, hash_)
            sender = sender or (None if quote is None else quote.buyer)
            found = await transactions.select_matches(conn, hash_) or await _find_sent(conn, hash_, sender)
            if found:
                told = await _tell(conn, found[0], _others(found), quote)
                return msgspec.structs.replace(told, ambiguous=await _is_ambiguous(conn, found[0], sender))
            if quote is not None:
                return await _tell_unseen(conn, quote)
        raise UnknownTransaction(
            "No transaction, message or payload of this hash is known here.",
            advice="Transactions of our own contracts are known once they are in a masterchain block and were read, a "
            "few seconds later. A wallet's own transaction and its external message are not followed: ask for the "
            "payload's hash instead. A payload is known before it was sent only while its quote's receipt is kept.",
        )


async def _find_sent(conn: Connection, body_hash: bytes, sender: str | None) -> list[TransactionRow]:
    """The transactions on this body, first the one that answers for it: the purchase, which a quote gives once and only
    to its buyer; of anything else, which may be done again, the newest."""
    sent = await transactions.select_sent(conn, body_hash, sender)
    return sorted(sent, key=lambda row: not _is_purchase(row))[: transactions.MAX_MATCHES]


def _is_purchase(row: TransactionRow) -> bool:
    return row.succeeded and row.op == Op.CREATE_POLICY and row.contract_type == FACTORY_KIND


async def _is_ambiguous(conn: Connection, row: TransactionRow, sender: str | None) -> bool:
    """Whether nobody said which of several wallets' messages is meant."""
    if row.matched != "payload" or sender is not None or _is_purchase(row):
        return False
    return await transactions.select_several_sent(conn, row.body_hash or b"")


def _others(found: Sequence[TransactionRow]) -> tuple[bytes, ...]:
    chosen = found[0]
    return tuple(row.hash for row in found if row.matched == chosen.matched and row.hash != chosen.hash)


async def _tell(conn: Connection, row: TransactionRow, others: tuple[bytes, ...], quote: IssuedQuote | None) -> Lookup:
    rows = await select_events(
        conn, contract=row.contract_address, transaction=row.hash.hex(), newest_first=False, limit=500
    )
    base = Lookup(
        status="confirmed",
        stage="done",
        row=row,
        others=others,
        exit_code=row.exit_code,
        action_code=row.action_code,
        refunded=row.refunded_nano,
        refunded_to=row.refunded_to or row.sender,
        events=tuple(event_of(event) for event in rows),
        policy=await _find_policy(conn, row, rows),
        quote=quote,
    )
    if not row.succeeded:
        reason = explain_failure(row.exit_code, row.action_code)
        return msgspec.structs.replace(base, status="failed", stage="refused", reason=reason)
    if row.op == Op.CREATE_POLICY and row.contract_type == FACTORY_KIND and row.policy_id is not None:
        return await _follow_purchase(conn, base, row, row.policy_id)
    return base


async def _find_policy(conn: Connection, row: TransactionRow, events: Sequence[EventRow]) -> PolicyLink | None:
    named = (event.policy_id for event in events if event.policy_id is not None)
    policy_id = next(named, None) if row.policy_id is None else row.policy_id
    if policy_id is None or row.vault_id is None:
        return None
    factory = await transactions.select_factory_of(conn, row.vault_id, policy_id, row.logical_time)
    return None if factory is None else PolicyLink(factory, policy_id)


async def _follow_purchase(conn: Connection, base: Lookup, row: TransactionRow, policy_id: int) -> Lookup:
    """The factory took the quote and asked the vault: what did the vault say?"""
    told = await select_events(conn, contract=row.contract_address, policy_id=policy_id, newest_first=False)
    end = next((event for event in told if event.event_type in _PURCHASE_ENDS), None)
    if end is None:
        until = await transactions.select_followed_until(conn, row.contract_address)
        return msgspec.structs.replace(base, status="pending", stage="awaiting_vault", followed_until=until)
    answer = Answer(hash=bytes.fromhex(end.transaction_hash), lt=end.logical_time, block_time=end.block_time)
    base = msgspec.structs.replace(base, events=(*base.events, event_of(end)))
    if end.event_type == "PolicyCreated":
        paid_back = await transactions.select_transaction(conn, row.contract_address, end.logical_time)
        return msgspec.structs.replace(base, stage="backed", answer=answer, **_refund(paid_back))
    return await _tell_refusal(conn, base, row, answer)


async def _tell_refusal(conn: Connection, base: Lookup, row: TransactionRow, answer: Answer) -> Lookup:
    paid_back = await transactions.select_transaction(conn, row.contract_address, answer.lt)
    related = await transactions.select_policy_transactions(
        conn,
        vault_id=row.vault_id or "",
        factory=row.contract_address,
        policy_id=row.policy_id or 0,
        closed_lt=answer.lt,
    )
    refused = [one for one in related if not one.succeeded and one.op == Op.BACK_POLICY and not one.bounced]
    by = refused[-1] if refused else None
    return msgspec.structs.replace(
        base,
        status="failed",
        stage="refused_by_vault",
        answer=answer,
        exit_code=None if by is None else by.exit_code,
        action_code=None if by is None else by.action_code,
        reason=None if by is None else explain_failure(by.exit_code, by.action_code),
        **_refund(paid_back),
    )


def _refund(paid_back: TransactionRow | None) -> dict[str, int | str | None]:
    if paid_back is None:
        return {"refunded": None, "refunded_to": None}
    return {"refunded": paid_back.refunded_nano, "refunded_to": paid_back.refunded_to or paid_back.sender}


async def _tell_unseen(conn: Connection, quote: IssuedQuote) -> Lookup:
    """A quote of ours that nobody has used yet: it may still come until its deadline is over on the chain."""
    until = await transactions.select_followed_until(conn, quote.factory)
    if until is not None and until >= quote.deadline:
        return Lookup(status="failed", stage="expired", reason=EXPIRED, quote=quote, followed_until=until)
    return Lookup(status="pending", stage="awaited", quote=quote, followed_until=until)
