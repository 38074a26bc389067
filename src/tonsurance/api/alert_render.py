"""From alerts to what the wire says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from tonsurance.api.alert_wire import AlertOut, AlertsAnswer
from tonsurance.api.render import show_now, show_time
from tonsurance.services.alert_feed import OpenAlerts
from tonsurance.services.alert_records import AlertPage, AlertRow, TransitionRow

_TYPES = {
    "opened": "new_alert",
    "updated": "alert_updated",
    "acknowledged": "alert_updated",
    "resolved": "alert_resolved",
}


def show_value(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def render_alert(alert: AlertRow) -> AlertOut:
    """One alert."""
    fields = msgspec.structs.asdict(alert)
    updated = show_time(alert.updated_at.timestamp())
    return AlertOut(
        **{name: fields[name] for name in ("severity", "message", "unit", "vault_id", "tranche_id", "item")},
        alert_id=str(alert.alert_id),
        alert_type=alert.kind,
        current_value=show_value(alert.value),
        limit_value=alert.threshold,
        status="open" if alert.resolved_at is None else "resolved",
        opened_at=show_time(alert.opened_at.timestamp()),
        updated_at=updated,
        resolved_at=None if alert.resolved_at is None else show_time(alert.resolved_at.timestamp()),
        acknowledged_by=alert.acknowledged_by,
        acknowledged_at=None if alert.acknowledged_at is None else show_time(alert.acknowledged_at.timestamp()),
        sequence=alert.transitions,
        ledger_version=str(alert.ledger_version),
        params_version=alert.params_version,
        timestamp=updated,
    )


def render_page(page: AlertPage, *, limit: int) -> AlertsAnswer:
    """One page."""
    return AlertsAnswer(
        alerts=tuple(render_alert(alert) for alert in page.alerts),
        total_alerts=page.counts.total,
        critical_count=page.counts.critical,
        next_before=str(page.alerts[-1].alert_id) if len(page.alerts) == limit else None,
        timestamp=show_now(),
    )


def transition_message(told: TransitionRow) -> Mapping[str, object]:
    """`new_alert`, `alert_updated` or `alert_resolved` of the channel `risk_alerts`."""
    return {
        "type": _TYPES[told.change],
        "alert_id": str(told.alert_id),
        "alert_type": told.kind,
        "severity": told.severity,
        "message": told.message,
        "current_value": show_value(told.value),
        "limit_value": told.threshold,
        "unit": told.unit,
        "vault_id": told.vault_id,
        "tranche_id": told.tranche_id,
        "item": told.item,
        "change": told.change,
        "sequence": told.sequence,
        "acknowledged_by": told.actor,
        "ledger_version": str(told.ledger_version),
        "params_version": told.params_version,
        "opened_at": show_time(told.opened_at.timestamp()),
        "timestamp": show_time(told.at.timestamp()),
    }


def state_message(found: OpenAlerts) -> Mapping[str, object]:
    """Where a newcomer of the channel starts: everything that is open, newest first."""
    return {
        "type": "state",
        "alerts": [render_alert(alert) for alert in found.alerts],
        "total_alerts": len(found.alerts),
        "critical_count": found.critical,
        "stale": found.stale,
        "timestamp": show_now(),
    }
