"""The read models once more, beside the live ones: rebuilt from the event log in a schema of their own, and compared.

On the replaying connection the shadow schema comes first in the search path, so that the very statements which write
the live tables write the shadow's. The log they read is a view there: the live log, and events that are not in it yet.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tonsurance.core.errors import DecodeError, NotReady
from tonsurance.core.events import VAULT_KIND, VAULT_KINDS, ChainEvent, EventBody
from tonsurance.db.folding import Posting
from tonsurance.db.pool import Connection, Record

SHADOW = "ledger_replay"
LATE_EVENTS = "late_events"
"""The shadow's table of events that are not in the log yet; it has the log's columns."""

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
    """Which of its rows are kept for ever, as a condition on `{row}`."""

    by_lt: bool = False
    """Whether a row is of one logical time of its vault."""

    derived: bool = False
    """Whether the database itself keeps it from another one of these tables."""


READ_MODELS = (
    ReadModel(
        table="ledger_entries",
        key=("contract_address", "logical_time", "message_index", "tranche_id"),
        unlike=frozenset({"entry_id", "created_at"}),
        by_lt=True,
    ),
    ReadModel(table="tranche_utilization", key=("vault_id", "tranche_id"), unlike=frozenset({"updated_at"})),
    ReadModel(
        table="tranche_utilization_history",
        key=("vault_id", "tranche_id", "logical_time", "message_index"),
        kept="{row}.recorded_at >= coalesce((SELECT since FROM history_horizon), '-infinity')",
        by_lt=True,
    ),
    ReadModel(table="policies", key=("contract_address", "policy_id")),
    ReadModel(table="premium_streams", key=("vault_id", "tranche_id", "logical_time", "message_index"), by_lt=True),
    ReadModel(
        table="product_exposure",
        key=("vault_id", "coverage_type", "chain_id", "stablecoin_id"),
        unlike=frozenset({"updated_at"}),
        kept="({row}.policy_count, {row}.total_coverage, {row}.total_premium) <> (0, 0, 0)",
        derived=True,
    ),
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


class LogContract(msgspec.Struct, frozen=True, kw_only=True):
    """A contract whose events are in the log."""

    address: str
    kind: str
    vault_id: str


class Place(msgspec.Struct, frozen=True, order=True):
    """An event's place in its contract's history: before it everything of an earlier transaction or message."""

    lt: int
    message_index: int


START = Place(-1, -1)

SELECT_LOG_CONTRACTS = """
SELECT contract_address AS address, contract_type AS kind, vault_id FROM blockchain_sync_state
ORDER BY contract_type = ANY($1), vault_id, contract_address
"""
SELECT_POSTINGS = """
SELECT e.event_id, e.contract_address, e.contract_type, e.transaction_hash, e.logical_time, e.message_index,
    e.metadata, e.raw_body, e.decoder, extract(epoch FROM e.block_time)::bigint AS block_time, e.ledger_version,
    e.params_version
FROM blockchain_events e
WHERE e.contract_address = $1 AND (e.logical_time, e.message_index) > ($2, $3)
ORDER BY e.logical_time, e.message_index LIMIT $4
"""
SELECT_FUNCTION = "SELECT pg_get_functiondef($1::regproc)"
SELECT_EVENT_COUNT = "SELECT count(*) FROM blockchain_events"
SELECT_REPAIR_MARK = """
SELECT coalesce(max(adjustment_id), 0) FROM ledger_adjustments WHERE relation = 'blockchain_events'
"""
SELECT_COLUMNS = """
SELECT attname::text AS name, attgenerated <> '' AS generated FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
INSERT_EXPOSURE = """
INSERT INTO product_exposure (vault_id, coverage_type, chain_id, stablecoin_id, total_coverage, policy_count,
    total_premium)
SELECT vault_id, coverage_type, chain_id, stablecoin_id, sum(coverage_amount_nanoton), count(*), sum(premium_nanoton)
FROM policies WHERE status IN ('active', 'approved')
GROUP BY vault_id, coverage_type, chain_id, stablecoin_id
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
    for table in (*(model.table for model in READ_MODELS), "blockchain_events"):
        await conn.execute(f"CREATE UNLOGGED TABLE {SHADOW}.{table} (LIKE {live}.{table} INCLUDING ALL)")
    await _create_log(conn, live)
    await _create_functions(conn, live)
    await conn.execute(f"SET search_path = {SHADOW}, {live}")
    return live


async def _create_log(conn: Connection, live: str) -> None:
    """The live log and, in the shadow's own table, what a rescan would add to it."""
    await conn.execute(f"ALTER TABLE {SHADOW}.blockchain_events RENAME TO {LATE_EVENTS}")
    await conn.execute(
        f"CREATE VIEW {SHADOW}.blockchain_events AS SELECT * FROM {live}.blockchain_events "  # noqa: S608
        f"UNION ALL SELECT * FROM {SHADOW}.{LATE_EVENTS}"
    )


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


async def clear_shadow(conn: Connection) -> None:
    """Forget what was rebuilt, to begin again."""
    await conn.execute(f"TRUNCATE {', '.join(f'{SHADOW}.{model.table}' for model in READ_MODELS)}")


async def drop_shadow(conn: Connection) -> None:
    """Remove what was rebuilt."""
    await conn.execute(f"DROP SCHEMA IF EXISTS {SHADOW} CASCADE")


async def select_event_count(conn: Connection) -> int:
    """How many events the log holds."""
    count: int = await conn.fetchval(SELECT_EVENT_COUNT, timeout=STATEMENT_TIMEOUT_S)
    return count


async def select_repair_mark(conn: Connection) -> int:
    """Grows whenever a row of the log is changed otherwise than by posting: all of that is in the journal."""
    mark: int = await conn.fetchval(SELECT_REPAIR_MARK)
    return mark


async def select_log_contracts(conn: Connection) -> list[LogContract]:
    """Every contract that is or was followed, the factories before the vaults: a premium's stream needs to know how
    long the cover runs."""
    rows = await conn.fetch(SELECT_LOG_CONTRACTS, list(VAULT_KINDS))
    return [LogContract(**dict(row)) for row in rows]


async def select_postings(
    conn: Connection, contract: LogContract, after: Place, limit: int
) -> list[tuple[Place, int, Posting]]:
    """Events of a contract after a place in the order they happened, each with its place and the version of the
    parameters it was posted with.

    Raises DecodeError when a stored event is not what its type says.
    """
    rows = await conn.fetch(SELECT_POSTINGS, contract.address, after.lt, after.message_index, limit)
    return [
        (Place(row["logical_time"], row["message_index"]), row["params_version"], _read_posting(row, contract))
        for row in rows
    ]


def _read_posting(row: Record, contract: LogContract) -> Posting:
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
    return Posting(event=event, kind=contract.kind, vault_id=contract.vault_id, version=row["ledger_version"])


class RowsOf(msgspec.Struct, frozen=True, kw_only=True):
    """A table whose live rows are held against the rebuilt ones: after the logical time `from_lt` of their vault, when
    there is one, and otherwise all of them."""

    live: str
    model: ReadModel
    columns: tuple[str, ...]
    """What is compared."""

    written: tuple[str, ...]
    """What is written when a live row is replaced; the rest the database fills in."""

    from_lt: int | None = None

    def condition(self, row: str) -> str:
        """Which rows are looked at."""
        kept = self.model.kept.format(row=row)
        if self.from_lt is None or not self.model.by_lt:
            return kept
        return f"{kept} AND ({row}.logical_time > {self.from_lt} OR {row}.vault_id NOT IN ({self.chain_vaults()}))"

    def chain_vaults(self) -> str:
        """The vaults that have logical times of the chain."""
        return f"SELECT vault_id FROM {self.live}.blockchain_sync_state WHERE contract_type = '{VAULT_KIND}'"  # noqa: S608


async def read_rows_of(conn: Connection, live: str, model: ReadModel, from_lt: int | None = None) -> RowsOf:
    """What is compared of a table."""
    rows = await conn.fetch(SELECT_COLUMNS, f"{SHADOW}.{model.table}")
    compared = [(row["name"], row["generated"]) for row in rows if row["name"] not in model.unlike]
    return RowsOf(
        live=live,
        model=model,
        columns=tuple(name for name, _ in compared),
        written=tuple(name for name, generated in compared if not generated),
        from_lt=from_lt,
    )


async def rebuild_exposure(conn: Connection) -> None:
    """Count the exposure of the rebuilt policies, and make all rebuilt tables known to the planner."""
    await conn.execute(f"TRUNCATE {SHADOW}.product_exposure")
    await conn.execute(INSERT_EXPOSURE, timeout=STATEMENT_TIMEOUT_S)
    for model in READ_MODELS:
        await conn.execute(f"ANALYZE {SHADOW}.{model.table}", timeout=STATEMENT_TIMEOUT_S)


async def compare_table(conn: Connection, of: RowsOf, limit: int) -> TableComparison:
    """Compare the live table with its shadow, row by row; `limit` bounds the differences that are named."""
    model = of.model
    rows = await conn.fetch(_make_comparison(of), max(limit, 1), timeout=STATEMENT_TIMEOUT_S)
    found = [difference for row in rows for difference in _name_differences(model, list(of.columns), row)]
    count = f"SELECT count(*) FROM {of.live}.{model.table} rows WHERE {of.condition('rows')}"  # noqa: S608
    return TableComparison(
        table=model.table,
        rows=await conn.fetchval(count, timeout=STATEMENT_TIMEOUT_S),
        differing=rows[0]["differing"] if rows else 0,
        differences=tuple(found[:limit]),
    )


def _make_comparison(of: RowsOf) -> str:
    table, key = of.model.table, ", ".join(of.model.key)
    ours, theirs = (", ".join(f"{side}.{column}" for column in of.columns) for side in ("live", "rebuilt"))
    return (
        "SELECT to_jsonb(live)::text AS live, to_jsonb(rebuilt)::text AS rebuilt, count(*) OVER () AS differing "  # noqa: S608
        f"FROM (SELECT * FROM {of.live}.{table} l WHERE {of.condition('l')}) live "
        f"FULL JOIN (SELECT * FROM {SHADOW}.{table} r WHERE {of.condition('r')}) rebuilt USING ({key}) "
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
