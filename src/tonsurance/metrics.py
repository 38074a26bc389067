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
