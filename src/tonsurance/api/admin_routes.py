"""The admin API as one router: guard, errors, size and depth of bodies, routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from tonsurance.api import admin, admin_changes, admin_datasets, admin_people
from tonsurance.api.admin_errors import answer_admin_error, answer_admin_http_error
from tonsurance.api.admin_guard import BODY, AdminGuard, Caller, caller_of
from tonsurance.api.admin_settings import AdminSettings
from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.services.config_admin import ConfigAdmin
from tonsurance.services.datasets import Datasets

BEARER = "bearer"
"""Name of the security scheme in the OpenAPI document."""


ADMIN_ROUTES = (
    admin.list_config,
    admin.list_category,
    admin.get_config,
    admin.put_config,
    admin.post_config,
    admin.delete_config,
    admin.reload_config,
    admin.get_stats,
    admin.get_audit,
    admin_changes.list_versions,
    admin_changes.get_version,
    admin_changes.get_diff,
    admin_changes.post_rollback,
    admin_changes.list_changes,
    admin_changes.get_change,
    admin_changes.post_changes,
    admin_changes.approve_change,
    admin_changes.reject_change,
    admin_changes.cancel_change,
    admin_people.list_users,
    admin_people.put_user,
    admin_people.get_whoami,
    admin_people.revoke_token,
    *admin_datasets.ROUTES,
)


class AdminParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the admin API is made of."""

    admin: ConfigAdmin
    datasets: Datasets
    guard: AdminGuard
    settings: AdminSettings


def make_admin_router(parts: AdminParts) -> Router:
    """All routes below /admin."""
    return make_guarded_router(parts, "/admin", ADMIN_ROUTES, "admin")


def make_guarded_router(parts: AdminParts, path: str, route_handlers: Sequence[HTTPRouteHandler], tag: str) -> Router:
    """Routes that want a token, with the errors and limits of the admin API."""

    # A function, because the framework copies any other object once for each route, and each copy would count alone.
    async def check_caller(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        await parts.guard.check(connection, handler)

    def provide_admin() -> ConfigAdmin:
        return parts.admin

    def provide_datasets() -> Datasets:
        return parts.datasets

    def provide_caller(request: Request[Any, Any, Any]) -> Caller:
        return caller_of(request)

    return Router(
        path=path,
        route_handlers=route_handlers,
        guards=[check_caller],
        before_request=check_body,
        dependencies={
            "admin": Provide(provide_admin, sync_to_thread=False),
            "datasets": Provide(provide_datasets, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=False),
        },
        exception_handlers={TonsuranceError: answer_admin_error, HTTPException: answer_admin_http_error},
        request_max_body_size=parts.settings.max_body_bytes,
        cache_control=None,
        response_headers={"Cache-Control": "no-store"},
        security=[{BEARER: []}],
        tags=[tag],
    )


async def check_body(request: Request[Any, Any, Any]) -> None:
    """Refuse a body that is not of the route's type, strictly: to the framework 0 is as good as false."""
    body = await request.body()
    if not body:
        return
    try:
        msgspec.json.decode(body, type=request.route_handler.opt.get(BODY, Any))
    except RecursionError as error:
        raise InputError("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise InputError(f"The body cannot be used: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError("The body is not JSON.") from error
