"""Posting to the ledger: everything a group of batches changes, in one database transaction.

Transactions and events if new, their entries, one history row per event and tranche, the tranche snapshot, policies,
quarantine and the contracts' cursors become visible together with one ledger version and one notification, or not at
all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from tonsurance.core.errors import CursorConflict, LedgerError, LedgerRefused, WriterFenced
from tonsurance.core.events import ChainEvent, ContractBatch, Cursor, DecodedTransaction, Undecoded
from tonsurance.core.params import Params
from tonsurance.db.folding import Posting, fold_events
from tonsurance.db.pool import Connection
from tonsurance.db.sifting import sift_batches
from tonsurance.db.transactions import insert_transactions

CHANNEL = "tonsurance_ledger"
"""Notification channel of publish_version(); the payload is `{"v": <ledger version>}`."""

WRITER_LOCK = 0x746F6E5F77726974  # "ton_writ"
_REASON_LIMIT = 500

SELECT_LEDGER_VERSION = "SELECT version FROM ledger_head"
TRY_WRITER_LOCK = "SELECT pg_try_advisory_lock($1)"
TAKE_EPOCH = "SELECT take_writer_epoch()"
LOCK_HEAD = "SELECT version, writer_epoch FROM lock_ledger_head()"
SELECT_CONTRACTS = """
SELECT contract_address, contract_type, vault_id, last_synced_lt, last_synced_hash
FROM blockchain_sync_state WHERE contract_address = ANY($1)
"""
"""Read while the head is locked: only who has its lock moves cursors, totals and policies."""
INSERT_EVENTS = """
INSERT INTO blockchain_events (contract_address, logical_time, message_index, contract_type, event_type, policy_id,
    transaction_hash, metadata, raw_body, decoder, block_time, ledger_version, params_version)
SELECT contract, lt, message_index, kind, event_type, policy_id, encode(hash, 'hex'), metadata, raw_body, decoder,
    to_timestamp(block_time), $12, $13
FROM unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::jsonb[],
    $9::bytea[], $10::text[], $11::bigint[])
    AS new (contract, lt, message_index, kind, event_type, policy_id, hash, metadata, raw_body, decoder, block_time)
ON CONFLICT (contract_address, logical_time, message_index) DO NOTHING
RETURNING contract_address, logical_time, message_index
"""
INSERT_QUARANTINE = """
INSERT INTO blockchain_quarantine (contract_address, logical_time, message_index, transaction_hash, reason, raw_body,
    block_time, policy_id)
SELECT contract, lt, message_index, encode(hash, 'hex'), reason, raw_body, to_timestamp(block_time), policy_id
FROM unnest($1::text[], $2::bigint[], $3::int[], $4::bytea[], $5::text[], $6::bytea[], $7::bigint[], $8::bigint[])
    AS new (contract, lt, message_index, hash, reason, raw_body, block_time, policy_id)
ON CONFLICT (contract_address, logical_time, message_index) DO NOTHING
RETURNING contract_address
"""
MOVE_CURSORS = "SELECT move_cursors($1::text[], $2::bigint[], $3::bytea[], $4::bigint[])"
PUBLISH_VERSION = "SELECT publish_version($1)"
RECORD_ERROR = "SELECT record_fault($1, $2)"

Identity = tuple[str, int, int]


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """What posting one batch did: events new to the ledger (and how many of each type), those it had already, newly
    quarantined messages, and the ledger version at which the result is visible."""

    version: int
    events: int = 0
    duplicates: int = 0
    quarantined: int = 0
    by_type: dict[str, int] = {}


class _Contract(msgspec.Struct):
    kind: str
    vault_id: str
    cursor: Cursor
    events: int = 0


async def select_ledger_version(conn: Connection) -> int:
    """The version of the newest posted events."""
    version: int = await conn.fetchval(SELECT_LEDGER_VERSION)
    return version


async def take_ledger(conn: Connection) -> int:
    """Become the only writer for as long as this connection lives; returns the epoch to post with.

    Raises WriterFenced when another connection is the writer.
    """
    if not await conn.fetchval(TRY_WRITER_LOCK, WRITER_LOCK):
        raise WriterFenced
    epoch: int = await conn.fetchval(TAKE_EPOCH)
    return epoch


async def post_batches(
    conn: Connection, batches: Sequence[ContractBatch], params: Params, epoch: int | None
) -> tuple[Posted, ...]:
    """Post all batches in one transaction, or none of them. `epoch` is the writer's; None for updates of direct
    vaults, which come from no chain and have no one writer.

    Raises CursorConflict when a batch does not start at its contract's stored cursor, LedgerRefused when an event
    would break the ledger, WriterFenced when another writer took over, LedgerError for an unknown contract.
    """
    async with conn.transaction():
        version = await _lock_head(conn, epoch)
        contracts = await _read_contracts(conn, {batch.contract for batch in batches})
        for batch in batches:
            _follow(contracts[batch.contract], batch)
        await insert_transactions(conn, batches)
        batches = await sift_batches(conn, batches)
        fresh = await _insert_events(conn, batches, version + 1, params)
        if fresh:
            version += 1
            await fold_events(conn, [_posting(event, contracts, version) for event in fresh.values()], params)
        quarantined = await _insert_quarantine(conn, batches)
        posted = _count(batches, fresh, quarantined, contracts, version)
        await _move_cursors(conn, contracts)
        if fresh:
            await conn.execute(PUBLISH_VERSION, version)
    return posted


async def record_error(conn: Connection, contract: str, message: str, epoch: int) -> None:
    """Mark a contract as stopped by an error, for people to see. Raises WriterFenced."""
    async with conn.transaction():
        await _lock_head(conn, epoch)
        await conn.execute(RECORD_ERROR, contract, message)


async def _lock_head(conn: Connection, epoch: int | None) -> int:
    head = await conn.fetchrow(LOCK_HEAD)
    if head is None:
        raise LedgerError("The ledger has no head row.")
    if epoch is not None and head["writer_epoch"] != epoch:
        raise WriterFenced
    version: int = head["version"]
    return version


async def _read_contracts(conn: Connection, addresses: set[str]) -> dict[str, _Contract]:
    rows = await conn.fetch(SELECT_CONTRACTS, sorted(addresses))
    found = {
        row["contract_address"]: _Contract(
            row["contract_type"], row["vault_id"], Cursor(row["last_synced_lt"], row["last_synced_hash"])
        )
        for row in rows
    }
    if missing := addresses - found.keys():
        raise LedgerError(f"The contract {min(missing)} is not registered.")
    return found


def _follow(contract: _Contract, batch: ContractBatch) -> None:
    """Compare-and-set of the cursor: the batch must start exactly where the contract stands, and go forward."""
    if batch.after != contract.cursor:
        raise CursorConflict(
            f"{batch.contract} stands at logical time {contract.cursor.lt}; the batch starts at {batch.after.lt}."
        )
    for transaction in batch.transactions:
        if transaction.cursor.lt <= contract.cursor.lt:
            raise CursorConflict(f"Transactions of {batch.contract} are out of order at {transaction.cursor.lt}.")
        contract.cursor = transaction.cursor
        if any((e.contract, e.lt) != (batch.contract, transaction.cursor.lt) for e in transaction.events):
            raise LedgerRefused(f"An event of another transaction stands in {batch.contract} at {contract.cursor.lt}.")


async def _insert_events(
    conn: Connection, batches: Sequence[ContractBatch], version: int, params: Params
) -> dict[Identity, ChainEvent]:
    """Store the events and return those that were not there yet, in the order they happened."""
    events = [event for batch in batches for transaction in batch.transactions for event in transaction.events]
    if not events:
        return {}
    columns = (list(column) for column in zip(*map(_event_row, events), strict=True))
    inserted = {tuple(row) for row in await conn.fetch(INSERT_EVENTS, *columns, version, params.version)}
    fresh: dict[Identity, ChainEvent] = {}
    for event in events:
        identity = _identity(event)
        if identity in inserted:
            fresh.setdefault(identity, event)
    return fresh


def _identity(event: ChainEvent) -> Identity:
    return (event.contract, event.lt, event.message_index)


def _posting(event: ChainEvent, contracts: dict[str, _Contract], version: int) -> Posting:
    contract = contracts[event.contract]
    return Posting(event=event, kind=contract.kind, vault_id=contract.vault_id, version=version)


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


async def _insert_quarantine(conn: Connection, batches: Sequence[ContractBatch]) -> Counter[str]:
    """Keep the messages nobody could decode; returns how many of each contract are new."""
    rows = [
        _quarantine_row(batch.contract, transaction, message)
        for batch in batches
        for transaction in batch.transactions
        for message in transaction.undecoded
    ]
    if not rows:
        return Counter()
    columns = (list(column) for column in zip(*rows, strict=True))
    return Counter(row["contract_address"] for row in await conn.fetch(INSERT_QUARANTINE, *columns))


def _quarantine_row(contract: str, transaction: DecodedTransaction, message: Undecoded) -> tuple[object, ...]:
    return (
        contract,
        transaction.cursor.lt,
        message.message_index,
        transaction.cursor.hash,
        message.reason.replace("\x00", "")[:_REASON_LIMIT],  # PostgreSQL text cannot hold a zero byte
        message.raw_body,
        transaction.block_time,
        message.policy_id,
    )


def _count(
    batches: Sequence[ContractBatch],
    fresh: dict[Identity, ChainEvent],
    quarantined: Counter[str],
    contracts: dict[str, _Contract],
    version: int,
) -> tuple[Posted, ...]:
    """What each batch added. Takes each new event once, so that a doubled one counts for the first batch alone."""
    left = dict(fresh)
    posted = []
    for batch in batches:
        events = [event for transaction in batch.transactions for event in transaction.events]
        new = [event for event in events if left.pop(_identity(event), None) is not None]
        contracts[batch.contract].events += len(new)
        posted.append(
            Posted(
                version=version,
                events=len(new),
                duplicates=len(events) - len(new),
                quarantined=quarantined.pop(batch.contract, 0),
                by_type=dict(Counter(event.event_type for event in new)),
            )
        )
    return tuple(posted)


async def _move_cursors(conn: Connection, contracts: dict[str, _Contract]) -> None:
    rows = [(address, c.cursor.lt, c.cursor.hash, c.events) for address, c in contracts.items()]
    await conn.execute(MOVE_CURSORS, *(list(column) for column in zip(*rows, strict=True)))
