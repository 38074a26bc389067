-- What each followed factory and its vault say of themselves: for processes that do not ask the chain.

CREATE TABLE factory_state (
    factory_address varchar(100) PRIMARY KEY CHECK (factory_address ~ '^-?[0-9]+:[0-9a-f]{64}$'),
    vault_id text NOT NULL CHECK (vault_id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    vault_address varchar(100) NOT NULL CHECK (vault_address ~ '^-?[0-9]+:[0-9a-f]{64}$'),
    network_id int NOT NULL,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    previous_key bytea CHECK (octet_length(previous_key) = 32),
    previous_until bigint NOT NULL CHECK (previous_until >= 0),
    paused boolean NOT NULL,
    waiting_period_s bigint NOT NULL CHECK (waiting_period_s >= 0),
    claim_grace_s bigint NOT NULL CHECK (claim_grace_s >= 0),
    key_overlap_s bigint NOT NULL CHECK (key_overlap_s >= 0),
    policy_count bigint NOT NULL CHECK (policy_count >= 0),
    max_policies bigint NOT NULL CHECK (max_policies >= 0),
    quote_count bigint NOT NULL CHECK (quote_count >= 0),
    max_quotes bigint NOT NULL CHECK (max_quotes >= 0),
    vault_factory varchar(100),
    vault_paused boolean NOT NULL,
    frozen_until bigint NOT NULL CHECK (frozen_until >= 0),
    claims_due bigint NOT NULL CHECK (claims_due >= 0),
    withdraw_delay_s bigint NOT NULL CHECK (withdraw_delay_s >= 0),
    withdraw_window_s bigint NOT NULL CHECK (withdraw_window_s >= 0),
    chain_time_offset_s double precision NOT NULL DEFAULT 0,
    seqno bigint NOT NULL CHECK (seqno >= 0),
    read_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE factory_state IS 'the last reading of each followed factory and its vault; its age tells whether it still holds';
COMMENT ON COLUMN factory_state.network_id IS 'what the factory takes quotes for: -239 is mainnet, -3 testnet';
COMMENT ON COLUMN factory_state.previous_key IS 'null: there was none';
COMMENT ON COLUMN factory_state.previous_until IS 'unix seconds until which quotes of the previous key are accepted';
COMMENT ON COLUMN factory_state.policy_count IS 'policies that live in the factory, of at most max_policies';
COMMENT ON COLUMN factory_state.quote_count IS 'used quotes the factory remembers, of at most max_quotes';
COMMENT ON COLUMN factory_state.vault_factory IS 'the factory whose policies the vault backs; another one than this: it refuses every purchase';
COMMENT ON COLUMN factory_state.frozen_until IS 'unix seconds until which the vault pays nothing out';
COMMENT ON COLUMN factory_state.claims_due IS 'claims the vault holds back; while there is one it takes no deposit, withdrawal or purchase';
COMMENT ON COLUMN factory_state.chain_time_offset_s IS 'seconds by which the chain''s clock is ahead of the daemon''s; 0 where they agree, and always on mainnet';
COMMENT ON COLUMN factory_state.seqno IS 'masterchain block of the reading';

GRANT SELECT, INSERT, UPDATE ON factory_state TO tonsurance_ingest;
GRANT SELECT ON factory_state TO tonsurance_api, tonsurance_admin;
