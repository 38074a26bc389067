"""SQL of what reconciliations found: results, the tranches as they were, and what alerts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.core.drift import TrancheDrift
from tonsurance.core.events import VAULT_KIND
from tonsurance.core.sync_alerts import DriftFigure
from tonsurance.db.pool import Connection

EVALUATOR = "vault_sync"
"""The name under which alerts of drift are evaluated."""

SELECT_SYNCED_VAULTS = """
SELECT contract_address FROM followed_contracts WHERE contract_type = $1 AND layout = $2 AND wanted = 'active'
ORDER BY added_at, contract_address
"""
SELECT_LAST_EQUAL = """
SELECT logical_time AS lt, transaction_hash, ledger_digest AS digest FROM vault_sync_results
WHERE contract_address = $1 AND status <> 'failed' ORDER BY run_id DESC LIMIT 1
"""
SELECT_NEXT_RUN = "SELECT nextval('vault_sync_run_id')"
SELECT_JOURNALLED = "SELECT min(adjustment_id) AS first, count(*) AS many FROM ledger_adjustments WHERE run_id = $1"
INSERT_RESULT = """
INSERT INTO vault_sync_results (run_id, vault_id, contract_address, status, seqno, logical_time, transaction_hash,
    differences, explanation, adjustment_id, adjustments, audited_from_lt, ledger_digest, error_code, error_message,
    started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13, $14, $15, $16)
"""
INSERT_TRANCHES = """
INSERT INTO vault_sync_tranches (run_id, vault_id, tranche_id, chain_capital_nanoton, ledger_capital_nanoton,
    capital_drift_pct, chain_coverage_nanoton, ledger_coverage_nanoton, coverage_drift_pct, chain_unearned_nanoton,
    ledger_unearned_nanoton, chain_shares, ledger_shares)
SELECT $1, $2, tranche_id, chain_capital, ledger_capital::numeric, capital_pct, chain_coverage,
    ledger_coverage::numeric, coverage_pct, chain_unearned, ledger_unearned::numeric, chain_shares::numeric,
    ledger_shares::numeric
FROM unnest($3::text[], $4::bigint[], $5::text[], $6::float8[], $7::bigint[], $8::text[], $9::float8[], $10::bigint[],
    $11::text[], $12::text[], $13::text[])
    AS t (tranche_id, chain_capital, ledger_capital, capital_pct, chain_coverage, ledger_coverage, coverage_pct,
    chain_unearned, ledger_unearned, chain_shares, ledger_shares)
"""
SELECT_DRIFTS = """
SELECT t.vault_id, t.tranche_id, max(t.capital_drift_pct) AS capital_pct, max(t.coverage_drift_pct) AS coverage_pct
FROM vault_sync_tranches t
WHERE t.run_id > coalesce((SELECT figures_version FROM alert_evaluations WHERE evaluator = $1), 0)
    OR t.run_id IN (SELECT max(run_id) FROM vault_sync_results WHERE status <> 'failed' GROUP BY contract_address)
GROUP BY t.vault_id, t.tranche_id ORDER BY t.vault_id, t.tranche_id
"""
SELECT_NEWEST_RUN = "SELECT coalesce(max(run_id), 0) FROM vault_sync_tranches"


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """Where the run before stood; without a digest it leaves nothing to build upon."""

    lt: int
    transaction_hash: str
    digest: str | None

    @property
    def vault_digest(self) -> str | None:
        """The vault's part of the digest: the first line; each other one is of a factory."""
        return None if self.digest is None else self.digest.partition("\n")[0]


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run that ended. `explanation` is JSON text; `seqno`, `lt` and hash are None when the chain was not read."""

    vault_id: str | None
    contract: str
    status: str
    seqno: int | None = None
    lt: int | None = None
    transaction_hash: str | None = None
    differences: int = 0
    explanation: str = "{}"
    audited_from_lt: int | None = None
    digest: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    started_at: datetime


async def select_synced_vaults(conn: Connection, layout: str) -> tuple[str, ...]:
    """The vaults of this layout that are followed, by address."""
    return tuple(row[0] for row in await conn.fetch(SELECT_SYNCED_VAULTS, VAULT_KIND, layout))


async def select_last_run(conn: Connection, contract: str) -> LastRun | None:
    """The last run that came to an end."""
    row = await conn.fetchrow(SELECT_LAST_EQUAL, contract)
    return None if row is None else LastRun(**dict(row))


async def next_run(conn: Connection) -> int:
    """A number for a run."""
    run_id: int = await conn.fetchval(SELECT_NEXT_RUN)
    return run_id


async def count_journalled(conn: Connection, run_id: int) -> tuple[int | None, int]:
    """The first row a run wrote to the journal, and how many."""
    row = await conn.fetchrow(SELECT_JOURNALLED, run_id)
    return (None, 0) if row is None else (row["first"], row["many"])


async def insert_result(conn: Connection, run_id: int, row: ResultRow, tranches: Sequence[TrancheDrift]) -> None:
    """Write down a run, with what it journalled until now, and both sides of each tranche."""
    first, many = await count_journalled(conn, run_id)
    await conn.execute(
        INSERT_RESULT,
        run_id,
        row.vault_id,
        row.contract,
        row.status,
        row.seqno,
        row.lt,
        row.transaction_hash,
        row.differences,
        row.explanation,
        first,
        many,
        row.audited_from_lt,
        row.digest,
        row.error_code,
        row.error_message,
        row.started_at,
    )
    if tranches:
        columns = (list(column) for column in zip(*map(_tranche_row, tranches), strict=True))
        await conn.execute(INSERT_TRANCHES, run_id, row.vault_id, *columns)


def _tranche_row(drift: TrancheDrift) -> tuple[object, ...]:
    chain, ledger = drift.chain, drift.ledger
    return (
        drift.tranche_id,
        chain.capital,
        str(ledger.capital),
        drift.capital_pct,
        chain.coverage,
        str(ledger.coverage),
        drift.coverage_pct,
        chain.unearned,
        str(ledger.unearned),
        str(chain.shares),
        str(ledger.shares),
    )


async def select_drifts(conn: Connection) -> tuple[int, tuple[DriftFigure, ...]]:
    """The newest run, and for each tranche the worst drift of the runs that were not evaluated yet, or of the last."""
    rows = await conn.fetch(SELECT_DRIFTS, EVALUATOR)
    newest: int = await conn.fetchval(SELECT_NEWEST_RUN)
    return newest, tuple(DriftFigure(**dict(row)) for row in rows)
