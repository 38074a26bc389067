"""What each event did to each tranche, with the event it was."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection, Record

MAX_ENTRIES = 500
"""Most entries one select returns."""

SELECT_ENTRIES = """
SELECT page.entry_id, page.vault_id, page.tranche_id, posted.event_id, posted.event_type, posted.policy_id,
    page.capital_delta_nanoton, page.coverage_delta_nanoton, page.unearned_delta_nanoton, page.earned_delta_nanoton,
    page.loss_delta_nanoton, page.shares_delta::text, posted.transaction_hash, page.logical_time, page.message_index,
    posted.block_time
FROM ledger_entries page JOIN blockchain_events posted USING (contract_address, logical_time, message_index)
"""


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One entry and its event. Amounts in nanoTON; `entry_id` is the paging cursor."""

    entry_id: int
    vault_id: str
    tranche_id: str
    event_id: int
    event_type: str
    policy_id: int | None
    capital_delta_nanoton: int
    coverage_delta_nanoton: int
    unearned_delta_nanoton: int
    earned_delta_nanoton: int
    loss_delta_nanoton: int
    shares_delta: int
    transaction_hash: str
    logical_time: int
    message_index: int
    block_time: datetime

    @classmethod
    def from_row(cls, row: Record) -> EntryRow:
        """From a row of the selects above."""
        return cls(**{**row, "shares_delta": int(row["shares_delta"])})


async def select_entries(
    conn: Connection,
    *,
    vault_id: str,
    tranche_id: str | None = None,
    after: int | None = None,
    limit: int = 100,
    newest_first: bool = True,
) -> list[EntryRow]:
    """A page of a vault's entries in posting order. `after` is the entry_id of the last row seen; `limit` is cut to
    MAX_ENTRIES."""
    sql = make_entries_statement(by_tranche=tranche_id is not None, paged=after is not None, newest_first=newest_first)
    given = [value for value in (tranche_id, after) if value is not None]
    return [EntryRow.from_row(row) for row in await conn.fetch(sql, vault_id, min(limit, MAX_ENTRIES), *given)]


def make_entries_statement(*, by_tranche: bool, paged: bool, newest_first: bool) -> str:
    """The statement with just these conditions: its values are vault, limit, the tranche if any, the last entry_id
    seen when `paged`."""
    conditions = ["page.vault_id = $1"]
    if by_tranche:
        conditions.append("page.tranche_id = $3")
    if paged:
        conditions.append(f"page.entry_id {'<' if newest_first else '>'} ${4 if by_tranche else 3}")
    return f"{SELECT_ENTRIES} WHERE {' AND '.join(conditions)} ORDER BY page.entry_id{' DESC' * newest_first} LIMIT $2"
