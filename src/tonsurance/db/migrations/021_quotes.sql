-- Receipts: every quote a buyer was handed, with all it was made of, so that it can be computed again.

CREATE TABLE quotes (
    quote_id numeric(20) PRIMARY KEY CHECK (quote_id > 0 AND quote_id < 9223372036854775808),
    payload_hash bytea NOT NULL UNIQUE CHECK (octet_length(payload_hash) = 32),
    network_id int NOT NULL,
    factory varchar(100) NOT NULL CHECK (factory ~ '^-?[0-9]+:[0-9a-f]{64}$'),
    buyer varchar(100) NOT NULL CHECK (buyer ~ '^-?[0-9]+:[0-9a-f]{64}$'),
    coverage_type smallint NOT NULL CHECK (coverage_type BETWEEN 0 AND 4),
    chain_id smallint NOT NULL CHECK (chain_id BETWEEN 0 AND 8),
    stablecoin_id smallint NOT NULL CHECK (stablecoin_id BETWEEN 0 AND 13),
    amount_usd numeric NOT NULL CHECK (amount_usd > 0 AND amount_usd < 'Infinity'),
    days int NOT NULL CHECK (days > 0),
    trigger_bps int NOT NULL CHECK (trigger_bps > 0),
    floor_bps int NOT NULL CHECK (floor_bps > 0),
    list_price text NOT NULL,
    list_premium_nanoton bigint NOT NULL CHECK (list_premium_nanoton >= 0),
    coverage_nanoton bigint NOT NULL CHECK (coverage_nanoton > 0),
    premium_nanoton bigint NOT NULL CHECK (premium_nanoton > 0),
    raised_to text,
    value_nanoton bigint NOT NULL CHECK (value_nanoton > premium_nanoton),
    technical text NOT NULL,
    market text NOT NULL,
    capacity text NOT NULL,
    sufficient boolean NOT NULL,
    on_sale text NOT NULL,
    seen_at text NOT NULL,
    price_asset text NOT NULL,
    price_usd numeric NOT NULL CHECK (price_usd > 0 AND price_usd < 'Infinity'),
    price_source text NOT NULL,
    price_observed_at double precision NOT NULL CHECK (price_observed_at BETWEEN 0 AND 253402300799),
    params_version bigint NOT NULL CHECK (params_version >= 0),
    params_hash text NOT NULL CHECK (params_hash ~ '^[0-9a-f]{64}$'),
    code_version text NOT NULL,
    issued_at double precision NOT NULL CHECK (issued_at BETWEEN 0 AND 253402300799),
    chain_offset_s double precision NOT NULL CHECK (chain_offset_s BETWEEN -253402300799 AND 253402300799),
    deadline bigint NOT NULL CHECK (deadline BETWEEN 1 AND 4294967295),
    waiting_period_s int CHECK (waiting_period_s >= 0),
    signature bytea NOT NULL CHECK (octet_length(signature) = 64),
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    body bytea NOT NULL CHECK (octet_length(body) BETWEEN 1 AND 4096),
    seal bytea NOT NULL CHECK (octet_length(seal) = 32),
    issued_day date NOT NULL GENERATED ALWAYS AS ((to_timestamp(issued_at) AT TIME ZONE 'UTC')::date) STORED
);
COMMENT ON TABLE quotes IS 'every quote with a buyer; a row never changes, and goes by forget_quotes alone';
COMMENT ON COLUMN quotes.payload_hash IS 'representation hash of the body: by it the purchase is recognised on chain';
COMMENT ON COLUMN quotes.list_price IS 'canonical JSON, as technical, market, capacity, on_sale and seen_at; decimals as text';
COMMENT ON COLUMN quotes.value_nanoton IS 'what the buyer sends: the premium and what gas needs';
COMMENT ON COLUMN quotes.raised_to IS 'what the premium was raised to; null: it is the list''s';
COMMENT ON COLUMN quotes.price_observed_at IS 'unix seconds, to the last bit, as issued_at: what is computed again begins with these';
COMMENT ON COLUMN quotes.chain_offset_s IS 'so far ahead of ours the chain''s clock was';
COMMENT ON COLUMN quotes.deadline IS 'unix seconds of the chain''s clock';
COMMENT ON COLUMN quotes.waiting_period_s IS 'from the purchase to the cover''s start; null: it was not known';
COMMENT ON COLUMN quotes.seal IS 'SHA-256 of all other columns';

CREATE INDEX idx_quotes_deadline ON quotes (deadline, quote_id);
CREATE INDEX idx_quotes_day ON quotes (issued_day);
CREATE INDEX idx_policies_quote_id ON policies (quote_id, contract_address);
CREATE INDEX idx_events_refused_quote ON blockchain_events (((metadata ->> 'quote_id')::numeric))
    WHERE event_type = 'PolicyRefused';

-- What became of receipts that are gone, so that the figures of their days stay true.
CREATE TABLE quote_days (
    day date NOT NULL,
    coverage_type smallint NOT NULL,
    chain_id smallint NOT NULL,
    issued bigint NOT NULL CHECK (issued > 0),
    bought bigint NOT NULL CHECK (bought BETWEEN 0 AND issued),
    refused bigint NOT NULL CHECK (refused BETWEEN 0 AND issued),
    PRIMARY KEY (day, coverage_type, chain_id)
);
COMMENT ON TABLE quote_days IS 'receipts that were forgotten, by the day they were issued';

CREATE FUNCTION refuse_forgetting() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('tonsurance.forgetting', true), '') <> 'on' THEN
        RAISE EXCEPTION 'receipts go by forget_quotes alone' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER trg_quotes_stay_as_they_are BEFORE UPDATE OR TRUNCATE ON quotes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER trg_quotes_forgotten_by_rule BEFORE DELETE ON quotes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_forgetting();

CREATE FUNCTION chain_clock_offset(address text) RETURNS double precision
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT s.chain_time_offset_s FROM factory_state s WHERE s.factory_address = address), 0)
$$;
COMMENT ON FUNCTION chain_clock_offset IS 'seconds by which the chain''s clock is ahead of ours; 0 until it was read';

-- All of a contract up to this moment of the chain's clock is in the ledger; null: nobody knows. An idle contract has
-- no transaction to tell; then it is the last look that found nothing new.
CREATE FUNCTION followed_until(address text) RETURNS double precision
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT greatest(
        (SELECT extract(epoch FROM e.block_time)::float8 FROM blockchain_events e WHERE e.contract_address = address
            ORDER BY e.logical_time DESC LIMIT 1),
        (SELECT extract(epoch FROM s.last_sync_timestamp)::float8 + chain_clock_offset(address)
            FROM blockchain_sync_state s
            WHERE s.contract_address = address AND s.sync_status = 'active' AND s.last_synced_lt >= s.head_lt))
$$;
COMMENT ON FUNCTION followed_until IS 'unix seconds of the chain up to which all of a contract is in the ledger';


-- One step of the retention: of the next receipts by deadline, forget those that may go. A receipt nobody used goes
-- `unused_days` after its deadline, by the chain's clock and once the ledger was followed beyond; not while a purchase
-- by it is on its way. One that was bought goes `bought_days` after its policy ended; 0: never. Of a factory that nobody
-- follows (any more) the ledger will tell nothing: there all of it is by our clock and 30 days later, so that whoever
-- left it out by mistake has the time to see it.
CREATE FUNCTION forget_quotes(unused_days int, bought_days int, after_deadline bigint, after_id numeric, most int,
    OUT looked_at int, OUT unused int, OUT bought int, OUT last_deadline bigint, OUT last_id numeric)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF unused_days IS NULL OR unused_days < 1 OR bought_days IS NULL OR bought_days < 0 OR most IS NULL
        OR most NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'forget_quotes takes days from 1 on, days from 0 on, and 1 to 10000 receipts'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM set_config('tonsurance.forgetting', 'on', true);
    WITH followed AS MATERIALIZED (
        SELECT s.contract_address AS factory, followed_until(s.contract_address) AS until
        FROM blockchain_sync_state s WHERE s.contract_type = 'PolicyFactory' AND NOT EXISTS (
            SELECT FROM followed_contracts c WHERE c.contract_address = s.contract_address AND c.wanted = 'removed')
    ), looked AS MATERIALIZED (
        SELECT q.quote_id, q.factory, q.payload_hash, q.deadline, CASE
            WHEN EXISTS (SELECT FROM followed f WHERE f.factory = q.factory)
                THEN (SELECT f.until FROM followed f WHERE f.factory = q.factory)
            ELSE extract(epoch FROM clock_timestamp())::float8 - 30 * 86400.0 + q.chain_offset_s END AS until
        FROM quotes q
        WHERE (q.deadline, q.quote_id) > (after_deadline, after_id)
            AND q.deadline <= (SELECT CASE WHEN count(*) > 0 THEN max(until)
                ELSE extract(epoch FROM now())::float8 - 30 * 86400.0 END FROM followed) - unused_days * 86400.0
        ORDER BY q.deadline, q.quote_id LIMIT most
    ), fate AS MATERIALIZED (
        SELECT l.quote_id, p.policy_id, r.refused,
            l.deadline + unused_days * 86400.0 <= l.until AND CASE
                WHEN p.policy_id IS NOT NULL THEN bought_days > 0
                    AND extract(epoch FROM p.closed_at) + bought_days * 86400.0 <= l.until
                ELSE r.refused OR NOT EXISTS (SELECT FROM blockchain_transactions t
                    WHERE t.body_hash = l.payload_hash AND t.contract_address = l.factory AND t.succeeded)
            END AS may_go
        FROM looked l
            LEFT JOIN LATERAL (SELECT p.policy_id, p.closed_at FROM policies p
                WHERE p.quote_id = l.quote_id AND p.contract_address = l.factory
                ORDER BY p.closed_at DESC NULLS FIRST LIMIT 1) p ON true
            CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM blockchain_events e WHERE e.event_type = 'PolicyRefused'
                AND (e.metadata ->> 'quote_id')::numeric = l.quote_id AND e.contract_address = l.factory)
                AS refused) r
    ), gone AS (
        DELETE FROM quotes q USING fate f WHERE q.quote_id = f.quote_id AND f.may_go
        RETURNING q.issued_day, q.coverage_type, q.chain_id, f.policy_id IS NOT NULL AS was_bought,
            f.policy_id IS NULL AND f.refused AS was_refused
    ), counted AS (
        INSERT INTO quote_days AS d (day, coverage_type, chain_id, issued, bought, refused)
        SELECT g.issued_day, g.coverage_type, g.chain_id, count(*), count(*) FILTER (WHERE g.was_bought),
            count(*) FILTER (WHERE g.was_refused)
        FROM gone g GROUP BY g.issued_day, g.coverage_type, g.chain_id
        ON CONFLICT (day, coverage_type, chain_id) DO UPDATE SET issued = d.issued + excluded.issued,
            bought = d.bought + excluded.bought, refused = d.refused + excluded.refused
    )
    SELECT (SELECT count(*) FROM looked), (SELECT count(*) FROM gone WHERE NOT was_bought),
        (SELECT count(*) FROM gone WHERE was_bought), end_of.deadline, end_of.quote_id
    INTO looked_at, unused, bought, last_deadline, last_id
    FROM (SELECT 1) one LEFT JOIN (SELECT l.deadline, l.quote_id FROM looked l
        ORDER BY l.deadline DESC, l.quote_id DESC LIMIT 1) end_of ON true;
    PERFORM set_config('tonsurance.forgetting', '', true);
END
$$;
COMMENT ON FUNCTION forget_quotes IS 'delete receipts that may go, of the next so many; they stay in quote_days';

CREATE VIEW v_quote_conversion AS
SELECT day, coverage_type, chain_id, sum(issued)::bigint AS issued, sum(bought)::bigint AS bought,
    sum(refused)::bigint AS refused, round(sum(bought) / sum(issued), 6) AS conversion
FROM (
    SELECT q.issued_day AS day, q.coverage_type, q.chain_id, count(*) AS issued,
        count(*) FILTER (WHERE p.was_bought) AS bought,
        count(*) FILTER (WHERE NOT p.was_bought AND EXISTS (SELECT FROM blockchain_events e
            WHERE e.event_type = 'PolicyRefused' AND (e.metadata ->> 'quote_id')::numeric = q.quote_id
                AND e.contract_address = q.factory)) AS refused
    FROM quotes q CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM policies p
        WHERE p.quote_id = q.quote_id AND p.contract_address = q.factory) AS was_bought) p
    GROUP BY q.issued_day, q.coverage_type, q.chain_id
    UNION ALL
    SELECT day, coverage_type, chain_id, issued, bought, refused FROM quote_days
) figures
GROUP BY day, coverage_type, chain_id;
COMMENT ON VIEW v_quote_conversion IS 'quotes with a buyer by the day (UTC) they were issued, and how many became policies, forgotten ones included';

REVOKE ALL ON FUNCTION refuse_forgetting, chain_clock_offset, followed_until, forget_quotes FROM PUBLIC;

GRANT SELECT, INSERT ON quotes TO tonsurance_api;
GRANT SELECT ON quotes TO tonsurance_ingest, tonsurance_admin;
GRANT SELECT ON quote_days, v_quote_conversion TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
GRANT EXECUTE ON FUNCTION chain_clock_offset TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
GRANT EXECUTE ON FUNCTION forget_quotes TO tonsurance_ingest;
