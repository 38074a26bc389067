"""All Prometheus metrics, declared in one place. Names are stable: boards and alert rules use them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CHAIN_REQUESTS = Counter("tonsurance_chain_requests_total", "Requests to the TON API", ["method", "outcome"])
TRANSACTIONS_READ = Counter("tonsurance_transactions_read_total", "Transactions read and linked", ["contract_kind"])
EVENTS_POSTED = Counter("tonsurance_events_posted_total", "Events posted to the ledger", ["event_type"])
QUARANTINED = Counter("tonsurance_quarantined_total", "Messages that could not be decoded", ["contract_kind"])
CURSOR_LAG_LT = Gauge("tonsurance_cursor_lag_lt", "Logical time from the cursor to the head", ["contract"])
LEDGER_BATCH_SECONDS = Histogram("tonsurance_ledger_batch_seconds", "Time of one ledger transaction")
LEDGER_BATCH_EVENTS = Histogram(
    "tonsurance_ledger_batch_events", "Events in one ledger transaction", buckets=(0, 1, 2, 5, 10, 50, 100, 500, 1000)
)
INGEST_ERRORS = Counter("tonsurance_ingest_errors_total", "Failed rounds of following a contract", ["code"])
WS_CLIENTS = Gauge("tonsurance_ws_clients", "Connected WebSocket clients")
WS_KICKED = Counter("tonsurance_ws_kicked_total", "Clients disconnected because they did not read")
WS_SUBSCRIPTIONS = Gauge("tonsurance_ws_subscriptions", "WebSocket subscriptions", ["channel"])
WS_FRAMES_REFUSED = Counter("tonsurance_ws_frames_refused_total", "Client frames answered with an error", ["code"])
HTTP_REQUESTS = Counter("tonsurance_http_requests_total", "HTTP requests", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "tonsurance_http_request_seconds",
    "Time from the first byte of a request to the last of its answer",
    ["route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
SNAPSHOT_AGE_SECONDS = Gauge("tonsurance_snapshot_age_seconds", "Time since the tranches were last read")
LEDGER_READS = Counter("tonsurance_ledger_reads_total", "Refreshes of the tranches in memory", ["outcome"])
LOOP_RUNS = Counter("tonsurance_loop_runs_total", "Rounds of supervised jobs", ["loop", "outcome"])
ADMIN_REFUSED = Counter("tonsurance_admin_refused_total", "Admin requests that were not let in", ["code"])
ADMIN_LOCKOUTS = Counter("tonsurance_admin_lockouts_total", "Addresses shut out after too many bad tokens")
CONFIG_OVERRIDES = Counter("tonsurance_config_overrides_total", "Changes of parameters by emergency override")
CONFIG_VERSION = Gauge("tonsurance_config_version", "Version of the parameters this process uses")
CONFIG_DEGRADED = Gauge("tonsurance_config_degraded", "1 while the parameters are not known to be the newest")
CONFIG_ENTRIES = Gauge("tonsurance_config_entries", "Parameters in memory")
CONFIG_ACCESSES = Counter(
    "tonsurance_config_accesses_total", "Reads of parameters: value there (hit) or not", ["result"]
)
CONFIG_READ_SECONDS = Histogram(
    "tonsurance_config_read_seconds",
    "Time of reading the newest version from the database",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
CONFIG_CHANGES = Counter("tonsurance_config_changes_total", "Versions made by this process", ["kind"])
