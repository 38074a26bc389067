"""Time series of a tranche out of its history: summed up per bucket where the rows are, so that only points travel.

Sums over time are exact: a step's seconds times the upper and lower 32 bits of an amount each fit into a bigint.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec

from tonsurance.core.events import VAULT_KINDS
from tonsurance.core.history import Bucket, Level, Measure, Piece
from tonsurance.db.pool import Connection, Record

_LEVEL = """date_part('epoch', h.recorded_at)::bigint AS time, h.total_capital_nanoton AS capital,
    h.coverage_sold_nanoton AS coverage, round(h.utilization_ratio * 1e9)::bigint AS utilization,
    round(h.current_apy * 1e9)::bigint AS apy"""
_NEWEST_FIRST = "ORDER BY h.recorded_at DESC, h.logical_time DESC, h.message_index DESC LIMIT 1"

SELECT_LEVEL_BEFORE = f"""
SELECT {_LEVEL} FROM tranche_utilization_history h
WHERE h.vault_id = $1 AND h.tranche_id = $2 AND h.recorded_at < $3 {_NEWEST_FIRST}
"""  # noqa: S608 - all parts are constants of this module
SELECT_LEVELS = f"""
SELECT {_LEVEL} FROM tranche_utilization_history h
WHERE h.vault_id = $1 AND h.tranche_id = $2 AND h.recorded_at >= $3 AND h.recorded_at < $4
ORDER BY h.recorded_at, h.logical_time, h.message_index LIMIT $5
"""  # noqa: S608
SELECT_PIECES = f"""
WITH step AS (
    SELECT {_LEVEL}, lead(date_part('epoch', h.recorded_at)::bigint) OVER
        (ORDER BY h.recorded_at, h.logical_time, h.message_index) AS next_time
    FROM tranche_utilization_history h
    WHERE h.vault_id = $1 AND h.tranche_id = $2 AND h.recorded_at >= $3 AND h.recorded_at < $4
), held AS (
    SELECT *, time - time % $5::bigint AS start,
        least(coalesce(next_time, date_part('epoch', $4::timestamptz)::bigint), time - time % $5::bigint + $5::bigint)
            - time AS seconds
    FROM step WHERE next_time IS DISTINCT FROM time
), piece AS (
    SELECT start, count(*) AS changes, min(time) AS first_time, max(time) AS last_time, sum(seconds) AS seconds,
        min(capital) AS capital_low, max(capital) AS capital_high,
        sum((capital >> 32) * seconds) AS capital_upper, sum((capital & 4294967295) * seconds) AS capital_lower,
        min(coverage) AS coverage_low, max(coverage) AS coverage_high,
        sum((coverage >> 32) * seconds) AS coverage_upper, sum((coverage & 4294967295) * seconds) AS coverage_lower,
        min(utilization) AS utilization_low, max(utilization) AS utilization_high,
        sum(utilization * seconds) AS utilization_area, min(apy) AS apy_low, max(apy) AS apy_high,
        coalesce(sum(apy * seconds), 0) AS apy_area,
        coalesce(sum(seconds) FILTER (WHERE apy IS NOT NULL), 0) AS apy_seconds
    FROM held GROUP BY start
)
SELECT p.start, p.changes, p.seconds::bigint, p.capital_low, p.capital_high, p.capital_upper::text,
    p.capital_lower::text, p.coverage_low, p.coverage_high, p.coverage_upper::text, p.coverage_lower::text,
    p.utilization_low, p.utilization_high, p.utilization_area::text, p.apy_low, p.apy_high, p.apy_area::text,
    p.apy_seconds::bigint, f.time AS first_time, f.capital AS first_capital, f.coverage AS first_coverage,
    f.utilization AS first_utilization, f.apy AS first_apy, l.time AS last_time, l.capital AS last_capital,
    l.coverage AS last_coverage, l.utilization AS last_utilization, l.apy AS last_apy
FROM piece p
CROSS JOIN LATERAL (
    SELECT {_LEVEL} FROM tranche_utilization_history h
    WHERE h.vault_id = $1 AND h.tranche_id = $2 AND h.recorded_at = to_timestamp(p.first_time) {_NEWEST_FIRST}
) f
CROSS JOIN LATERAL (
    SELECT {_LEVEL} FROM tranche_utilization_history h
    WHERE h.vault_id = $1 AND h.tranche_id = $2 AND h.recorded_at = to_timestamp(p.last_time) {_NEWEST_FIRST}
) l
ORDER BY p.start
"""  # noqa: S608

SELECT_DAYS = """
SELECT date_part('epoch', day)::bigint AS start, seconds, changes,
    capital_open_nanoton, capital_close_nanoton, capital_low_nanoton, capital_high_nanoton,
    capital_nanoton_seconds::text, coverage_open_nanoton, coverage_close_nanoton, coverage_low_nanoton,
    coverage_high_nanoton, coverage_nanoton_seconds::text, utilization_open_billionths, utilization_close_billionths,
    utilization_low_billionths, utilization_high_billionths, utilization_billionths_seconds::text,
    apy_open_billionths, apy_close_billionths, apy_low_billionths, apy_high_billionths,
    apy_billionths_seconds::text, apy_seconds
FROM tranche_utilization_daily WHERE vault_id = $1 AND tranche_id = $2 AND day >= $3 AND day < $4 ORDER BY day
"""
INSERT_DAYS = """
INSERT INTO tranche_utilization_daily (vault_id, tranche_id, day, seconds, changes, capital_open_nanoton,
    capital_close_nanoton, capital_low_nanoton, capital_high_nanoton, capital_nanoton_seconds, coverage_open_nanoton,
    coverage_close_nanoton, coverage_low_nanoton, coverage_high_nanoton, coverage_nanoton_seconds,
    utilization_open_billionths, utilization_close_billionths, utilization_low_billionths,
    utilization_high_billionths, utilization_billionths_seconds, apy_open_billionths, apy_close_billionths,
    apy_low_billionths, apy_high_billionths, apy_billionths_seconds, apy_seconds)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::numeric, $11, $12, $13, $14, $15::text::numeric, $16, $17, $18,
    $19, $20::text::numeric, $21, $22, $23, $24, $25::text::numeric, $26)
"""
SELECT_HORIZON = "SELECT since FROM history_horizon"

SELECT_TIME_AT_LT = """
SELECT e.block_time FROM blockchain_sync_state vault JOIN blockchain_events e USING (contract_address)
WHERE vault.vault_id = $1 AND vault.contract_type = ANY($2) AND e.logical_time <= $3
ORDER BY e.logical_time DESC LIMIT 1
"""
SELECT_RELEASES = """
SELECT date_part('epoch', e.block_time)::bigint AS time, sum(-l.coverage_delta_nanoton)::bigint AS amount
FROM blockchain_sync_state vault
JOIN blockchain_events e ON e.contract_address = vault.contract_address AND e.event_type = 'CoverageChanged'
JOIN ledger_entries l ON l.contract_address = e.contract_address AND l.logical_time = e.logical_time
    AND l.message_index = e.message_index AND l.tranche_id = $2
WHERE vault.vault_id = $1 AND vault.contract_type = 'MultiTrancheVault' AND e.block_time >= $3
    AND l.coverage_delta_nanoton < 0
GROUP BY e.block_time ORDER BY e.block_time
"""
SELECT_EXPIRIES = """
SELECT date_part('epoch', expiry_time)::bigint AS time, sum(coverage_amount_nanoton)::bigint AS amount
FROM policies WHERE vault_id = $1 AND status = 'active' AND expiry_time < $2 GROUP BY expiry_time ORDER BY expiry_time
"""


class Amount(msgspec.Struct, frozen=True):
    """nanoTON at a time (unix seconds)."""

    time: int
    amount: int


def _moment(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def _level(row: Record, prefix: str = "") -> Level:
    return Level(**{name: row[prefix + name] for name in ("time", "capital", "coverage", "utilization", "apy")})


async def select_horizon(conn: Connection) -> int | None:
    """Unix seconds before which the history was dropped; None when all of it is there."""
    since: datetime | None = await conn.fetchval(SELECT_HORIZON)
    return None if since is None else int(since.timestamp())


async def select_time_at_lt(conn: Connection, vault_id: str, lt: int) -> float | None:
    """Block time, in unix seconds, of a vault's last event up to a logical time; None when there is none."""
    time: datetime | None = await conn.fetchval(SELECT_TIME_AT_LT, vault_id, list(VAULT_KINDS), lt)
    return None if time is None else time.timestamp()


async def select_level_before(conn: Connection, vault_id: str, tranche_id: str, time: int) -> Level | None:
    """The last step before a time; None when there was none."""
    row = await conn.fetchrow(SELECT_LEVEL_BEFORE, vault_id, tranche_id, _moment(time))
    return None if row is None else _level(row)


async def select_levels(
    conn: Connection, vault_id: str, tranche_id: str, start: int, until: int, limit: int
) -> list[Level]:
    """The first steps from `start` on and before `until`, in the order in which they happened."""
    rows = await conn.fetch(SELECT_LEVELS, vault_id, tranche_id, _moment(start), _moment(until), limit)
    return [_level(row) for row in rows]


async def select_pieces(
    conn: Connection, vault_id: str, tranche_id: str, start: int, until: int, step: int
) -> list[Piece]:
    """Buckets of `step` seconds with a step in them, from `start` (the start of a bucket) up to `until`."""
    rows = await conn.fetch(SELECT_PIECES, vault_id, tranche_id, _moment(start), _moment(until), step)
    return [_piece(row) for row in rows]


def _piece(row: Record) -> Piece:
    def area(name: str) -> int:
        return (int(row[f"{name}_upper"]) << 32) + int(row[f"{name}_lower"])

    def measure(name: str, total: int, seconds: int) -> Measure:
        return Measure(
            open=row[f"first_{name}"],
            close=row[f"last_{name}"],
            low=row[f"{name}_low"],
            high=row[f"{name}_high"],
            area=total,
            seconds=seconds,
        )

    seconds = row["seconds"]
    return Piece(
        start=row["start"],
        changes=row["changes"],
        first=_level(row, "first_"),
        last=_level(row, "last_"),
        capital=measure("capital", area("capital"), seconds),
        coverage=measure("coverage", area("coverage"), seconds),
        utilization=measure("utilization", int(row["utilization_area"]), seconds),
        apy=measure("apy", int(row["apy_area"]), row["apy_seconds"]),
    )


async def select_days(conn: Connection, vault_id: str, tranche_id: str, start: int, until: int) -> list[Bucket]:
    """Stored days from `start` up to `until`."""
    rows = await conn.fetch(SELECT_DAYS, vault_id, tranche_id, _moment(start).date(), _moment(until).date())
    return [_day(row) for row in rows]


_UNITS = (
    ("capital", "nanoton"),
    ("coverage", "nanoton"),
    ("utilization", "billionths"),
    ("apy", "billionths"),
)


def _day(row: Record) -> Bucket:
    measures = {name: _day_measure(row, name, unit) for name, unit in _UNITS}
    return Bucket(start=row["start"], seconds=row["seconds"], changes=row["changes"], **measures)


def _day_measure(row: Record, name: str, unit: str) -> Measure:
    return Measure(
        open=row[f"{name}_open_{unit}"],
        close=row[f"{name}_close_{unit}"],
        low=row[f"{name}_low_{unit}"],
        high=row[f"{name}_high_{unit}"],
        area=int(row[f"{name}_{unit}_seconds"]),
        seconds=row["apy_seconds"] if name == "apy" else row["seconds"],
    )


async def insert_days(conn: Connection, vault_id: str, tranche_id: str, days: list[Bucket]) -> None:
    """Store days of a tranche."""
    await conn.executemany(INSERT_DAYS, [(vault_id, tranche_id, *_day_row(day)) for day in days])


def _day_row(day: Bucket) -> tuple[object, ...]:
    parts: list[object] = [date.fromordinal(_EPOCH_DAY + day.start // 86_400), day.seconds, day.changes]
    for measure in (day.capital, day.coverage, day.utilization, day.apy):
        parts += [measure.open, measure.close, measure.low, measure.high, str(measure.area)]
    return (*parts, day.apy.seconds)


_EPOCH_DAY = date(1970, 1, 1).toordinal()


async def select_releases(conn: Connection, vault_id: str, tranche_id: str, since: int) -> list[Amount]:
    """Coverage that ended (expired or was paid out of), from a time on."""
    rows = await conn.fetch(SELECT_RELEASES, vault_id, tranche_id, _moment(since))
    return [Amount(row["time"], row["amount"]) for row in rows]


async def select_expiries(conn: Connection, vault_id: str, before: int) -> list[Amount]:
    """Coverage of whole policies in force by the end of their cover, of those that end before a time."""
    rows = await conn.fetch(SELECT_EXPIRIES, vault_id, _moment(before))
    return [Amount(row["time"], row["amount"]) for row in rows]
