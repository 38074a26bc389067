-- Business parameters: the values that hold, every version there was, who changed what, and how often each is read.

-- One row. Its lock is the lock of all writers of the configuration: versions and audit rows are given out in order.
CREATE TABLE config_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL DEFAULT 0 CHECK (version >= 0),
    audit_id bigint NOT NULL DEFAULT 0 CHECK (audit_id >= 0),
    audit_hash text NOT NULL DEFAULT repeat('0', 64) CHECK (audit_hash ~ '^[0-9a-f]{64}$')
);
COMMENT ON COLUMN config_head.version IS 'the version that holds; 0: nothing was ever stored, the defaults hold';
COMMENT ON COLUMN config_head.audit_hash IS 'hash of the newest audit row, so that rows cut off at the end are missed';

INSERT INTO config_head DEFAULT VALUES;

CREATE TABLE config_versions (
    version bigint PRIMARY KEY CHECK (version > 0),
    created_at timestamptz NOT NULL,
    author varchar(100) NOT NULL,
    reason text NOT NULL,
    kind varchar(20) NOT NULL CHECK (kind IN ('seed', 'edit', 'change', 'rollback', 'chain')),
    values jsonb NOT NULL CHECK (jsonb_typeof(values) = 'object'),
    hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$')
);
COMMENT ON TABLE config_versions IS 'all values of every version; the newest one is what the services use; append-only';
COMMENT ON COLUMN config_versions.values IS 'category -> key -> value';
COMMENT ON COLUMN config_versions.hash IS 'SHA-256 of the values in canonical JSON';

CREATE INDEX idx_config_versions_time ON config_versions (created_at);

CREATE TRIGGER trg_config_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON config_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE config_parameters (
    id serial PRIMARY KEY,
    category varchar(50) NOT NULL CHECK (category ~ '^[a-z][a-z0-9_]*$'),
    key varchar(100) NOT NULL CHECK (key ~ '^[A-Za-z][A-Za-z0-9_]*$'),
    value_type varchar(20) NOT NULL CHECK (value_type IN ('float', 'int', 'bool', 'string', 'json')),
    value_data jsonb NOT NULL,
    description text,
    custom boolean NOT NULL DEFAULT false,
    version bigint NOT NULL REFERENCES config_versions DEFERRABLE INITIALLY DEFERRED,
    last_updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by varchar(100),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (category, key)
);
COMMENT ON TABLE config_parameters IS 'the values of the newest version, for people; the services read config_versions';
COMMENT ON COLUMN config_parameters.version IS 'the version that changed this parameter last';
COMMENT ON COLUMN config_parameters.custom IS 'added by people; not declared by the program';

-- Whoever changes a row by hand would see a value that nobody uses.
CREATE FUNCTION refuse_change_by_hand() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%/% is changed by the admin API or `tonsurance config set`', OLD.category, OLD.key
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER trg_config_parameters_by_version BEFORE UPDATE ON config_parameters
    FOR EACH ROW WHEN (NEW.version <= OLD.version OR (NEW.category, NEW.key) <> (OLD.category, OLD.key))
    EXECUTE FUNCTION refuse_change_by_hand();

CREATE TRIGGER trg_config_parameters_stay BEFORE DELETE ON config_parameters
    FOR EACH ROW WHEN (NOT OLD.custom)
    EXECUTE FUNCTION refuse_change_by_hand();

CREATE TABLE config_audit_log (
    id bigint PRIMARY KEY CHECK (id > 0),
    config_id int,
    category varchar(50) NOT NULL,
    key varchar(100) NOT NULL,
    action varchar(20) NOT NULL CHECK (action IN ('seed', 'set', 'create', 'reset', 'delete', 'rollback')),
    old_value jsonb,
    new_value jsonb,
    changed_by varchar(100) NOT NULL,
    role varchar(20) NOT NULL,
    changed_at timestamptz NOT NULL,
    change_reason text NOT NULL,
    kind varchar(20) NOT NULL,
    client_ip inet,
    request_id varchar(100),
    dry_run boolean NOT NULL,
    emergency boolean NOT NULL,
    version bigint NOT NULL,
    version_hash text NOT NULL,
    previous_hash text NOT NULL CHECK (previous_hash ~ '^[0-9a-f]{64}$'),
    hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$')
);
COMMENT ON TABLE config_audit_log IS 'who changed or tried what; each row holds the hash of the one before; append-only';
COMMENT ON COLUMN config_audit_log.version IS 'the version the change made; in a dry run the one it was tried on';
COMMENT ON COLUMN config_audit_log.version_hash IS 'hash of the values of that version';

CREATE INDEX idx_config_audit_key ON config_audit_log (category, key, id);
CREATE INDEX idx_config_audit_time ON config_audit_log (changed_at);

CREATE TRIGGER trg_config_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON config_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE config_access_log (
    "timestamp" timestamptz NOT NULL,
    process varchar(50) NOT NULL,
    category varchar(50) NOT NULL,
    key varchar(100) NOT NULL,
    cache_hit boolean NOT NULL,
    accesses bigint NOT NULL CHECK (accesses > 0)
);
COMMENT ON TABLE config_access_log IS 'one row a minute per process and parameter that was read; kept for 30 days';
COMMENT ON COLUMN config_access_log.cache_hit IS 'false: answered with a default, because the value was not there';

CREATE INDEX idx_config_access_time ON config_access_log USING brin ("timestamp");
