"""SQL of the reconciliation: windows of the ledger to hold against the chain, and repairs, each in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import ChainEvent
from tonsurance.core.ledger import Entry, Totals
from tonsurance.db.audits import Followed, select_followed
from tonsurance.db.pool import Connection, Record

LAST_LT = 2**63 - 1
FIRST_ADJUSTED = 1_000_000
"""Message indexes of adjustments begin here: after all that a transaction can have."""

_SYNC_LOCK = 0x746F6E5F73796E63  # "ton_sync"
_ADJUSTED = msgspec.json.Decoder(ChainEvent)

TRY_SYNC_LOCK = "SELECT pg_try_advisory_lock($1::bigint # hashtextextended($2::text, 0))"
SELECT_HEAD = "SELECT version FROM lock_ledger_head()"
SELECT_LOG = """
SELECT event_id, event_type, policy_id, contract_type, transaction_hash, logical_time AS lt, message_index, metadata,
    raw_body, decoder, block_time, ledger_version, params_version
FROM blockchain_events WHERE contract_address = $1 AND logical_time > $2 AND logical_time <= $3
ORDER BY logical_time, message_index
"""
_ENTRY_COLUMNS = """
    contract_address AS contract, vault_id, tranche_id, logical_time AS lt, message_index,
    capital_delta_nanoton AS capital, coverage_delta_nanoton AS coverage, unearned_delta_nanoton AS unearned,
    earned_delta_nanoton AS earned, loss_delta_nanoton AS losses, shares_delta::text AS shares, ledger_version
"""
SELECT_WINDOW_ENTRIES = f"""
SELECT {_ENTRY_COLUMNS} FROM ledger_entries WHERE contract_address = $1 AND logical_time > $2 AND logical_time <= $3
ORDER BY logical_time, message_index
"""  # noqa: S608 - the column list is a constant of this module, here and below
SELECT_STRAY_ENTRIES = f"""
SELECT {_ENTRY_COLUMNS} FROM ledger_entries WHERE vault_id = $1 AND contract_address <> $2 ORDER BY entry_id
"""  # noqa: S608
SELECT_WINDOW_HISTORY = """
SELECT tranche_id, logical_time AS lt, message_index, recorded_at, total_capital_nanoton AS capital,
    coverage_sold_nanoton AS coverage, unearned_premium_nanoton AS unearned, earned_premium_nanoton::text AS earned,
    absorbed_losses_nanoton::text AS losses, shares::text AS shares, utilization_ratio AS capped,
    utilization_raw AS raw, insolvent, current_apy AS apy, params_version
FROM tranche_utilization_history
WHERE vault_id = $1 AND tranche_id = ANY($5) AND logical_time > $2 AND logical_time <= $3
    AND recorded_at >= coalesce($4::timestamptz, '-infinity')
ORDER BY logical_time, message_index
"""
SELECT_HORIZON = "SELECT since FROM history_horizon"
SELECT_ADJUSTED = """
SELECT row_after::text FROM ledger_adjustments
WHERE contract_address = $1 AND action = 'adjust' AND logical_time > $2 AND logical_time <= $3
ORDER BY logical_time, message_index
"""
SELECT_DIGEST = """
SELECT
    (SELECT format('%s:%s/%s:%s', count(*) FILTER (WHERE logical_time <= $3),
        bit_xor(hashtextextended(e::text, 0)) FILTER (WHERE logical_time <= $3), count(*),
        bit_xor(hashtextextended(e::text, 0)))
    FROM blockchain_events e WHERE contract_address = $1 AND logical_time <= $4) AS log,
    (SELECT format('%s:%s/%s:%s', count(*) FILTER (WHERE logical_time <= $3),
        bit_xor(hashtextextended(e::text, 0)) FILTER (WHERE logical_time <= $3), count(*),
        bit_xor(hashtextextended(e::text, 0)))
    FROM ledger_entries e WHERE (contract_address = $1 OR vault_id = $2) AND logical_time <= $4) AS entries,
    (SELECT format('%s:%s/%s:%s', count(*) FILTER (WHERE logical_time <= $3),
        bit_xor(hashtextextended(h::text, 0)) FILTER (WHERE logical_time <= $3), count(*),
        bit_xor(hashtextextended(h::text, 0)))
    FROM tranche_utilization_history h WHERE vault_id = $2 AND logical_time <= $4) AS history
"""
SELECT_NEXT_ADJUSTED = """
SELECT greatest(coalesce(max(message_index) + 1, $3), $3) FROM blockchain_events
WHERE contract_address = $1 AND logical_time = $2
"""
REPAIR_EVENT = """
SELECT repair_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11, $12, $13, $14, $15)
"""
REPAIR_ENTRY = "SELECT repair_entry($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::numeric, $14)"
REPAIR_HISTORY = """
SELECT repair_history($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
"""
DROP_STREAMS = "SELECT drop_streams($1, $2, $3, $4)"
REPAIR_SNAPSHOT = "SELECT repair_snapshot($1, $2, $3)"
INSERT_ADJUSTED = """
INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, message_index,
    tranche_id, row_after, reason)
VALUES ($1, $2, 'blockchain_events', 'adjust', $3, $4, $5, $6, $7::text::jsonb, $8)
"""


class LoggedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the event log; `metadata` is JSON text."""

    event_id: int
    event_type: str
    policy_id: int | None
    contract_type: str
    transaction_hash: str
    lt: int
    message_index: int
    metadata: str
    raw_body: bytes
    decoder: str
    block_time: datetime
    ledger_version: int
    params_version: int


class LoggedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the entries."""

    contract: str
    vault_id: str
    lt: int
    message_index: int
    entry: Entry
    ledger_version: int


class PastRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a tranche's history."""

    tranche_id: str
    lt: int
    message_index: int
    recorded_at: datetime
    totals: Totals
    capped: float
    raw: float | None
    insolvent: bool
    apy: float | None
    params_version: int


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger holds of a vault's contract in a range of logical times; of the history only what is kept (from
    `horizon` on)."""

    log: tuple[LoggedEvent, ...]
    adjusted: tuple[ChainEvent, ...]
    entries: tuple[LoggedEntry, ...]
    history: tuple[PastRow, ...]
    horizon: datetime | None


class Digests(msgspec.Struct, frozen=True):
    """Of all rows up to an earlier logical time and up to a later one: they change with any column of any row."""

    earlier: str
    later: str


class EventRepair(msgspec.Struct, frozen=True, kw_only=True):
    """Make a row of the log this event (None: no row). The versions are for a row that is inserted."""

    lt: int
    message_index: int
    event: ChainEvent | None
    ledger_version: int
    params_version: int
    why: str


class EntryRepair(msgspec.Struct, frozen=True, kw_only=True):
    """Make an entry this one (`ledger_version` None: no entry)."""

    contract: str
    lt: int
    message_index: int
    entry: Entry
    ledger_version: int | None
    why: str


async def try_sync_lock(conn: Connection, contract: str) -> bool:
    """Be the only one that reconciles this contract, for as long as the connection lives."""
    taken: bool = await conn.fetchval(TRY_SYNC_LOCK, _SYNC_LOCK, contract)
    return taken


async def read_window(conn: Connection, contract: str, vault_id: str, after: int, until: int) -> Window:
    """Everything with a logical time after `after` up to `until`, of one moment."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await read_rows(conn, contract, vault_id, after, until)


async def read_rows(conn: Connection, contract: str, vault_id: str, after: int, until: int) -> Window:
    """The same inside the caller's transaction."""
    horizon = await conn.fetchval(SELECT_HORIZON)
    past = await conn.fetch(SELECT_WINDOW_HISTORY, vault_id, after, until, horizon, list(TRANCHE_IDS))
    return Window(
        log=tuple(LoggedEvent(**dict(row)) for row in await conn.fetch(SELECT_LOG, contract, after, until)),
        adjusted=tuple(_ADJUSTED.decode(row[0]) for row in await conn.fetch(SELECT_ADJUSTED, contract, after, until)),
        entries=tuple(map(_entry, await conn.fetch(SELECT_WINDOW_ENTRIES, contract, after, until))),
        history=tuple(map(_past, past)),
        horizon=horizon,
    )


async def read_beyond(conn: Connection, contract: str, vault_id: str) -> tuple[Followed | None, Window]:
    """Where the contract stands in the ledger, and what lies beyond that, of one moment: it should be nothing."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        followed = await select_followed(conn, contract)
        place = followed.cursor.lt if followed else LAST_LT
        return followed, await read_rows(conn, contract, vault_id, place, LAST_LT)


async def select_stray_entries(conn: Connection, contract: str, vault_id: str) -> tuple[LoggedEntry, ...]:
    """Entries of the vault under another contract."""
    return tuple(map(_entry, await conn.fetch(SELECT_STRAY_ENTRIES, vault_id, contract)))


async def select_digests(conn: Connection, contract: str, vault_id: str, earlier: int, later: int) -> Digests:
    """Of log, entries and history up to both logical times."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        horizon = await conn.fetchval(SELECT_HORIZON)
        row = await conn.fetchrow(SELECT_DIGEST, contract, vault_id, earlier, later)
    halves = [text.split("/") for text in (row or {}).values()]
    return Digests(*(" ".join([str(horizon), *(half[side] for half in halves)]) for side in (0, 1)))


async def lock_head(conn: Connection) -> int:
    """Take the ledger's write lock for this transaction; returns the version."""
    version: int = await conn.fetchval(SELECT_HEAD)
    return version


async def repair_events(conn: Connection, run_id: int, contract: str, repairs: Sequence[EventRepair]) -> None:
    """Make rows of the log what the chain says. What has no place any more goes first, so that its number is free."""
    ordered = sorted(repairs, key=lambda repair: repair.event is not None)
    await conn.executemany(REPAIR_EVENT, [_event_arguments(run_id, contract, repair) for repair in ordered])


def _event_arguments(run_id: int, contract: str, repair: EventRepair) -> tuple[object, ...]:
    place = (run_id, repair.why, contract, repair.lt, repair.message_index)
    event = repair.event
    if event is None:
        return (*place, *(None,) * 10)
    return (
        *place,
        event.contract_kind,
        event.event_type,
        getattr(event.body, "policy_id", None),
        event.transaction_hash.hex(),
        msgspec.json.encode(event.body).decode(),
        event.raw_body,
        event.decoder,
        event.block_time,
        repair.ledger_version,
        repair.params_version,
    )


async def repair_entries(conn: Connection, run_id: int, vault_id: str, repairs: Sequence[EntryRepair]) -> None:
    """Make entries what their events demand."""
    await conn.executemany(
        REPAIR_ENTRY,
        [
            (
                run_id,
                repair.why,
                vault_id,
                repair.contract,
                repair.lt,
                repair.message_index,
                repair.entry.tranche_id,
                repair.entry.capital,
                repair.entry.coverage,
                repair.entry.unearned,
                repair.entry.earned,
                repair.entry.losses,
                str(repair.entry.shares),
                repair.ledger_version,
            )
            for repair in repairs
        ],
    )


async def repair_history(
    conn: Connection, run_id: int, vault_id: str, drops: Sequence[PastRow], puts: Sequence[PastRow]
) -> None:
    """Drop rows of the history and put others."""
    gone = [(row.tranche_id, row.lt, row.message_index, row.recorded_at) for row in drops]
    new = [_past_arguments(row) for row in puts]
    await conn.execute(REPAIR_HISTORY, run_id, vault_id, *_columns(gone, 4), *_columns(new, 15))


def _past_arguments(row: PastRow) -> tuple[object, ...]:
    totals = row.totals
    return (
        row.tranche_id,
        row.lt,
        row.message_index,
        int(row.recorded_at.timestamp()),
        totals.capital,
        totals.coverage,
        totals.unearned,
        str(totals.earned),
        str(totals.losses),
        str(totals.shares),
        row.capped,
        row.raw,
        row.insolvent,
        row.apy,
        row.params_version,
    )


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[place] for row in rows] for place in range(width)]


async def drop_streams(conn: Connection, run_id: int, vault_id: str, contract: str, from_lt: int) -> None:
    """Drop the premium streams from a logical time on."""
    await conn.execute(DROP_STREAMS, run_id, vault_id, contract, from_lt)


async def repair_snapshot(conn: Connection, run_id: int, vault_id: str) -> int:
    """Make the snapshot the last rows of the history; returns how many rows were not."""
    changed: int = await conn.fetchval(REPAIR_SNAPSHOT, run_id, vault_id, list(TRANCHE_IDS))
    return changed


async def next_adjusted_index(conn: Connection, contract: str, lt: int) -> int:
    """The message index of the next adjustment at a logical time."""
    index: int = await conn.fetchval(SELECT_NEXT_ADJUSTED, contract, lt, FIRST_ADJUSTED)
    return index


async def journal_adjusted(
    conn: Connection, run_id: int, vault_id: str, tranche_id: str, event: ChainEvent, why: str
) -> None:
    """Write down an event that no contract told."""
    text = msgspec.json.encode(event).decode()
    await conn.execute(
        INSERT_ADJUSTED, run_id, vault_id, event.contract, event.lt, event.message_index, tranche_id, text, why
    )


def _entry(row: Record) -> LoggedEntry:
    return LoggedEntry(
        contract=row["contract"],
        vault_id=row["vault_id"],
        lt=row["lt"],
        message_index=row["message_index"],
        entry=Entry(tranche_id=row["tranche_id"], **_amounts(row)),
        ledger_version=row["ledger_version"],
    )


def _past(row: Record) -> PastRow:
    rest = {name: row[name] for name in PastRow.__struct_fields__ if name != "totals"}
    return PastRow(totals=Totals(**_amounts(row)), **rest)


def _amounts(row: Record) -> dict[str, int]:
    return {name: int(row[name]) for name in Totals.__struct_fields__}
