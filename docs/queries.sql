-- Questions people ask the database from psql or a board. Each is run by a test.

-- All tranches by utilisation.
SELECT tranche_id, utilization_ratio * 100 AS utilization_pct, current_apy,
    total_capital_nanoton / 1e9 AS capital_ton, coverage_sold_nanoton / 1e9 AS coverage_ton
FROM tranche_utilization
ORDER BY utilization_ratio DESC;

-- Crowded tranches.
SELECT vault_id, tranche_id, utilization_ratio * 100 AS utilization_pct
FROM tranche_utilization
WHERE utilization_ratio > 0.80;

-- The last week of a tranche, up to the newest block.
SELECT tranche_id, utilization_ratio, current_apy, updated_at
FROM tranche_utilization_history
WHERE vault_id = 'main' AND tranche_id = 'SURE-SNR'
    AND updated_at > (SELECT max(block_time) FROM tranche_utilization WHERE vault_id = 'main') - interval '7 days'
ORDER BY updated_at;

-- One tranche of an installation with one vault.
SELECT * FROM tranche_utilization WHERE tranche_id = 'SURE-SNR';

-- Whether parameters are answered from memory: the last hour's accesses.
SELECT sum(accesses) FILTER (WHERE cache_hit) * 100.0 / sum(accesses) AS hit_rate_pct
FROM config_access_log
WHERE timestamp > now() - interval '1 hour';

-- The parameters changed most often in a week.
SELECT category, key, count(*) AS updates, max(changed_at) AS last_updated
FROM config_audit_log
WHERE changed_at > now() - interval '7 days' AND NOT dry_run
GROUP BY category, key
ORDER BY updates DESC
LIMIT 10;

-- Accepted updates of direct vaults that still wait, oldest first.
SELECT queue_id, vault_id, principal, route, accepted_at
FROM queued_updates
WHERE status = 'pending'
ORDER BY queue_id;
