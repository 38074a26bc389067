-- What is on record of a coin counts as in the functions: verified depegs alone, and NULL, not 0, where there are none.

CREATE OR REPLACE VIEW v_depeg_statistics AS
SELECT c.asset, count(d.id) AS events, count(d.id) FILTER (WHERE d.verified) AS verified_events,
    CASE WHEN bool_or(d.verified) THEN count(d.id) FILTER (WHERE d.verified AND d.min_price < 0.97) END AS severe_events,
    min(d.min_price) FILTER (WHERE d.verified) AS worst_price,
    avg(1 - d.min_price) FILTER (WHERE d.verified) AS mean_severity,
    avg(d.duration_seconds) FILTER (WHERE d.verified) AS mean_duration_seconds,
    avg(d.recovery_time_seconds) FILTER (WHERE d.verified) AS mean_recovery_seconds,
    max(d."timestamp") FILTER (WHERE d.verified) AS latest, coalesce(bool_or(d.verified), false) AS has_data
FROM dataset_coins c LEFT JOIN historical_depegs d USING (asset)
GROUP BY c.asset;
COMMENT ON VIEW v_depeg_statistics IS
    'every coin and what its verified depegs come to; NULL where there are none; events counts unverified ones too';
