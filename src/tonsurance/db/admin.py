"""SQL of the admin API: people, revoked tokens, change requests."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection, Record

_USER_COLUMNS = "sub, role, enabled, changed_at, changed_by"
_CHANGE_COLUMNS = """
    change_id, status, author, host(author_ip) AS author_ip, request_id, reason, kind, edits::text, base_version,
    created_at, decided_at, decided_by, decision_reason, applied_version
"""

SELECT_STANDING = """
SELECT EXISTS (SELECT FROM revoked_tokens WHERE jti = $2) AS revoked, role, enabled
FROM (SELECT 1) AS one LEFT JOIN admin_users ON lower(sub) = lower($1)
"""
SELECT_USERS = f"SELECT {_USER_COLUMNS} FROM admin_users ORDER BY lower(sub)"  # noqa: S608 - a constant of this module
SELECT_USER = f"SELECT {_USER_COLUMNS} FROM admin_users WHERE lower(sub) = lower($1)"  # noqa: S608
UPSERT_USER = f"""
INSERT INTO admin_users (sub, role, enabled, changed_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (lower(sub)) DO UPDATE
    SET role = EXCLUDED.role, enabled = EXCLUDED.enabled, changed_by = EXCLUDED.changed_by, changed_at = now()
RETURNING {_USER_COLUMNS}
"""  # noqa: S608
INSERT_REVOKED = """
INSERT INTO revoked_tokens (jti, until, revoked_by) VALUES ($1, $2, $3)
ON CONFLICT (jti) DO UPDATE SET until = greatest(revoked_tokens.until, EXCLUDED.until)
"""
DELETE_EXPIRED = "DELETE FROM revoked_tokens WHERE until < now() - interval '1 day'"
INSERT_CHANGE = f"""
INSERT INTO config_changes (author, author_ip, request_id, reason, kind, edits, base_version)
SELECT $1, $2::text::inet, $3, $4, $5, $6::text::jsonb, $7
WHERE (SELECT count(*) FROM config_changes WHERE status = 'open') < $8
RETURNING {_CHANGE_COLUMNS}
"""  # noqa: S608
SELECT_CHANGES = f"""
SELECT {_CHANGE_COLUMNS} FROM config_changes
WHERE ($1::text IS NULL OR status = $1) AND ($2::bigint IS NULL OR change_id < $2)
ORDER BY change_id DESC LIMIT $3
"""  # noqa: S608
SELECT_CHANGE = f"SELECT {_CHANGE_COLUMNS} FROM config_changes WHERE change_id = $1"  # noqa: S608
UPDATE_CHANGE = f"""
UPDATE config_changes
SET status = $2, decided_at = now(), decided_by = $3, decision_reason = $4, applied_version = $5
WHERE change_id = $1 AND status = 'open' RETURNING {_CHANGE_COLUMNS}
"""  # noqa: S608


class StandingRow(msgspec.Struct, frozen=True):
    """Whether a token was taken back, and what is written about its person (None: nothing)."""

    revoked: bool
    role: str | None
    enabled: bool | None


class UserRow(msgspec.Struct, frozen=True):
    """A person of the admin API."""

    sub: str
    role: str
    enabled: bool
    changed_at: datetime
    changed_by: str


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change request. `edits` is JSON text."""

    change_id: int
    status: str
    author: str
    author_ip: str | None
    request_id: str | None
    reason: str
    kind: str
    edits: str
    base_version: int
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None
    applied_version: int | None


async def select_standing(conn: Connection, sub: str, jti: str) -> StandingRow:
    """What is known about a person and this token of theirs."""
    [row] = await conn.fetch(SELECT_STANDING, sub, jti)
    return StandingRow(row["revoked"], row["role"], row["enabled"])


async def select_users(conn: Connection) -> tuple[UserRow, ...]:
    """Everybody, by name."""
    return tuple(UserRow(*row) for row in await conn.fetch(SELECT_USERS))


async def select_user(conn: Connection, sub: str) -> UserRow | None:
    """One person, however the name is spelt."""
    row = await conn.fetchrow(SELECT_USER, sub)
    return None if row is None else UserRow(*row)


async def upsert_user(conn: Connection, *, sub: str, role: str, enabled: bool, by: str) -> UserRow:
    """Write down a person; the same name in other letters is the same person."""
    [row] = await conn.fetch(UPSERT_USER, sub, role, enabled, by)
    return UserRow(*row)


async def insert_revoked(conn: Connection, *, jti: str, until: datetime, by: str) -> None:
    """Take a token back. Those that have expired anyway are forgotten on the way."""
    await conn.execute(INSERT_REVOKED, jti, until, by)
    await conn.execute(DELETE_EXPIRED)


async def insert_change(
    conn: Connection,
    *,
    author: str,
    author_ip: str | None,
    request_id: str | None,
    reason: str,
    kind: str,
    edits: str,
    base_version: int,
    most_open: int,
) -> ChangeRow | None:
    """A new open request; None when that many are open already."""
    row = await conn.fetchrow(
        INSERT_CHANGE, author, author_ip, request_id, reason, kind, edits, base_version, most_open
    )
    return None if row is None else _change_of(row)


async def select_changes(
    conn: Connection, *, status: str | None, before: int | None, limit: int
) -> tuple[ChangeRow, ...]:
    """A page of requests, newest first."""
    return tuple(_change_of(row) for row in await conn.fetch(SELECT_CHANGES, status, before, limit))


async def select_change(conn: Connection, change_id: int) -> ChangeRow | None:
    """One request."""
    row = await conn.fetchrow(SELECT_CHANGE, change_id)
    return None if row is None else _change_of(row)


async def update_change(
    conn: Connection, change_id: int, *, status: str, by: str, reason: str | None, version: int | None = None
) -> ChangeRow | None:
    """Decide an open request; None when it is not open (any more)."""
    row = await conn.fetchrow(UPDATE_CHANGE, change_id, status, by, reason, version)
    return None if row is None else _change_of(row)


def _change_of(row: Record) -> ChangeRow:
    return ChangeRow(**dict(row))
