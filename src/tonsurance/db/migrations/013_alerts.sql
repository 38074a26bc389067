-- Alerts, everything that happened to each, and what webhooks have yet to be told.

-- How far each evaluator has come: the same figures are evaluated once.
CREATE TABLE alert_evaluations (
    evaluator text PRIMARY KEY CHECK (evaluator ~ '^[a-z][a-z0-9_]{0,63}$'),
    figures_version bigint NOT NULL,
    params_version bigint NOT NULL,
    evaluated_at timestamptz NOT NULL
) WITH (fillfactor = 20);
COMMENT ON COLUMN alert_evaluations.figures_version IS 'of the ledger for tranches; what else grows with the figures for others';

CREATE TABLE risk_alerts (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind ~ '^[A-Za-z][A-Za-z0-9_]{0,63}$'),
    vault_id text REFERENCES vaults,
    tranche_id text,
    item text,
    severity text NOT NULL CHECK (severity IN ('Low', 'Medium', 'High', 'Critical')),
    message text NOT NULL CHECK (message <> ''),
    value double precision NOT NULL CHECK (value <> 'NaN'),
    threshold double precision NOT NULL,
    unit text NOT NULL,
    told_value double precision NOT NULL,
    evaluations_back int[] NOT NULL,
    transitions int NOT NULL DEFAULT 1 CHECK (transitions >= 1),
    opened_version bigint NOT NULL,
    opened_params_version bigint NOT NULL,
    ledger_version bigint NOT NULL,
    params_version bigint NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    acknowledged_by text,
    acknowledged_at timestamptz,
    CHECK ((acknowledged_by IS NULL) = (acknowledged_at IS NULL)),
    UNIQUE NULLS NOT DISTINCT (kind, vault_id, tranche_id, item, opened_version, opened_params_version)
);
COMMENT ON TABLE risk_alerts IS 'one row for each time a figure was beyond its line; item is what is no tranche';
COMMENT ON COLUMN risk_alerts.ledger_version IS 'version of the figures that value and message are of';
COMMENT ON COLUMN risk_alerts.told_value IS 'value at its last transition; value itself is of the last evaluation';
COMMENT ON COLUMN risk_alerts.evaluations_back IS 'for each line how many evaluations in a row the figure was well below it';

CREATE UNIQUE INDEX idx_alerts_one_open ON risk_alerts (kind, vault_id, tranche_id, item) NULLS NOT DISTINCT
    WHERE resolved_at IS NULL;
CREATE INDEX idx_alerts_kind ON risk_alerts (kind, alert_id);
CREATE INDEX idx_alerts_severity ON risk_alerts (severity, alert_id);

CREATE TABLE risk_alert_transitions (
    transition_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES risk_alerts,
    sequence int NOT NULL CHECK (sequence >= 1),
    change text NOT NULL CHECK (change IN ('opened', 'updated', 'resolved', 'acknowledged')),
    severity text NOT NULL,
    message text NOT NULL,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    ledger_version bigint NOT NULL,
    params_version bigint NOT NULL,
    actor text,
    at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (alert_id, sequence)
);
COMMENT ON TABLE risk_alert_transitions IS 'all that was ever told of alerts, in order; append-only';

CREATE TRIGGER trg_alert_transitions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON risk_alert_transitions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE webhook_outbox (
    delivery_id bigint PRIMARY KEY REFERENCES risk_alert_transitions (transition_id),
    alert_id bigint NOT NULL REFERENCES risk_alerts,
    transition text NOT NULL,
    payload text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'dead')),
    attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    CHECK ((status = 'pending') = (done_at IS NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE webhook_outbox IS 'what the webhook is told, at least once each, in order for each alert';
COMMENT ON COLUMN webhook_outbox.payload IS 'the body as it is sent and signed: the same bytes at every attempt';

CREATE INDEX idx_outbox_pending ON webhook_outbox (next_at) WHERE status = 'pending';
CREATE INDEX idx_outbox_pending_of_alert ON webhook_outbox (alert_id, delivery_id) WHERE status = 'pending';
CREATE INDEX idx_outbox_done ON webhook_outbox (done_at) WHERE status <> 'pending';
