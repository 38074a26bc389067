"""Messages in quarantine, and those of them that became events of the log after all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from tonsurance.core.catalog import tranche_id_on_chain
from tonsurance.core.events import DIRECT_KIND, ChainEvent
from tonsurance.db.pool import Connection
from tonsurance.db.shadow import LATE_EVENTS, SHADOW, STATEMENT_TIMEOUT_S, Place

SELECT_DECODED_CONTRACTS = """
SELECT s.contract_address AS address, s.contract_type AS kind, s.vault_id, f.layout
FROM blockchain_sync_state s LEFT JOIN followed_contracts f USING (contract_address)
WHERE s.contract_type <> $1 AND ($2::text IS NULL OR s.contract_address = $2)
ORDER BY s.vault_id, s.contract_type, s.contract_address
"""
_KEPT_COLUMNS = """
    logical_time AS lt, message_index, decode(transaction_hash, 'hex') AS hash, raw_body,
    extract(epoch FROM block_time)::bigint AS block_time, policy_id
"""
SELECT_QUARANTINED = f"""
SELECT quarantine_id AS row_id, reason AS told, {_KEPT_COLUMNS} FROM blockchain_quarantine
WHERE contract_address = $1 AND resolved_at IS NULL AND (logical_time, message_index) > ($2, $3)
ORDER BY logical_time, message_index LIMIT $4
"""  # noqa: S608 - the columns are this module's, here and below
SELECT_LOGGED = f"""
SELECT event_id AS row_id, metadata::text AS told, {_KEPT_COLUMNS} FROM blockchain_events
WHERE contract_address = $1 AND (logical_time, message_index) > ($2, $3)
ORDER BY logical_time, message_index LIMIT $4
"""  # noqa: S608
_INSERT_LATE = """
INSERT INTO {table} (contract_address, logical_time, message_index, contract_type, event_type, policy_id,
    transaction_hash, metadata, raw_body, decoder, block_time, ledger_version, params_version)
SELECT contract, lt, message_index, kind, event_type, policy_id, encode(hash, 'hex'), metadata, raw_body, decoder,
    to_timestamp(block_time), coalesce(near.ledger_version, $12), coalesce(near.params_version, $13)
FROM unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::jsonb[],
    $9::bytea[], $10::text[], $11::bigint[])
    AS new (contract, lt, message_index, kind, event_type, policy_id, hash, metadata, raw_body, decoder, block_time)
LEFT JOIN LATERAL (
    (SELECT ledger_version, params_version, CASE logical_time WHEN new.lt THEN 0 ELSE 2 END AS choice
    FROM {live}.blockchain_events e
    WHERE contract_address = new.contract AND (e.logical_time, e.message_index) < (new.lt, new.message_index)
    ORDER BY e.logical_time DESC, e.message_index DESC LIMIT 1)
    UNION ALL
    (SELECT ledger_version, params_version, CASE logical_time WHEN new.lt THEN 1 ELSE 3 END
    FROM {live}.blockchain_events e
    WHERE contract_address = new.contract AND (e.logical_time, e.message_index) > (new.lt, new.message_index)
    ORDER BY e.logical_time, e.message_index LIMIT 1)
    ORDER BY choice LIMIT 1
) near ON true
ORDER BY block_time, contract, lt, message_index
"""
"""A late event has the versions of its transaction, else of the transaction before it: those it would have got."""

_MOVE_LATE = """
INSERT INTO {live}.blockchain_events ({columns}) SELECT {columns} FROM {shadow}.{late} ORDER BY event_id
"""
SELECT_LATE_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = 'blockchain_events'::regclass AND attnum > 0 AND NOT attisdropped
    AND attname NOT IN ('event_id', 'created_at')
"""
UPDATE_RESOLVED = """
UPDATE blockchain_quarantine q SET resolved_at = now(), resolved_by = done.resolved_by
FROM unnest($1::bigint[], $2::text[]) AS done (quarantine_id, resolved_by)
WHERE q.quarantine_id = done.quarantine_id AND q.resolved_at IS NULL
"""
INSERT_CORRECTION = """
INSERT INTO ledger_adjustments (rebuild_id, vault_id, relation, action, contract_address, logical_time, message_index,
    tranche_id, row_after, reason)
VALUES ($1, $2, 'blockchain_events', 'adjust', $3, $4, $5, $6, $7::text::jsonb, $8)
"""
UPDATE_SYNCED_COUNTS = """
UPDATE blockchain_sync_state s SET total_events_synced = total_events_synced + late.events
FROM unnest($1::text[], $2::bigint[]) AS late (contract, events) WHERE s.contract_address = late.contract
"""


class DecodedContract(msgspec.Struct, frozen=True, kw_only=True):
    """A contract whose messages are kept; `layout` is the one it is followed with, where that was said."""

    address: str
    kind: str
    vault_id: str
    layout: str | None


class KeptMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A row with the bytes of its message. `told` is, in the log, the event's fields as JSON text, and in quarantine
    the reason it is there."""

    row_id: int
    told: str
    lt: int
    message_index: int
    hash: bytes
    raw_body: bytes
    block_time: int
    policy_id: int | None

    @property
    def place(self) -> Place:
        """Where it stands in its contract's history."""
        return Place(self.lt, self.message_index)


async def select_decoded_contracts(conn: Connection, contract: str | None) -> list[DecodedContract]:
    """The contracts of a chain that are or were followed; or the one that is named, if it is among them."""
    rows = await conn.fetch(SELECT_DECODED_CONTRACTS, DIRECT_KIND, contract)
    return [DecodedContract(**dict(row)) for row in rows]


async def select_quarantined(conn: Connection, contract: str, after: Place, limit: int) -> list[KeptMessage]:
    """Messages that still wait, after a place of the contract's history, in their order."""
    rows = await conn.fetch(SELECT_QUARANTINED, contract, after.lt, after.message_index, limit)
    return [KeptMessage(**dict(row)) for row in rows]


async def select_logged(conn: Connection, contract: str, after: Place, limit: int) -> list[KeptMessage]:
    """Events of the log with their messages, after a place of the contract's history, in their order."""
    rows = await conn.fetch(SELECT_LOGGED, contract, after.lt, after.message_index, limit)
    return [KeptMessage(**dict(row)) for row in rows]


async def plan_late_events(
    conn: Connection, live: str, events: Sequence[ChainEvent], version: int, params_version: int
) -> None:
    """Let the shadow's log hold these, and nothing else that the live one does not. The versions are for events of
    a contract that has no other."""
    table = f"{SHADOW}.{LATE_EVENTS}"
    await conn.execute(f"TRUNCATE {table}")
    if events:
        columns = (list(column) for column in zip(*map(_event_row, events), strict=True))
        sql = _INSERT_LATE.format(table=table, live=live)
        await conn.execute(sql, *columns, version, params_version, timeout=STATEMENT_TIMEOUT_S)


async def post_late_events(conn: Connection, live: str, events: Sequence[ChainEvent]) -> None:
    """Let the live log hold what was planned; `events` are those that contracts told, and count as read. The cursors
    stay where they are."""
    columns = await conn.fetchval(SELECT_LATE_COLUMNS)
    sql = _MOVE_LATE.format(live=live, shadow=SHADOW, late=LATE_EVENTS, columns=columns)
    await conn.execute(sql, timeout=STATEMENT_TIMEOUT_S)
    await conn.execute(f"TRUNCATE {SHADOW}.{LATE_EVENTS}")
    counts = Counter(event.contract for event in events)
    await conn.execute(UPDATE_SYNCED_COUNTS, list(counts), list(counts.values()))


async def journal_correction(conn: Connection, rebuild_id: int, vault_id: str, event: ChainEvent, why: str) -> None:
    """Write down an event that no contract told, where reconciliations look for such events."""
    tranche_id = tranche_id_on_chain(getattr(event.body, "tranche_id", 0))
    text = msgspec.json.encode(event).decode()
    place = (event.contract, event.lt, event.message_index)
    await conn.execute(INSERT_CORRECTION, rebuild_id, vault_id, *place, tranche_id, text, why)


async def resolve_messages(conn: Connection, resolved: Sequence[tuple[int, str]]) -> None:
    """These do not wait any more; each with what it is, and by which layout."""
    ids, by = (list(column) for column in zip(*resolved, strict=True))
    await conn.execute(UPDATE_RESOLVED, ids, by, timeout=STATEMENT_TIMEOUT_S)


def _event_row(event: ChainEvent) -> tuple[object, ...]:
    return (
        event.contract,
        event.lt,
        event.message_index,
        event.contract_kind,
        event.event_type,
        getattr(event.body, "policy_id", None),
        event.transaction_hash,
        msgspec.json.encode(event.body).decode(),
        event.raw_body,
        event.decoder,
        event.block_time,
    )
