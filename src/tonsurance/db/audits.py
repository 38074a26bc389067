"""What the ledger says of a vault as of one of its transactions, told twice: by its history and by its entries."""

from __future__ import annotations

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import VAULT_KIND, Cursor
from tonsurance.core.ledger import Totals
from tonsurance.db.history import select_tranches_at_lt
from tonsurance.db.pool import Connection, Record

SELECT_FOLLOWED = """
SELECT vault_id, last_synced_lt AS lt, last_synced_hash AS hash, sync_status AS status, error_message AS error
FROM blockchain_sync_state WHERE contract_address = $1
"""
SELECT_OTHER_VAULTS = """
SELECT contract_address FROM blockchain_sync_state WHERE contract_type = $1 ORDER BY contract_address LIMIT 3
"""
SELECT_ENTRY_TOTALS = """
SELECT tranche_id, sum(capital_delta_nanoton)::text AS capital, sum(coverage_delta_nanoton)::text AS coverage,
    sum(unearned_delta_nanoton)::text AS unearned, sum(earned_delta_nanoton)::text AS earned,
    sum(loss_delta_nanoton)::text AS losses, sum(shares_delta)::text AS shares
FROM ledger_entries WHERE contract_address = $1 AND logical_time <= $2 GROUP BY tranche_id
"""
SELECT_STRAYED = """
SELECT tranche_id,
    coalesce(now.total_capital_nanoton, 0) - coalesce(last.total_capital_nanoton, 0) AS capital,
    coalesce(now.coverage_sold_nanoton, 0) - coalesce(last.coverage_sold_nanoton, 0) AS coverage,
    coalesce(now.unearned_premium_nanoton, 0) - coalesce(last.unearned_premium_nanoton, 0) AS unearned,
    (coalesce(now.earned_premium_nanoton, 0) - coalesce(last.earned_premium_nanoton, 0))::text AS earned,
    (coalesce(now.absorbed_losses_nanoton, 0) - coalesce(last.absorbed_losses_nanoton, 0))::text AS losses,
    (coalesce(now.shares, 0) - coalesce(last.shares, 0))::text AS shares
FROM (SELECT * FROM tranche_utilization WHERE vault_id = $1) now
FULL JOIN (SELECT * FROM last_states($1, $2)) last USING (tranche_id)
WHERE (to_jsonb(now) - 'updated_at') IS DISTINCT FROM to_jsonb(last)
ORDER BY tranche_id
"""
SELECT_BACKED_COUNT = """
SELECT count(*) FROM (
    SELECT policy_id FROM blockchain_events,
        LATERAL (SELECT sum(part::numeric) AS cover FROM jsonb_array_elements_text(metadata -> 'parts') part) parts
    WHERE contract_address = $1 AND event_type = 'CoverageChanged' AND logical_time <= $2
    GROUP BY policy_id HAVING sum(cover) > 0
) backed
"""
SELECT_TRANSACTION_HASH = """
SELECT transaction_hash FROM blockchain_events WHERE contract_address = $1 AND logical_time = $2 LIMIT 1
"""


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """How far a contract is in the ledger, and what stops it when something does."""

    vault_id: str
    cursor: Cursor
    error: str | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A vault in the ledger as of a transaction: totals by tranche from the history and from the entries (a tranche
    without an event until then is in neither), the policies it backs, that transaction's hash if it had an event, and
    tranches whose row of today is not the last one of their history, with by how much."""

    history: dict[str, Totals]
    entries: dict[str, Totals]
    backed: int
    transaction_hash: str | None
    strayed: dict[str, Totals]


async def select_followed(conn: Connection, contract: str) -> Followed | None:
    """A contract's place in the ledger; None when it was never registered."""
    row = await conn.fetchrow(SELECT_FOLLOWED, contract)
    if row is None:
        return None
    error = (row["error"] or "an unnamed error") if row["status"] == "error" else None
    return Followed(vault_id=row["vault_id"], cursor=Cursor(row["lt"], row["hash"]), error=error)


async def select_vault_addresses(conn: Connection) -> list[str]:
    """Some vaults that this database follows."""
    return [row["contract_address"] for row in await conn.fetch(SELECT_OTHER_VAULTS, VAULT_KIND)]


async def select_standing(conn: Connection, contract: str, vault_id: str, lt: int) -> Standing:
    """A vault as of its transaction `lt`, all read in one transaction."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await read_standing(conn, contract, vault_id, lt)


async def read_standing(conn: Connection, contract: str, vault_id: str, lt: int) -> Standing:
    """The same inside the caller's transaction."""
    return Standing(
        history={row.tranche_id: row.totals for row in await select_tranches_at_lt(conn, vault_id, lt)},
        entries={row["tranche_id"]: _read_totals(row) for row in await conn.fetch(SELECT_ENTRY_TOTALS, contract, lt)},
        backed=await conn.fetchval(SELECT_BACKED_COUNT, contract, lt),
        transaction_hash=await conn.fetchval(SELECT_TRANSACTION_HASH, contract, lt),
        strayed={
            row["tranche_id"]: _read_totals(row)
            for row in await conn.fetch(SELECT_STRAYED, vault_id, list(TRANCHE_IDS))
        },
    )


def _read_totals(row: Record) -> Totals:
    return Totals(**{name: int(value) for name, value in row.items() if name != "tranche_id"})
