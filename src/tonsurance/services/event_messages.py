"""A posted event as other programs read it: in REST, in the event stream, over the WebSocket and over Redis alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.services.ports import PostedEvent

SMALL_INTEGERS = frozenset(
    {
        "action",
        "available_at",
        "chain_id",
        "coverage_type",
        "due_at",
        "end",
        "epoch",
        "expires_at",
        "floor_bps",
        "op",
        "reason",
        "stablecoin_id",
        "start",
        "tranche_id",
        "trigger_bps",
        "until",
    }
)
"""Event fields of at most 32 bits: the only ones shown as JSON numbers."""


def describe_event(event: PostedEvent) -> dict[str, Any]:
    """One event; large integers as strings, and the tranche's name beside its number."""
    fields = {name: _show_field(name, value) for name, value in event.fields.items()}
    number = fields.get("tranche_id")
    if isinstance(number, int) and 1 <= number <= len(TRANCHE_IDS):
        fields["tranche"] = TRANCHE_IDS[number - 1]
    return {
        "event_id": str(event.event_id),
        "event_type": event.event_type,
        "contract": event.contract,
        "contract_kind": event.contract_kind,
        "transaction_hash": event.transaction_hash,
        "lt": str(event.lt),
        "message_index": event.message_index,
        "block_time": show_time(event.block_time),
        "fields": fields,
    }


def show_time(unix_s: float) -> str:
    """UTC with milliseconds, ISO 8601."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show_field(name: str, value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_show_field(name, item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and name not in SMALL_INTEGERS:
        return str(value)
    return value
