"""Admin routes: who may do what, and tokens taken back."""

from __future__ import annotations

import time
from typing import Annotated

from litestar import get, post, put
from litestar.params import JSONBody, PathParameter

from tonsurance.api import admin_render, admin_wire
from tonsurance.api.admin_guard import BODY, ROLE
from tonsurance.api.admin_injected import ANSWERS, CallerOf, Injected
from tonsurance.services.admin_tokens import MAX_TTL_S, SUBJECT_PATTERN, Role


@get("/users", summary="People of the admin API", opt={ROLE: Role.ADMIN}, responses=ANSWERS)
async def list_users(admin: Injected) -> tuple[admin_wire.UserOut, ...]:
    """Approvers must stand here; for others it limits what their tokens may do."""
    return tuple(admin_render.show_user(user) for user in await admin.records.list_users())


@put(
    "/users/{sub:str}",
    summary="Write down a person",
    opt={ROLE: Role.ADMIN, BODY: admin_wire.UserBody},
    responses=ANSWERS,
)
async def put_user(
    admin: Injected,
    caller: CallerOf,
    sub: Annotated[str, PathParameter(description="`sub` of their tokens.", pattern=SUBJECT_PATTERN)],
    data: JSONBody[admin_wire.UserBody],
) -> admin_wire.UserOut:
    """Effective with their next request."""
    return admin_render.show_user(await admin.save_user(sub, Role(data.role), enabled=data.enabled, actor=caller.actor))


@get("/whoami", summary="What your token says", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_whoami(caller: CallerOf) -> dict[str, object]:
    """Name, role that holds, and when the token expires."""
    principal = caller.principal
    return {"sub": principal.sub, "role": principal.role.value, "expires_at": principal.expires_at}


@post(
    "/tokens/revoke",
    summary="Take a token back",
    description="Effective with its next use.",
    opt={ROLE: Role.ADMIN, BODY: admin_wire.RevokeBody},
    status_code=200,
    responses=ANSWERS,
)
async def revoke_token(
    admin: Injected, caller: CallerOf, data: JSONBody[admin_wire.RevokeBody]
) -> admin_wire.RevokedOut:
    """No token lives longer than 12 hours, so it is remembered that long."""
    await admin.records.revoke_token(data.jti, until=time.time() + MAX_TTL_S, by=caller.actor.sub)
    return admin_wire.RevokedOut(success=True, jti=data.jti)
