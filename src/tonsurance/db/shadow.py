"""The read models once more, beside the live ones: rebuilt from the event log in a schema of their own, and compared.

On the replaying connection the shadow schema comes first in the search path, so that the very statements which write
the live tables write the shadow's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tonsurance.core.errors import DecodeError, NotReady
from tonsurance.core.events import ChainEvent, EventBody
from tonsurance.db.folding import Posting
from tonsurance.db.pool import Connection, Record

SHADOW = "ledger_replay"
STATEMENT_TIMEOUT_S = 600
_REPLAY_LOCK = 0x746F6E5F7265706C  # "ton_repl"
_FOLDING_FUNCTIONS = ("post_entries", "create_policies", "move_policies")
_JSON = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BODY = msgspec.json.Decoder(EventBody)


class ReadModel(msgspec.Struct, frozen=True, kw_only=True):
    """A table that events alone make, the columns that name a row, and those that say when and where it was written."""

    table: str
    key: tuple[str, ...]
    unlike: frozenset[str] = frozenset()
    kept: str = "true"
    """Which of its rows are kept for ever."""


READ_MODELS = (
    ReadModel(
        table="ledger_entries",
        key=("contract_address", "logical_time", "message_index", "tranche_id"),
        unlike=frozenset({"entry_id", "created_at"}),
    ),
    ReadModel(table="tranche_utilization", key=("vault_id", "tranche_id"), unlike=frozenset({"updated_at"})),
    ReadModel(
        table="tranche_utilization_history",
        key=("vault_id", "tranche_id", "logical_time", "message_index"),
        kept="recorded_at >= coalesce((SELECT since FROM history_horizon), '-infinity')",
    ),
    ReadModel(table="policies", key=("contract_address", "policy_id")),
    ReadModel(table="premium_streams", key=("vault_id", "tranche_id", "logical_time", "message_index")),
)


class RowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A column in which a live row is not the rebuilt one, as text. `column` is `*` when one has no such row."""

    table: str
    key: dict[str, str]
    column: str
    live: str | None
    rebuilt: str | None


class TableComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a live table, how many of them or of the rebuilt ones differ, and what in the first of these."""

    table: str
    rows: int
    differing: int
    differences: tuple[RowDifference, ...]


SELECT_POSTINGS = """
SELECT e.event_id, e.contract_address, e.contract_type, e.transaction_hash, e.logical_time, e.message_index,
    e.metadata, e.raw_body, e.decoder, extract(epoch FROM e.block_time)::bigint AS block_time, e.ledger_version,
    e.params_version, s.contract_type AS kind, s.vault_id
FROM blockchain_events e JOIN blockchain_sync_state s USING (contract_address)
WHERE e.event_id > $1 AND e.ledger_version <= $2 ORDER BY e.event_id LIMIT $3
"""
SELECT_FUNCTION = "SELECT pg_get_functiondef($1::regproc)"
SELECT_EVENT_COUNT = "SELECT count(*) FROM blockchain_events WHERE ledger_version <= $1"
SELECT_COLUMNS = """
SELECT column_name::text FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2
ORDER BY ordinal_position
"""
TRY_REPLAY_LOCK = "SELECT pg_try_advisory_lock($1)"


async def create_shadow(conn: Connection) -> str:
    """Empty read models for this connection to write to. Returns the name of the schema with the live ones.

    Raises NotReady while another connection replays.
    """
    if not await conn.fetchval(TRY_REPLAY_LOCK, _REPLAY_LOCK):
        raise NotReady("Another replay of this ledger is running.")
    live: str = await conn.fetchval("SELECT quote_ident(current_schema())")
    await conn.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
    await conn.execute(f"DROP SCHEMA IF EXISTS {SHADOW} CASCADE")  # of one that was killed
    await conn.execute(f"CREATE SCHEMA {SHADOW}")
    for model in READ_MODELS:
        await conn.execute(f"CREATE UNLOGGED TABLE {SHADOW}.{model.table} (LIKE {live}.{model.table} INCLUDING ALL)")
    await _create_functions(conn, live)
    await conn.execute(f"SET search_path = {SHADOW}, {live}")
    return live


async def _create_functions(conn: Connection, live: str) -> None:
    """The functions that write the live tables once more, for the shadow's. Versions are those of the log here, and
    nobody else writes, so the live ledger's lock is not taken."""
    await conn.execute(
        f"CREATE FUNCTION {SHADOW}.require_next_version(bigint, bigint) RETURNS void LANGUAGE sql AS 'SELECT'"
    )
    for name in _FOLDING_FUNCTIONS:
        definition: str = await conn.fetchval(SELECT_FUNCTION, f"{live}.{name}")
        await conn.execute(definition.replace(f"FUNCTION {live}.", f"FUNCTION {SHADOW}.", 1))
        await conn.execute(f"ALTER FUNCTION {SHADOW}.{name} SET search_path = {SHADOW}, {live}, pg_temp")


async def drop_shadow(conn: Connection) -> None:
    """Remove what was rebuilt."""
    await conn.execute(f"DROP SCHEMA IF EXISTS {SHADOW} CASCADE")


async def select_event_count(conn: Connection, version: int) -> int:
    """How many events the log holds up to a ledger version."""
    count: int = await conn.fetchval(SELECT_EVENT_COUNT, version)
    return count


async def select_postings(conn: Connection, after: int, version: int, limit: int) -> list[tuple[int, int, Posting]]:
    """Events after an event_id up to a ledger version in the order they were posted, each with its event_id and the
    version of the parameters it was posted with.

    Raises DecodeError when a stored event is not what its type says.
    """
    rows = await conn.fetch(SELECT_POSTINGS, after, version, limit)
    return [(row["event_id"], row["params_version"], _read_posting(row)) for row in rows]


def _read_posting(row: Record) -> Posting:
    try:
        body = _BODY.decode(row["metadata"])
    except msgspec.DecodeError as error:
        raise DecodeError(f"Event {row['event_id']} of the log cannot be read: {error}") from error
    event = ChainEvent(
        contract=row["contract_address"],
        contract_kind=row["contract_type"],
        lt=row["logical_time"],
        message_index=row["message_index"],
        transaction_hash=bytes.fromhex(row["transaction_hash"]),
        block_time=row["block_time"],
        decoder=row["decoder"],
        body=body,
        raw_body=row["raw_body"],
    )
    return Posting(event=event, kind=row["kind"], vault_id=row["vault_id"], version=row["ledger_version"])


async def compare_table(conn: Connection, live: str, model: ReadModel, limit: int) -> TableComparison:
    """Compare the live table with its shadow, row by row; `limit` bounds the differences that are named."""
    columns = [row["column_name"] for row in await conn.fetch(SELECT_COLUMNS, SHADOW, model.table)]
    compared = [column for column in columns if column not in model.unlike]
    rows = await conn.fetch(_make_comparison(live, model, compared), max(limit, 1), timeout=STATEMENT_TIMEOUT_S)
    found = [difference for row in rows for difference in _name_differences(model, compared, row)]
    return TableComparison(
        table=model.table,
        rows=await conn.fetchval(f"SELECT count(*) FROM {live}.{model.table}", timeout=STATEMENT_TIMEOUT_S),  # noqa: S608
        differing=rows[0]["differing"] if rows else 0,
        differences=tuple(found[:limit]),
    )


def _make_comparison(live: str, model: ReadModel, columns: list[str]) -> str:
    key = ", ".join(model.key)
    ours, theirs = (", ".join(f"{side}.{column}" for column in columns) for side in ("live", "rebuilt"))
    return (
        "SELECT to_jsonb(live)::text AS live, to_jsonb(rebuilt)::text AS rebuilt, count(*) OVER () AS differing "  # noqa: S608
        f"FROM (SELECT * FROM {live}.{model.table} WHERE {model.kept}) live "
        f"FULL JOIN (SELECT * FROM {SHADOW}.{model.table} WHERE {model.kept}) rebuilt USING ({key}) "
        f"WHERE ROW({ours}) IS DISTINCT FROM ROW({theirs}) ORDER BY {key} LIMIT $1"
    )


def _name_differences(model: ReadModel, columns: list[str], row: Record) -> list[RowDifference]:
    live, rebuilt = (_read_row(row[side]) for side in ("live", "rebuilt"))
    some = live or rebuilt or {}
    key = {column: some[column] or "" for column in model.key}

    def name(column: str, ours: str | None, theirs: str | None) -> RowDifference:
        return RowDifference(table=model.table, key=key, column=column, live=ours, rebuilt=theirs)

    if live is None or rebuilt is None:
        return [name("*", *(None if side is None else "a row" for side in (live, rebuilt)))]
    return [name(column, live[column], rebuilt[column]) for column in columns if live[column] != rebuilt[column]]


def _read_row(text: str | None) -> dict[str, str | None] | None:
    """The columns as text, exactly: no number passes through a float."""
    return None if text is None else {name: _read_value(bytes(raw)) for name, raw in _JSON.decode(text).items()}


def _read_value(raw: bytes) -> str | None:
    if raw == b"null":
        return None
    value: Any = msgspec.json.decode(raw) if raw.startswith(b'"') else raw.decode()
    return str(value)
