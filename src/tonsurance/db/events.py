"""Chain events, the cursors of the contracts they come from, and what could not be decoded."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tonsurance.core.errors import InputError
from tonsurance.core.events import Cursor
from tonsurance.db.pool import Connection, Record

MAX_EVENTS = 500
"""Most events one select returns."""

_EVENT_COLUMNS = """
    event_id, event_type, policy_id, contract_address, contract_type, transaction_hash, logical_time, message_index,
    metadata, decoder, block_time, ledger_version, created_at
"""

SELECT_EVENTS = f"SELECT {_EVENT_COLUMNS} FROM blockchain_events"  # noqa: S608 - the columns are this module's
SELECT_EVENTS_SINCE = f"""
SELECT {_EVENT_COLUMNS} FROM blockchain_events
WHERE ledger_version > $1 ORDER BY ledger_version, event_id LIMIT $2
"""  # noqa: S608
_FILTERED = ("contract_address", "event_type", "transaction_hash", "policy_id")

SELECT_CURSOR = "SELECT last_synced_lt, last_synced_hash FROM blockchain_sync_state WHERE contract_address = $1"
SELECT_SYNC_STATES = """
SELECT contract_address, contract_type, vault_id, last_synced_lt, last_synced_hash, head_lt, last_sync_timestamp,
    sync_status, error_message, total_events_synced
FROM blockchain_sync_state s WHERE contract_type <> 'DirectVault' -- follows no chain
    AND NOT EXISTS (SELECT FROM followed_contracts f
        WHERE f.contract_address = s.contract_address AND f.wanted = 'removed')
ORDER BY vault_id, contract_type, contract_address
"""
ADD_CONTRACT = "SELECT add_contract($1, $2, $3)"
SELECT_VAULT_SOURCE = "SELECT source FROM vaults WHERE vault_id = $1"
SELECT_CONTRACT = "SELECT contract_type, vault_id FROM blockchain_sync_state WHERE contract_address = $1"
RECORD_HEAD = "SELECT record_head($1, $2)"
RECORD_FAULT = "SELECT record_fault($1, $2)"
SELECT_QUARANTINE_COUNT = "SELECT count(*) FROM blockchain_quarantine WHERE resolved_at IS NULL"


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One posted event. `metadata` has its fields, amounts as integers of nanoTON; `event_id` is the paging cursor."""

    event_id: int
    event_type: str
    policy_id: int | None
    contract_address: str
    contract_type: str
    transaction_hash: str
    logical_time: int
    message_index: int
    metadata: dict[str, Any]
    decoder: str
    block_time: datetime
    ledger_version: int
    created_at: datetime

    @classmethod
    def from_row(cls, row: Record) -> EventRow:
        """From a row of the selects above."""
        return cls(**{**row, "metadata": msgspec.json.decode(row["metadata"])})


class SyncState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a contract was read, and the error that stops it if there is one (`sync_status` is then `error`).

    `head_lt` is the newest transaction seen on chain, None before the first look.
    """

    contract_address: str
    contract_type: str
    vault_id: str
    cursor: Cursor
    head_lt: int | None
    last_sync_timestamp: datetime | None
    sync_status: str
    error_message: str | None
    total_events_synced: int

    @classmethod
    def from_row(cls, row: Record) -> SyncState:
        """From a row of SELECT_SYNC_STATES."""
        values = dict(row)
        cursor = Cursor(values.pop("last_synced_lt"), values.pop("last_synced_hash"))
        return cls(cursor=cursor, **values)


async def select_events(
    conn: Connection,
    *,
    contract: str | None = None,
    event_type: str | None = None,
    transaction: str | None = None,
    policy_id: int | None = None,
    after: int | None = None,
    limit: int = 100,
    newest_first: bool = True,
) -> list[EventRow]:
    """A page of events in posting order. `after` is the event_id of the last row seen; `limit` is cut to MAX_EVENTS.

    `transaction` is a hash as 64 lower-case hexadecimal digits.
    """
    wanted = (contract, event_type, transaction, policy_id)
    given = {column: value for column, value in zip(_FILTERED, wanted, strict=True) if value is not None}
    sql = make_events_statement(tuple(given), paged=after is not None, newest_first=newest_first)
    values = [*given.values(), min(limit, MAX_EVENTS), *([] if after is None else [after])]
    return [EventRow.from_row(row) for row in await conn.fetch(sql, *values)]


def make_events_statement(columns: tuple[str, ...], *, paged: bool, newest_first: bool) -> str:
    """The statement with just these conditions, so that each combination is planned with the index it can use.

    Its values are the columns' in this order, then the limit, then, when `paged`, the last event_id seen.
    """
    conditions = [f"{column} = ${place}" for place, column in enumerate(columns, 1)]
    if paged:
        conditions.append(f"event_id {'<' if newest_first else '>'} ${len(columns) + 2}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"{SELECT_EVENTS}{where} ORDER BY event_id{' DESC' if newest_first else ''} LIMIT ${len(columns) + 1}"


async def select_events_since(conn: Connection, version: int, limit: int = MAX_EVENTS) -> list[EventRow]:
    """The oldest events posted after a ledger version. A full page may end inside a version: go on by event_id."""
    rows = await conn.fetch(SELECT_EVENTS_SINCE, version, min(limit, MAX_EVENTS))
    return [EventRow.from_row(row) for row in rows]


async def select_cursor(conn: Connection, contract: str) -> Cursor | None:
    """The last applied transaction of a contract; None when the contract is not registered."""
    row = await conn.fetchrow(SELECT_CURSOR, contract)
    return None if row is None else Cursor(row["last_synced_lt"], row["last_synced_hash"])


async def select_sync_states(conn: Connection) -> list[SyncState]:
    """Every registered contract on a chain, but for those people removed."""
    return [SyncState.from_row(row) for row in await conn.fetch(SELECT_SYNC_STATES)]


async def record_head(conn: Connection, contract: str, head_lt: int) -> None:
    """Note that the chain was read up to the newest transaction of the contract there, and nothing was wrong."""
    await conn.execute(RECORD_HEAD, contract, head_lt)


async def record_fault(conn: Connection, contract: str, message: str) -> None:
    """Note what is wrong with the contract's history as the chain serves it now, for people to see."""
    await conn.execute(RECORD_FAULT, contract, message)


async def select_quarantine_count(conn: Connection) -> int:
    """How many messages wait because they could not be decoded."""
    count: int = await conn.fetchval(SELECT_QUARANTINE_COUNT)
    return count


async def register_contract(conn: Connection, contract: str, kind: str, vault_id: str) -> None:
    """Make a contract known, and its vault if need be; the same again changes nothing.

    Raises InputError when the contract or the vault is known otherwise, and changes nothing then.
    """
    async with conn.transaction():
        await conn.execute(ADD_CONTRACT, contract, kind, vault_id)
        if await conn.fetchval(SELECT_VAULT_SOURCE, vault_id) != "chain":
            raise InputError(f"Vault {vault_id} does not follow a contract: its amounts are set by API calls.")
        known = await conn.fetchrow(SELECT_CONTRACT, contract)
        if known is None:
            raise InputError(f"Vault {vault_id} has another {kind} already.")
        if (known["contract_type"], known["vault_id"]) != (kind, vault_id):
            raise InputError(f"{contract} is known as the {known['contract_type']} of vault {known['vault_id']}.")
