"""Connections to PostgreSQL, and what the driver's errors mean to us.

Nobody above this layer imports the driver: its types are named here, and its errors become ours in `driver_errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tonsurance.core.errors import (
    DatabaseDenied,
    DatabaseUnavailable,
    LedgerRefused,
    MigrationError,
    TonsuranceError,
)
from tonsurance.db.roles import API

Record: TypeAlias = "asyncpg.Record"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_CONNECT_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 60.0
_STATEMENT_TIMEOUT_MS = 30_000
_READER_TIMEOUT_MS = 10_000
"""What the role itself has as a setting; that one holds for logins only, not for a role that is taken."""

_UNAVAILABLE_CLASSES = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"})
"""SQLSTATE classes where the same request may succeed later or after the operator acts: connection, read-only server,
login, missing database, deadlock, out of resources, lock timeout, shutdown or cancelled, system and internal errors."""
_VALUE_CLASSES = frozenset({"22", "23", "P0"})
"""The value is out of range, breaks a constraint, or a trigger refused it."""
_SCHEMA_STATES = frozenset({"42P01", "42703", "42883"})
"""Undefined table, column, function."""
_DENIED = "42501"


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turn what the driver raises inside the block into our errors; nothing else belongs into the block.

    DatabaseUnavailable: try again. DatabaseDenied: the operator must grant something. LedgerRefused: the database
    refuses the values. MigrationError: the schema is not the one this program knows. Any other SQL error is a fault of
    ours and passes through unchanged.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        raise translate_error(error) from error
    except asyncpg.InterfaceError as error:
        raise DatabaseUnavailable(f"The database connection is not usable: {error}") from error
    except TimeoutError as error:
        raise DatabaseUnavailable("The database did not answer in time.") from error
    except OSError as error:
        raise DatabaseUnavailable(f"The database cannot be reached: {error}") from error


def translate_error(error: asyncpg.PostgresError) -> TonsuranceError | asyncpg.PostgresError:
    """Our error for an SQL error of the driver; the same error when it is a fault in our SQL."""
    state = error.sqlstate or ""
    if state in _SCHEMA_STATES:
        return MigrationError(f"The database does not have this schema: {error}", advice="Run `tonsurance migrate`.")
    if state == _DENIED:
        return DatabaseDenied(
            f"The database does not permit this: {error}",
            advice="Run `tonsurance migrate`; it grants each role what its processes need.",
        )
    if state[:2] in _UNAVAILABLE_CLASSES or isinstance(error, asyncpg.PostgresConnectionError):
        return DatabaseUnavailable(f"The database does not do it now: {error}")
    if state[:2] in _VALUE_CLASSES:
        return LedgerRefused(f"The database refuses a value: {error}")
    return error


def _session(application_name: str, role: str | None, statement_timeout_ms: int | None) -> dict[str, str]:
    timeout_ms = statement_timeout_ms or (_READER_TIMEOUT_MS if role == API else _STATEMENT_TIMEOUT_MS)
    session = {
        "application_name": application_name,
        "jit": "off",
        "timezone": "UTC",
        "statement_timeout": str(timeout_ms),
    }
    return session if role is None else {**session, "role": role}


async def connect(
    dsn: str, *, application_name: str = "tonsurance", role: str | None = None
) -> asyncpg.Connection[asyncpg.Record]:
    """One connection of its own, as this role (None: the login). Raises DatabaseUnavailable or DatabaseDenied."""
    with driver_errors(), _bad_dsn(), _refused_role(role):
        return await asyncpg.connect(
            dsn,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S,
            server_settings=_session(application_name, role, None),
        )


async def open_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 4,
    application_name: str = "tonsurance",
    role: str | None = None,
    statement_timeout_ms: int | None = None,
) -> asyncpg.Pool[asyncpg.Record]:
    """A pool of connections that take this role (None: stay the login); the writer and the listener have connections
    of their own. `min_size` of them are opened at once. Without a time of its own a statement may take 10 s as reader,
    else 30 s.

    Raises DatabaseUnavailable, or DatabaseDenied when the login may not take the role.
    """
    with driver_errors(), _bad_dsn(), _refused_role(role):
        return await asyncpg.create_pool(
            dsn,
            min_size=0,  # the driver keeps a floor up in the background, and logs tracebacks in an outage
            init_size=min_size,
            max_size=max_size,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S,
            server_settings=_session(application_name, role, statement_timeout_ms),
        )


@asynccontextmanager
async def acquire(pool: Pool, *, timeout_s: float = 5.0) -> AsyncIterator[Connection]:
    """Borrow a connection; driver errors in the block become ours, so only database work belongs into it.

    Raises DatabaseUnavailable when none is free in time.
    """
    with driver_errors():
        async with pool.acquire(timeout=timeout_s) as conn:
            yield conn


def tls_query(dsn: str) -> str:
    """What an address says about TLS, as a query to give to another address."""
    named = parse_qsl(urlsplit(dsn).query)
    return urlencode([(name, value) for name, value in named if name.startswith("ssl")])


@contextmanager
def _refused_role(role: str | None) -> Iterator[None]:
    """The server refuses the role of a new connection: it is not there, or the login is no member of it."""
    try:
        yield
    except asyncpg.InvalidParameterValueError as error:
        if role is None:
            raise
        raise DatabaseDenied(
            f"The database has no role {role}: {error}", advice="Run `tonsurance migrate`; it makes the roles."
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        if role is None:
            raise
        raise DatabaseDenied(
            f"The login of this process may not take the role {role}: {error}",
            advice=f"Run as a superuser, with the login's name: GRANT {role} TO login;",
        ) from error


@contextmanager
def _bad_dsn() -> Iterator[None]:
    """A DSN the driver cannot read is a ValueError there."""
    try:
        yield
    except OSError:  # a certificate that is refused is a ValueError too
        raise
    except ValueError as error:
        raise DatabaseUnavailable("DATABASE_URL cannot be read as a PostgreSQL address.") from error
