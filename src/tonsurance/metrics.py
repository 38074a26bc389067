"""All Prometheus metrics, declared in one place. Names are stable: boards and alert rules use them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CHAIN_REQUESTS = Counter("tonsurance_chain_requests_total", "Requests to the TON API", ["method", "outcome"])
CHAIN_ENDPOINT_REQUESTS = Counter(
    "tonsurance_chain_endpoint_requests_total", "Requests to one endpoint of the TON API", ["endpoint", "outcome"]
)
CHAIN_ENDPOINT_OPEN = Gauge(
    "tonsurance_chain_endpoint_open", "1 while an endpoint failed so often that it is rested", ["endpoint"]
)
CHAIN_FAILOVERS = Counter("tonsurance_chain_failovers_total", "Requests answered by another endpoint than the first")
STREAM_CONNECTED = Gauge("tonsurance_stream_connected", "1 while the TON API's stream is open")
STREAM_CONNECTS = Counter("tonsurance_stream_connects_total", "Times the TON API's stream was opened")
STREAM_EVENTS = Counter("tonsurance_stream_events_total", "Events of the TON API's stream", ["outcome"])
HINT_LOOKS = Counter("tonsurance_hint_looks_total", "Looks at the chain for a hint")
TRANSACTIONS_READ = Counter("tonsurance_transactions_read_total", "Transactions read and linked", ["contract_kind"])
EVENTS_POSTED = Counter("tonsurance_events_posted_total", "Events posted to the ledger", ["event_type"])
QUARANTINED = Counter("tonsurance_quarantined_total", "Messages that could not be decoded", ["contract_kind"])
CURSOR_LAG_LT = Gauge("tonsurance_cursor_lag_lt", "Logical time from the cursor to the head", ["contract"])
LEDGER_BATCH_SECONDS = Histogram("tonsurance_ledger_batch_seconds", "Time of one ledger transaction")
LEDGER_BATCH_EVENTS = Histogram(
    "tonsurance_ledger_batch_events", "Events in one ledger transaction", buckets=(0, 1, 2, 5, 10, 50, 100, 500, 1000)
)
INGEST_ERRORS = Counter("tonsurance_ingest_errors_total", "Failed rounds of following a contract", ["code"])
VAULT_SYNCS = Counter("tonsurance_vault_syncs_total", "Reconciliations of vaults with the ledger", ["status"])
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
TASK_CRASHES = Counter("tonsurance_task_crashes_total", "Crashes of tasks of the daemon", ["task"])
ADMIN_REFUSED = Counter("tonsurance_admin_refused_total", "Admin requests that were not let in", ["code"])
ADMIN_LOCKOUTS = Counter("tonsurance_admin_lockouts_total", "Addresses shut out after too many bad tokens")
CONFIG_OVERRIDES = Counter("tonsurance_config_overrides_total", "Changes of parameters by emergency override")
RESERVATIONS = Counter("tonsurance_reservations_total", "Requests about reservations", ["request", "outcome"])
QUOTES = Counter("tonsurance_quotes_total", "Quotes asked for", ["coverage_type", "chain", "outcome"])
QUOTES_KEPT = Counter("tonsurance_quote_receipts_kept_total", "Quotes with a buyer that were to be kept", ["outcome"])
QUOTES_FORGOTTEN = Counter("tonsurance_quote_receipts_forgotten_total", "Receipts that were deleted", ["kind"])
QUOTES_VERIFIED = Counter("tonsurance_quote_verifications_total", "Receipts computed again", ["outcome"])
QUOTES_ISSUED = Gauge("tonsurance_quotes_issued", "Quotes with a buyer since the beginning", ["coverage_type", "chain"])
QUOTES_BOUGHT = Gauge(
    "tonsurance_quotes_bought", "Quotes that became policies since the beginning", ["coverage_type", "chain"]
)
RESERVATIONS_SETTLED = Counter("tonsurance_reservations_settled_total", "Reservations the keeper ended", ["status"])
ALERTS_OPEN = Gauge("tonsurance_alerts_open", "Open alerts", ["kind", "severity"])
ALERT_TRANSITIONS = Counter("tonsurance_alert_transitions_total", "What happened to alerts", ["kind", "change"])
ALERT_EVALUATION_AGE = Gauge("tonsurance_alert_evaluation_age_seconds", "Time since an evaluation", ["evaluator"])
WEBHOOK_ATTEMPTS = Counter("tonsurance_webhook_attempts_total", "Attempts to tell the webhook", ["outcome"])
WEBHOOK_OUTBOX = Gauge("tonsurance_webhook_outbox", "Messages for the webhook", ["status"])
CACHE_HITS = Gauge("tonsurance_tranche_cache_hits", "Reads of tranches answered from fresh memory since the start")
CACHE_MISSES = Gauge("tonsurance_tranche_cache_misses", "Other reads of tranches since the start")
CACHE_SIZE = Gauge("tonsurance_tranche_cache_size", "Tranches in memory")
REDIS_FAILURES = Counter("tonsurance_redis_failures_total", "Times Redis did not answer as it should", ["error"])
REDIS_READS = Counter("tonsurance_redis_reads_total", "Looks into the shared cache", ["outcome"])
SECOND_SOURCE = Counter(
    "tonsurance_second_source_total", "Looks at a contract's history in the second source", ["verdict"]
)
PRICE_USD = Gauge("tonsurance_price_usd", "Price read last, in US dollars", ["asset"])
PRICE_OBSERVED_AT = Gauge("tonsurance_price_observed_at_seconds", "When the source saw that price", ["asset"])
PRICE_USED_AGE = Gauge("tonsurance_price_used_age_seconds", "Age of the price that was used last", ["asset"])
MARKET_READS = Counter("tonsurance_market_reads_total", "Looks at what quotes are made of", ["outcome"])
PRODUCT_LISTS = Counter("tonsurance_product_lists_total", "Times the list of products was made anew")
BLOCK_TO_LEDGER_SECONDS = Histogram(
    "tonsurance_block_to_ledger_seconds",
    "From a block's time to its events in the ledger; whole seconds of the chain's clock, live blocks only",
    buckets=(1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300),
)
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
