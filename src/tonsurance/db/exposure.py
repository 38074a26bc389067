"""What cover is in force by product, and what a vault earned and paid within a time."""

from __future__ import annotations

import msgspec

from tonsurance.db.pool import Connection

SELECT_EXPOSURE = """
SELECT vault_id, coverage_type, chain_id, stablecoin_id, total_coverage, policy_count
FROM product_exposure WHERE policy_count > 0 OR total_coverage > 0
ORDER BY vault_id, coverage_type, chain_id, stablecoin_id
"""
SELECT_LAST_POSTED = """
SELECT DISTINCT ON (vault_id) vault_id, logical_time AS lt, mc_seqno AS seqno,
    extract(epoch FROM block_time)::double precision AS block_time
FROM tranche_utilization ORDER BY vault_id, logical_time DESC
"""
# Where steps of the history are no longer kept, the time begins at the oldest one that is.
SELECT_RECORDS = """
WITH reach AS (
    SELECT vault_id, greatest(clock_timestamp(), max(block_time)) - make_interval(secs => $1) AS since
    FROM tranche_utilization GROUP BY vault_id
), sums AS (
    SELECT t.vault_id, sum(t.earned_premium_nanoton - coalesce(past.earned, oldest.earned, 0)) AS earned,
        sum(t.absorbed_losses_nanoton - coalesce(past.losses, oldest.losses, 0)) AS paid
    FROM reach JOIN tranche_utilization t USING (vault_id)
    LEFT JOIN LATERAL (
        SELECT h.earned_premium_nanoton AS earned, h.absorbed_losses_nanoton AS losses
        FROM tranche_utilization_history h
        WHERE h.vault_id = t.vault_id AND h.tranche_id = t.tranche_id AND h.recorded_at <= reach.since
        ORDER BY h.recorded_at DESC, h.logical_time DESC, h.message_index DESC LIMIT 1
    ) past ON true
    LEFT JOIN LATERAL (
        SELECT h.earned_premium_nanoton AS earned, h.absorbed_losses_nanoton AS losses
        FROM tranche_utilization_history h
        WHERE h.vault_id = t.vault_id AND h.tranche_id = t.tranche_id AND past.earned IS NULL
            AND reach.since < (SELECT horizon.since FROM history_horizon horizon)
        ORDER BY h.recorded_at, h.logical_time, h.message_index LIMIT 1
    ) oldest ON true
    GROUP BY t.vault_id
)
SELECT vault_id, earned::text, paid::text,
    (SELECT count(*) FROM blockchain_events e JOIN blockchain_sync_state s USING (contract_address)
        WHERE e.event_type = 'PayoutExecuted' AND s.vault_id = reach.vault_id AND e.block_time > reach.since) AS claims
FROM reach JOIN sums USING (vault_id)
"""


class ExposureRow(msgspec.Struct, frozen=True, kw_only=True):
    """Policies in force of one product of a vault; the cover in nanoTON."""

    vault_id: str
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    total_coverage: int
    policy_count: int


class LastPosted(msgspec.Struct, frozen=True, kw_only=True):
    """The last event in a vault's figures: its logical time, its block (None: not known) and that one's time, in unix
    seconds."""

    vault_id: str
    lt: int
    seqno: int | None
    block_time: float


class RecordRow(msgspec.Struct, frozen=True, kw_only=True):
    """Claims that a vault paid, what they cost its tranches, and the premium that these earned; in nanoTON."""

    vault_id: str
    claims: int
    paid: int
    earned: int


async def select_exposure(conn: Connection) -> list[ExposureRow]:
    """All products of all vaults that something is in force of."""
    return [ExposureRow(**dict(row)) for row in await conn.fetch(SELECT_EXPOSURE)]


async def select_last_posted(conn: Connection) -> list[LastPosted]:
    """Of every vault that has figures."""
    return [LastPosted(**dict(row)) for row in await conn.fetch(SELECT_LAST_POSTED)]


async def select_records(conn: Connection, window_s: float) -> list[RecordRow]:
    """The record of every vault over the last `window_s` seconds, by the times of blocks."""
    return [
        RecordRow(vault_id=row["vault_id"], claims=row["claims"], paid=int(row["paid"]), earned=int(row["earned"]))
        for row in await conn.fetch(SELECT_RECORDS, window_s)
    ]
