-- Claims: what tranches lost, and policies whose payout is under way; and the indexes of reading the past.

ALTER TABLE ledger_entries ADD COLUMN loss_delta_nanoton bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger_entries ALTER COLUMN loss_delta_nanoton DROP DEFAULT;

ALTER TABLE tranche_utilization
    ADD COLUMN absorbed_losses_nanoton numeric NOT NULL DEFAULT 0 CHECK (absorbed_losses_nanoton >= 0);
ALTER TABLE tranche_utilization ALTER COLUMN absorbed_losses_nanoton DROP DEFAULT;
COMMENT ON COLUMN tranche_utilization.absorbed_losses_nanoton IS 'lifetime sum of the claims this tranche paid';

ALTER TABLE tranche_utilization_history
    ADD COLUMN absorbed_losses_nanoton numeric NOT NULL DEFAULT 0 CHECK (absorbed_losses_nanoton >= 0);
ALTER TABLE tranche_utilization_history ALTER COLUMN absorbed_losses_nanoton DROP DEFAULT;

ALTER TABLE policies ADD COLUMN approved_nanoton bigint;
COMMENT ON COLUMN policies.approved_nanoton IS 'payout under way, or that ended in a claim; null otherwise';
ALTER TABLE policies DROP CONSTRAINT policies_status_check;
ALTER TABLE policies DROP CONSTRAINT policies_check1;
ALTER TABLE policies
    ADD CONSTRAINT policies_status_check CHECK (status IN ('active', 'approved', 'claimed', 'expired')),
    ADD CONSTRAINT policies_open_check CHECK ((status IN ('active', 'approved')) = (closed_lt IS NULL)),
    ADD CONSTRAINT policies_approved_check CHECK (approved_nanoton BETWEEN 1 AND coverage_amount_nanoton),
    ADD CONSTRAINT policies_approval_check CHECK (
        CASE status WHEN 'approved' THEN approved_nanoton IS NOT NULL WHEN 'claimed' THEN true
        ELSE approved_nanoton IS NULL END
    );

-- The state of a tranche at a time is one step into this index; at a logical time, into the primary key.
CREATE INDEX idx_tranche_history_as_of ON tranche_utilization_history
    (vault_id, tranche_id, recorded_at, logical_time, message_index);

CREATE INDEX idx_entries_tranche ON ledger_entries (vault_id, tranche_id, entry_id);
