"""Updates of direct vaults that were accepted and wait to be applied."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.core.errors import TonsuranceError
from tonsurance.db.direct import DirectUpdate, Outcome, Part
from tonsurance.db.pool import Connection, Record

_COLUMNS = """
    queue_id, principal, route, idempotency_key, vault_id, parts::text AS parts, absolute, request_hash, status,
    ledger_version, error_code, error_message, accepted_at, done_at
"""

INSERT_QUEUED = f"""
INSERT INTO queued_updates (principal, route, idempotency_key, vault_id, parts, absolute, request_hash)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7)
ON CONFLICT (principal, route, idempotency_key) DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608 - the columns are this module's
SELECT_QUEUED_BY_KEY = f"""
SELECT {_COLUMNS} FROM queued_updates WHERE (principal, route, idempotency_key) = ($1, $2, $3)
"""  # noqa: S608
SELECT_QUEUED = f"SELECT {_COLUMNS} FROM queued_updates WHERE queue_id = $1"  # noqa: S608
LOCK_PENDING = f"""
SELECT {_COLUMNS} FROM queued_updates WHERE status = 'pending' ORDER BY queue_id LIMIT $1 FOR UPDATE
"""  # noqa: S608
END_QUEUED = """
UPDATE queued_updates q SET status = CASE WHEN ended.version IS NULL THEN 'refused' ELSE 'applied' END,
    ledger_version = ended.version, error_code = ended.code, error_message = ended.message,
    done_at = clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS ended (queue_id, version, code, message)
WHERE q.queue_id = ended.queue_id
"""
SELECT_PENDING_COUNT = "SELECT count(*) FROM queued_updates WHERE status = 'pending'"


_PARTS = msgspec.json.Decoder(tuple[Part, ...])


class QueuedUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted update: `pending`, `applied` (with the ledger's version) or `refused` (with the reason)."""

    queue_id: int
    principal: str
    route: str
    idempotency_key: str
    vault_id: str
    parts: tuple[Part, ...]
    absolute: bool
    request_hash: bytes
    status: str
    ledger_version: int | None
    error_code: str | None
    error_message: str | None
    accepted_at: datetime
    done_at: datetime | None

    @property
    def update(self) -> DirectUpdate:
        """What is to be posted."""
        return DirectUpdate(
            principal=self.principal,
            route=self.route,
            key=self.idempotency_key,
            vault_id=self.vault_id,
            parts=self.parts,
            absolute=self.absolute,
        )

    @classmethod
    def from_row(cls, row: Record) -> QueuedUpdate:
        """From a row of the statements above."""
        return cls(**{**row, "parts": _PARTS.decode(row["parts"])})


async def insert_queued(conn: Connection, update: DirectUpdate) -> QueuedUpdate:
    """Accept an update, or find the one that was accepted under this key (its request may be another)."""
    row = await conn.fetchrow(
        INSERT_QUEUED,
        *update.identity,
        update.vault_id,
        msgspec.json.encode(update.parts).decode(),
        update.absolute,
        update.request_hash,
    )
    if row is None:
        (row,) = await conn.fetch(SELECT_QUEUED_BY_KEY, *update.identity)
    return QueuedUpdate.from_row(row)


async def select_queued(conn: Connection, queue_id: int) -> QueuedUpdate | None:
    """One accepted update."""
    row = await conn.fetchrow(SELECT_QUEUED, queue_id)
    return None if row is None else QueuedUpdate.from_row(row)


async def lock_pending(conn: Connection, limit: int) -> list[QueuedUpdate]:
    """The oldest that wait, locked until the transaction ends; a second worker waits and then finds the next."""
    return [QueuedUpdate.from_row(row) for row in await conn.fetch(LOCK_PENDING, limit)]


async def end_queued(conn: Connection, queued: Sequence[QueuedUpdate], outcomes: Sequence[Outcome]) -> None:
    """Note what became of each."""
    rows = [
        (item.queue_id, None, outcome.code, outcome.message)
        if isinstance(outcome, TonsuranceError)
        else (item.queue_id, outcome.ledger_version, None, None)
        for item, outcome in zip(queued, outcomes, strict=True)
    ]
    await conn.execute(END_QUEUED, *(list(column) for column in zip(*rows, strict=True)))


async def select_pending_count(conn: Connection) -> int:
    """How many wait."""
    count: int = await conn.fetchval(SELECT_PENDING_COUNT)
    return count
