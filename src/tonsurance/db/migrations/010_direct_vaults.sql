-- Direct vaults: moved by API calls. Each update is an event of the pseudo-contract `direct:<vault id>`, so that
-- entries, history, snapshot and replay are those of every vault; here stands whose call it was.

CREATE UNIQUE INDEX idx_sync_one_direct_vault ON blockchain_sync_state (vault_id) WHERE contract_type = 'DirectVault';

CREATE TABLE direct_updates (
    principal varchar(100) NOT NULL CHECK (principal <> ''),
    route varchar(50) NOT NULL CHECK (route <> ''),
    idempotency_key varchar(255) NOT NULL CHECK (idempotency_key <> ''),
    vault_id text NOT NULL REFERENCES vaults,
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    logical_time bigint NOT NULL,
    ledger_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, route, idempotency_key)
);
COMMENT ON TABLE direct_updates IS 'every update of a direct vault once: the same key again is the same update; append-only';
COMMENT ON COLUMN direct_updates.request_hash IS 'SHA-256 of the request, to notice the same key with another one';

CREATE TRIGGER trg_direct_updates_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON direct_updates
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE queued_updates (
    queue_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal varchar(100) NOT NULL CHECK (principal <> ''),
    route varchar(50) NOT NULL CHECK (route <> ''),
    idempotency_key varchar(255) NOT NULL CHECK (idempotency_key <> ''),
    vault_id text NOT NULL REFERENCES vaults,
    parts jsonb NOT NULL CHECK (jsonb_typeof(parts) = 'array'),
    absolute boolean NOT NULL,
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'applied', 'refused')),
    ledger_version bigint,
    error_code text,
    error_message text,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    UNIQUE (principal, route, idempotency_key),
    CHECK ((status = 'pending') = (done_at IS NULL)),
    CHECK ((status = 'applied') = (ledger_version IS NOT NULL)),
    CHECK ((status = 'refused') = (error_code IS NOT NULL))
);
COMMENT ON TABLE queued_updates IS 'updates of direct vaults that were accepted and are applied in this order';
COMMENT ON COLUMN queued_updates.parts IS 'tranche by tranche: tranche_id, and capital and coverage in nanoTON';
COMMENT ON COLUMN queued_updates.absolute IS 'the amounts are what a tranche shall have, not by how much it moves';

CREATE INDEX idx_queued_pending ON queued_updates (queue_id) WHERE status = 'pending';
