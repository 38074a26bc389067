"""What the admin API writes down besides parameters: its people, tokens taken back, requests for a second person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from tonsurance.core.errors import DatabaseUnavailable, InputError
from tonsurance.db import admin
from tonsurance.db.config import lock_head
from tonsurance.db.pool import Connection, acquire
from tonsurance.services.admin_limits import Forbidden
from tonsurance.services.admin_tokens import AuthenticationFailed, Principal, Role, check_subject
from tonsurance.services.config_plan import Actor, ConfigConflict, Edit
from tonsurance.services.config_writes import check_request, write_user
from tonsurance.services.lazy_pool import LazyPool

MAX_OPEN_CHANGES = 200


class UnknownChange(InputError):
    """There is no such change request."""

    code = "unknown_change"


class ChangeDecided(ConfigConflict):
    """The change request is not open any more."""

    code = "change_decided"


class TooManyOpenChanges(ConfigConflict):
    """Too many change requests are open."""

    code = "too_many_open_changes"


class ChangeStatus(StrEnum):
    """How a change request stands. `outdated`: what it would change was changed by others in the meantime."""

    OPEN = "open"
    APPLIED = "applied"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    OUTDATED = "outdated"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person of the admin API. `role` is the most that a token of theirs may do."""

    sub: str
    role: Role
    enabled: bool
    changed_at: datetime
    changed_by: str


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Edits that wait for a second person, or what became of them."""

    change_id: int
    status: ChangeStatus
    author: str
    author_ip: str | None
    request_id: str | None
    reason: str
    kind: str
    edits: tuple[Edit, ...]
    base_version: int
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None
    applied_version: int | None


class AdminRecords:
    """The tables of the admin API. Every method raises DatabaseUnavailable when they cannot be reached."""

    def __init__(self, pool: LazyPool) -> None:
        self._pool = pool

    async def confirm(self, principal: Principal) -> Principal:
        """The person of a token with the role that holds now: the token's, or less when the table says so.

        Raises AuthenticationFailed when the token was taken back or the person shut out.
        """
        async with self._connection() as conn:
            standing = await admin.select_standing(conn, principal.sub, principal.jti)
        if standing.revoked:
            raise AuthenticationFailed("The token has been taken back.", guess=False)
        if standing.role is None:
            return principal
        if not standing.enabled:
            raise AuthenticationFailed("This person is shut out.", guess=False)
        most = Role(standing.role)
        return principal if most.includes(principal.role) else msgspec.structs.replace(principal, role=most)

    async def require_approver(self, sub: str) -> None:
        """Raises Forbidden unless the person stands in the table as one who may approve."""
        async with self._connection() as conn:
            standing = await admin.select_standing(conn, sub, "")
        if standing.role is None or not standing.enabled or not Role(standing.role).includes(Role.APPROVER):
            raise Forbidden(f"{sub} is not registered as an approver.")

    async def list_users(self) -> tuple[User, ...]:
        """Everybody, by name."""
        async with self._connection() as conn:
            return tuple(_user_of(row) for row in await admin.select_users(conn))

    async def save_user(self, sub: str, role: Role, *, enabled: bool, actor: Actor) -> User:
        """Write down a person, or change what is written; audited. Effective with their next request."""
        check_subject(sub)
        check_request((), actor, "")
        async with self._connection() as conn, conn.transaction():
            head = await lock_head(conn)
            return _user_of(await write_user(conn, head, sub, role, enabled, actor))

    async def revoke_token(self, jti: str, *, until: float, by: str) -> None:
        """Take a token back; `until` (unix seconds) is when it would have expired. Effective with its next use."""
        async with self._connection() as conn:
            await admin.insert_revoked(conn, jti=jti, until=datetime.fromtimestamp(until, UTC), by=by)

    async def open_change(
        self, edits: tuple[Edit, ...], *, actor: Actor, reason: str, base_version: int, kind: str
    ) -> ChangeRequest:
        """A new request. Raises TooManyOpenChanges."""
        async with self._connection() as conn:
            row = await admin.insert_change(
                conn,
                author=actor.sub,
                author_ip=actor.client_ip,
                request_id=actor.request_id,
                reason=reason,
                kind=kind,
                edits=msgspec.json.encode(edits).decode(),
                base_version=base_version,
                most_open=MAX_OPEN_CHANGES,
            )
        if row is None:
            raise TooManyOpenChanges(f"{MAX_OPEN_CHANGES} change requests are open: decide or cancel some.")
        return _change_of(row)

    async def list_changes(
        self, *, status: ChangeStatus | None = None, before: int | None = None, limit: int = 50
    ) -> tuple[ChangeRequest, ...]:
        """A page of requests, newest first."""
        async with self._connection() as conn:
            rows = await admin.select_changes(conn, status=status, before=before, limit=limit)
        return tuple(_change_of(row) for row in rows)

    async def change(self, change_id: int) -> ChangeRequest:
        """One request. Raises UnknownChange."""
        async with self._connection() as conn:
            row = await admin.select_change(conn, change_id)
        if row is None:
            raise UnknownChange(f"There is no change request {change_id}.")
        return _change_of(row)

    async def close_change(self, change_id: int, status: ChangeStatus, *, by: str, reason: str | None) -> ChangeRequest:
        """Decide a request without applying it. Raises ChangeDecided when somebody was faster."""
        async with self._connection() as conn:
            row = await admin.update_change(conn, change_id, status=status, by=by, reason=reason)
        if row is None:
            raise ChangeDecided(f"Change request {change_id} is not open any more.")
        return _change_of(row)

    @staticmethod
    async def mark_applied(conn: Connection, change_id: int, *, by: str, reason: str | None, version: int) -> None:
        """Note, within the transaction that applies it, that a request is. Raises ChangeDecided."""
        row = await admin.update_change(
            conn, change_id, status=ChangeStatus.APPLIED, by=by, reason=reason, version=version
        )
        if row is None:
            raise ChangeDecided(f"Change request {change_id} is not open any more.")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with acquire(await self._pool.open()) as conn:
                yield conn
        except TimeoutError as error:
            raise DatabaseUnavailable("The database did not answer in time.") from error


def _user_of(row: admin.UserRow) -> User:
    return User(
        sub=row.sub, role=Role(row.role), enabled=row.enabled, changed_at=row.changed_at, changed_by=row.changed_by
    )


def _change_of(row: admin.ChangeRow) -> ChangeRequest:
    values = msgspec.structs.asdict(row)
    values |= {
        "status": ChangeStatus(row.status),
        "edits": msgspec.json.decode(row.edits, type=tuple[Edit, ...]),
    }
    return ChangeRequest(**values)
