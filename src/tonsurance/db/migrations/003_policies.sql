-- Policies as their factory's events tell them. An id is unique within its factory.

CREATE TABLE policies (
    contract_address varchar(100) NOT NULL,
    policy_id bigint NOT NULL CHECK (policy_id >= 0),
    vault_id text NOT NULL REFERENCES vaults,
    quote_id numeric(20) NOT NULL CHECK (quote_id >= 0),
    coverage_type smallint NOT NULL,
    chain_id smallint NOT NULL,
    stablecoin_id smallint NOT NULL,
    buyer_address varchar(100) NOT NULL,
    beneficiary_address varchar(100) NOT NULL,
    coverage_amount_nanoton bigint NOT NULL CHECK (coverage_amount_nanoton >= 0),
    premium_nanoton bigint NOT NULL CHECK (premium_nanoton >= 0),
    payout_nanoton bigint NOT NULL DEFAULT 0 CHECK (payout_nanoton BETWEEN 0 AND coverage_amount_nanoton),
    trigger_bps int NOT NULL,
    floor_bps int NOT NULL,
    start_time timestamptz NOT NULL,
    expiry_time timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'claimed', 'expired')),
    created_lt bigint NOT NULL,
    created_message_index int NOT NULL,
    created_at timestamptz NOT NULL,
    closed_lt bigint,
    closed_message_index int,
    closed_at timestamptz,
    ledger_version bigint NOT NULL,
    PRIMARY KEY (contract_address, policy_id),
    CHECK ((status = 'active') = (closed_lt IS NULL)),
    CHECK ((closed_lt IS NULL) = (closed_message_index IS NULL)),
    CHECK ((closed_lt IS NULL) = (closed_at IS NULL))
);
COMMENT ON COLUMN policies.created_at IS 'block time of the event that created it';
COMMENT ON COLUMN policies.closed_at IS 'block time of the event that ended it';

CREATE INDEX idx_policies_product ON policies (coverage_type, chain_id, stablecoin_id);
CREATE INDEX idx_policies_active ON policies (expiry_time) WHERE status = 'active';
CREATE INDEX idx_policies_buyer ON policies (buyer_address);
