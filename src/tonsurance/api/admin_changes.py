"""Admin routes: versions of the parameters, and changes that wait for a second person."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from tonsurance.api import admin_render, admin_wire
from tonsurance.api.admin_guard import BODY, ROLE
from tonsurance.api.admin_injected import ACCEPTED, ANSWERS, BeforeId, CallerOf, Injected
from tonsurance.services.admin_records import ChangeRequest, ChangeStatus
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_admin import Proposal
from tonsurance.services.config_plan import Edit

_MOST = 2**63 - 1
VersionNumber = Annotated[int, PathParameter(ge=1, le=_MOST)]
ChangeId = Annotated[int, PathParameter(ge=1, le=_MOST, description="`change_id` of a change request.")]
PageSize = Annotated[int, QueryParameter(ge=1, le=200)]


@get("/config/versions", summary="All versions, newest first", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def list_versions(
    admin: Injected, limit: PageSize = 50, before: BeforeId = None
) -> tuple[admin_wire.VersionOut, ...]:
    """Without their values."""
    rows = await admin.store.versions(before=before, limit=limit)
    return tuple(admin_render.show_version(row) for row in rows)


@get("/config/versions/{number:int}", summary="One version", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_version(admin: Injected, number: VersionNumber) -> admin_wire.VersionOut:
    """With all its values."""
    return admin_render.show_version(await admin.store.version(number), with_values=True)


@get("/config/diff", summary="What differs between two versions", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_diff(
    admin: Injected,
    from_version: Annotated[int, QueryParameter(name="from", ge=1, le=_MOST)],
    to_version: Annotated[int, QueryParameter(name="to", ge=1, le=_MOST)],
) -> admin_wire.DiffOut:
    """Parameter by parameter."""
    changes = await admin.store.diff(from_version, to_version)
    return admin_wire.DiffOut(
        from_version=from_version, to_version=to_version, changes=admin_render.show_changes(changes)
    )


@post(
    "/config/rollback",
    summary="Back to an earlier version",
    description="As a new version. 202 when parameters of money change and a second person has to agree.",
    opt={ROLE: Role.EDITOR, BODY: admin_wire.RollbackBody},
    status_code=200,
    responses=ANSWERS | ACCEPTED,
)
async def post_rollback(
    admin: Injected, caller: CallerOf, data: JSONBody[admin_wire.RollbackBody]
) -> Response[admin_wire.RolledBackOut | admin_wire.PendingOut]:
    """Nothing is lost: the versions between stay."""
    done = await admin.roll_back(data.version, caller.actor, reason=data.reason, expected_version=data.expected_version)
    if isinstance(done, ChangeRequest):
        return Response(admin_render.show_pending(done), status_code=202)
    return Response(admin_render.show_applied(done, caller.actor))


@get("/config/changes", summary="Change requests, newest first", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def list_changes(
    admin: Injected,
    status: Annotated[
        Literal["open", "applied", "rejected", "cancelled", "outdated"] | None,
        QueryParameter(description="Only these."),
    ] = None,
    limit: PageSize = 50,
    before: BeforeId = None,
) -> tuple[admin_wire.ChangeRequestOut, ...]:
    """Of one status, or all."""
    chosen = None if status is None else ChangeStatus(status)
    found = await admin.records.list_changes(status=chosen, before=before, limit=limit)
    return tuple(admin_render.show_change_request(change) for change in found)


@get("/config/changes/{change_id:int}", summary="One change request", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_change(admin: Injected, change_id: ChangeId) -> admin_wire.ChangeRequestOut:
    """And what became of it."""
    return admin_render.show_change_request(await admin.records.change(change_id))


@post(
    "/config/changes",
    summary="Ask for a change",
    description="Several edits that hold together or not at all. Somebody else approves them.",
    opt={ROLE: Role.EDITOR, BODY: admin_wire.ChangesBody},
    status_code=202,
    responses=ANSWERS,
)
async def post_changes(
    admin: Injected, caller: CallerOf, data: JSONBody[admin_wire.ChangesBody]
) -> admin_wire.PendingOut:
    """File a change request."""
    edits = tuple(Edit(category=e.category, key=e.key, action=e.action, value=e.value) for e in data.changes)
    proposal = Proposal(edits=edits, reason=data.reason, expected_version=data.expected_version)
    return admin_render.show_pending(await admin.request_change(proposal, caller.actor))


@post(
    "/config/changes/{change_id:int}/approve",
    summary="Agree to a change, which makes it hold",
    description="Never by its author. 409 when others changed one of its parameters since it was written.",
    opt={ROLE: Role.APPROVER, BODY: admin_wire.DecisionBody},
    status_code=200,
    responses=ANSWERS,
)
async def approve_change(
    admin: Injected, caller: CallerOf, change_id: ChangeId, data: JSONBody[admin_wire.DecisionBody | None] = None
) -> admin_wire.RolledBackOut:
    """Commit it."""
    applied = await admin.approve(change_id, caller.actor, reason=data.reason if data else "")
    return admin_render.show_applied(applied, caller.actor)


@post(
    "/config/changes/{change_id:int}/reject",
    summary="Refuse a change",
    opt={ROLE: Role.APPROVER, BODY: admin_wire.DecisionBody},
    status_code=200,
    responses=ANSWERS,
)
async def reject_change(
    admin: Injected, caller: CallerOf, change_id: ChangeId, data: JSONBody[admin_wire.DecisionBody | None] = None
) -> admin_wire.ChangeRequestOut:
    """Nothing changes."""
    change = await admin.reject(change_id, caller.actor, reason=data.reason if data else "")
    return admin_render.show_change_request(change)


@post(
    "/config/changes/{change_id:int}/cancel",
    summary="Take a change request back",
    description="By its author, or by an admin.",
    opt={ROLE: Role.EDITOR, BODY: admin_wire.DecisionBody},
    status_code=200,
    responses=ANSWERS,
)
async def cancel_change(
    admin: Injected, caller: CallerOf, change_id: ChangeId, data: JSONBody[admin_wire.DecisionBody | None] = None
) -> admin_wire.ChangeRequestOut:
    """Nothing changes."""
    change = await admin.cancel(change_id, caller.actor, reason=data.reason if data else "")
    return admin_render.show_change_request(change)
