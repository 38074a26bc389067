-- Room for new cover that callers hold for a short time. Rows and lock are their own: the ledger's writer never
-- waits for a reserver.

-- One row a vault. Its lock serialises everything that decides about the vault's room.
CREATE TABLE reservation_locks (
    vault_id text PRIMARY KEY REFERENCES vaults
) WITH (fillfactor = 10);

INSERT INTO reservation_locks SELECT vault_id FROM vaults;

CREATE TABLE capacity_reservations (
    reservation_id uuid PRIMARY KEY,
    vault_id text NOT NULL REFERENCES vaults,
    tranche_id text,
    amount_nanoton bigint NOT NULL CHECK (amount_nanoton > 0),
    split bigint[] NOT NULL CHECK (cardinality(split) = 6 AND 0 <= ALL (split)),
    status text NOT NULL CHECK (status IN ('pending', 'committed', 'released', 'expired', 'bumped')),
    principal text NOT NULL CHECK (length(principal) BETWEEN 1 AND 100),
    route text NOT NULL CHECK (length(route) BETWEEN 1 AND 100),
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash text NOT NULL CHECK (request_hash ~ '^[0-9a-f]{64}$'),
    quote_id numeric(20) CHECK (quote_id >= 0),
    ttl_s int NOT NULL CHECK (ttl_s > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
    ended_at timestamptz,
    seen_lt bigint CHECK (seen_lt >= 0),
    holds_room boolean NOT NULL
        GENERATED ALWAYS AS (status = 'pending' OR (status = 'committed' AND seen_lt IS NULL)) STORED,
    UNIQUE (principal, route, idempotency_key),
    CHECK (seen_lt IS NULL OR status = 'committed'),
    CHECK ((ended_at IS NULL) = (status = 'pending' OR (status = 'committed' AND seen_lt IS NULL)))
);
COMMENT ON COLUMN capacity_reservations.tranche_id IS 'null: a policy, backed by all six tranches';
COMMENT ON COLUMN capacity_reservations.split IS 'what each tranche holds for it, senior to junior';
COMMENT ON COLUMN capacity_reservations.request_hash IS 'SHA-256 of what was asked for: a key stands for one request';
COMMENT ON COLUMN capacity_reservations.seen_lt IS
    'the logical time at which the ledger took over its cover; from then on it holds no room of its own';
COMMENT ON COLUMN capacity_reservations.holds_room IS 'until expires_at, and as long as its policy is not in the ledger';

CREATE INDEX idx_reservations_open ON capacity_reservations (vault_id, expires_at) WHERE holds_room;
CREATE INDEX idx_reservations_ended ON capacity_reservations (ended_at) WHERE ended_at IS NOT NULL;

-- An end is an end: room that was given to others does not come back.
CREATE FUNCTION refuse_second_end() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'reservation % is % and stays so', OLD.reservation_id, OLD.status
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER trg_reservations_end_once BEFORE UPDATE ON capacity_reservations
    FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL
          OR (NEW.vault_id, NEW.amount_nanoton, NEW.split, NEW.principal, NEW.route, NEW.idempotency_key,
              NEW.request_hash, NEW.created_at)
          IS DISTINCT FROM (OLD.vault_id, OLD.amount_nanoton, OLD.split, OLD.principal, OLD.route, OLD.idempotency_key,
              OLD.request_hash, OLD.created_at))
    EXECUTE FUNCTION refuse_second_end();

-- Whether a quote was bought is asked for every open reservation that names one.
CREATE INDEX idx_policies_quote ON policies (vault_id, quote_id);
