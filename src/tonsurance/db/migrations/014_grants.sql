-- Who may use what came with direct vaults, reservations, history and alerts.

GRANT SELECT, INSERT ON direct_updates, premium_streams, tranche_utilization_daily, risk_alert_transitions
    TO tonsurance_ingest;
GRANT SELECT, INSERT, UPDATE ON queued_updates, reservation_locks, alert_evaluations, risk_alerts TO tonsurance_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON capacity_reservations, webhook_outbox TO tonsurance_ingest;
GRANT SELECT ON ledger_entries, history_horizon, tranche_utilization_history, tranche_utilization_history_default
    TO tonsurance_ingest;
GRANT EXECUTE ON FUNCTION make_history_month, drop_history_month TO tonsurance_ingest;

GRANT SELECT ON direct_updates, queued_updates, capacity_reservations, premium_streams, tranche_utilization_daily,
    history_horizon TO tonsurance_api, tonsurance_admin;
GRANT SELECT ON alert_evaluations, risk_alerts, risk_alert_transitions, webhook_outbox TO tonsurance_api;

-- People acknowledge alerts by the API.
GRANT UPDATE ON risk_alerts TO tonsurance_api;
GRANT INSERT ON risk_alert_transitions TO tonsurance_api;
