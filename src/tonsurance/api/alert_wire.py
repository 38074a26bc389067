"""What the API says of alerts, field by field."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from tonsurance.api.wire import Instant, LedgerVersion, Out, ParamsVersion

AlertId = Annotated[str, Meta(description="It stays the same over restarts.", examples=["17"], pattern=r"^\d+$")]
SeverityName = Annotated[Literal["Low", "Medium", "High", "Critical"], Meta(description="How bad it is.")]
Value = Annotated[float | None, Meta(description="The figure; null when it is beyond every number.", examples=[0.925])]


class AlertOut(Out, frozen=True, kw_only=True):
    """One alert as it stands."""

    alert_id: AlertId
    alert_type: Annotated[str, Meta(examples=["High_Utilization"])]
    severity: SeverityName
    message: Annotated[str, Meta(examples=["HIGH UTILIZATION: SURE-MEZZ at 92.50% (threshold: 90.00%)"])]
    current_value: Value
    limit_value: Annotated[float, Meta(description="The line it passed.", examples=[0.9])]
    unit: Annotated[str, Meta(description="Of both: `ratio` 0 to 1, `factor`, `TON`.", examples=["ratio"])]
    vault_id: Annotated[str | None, Meta(examples=["main"])]
    tranche_id: Annotated[str | None, Meta(examples=["SURE-MEZZ"])]
    item: Annotated[str | None, Meta(description="What it is about when that is no tranche.", examples=[None])]
    status: Literal["open", "resolved"]
    opened_at: Instant
    updated_at: Instant
    resolved_at: Instant | None
    acknowledged_by: str | None
    acknowledged_at: Instant | None
    sequence: Annotated[int, Meta(description="How often something was told of it.", examples=[1])]
    ledger_version: LedgerVersion
    params_version: ParamsVersion
    timestamp: Annotated[Instant, Meta(description="Of the last thing told of it.")]


class AlertsAnswer(Out, frozen=True, kw_only=True):
    """One page of alerts, newest first."""

    alerts: tuple[AlertOut, ...]
    total_alerts: Annotated[int, Meta(ge=0, description="On all pages.", examples=[1])]
    critical_count: Annotated[int, Meta(ge=0, description="Critical ones on all pages.", examples=[0])]
    next_before: Annotated[
        str | None, Meta(description="Pass as `before` for the next page; null when there is none.", examples=[None])
    ]
    timestamp: Instant
