-- What the risk figures learn from: depegs of the past, and stress scenarios. Every change has its row in
-- config_audit_log, in the same chain as the parameters' (category: the table, key: the row's name).

CREATE TABLE dataset_coins (
    asset varchar(10) PRIMARY KEY
);
INSERT INTO dataset_coins VALUES ('USDC'), ('USDT'), ('USDP'), ('DAI'), ('FRAX'), ('BUSD'), ('USDe'), ('sUSDe'), ('USDY'),
    ('PYUSD'), ('GHO'), ('LUSD'), ('crvUSD'), ('mkUSD');
COMMENT ON TABLE dataset_coins IS 'the stablecoins of the catalogue: a coin without a depeg on record is shown as such';

CREATE TABLE historical_depegs (
    id serial PRIMARY KEY,
    asset varchar(10) NOT NULL REFERENCES dataset_coins,
    min_price numeric(10, 8) NOT NULL CHECK (min_price > 0 AND min_price < 1),
    "timestamp" timestamptz NOT NULL,
    duration_seconds int NOT NULL CHECK (duration_seconds > 0),
    recovery_time_seconds int NOT NULL CHECK (recovery_time_seconds >= duration_seconds),
    source varchar(50) NOT NULL CHECK (source <> ''),
    verified boolean NOT NULL DEFAULT false,
    event_name varchar(200),
    notes text,
    reference text,
    entered_by varchar(100) NOT NULL,
    verified_by varchar(100),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (asset, "timestamp"),
    CHECK (verified = (verified_by IS NOT NULL))
);
COMMENT ON TABLE historical_depegs IS 'when a stablecoin lost its peg, how far and for how long';
COMMENT ON COLUMN historical_depegs.verified IS 'somebody other than who entered it has checked it; others do not count';
COMMENT ON COLUMN historical_depegs.reference IS 'where it can be looked up';

CREATE TABLE stress_scenarios (
    id serial PRIMARY KEY,
    scenario_name varchar(100) NOT NULL UNIQUE CHECK (scenario_name <> ''),
    description text NOT NULL,
    scenario_type varchar(50) NOT NULL CHECK (scenario_type <> ''),
    asset_impacts jsonb NOT NULL CHECK (jsonb_typeof(asset_impacts) = 'object' AND asset_impacts <> '{}'),
    btc_impact numeric(5, 2) NOT NULL CHECK (btc_impact BETWEEN -1 AND 10),
    correlation_shift numeric(5, 2) NOT NULL CHECK (correlation_shift BETWEEN -1 AND 1),
    probability_annual numeric(10, 8) CHECK (probability_annual BETWEEN 0 AND 1),
    severity_level varchar(20) NOT NULL CHECK (severity_level IN ('low', 'medium', 'high', 'extreme')),
    enabled boolean NOT NULL DEFAULT true,
    reference text,
    entered_by varchar(100) NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN stress_scenarios.asset_impacts IS 'coin -> its price under stress, the peg being 1';

CREATE TABLE dataset_seeds (
    dataset varchar(50) NOT NULL,
    key varchar(150) NOT NULL,
    seeded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, key)
);
COMMENT ON TABLE dataset_seeds IS 'rows this program brought in once: what people change or delete of them stays so';

-- No row of a coin in a window is no data: NULL, which is not the same as no depegs.
CREATE FUNCTION depeg_frequency(coin text, since timestamptz, until timestamptz) RETURNS numeric
    LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN count(*) > 0 AND until > since
        THEN count(*) / (extract(epoch FROM until - since) / (365.25 * 86400)) END
    FROM historical_depegs WHERE asset = coin AND verified AND "timestamp" >= since AND "timestamp" < until
$$;
COMMENT ON FUNCTION depeg_frequency IS 'verified depegs a year (of 365.25 days); NULL: nothing on record';

CREATE FUNCTION depeg_severity(coin text, since timestamptz, until timestamptz) RETURNS numeric
    LANGUAGE sql STABLE AS $$
    SELECT avg(1 - min_price)
    FROM historical_depegs WHERE asset = coin AND verified AND "timestamp" >= since AND "timestamp" < until
$$;
COMMENT ON FUNCTION depeg_severity IS 'mean of 1 - lowest price over the verified depegs; NULL: nothing on record';

CREATE FUNCTION depeg_expected_loss(coin text, since timestamptz, until timestamptz, coverage numeric DEFAULT 1)
    RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT depeg_frequency(coin, since, until) * depeg_severity(coin, since, until) * coverage
$$;
COMMENT ON FUNCTION depeg_expected_loss IS 'frequency x severity x coverage, a year; NULL: nothing on record';

CREATE FUNCTION depeg_probability(coin text, threshold numeric DEFAULT 0.97, years numeric DEFAULT 5,
    until timestamptz DEFAULT now()) RETURNS numeric
    LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN count(*) > 0 AND years > 0
        THEN least(1, count(*) FILTER (WHERE min_price <= threshold) / years) END
    FROM historical_depegs
    WHERE asset = coin AND verified AND "timestamp" < until
        AND "timestamp" >= until - make_interval(secs => (years * 365.25 * 86400)::double precision)
$$;
COMMENT ON FUNCTION depeg_probability IS 'verified depegs at or below the threshold a year, at most 1; NULL: nothing on record';

CREATE VIEW v_depeg_statistics AS
SELECT c.asset, count(d.id) AS events, count(d.id) FILTER (WHERE d.verified) AS verified_events,
    count(d.id) FILTER (WHERE d.min_price < 0.97) AS severe_events, min(d.min_price) AS worst_price,
    avg(1 - d.min_price) AS mean_severity, avg(d.duration_seconds) AS mean_duration_seconds,
    avg(d.recovery_time_seconds) AS mean_recovery_seconds, max(d."timestamp") AS latest, count(d.id) > 0 AS has_data
FROM dataset_coins c LEFT JOIN historical_depegs d USING (asset)
GROUP BY c.asset;
COMMENT ON VIEW v_depeg_statistics IS 'every coin and all that is on record of it; NULL where that is nothing';

CREATE VIEW v_recent_depegs AS
SELECT c.asset, d.id, d."timestamp", d.min_price, 1 - d.min_price AS severity, d.duration_seconds,
    d.recovery_time_seconds, d.source, d.verified, d.event_name, d.id IS NOT NULL AS has_data
FROM dataset_coins c LEFT JOIN historical_depegs d ON d.asset = c.asset AND d."timestamp" > now() - interval '2 years';
COMMENT ON VIEW v_recent_depegs IS 'the last two years: a coin without a depeg in them has one row without data';
