"""What a replay that begins in the middle stands on: the vaults as they stood after a logical time, and what premiums
were then still to be earned. Policies have no such state, so they are always folded from the start.
"""

from __future__ import annotations

from tonsurance.core.events import VAULT_KIND
from tonsurance.db.pool import Connection
from tonsurance.db.shadow import SHADOW, STATEMENT_TIMEOUT_S

_VAULTS = f"SELECT vault_id FROM {{live}}.blockchain_sync_state WHERE contract_type = '{VAULT_KIND}'"  # noqa: S608
_COLUMNS = """
    total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton,
    absorbed_losses_nanoton, shares
"""
_COPY_STATES = f"""
INSERT INTO {SHADOW}.tranche_utilization (vault_id, tranche_id, {_COLUMNS}, utilization_ratio, utilization_raw,
    insolvent, current_apy, logical_time, message_index, mc_seqno, block_time, params_version, ledger_version)
SELECT DISTINCT ON (h.vault_id, h.tranche_id) h.vault_id, h.tranche_id, {_COLUMNS}, h.utilization_ratio,
    h.utilization_raw, h.insolvent, h.current_apy, h.logical_time, h.message_index, h.mc_seqno, h.recorded_at,
    h.params_version, coalesce(e.ledger_version, 0)
FROM {{live}}.tranche_utilization_history h
JOIN {{live}}.blockchain_sync_state s ON s.vault_id = h.vault_id AND s.contract_type = '{VAULT_KIND}'
LEFT JOIN {{live}}.blockchain_events e ON e.contract_address = s.contract_address AND e.logical_time = h.logical_time
    AND e.message_index = h.message_index
WHERE h.logical_time <= $1
ORDER BY h.vault_id, h.tranche_id, h.logical_time DESC, h.message_index DESC, h.recorded_at DESC
"""  # noqa: S608 - the schemas' names are ours
_COUNT_DISAGREEING = f"""
SELECT count(*) FROM (
    SELECT vault_id, tranche_id, sum(capital_delta_nanoton), sum(coverage_delta_nanoton), sum(unearned_delta_nanoton),
        sum(earned_delta_nanoton), sum(loss_delta_nanoton), sum(shares_delta)
    FROM {{live}}.ledger_entries WHERE logical_time <= $1 AND vault_id IN ({_VAULTS})
    GROUP BY vault_id, tranche_id
) AS summed (vault_id, tranche_id, capital, coverage, unearned, earned, losses, shares)
FULL JOIN {SHADOW}.tranche_utilization told USING (vault_id, tranche_id)
WHERE ROW(summed.capital, summed.coverage, summed.unearned, summed.earned, summed.losses, summed.shares)
    IS DISTINCT FROM ROW(told.total_capital_nanoton::numeric, told.coverage_sold_nanoton::numeric,
    told.unearned_premium_nanoton::numeric, told.earned_premium_nanoton, told.absorbed_losses_nanoton, told.shares)
"""  # noqa: S608
_COPY_STREAMS = f"""
INSERT INTO {SHADOW}.premium_streams SELECT * FROM {{live}}.premium_streams
WHERE logical_time <= $1 AND vault_id IN ({_VAULTS})
"""  # noqa: S608
_PENDING = f"""
    vault_id IN ({_VAULTS}) AND logical_time <= $1 AND logical_time >= coalesce((
        SELECT max(s.logical_time) FROM {SHADOW}.premium_streams s WHERE s.vault_id = held.vault_id), -1)
"""  # noqa: S608
_COPY_ENTRIES = f"""
INSERT INTO {SHADOW}.ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id,
    capital_delta_nanoton, coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton, loss_delta_nanoton,
    shares_delta, ledger_version)
SELECT contract_address, logical_time, message_index, vault_id, tranche_id, capital_delta_nanoton,
    coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton, loss_delta_nanoton, shares_delta,
    ledger_version
FROM {{live}}.ledger_entries held WHERE unearned_delta_nanoton > 0 AND {_PENDING}
"""  # noqa: S608
_COPY_HISTORY = f"""
INSERT INTO {SHADOW}.tranche_utilization_history (vault_id, tranche_id, logical_time, message_index, recorded_at,
    {_COLUMNS}, utilization_ratio, utilization_raw, insolvent, current_apy, mc_seqno, params_version)
SELECT vault_id, tranche_id, logical_time, message_index, recorded_at, {_COLUMNS}, utilization_ratio, utilization_raw,
    insolvent, current_apy, mc_seqno, params_version
FROM {{live}}.tranche_utilization_history held
WHERE EXISTS (SELECT FROM {SHADOW}.ledger_entries e WHERE e.vault_id = held.vault_id AND e.tranche_id = held.tranche_id
    AND e.logical_time = held.logical_time AND e.message_index = held.message_index) AND {_PENDING}
"""  # noqa: S608


async def take_footing(conn: Connection, live: str, lt: int) -> bool:
    """Bring the shadow to where the vaults stood after the logical time `lt`, by the live rows up to there.

    False: those rows do not agree among themselves (the history is not the sum of the entries, or is no longer kept),
    so nothing can stand on them; the shadow must be cleared then.
    """
    await _run(conn, _COPY_STATES, live, lt)
    disagreeing = await conn.fetchval(_COUNT_DISAGREEING.format(live=live), lt, timeout=STATEMENT_TIMEOUT_S)
    if disagreeing:
        return False
    for statement in (_COPY_STREAMS, _COPY_ENTRIES, _COPY_HISTORY):
        await _run(conn, statement, live, lt)
    return True


async def _run(conn: Connection, statement: str, live: str, lt: int) -> None:
    await conn.execute(statement.format(live=live), lt, timeout=STATEMENT_TIMEOUT_S)
