"""Brings the schema to this program's version: numbered SQL files, each applied once, in one transaction.

Forward only. A file that was applied must never change again: its SHA-256 is stored and compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec

from tonsurance.core.errors import DatabaseDenied, DatabaseUnavailable, MigrationError
from tonsurance.db.pool import Connection, driver_errors, translate_error

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK_KEY = 0x746F6E5F6D696772  # "ton_migr"
_LOCK_POLL_S = 0.1
_FILE_TIMEOUT_S = 3600.0
_FILE_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql")

_CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    duration_ms int NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_SELECT_APPLIED = "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
_INSERT_APPLIED = "INSERT INTO schema_migrations (version, name, sha256, duration_ms) VALUES ($1, $2, $3, $4)"


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """What is stored to notice a later change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class MigrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Names of the files applied now (or, in a dry run, still to apply) and the version after that."""

    applied: tuple[str, ...]
    version: int
    dry_run: bool = False


def load_migrations(folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """The files of a folder in order. Raises MigrationError unless their numbers are 1..n, each once."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:
            raise MigrationError(f"{path.name} is not named like 001_what_it_does.sql.")
        found.append(Migration(int(name[1]), path.name, path.read_text(encoding="utf-8")))
    numbers = [migration.version for migration in found]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise MigrationError(f"Migration numbers must be 1 to n without gap or double: {numbers}.")
    return tuple(found)


async def migrate(
    conn: Connection, *, folder: Path = MIGRATIONS, dry_run: bool = False, wait_s: float = 60.0
) -> MigrationReport:
    """Apply what is missing. Several processes may call it at once: one does the work, the others wait `wait_s`.

    Raises MigrationError, naming the file; that file is then rolled back as a whole and earlier ones stay.
    """
    plan = load_migrations(folder)
    with driver_errors():
        async with _only_one(conn, wait_s):
            missing = plan[len(await _check_applied(conn, plan)) :]
            if not dry_run:
                await conn.execute(_CREATE_RECORD)
                for migration in missing:
                    await _apply(conn, migration)
    return MigrationReport(applied=tuple(m.name for m in missing), version=plan[-1].version, dry_run=dry_run)


@asynccontextmanager
async def _only_one(conn: Connection, wait_s: float) -> AsyncIterator[None]:
    """Hold the migration lock. By polling: a session that waits inside pg_advisory_lock() holds a snapshot, and
    CREATE INDEX CONCURRENTLY in the holder would wait for it: a deadlock."""
    deadline = time.monotonic() + wait_s
    while not await conn.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if time.monotonic() > deadline:
            raise MigrationError(f"Another process has been migrating this database for {wait_s:g} s.")
        await asyncio.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        if not conn.is_closed():
            await conn.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)


async def _check_applied(conn: Connection, plan: tuple[Migration, ...]) -> list[int]:
    """The versions applied so far, which must be the first ones of the plan, unchanged."""
    if await conn.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return []
    rows = await conn.fetch(_SELECT_APPLIED)
    for row in rows[len(plan) :]:
        raise MigrationError(f"The database is newer than this program: it has {row['name']}.")
    for row, migration in zip(rows, plan, strict=False):
        if row["version"] != migration.version:
            raise MigrationError(f"The database has version {row['version']} without {migration.name}.")
        if row["sha256"] != migration.sha256:
            raise MigrationError(f"{migration.name} was changed after it had been applied.")
    return [row["version"] for row in rows]


async def _apply(conn: Connection, migration: Migration) -> None:
    begun = time.monotonic()
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0")
            await conn.execute(migration.sql, timeout=_FILE_TIMEOUT_S)
            spent_ms = round((time.monotonic() - begun) * 1000)
            await conn.execute(_INSERT_APPLIED, migration.version, migration.name, migration.sha256, spent_ms)
    except asyncpg.PostgresError as error:
        outage = translate_error(error)
        if isinstance(outage, DatabaseUnavailable) and not isinstance(outage, DatabaseDenied):
            raise outage from error
        raise MigrationError(f"{migration.name} failed and was rolled back: {error}") from error
