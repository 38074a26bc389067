-- One row per event and touched tranche, whatever the batches were; all times are block times, so that a replay of
-- the same events gives the same rows. Rows go to the default partition until monthly ones are made ahead of time:
-- that works for any block time (a local chain runs years ahead), and BRIN keeps time ranges cheap meanwhile.

CREATE TABLE tranche_utilization_history (
    vault_id text NOT NULL,
    tranche_id text NOT NULL,
    logical_time bigint NOT NULL,
    message_index int NOT NULL,
    recorded_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL GENERATED ALWAYS AS (recorded_at) STORED,
    total_capital_nanoton bigint NOT NULL CHECK (total_capital_nanoton >= 0),
    coverage_sold_nanoton bigint NOT NULL CHECK (coverage_sold_nanoton >= 0),
    unearned_premium_nanoton bigint NOT NULL CHECK (unearned_premium_nanoton >= 0),
    earned_premium_nanoton numeric NOT NULL CHECK (earned_premium_nanoton >= 0),
    shares numeric NOT NULL CHECK (shares >= 0),
    utilization_ratio double precision NOT NULL CHECK (utilization_ratio BETWEEN 0 AND 1),
    utilization_raw double precision CHECK (utilization_raw >= 0),
    insolvent boolean NOT NULL,
    current_apy double precision,
    mc_seqno bigint,
    params_version bigint NOT NULL,
    PRIMARY KEY (vault_id, tranche_id, logical_time, message_index, recorded_at)
) PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE tranche_utilization_history IS 'the state of a tranche after each event that touched it';
COMMENT ON COLUMN tranche_utilization_history.recorded_at IS 'block time of the event';

CREATE INDEX idx_tranche_history_time ON tranche_utilization_history USING brin (recorded_at);

CREATE TABLE tranche_utilization_history_default PARTITION OF tranche_utilization_history DEFAULT;
