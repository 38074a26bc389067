-- What the products are called, how much cover is in force on each, and what the events say of them; prices, and the
-- events that are worth much at the price of their time.

CREATE TABLE coverage_types (
    type_id smallint PRIMARY KEY,
    type_name varchar(50) NOT NULL UNIQUE,
    description text NOT NULL,
    base_risk_multiplier double precision NOT NULL CHECK (base_risk_multiplier > 0)
);
INSERT INTO coverage_types VALUES
    (0, 'depeg', 'a stablecoin trades below its peg', 1.0),
    (1, 'smart_contract', 'a contract is exploited', 1.3),
    (2, 'oracle', 'a price oracle is wrong or silent', 1.2),
    (3, 'bridge', 'a bridge is exploited or stops', 1.5),
    (4, 'cex_liquidation', 'an exchange liquidates by a price nobody else had', 1.4);

CREATE TABLE chain_risk_metrics (
    chain_id smallint PRIMARY KEY,
    chain_name varchar(50) NOT NULL UNIQUE,
    security_multiplier double precision NOT NULL CHECK (security_multiplier > 0),
    validator_centralization_score double precision NOT NULL CHECK (validator_centralization_score BETWEEN 0 AND 1),
    bridge_exploit_count int CHECK (bridge_exploit_count >= 0),
    total_tvl_usd bigint CHECK (total_tvl_usd >= 0),
    last_incident_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN chain_risk_metrics.bridge_exploit_count IS 'null: nobody has counted';
COMMENT ON COLUMN chain_risk_metrics.total_tvl_usd IS 'null: not known';
INSERT INTO chain_risk_metrics (chain_id, chain_name, security_multiplier, validator_centralization_score) VALUES
    (0, 'Ethereum', 1.0, 0.2), (1, 'Arbitrum', 1.1, 0.3), (2, 'Base', 1.1, 0.35), (3, 'Polygon', 1.2, 0.4),
    (4, 'Optimism', 1.1, 0.3), (5, 'Bitcoin', 0.9, 0.15), (6, 'Lightning', 1.3, 0.5), (7, 'Solana', 1.4, 0.6),
    (8, 'TON', 1.0, 0.4);

CREATE TABLE stablecoins (
    coin_id smallint PRIMARY KEY,
    coin_symbol varchar(10) NOT NULL UNIQUE,
    coin_name varchar(100) NOT NULL,
    depeg_risk_score double precision NOT NULL CHECK (depeg_risk_score BETWEEN 0 AND 1),
    market_cap_usd bigint CHECK (market_cap_usd >= 0),
    last_depeg_event timestamptz
);
COMMENT ON COLUMN stablecoins.market_cap_usd IS 'null: not known';
INSERT INTO stablecoins (coin_id, coin_symbol, coin_name, depeg_risk_score) VALUES
    (0, 'USDC', 'USD Coin', 0.15), (1, 'USDT', 'Tether USD', 0.25), (2, 'USDP', 'Pax Dollar', 0.2),
    (3, 'DAI', 'Dai', 0.3), (4, 'FRAX', 'Frax', 0.4), (5, 'BUSD', 'Binance USD', 0.35), (6, 'USDe', 'Ethena USDe', 0.5),
    (7, 'sUSDe', 'Staked USDe', 0.55), (8, 'USDY', 'Ondo US Dollar Yield', 0.3), (9, 'PYUSD', 'PayPal USD', 0.25),
    (10, 'GHO', 'GHO', 0.35), (11, 'LUSD', 'Liquity USD', 0.3), (12, 'crvUSD', 'Curve USD', 0.4),
    (13, 'mkUSD', 'Prisma mkUSD', 0.45);

-- What follows from an incoming message, where the contract logs nothing, has no out-message: its index is -1.
ALTER TABLE blockchain_events DROP CONSTRAINT blockchain_events_message_index_check,
    ADD CONSTRAINT blockchain_events_message_index_check CHECK (message_index >= -1);
ALTER TABLE blockchain_quarantine DROP CONSTRAINT blockchain_quarantine_message_index_check,
    ADD CONSTRAINT blockchain_quarantine_message_index_check CHECK (message_index >= -1);

-- A policy whose product nobody knows is kept apart, and so is what happens to it later.
ALTER TABLE blockchain_quarantine ADD COLUMN policy_id bigint;
COMMENT ON COLUMN blockchain_quarantine.policy_id IS 'of a message that was decoded and still could not be applied';
CREATE INDEX idx_quarantine_policy ON blockchain_quarantine (contract_address, policy_id) WHERE policy_id IS NOT NULL;

-- Cover in force by product, moved by every statement that changes policies.
CREATE TABLE product_exposure (
    vault_id text NOT NULL REFERENCES vaults,
    coverage_type smallint NOT NULL,
    chain_id smallint NOT NULL,
    stablecoin_id smallint NOT NULL,
    total_coverage bigint NOT NULL CHECK (total_coverage >= 0),
    policy_count int NOT NULL CHECK (policy_count >= 0),
    total_premium bigint NOT NULL CHECK (total_premium >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vault_id, coverage_type, chain_id, stablecoin_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE product_exposure IS 'policies not ended by product, amounts in nanoTON; a product without any has zeros';
CREATE INDEX idx_exposure_chain ON product_exposure (vault_id, chain_id);

CREATE FUNCTION is_in_force(status text) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS $$ SELECT status IN ('active', 'approved') $$;

CREATE FUNCTION add_exposure(vault text, type smallint, chain smallint, coin smallint, coverage numeric,
    policies bigint, premium numeric) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO product_exposure AS e (vault_id, coverage_type, chain_id, stablecoin_id, total_coverage, policy_count,
        total_premium)
    VALUES (vault, type, chain, coin, greatest(coverage, 0), greatest(policies, 0), greatest(premium, 0))
    ON CONFLICT (vault_id, coverage_type, chain_id, stablecoin_id) DO UPDATE SET
        total_coverage = e.total_coverage + coverage, policy_count = e.policy_count + policies,
        total_premium = e.total_premium + premium, updated_at = now()
$$;

-- What came into force is added before what ended is taken away, so that no sum passes below zero on the way.
CREATE FUNCTION move_product_exposure() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE product_exposure SET total_coverage = 0, policy_count = 0, total_premium = 0, updated_at = now()
        WHERE policy_count > 0;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM add_exposure(vault_id, coverage_type, chain_id, stablecoin_id, sum(coverage_amount_nanoton), count(*),
            sum(premium_nanoton))
        FROM new_rows WHERE is_in_force(status)
        GROUP BY vault_id, coverage_type, chain_id, stablecoin_id
        ORDER BY vault_id, coverage_type, chain_id, stablecoin_id;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM add_exposure(vault_id, coverage_type, chain_id, stablecoin_id, -sum(coverage_amount_nanoton),
            -count(*), -sum(premium_nanoton))
        FROM old_rows WHERE is_in_force(status)
        GROUP BY vault_id, coverage_type, chain_id, stablecoin_id
        ORDER BY vault_id, coverage_type, chain_id, stablecoin_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER trg_update_product_exposure AFTER INSERT ON policies
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION move_product_exposure();
CREATE TRIGGER trg_update_product_exposure_on_update AFTER UPDATE ON policies
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION move_product_exposure();
CREATE TRIGGER trg_update_product_exposure_on_delete AFTER DELETE ON policies
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION move_product_exposure();
CREATE TRIGGER trg_update_product_exposure_on_truncate AFTER TRUNCATE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION move_product_exposure();

CREATE VIEW v_product_exposure_realtime AS
SELECT p.vault_id, p.coverage_type, p.chain_id, p.stablecoin_id, t.type_name, c.chain_name, s.coin_symbol,
    count(*) AS policy_count, sum(p.coverage_amount_nanoton)::bigint AS total_coverage,
    sum(p.premium_nanoton)::bigint AS total_premium, avg(p.coverage_amount_nanoton) AS avg_coverage,
    min(p.expiry_time) AS earliest_expiry, max(p.expiry_time) AS latest_expiry
FROM policies p
    LEFT JOIN coverage_types t ON t.type_id = p.coverage_type
    LEFT JOIN chain_risk_metrics c ON c.chain_id = p.chain_id
    LEFT JOIN stablecoins s ON s.coin_id = p.stablecoin_id
WHERE p.status IN ('active', 'approved')
GROUP BY p.vault_id, p.coverage_type, p.chain_id, p.stablecoin_id, t.type_name, c.chain_name, s.coin_symbol;
COMMENT ON VIEW v_product_exposure_realtime IS 'product_exposure counted anew from the policies';

CREATE FUNCTION update_product_exposure_cache() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    changed bigint;
BEGIN
    LOCK TABLE policies IN SHARE MODE;
    INSERT INTO product_exposure AS e (vault_id, coverage_type, chain_id, stablecoin_id, total_coverage, policy_count,
        total_premium)
    SELECT vault_id, coverage_type, chain_id, stablecoin_id, coalesce(v.total_coverage, 0),
        coalesce(v.policy_count, 0), coalesce(v.total_premium, 0)
    FROM v_product_exposure_realtime v
        FULL JOIN (SELECT vault_id, coverage_type, chain_id, stablecoin_id FROM product_exposure) known
        USING (vault_id, coverage_type, chain_id, stablecoin_id)
    ON CONFLICT (vault_id, coverage_type, chain_id, stablecoin_id) DO UPDATE SET
        total_coverage = excluded.total_coverage, policy_count = excluded.policy_count,
        total_premium = excluded.total_premium, updated_at = now()
    WHERE (e.total_coverage, e.policy_count, e.total_premium)
        IS DISTINCT FROM (excluded.total_coverage, excluded.policy_count, excluded.total_premium);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION update_product_exposure_cache() IS 'count product_exposure anew; returns how many rows were wrong';

SELECT update_product_exposure_cache();

-- Prices. A price is of the moment the source says; one that is too old at a moment is no price of that moment.
CREATE TABLE price_history (
    price_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text NOT NULL CHECK (asset ~ '^[A-Za-z0-9]{1,16}$'),
    price_usd numeric NOT NULL CHECK (price_usd > 0 AND price_usd < 1e12),
    source text NOT NULL CHECK (source <> ''),
    observed_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (asset, source, observed_at)
);
COMMENT ON COLUMN price_history.observed_at IS 'when the source saw this price';
CREATE INDEX idx_price_latest ON price_history (asset, observed_at DESC);

CREATE FUNCTION config_number(wanted_category text, wanted_key text, otherwise numeric) RETURNS numeric
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT (value_data #>> '{}')::numeric FROM config_parameters
        WHERE category = wanted_category AND key = wanted_key AND value_type IN ('float', 'int')), otherwise)
$$;
COMMENT ON FUNCTION config_number IS 'a parameter as it stands; the last argument until parameters were stored';

-- What an event is worth, at the price that was known when it happened; no row when none was.
CREATE TABLE event_prices (
    contract_address varchar(100) NOT NULL,
    logical_time bigint NOT NULL,
    message_index int NOT NULL,
    amount_nanoton bigint NOT NULL CHECK (amount_nanoton >= 0),
    price_usd numeric NOT NULL CHECK (price_usd > 0),
    source text NOT NULL,
    observed_at timestamptz NOT NULL,
    value_usd numeric GENERATED ALWAYS AS (round(amount_nanoton * price_usd / 1000000000, 2)) STORED,
    PRIMARY KEY (contract_address, logical_time, message_index)
);
COMMENT ON TABLE event_prices IS 'the TON/USD price stamped on an event; append-only';
CREATE TRIGGER trg_event_prices_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_prices
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE high_value_events (
    high_value_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract_address varchar(100) NOT NULL,
    logical_time bigint NOT NULL,
    message_index int NOT NULL,
    event_type varchar(50) NOT NULL,
    policy_id bigint,
    vault_id text,
    value_usd numeric NOT NULL,
    limit_usd numeric NOT NULL,
    price_usd numeric NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (contract_address, logical_time, message_index)
);
COMMENT ON TABLE high_value_events IS 'purchases and payouts above the limits in force when they were posted';

-- An event of the past is held against a price of its past; one whose block is ahead of our clock against now's.
CREATE FUNCTION stamp_event_prices() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    longest interval;
BEGIN
    PERFORM FROM new_events WHERE event_type IN ('PolicyCreated', 'PayoutExecuted');
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    longest := make_interval(secs => config_number('risk', 'price_max_age_s', 300)::float8);
    WITH stamped AS (
        INSERT INTO event_prices (contract_address, logical_time, message_index, amount_nanoton, price_usd, source,
            observed_at)
        SELECT e.contract_address, e.logical_time, e.message_index,
            coalesce(e.metadata ->> 'coverage_amount', e.metadata ->> 'amount')::bigint,
            p.price_usd, p.source, p.observed_at
        FROM new_events e CROSS JOIN LATERAL (
            SELECT price_usd, source, observed_at FROM price_history h
            WHERE h.asset = 'TON' AND h.observed_at <= least(e.block_time, clock_timestamp())
                AND h.observed_at > least(e.block_time, clock_timestamp()) - longest
            ORDER BY h.observed_at DESC, h.price_id DESC LIMIT 1) p
        WHERE e.event_type IN ('PolicyCreated', 'PayoutExecuted')
        RETURNING contract_address, logical_time, message_index, price_usd, value_usd
    )
    INSERT INTO high_value_events (contract_address, logical_time, message_index, event_type, policy_id, vault_id,
        value_usd, limit_usd, price_usd)
    SELECT e.contract_address, e.logical_time, e.message_index, e.event_type, e.policy_id, s.vault_id, st.value_usd,
        high.limit_usd, st.price_usd
    FROM stamped st JOIN new_events e USING (contract_address, logical_time, message_index)
        LEFT JOIN blockchain_sync_state s USING (contract_address)
        CROSS JOIN LATERAL (SELECT CASE e.event_type
            WHEN 'PolicyCreated' THEN config_number('risk', 'high_value_policy_usd', 100000)
            ELSE config_number('risk', 'high_value_payout_usd', 50000) END AS limit_usd) high
    WHERE st.value_usd > high.limit_usd;
    RETURN NULL;
END
$$;

CREATE TRIGGER trg_high_value_event_alert AFTER INSERT ON blockchain_events
    REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION stamp_event_prices();

-- The last day of events, and the policies they are about.
CREATE INDEX idx_events_created ON blockchain_events USING brin (created_at);

CREATE VIEW v_recent_blockchain_events AS
SELECT e.event_id, e.event_type, e.policy_id, e.contract_address, e.transaction_hash, e.logical_time, e.message_index,
    e.metadata, e.block_time, e.created_at, p.buyer_address, p.coverage_type, p.chain_id, p.stablecoin_id,
    p.coverage_amount_nanoton AS coverage_amount, p.premium_nanoton AS premium, p.status AS policy_status, v.value_usd
FROM blockchain_events e
    LEFT JOIN policies p ON p.policy_id = e.policy_id AND p.contract_address = CASE e.contract_type
        WHEN 'PolicyFactory' THEN e.contract_address
        ELSE (SELECT min(q.contract_address) FROM policies q JOIN blockchain_sync_state s USING (vault_id)
            WHERE q.policy_id = e.policy_id AND s.contract_address = e.contract_address HAVING count(*) = 1) END
    LEFT JOIN event_prices v ON (v.contract_address, v.logical_time, v.message_index)
        = (e.contract_address, e.logical_time, e.message_index)
WHERE e.created_at > now() - interval '24 hours'
ORDER BY e.event_id DESC;
COMMENT ON VIEW v_recent_blockchain_events IS 'events posted in the last 24 hours, newest first, with their policies; of a vault whose policies come from several factories only where the id says which';

CREATE MATERIALIZED VIEW mv_event_stats_by_product AS
SELECT p.coverage_type, p.chain_id, p.stablecoin_id, t.type_name AS coverage_type_name, c.chain_name, s.coin_symbol,
    count(*) FILTER (WHERE e.event_type = 'PolicyCreated') AS policies_created,
    count(*) FILTER (WHERE e.event_type = 'PayoutExecuted') AS payouts_executed,
    coalesce(sum(p.coverage_amount_nanoton) FILTER (WHERE e.event_type = 'PolicyCreated'), 0) AS total_coverage,
    coalesce(sum(p.premium_nanoton) FILTER (WHERE e.event_type = 'PolicyCreated'), 0) AS total_premiums,
    coalesce(sum(p.payout_nanoton) FILTER (WHERE e.event_type = 'PayoutExecuted'), 0) AS total_payouts,
    min(e.block_time) AS first_event, max(e.block_time) AS last_event
FROM public.blockchain_events e
    JOIN public.policies p USING (contract_address, policy_id)
    LEFT JOIN public.coverage_types t ON t.type_id = p.coverage_type
    LEFT JOIN public.chain_risk_metrics c ON c.chain_id = p.chain_id
    LEFT JOIN public.stablecoins s ON s.coin_id = p.stablecoin_id
WHERE e.event_type IN ('PolicyCreated', 'PayoutExecuted')
GROUP BY p.coverage_type, p.chain_id, p.stablecoin_id, t.type_name, c.chain_name, s.coin_symbol;
CREATE UNIQUE INDEX idx_event_stats_product ON mv_event_stats_by_product (coverage_type, chain_id, stablecoin_id);
COMMENT ON MATERIALIZED VIEW mv_event_stats_by_product IS 'lifetime sums of all vaults, as of the last refresh';

-- Hedges are made in dollars: without a price of now there is no requirement, not one of zero.
CREATE TABLE hedge_positions (
    hedge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    coverage_type smallint NOT NULL REFERENCES coverage_types,
    chain_id smallint NOT NULL REFERENCES chain_risk_metrics,
    stablecoin_id smallint NOT NULL REFERENCES stablecoins,
    venue varchar(50) NOT NULL CHECK (venue IN ('polymarket', 'perpetuals', 'allianz')),
    position_size bigint NOT NULL CHECK (position_size >= 0),
    entry_price numeric NOT NULL CHECK (entry_price >= 0),
    current_price numeric CHECK (current_price >= 0),
    external_order_id varchar(255),
    status varchar(20) NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed', 'liquidated')),
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    pnl bigint,
    metadata jsonb NOT NULL DEFAULT '{}',
    CHECK ((status = 'open') = (closed_at IS NULL))
);
COMMENT ON COLUMN hedge_positions.position_size IS 'US cents';
COMMENT ON COLUMN hedge_positions.pnl IS 'US cents; null while nobody has settled it';
CREATE INDEX idx_hedges_open ON hedge_positions (coverage_type, chain_id, stablecoin_id) WHERE status = 'open';

CREATE MATERIALIZED VIEW mv_hedge_requirements AS
SELECT e.coverage_type, e.chain_id, e.stablecoin_id, t.type_name, c.chain_name, s.coin_symbol, e.total_coverage,
    e.policy_count, need.required_hedge_size, coalesce(h.current_hedge_size, 0) AS current_hedge_size,
    need.required_hedge_size - coalesce(h.current_hedge_size, 0) AS hedge_drift,
    CASE WHEN need.required_hedge_size = 0 THEN 0::numeric
        ELSE (need.required_hedge_size - coalesce(h.current_hedge_size, 0)) / need.required_hedge_size * 100
    END AS drift_percentage,
    price.price_usd, now() AS updated_at
FROM (SELECT coverage_type, chain_id, stablecoin_id, sum(total_coverage) AS total_coverage,
        sum(policy_count) AS policy_count
    FROM public.product_exposure GROUP BY coverage_type, chain_id, stablecoin_id) e
    LEFT JOIN (SELECT coverage_type, chain_id, stablecoin_id, sum(position_size) AS current_hedge_size
        FROM public.hedge_positions WHERE status = 'open' GROUP BY coverage_type, chain_id, stablecoin_id) h
        USING (coverage_type, chain_id, stablecoin_id)
    LEFT JOIN public.coverage_types t ON t.type_id = e.coverage_type
    LEFT JOIN public.chain_risk_metrics c ON c.chain_id = e.chain_id
    LEFT JOIN public.stablecoins s ON s.coin_id = e.stablecoin_id
    LEFT JOIN LATERAL (SELECT p.price_usd FROM public.price_history p WHERE p.asset = 'TON'
        AND p.observed_at > now() - make_interval(secs =>
            public.config_number('risk', 'price_max_age_s', 300)::float8)
        ORDER BY p.observed_at DESC, p.price_id DESC LIMIT 1) price ON true
    CROSS JOIN LATERAL (SELECT round(e.total_coverage * price.price_usd / 10000000
        * public.config_number('risk', 'hedge_ratio', 0.2)) AS required_hedge_size) need;
CREATE UNIQUE INDEX idx_hedge_requirements_product ON mv_hedge_requirements (coverage_type, chain_id, stablecoin_id);
CREATE INDEX idx_hedge_requirements_drift ON mv_hedge_requirements (abs(drift_percentage) DESC);
COMMENT ON MATERIALIZED VIEW mv_hedge_requirements IS 'US cents; null where no price of the last minutes is known';

CREATE FUNCTION refresh_event_stats() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS 'REFRESH MATERIALIZED VIEW CONCURRENTLY mv_event_stats_by_product';
CREATE FUNCTION refresh_hedge_requirements() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS 'REFRESH MATERIALIZED VIEW CONCURRENTLY mv_hedge_requirements';

-- Cursors by hand, for people. A cursor never goes back, and never to a place whose hash nobody knows: the daemon could
-- not prove from there on that nothing is missing.
CREATE FUNCTION update_sync_state(address text, lt bigint, events bigint DEFAULT 0, hash bytea DEFAULT NULL)
    RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    proved bytea := coalesce(hash, (SELECT decode(e.transaction_hash, 'hex') FROM blockchain_events e
        WHERE e.contract_address = address AND e.logical_time = lt LIMIT 1));
BEGIN
    IF events < 0 OR lt < 0 OR octet_length(hash) <> 32 THEN
        RAISE EXCEPTION 'update_sync_state takes a logical time and a count from 0 on, and a hash of 32 bytes'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM lock_ledger_head();
    INSERT INTO blockchain_sync_state (contract_address, contract_type, vault_id, sync_status)
        SELECT address, 'Unknown', 'main', 'paused'
        WHERE NOT EXISTS (SELECT FROM blockchain_sync_state s WHERE s.contract_address = address);
    IF lt > (SELECT last_synced_lt FROM blockchain_sync_state s WHERE s.contract_address = address) THEN
        IF proved IS NULL THEN
            RAISE EXCEPTION 'no event of % at logical time % is known: give the hash of its transaction', address, lt
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        UPDATE blockchain_sync_state s SET last_synced_lt = lt, last_synced_hash = proved,
            last_sync_timestamp = now(), sync_status = 'active', error_message = NULL,
            total_events_synced = total_events_synced + events
        WHERE s.contract_address = address;
    END IF;
    RETURN (SELECT last_synced_lt FROM blockchain_sync_state s WHERE s.contract_address = address);
END
$$;
COMMENT ON FUNCTION update_sync_state IS 'move a cursor forward, never back; makes the row if there is none; returns where it stands';

CREATE FUNCTION record_sync_error(address text, message text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO blockchain_sync_state (contract_address, contract_type, vault_id, sync_status, error_message,
        last_sync_timestamp)
    VALUES (address, 'Unknown', 'main', 'error', message, now())
    ON CONFLICT (contract_address) DO UPDATE SET sync_status = 'error', error_message = excluded.error_message,
        last_sync_timestamp = now()
$$;
COMMENT ON FUNCTION record_sync_error IS 'note why a contract is not followed; makes the row if there is none';

REVOKE ALL ON FUNCTION add_exposure, move_product_exposure, update_product_exposure_cache, config_number,
    stamp_event_prices, refresh_event_stats, refresh_hedge_requirements, update_sync_state, record_sync_error,
    is_in_force FROM PUBLIC;

GRANT SELECT ON coverage_types, chain_risk_metrics, stablecoins, product_exposure, price_history, event_prices,
    high_value_events, hedge_positions, v_product_exposure_realtime, v_recent_blockchain_events,
    mv_event_stats_by_product, mv_hedge_requirements TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
GRANT INSERT ON price_history TO tonsurance_ingest;
GRANT EXECUTE ON FUNCTION refresh_event_stats, refresh_hedge_requirements TO tonsurance_ingest;
