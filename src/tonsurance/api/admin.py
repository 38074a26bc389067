"""Admin routes: look at parameters and change them. Every route needs a token; `role` says of whom."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.exceptions import ValidationException
from litestar.params import JSONBody, QueryParameter

from tonsurance.api import admin_render, admin_wire
from tonsurance.api.admin_guard import BODY, ROLE, WITHOUT_DATABASE, Caller
from tonsurance.api.admin_injected import (
    ACCEPTED,
    ANSWERS,
    BeforeId,
    CallerOf,
    CategoryInPath,
    Injected,
    KeyInPath,
    ReasonInQuery,
    VersionInQuery,
)
from tonsurance.services.admin_records import ChangeRequest
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_admin import Proposal
from tonsurance.services.config_plan import Edit

AsOf = Annotated[
    str | None,
    QueryParameter(
        description="As it was at this time: values, versions and people (ISO 8601, UTC when it names no zone).",
        max_length=40,
    ),
]


def read_time(text: str) -> datetime:
    """A time of a query. Raises ValidationException."""
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a + of the zone that was not encoded
    except ValueError as error:
        raise ValidationException("as_of", extra=[{"key": "as_of", "message": "is not an ISO 8601 time"}]) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@get("/config", summary="All parameters", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def list_config(admin: Injected, as_of: AsOf = None) -> tuple[admin_wire.ParameterOut, ...]:
    """Ordered by category and key."""
    return await _list(admin, None, as_of)


@get("/config/{category:str}", summary="The parameters of a category", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def list_category(
    admin: Injected, category: CategoryInPath, as_of: AsOf = None
) -> tuple[admin_wire.ParameterOut, ...]:
    """Empty when the category has none."""
    return await _list(admin, category, as_of)


@get("/config/{category:str}/{key:str}", summary="One parameter", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_config(
    admin: Injected, category: CategoryInPath, key: KeyInPath, as_of: AsOf = None
) -> admin_wire.ParameterOut:
    """The value that holds, with its bounds and who changed it last."""
    time = None if as_of is None else read_time(as_of)
    return admin_render.show_parameter(await admin.find(category, key, as_of=time))


@put(
    "/config/{category:str}/{key:str}",
    summary="Change a parameter",
    description="200 when it holds; 202 when a second person has to agree (`change_id`). With `dry_run` always 200 and "
    "nothing changes.",
    opt={ROLE: Role.EDITOR, BODY: admin_wire.UpdateBody},
    responses=ANSWERS | ACCEPTED,
)
async def put_config(
    admin: Injected, caller: CallerOf, category: CategoryInPath, key: KeyInPath, data: JSONBody[admin_wire.UpdateBody]
) -> Response[admin_wire.UpdatedOut | admin_wire.TrialOut | admin_wire.PendingOut]:
    """Set, or try out."""
    proposal = Proposal(
        edits=(Edit(category=category, key=key, action="set", value=data.value),),
        reason=data.reason,
        expected_version=data.expected_version,
        emergency=data.emergency,
    )
    if data.dry_run:
        trial = await admin.try_out(proposal, caller.actor)
        return Response(admin_render.show_trial(trial, category, key, data.value))
    return await _propose(admin, caller, proposal)


@post(
    "/config/{category:str}/{key:str}",
    summary="Add a parameter of your own",
    description="It is kept, versioned and shown like the others; no code of this program uses it.",
    opt={ROLE: Role.EDITOR, BODY: admin_wire.CreateBody},
    responses=ANSWERS,
)
async def post_config(
    admin: Injected, caller: CallerOf, category: CategoryInPath, key: KeyInPath, data: JSONBody[admin_wire.CreateBody]
) -> Response[admin_wire.UpdatedOut | admin_wire.TrialOut | admin_wire.PendingOut]:
    """Create a custom key."""
    edit = Edit(
        category=category,
        key=key,
        action="create",
        value=data.value,
        kind=data.value_type,
        description=data.description,
    )
    return await _propose(admin, caller, Proposal(edits=(edit,), reason=data.reason), created=True)


@delete(
    "/config/{category:str}/{key:str}",
    summary="Back to the default",
    description="A parameter of your own is removed.",
    opt={ROLE: Role.EDITOR},
    status_code=200,
    responses=ANSWERS | ACCEPTED,
)
async def delete_config(
    admin: Injected,
    caller: CallerOf,
    category: CategoryInPath,
    key: KeyInPath,
    reason: ReasonInQuery = "",
    expected_version: VersionInQuery = None,
) -> Response[admin_wire.UpdatedOut | admin_wire.TrialOut | admin_wire.PendingOut]:
    """Reset, or delete when it is custom."""
    row = await admin.find(category, key)
    edit = Edit(category=category, key=key, action="delete" if row.custom else "reset")
    return await _propose(admin, caller, Proposal(edits=(edit,), reason=reason, expected_version=expected_version))


@post(
    "/config/reload", summary="Read the parameters again", opt={ROLE: Role.EDITOR}, status_code=200, responses=ANSWERS
)
async def reload_config(admin: Injected, caller: CallerOf) -> admin_wire.ReloadOut:
    """This process; the others are told by the database of every change anyway."""
    stats = await admin.reload(caller.actor)
    return admin_wire.ReloadOut(success=True, message="Configuration cache reloaded", stats=stats)


@get(
    "/config/stats",
    summary="The parameters in memory",
    description="Answered while the database is away, too: `degraded` says so then. `hits` counts reads of single "
    "parameters that were there, and takings of the whole set while it was current; `misses` those answered with a "
    "default, and takings while it was not.",
    opt={ROLE: Role.VIEWER, WITHOUT_DATABASE: True},
    responses=ANSWERS,
)
async def get_stats(admin: Injected, caller: CallerOf) -> dict[str, object]:
    """How many, which version, how old, how often used."""
    stats = admin.stats()
    return stats | {"degraded": stats["degraded"] or caller.outage}


@get("/config/audit", summary="Who changed what", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_audit(
    admin: Injected,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    category: Annotated[str | None, QueryParameter(max_length=50)] = None,
    key: Annotated[str | None, QueryParameter(max_length=100)] = None,
    before: BeforeId = None,
) -> tuple[admin_wire.AuditOut, ...]:
    """Newest first; dry runs are in it."""
    rows = await admin.store.audit(limit=limit, category=category, key=key, before=before)
    return tuple(admin_render.show_audit(row) for row in rows)


async def _list(admin: Injected, category: str | None, as_of: str | None) -> tuple[admin_wire.ParameterOut, ...]:
    store = admin.store
    rows = await (store.list_parameters(category) if as_of is None else store.list_past(read_time(as_of), category))
    return tuple(admin_render.show_parameter(row) for row in rows)


async def _propose(
    admin: Injected, caller: Caller, proposal: Proposal, *, created: bool = False
) -> Response[admin_wire.UpdatedOut | admin_wire.TrialOut | admin_wire.PendingOut]:
    done = await admin.propose(proposal, caller.actor)
    if isinstance(done, ChangeRequest):
        return Response(admin_render.show_pending(done), status_code=202)
    shown = admin_render.show_updated(done, proposal, caller.actor)
    return Response(shown, status_code=201 if created else 200)
