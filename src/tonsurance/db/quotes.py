"""Receipts in the database: quotes with a buyer as they were handed out, what became of them, and how they go.

A row never changes. JSON crosses this layer as text: it is compared and hashed byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

import msgspec

from tonsurance.db.pool import Connection, Record

_TYPES = {
    "payload_hash": "bytea",
    "network_id": "int",
    "factory": "text",
    "buyer": "text",
    "coverage_type": "smallint",
    "chain_id": "smallint",
    "stablecoin_id": "smallint",
    "amount_usd": "numeric",
    "days": "int",
    "trigger_bps": "int",
    "floor_bps": "int",
    "list_price": "text",
    "list_premium_nanoton": "bigint",
    "coverage_nanoton": "bigint",
    "premium_nanoton": "bigint",
    "raised_to": "text",
    "value_nanoton": "bigint",
    "technical": "text",
    "market": "text",
    "capacity": "text",
    "sufficient": "boolean",
    "on_sale": "text",
    "seen_at": "text",
    "price_asset": "text",
    "price_usd": "numeric",
    "price_source": "text",
    "price_observed_at": "float8",
    "params_version": "bigint",
    "params_hash": "text",
    "code_version": "text",
    "issued_at": "float8",
    "chain_offset_s": "float8",
    "deadline": "bigint",
    "waiting_period_s": "int",
    "signature": "bytea",
    "public_key": "bytea",
    "body": "bytea",
    "seal": "bytea",
}
"""Every column but the id and what the database makes itself, in the order of QuoteRow."""
_COLUMNS = ", ".join(_TYPES)
_ARRAYS = ", ".join(f"${place}::{name}[]" for place, name in enumerate(_TYPES.values(), 2))

INSERT_QUOTES = f"""
INSERT INTO quotes (quote_id, {_COLUMNS})
SELECT id::numeric, {_COLUMNS} FROM unnest($1::text[], {_ARRAYS}) AS new (id, {_COLUMNS})
ON CONFLICT DO NOTHING RETURNING quote_id::text
"""  # noqa: S608 - constants of this module, here and below
SELECT_QUOTE = f"SELECT quote_id::text, {_COLUMNS} FROM quotes WHERE quote_id = $1::text::numeric"  # noqa: S608
SELECT_QUOTE_FATE = """
SELECT p.policy_id, p.status AS policy_status, p.transaction_hash AS policy_transaction,
    r.transaction_hash AS refusal_transaction, r.reason AS refusal_reason,
    q.deadline <= greatest(extract(epoch FROM clock_timestamp())::float8 + chain_clock_offset(q.factory), h.head)
        AS late
FROM quotes q
LEFT JOIN LATERAL (
    SELECT extract(epoch FROM t.block_time)::float8 AS head FROM blockchain_transactions t
    WHERE t.contract_address = q.factory ORDER BY t.logical_time DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (
    SELECT p.policy_id, p.status, e.transaction_hash FROM policies p
    LEFT JOIN blockchain_events e ON (e.contract_address, e.logical_time, e.message_index)
        = (p.contract_address, p.created_lt, p.created_message_index)
    WHERE p.quote_id = q.quote_id AND p.contract_address = q.factory ORDER BY p.created_lt LIMIT 1) p ON true
LEFT JOIN LATERAL (
    SELECT e.transaction_hash, (e.metadata ->> 'reason')::bigint AS reason FROM blockchain_events e
    WHERE e.event_type = 'PolicyRefused' AND (e.metadata ->> 'quote_id')::numeric = q.quote_id
        AND e.contract_address = q.factory ORDER BY e.logical_time LIMIT 1) r ON true
WHERE q.quote_id = $1::text::numeric
"""
SELECT_CONVERSION = """
SELECT day, coverage_type, chain_id, issued, bought, refused FROM v_quote_conversion
WHERE day >= $1 AND day <= $2 ORDER BY day, coverage_type, chain_id
"""
SELECT_CONVERSION_SUMS = """
SELECT coverage_type, chain_id, sum(issued)::bigint AS issued, sum(bought)::bigint AS bought,
    sum(refused)::bigint AS refused
FROM v_quote_conversion WHERE day >= $1 AND day < $2 GROUP BY coverage_type, chain_id ORDER BY coverage_type, chain_id
"""
SELECT_FORGOTTEN = """
SELECT looked_at, unused, bought, last_deadline, last_id::text AS last_id
FROM forget_quotes($1, $2, $3, $4::text::numeric, $5)
"""


class QuoteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of quotes. Amounts are nanoTON, `deadline` unix seconds of the chain's clock, the other times of ours."""

    quote_id: int
    payload_hash: bytes
    network_id: int
    factory: str
    buyer: str
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    amount_usd: Decimal
    days: int
    trigger_bps: int
    floor_bps: int
    list_price: str
    list_premium_nanoton: int
    coverage_nanoton: int
    premium_nanoton: int
    raised_to: str | None
    value_nanoton: int
    technical: str
    market: str
    capacity: str
    sufficient: bool
    on_sale: str
    seen_at: str
    price_asset: str
    price_usd: Decimal
    price_source: str
    price_observed_at: float
    params_version: int
    params_hash: str
    code_version: str
    issued_at: float
    chain_offset_s: float
    deadline: int
    waiting_period_s: int | None
    signature: bytes
    public_key: bytes
    body: bytes
    seal: bytes


class QuoteFate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a quote by now: the policy it bought, or the vault's refusal, each with the transaction that said
    so; `late` once its deadline has passed by the chain's clock as it is known, or by its factory's newest
    transaction, which may be the one that refused it."""

    policy_id: int | None
    policy_status: str | None
    policy_transaction: str | None
    refusal_transaction: str | None
    refusal_reason: int | None
    late: bool


class ConversionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Quotes issued on a day (UTC) for a coverage type and a chain, how many became policies and how many the vault
    refused."""

    day: date
    coverage_type: int
    chain_id: int
    issued: int
    bought: int
    refused: int


class ConversionSum(msgspec.Struct, frozen=True, kw_only=True):
    """The same of many days."""

    coverage_type: int
    chain_id: int
    issued: int
    bought: int
    refused: int


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the retention: receipts looked at, those of them that went, and the last one looked at."""

    looked_at: int
    unused: int
    bought: int
    last_deadline: int | None
    last_id: str | None


async def insert_quotes(conn: Connection, rows: Sequence[QuoteRow]) -> set[int]:
    """Store receipts in one statement; returns the ids stored. One whose id or payload is there already is not. No two
    of `rows` may have one id."""
    if not rows:
        return set()
    columns: Iterable[list[object]] = map(list, zip(*map(msgspec.structs.astuple, rows), strict=True))
    ids, *others = columns
    return {int(row["quote_id"]) for row in await conn.fetch(INSERT_QUOTES, list(map(str, ids)), *others)}


async def select_quote(conn: Connection, quote_id: int) -> QuoteRow | None:
    """One receipt; None: there is none of this id."""
    row = await conn.fetchrow(SELECT_QUOTE, str(quote_id))
    return None if row is None else _row_of(row)


async def select_quote_fate(conn: Connection, quote_id: int) -> QuoteFate | None:
    """What became of a quote; None: there is no receipt of it."""
    row = await conn.fetchrow(SELECT_QUOTE_FATE, str(quote_id))
    return None if row is None else QuoteFate(**dict(row))


async def select_conversion(conn: Connection, first: date, last: date) -> tuple[ConversionRow, ...]:
    """Figures of the days from `first` to `last`, both included; days without a quote are left out."""
    return tuple(ConversionRow(**dict(row)) for row in await conn.fetch(SELECT_CONVERSION, first, last))


async def select_conversion_sums(conn: Connection, first: date, end: date) -> tuple[ConversionSum, ...]:
    """Figures of the days from `first` and before `end` together."""
    return tuple(ConversionSum(**dict(row)) for row in await conn.fetch(SELECT_CONVERSION_SUMS, first, end))


async def forget_quotes(
    conn: Connection, unused_days: int, bought_days: int, after: tuple[int, str], most: int
) -> Forgotten:
    """Delete what may go of the next `most` receipts after (deadline, id). Raises the driver's error for days below 1,
    or below 0 for those that were bought (0: they stay for ever)."""
    deadline, quote_id = after
    [row] = await conn.fetch(SELECT_FORGOTTEN, unused_days, bought_days, deadline, quote_id, most)
    return Forgotten(**dict(row))


def _row_of(row: Record) -> QuoteRow:
    fields = dict(row)
    fields["quote_id"] = int(fields["quote_id"])
    return QuoteRow(**fields)
