"""SQL of the configuration: parameters, versions, audit rows and samples of accesses.

JSON crosses this layer as text: values are compared and hashed in the form PostgreSQL gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection

CHANNEL = "tonsurance_config"
"""Notification channel; the payload is `{"v": <configuration version>}`."""

_PARAMETER_COLUMNS = (
    "id, category, key, value_type, value_data::text AS value_data, description, custom, version, last_updated_at,"
    " updated_by"
)
_VERSION_COLUMNS = "version, created_at, author, reason, kind, values::text AS values, hash"
_AUDIT_COLUMNS = (
    "id, config_id, category, key, action, old_value::text AS old_value, new_value::text AS new_value, changed_by,"
    " role, changed_at, change_reason, kind, client_ip::text AS client_ip, request_id, dry_run, emergency, version,"
    " version_hash, previous_hash, hash"
)
_WHICH_KEYS = "(category, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))"

LOCK_HEAD = "SELECT version, audit_id, audit_hash, clock_timestamp() AS now FROM config_head FOR UPDATE"
SELECT_HEAD = "SELECT version, audit_id, audit_hash, clock_timestamp() AS now FROM config_head"
MOVE_HEAD = "UPDATE config_head SET version = $1, audit_id = $2, audit_hash = $3"
NOTIFY = "SELECT pg_notify($1, format('{\"v\":%s}', $2::bigint))"
NORMALISE = "SELECT v::jsonb::text AS v FROM unnest($1::text[]) WITH ORDINALITY AS given (v, place) ORDER BY place"
SELECT_NEWEST = f"""
SELECT {_VERSION_COLUMNS} FROM config_versions WHERE version = (SELECT version FROM config_head)
"""  # noqa: S608 - constants of this module, here and below
SELECT_VERSION = f"SELECT {_VERSION_COLUMNS} FROM config_versions WHERE version = $1"  # noqa: S608
SELECT_AS_OF = f"""
SELECT {_VERSION_COLUMNS} FROM config_versions WHERE created_at <= $1 ORDER BY version DESC LIMIT 1
"""  # noqa: S608
SELECT_VERSIONS = f"""
SELECT {_VERSION_COLUMNS} FROM config_versions WHERE $1::bigint IS NULL OR version < $1 ORDER BY version DESC LIMIT $2
"""  # noqa: S608
SELECT_VERSIONS_AFTER = f"""
SELECT {_VERSION_COLUMNS} FROM config_versions WHERE version > $1 ORDER BY version LIMIT $2
"""  # noqa: S608
INSERT_VERSION = """
INSERT INTO config_versions (version, created_at, author, reason, kind, values, hash)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)
"""
SELECT_PARAMETERS = f"SELECT {_PARAMETER_COLUMNS} FROM config_parameters ORDER BY category, key"  # noqa: S608
SELECT_PARAMETERS_NAMED = f"SELECT {_PARAMETER_COLUMNS} FROM config_parameters WHERE {_WHICH_KEYS}"  # noqa: S608
UPSERT_PARAMETERS = """
INSERT INTO config_parameters (category, key, value_type, value_data, description, custom, version, last_updated_at,
    updated_by)
SELECT category, key, value_type, value_data::jsonb, description, custom, $7, $8, $9
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
    AS new (category, key, value_type, value_data, description, custom)
ON CONFLICT (category, key) DO UPDATE SET value_data = excluded.value_data, value_type = excluded.value_type,
    description = CASE WHEN excluded.custom THEN excluded.description
        ELSE coalesce(excluded.description, config_parameters.description) END, version = excluded.version,
    last_updated_at = excluded.last_updated_at, updated_by = excluded.updated_by
"""
DELETE_PARAMETERS = f"DELETE FROM config_parameters WHERE {_WHICH_KEYS}"  # noqa: S608
COUNT_EDITS = f"""
SELECT category, key, count(*) AS edits FROM config_audit_log
WHERE NOT dry_run AND changed_at > $3 AND {_WHICH_KEYS} GROUP BY category, key
"""  # noqa: S608
INSERT_AUDIT = """
INSERT INTO config_audit_log (id, config_id, category, key, action, old_value, new_value, changed_by, role, changed_at,
    change_reason, kind, client_ip, request_id, dry_run, emergency, version, version_hash, previous_hash, hash)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9, $10, $11, $12, $13::text::inet, $14, $15, $16,
    $17, $18, $19, $20)
"""
SELECT_AUDIT = f"""
SELECT {_AUDIT_COLUMNS} FROM config_audit_log
WHERE ($1::text IS NULL OR category = $1) AND ($2::text IS NULL OR key = $2) AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4
"""  # noqa: S608
SELECT_AUDIT_AFTER = f"SELECT {_AUDIT_COLUMNS} FROM config_audit_log WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608
SELECT_WRITTEN_LAST = f"""
SELECT DISTINCT ON (category, key) {_AUDIT_COLUMNS} FROM config_audit_log
WHERE NOT dry_run AND version <= $1 ORDER BY category, key, id DESC
"""  # noqa: S608
SELECT_SEEDS = f"""
SELECT {_VERSION_COLUMNS} FROM config_versions WHERE kind = 'seed' AND version <= $1 ORDER BY version
"""  # noqa: S608
INSERT_ACCESSES = """
INSERT INTO config_access_log ("timestamp", process, category, key, cache_hit, accesses)
SELECT date_trunc('minute', now()), $1, category, key, cache_hit, accesses
FROM unnest($2::text[], $3::text[], $4::boolean[], $5::bigint[]) AS new (category, key, cache_hit, accesses)
"""
FORGET_OLD_ACCESSES = "SELECT forget_old_accesses()"


class Head(msgspec.Struct, frozen=True):
    """The version that holds (0: none was stored), the newest audit row, and the database's time."""

    version: int
    audit_id: int
    audit_hash: str
    now: datetime


class StoredParameter(msgspec.Struct, frozen=True, kw_only=True):
    """A row of config_parameters. `value_data` is JSON text; `id` is 0 for a row that is not stored yet."""

    id: int = 0
    category: str
    key: str
    value_type: str
    value_data: str
    description: str | None
    custom: bool
    version: int = 0
    last_updated_at: datetime | None = None
    updated_by: str | None = None


class StoredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A row of config_versions. `values` is JSON text: category -> key -> value."""

    version: int
    created_at: datetime
    author: str
    reason: str
    kind: str
    values: str
    hash: str


class StoredAudit(msgspec.Struct, frozen=True, kw_only=True):
    """A row of config_audit_log. Old and new value are JSON text; None: there was or is none."""

    id: int
    config_id: int | None
    category: str
    key: str
    action: str
    old_value: str | None
    new_value: str | None
    changed_by: str
    role: str
    changed_at: datetime
    change_reason: str
    kind: str
    client_ip: str | None
    request_id: str | None
    dry_run: bool
    emergency: bool
    version: int
    version_hash: str
    previous_hash: str
    hash: str


class AccessCount(msgspec.Struct, frozen=True):
    """How often a parameter was read since the last sample, with its value or with a default."""

    category: str
    key: str
    cache_hit: bool
    accesses: int


async def lock_head(conn: Connection) -> Head:
    """Become the only writer of the configuration until the end of the transaction."""
    [row] = await conn.fetch(LOCK_HEAD)
    return Head(*row)


async def select_head(conn: Connection) -> Head:
    """Where the configuration stands."""
    [row] = await conn.fetch(SELECT_HEAD)
    return Head(*row)


async def move_head(conn: Connection, head: Head) -> None:
    """Let the new version hold, and tell the services; they hear of it when the transaction commits."""
    await conn.execute(MOVE_HEAD, head.version, head.audit_id, head.audit_hash)


async def announce_version(conn: Connection, version: int) -> None:
    """Tell the services of a version; they hear of it when the transaction commits."""
    await conn.execute(NOTIFY, CHANNEL, version)


async def normalise_json(conn: Connection, texts: Sequence[str | None]) -> list[str | None]:
    """JSON as the database would give it back: numbers and the order of names may look different."""
    return [row["v"] for row in await conn.fetch(NORMALISE, texts)]


async def select_newest(conn: Connection) -> StoredVersion | None:
    """The version that holds; None when nothing was ever stored."""
    row = await conn.fetchrow(SELECT_NEWEST)
    return None if row is None else StoredVersion(**dict(row))


async def select_version(conn: Connection, version: int) -> StoredVersion | None:
    """One version."""
    row = await conn.fetchrow(SELECT_VERSION, version)
    return None if row is None else StoredVersion(**dict(row))


async def select_as_of(conn: Connection, time: datetime) -> StoredVersion | None:
    """The version that held at a time."""
    row = await conn.fetchrow(SELECT_AS_OF, time)
    return None if row is None else StoredVersion(**dict(row))


async def select_versions(conn: Connection, *, before: int | None, limit: int) -> tuple[StoredVersion, ...]:
    """A page of versions, newest first."""
    return tuple(StoredVersion(**dict(row)) for row in await conn.fetch(SELECT_VERSIONS, before, limit))


async def select_versions_after(conn: Connection, after: int, limit: int) -> tuple[StoredVersion, ...]:
    """The next versions, oldest first."""
    return tuple(StoredVersion(**dict(row)) for row in await conn.fetch(SELECT_VERSIONS_AFTER, after, limit))


async def insert_version(conn: Connection, row: StoredVersion) -> None:
    """A new version."""
    await conn.execute(INSERT_VERSION, *msgspec.structs.astuple(row))


async def select_parameters(conn: Connection) -> tuple[StoredParameter, ...]:
    """All stored parameters by name."""
    return tuple(StoredParameter(**dict(row)) for row in await conn.fetch(SELECT_PARAMETERS))


async def select_named(conn: Connection, names: Sequence[tuple[str, str]]) -> tuple[StoredParameter, ...]:
    """Those of these parameters that are stored."""
    rows = await conn.fetch(SELECT_PARAMETERS_NAMED, *_columns(names))
    return tuple(StoredParameter(**dict(row)) for row in rows)


async def upsert_parameters(
    conn: Connection, rows: Sequence[StoredParameter], *, version: int, time: datetime, by: str
) -> None:
    """Store values of a new version."""
    columns = (
        [getattr(row, name) for row in rows]
        for name in ("category", "key", "value_type", "value_data", "description", "custom")
    )
    await conn.execute(UPSERT_PARAMETERS, *columns, version, time, by)


async def delete_parameters(conn: Connection, names: Sequence[tuple[str, str]]) -> None:
    """Remove parameters that people added; others are refused by the database."""
    await conn.execute(DELETE_PARAMETERS, *_columns(names))


async def count_edits(
    conn: Connection, names: Sequence[tuple[str, str]], *, since: datetime
) -> dict[tuple[str, str], int]:
    """How often each of these was changed since then; those that were not are left out."""
    rows = await conn.fetch(COUNT_EDITS, *_columns(names), since)
    return {(row["category"], row["key"]): row["edits"] for row in rows}


async def insert_audit(conn: Connection, rows: Sequence[StoredAudit]) -> None:
    """New audit rows."""
    await conn.executemany(INSERT_AUDIT, [msgspec.structs.astuple(row) for row in rows])


async def select_audit(
    conn: Connection, *, category: str | None, key: str | None, before: int | None, limit: int
) -> tuple[StoredAudit, ...]:
    """A page of the audit log, newest first."""
    rows = await conn.fetch(SELECT_AUDIT, category, key, before, limit)
    return tuple(StoredAudit(**dict(row)) for row in rows)


async def select_audit_after(conn: Connection, after: int, limit: int) -> tuple[StoredAudit, ...]:
    """The next audit rows, oldest first."""
    return tuple(StoredAudit(**dict(row)) for row in await conn.fetch(SELECT_AUDIT_AFTER, after, limit))


async def select_written_last(conn: Connection, version: int) -> tuple[StoredAudit, ...]:
    """The last audit row of every name up to a version, dry runs left out."""
    return tuple(StoredAudit(**dict(row)) for row in await conn.fetch(SELECT_WRITTEN_LAST, version))


async def select_seeds(conn: Connection, version: int) -> tuple[StoredVersion, ...]:
    """The versions up to this one that stored declared parameters for the first time, oldest first."""
    return tuple(StoredVersion(**dict(row)) for row in await conn.fetch(SELECT_SEEDS, version))


async def insert_accesses(conn: Connection, process: str, counts: Sequence[AccessCount]) -> None:
    """A sample of accesses; samples older than 30 days are forgotten on the way."""
    columns = zip(*(msgspec.structs.astuple(count) for count in counts), strict=True)
    await conn.execute(INSERT_ACCESSES, process, *(list(column) for column in columns))
    await conn.execute(FORGET_OLD_ACCESSES)


def _columns(names: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [category for category, _ in names], [key for _, key in names]
