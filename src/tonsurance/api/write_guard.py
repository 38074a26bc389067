"""Who may write: people with a token of the admin API and at least the role `editor`; in open mode also without one."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tonsurance.api.admin_guard import AdminGuard, caller_of
from tonsurance.core.reservations import ANONYMOUS
from tonsurance.services.admin_tokens import AuthenticationFailed

STATE = "writer"


class Writer(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes. `owner` is whose things they may see and end, None for everybody's."""

    principal: str
    owner: str | None


class WriteGuard:
    """Lets a request pass with its Writer attached, or raises what stops it. A bad token is never taken for none."""

    def __init__(self, tokens: AdminGuard | None, *, open_to_all: bool) -> None:
        """`tokens` is None where no token can be checked, because there is no secret."""
        self._tokens = tokens
        self._open = open_to_all

    async def check(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Raises AuthenticationFailed, Forbidden, TooManyRequests."""
        connection.scope["state"][STATE] = await self._admit(connection, handler)

    async def _admit(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> Writer:
        if self._open and "authorization" not in connection.headers:
            return Writer(principal=ANONYMOUS, owner=None)
        if self._tokens is None:
            raise AuthenticationFailed("No token is accepted here: JWT_SECRET is not set.", guess=False)
        await self._tokens.check(connection, handler)
        sub = caller_of(connection).principal.sub
        return Writer(principal=sub, owner=None if self._open else sub)


def writer_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Writer:
    """The Writer that the guard attached."""
    writer: Writer = connection.scope["state"][STATE]
    return writer
