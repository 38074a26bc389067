"""Who may use an admin route. Every route says the role it needs; one that says none needs `admin`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tonsurance import log, metrics
from tonsurance.api.admin_settings import AdminSettings
from tonsurance.api.client_address import client_address, is_within, locking_key, parse_networks
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.services.admin_limits import Forbidden, LockOut, RequestLimiter, TooManyRequests
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.admin_tokens import AuthenticationFailed, Principal, Role, TokenKeys, read_token
from tonsurance.services.config_plan import Actor

logger = log.get("admin")

ROLE = "role"
"""Name of the route option with the least role."""

WITHOUT_DATABASE = "without_database"
"""Name of the route option for what is answered from memory, so also while the database is away: a token alone is
enough then, even one that was taken back meanwhile."""

BODY = "body"
"""Name of the route option with the type of the body."""

_SCHEME = "bearer"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: the person with the role that holds, and where from. `outage` says that the database could not be asked
    about the person."""

    principal: Principal
    actor: Actor
    outage: str | None = None


class AdminGuard:
    """Address, token, role, rate: in this order, so that a shut-out address learns nothing about its tokens."""

    def __init__(
        self,
        keys: TokenKeys,
        records: AdminRecords,
        settings: AdminSettings,
        rate_limit: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`rate_limit` is how many requests of one person are answered in a minute. Raises UsageError for a setting
        that is no address."""
        self._keys = keys
        self._records = records
        self._allow = parse_networks("ADMIN_ALLOW", settings.allow)
        self._proxies = parse_networks("TRUSTED_PROXIES", settings.proxies)
        self._limiter = RequestLimiter(rate_limit, clock=clock)
        self._lock_out = LockOut(
            failures=settings.lock_failures, window_s=settings.lock_window_s, lock_s=settings.lock_s, clock=clock
        )
        self._wall_clock = wall_clock

    async def check(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Let the request pass with its Caller attached, or raise what stops it."""
        needed = Role(handler.opt.get(ROLE, Role.ADMIN))
        try:
            connection.scope["state"]["caller"] = await self._admit(connection, handler, needed)
        except (AuthenticationFailed, Forbidden, TooManyRequests) as error:
            metrics.ADMIN_REFUSED.labels(error.code).inc()
            raise

    async def _admit(
        self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler, needed: Role
    ) -> Caller:
        address = client_address(connection, self._proxies)
        if self._allow and not is_within(address, self._allow):
            raise Forbidden("The admin API is not open to this address.")
        self._lock_out.check(locking_key(address))
        principal, outage = self._authenticate(connection, locking_key(address)), None
        try:
            principal = await self._records.confirm(principal)
        except DatabaseUnavailable as error:
            if not handler.opt.get(WITHOUT_DATABASE):
                raise
            outage = error.message
        if not principal.role.includes(needed):
            raise Forbidden(f"This needs the role {needed}; yours is {principal.role}.")
        self._limiter.count(principal.sub.casefold())
        request_id = connection.scope.get("request_id")
        actor = Actor(
            sub=principal.sub,
            role=principal.role.value,
            client_ip=str(address),
            request_id=request_id if isinstance(request_id, str) else None,
        )
        return Caller(principal=principal, actor=actor, outage=outage)

    def _authenticate(self, connection: ASGIConnection[Any, Any, Any, Any], key: str) -> Principal:
        try:
            return read_token(self._keys, _token_of(connection), clock=self._wall_clock)
        except AuthenticationFailed as error:
            if error.guess and self._lock_out.record_failure(key):
                metrics.ADMIN_LOCKOUTS.inc()
                logger.error("address shut out after too many bad tokens", address=key)
            raise


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The Caller that the guard attached."""
    caller: Caller = connection.scope["state"]["caller"]
    return caller


def _token_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    given = connection.headers.getall("authorization", [])
    if not given:
        raise AuthenticationFailed("A token is needed: Authorization: Bearer TOKEN.", guess=False)
    scheme, _, token = given[0].partition(" ")
    if len(given) != 1 or scheme.casefold() != _SCHEME:
        raise AuthenticationFailed("The header has to be: Authorization: Bearer TOKEN.")
    return token.strip()
