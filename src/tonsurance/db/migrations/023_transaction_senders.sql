-- A body may be sent by anybody any number of times: what one wallet sent is found without looking at the others'.

CREATE INDEX idx_transactions_sender ON blockchain_transactions (body_hash, sender, succeeded, logical_time);
