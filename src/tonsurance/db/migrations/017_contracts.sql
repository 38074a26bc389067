-- Which contracts are followed, as rows that people change while the daemon runs; and what each daemon says of itself.

CREATE TABLE followed_contracts (
    contract_address varchar(100) PRIMARY KEY CHECK (contract_address ~ '^-?[0-9]+:[0-9a-f]{64}$'),
    contract_type varchar(50) NOT NULL CHECK (contract_type <> ''),
    vault_id text NOT NULL CHECK (vault_id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    layout text NOT NULL DEFAULT 'tonsurance' CHECK (layout ~ '^[a-z][a-z0-9-]{0,63}$'),
    wanted text NOT NULL DEFAULT 'active' CHECK (wanted IN ('active', 'paused', 'backfill', 'removed')),
    revision bigint NOT NULL DEFAULT 1 CHECK (revision >= 1),
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    changed_by varchar(100) NOT NULL CHECK (changed_by <> ''),
    added_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE followed_contracts IS 'what people want of each contract; how far it was read is in blockchain_sync_state';
COMMENT ON COLUMN followed_contracts.wanted IS 'backfill: read up to the head once, then paused';
COMMENT ON COLUMN followed_contracts.revision IS 'grows with every wish; the daemon starts the contract again when it did';

-- The history of a vault is ordered by its contract's logical times, so a vault has one contract that moves it.
CREATE UNIQUE INDEX idx_followed_one_vault_contract ON followed_contracts (vault_id)
    WHERE contract_type = 'MultiTrancheVault';

CREATE FUNCTION show_wanted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE blockchain_sync_state SET error_message = NULL,
        sync_status = CASE WHEN NEW.wanted IN ('paused', 'removed') THEN 'paused' ELSE 'active' END
    WHERE contract_address = NEW.contract_address;
    RETURN NULL;
END
$$;

CREATE TRIGGER trg_show_wanted AFTER UPDATE OF wanted, revision ON followed_contracts
    FOR EACH ROW EXECUTE FUNCTION show_wanted();

-- What follows is as it was, but for `paused`: people said so, and a batch that was in flight does not take it back.
CREATE OR REPLACE FUNCTION move_cursors(text[], bigint[], bytea[], bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_ledger_head();
    UPDATE blockchain_sync_state s SET last_synced_lt = moved.lt, last_synced_hash = moved.hash,
        last_sync_timestamp = now(), error_message = NULL,
        sync_status = CASE s.sync_status WHEN 'paused' THEN 'paused' ELSE 'active' END,
        total_events_synced = s.total_events_synced + moved.events
    FROM unnest($1, $2, $3, $4) AS moved (contract, lt, hash, events)
    WHERE s.contract_address = moved.contract;
END
$$;

CREATE OR REPLACE FUNCTION record_head(address text, lt bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE blockchain_sync_state SET head_lt = GREATEST(head_lt, $2), last_sync_timestamp = now(),
        sync_status = CASE sync_status WHEN 'paused' THEN 'paused' ELSE 'active' END, error_message = NULL
    WHERE contract_address = $1
$$;

CREATE OR REPLACE FUNCTION record_fault(address text, message text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE blockchain_sync_state SET last_sync_timestamp = now(), error_message = $2,
        sync_status = CASE sync_status WHEN 'paused' THEN 'paused' ELSE 'error' END
    WHERE contract_address = $1
$$;

CREATE TABLE daemon_status (
    instance_id text PRIMARY KEY CHECK (instance_id <> ''),
    role text NOT NULL CHECK (role IN ('standby', 'active', 'stopped')),
    status text NOT NULL CHECK (status IN ('HEALTHY', 'DEGRADED', 'UNHEALTHY')),
    host text NOT NULL,
    pid int NOT NULL,
    network text NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    report jsonb NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE daemon_status IS 'one row for each daemon that ran within the last day; nothing depends on it';
COMMENT ON COLUMN daemon_status.report IS 'figures, tasks, contracts with their progress, and endpoints';

GRANT SELECT ON followed_contracts, daemon_status TO tonsurance_ingest, tonsurance_api, tonsurance_admin;
GRANT INSERT, UPDATE ON followed_contracts TO tonsurance_ingest, tonsurance_admin;
GRANT INSERT, UPDATE, DELETE ON daemon_status TO tonsurance_ingest;
