"""The outcome of every transaction of a followed contract: what was asked, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.core.events import DIRECT_KIND, FACTORY_KIND, ContractBatch, DecodedTransaction
from tonsurance.db.pool import Connection, Record

MAX_MATCHES = 10
"""Most transactions one hash is answered with: a body may be sent any number of times."""
MAX_OF_POLICY = 50
"""Most transactions of one policy that are listed."""

_COMMITTED_S = 60.0
"""A block this old is committed in a masterchain block that was looked at."""

_COLUMNS = """
    t.contract_address, t.logical_time, t.hash, t.in_msg_hash, t.body_hash, t.block_time, t.op, t.query_id::text,
    t.policy_id, t.sender, t.value_nano, t.refunded_nano, t.refunded_to, t.exit_code, t.action_code, t.succeeded,
    t.bounced
"""
INSERT_TRANSACTIONS = """
INSERT INTO blockchain_transactions (contract_address, logical_time, hash, block_time, succeeded, in_msg_hash,
    body_hash, op, query_id, policy_id, sender, value_nano, refunded_nano, refunded_to, exit_code, action_code, bounced)
SELECT contract, lt, hash, to_timestamp(block_time), succeeded, in_msg_hash, body_hash, op, query_id::numeric,
    policy_id, sender, value, refunded, refunded_to, exit_code, action_code, bounced
FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[], $5::boolean[], $6::bytea[], $7::bytea[], $8::bigint[],
    $9::text[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::int[], $16::int[],
    $17::boolean[])
    AS new (contract, lt, hash, block_time, succeeded, in_msg_hash, body_hash, op, query_id, policy_id, sender, value,
        refunded, refunded_to, exit_code, action_code, bounced)
ON CONFLICT (contract_address, logical_time) DO NOTHING
"""
SELECT_MATCHES = f"""
(SELECT {_COLUMNS}, s.contract_type, s.vault_id, 'transaction' AS matched
    FROM blockchain_transactions t LEFT JOIN blockchain_sync_state s USING (contract_address)
    WHERE t.hash = $1 LIMIT $2)
UNION ALL
(SELECT {_COLUMNS}, s.contract_type, s.vault_id, 'message'
    FROM blockchain_transactions t LEFT JOIN blockchain_sync_state s USING (contract_address)
    WHERE t.in_msg_hash = $1 LIMIT $2)
"""  # noqa: S608 - the columns are this module's, here and below
_OF_BODY = f"""
SELECT {_COLUMNS}, s.contract_type, s.vault_id, 'payload' AS matched
FROM blockchain_transactions t LEFT JOIN blockchain_sync_state s USING (contract_address)
WHERE t.body_hash = $1
"""  # noqa: S608
SELECT_SENT = f"""
({_OF_BODY} AND t.succeeded ORDER BY t.logical_time DESC LIMIT $2)
UNION ALL
({_OF_BODY} AND NOT t.succeeded ORDER BY t.logical_time DESC LIMIT $2)
"""
SELECT_SENT_BY = f"""
({_OF_BODY} AND t.sender = $3 AND t.succeeded ORDER BY t.logical_time DESC LIMIT $2)
UNION ALL
({_OF_BODY} AND t.sender = $3 AND NOT t.succeeded ORDER BY t.logical_time DESC LIMIT $2)
"""
"""The newest of each end, by an index: however often others sent the same body, so few rows are read."""
SELECT_SEVERAL_SENT = """
SELECT coalesce(min(sender) <> max(sender), false) FROM blockchain_transactions WHERE body_hash = $1
"""
SELECT_TRANSACTION = f"""
SELECT {_COLUMNS}, s.contract_type, s.vault_id, 'transaction' AS matched
FROM blockchain_transactions t LEFT JOIN blockchain_sync_state s USING (contract_address)
WHERE t.contract_address = $1 AND t.logical_time = $2
"""  # noqa: S608
SELECT_POLICY_TRANSACTIONS = f"""
SELECT {_COLUMNS}, s.contract_type, s.vault_id, 'transaction' AS matched
FROM blockchain_sync_state s JOIN blockchain_transactions t USING (contract_address)
WHERE s.vault_id = $1 AND (s.contract_address = $2 OR s.contract_type <> $3) AND t.policy_id = $4
    AND t.logical_time >= coalesce((SELECT min(f.logical_time) FROM blockchain_transactions f
        WHERE f.contract_address = $2 AND f.policy_id = $4 AND f.succeeded), 0)
    AND t.logical_time <= coalesce($5::bigint, t.logical_time)
    AND (t.succeeded OR t.sender IN (SELECT o.contract_address FROM blockchain_sync_state o WHERE o.vault_id = $1))
ORDER BY t.logical_time LIMIT $6
"""  # noqa: S608
"""A vault may have had several factories, each with ids of its own, but never two with living policies: what happens
between a policy's purchase and its end is about it. Of failed ones only those the contracts sent each other."""

SELECT_ISSUED_QUOTE = """
SELECT quote_id::text, factory, buyer, deadline, value_nanoton FROM quotes WHERE payload_hash = $1
"""
SELECT_FOLLOWED_UNTIL = """
SELECT greatest(
    (SELECT extract(epoch FROM t.block_time)::float8 FROM blockchain_transactions t WHERE t.contract_address = $1
        ORDER BY t.logical_time DESC LIMIT 1),
    (SELECT extract(epoch FROM s.last_sync_timestamp)::float8 + chain_clock_offset($1) - $2
        FROM blockchain_sync_state s WHERE s.contract_address = $1 AND s.sync_status = 'active'
            AND s.last_synced_lt >= s.head_lt))
"""
SELECT_POLICY_OF = """
SELECT contract_address FROM policies
WHERE vault_id = $1 AND policy_id = $2 AND (closed_lt IS NULL OR closed_lt >= $3) ORDER BY created_lt LIMIT 1
"""


class TransactionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction and what it is to the hash that was asked for (`matched`: transaction, message or payload).

    Amounts in nanoTON; None is what cannot be told. `refunded_to` None is the sender.
    """

    contract_address: str
    contract_type: str | None
    vault_id: str | None
    logical_time: int
    hash: bytes
    in_msg_hash: bytes | None
    body_hash: bytes | None
    block_time: datetime
    op: int | None
    query_id: int | None
    policy_id: int | None
    sender: str | None
    value_nano: int | None
    refunded_nano: int | None
    refunded_to: str | None
    exit_code: int | None
    action_code: int | None
    succeeded: bool
    bounced: bool
    matched: str

    @classmethod
    def from_row(cls, row: Record) -> TransactionRow:
        """From a row of the selects above."""
        query_id = row["query_id"]
        return cls(**{**row, "query_id": None if query_id is None else int(query_id)})


class IssuedQuote(msgspec.Struct, frozen=True, kw_only=True):
    """A quote a buyer was handed: the message to `factory` is to carry `value_nanoton` before `deadline` (unix seconds
    of the chain's clock)."""

    quote_id: int
    factory: str
    buyer: str
    deadline: int
    value_nanoton: int


async def insert_transactions(conn: Connection, batches: Sequence[ContractBatch]) -> None:
    """Record every transaction of these batches that a chain made; one that is recorded already stays as it is."""
    rows = [
        _transaction_row(batch.contract, transaction)
        for batch in batches
        if batch.contract_kind != DIRECT_KIND
        for transaction in batch.transactions
    ]
    if rows:
        await conn.execute(INSERT_TRANSACTIONS, *(list(column) for column in zip(*rows, strict=True)))


def _transaction_row(contract: str, transaction: DecodedTransaction) -> tuple[object, ...]:
    facts = transaction.facts
    return (
        contract,
        transaction.cursor.lt,
        transaction.cursor.hash,
        transaction.block_time,
        transaction.succeeded,
        facts.in_msg_hash,
        facts.body_hash,
        facts.op,
        None if facts.query_id is None else str(facts.query_id),
        facts.policy_id,
        facts.sender,
        facts.value,
        facts.refunded,
        facts.refunded_to,
        facts.exit_code,
        facts.action_code,
        facts.bounced,
    )


async def select_matches(conn: Connection, hash_: bytes) -> list[TransactionRow]:
    """The transactions of this hash, then of this incoming message: at most MAX_MATCHES of each."""
    rows = await conn.fetch(SELECT_MATCHES, hash_, MAX_MATCHES)
    return [TransactionRow.from_row(row) for row in rows]


async def select_sent(conn: Connection, body_hash: bytes, sender: str | None) -> list[TransactionRow]:
    """The transactions on this body, newest first: the newest MAX_MATCHES that succeeded and as many that did not.
    `sender`: only that one's, however many others there are."""
    if sender is None:
        rows = await conn.fetch(SELECT_SENT, body_hash, MAX_MATCHES)
    else:
        rows = await conn.fetch(SELECT_SENT_BY, body_hash, MAX_MATCHES, sender)
    return sorted((TransactionRow.from_row(row) for row in rows), key=lambda row: row.logical_time, reverse=True)


async def select_several_sent(conn: Connection, body_hash: bytes) -> bool:
    """Whether more than one sender sent this body."""
    several: bool = await conn.fetchval(SELECT_SEVERAL_SENT, body_hash)
    return several


async def select_transaction(conn: Connection, contract: str, lt: int) -> TransactionRow | None:
    """One transaction of a contract; None when it is not recorded."""
    row = await conn.fetchrow(SELECT_TRANSACTION, contract, lt)
    return None if row is None else TransactionRow.from_row(row)


async def select_policy_transactions(
    conn: Connection, *, vault_id: str, factory: str, policy_id: int, closed_lt: int | None
) -> list[TransactionRow]:
    """What factory and vault did about a policy, oldest first, the oldest MAX_OF_POLICY; `closed_lt` is its end."""
    rows = await conn.fetch(
        SELECT_POLICY_TRANSACTIONS, vault_id, factory, FACTORY_KIND, policy_id, closed_lt, MAX_OF_POLICY
    )
    return [TransactionRow.from_row(row) for row in rows]


async def select_issued_quote(conn: Connection, payload_hash: bytes) -> IssuedQuote | None:
    """The quote with this payload, while its receipt is kept."""
    row = await conn.fetchrow(SELECT_ISSUED_QUOTE, payload_hash)
    return None if row is None else IssuedQuote(**{**row, "quote_id": int(row["quote_id"])})


async def select_followed_until(conn: Connection, contract: str) -> float | None:
    """The moment of the chain's clock (unix seconds) up to which all of a contract is in the ledger: its newest
    transaction, or the last look that found nothing new. None before the first."""
    found: float | None = await conn.fetchval(SELECT_FOLLOWED_UNTIL, contract, _COMMITTED_S)
    return found


async def select_factory_of(conn: Connection, vault_id: str, policy_id: int, lt: int) -> str | None:
    """The factory whose policy of this id was not over at a logical time; None when there is none."""
    found: str | None = await conn.fetchval(SELECT_POLICY_OF, vault_id, policy_id, lt)
    return found
