-- Who may do what. Three roles that processes take (see db/roles.py): ingest inserts events, api reads, admin changes
-- parameters and people. Nobody but the owner moves totals, cursors, policies or versions by hand: that is done by the
-- functions below, which run as the owner and check what they are given.

-- Roles belong to the whole cluster: another database of it may have made them, or may be making them right now.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tonsurance_admin', 'tonsurance_api', 'tonsurance_ingest'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            IF wanted = 'tonsurance_api' THEN
                ALTER ROLE tonsurance_api SET statement_timeout = '10s';
            END IF;
            IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not create roles. Run this as a superuser, then migrate again: '
                    'CREATE ROLE tonsurance_ingest NOLOGIN; CREATE ROLE tonsurance_api NOLOGIN; '
                    'CREATE ROLE tonsurance_admin NOLOGIN;', current_user
                    USING ERRCODE = 'insufficient_privilege';
        END;
    END LOOP;
END
$$;

-- The ledger's write lock: whoever moves anything of the ledger holds this row until the transaction ends.
CREATE FUNCTION lock_ledger_head(OUT version bigint, OUT writer_epoch bigint)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT version, writer_epoch FROM ledger_head FOR UPDATE';
COMMENT ON FUNCTION lock_ledger_head() IS 'take the write lock of the ledger';

CREATE FUNCTION take_writer_epoch() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS 'UPDATE ledger_head SET writer_epoch = writer_epoch + 1 RETURNING writer_epoch';
COMMENT ON FUNCTION take_writer_epoch() IS 'become the writer; an older one can no longer post';

CREATE FUNCTION require_next_version(first bigint, last bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF (first, last) IS DISTINCT FROM (SELECT (version + 1, version + 1) FROM lock_ledger_head()) THEN
        RAISE EXCEPTION 'ledger versions % to % are not the next one', first, last USING ERRCODE = 'check_violation';
    END IF;
END
$$;
COMMENT ON FUNCTION require_next_version(bigint, bigint) IS 'take the write lock; refuse all but the next version';

-- Entries, one history row per event and touched tranche, and the snapshot: the last of these rows per tranche.
-- $1..$23 are columns: contract, lt, message_index, block_time, vault_id, tranche_id, the six deltas, the six totals
-- after them, utilization (capped, raw), insolvent, apy, version; $24 is the version of the parameters.
CREATE FUNCTION post_entries(text[], bigint[], int[], bigint[], text[], text[],
    bigint[], bigint[], bigint[], bigint[], bigint[], text[],
    bigint[], bigint[], bigint[], text[], text[], text[],
    float8[], float8[], boolean[], float8[], bigint[], bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    refused text;
    first bigint;
    last bigint;
BEGIN
    SELECT min(v), max(v) INTO first, last FROM unnest($23) AS v;
    PERFORM require_next_version(first, last);
    WITH posting AS MATERIALIZED (
        SELECT n.*, lead(place) OVER steps IS NULL AS ends,
            ROW(n.capital, n.coverage, n.unearned, n.earned, n.losses, n.shares) IS DISTINCT FROM ROW(
            lag(n.capital, 1, coalesce(t.total_capital_nanoton, 0)) OVER steps + n.capital_delta,
            lag(n.coverage, 1, coalesce(t.coverage_sold_nanoton, 0)) OVER steps + n.coverage_delta,
            lag(n.unearned, 1, coalesce(t.unearned_premium_nanoton, 0)) OVER steps + n.unearned_delta,
            lag(n.earned, 1, coalesce(t.earned_premium_nanoton, 0)) OVER steps + n.earned_delta,
            lag(n.losses, 1, coalesce(t.absorbed_losses_nanoton, 0)) OVER steps + n.loss_delta,
            lag(n.shares, 1, coalesce(t.shares, 0)) OVER steps + n.shares_delta) AS invented
        FROM (
        SELECT contract, lt, message_index, to_timestamp(block_time) AS block_time, vault_id, tranche_id,
            capital_delta, coverage_delta, unearned_delta, earned_delta, loss_delta,
            shares_delta::numeric AS shares_delta, capital, coverage, unearned, earned::numeric AS earned,
            losses::numeric AS losses, shares::numeric AS shares, capped, raw, insolvent, apy, version, place
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
            $22, $23)
            WITH ORDINALITY AS p (contract, lt, message_index, block_time, vault_id, tranche_id,
            capital_delta, coverage_delta, unearned_delta, earned_delta, loss_delta, shares_delta,
            capital, coverage, unearned, earned, losses, shares, capped, raw, insolvent, apy, version, place)
        ) n LEFT JOIN tranche_utilization t USING (vault_id, tranche_id)
        WINDOW steps AS (PARTITION BY vault_id, tranche_id ORDER BY place)
    ), entry AS (
        INSERT INTO ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id,
            capital_delta_nanoton, coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton,
            loss_delta_nanoton, shares_delta, ledger_version)
        SELECT contract, lt, message_index, vault_id, tranche_id, capital_delta, coverage_delta, unearned_delta,
            earned_delta, loss_delta, shares_delta, version
        FROM posting ORDER BY place
    ), history AS (
        INSERT INTO tranche_utilization_history (vault_id, tranche_id, logical_time, message_index, recorded_at,
            total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton,
            absorbed_losses_nanoton, shares, utilization_ratio, utilization_raw, insolvent, current_apy,
            params_version)
        SELECT vault_id, tranche_id, lt, message_index, block_time, capital, coverage, unearned, earned, losses,
            shares, capped, raw, insolvent, apy, $24
        FROM posting
    ), snapshot AS (
        INSERT INTO tranche_utilization AS t (vault_id, tranche_id, total_capital_nanoton, coverage_sold_nanoton,
            unearned_premium_nanoton, earned_premium_nanoton, absorbed_losses_nanoton, shares, utilization_ratio,
            utilization_raw, insolvent, current_apy, logical_time, message_index, block_time, params_version,
            ledger_version)
        SELECT vault_id, tranche_id, capital, coverage, unearned, earned, losses,
            shares, capped, raw, insolvent, apy, lt, message_index, block_time, $24, version
        FROM posting WHERE ends
        ON CONFLICT (vault_id, tranche_id) DO UPDATE SET
            total_capital_nanoton = excluded.total_capital_nanoton,
            coverage_sold_nanoton = excluded.coverage_sold_nanoton,
            unearned_premium_nanoton = excluded.unearned_premium_nanoton,
            earned_premium_nanoton = excluded.earned_premium_nanoton,
            absorbed_losses_nanoton = excluded.absorbed_losses_nanoton, shares = excluded.shares,
            utilization_ratio = excluded.utilization_ratio, utilization_raw = excluded.utilization_raw,
            insolvent = excluded.insolvent, current_apy = excluded.current_apy, logical_time = excluded.logical_time,
            message_index = excluded.message_index, mc_seqno = excluded.mc_seqno, block_time = excluded.block_time,
            params_version = excluded.params_version, ledger_version = excluded.ledger_version, updated_at = now()
    )
    SELECT format('%s of vault %s at logical time %s', tranche_id, vault_id, lt) INTO refused
    FROM posting WHERE invented ORDER BY place LIMIT 1;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION 'the totals of % are not those before it and its entry', refused
             USING ERRCODE = 'check_violation';
    END IF;
END
$$;
COMMENT ON FUNCTION post_entries IS 'store what events did to tranches; refuses totals that are not the sums of entries';

-- $1..$18: contract, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id, buyer, coverage, premium,
-- trigger_bps, floor_bps, start, end, lt, message_index, block_time, version.
CREATE FUNCTION create_policies(text[], bigint[], text[], text[], smallint[], smallint[], smallint[], text[],
    bigint[], bigint[], int[], int[], bigint[], bigint[], bigint[], int[], bigint[], bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM require_next_version(min(v), max(v)) FROM unnest($18) AS v;
    INSERT INTO policies (contract_address, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id,
        buyer_address, beneficiary_address, coverage_amount_nanoton, premium_nanoton, trigger_bps, floor_bps,
        start_time, expiry_time, status, created_lt, created_message_index, created_at, ledger_version)
    SELECT contract, policy_id, vault_id, quote_id::numeric, coverage_type, chain_id, stablecoin_id, buyer, buyer,
        coverage_amount, premium, trigger_bps, floor_bps, to_timestamp(starts), to_timestamp(ends), 'active',
        lt, message_index, to_timestamp(block_time), version
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        AS new (contract, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id, buyer,
        coverage_amount, premium, trigger_bps, floor_bps, starts, ends, lt, message_index, block_time, version);
END
$$;

-- $1..$11: contract, policy_id, status, beneficiary, approved, payout, ended, lt, message_index, block_time, version.
CREATE FUNCTION move_policies(text[], bigint[], text[], text[], bigint[], bigint[], boolean[], bigint[], int[],
    bigint[], bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    moved_rows bigint;
BEGIN
    PERFORM require_next_version(min(v), max(v)) FROM unnest($11) AS v;
    UPDATE policies p SET status = moved.status, beneficiary_address = moved.beneficiary,
        approved_nanoton = moved.approved, payout_nanoton = moved.payout, ledger_version = moved.version,
        closed_lt = CASE WHEN moved.ended THEN moved.lt END,
        closed_message_index = CASE WHEN moved.ended THEN moved.message_index END,
        closed_at = CASE WHEN moved.ended THEN to_timestamp(moved.block_time) END
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        AS moved (contract, policy_id, status, beneficiary, approved, payout, ended, lt, message_index, block_time,
        version)
    WHERE p.contract_address = moved.contract AND p.policy_id = moved.policy_id AND p.closed_lt IS NULL;
    GET DIAGNOSTICS moved_rows = ROW_COUNT;
    IF moved_rows <> cardinality($1) THEN
        RAISE EXCEPTION 'a policy that was moved does not exist, or has ended' USING ERRCODE = 'check_violation';
    END IF;
END
$$;

-- $1..$4: contract, lt, hash, new events. A trigger refuses to go back.
CREATE FUNCTION move_cursors(text[], bigint[], bytea[], bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_ledger_head();
    UPDATE blockchain_sync_state s SET last_synced_lt = moved.lt, last_synced_hash = moved.hash,
        last_sync_timestamp = now(), sync_status = 'active', error_message = NULL,
        total_events_synced = s.total_events_synced + moved.events
    FROM unnest($1, $2, $3, $4) AS moved (contract, lt, hash, events)
    WHERE s.contract_address = moved.contract;
END
$$;

CREATE FUNCTION publish_version(next bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM require_next_version(next, next);
    UPDATE ledger_head SET version = next;
    PERFORM pg_notify('tonsurance_ledger', format('{"v":%s}', next));
END
$$;
COMMENT ON FUNCTION publish_version(bigint) IS 'give what was posted its version, and announce it with the commit';

-- What following a contract found; nothing of the ledger depends on it.
CREATE FUNCTION add_contract(address text, kind text, vault text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO vaults (vault_id, source) VALUES (vault, 'chain') ON CONFLICT (vault_id) DO NOTHING;
    INSERT INTO blockchain_sync_state (contract_address, contract_type, vault_id) VALUES (address, kind, vault)
        ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION add_contract(text, text, text) IS 'make a contract known, and its vault; what is known stays';

CREATE FUNCTION record_head(address text, lt bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE blockchain_sync_state SET head_lt = GREATEST(head_lt, $2), last_sync_timestamp = now(),
        sync_status = 'active', error_message = NULL
    WHERE contract_address = $1
$$;

CREATE FUNCTION record_fault(address text, message text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE blockchain_sync_state SET sync_status = 'error', error_message = $2, last_sync_timestamp = now()
    WHERE contract_address = $1
$$;

CREATE FUNCTION forget_old_accesses() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ DELETE FROM config_access_log WHERE "timestamp" < now() - interval '30 days' $$;
COMMENT ON FUNCTION forget_old_accesses() IS 'samples of accesses are kept for 30 days';

-- Nothing for everybody; also not what is made later. (A table made later has no grants at all until its migration
-- says who may use it, and a test fails until it does. Functions are everybody's unless the default is taken away,
-- which does not work for one schema alone.)
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

GRANT USAGE ON SCHEMA public TO tonsurance_ingest, tonsurance_api, tonsurance_admin;

-- What everybody reads.
GRANT SELECT ON schema_migrations, vaults, ledger_head, blockchain_events, blockchain_sync_state,
    blockchain_quarantine, tranche_utilization, policies, config_head, config_versions, config_parameters
    TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
GRANT INSERT ON config_access_log TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
GRANT EXECUTE ON FUNCTION forget_old_accesses() TO tonsurance_ingest, tonsurance_api, tonsurance_admin;

GRANT INSERT ON blockchain_events, blockchain_quarantine TO tonsurance_ingest;
GRANT EXECUTE ON FUNCTION lock_ledger_head(), take_writer_epoch(), post_entries, create_policies, move_policies,
    move_cursors, publish_version, add_contract, record_head, record_fault TO tonsurance_ingest;

GRANT SELECT ON ledger_entries, tranche_utilization_history, config_access_log TO tonsurance_api, tonsurance_admin;

GRANT SELECT ON dataset_coins, historical_depegs, stress_scenarios, v_depeg_statistics, v_recent_depegs
    TO tonsurance_api, tonsurance_admin;
GRANT EXECUTE ON FUNCTION depeg_frequency, depeg_severity, depeg_expected_loss, depeg_probability
    TO tonsurance_api, tonsurance_admin;

GRANT SELECT ON config_audit_log, config_changes, admin_users, revoked_tokens TO tonsurance_admin;
GRANT UPDATE ON config_head TO tonsurance_admin;
GRANT INSERT ON config_versions, config_audit_log TO tonsurance_admin;
GRANT INSERT, UPDATE, DELETE ON config_parameters TO tonsurance_admin;
GRANT USAGE ON SEQUENCE config_parameters_id_seq, historical_depegs_id_seq, stress_scenarios_id_seq
    TO tonsurance_admin;
GRANT INSERT, UPDATE ON config_changes, admin_users TO tonsurance_admin;
GRANT INSERT, UPDATE, DELETE ON revoked_tokens, historical_depegs, stress_scenarios TO tonsurance_admin;
GRANT SELECT, INSERT ON dataset_seeds TO tonsurance_admin;
