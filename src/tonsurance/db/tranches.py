"""Where the tranches stand."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.ledger import Totals
from tonsurance.db.pool import Connection, Record

_TRANCHE_COLUMNS = """
    vault_id, tranche_id, total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton,
    earned_premium_nanoton::text, absorbed_losses_nanoton::text, shares::text, utilization_ratio,
    utilization_raw, insolvent, current_apy, logical_time, message_index, mc_seqno, block_time, params_version,
    ledger_version, updated_at
"""

SELECT_SYSTEM = """
SELECT md5(v.created_at::text || d.oid::text || d.datname)
FROM vaults v, pg_database d WHERE v.vault_id = 'main' AND d.datname = current_database()
"""
_LARGE = ("earned_premium_nanoton", "absorbed_losses_nanoton", "shares")
"""Columns read as text, because the driver makes floating decimals of them."""

SELECT_TRANCHES = f"""
SELECT {_TRANCHE_COLUMNS} FROM tranche_utilization WHERE $1::text IS NULL OR vault_id = $1
"""  # noqa: S608 - the column list is a constant of this module
SELECT_TRANCHES_SINCE = f"""
SELECT {_TRANCHE_COLUMNS} FROM tranche_utilization WHERE ledger_version > $1
"""  # noqa: S608
SELECT_TOTALS = """
SELECT vault_id, tranche_id, total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton,
    earned_premium_nanoton::text, absorbed_losses_nanoton::text, shares::text
FROM tranche_utilization WHERE vault_id = ANY($1)
"""


class TrancheRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche after the event (logical_time, message_index) of its vault. Amounts in nanoTON, `current_apy` in
    percent (None when insolvent), `utilization_raw` None when insolvent."""

    vault_id: str
    tranche_id: str
    total_capital_nanoton: int
    coverage_sold_nanoton: int
    unearned_premium_nanoton: int
    earned_premium_nanoton: int
    absorbed_losses_nanoton: int
    shares: int
    utilization_ratio: float
    utilization_raw: float | None
    insolvent: bool
    current_apy: float | None
    logical_time: int
    message_index: int
    mc_seqno: int | None
    block_time: datetime
    params_version: int
    ledger_version: int
    updated_at: datetime

    @property
    def totals(self) -> Totals:
        """What the ledger's fold makes of all events up to this one."""
        return Totals(
            capital=self.total_capital_nanoton,
            coverage=self.coverage_sold_nanoton,
            unearned=self.unearned_premium_nanoton,
            earned=self.earned_premium_nanoton,
            losses=self.absorbed_losses_nanoton,
            shares=self.shares,
        )

    @classmethod
    def from_row(cls, row: Record) -> TrancheRow:
        """From a row of the selects above."""
        large = {name: int(row[name]) for name in _LARGE}
        return cls(**{**row, **large})


async def select_tranches(conn: Connection, vault_id: str | None = None) -> list[TrancheRow]:
    """The tranches that any event has touched, by vault and then senior to junior."""
    return _in_order(await conn.fetch(SELECT_TRANCHES, vault_id))


async def select_tranches_since(conn: Connection, version: int) -> list[TrancheRow]:
    """The tranches that changed after a ledger version."""
    return _in_order(await conn.fetch(SELECT_TRANCHES_SINCE, version))


async def select_system(conn: Connection) -> str:
    """What tells this database from every other: the moment it was made, to the microsecond, and its place."""
    system: str = await conn.fetchval(SELECT_SYSTEM)
    return system


async def select_totals(conn: Connection, vault_ids: list[str]) -> dict[tuple[str, str], Totals]:
    """The totals by (vault_id, tranche_id). They stay so for whoever has the ledger's write lock."""
    return {
        (row["vault_id"], row["tranche_id"]): Totals(
            capital=row["total_capital_nanoton"],
            coverage=row["coverage_sold_nanoton"],
            unearned=row["unearned_premium_nanoton"],
            earned=int(row["earned_premium_nanoton"]),
            losses=int(row["absorbed_losses_nanoton"]),
            shares=int(row["shares"]),
        )
        for row in await conn.fetch(SELECT_TOTALS, vault_ids)
    }


def _in_order(rows: list[Record]) -> list[TrancheRow]:
    seniority = {tranche_id: place for place, tranche_id in enumerate(TRANCHE_IDS)}
    tranches = [TrancheRow.from_row(row) for row in rows]
    return sorted(tranches, key=lambda row: (row.vault_id, seniority[row.tranche_id]))
