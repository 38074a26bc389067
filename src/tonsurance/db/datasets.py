"""SQL of the data sets: depegs of the past and stress scenarios. Who calls holds the configuration's head."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tonsurance.core.datasets import DEPEGS, Depeg, Entry, Scenario
from tonsurance.db.pool import Connection, Record

_DEPEG_COLUMNS = (
    'asset, min_price::float8 AS min_price, "timestamp", duration_seconds, recovery_time_seconds, source, verified,'
    " event_name, notes, reference"
)
_SCENARIO_COLUMNS = (
    "scenario_name, description, scenario_type, asset_impacts::text AS asset_impacts, btc_impact::float8 AS btc_impact,"
    " correlation_shift::float8 AS correlation_shift, severity_level, probability_annual::float8 AS probability_annual,"
    " enabled, reference"
)
_DEPEG_ROW = f"id, {_DEPEG_COLUMNS}, entered_by, verified_by, version, created_at, updated_at"
_SCENARIO_ROW = f"id, {_SCENARIO_COLUMNS}, entered_by, version, created_at, updated_at"

SELECT_DEPEGS = f"""
SELECT {_DEPEG_ROW} FROM historical_depegs
WHERE ($1::text IS NULL OR asset = $1) AND ($2::boolean IS NULL OR verified = $2) AND ($3::int IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4
"""  # noqa: S608 - the columns are this module's, here and below
SELECT_DEPEG = f"SELECT {_DEPEG_ROW} FROM historical_depegs WHERE id = $1"  # noqa: S608
INSERT_DEPEG = """
INSERT INTO historical_depegs (asset, min_price, "timestamp", duration_seconds, recovery_time_seconds, source, verified,
    event_name, notes, reference, entered_by, verified_by)
VALUES ($1, $2::float8::numeric, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING RETURNING id
"""
UPDATE_DEPEG = """
UPDATE historical_depegs SET asset = $1, min_price = $2::float8::numeric, "timestamp" = $3, duration_seconds = $4,
    recovery_time_seconds = $5, source = $6, verified = $7, event_name = $8, notes = $9, reference = $10,
    verified_by = $11, version = version + 1, updated_at = now()
WHERE id = $12
    AND NOT EXISTS (SELECT FROM historical_depegs o WHERE o.asset = $1 AND o."timestamp" = $3 AND o.id <> $12)
RETURNING id
"""
SELECT_SCENARIOS = f"""
SELECT {_SCENARIO_ROW} FROM stress_scenarios
WHERE ($1::boolean IS NULL OR enabled = $1) AND ($2::int IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""  # noqa: S608
SELECT_SCENARIO = f"SELECT {_SCENARIO_ROW} FROM stress_scenarios WHERE id = $1"  # noqa: S608
INSERT_SCENARIO = """
INSERT INTO stress_scenarios (scenario_name, description, scenario_type, asset_impacts, btc_impact, correlation_shift,
    severity_level, probability_annual, enabled, reference, entered_by)
VALUES ($1, $2, $3, $4::text::jsonb, $5::float8::numeric, $6::float8::numeric, $7, $8::float8::numeric, $9, $10, $11)
ON CONFLICT DO NOTHING RETURNING id
"""
UPDATE_SCENARIO = """
UPDATE stress_scenarios SET scenario_name = $1, description = $2, scenario_type = $3, asset_impacts = $4::text::jsonb,
    btc_impact = $5::float8::numeric, correlation_shift = $6::float8::numeric, severity_level = $7,
    probability_annual = $8::float8::numeric, enabled = $9, reference = $10, version = version + 1, updated_at = now()
WHERE id = $11 AND NOT EXISTS (SELECT FROM stress_scenarios o WHERE o.scenario_name = $1 AND o.id <> $11)
RETURNING id
"""
DELETE_DEPEG = "DELETE FROM historical_depegs WHERE id = $1"
DELETE_SCENARIO = "DELETE FROM stress_scenarios WHERE id = $1"
SELECT_SEEDED = "SELECT key FROM dataset_seeds WHERE dataset = $1"
INSERT_SEEDED = "INSERT INTO dataset_seeds (dataset, key) VALUES ($1, $2)"
SELECT_STATISTICS = """
SELECT c.asset, depeg_frequency(c.asset, $1, $2)::float8 AS frequency, depeg_severity(c.asset, $1, $2)::float8 AS
    severity, depeg_expected_loss(c.asset, $1, $2)::float8 AS expected_loss,
    (SELECT count(*) FROM historical_depegs d WHERE d.asset = c.asset AND d.verified AND d."timestamp" >= $1
        AND d."timestamp" < $2)::int AS events
FROM dataset_coins c ORDER BY c.asset
"""
SELECT_LAST_WRITTEN = """
SELECT DISTINCT ON (category, key) category, key, new_value::text AS new_value FROM config_audit_log
WHERE category = ANY($1) AND NOT dry_run ORDER BY category, key, id DESC
"""
SELECT_WRITTEN = """
SELECT id, category AS dataset, key, action, old_value::text AS old_value, new_value::text AS new_value, changed_by,
    changed_at
FROM config_audit_log WHERE category = ANY($1) AND NOT dry_run ORDER BY id
"""


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored entry: who brought it in, who checked it (depegs), and how often it was changed."""

    id: int
    entry: Entry
    entered_by: str
    verified_by: str | None
    version: int
    created_at: datetime
    updated_at: datetime


class WrittenEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit log says about one writing of an entry. Values are JSON text; None: there was or is none."""

    id: int
    dataset: str
    key: str
    action: str
    old_value: str | None
    new_value: str | None
    changed_by: str
    changed_at: datetime

    @property
    def name(self) -> tuple[str, str]:
        """(data set, key)"""
        return (self.dataset, self.key)


class DepegStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What verified depegs of a coin in a window come to: a year, as a fraction, and their product. None: nothing is on
    record, which is not the same as none happened."""

    asset: str
    events: int
    frequency: float | None
    severity: float | None
    expected_loss: float | None


async def select_depegs(
    conn: Connection, *, asset: str | None, verified: bool | None, before: int | None, limit: int
) -> tuple[EntryRow, ...]:
    """A page of depegs, newest entry first."""
    return tuple(map(_row_of, await conn.fetch(SELECT_DEPEGS, asset, verified, before, limit)))


async def select_scenarios(
    conn: Connection, *, enabled: bool | None, before: int | None, limit: int
) -> tuple[EntryRow, ...]:
    """A page of scenarios, newest entry first."""
    return tuple(map(_row_of, await conn.fetch(SELECT_SCENARIOS, enabled, before, limit)))


async def select_entry(conn: Connection, dataset: str, number: int) -> EntryRow | None:
    """One entry by its id."""
    row = await conn.fetchrow(SELECT_DEPEG if dataset == DEPEGS else SELECT_SCENARIO, number)
    return None if row is None else _row_of(row)


async def insert_entry(conn: Connection, entry: Entry, *, by: str, verified_by: str | None) -> int | None:
    """Store a new entry; returns its id, or None when there is one of its name."""
    values = _values_of(entry)
    found: int | None = (
        await conn.fetchval(INSERT_DEPEG, *values, by, verified_by)
        if isinstance(entry, Depeg)
        else await conn.fetchval(INSERT_SCENARIO, *values, by)
    )
    return found


async def update_entry(conn: Connection, number: int, entry: Entry, *, verified_by: str | None) -> bool:
    """Store another content of an entry; False when another one has its name."""
    found = (
        await conn.fetchval(UPDATE_DEPEG, *_values_of(entry), verified_by, number)
        if isinstance(entry, Depeg)
        else await conn.fetchval(UPDATE_SCENARIO, *_values_of(entry), number)
    )
    return found is not None


async def delete_entry(conn: Connection, dataset: str, number: int) -> None:
    """Take an entry out."""
    await conn.execute(DELETE_DEPEG if dataset == DEPEGS else DELETE_SCENARIO, number)


async def select_seeded(conn: Connection, dataset: str) -> set[str]:
    """Names of the entries that were brought in by this program, whatever became of them."""
    return {row["key"] for row in await conn.fetch(SELECT_SEEDED, dataset)}


async def insert_seeded(conn: Connection, dataset: str, keys: Sequence[str]) -> None:
    """Note that these were brought in."""
    await conn.executemany(INSERT_SEEDED, [(dataset, key) for key in keys])


async def select_statistics(conn: Connection, since: datetime, until: datetime) -> tuple[DepegStatistics, ...]:
    """Every coin, by name."""
    return tuple(DepegStatistics(**row) for row in await conn.fetch(SELECT_STATISTICS, since, until))


async def select_last_written(conn: Connection, datasets: Sequence[str]) -> dict[tuple[str, str], str | None]:
    """What the audit log says each entry is now, as JSON text; None: it was taken out."""
    rows = await conn.fetch(SELECT_LAST_WRITTEN, list(datasets))
    return {(row["category"], row["key"]): row["new_value"] for row in rows}


async def select_written(conn: Connection, datasets: Sequence[str]) -> tuple[WrittenEntry, ...]:
    """Every writing of entries of these data sets, oldest first."""
    return tuple(WrittenEntry(**row) for row in await conn.fetch(SELECT_WRITTEN, list(datasets)))


def _values_of(entry: Entry) -> list[object]:
    values = [getattr(entry, name) for name in entry.__struct_fields__]
    if isinstance(entry, Scenario):
        values[entry.__struct_fields__.index("asset_impacts")] = msgspec.json.encode(entry.asset_impacts).decode()
    return [values[entry.__struct_fields__.index(name)] for name in _ORDER[type(entry)]]


_ORDER: dict[type[Entry], tuple[str, ...]] = {
    Depeg: (
        "asset", "min_price", "timestamp", "duration_seconds", "recovery_time_seconds", "source", "verified",
        "event_name", "notes", "reference",
    ),
    Scenario: (
        "scenario_name", "description", "scenario_type", "asset_impacts", "btc_impact", "correlation_shift",
        "severity_level", "probability_annual", "enabled", "reference",
    ),
}  # fmt: skip
"""Fields in the order of the statements' values."""


def _row_of(row: Record) -> EntryRow:
    fields = dict(row)
    about = {name: fields.pop(name, None) for name in EntryRow.__struct_fields__ if name != "entry"}
    entry: Entry
    if "asset" in fields:
        entry = Depeg(**fields)
    else:
        entry = Scenario(**{**fields, "asset_impacts": msgspec.json.decode(fields["asset_impacts"])})
    return EntryRow(entry=entry, **about)
