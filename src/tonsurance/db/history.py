"""Where the tranches stood at a moment of the past, from the history: one step into an index for each tranche."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import VAULT_KINDS
from tonsurance.db.pool import Connection, Record
from tonsurance.db.tranches import TrancheRow

_STATE = """
SELECT past.*, coalesce(posted.ledger_version, 0) AS ledger_version -- 0: the log lost the event
FROM blockchain_sync_state vault
CROSS JOIN unnest($2::text[]) AS wanted (tranche_id)
CROSS JOIN LATERAL (
    SELECT h.vault_id, h.tranche_id, h.total_capital_nanoton, h.coverage_sold_nanoton, h.unearned_premium_nanoton,
        h.earned_premium_nanoton::text, h.absorbed_losses_nanoton::text, h.shares::text, h.utilization_ratio,
        h.utilization_raw, h.insolvent, h.current_apy, h.logical_time, h.message_index, h.mc_seqno,
        h.recorded_at AS block_time, h.params_version, h.updated_at
    FROM tranche_utilization_history h
    WHERE h.vault_id = $1 AND h.tranche_id = wanted.tranche_id
"""
_LAST = """
    LIMIT 1
) past
LEFT JOIN blockchain_events posted ON posted.contract_address = vault.contract_address
    AND posted.logical_time = past.logical_time AND posted.message_index = past.message_index
WHERE vault.vault_id = $1 AND vault.contract_type = ANY($4)
"""
SELECT_TRANCHES_AT_LT = f"""{_STATE}
        AND h.logical_time <= $3
    ORDER BY h.logical_time DESC, h.message_index DESC {_LAST}"""
SELECT_TRANCHES_AT_TIME = f"""{_STATE}
        AND h.recorded_at <= $3
    ORDER BY h.recorded_at DESC, h.logical_time DESC, h.message_index DESC {_LAST}"""

SELECT_REACH = """
SELECT head.version, vault.last_synced_lt AS lt,
    (SELECT max(block_time) FROM tranche_utilization WHERE vault_id = $1) AS time
FROM ledger_head head, blockchain_sync_state vault
WHERE vault.vault_id = $1 AND vault.contract_type = ANY($2)
"""
SELECT_LT_AT_VERSION = """
SELECT posted.logical_time
FROM blockchain_events posted JOIN blockchain_sync_state vault USING (contract_address)
WHERE vault.vault_id = $1 AND vault.contract_type = ANY($2) AND posted.ledger_version <= $3
ORDER BY posted.ledger_version DESC, posted.event_id DESC LIMIT 1
"""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far the ledger of a vault goes: its version, the vault's last applied transaction, its last block time
    (None before the first event that touched a tranche)."""

    version: int
    lt: int
    time: datetime | None


async def select_reach(conn: Connection, vault_id: str) -> Reach | None:
    """How far the ledger of a vault goes; None when no contract of it is followed."""
    row = await conn.fetchrow(SELECT_REACH, vault_id, list(VAULT_KINDS))
    return None if row is None else Reach(**row)


async def select_lt_at_version(conn: Connection, vault_id: str, version: int) -> int:
    """The vault's last transaction with an event that a ledger version knows; 0 when there is none."""
    lt: int | None = await conn.fetchval(SELECT_LT_AT_VERSION, vault_id, list(VAULT_KINDS), version)
    return lt or 0


async def select_tranches_at_lt(conn: Connection, vault_id: str, lt: int) -> list[TrancheRow]:
    """The tranches after the vault's transaction `lt`, senior to junior; those without an event until then are left
    out."""
    return _rows(await conn.fetch(SELECT_TRANCHES_AT_LT, vault_id, list(TRANCHE_IDS), lt, list(VAULT_KINDS)))


async def select_tranches_at_time(conn: Connection, vault_id: str, time: datetime) -> list[TrancheRow]:
    """The tranches after the blocks up to `time`, senior to junior; those without an event until then are left out."""
    return _rows(await conn.fetch(SELECT_TRANCHES_AT_TIME, vault_id, list(TRANCHE_IDS), time, list(VAULT_KINDS)))


def _rows(rows: list[Record]) -> list[TrancheRow]:
    order = {tranche_id: place for place, tranche_id in enumerate(TRANCHE_IDS)}
    return sorted(map(TrancheRow.from_row, rows), key=lambda row: order[row.tranche_id])
