"""REST of alerts: what is open or was, and who has seen it."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import get, post
from litestar.params import PathParameter, QueryParameter

from tonsurance.api.admin_guard import ROLE
from tonsurance.api.admin_injected import ANSWERS, CallerOf
from tonsurance.api.alert_render import render_alert, render_page
from tonsurance.api.alert_wire import AlertOut, AlertsAnswer
from tonsurance.api.injected import Injected, Services
from tonsurance.api.v1 import BAD_INPUT
from tonsurance.api.v2 import NO_LEDGER
from tonsurance.core.alert_kinds import KINDS
from tonsurance.core.alerts import Severity
from tonsurance.core.errors import InputError, NotReady
from tonsurance.core.units import BIGINT_MAX
from tonsurance.services.admin_tokens import Role
from tonsurance.services.alert_records import AlertQuery, AlertRecords

MAX_ALERTS = 200
_IS_OPEN = {"open": True, "resolved": False, "all": None}


def records_of(services: Services) -> AlertRecords:
    """Where alerts are read. Raises NotReady in a process that was started without them."""
    if services.alerts is None:
        raise NotReady("Alerts are not read by this process.")
    return services.alerts.records


@get(
    "/api/v2/risk/alerts",
    summary="Alerts",
    description="Newest first; the open ones unless `status` says otherwise. An alert opens when a figure passes its "
    "line, is updated when it becomes worse or milder, and is resolved when the figure was well back for some "
    "evaluations. `next_before` of one page is `before` of the next.",
    tags=["risk"],
    responses={400: BAD_INPUT, 503: NO_LEDGER},
)
async def get_alerts(
    services: Injected,
    severity: Annotated[
        str | None, QueryParameter(description="Critical, High, Medium or Low, in any case.", max_length=100)
    ] = None,
    alert_type: Annotated[
        str | None, QueryParameter(description=f"One of {', '.join(KINDS)}, in any case.", max_length=100)
    ] = None,
    status: Annotated[Literal["open", "resolved", "all"], QueryParameter(description="Which ones.")] = "open",
    before: Annotated[
        int | None, QueryParameter(ge=1, le=BIGINT_MAX, description="Only older ones than this `alert_id`.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_ALERTS, description="Alerts on the page.")] = 50,
) -> AlertsAnswer:
    """One page of alerts."""
    query = AlertQuery(
        severity=None if severity is None else Severity(read_word("severity", severity, tuple(Severity))),
        kind=None if alert_type is None else read_word("alert_type", alert_type, tuple(KINDS)),
        is_open=_IS_OPEN[status],
        before=before,
        limit=limit,
    )
    return render_page(await records_of(services).read_page(query), limit=limit)


def read_word(name: str, given: str, valid: tuple[str, ...]) -> str:
    """One of the words, whatever its case. Raises InputError with all of them."""
    for word in valid:
        if word.casefold() == given.casefold():
            return str(word)
    raise InputError(f"Unknown {name}: {given[:64]}. Valid: {', '.join(valid)}.")


@post(
    "/alerts/{alert_id:int}/acknowledge",
    summary="Note that you have seen an alert",
    description="It stays open until its figure is back. Who was first stays; when the alert becomes more severe it "
    "is to be acknowledged again.",
    opt={ROLE: Role.EDITOR},
    status_code=200,
    responses=ANSWERS,
    tags=["risk"],
)
async def acknowledge_alert(
    services: Injected,
    caller: CallerOf,
    alert_id: Annotated[int, PathParameter(ge=1, le=BIGINT_MAX, description="`alert_id` of the alert.")],
) -> AlertOut:
    """The alert after that."""
    return render_alert(await records_of(services).acknowledge(alert_id, caller.actor.sub))
