"""Which contracts are followed: what people want of each, beside how far it was read."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.core.errors import InputError
from tonsurance.core.events import VAULT_KIND
from tonsurance.db.pool import Connection

SELECT_FOLLOWED = """
SELECT contract_address, contract_type, vault_id, layout, wanted, revision, note, changed_by, added_at, changed_at
FROM followed_contracts ORDER BY vault_id, contract_type, contract_address
"""
SELECT_CONTRACT_STATES = """
SELECT f.contract_address, f.contract_type, f.vault_id, f.layout, f.wanted, f.note, f.changed_by, f.changed_at,
    coalesce(s.last_synced_lt, 0) AS last_synced_lt, s.head_lt, s.last_sync_timestamp,
    coalesce(s.sync_status, 'new') AS sync_status, s.error_message,
    coalesce(s.total_events_synced, 0) AS total_events_synced
FROM followed_contracts f LEFT JOIN blockchain_sync_state s USING (contract_address)
ORDER BY f.vault_id, f.contract_type, f.contract_address
"""
INSERT_FOLLOWED = """
INSERT INTO followed_contracts (contract_address, contract_type, vault_id, layout, note, changed_by)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING wanted
"""
UPDATE_WANTED = """
UPDATE followed_contracts SET wanted = $2, revision = revision + 1, changed_by = $3, changed_at = now(),
    note = coalesce($4, note)
WHERE contract_address = $1 RETURNING revision
"""
END_BACKFILL = """
UPDATE followed_contracts SET wanted = 'paused', revision = revision + 1, changed_at = now()
WHERE contract_address = $1 AND revision = $2 AND wanted = 'backfill' RETURNING revision
"""
SELECT_WANTED = "SELECT wanted FROM followed_contracts WHERE contract_address = $1 FOR UPDATE"
SELECT_IDENTITY = """
SELECT contract_type, vault_id FROM blockchain_sync_state WHERE contract_address = $1
UNION SELECT contract_type, vault_id FROM followed_contracts WHERE contract_address = $1
"""
SELECT_OTHER_MOVER = """
SELECT contract_address FROM (
    SELECT contract_address, contract_type, vault_id FROM blockchain_sync_state
    UNION SELECT contract_address, contract_type, vault_id FROM followed_contracts
) AS known WHERE vault_id = $1 AND contract_type = $2 AND contract_address <> $3 LIMIT 1
"""
SELECT_SOURCE_OF_VAULT = "SELECT source FROM vaults WHERE vault_id = $1"


class FollowedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A contract and what is wanted of it. `revision` grows with every wish."""

    contract_address: str
    contract_type: str
    vault_id: str
    layout: str
    wanted: str
    revision: int
    note: str
    changed_by: str
    added_at: datetime
    changed_at: datetime


class ContractState(msgspec.Struct, frozen=True, kw_only=True):
    """A contract, what is wanted of it, and how far it was read. `sync_status` is `new` before the first look."""

    contract_address: str
    contract_type: str
    vault_id: str
    layout: str
    wanted: str
    note: str
    changed_by: str
    changed_at: datetime
    last_synced_lt: int
    head_lt: int | None
    last_sync_timestamp: datetime | None
    sync_status: str
    error_message: str | None
    total_events_synced: int


async def select_followed(conn: Connection) -> tuple[FollowedRow, ...]:
    """Every contract that is or was followed."""
    return tuple(FollowedRow(**dict(row)) for row in await conn.fetch(SELECT_FOLLOWED))


async def select_contract_states(conn: Connection) -> tuple[ContractState, ...]:
    """The same with how far each was read."""
    return tuple(ContractState(**dict(row)) for row in await conn.fetch(SELECT_CONTRACT_STATES))


async def insert_followed(
    conn: Connection, *, address: str, kind: str, vault_id: str, layout: str, note: str, changed_by: str
) -> bool:
    """Follow a contract from now on; False when its row is there already, which stays as it is."""
    return await conn.fetchval(INSERT_FOLLOWED, address, kind, vault_id, layout, note, changed_by) is not None


async def select_wanted(conn: Connection, address: str) -> str | None:
    """What is wanted of a contract, locked until the transaction ends; None when it was never followed."""
    found: str | None = await conn.fetchval(SELECT_WANTED, address)
    return found


async def update_wanted(conn: Connection, address: str, wanted: str, *, changed_by: str, note: str | None) -> bool:
    """Want something of a contract; the same again starts it anew. False when there is no such contract."""
    return await conn.fetchval(UPDATE_WANTED, address, wanted, changed_by, note) is not None


async def end_backfill(conn: Connection, address: str, revision: int) -> bool:
    """The contract came up to its head: paused from now on, unless people wanted something else meanwhile."""
    return await conn.fetchval(END_BACKFILL, address, revision) is not None


async def check_addition(conn: Connection, address: str, kind: str, vault_id: str) -> None:
    """Raises InputError with the reason why the ledger cannot follow this contract as this kind of this vault."""
    known = await conn.fetchrow(SELECT_IDENTITY, address)
    if known is not None and (known["contract_type"], known["vault_id"]) != (kind, vault_id):
        raise InputError(f"{address} is known as the {known['contract_type']} of vault {known['vault_id']}.")
    if await conn.fetchval(SELECT_SOURCE_OF_VAULT, vault_id) not in (None, "chain"):
        raise InputError(f"Vault {vault_id} does not follow a contract: its amounts are set by API calls.")
    other = await conn.fetchval(SELECT_OTHER_MOVER, vault_id, kind, address) if kind == VAULT_KIND else None
    if other is not None:
        raise InputError(f"Vault {vault_id} has the {kind} {other}; another one needs a vault id of its own.")
