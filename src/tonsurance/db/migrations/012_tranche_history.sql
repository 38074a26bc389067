-- The history by month; what is left of months that are no longer kept; and the streams premiums are earned from.

-- One row per premium that came in and tranche it fell on: when the tranche's stream ends from then on. Written with
-- the event, or as soon as the factory's event is there that says how long the cover runs.
CREATE TABLE premium_streams (
    vault_id text NOT NULL,
    tranche_id text NOT NULL,
    logical_time bigint NOT NULL,
    message_index int NOT NULL,
    recorded_at timestamptz NOT NULL,
    unearned_premium_nanoton bigint NOT NULL CHECK (unearned_premium_nanoton > 0),
    ends_at timestamptz NOT NULL CHECK (ends_at >= recorded_at),
    PRIMARY KEY (vault_id, tranche_id, logical_time, message_index)
);
COMMENT ON TABLE premium_streams IS 'unearned premium of a tranche after a premium came in, and when it is all earned';

CREATE INDEX idx_streams_order ON premium_streams (vault_id, logical_time, message_index);
CREATE INDEX idx_entries_premiums ON ledger_entries (vault_id, logical_time, message_index)
    WHERE unearned_delta_nanoton > 0;

CREATE INDEX idx_events_epochs ON blockchain_events (contract_address, logical_time)
    WHERE event_type = 'EpochStarted';

-- Before this moment there is no history, only days.
CREATE TABLE history_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    since timestamptz
);
COMMENT ON COLUMN history_horizon.since IS 'start of the oldest month that is kept in full; null: everything is kept';

INSERT INTO history_horizon DEFAULT VALUES;

CREATE TABLE tranche_utilization_daily (
    vault_id text NOT NULL,
    tranche_id text NOT NULL,
    day date NOT NULL,
    seconds int NOT NULL CHECK (seconds BETWEEN 1 AND 86400),
    changes int NOT NULL CHECK (changes >= 0),
    capital_open_nanoton bigint NOT NULL,
    capital_close_nanoton bigint NOT NULL,
    capital_low_nanoton bigint NOT NULL,
    capital_high_nanoton bigint NOT NULL,
    capital_nanoton_seconds numeric NOT NULL,
    coverage_open_nanoton bigint NOT NULL,
    coverage_close_nanoton bigint NOT NULL,
    coverage_low_nanoton bigint NOT NULL,
    coverage_high_nanoton bigint NOT NULL,
    coverage_nanoton_seconds numeric NOT NULL,
    utilization_open_billionths bigint NOT NULL,
    utilization_close_billionths bigint NOT NULL,
    utilization_low_billionths bigint NOT NULL,
    utilization_high_billionths bigint NOT NULL,
    utilization_billionths_seconds numeric NOT NULL,
    apy_open_billionths bigint,
    apy_close_billionths bigint,
    apy_low_billionths bigint,
    apy_high_billionths bigint,
    apy_billionths_seconds numeric NOT NULL,
    apy_seconds int NOT NULL CHECK (apy_seconds BETWEEN 0 AND seconds),
    PRIMARY KEY (vault_id, tranche_id, day)
);
COMMENT ON TABLE tranche_utilization_daily IS 'exact days of months whose history is no longer kept; a mean is the sum over time, divided by the seconds';
COMMENT ON COLUMN tranche_utilization_daily.seconds IS 'seconds of the day since the first event of the tranche';

-- Months are made, filled and dropped by these functions, with the rights of the owner of the table.

CREATE FUNCTION history_month_name(month date) RETURNS text
    LANGUAGE sql IMMUTABLE AS $$
SELECT format('tranche_utilization_history_y%sm%s', to_char(month, 'FMYYYY'), to_char(month, 'MM'))
$$;

-- Make a month's partition and move its rows into it from the default partition, in the caller's transaction. The
-- rows are copied before anything is locked; then posting and reading wait while those that came meanwhile follow.
-- Returns the number of rows moved, or null when the month was there.
CREATE FUNCTION make_history_month(month date) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    name text := history_month_name(month);
    opens timestamptz := month::timestamptz;
    closes timestamptz := (month + interval '1 month')::timestamptz;
    columns text;
    bounds text;
    moved bigint;
BEGIN
    IF extract(day FROM month) <> 1 THEN
        RAISE EXCEPTION '% is not the first day of a month', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(8388070243181228897);
    IF to_regclass(name) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = 'tranche_utilization_history'::regclass AND attnum > 0 AND NOT attisdropped
        AND attgenerated = '';
    bounds := format('recorded_at >= %L AND recorded_at < %L', opens, closes);
    EXECUTE format('CREATE TABLE %I (LIKE tranche_utilization_history INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT month_bounds CHECK (%s)', name, bounds);
    EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM tranche_utilization_history_default WHERE %s',
        name, columns, columns, bounds);
    -- Whoever reads or posts must wait before it decides which partitions it needs: after that it would miss the rows.
    LOCK TABLE tranche_utilization_history IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM tranche_utilization_history_default WHERE %s'
        ' ON CONFLICT DO NOTHING', name, columns, columns, bounds);
    EXECUTE format('DELETE FROM tranche_utilization_history_default WHERE %s', bounds);
    GET DIAGNOSTICS moved = ROW_COUNT;
    EXECUTE format('ALTER TABLE tranche_utilization_history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, opens, closes);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT month_bounds', name);
    RETURN moved;
END
$$;

-- Drop a month, which must be the oldest, after its days were stored. The last state of each tranche stays, as the
-- state at the horizon. Returns the number of rows that went.
CREATE FUNCTION drop_history_month(month date) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    name text := history_month_name(month);
    horizon timestamptz := (month + interval '1 month')::timestamptz;
    columns text;
    total bigint;
    kept bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(8388070243181228897);
    LOCK TABLE tranche_utilization_history IN ACCESS EXCLUSIVE MODE;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = 'tranche_utilization_history'::regclass AND attnum > 0 AND NOT attisdropped
        AND attgenerated = '';
    SELECT count(*) INTO total FROM tranche_utilization_history WHERE recorded_at < horizon;
    CREATE TEMPORARY TABLE last_states ON COMMIT DROP AS
        SELECT DISTINCT ON (vault_id, tranche_id) * FROM tranche_utilization_history WHERE recorded_at < horizon
        ORDER BY vault_id, tranche_id, recorded_at DESC, logical_time DESC, message_index DESC;
    IF EXISTS (
        SELECT FROM last_states s WHERE NOT EXISTS (
            SELECT FROM tranche_utilization_daily d WHERE d.vault_id = s.vault_id AND d.tranche_id = s.tranche_id
                AND d.day = (month + interval '1 month - 1 day')::date)
    ) THEN
        RAISE EXCEPTION 'the days of % are not stored', month USING ERRCODE = 'restrict_violation';
    END IF;
    IF EXISTS (
        SELECT FROM tranche_utilization_history h, history_horizon
        WHERE h.recorded_at < month::timestamptz AND (since IS NULL OR h.recorded_at >= since)
    ) THEN
        RAISE EXCEPTION '% is not the oldest month', month USING ERRCODE = 'restrict_violation';
    END IF;
    IF to_regclass(name) IS NOT NULL THEN -- a month without an event has no rows and may have no partition
        EXECUTE format('ALTER TABLE tranche_utilization_history DETACH PARTITION %I', name);
        EXECUTE format('DROP TABLE %I', name);
    END IF;
    DELETE FROM tranche_utilization_history_default WHERE recorded_at < horizon;
    EXECUTE format('INSERT INTO tranche_utilization_history (%s) SELECT %s FROM last_states', columns, columns);
    GET DIAGNOSTICS kept = ROW_COUNT;
    DROP TABLE last_states;
    UPDATE history_horizon SET since = horizon;
    RETURN total - kept;
END
$$;

REVOKE EXECUTE ON FUNCTION make_history_month(date), drop_history_month(date) FROM PUBLIC;
