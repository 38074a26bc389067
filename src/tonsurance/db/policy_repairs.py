"""SQL of the factory's half of a reconciliation: its log page by page, its policies, the exposure, and their repair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.core.events import FACTORY_KIND
from tonsurance.db.pool import Connection
from tonsurance.db.reconciliation import LAST_LT, LoggedEvent, Window

SELECT_SYNCED_FACTORIES = """
SELECT s.contract_address FROM blockchain_sync_state s LEFT JOIN followed_contracts f USING (contract_address)
WHERE s.contract_type = $1 AND s.vault_id = $3 AND coalesce(f.layout, $2) = $2
    AND coalesce(f.wanted, 'active') = 'active'
ORDER BY s.contract_address
"""
SELECT_KNOWN_FACTORIES = """
SELECT contract_address FROM blockchain_sync_state WHERE contract_type = $1 AND vault_id = $2 ORDER BY contract_address
"""
_LOG_COLUMNS = """
    event_id, event_type, policy_id, contract_type, transaction_hash, logical_time AS lt, message_index, metadata,
    raw_body, decoder, block_time, ledger_version, params_version
"""
SELECT_FACTORY_LOG = f"""
SELECT {_LOG_COLUMNS} FROM blockchain_events
WHERE contract_address = $1 AND logical_time > $2 AND logical_time <= $3 ORDER BY logical_time, message_index
"""  # noqa: S608 - the column list is a constant of this module, here and below
SELECT_FACTORY_PAGE = f"""
SELECT {_LOG_COLUMNS} FROM blockchain_events
WHERE contract_address = $1 AND (logical_time, message_index) > ($2, $3)
ORDER BY logical_time, message_index LIMIT $4
"""  # noqa: S608
SELECT_SET_ASIDE = """
SELECT logical_time, message_index FROM blockchain_quarantine
WHERE contract_address = $1 AND resolved_at IS NULL AND logical_time > $2 AND logical_time <= $3
"""
SELECT_LOG_DIGEST = """
SELECT format('%s:%s', count(*), bit_xor(hashtextextended(e::text, 0))) FROM blockchain_events e
WHERE contract_address = $1 AND logical_time <= $2
"""
SELECT_POLICY_ROWS = """
SELECT policy_id, vault_id, quote_id::text AS quote_id, coverage_type, chain_id, stablecoin_id, buyer_address,
    beneficiary_address, coverage_amount_nanoton, premium_nanoton, payout_nanoton, approved_nanoton, trigger_bps,
    floor_bps, start_time, expiry_time, status, created_lt, created_message_index, created_at, closed_lt,
    closed_message_index, closed_at, ledger_version
FROM policies WHERE contract_address = $1 AND policy_id > $2 ORDER BY policy_id LIMIT $3
"""
SELECT_EXPOSURE_GAPS = """
SELECT coverage_type, chain_id, stablecoin_id,
    coalesce(held.policy_count, 0)::text AS policies, coalesce(held.total_coverage, 0)::text AS coverage,
    coalesce(held.total_premium, 0)::text AS premium, coalesce(summed.policies, 0)::text AS wanted_policies,
    coalesce(summed.coverage, 0)::text AS wanted_coverage, coalesce(summed.premium, 0)::text AS wanted_premium
FROM (SELECT * FROM product_exposure WHERE vault_id = $1) held FULL JOIN (
    SELECT coverage_type, chain_id, stablecoin_id, count(*) AS policies, sum(coverage_amount_nanoton) AS coverage,
        sum(premium_nanoton) AS premium
    FROM policies WHERE vault_id = $1 AND status IN ('active', 'approved')
    GROUP BY coverage_type, chain_id, stablecoin_id
) summed USING (coverage_type, chain_id, stablecoin_id)
WHERE (coalesce(held.policy_count, 0), coalesce(held.total_coverage, 0), coalesce(held.total_premium, 0))
    <> (coalesce(summed.policies, 0), coalesce(summed.coverage, 0), coalesce(summed.premium, 0))
ORDER BY coverage_type, chain_id, stablecoin_id
"""
REPAIR_POLICIES = "SELECT repair_policies($1, $2, $3, $4, $5::text::jsonb)"


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of policies, without its factory."""

    policy_id: int
    vault_id: str
    quote_id: str
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    buyer_address: str
    beneficiary_address: str
    coverage_amount_nanoton: int
    premium_nanoton: int
    payout_nanoton: int = 0
    approved_nanoton: int | None = None
    trigger_bps: int
    floor_bps: int
    start_time: datetime
    expiry_time: datetime
    status: str
    created_lt: int
    created_message_index: int
    created_at: datetime
    closed_lt: int | None = None
    closed_message_index: int | None = None
    closed_at: datetime | None = None
    ledger_version: int


class ExposureGap(msgspec.Struct, frozen=True, kw_only=True):
    """A product whose exposure is not the sum of its policies; amounts in nanoTON, as text because sums may be any."""

    coverage_type: int
    chain_id: int
    stablecoin_id: int
    policies: str
    coverage: str
    premium: str
    wanted_policies: str
    wanted_coverage: str
    wanted_premium: str


class PolicyRepair(msgspec.Struct, frozen=True, kw_only=True):
    """Make a policy this row (None: no policy)."""

    policy_id: int
    row: PolicyRow | None
    why: str


async def select_synced_factories(conn: Connection, layout: str, vault_id: str) -> tuple[str, ...]:
    """The factories of a vault that are followed in this layout, by address."""
    return tuple(row[0] for row in await conn.fetch(SELECT_SYNCED_FACTORIES, FACTORY_KIND, layout, vault_id))


async def select_known_factories(conn: Connection, vault_id: str) -> tuple[str, ...]:
    """The factories of a vault that are or were followed."""
    return tuple(row[0] for row in await conn.fetch(SELECT_KNOWN_FACTORIES, FACTORY_KIND, vault_id))


async def read_factory_log(conn: Connection, contract: str, after: int, until: int = LAST_LT) -> Window:
    """The log of a factory after a logical time up to another. Inside the caller's transaction."""
    rows = await conn.fetch(SELECT_FACTORY_LOG, contract, after, until)
    return Window(
        log=tuple(LoggedEvent(**dict(row)) for row in rows), adjusted=(), entries=(), history=(), horizon=None
    )


async def select_factory_page(
    conn: Connection, contract: str, after: tuple[int, int], limit: int
) -> tuple[LoggedEvent, ...]:
    """So many events of a factory after a place (logical time, message index) in their order."""
    return tuple(LoggedEvent(**dict(row)) for row in await conn.fetch(SELECT_FACTORY_PAGE, contract, *after, limit))


async def select_set_aside(conn: Connection, contract: str, after: int, until: int) -> frozenset[tuple[int, int]]:
    """The places (logical time, message index) of a contract's messages that wait in quarantine."""
    return frozenset((row[0], row[1]) for row in await conn.fetch(SELECT_SET_ASIDE, contract, after, until))


async def select_log_digest(conn: Connection, contract: str, until: int) -> str:
    """Of a contract's events up to a logical time: it changes with any column of any of them."""
    digest: str = await conn.fetchval(SELECT_LOG_DIGEST, contract, until)
    return digest


async def select_policy_rows(conn: Connection, contract: str, after: int, limit: int) -> tuple[PolicyRow, ...]:
    """So many policies of a factory after an id."""
    return tuple(PolicyRow(**dict(row)) for row in await conn.fetch(SELECT_POLICY_ROWS, contract, after, limit))


async def select_exposure_gaps(conn: Connection, vault_id: str) -> tuple[ExposureGap, ...]:
    """Where the exposure of a vault is not the sum of its policies that have not ended."""
    return tuple(ExposureGap(**dict(row)) for row in await conn.fetch(SELECT_EXPOSURE_GAPS, vault_id))


async def repair_policies(
    conn: Connection, run_id: int, vault_id: str, contract: str, lt: int, wrong: Sequence[PolicyRepair]
) -> None:
    """Make policies what their events come to, and count the exposure anew as of a logical time of the factory."""
    rows = [{"policy_id": one.policy_id, "why": one.why, "row": _row(contract, one.row)} for one in wrong]
    await conn.execute(REPAIR_POLICIES, run_id, vault_id, contract, lt, msgspec.json.encode(rows).decode())


def _row(contract: str, row: PolicyRow | None) -> dict[str, object] | None:
    return None if row is None else {"contract_address": contract, **msgspec.structs.asdict(row)}
