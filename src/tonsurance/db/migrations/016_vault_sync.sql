-- Reconciliation: what each run found, and the journal of everything that was ever repaired.

CREATE SEQUENCE vault_sync_run_id;

CREATE TABLE vault_sync_results (
    run_id bigint PRIMARY KEY DEFAULT nextval('vault_sync_run_id'),
    vault_id text REFERENCES vaults,
    contract_address varchar(100) NOT NULL,
    status text NOT NULL CHECK (status IN ('equal', 'repaired', 'adjusted', 'drifted', 'failed')),
    seqno bigint,
    logical_time bigint,
    transaction_hash varchar(100),
    differences int NOT NULL DEFAULT 0 CHECK (differences >= 0),
    explanation jsonb NOT NULL DEFAULT '{}',
    adjustment_id bigint,
    adjustments int NOT NULL DEFAULT 0 CHECK (adjustments >= 0),
    audited_from_lt bigint,
    ledger_digest text,
    error_code text,
    error_message text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_s double precision GENERATED ALWAYS AS
        (date_part('epoch', finished_at - started_at)) STORED,
    CHECK ((status = 'failed') = (error_code IS NOT NULL)),
    CHECK (status = 'failed' OR (vault_id, seqno, logical_time, transaction_hash) IS NOT NULL),
    CHECK ((adjustment_id IS NULL) = (adjustments = 0)),
    CHECK (ledger_digest IS NULL OR status = 'equal')
);
COMMENT ON TABLE vault_sync_results IS 'every reconciliation of a vault with its contract; append-only';
COMMENT ON COLUMN vault_sync_results.status IS 'drifted: there is a difference and it was not repaired; failed: nobody knows';
COMMENT ON COLUMN vault_sync_results.adjustment_id IS 'the first row of ledger_adjustments this run wrote; adjustments is how many';
COMMENT ON COLUMN vault_sync_results.audited_from_lt IS 'every event after this transaction was held against the chain';
COMMENT ON COLUMN vault_sync_results.ledger_digest IS 'of all rows up to logical_time: while they are the same, the next run begins there';

CREATE INDEX idx_sync_results_vault ON vault_sync_results (contract_address, run_id);
CREATE INDEX idx_sync_results_time ON vault_sync_results (started_at);

CREATE TABLE vault_sync_tranches (
    run_id bigint NOT NULL REFERENCES vault_sync_results,
    vault_id text NOT NULL,
    tranche_id text NOT NULL,
    chain_capital_nanoton bigint NOT NULL,
    ledger_capital_nanoton numeric NOT NULL,
    capital_drift_pct double precision NOT NULL CHECK (capital_drift_pct >= 0),
    chain_coverage_nanoton bigint NOT NULL,
    ledger_coverage_nanoton numeric NOT NULL,
    coverage_drift_pct double precision NOT NULL CHECK (coverage_drift_pct >= 0),
    chain_unearned_nanoton bigint NOT NULL,
    ledger_unearned_nanoton numeric NOT NULL,
    chain_shares numeric NOT NULL,
    ledger_shares numeric NOT NULL,
    PRIMARY KEY (run_id, tranche_id)
);
COMMENT ON TABLE vault_sync_tranches IS 'both sides of each tranche as a run found them, before any repair; append-only';
COMMENT ON COLUMN vault_sync_tranches.ledger_capital_nanoton IS 'where the tables of the ledger differ, the figure furthest from the chain';

-- Nothing goes from the append-only tables, and nothing in them changes, unless it is written here first, whole, and
-- in the same transaction.
CREATE TABLE ledger_adjustments (
    adjustment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint NOT NULL REFERENCES vault_sync_results DEFERRABLE INITIALLY DEFERRED,
    vault_id text NOT NULL,
    relation text NOT NULL,
    action text NOT NULL CHECK (action IN ('insert', 'update', 'delete', 'renumber', 'rebuild', 'adjust')),
    contract_address varchar(100) NOT NULL,
    logical_time bigint NOT NULL,
    message_index int,
    tranche_id text,
    row_before jsonb,
    row_after jsonb,
    reason text NOT NULL CHECK (reason <> ''),
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ledger_adjustments IS 'what reconciliations changed, row by row; rebuild: so many rows that follow from others; renumber: events that got another event_id, and nothing else; append-only';

CREATE INDEX idx_adjustments_run ON ledger_adjustments (run_id);
CREATE INDEX idx_adjustments_place ON ledger_adjustments (contract_address, logical_time);
CREATE INDEX idx_adjustments_transaction ON ledger_adjustments (transaction_id);

CREATE TRIGGER trg_sync_results_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vault_sync_results
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER trg_sync_tranches_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vault_sync_tranches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER trg_adjustments_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_unjournalled_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM ledger_adjustments j
        WHERE j.transaction_id = pg_current_xact_id() AND j.relation = TG_TABLE_NAME
            AND (j.row_before = to_jsonb(OLD) OR (j.action = 'renumber' AND TG_OP = 'UPDATE'
            AND to_jsonb(OLD) - 'event_id' = to_jsonb(NEW) - 'event_id'))
    ) THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION refuse_unjournalled_change() IS 'a row may go or change only after the journal has it whole';

DROP TRIGGER trg_events_append_only ON blockchain_events;
CREATE TRIGGER trg_events_append_only BEFORE UPDATE OR DELETE ON blockchain_events
    FOR EACH ROW EXECUTE FUNCTION refuse_unjournalled_change();
CREATE TRIGGER trg_events_stay BEFORE TRUNCATE ON blockchain_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER trg_entries_append_only ON ledger_entries;
CREATE TRIGGER trg_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_unjournalled_change();
CREATE TRIGGER trg_entries_stay BEFORE TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The place of an event in the log that its neighbours leave: a number between theirs that nobody has, so that the
-- log's order stays the chain's.
CREATE FUNCTION find_event_id(contract text, lt bigint, idx int) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH beside AS (
        SELECT (SELECT event_id FROM blockchain_events WHERE contract_address = contract
                AND (logical_time, message_index) < (lt, idx) ORDER BY logical_time DESC, message_index DESC LIMIT 1)
            AS before,
            (SELECT event_id FROM blockchain_events WHERE contract_address = contract
                AND (logical_time, message_index) > (lt, idx) ORDER BY logical_time, message_index LIMIT 1) AS after
    ), taken AS (
        SELECT event_id, lead(event_id) OVER (ORDER BY event_id) AS next
        FROM (SELECT event_id FROM blockchain_events, beside
            WHERE event_id >= coalesce(before, 0) AND event_id <= after
            UNION SELECT 0 FROM beside WHERE before IS NULL) known
    )
    SELECT min(event_id) + 1 FROM taken WHERE next > event_id + 1
$$;
COMMENT ON FUNCTION find_event_id IS 'a free event_id between the neighbours of a place in a contract''s history; null: none';

-- When the neighbours leave none, the contract's later events move on by one of their own numbers each.
CREATE FUNCTION make_event_id(run bigint, contract text, lt bigint, idx int) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    place bigint := find_event_id(contract, lt, idx);
    fresh bigint;
BEGIN
    IF place IS NOT NULL THEN
        RETURN place;
    END IF;
    fresh := nextval(pg_get_serial_sequence('blockchain_events', 'event_id'));
    SELECT event_id INTO place FROM blockchain_events e
    WHERE e.contract_address = contract AND (logical_time, message_index) > (lt, idx)
    ORDER BY logical_time, message_index LIMIT 1;
    IF place IS NULL THEN
        RETURN fresh;
    END IF;
    INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, message_index,
        row_after, reason)
    SELECT run, s.vault_id, 'blockchain_events', 'renumber', contract, lt, idx,
        jsonb_build_object('from', place, 'to', fresh), 'an event before them was missing'
    FROM blockchain_sync_state s WHERE s.contract_address = contract;
    UPDATE blockchain_events e SET event_id = -later.next
    FROM (SELECT event_id, lead(event_id, 1, fresh) OVER (ORDER BY logical_time, message_index) AS next
        FROM blockchain_events
        WHERE contract_address = contract AND (logical_time, message_index) > (lt, idx)) later
    WHERE e.event_id = later.event_id;
    UPDATE blockchain_events SET event_id = -event_id WHERE event_id < 0;
    RETURN place;
END
$$;
COMMENT ON FUNCTION make_event_id IS 'a free event_id at a place in a contract''s history';

-- Make a row of the log what the chain says: insert, update or (a null type) delete it. False: it was so.
CREATE FUNCTION repair_event(run bigint, why text, contract text, lt bigint, idx int, kind text, type text,
    policy bigint, hash text, fields jsonb, raw bytea, made_by text, at bigint, version bigint, params bigint)
    RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held blockchain_events;
    wanted blockchain_events;
    place bigint;
BEGIN
    PERFORM lock_ledger_head();
    SELECT * INTO held FROM blockchain_events e
    WHERE e.contract_address = contract AND e.logical_time = lt AND e.message_index = idx;
    IF type IS NULL AND held.event_id IS NULL THEN
        RETURN false;
    END IF;
    wanted := held;
    wanted.event_type := type;
    wanted.policy_id := policy;
    wanted.contract_type := kind;
    wanted.transaction_hash := hash;
    wanted.metadata := fields;
    wanted.raw_body := raw;
    wanted.decoder := made_by;
    wanted.block_time := to_timestamp(at);
    IF held.event_id IS NOT NULL AND wanted IS NOT DISTINCT FROM held THEN
        RETURN false;
    END IF;
    IF held.event_id IS NOT NULL THEN
        INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time,
            message_index, row_before, row_after, reason)
        SELECT run, s.vault_id, 'blockchain_events', CASE WHEN type IS NULL THEN 'delete' ELSE 'update' END, contract,
            lt, idx, to_jsonb(held), CASE WHEN type IS NOT NULL THEN to_jsonb(wanted) END, why
        FROM blockchain_sync_state s WHERE s.contract_address = contract;
    END IF;
    IF type IS NULL THEN
        DELETE FROM blockchain_events WHERE event_id = held.event_id;
    ELSIF held.event_id IS NOT NULL THEN
        UPDATE blockchain_events SET event_type = type, policy_id = policy, contract_type = kind,
            transaction_hash = hash, metadata = fields, raw_body = raw, decoder = made_by,
            block_time = to_timestamp(at)
        WHERE event_id = held.event_id;
    ELSE
        place := make_event_id(run, contract, lt, idx);
        INSERT INTO blockchain_events (event_id, event_type, policy_id, contract_address, contract_type,
            transaction_hash, logical_time, message_index, metadata, raw_body, decoder, block_time, ledger_version,
            params_version)
        VALUES (place, type, policy, contract, kind, hash, lt, idx, fields, raw, made_by, to_timestamp(at), version,
            params)
        RETURNING * INTO wanted;
        INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time,
            message_index, row_after, reason)
        SELECT run, s.vault_id, 'blockchain_events', 'insert', contract, lt, idx, to_jsonb(wanted), why
        FROM blockchain_sync_state s WHERE s.contract_address = contract;
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION repair_event IS 'make a row of the log what the chain says, and journal it';

-- Make an entry what its event demands: insert, update or (a null version) delete it. False: it was so.
CREATE FUNCTION repair_entry(run bigint, why text, vault text, contract text, lt bigint, idx int, tranche text,
    capital bigint, coverage bigint, unearned bigint, earned bigint, loss bigint, share numeric, version bigint)
    RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held ledger_entries;
    wanted ledger_entries;
BEGIN
    PERFORM lock_ledger_head();
    SELECT * INTO held FROM ledger_entries e WHERE e.contract_address = contract AND e.logical_time = lt
        AND e.message_index = idx AND e.tranche_id = tranche;
    IF version IS NULL AND held.entry_id IS NULL THEN
        RETURN false;
    END IF;
    wanted := held;
    wanted.vault_id := vault;
    wanted.capital_delta_nanoton := capital;
    wanted.coverage_delta_nanoton := coverage;
    wanted.unearned_delta_nanoton := unearned;
    wanted.earned_delta_nanoton := earned;
    wanted.loss_delta_nanoton := loss;
    wanted.shares_delta := share;
    wanted.ledger_version := version;
    IF held.entry_id IS NOT NULL AND wanted IS NOT DISTINCT FROM held THEN
        RETURN false;
    END IF;
    IF held.entry_id IS NOT NULL THEN
        INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time,
            message_index, tranche_id, row_before, row_after, reason)
        VALUES (run, vault, 'ledger_entries', CASE WHEN version IS NULL THEN 'delete' ELSE 'update' END, contract, lt,
            idx, tranche, to_jsonb(held), CASE WHEN version IS NOT NULL THEN to_jsonb(wanted) END, why);
    END IF;
    IF version IS NULL THEN
        DELETE FROM ledger_entries WHERE entry_id = held.entry_id;
    ELSIF held.entry_id IS NOT NULL THEN
        UPDATE ledger_entries SET vault_id = vault, capital_delta_nanoton = capital,
            coverage_delta_nanoton = coverage, unearned_delta_nanoton = unearned, earned_delta_nanoton = earned,
            loss_delta_nanoton = loss, shares_delta = share, ledger_version = version
        WHERE entry_id = held.entry_id;
    ELSE
        INSERT INTO ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id,
            capital_delta_nanoton, coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton,
            loss_delta_nanoton, shares_delta, ledger_version)
        VALUES (contract, lt, idx, vault, tranche, capital, coverage, unearned, earned, loss, share, version)
        RETURNING * INTO wanted;
        INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time,
            message_index, tranche_id, row_after, reason)
        VALUES (run, vault, 'ledger_entries', 'insert', contract, lt, idx, tranche, to_jsonb(wanted), why);
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION repair_entry IS 'make an entry what its event demands, and journal it';

-- Rows of the history: $3..$6 name those to drop (tranche, lt, message_index, block_time); $7..$21 are the columns of
-- those to put: tranche, lt, message_index, block_time, the six totals, utilization (capped, raw), insolvent, apy,
-- version of the parameters. The history follows from the entries, so the journal has how many rows, and their times.
CREATE FUNCTION repair_history(run bigint, vault text, text[], bigint[], int[], timestamptz[],
    text[], bigint[], int[], bigint[], bigint[], bigint[], bigint[], text[], text[], text[],
    float8[], float8[], boolean[], float8[], bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_ledger_head();
    DELETE FROM tranche_utilization_history h
    USING unnest($3, $4, $5, $6) AS gone (tranche_id, lt, message_index, block_time)
    WHERE h.vault_id = vault AND h.tranche_id = gone.tranche_id AND h.logical_time = gone.lt
        AND h.message_index = gone.message_index AND h.recorded_at = gone.block_time;
    INSERT INTO tranche_utilization_history (vault_id, tranche_id, logical_time, message_index, recorded_at,
        total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton,
        absorbed_losses_nanoton, shares, utilization_ratio, utilization_raw, insolvent, current_apy, params_version)
    SELECT vault, tranche_id, lt, message_index, to_timestamp(block_time), capital, coverage, unearned,
        earned::numeric, losses::numeric, shares::numeric, capped, raw, insolvent, apy, params
    FROM unnest($7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
        AS new (tranche_id, lt, message_index, block_time, capital, coverage, unearned, earned, losses, shares,
        capped, raw, insolvent, apy, params);
    INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, tranche_id,
        row_before, row_after, reason)
    SELECT run, vault, 'tranche_utilization_history', 'rebuild',
        (SELECT contract_address FROM blockchain_sync_state s
        WHERE s.vault_id = vault AND s.contract_type = 'MultiTrancheVault'), min(lt), tranche_id,
        jsonb_build_object('rows', sum(gone)), jsonb_build_object('rows', sum(put), 'until_lt', max(lt)),
        'follows from the entries'
    FROM (SELECT tranche_id, lt, 1 AS gone, 0 AS put FROM unnest($3, $4) AS gone (tranche_id, lt)
        UNION ALL SELECT tranche_id, lt, 0, 1 FROM unnest($7, $8) AS put (tranche_id, lt)) changed
    GROUP BY tranche_id;
END
$$;
COMMENT ON FUNCTION repair_history IS 'drop and put rows of the history of a vault, and journal how many';

-- What follows from entries and history: streams from a logical time on are dropped (and posted anew by the caller),
-- and each snapshot row becomes the last one of its history.
CREATE FUNCTION drop_streams(run bigint, vault text, contract text, from_lt bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM lock_ledger_head();
    DELETE FROM premium_streams WHERE vault_id = vault AND logical_time >= from_lt;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, row_before,
            reason)
        VALUES (run, vault, 'premium_streams', 'rebuild', contract, from_lt, jsonb_build_object('rows', gone),
            'follows from the premiums from here on');
    END IF;
END
$$;
COMMENT ON FUNCTION drop_streams IS 'drop the premium streams of a vault from a logical time on, and journal it';

-- What the snapshot of a vault must be: the last row of each tranche's history.
CREATE FUNCTION last_states(vault text, tranches text[]) RETURNS TABLE (vault_id text, tranche_id text,
    total_capital_nanoton bigint, coverage_sold_nanoton bigint, unearned_premium_nanoton bigint,
    earned_premium_nanoton numeric, absorbed_losses_nanoton numeric, shares numeric, utilization_ratio float8,
    utilization_raw float8, insolvent boolean, current_apy float8, logical_time bigint, message_index int,
    mc_seqno bigint, block_time timestamptz, params_version bigint, ledger_version bigint)
    LANGUAGE sql STABLE AS $$
    SELECT last.*, coalesce((SELECT e.ledger_version FROM blockchain_events e
        JOIN blockchain_sync_state s USING (contract_address)
        WHERE s.vault_id = vault AND s.contract_type IN ('MultiTrancheVault', 'DirectVault')
        AND e.logical_time = last.logical_time AND e.message_index = last.message_index), 0)
    FROM unnest(tranches) AS wanted (tranche_id) CROSS JOIN LATERAL (
        SELECT h.vault_id, h.tranche_id, h.total_capital_nanoton, h.coverage_sold_nanoton, h.unearned_premium_nanoton,
            h.earned_premium_nanoton, h.absorbed_losses_nanoton, h.shares, h.utilization_ratio, h.utilization_raw,
            h.insolvent, h.current_apy, h.logical_time, h.message_index, h.mc_seqno, h.recorded_at, h.params_version
        FROM tranche_utilization_history h WHERE h.vault_id = vault AND h.tranche_id = wanted.tranche_id
        ORDER BY h.logical_time DESC, h.message_index DESC, h.recorded_at DESC LIMIT 1) last
$$;

CREATE FUNCTION repair_snapshot(run bigint, vault text, tranches text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wrong record;
    changed bigint := 0;
BEGIN
    PERFORM lock_ledger_head();
    FOR wrong IN
        SELECT coalesce(held.tranche_id, wanted.tranche_id) AS tranche_id,
            to_jsonb(held) - 'updated_at' AS row_before, to_jsonb(wanted) AS row_after,
            coalesce(wanted.logical_time, held.logical_time) AS lt
        FROM (SELECT * FROM tranche_utilization WHERE vault_id = vault) held
        FULL JOIN (SELECT * FROM last_states(vault, tranches)) wanted USING (tranche_id)
        WHERE (to_jsonb(held) - 'updated_at') IS DISTINCT FROM to_jsonb(wanted)
    LOOP
        INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, tranche_id,
            row_before, row_after, reason)
        SELECT run, vault, 'tranche_utilization', 'rebuild', s.contract_address, wrong.lt, wrong.tranche_id,
            wrong.row_before, wrong.row_after, 'is the last row of the history'
        FROM blockchain_sync_state s WHERE s.vault_id = vault AND s.contract_type = 'MultiTrancheVault';
        DELETE FROM tranche_utilization t WHERE t.vault_id = vault AND t.tranche_id = wrong.tranche_id;
        INSERT INTO tranche_utilization (vault_id, tranche_id, total_capital_nanoton, coverage_sold_nanoton,
            unearned_premium_nanoton, earned_premium_nanoton, absorbed_losses_nanoton, shares, utilization_ratio,
            utilization_raw, insolvent, current_apy, logical_time, message_index, mc_seqno, block_time,
            params_version, ledger_version)
        SELECT v.vault_id, v.tranche_id, v.total_capital_nanoton, v.coverage_sold_nanoton, v.unearned_premium_nanoton,
            v.earned_premium_nanoton, v.absorbed_losses_nanoton, v.shares, v.utilization_ratio, v.utilization_raw,
            v.insolvent, v.current_apy, v.logical_time, v.message_index, v.mc_seqno, v.block_time, v.params_version,
            v.ledger_version
        FROM last_states(vault, ARRAY[wrong.tranche_id]) v;
        changed := changed + 1;
    END LOOP;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION repair_snapshot IS 'make the snapshot of a vault the last rows of its history; returns how many rows were not';

-- Policies of a factory that are not what its events come to: $5 is an array of {policy_id, why, row}, a null row is a
-- policy that no event made. The exposure moves with them: it is counted anew before, so that it can move at all when
-- it was wrong, and after; what it came to is journalled by row.
CREATE FUNCTION repair_policies(run bigint, vault text, contract text, lt bigint, wrong jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    exposed jsonb := (SELECT coalesce(jsonb_agg(to_jsonb(e) - 'updated_at'), '[]') FROM product_exposure e);
BEGIN
    PERFORM lock_ledger_head();
    PERFORM update_product_exposure_cache();
    INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, message_index,
        row_before, row_after, reason)
    SELECT run, vault, 'policies', CASE WHEN p.policy_id IS NULL THEN 'insert'
        WHEN jsonb_typeof(w -> 'row') = 'null' THEN 'delete' ELSE 'update' END, contract,
        coalesce((w #>> '{row,created_lt}')::bigint, p.created_lt),
        coalesce((w #>> '{row,created_message_index}')::int, p.created_message_index), to_jsonb(p),
        nullif(w -> 'row', 'null'), w ->> 'why'
    FROM jsonb_array_elements(wrong) w
        LEFT JOIN policies p ON p.contract_address = contract AND p.policy_id = (w ->> 'policy_id')::bigint;
    DELETE FROM policies p USING jsonb_array_elements(wrong) w
    WHERE p.contract_address = contract AND p.policy_id = (w ->> 'policy_id')::bigint;
    INSERT INTO policies SELECT made.* FROM jsonb_array_elements(wrong) w,
        jsonb_populate_record(NULL::policies, w -> 'row') made
    WHERE jsonb_typeof(w -> 'row') <> 'null';
    PERFORM update_product_exposure_cache();
    INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time, row_before,
        row_after, reason)
    SELECT run, now.vault_id, 'product_exposure', 'rebuild', contract, lt, held.before, to_jsonb(now) - 'updated_at',
        'is the sum of the policies not ended'
    FROM product_exposure now LEFT JOIN (
        SELECT e AS before, (jsonb_populate_record(NULL::product_exposure, e)).* FROM jsonb_array_elements(exposed) e
    ) held USING (vault_id, coverage_type, chain_id, stablecoin_id)
    WHERE held.before IS DISTINCT FROM to_jsonb(now) - 'updated_at';
END
$$;
COMMENT ON FUNCTION repair_policies IS 'make policies what their events come to and count the exposure anew, and journal both';

REVOKE ALL ON FUNCTION refuse_unjournalled_change, find_event_id, make_event_id, repair_event, repair_entry,
    repair_history, drop_streams, repair_snapshot, last_states, repair_policies FROM PUBLIC;

GRANT SELECT, INSERT ON vault_sync_results, vault_sync_tranches, ledger_adjustments TO tonsurance_ingest;
GRANT USAGE ON SEQUENCE vault_sync_run_id TO tonsurance_ingest;
GRANT SELECT ON vault_sync_results, vault_sync_tranches, ledger_adjustments TO tonsurance_api, tonsurance_admin;
GRANT EXECUTE ON FUNCTION repair_event, repair_entry, repair_history, drop_streams, repair_snapshot,
    repair_policies TO tonsurance_ingest;
GRANT EXECUTE ON FUNCTION last_states TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
