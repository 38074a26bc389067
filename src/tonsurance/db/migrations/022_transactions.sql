-- The outcome of every transaction of a followed contract, failed ones too: what was asked, and how it ended.

CREATE TABLE blockchain_transactions (
    contract_address varchar(100) NOT NULL,
    logical_time bigint NOT NULL CHECK (logical_time >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    in_msg_hash bytea CHECK (octet_length(in_msg_hash) = 32),
    body_hash bytea CHECK (octet_length(body_hash) = 32),
    block_time timestamptz NOT NULL,
    op bigint CHECK (op BETWEEN 0 AND 4294967295),
    query_id numeric(20) CHECK (query_id >= 0),
    policy_id bigint CHECK (policy_id >= 0),
    sender varchar(100),
    value_nano bigint CHECK (value_nano >= 0),
    refunded_nano bigint CHECK (refunded_nano >= 0),
    refunded_to varchar(100),
    exit_code int,
    action_code int,
    succeeded boolean NOT NULL,
    bounced boolean NOT NULL,
    PRIMARY KEY (contract_address, logical_time)
);
COMMENT ON TABLE blockchain_transactions IS 'every transaction that was followed, once; facts of the chain, append-only';
COMMENT ON COLUMN blockchain_transactions.in_msg_hash IS 'of the message it ran on';
COMMENT ON COLUMN blockchain_transactions.body_hash IS 'representation hash of that message''s body: what a payload hashes to';
COMMENT ON COLUMN blockchain_transactions.op IS 'first 32 bits of the body; of a bounced message those of the one that came back';
COMMENT ON COLUMN blockchain_transactions.policy_id IS 'named by the body; of a purchase the id it was given; failed ones name what they like';
COMMENT ON COLUMN blockchain_transactions.value_nano IS 'what came with the message';
COMMENT ON COLUMN blockchain_transactions.refunded_nano IS 'what of it went back in this transaction; null: cannot be told';
COMMENT ON COLUMN blockchain_transactions.refunded_to IS 'to whom it went back; null: to the sender';
COMMENT ON COLUMN blockchain_transactions.exit_code IS 'of the compute phase; null: it did not run';
COMMENT ON COLUMN blockchain_transactions.action_code IS 'of the action phase; null: it did not run';

CREATE INDEX idx_transactions_hash ON blockchain_transactions (hash);
CREATE INDEX idx_transactions_message ON blockchain_transactions (in_msg_hash);
-- The same body may be sent again and again: those that succeeded come first, the newest of them first.
CREATE INDEX idx_transactions_body ON blockchain_transactions (body_hash, succeeded, logical_time);
CREATE INDEX idx_transactions_policy ON blockchain_transactions (contract_address, policy_id, logical_time)
    WHERE policy_id IS NOT NULL;

-- Of the transactions before this table there is what their events say. Who wants the rest follows the chain anew.
INSERT INTO blockchain_transactions (contract_address, logical_time, hash, block_time, succeeded, bounced)
SELECT DISTINCT ON (contract_address, logical_time) contract_address, logical_time, decode(transaction_hash, 'hex'),
    block_time, true, false
FROM blockchain_events
WHERE contract_type <> 'DirectVault' AND event_type <> 'LedgerAdjusted'
ORDER BY contract_address, logical_time, message_index;

CREATE TRIGGER trg_transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON blockchain_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON blockchain_transactions TO tonsurance_ingest;
GRANT SELECT ON blockchain_transactions TO tonsurance_api, tonsurance_admin;

-- Lists of policies, newest first: all of them, those of a buyer, those of a status.
DROP INDEX idx_policies_buyer;
CREATE INDEX idx_policies_buyer ON policies (buyer_address, created_lt, policy_id);
CREATE INDEX idx_policies_order ON policies (created_lt, policy_id);
CREATE INDEX idx_policies_status ON policies (status, created_lt, policy_id);
