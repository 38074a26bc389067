"""The history by month: no row is lost or doubled when months are made under running postings, filled or dropped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from db.chain_story import START_TIME, TON, cut, deposit, legal_transactions, register, transaction
from tonsurance.core.errors import BeforeHistory, DatabaseUnavailable
from tonsurance.core.events import DecodedTransaction
from tonsurance.core.history import cut_pieces, fill_buckets
from tonsurance.core.moments import Moment
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.db import history, partitions, series
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.services import retention
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.replay import replay_ledger
from tonsurance.services.retention import Retention, RetentionReport

DAY = 86_400
HISTORY = "SELECT * FROM tranche_utilization_history ORDER BY vault_id, tranche_id, logical_time, message_index"


def keeping(days: int) -> Params:
    return build_params({("risk", "history_retention_days"): days}, version=1)


def over_months(seed: int, count: int, days: int) -> list[DecodedTransaction]:
    """A legal history spread over this many days."""
    dice = random.Random(seed)
    story = legal_transactions(seed, count)
    times = sorted(dice.randrange(days * DAY) for _ in story)
    return [at(item, START_TIME + time) for item, time in zip(story, times, strict=True)]


def at(item: DecodedTransaction, time: int) -> DecodedTransaction:
    events = tuple(msgspec.structs.replace(event, block_time=time) for event in item.events)
    return msgspec.structs.replace(item, block_time=time, events=events)


async def post(dsn: str, transactions: list[DecodedTransaction]) -> None:
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    for part in cut(transactions, [20] * (len(transactions) // 20)):
        await writer.submit(part)
    await writer.close()


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    """A reader beside the upkeep."""
    conn = await connect(database)
    yield conn
    await conn.close()


@pytest.fixture
async def other(database: str) -> AsyncIterator[Connection]:
    """Another one."""
    conn = await connect(database)
    yield conn
    await conn.close()


async def keep(dsn: str, days: int = 0, *, dry_run: bool = False) -> RetentionReport:
    pool = LazyPool(dsn, max_size=1)
    try:
        return await Retention(pool, lambda: keeping(days)).run(dry_run=dry_run)
    finally:
        await pool.close()


async def rows_of(conn: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await conn.fetch(HISTORY)]


async def in_default(conn: Connection) -> int:
    count: int = await conn.fetchval("SELECT count(*) FROM tranche_utilization_history_default")
    return count


async def test_rows_move_into_their_month_and_months_are_made_ahead(database: str, conn: Connection) -> None:
    await post(database, over_months(1, 200, 100))
    before = await rows_of(conn)
    planned = await keep(database, dry_run=True)
    assert await in_default(conn) == len(before)
    report = await keep(database)
    assert (report.made, report.moved_rows) == (planned.made, len(before))
    assert await rows_of(conn) == before
    assert await in_default(conn) == 0
    months = await partitions.select_months(conn)
    newest = partitions.first_of_month((await partitions.select_span(conn)).newest or datetime.now(UTC))
    clock = partitions.first_of_month(datetime.now(UTC))
    wanted = {partitions.add_months(month, ahead) for month in (newest, clock) for ahead in range(3)}
    assert wanted <= set(months)
    for month in months:
        start, end = partitions.start_of(month), partitions.start_of(partitions.add_months(month, 1))
        low, high = await conn.fetchrow(
            f"SELECT min(recorded_at), max(recorded_at) FROM tranche_utilization_history_y{month:%Y}m{month:%m}"
        )
        assert low is None or start <= low <= high < end
    again = await keep(database)
    assert (again.made, again.moved_rows, again.dropped) == ((), 0, ())


async def test_posting_goes_on_while_months_are_made(database: str, conn: Connection) -> None:
    story = over_months(2, 400, 90)
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)

    async def write() -> None:
        for part in cut(story, [5] * (len(story) // 5)):
            await writer.submit(part)

    writing = asyncio.create_task(write())
    reports = []
    while not writing.done():
        reports.append(await keep(database))
        await asyncio.sleep(0)
    await writing
    reports.append(await keep(database))
    await writer.close()
    assert sum(len(report.made) for report in reports) >= 4
    entries: int = await conn.fetchval("SELECT count(*) FROM ledger_entries")
    assert len(await rows_of(conn)) == entries
    assert await in_default(conn) == 0
    assert (await replay_ledger(database, DEFAULT_PARAMS, lambda _text: None)).equal


async def test_a_row_that_comes_while_its_month_is_copied_is_not_lost(
    database: str, conn: Connection, other: Connection
) -> None:
    """The month's function has copied the rows and waits for the lock that a posting in flight holds."""
    await post(database, [transaction(10, deposit(6, 100 * TON))])
    month = partitions.first_of_month(datetime.fromtimestamp(START_TIME, UTC))
    flying = conn.transaction()
    await flying.start()
    await conn.execute(
        "INSERT INTO tranche_utilization_history (vault_id, tranche_id, logical_time, message_index, recorded_at,"
        " total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton,"
        " absorbed_losses_nanoton, shares, utilization_ratio, utilization_raw, insolvent, current_apy, params_version)"
        " SELECT vault_id, tranche_id, 11, 0, recorded_at, 7, 0, 0, 0, 0, 1, 0, 0, false, 1, 1"
        " FROM tranche_utilization_history"
    )
    keeper = await connect(database)
    making = asyncio.create_task(partitions.make_month(keeper, month))
    while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.01)
    await flying.commit()
    assert await making == 2
    await keeper.close()
    assert [row["logical_time"] for row in await conn.fetch(HISTORY)] == [10, 11]
    assert await in_default(conn) == 0


async def test_a_reader_who_does_not_end_costs_a_try_and_changes_nothing(
    database: str, conn: Connection, other: Connection
) -> None:
    await post(database, [transaction(10, deposit(6, 100 * TON))])
    month = partitions.first_of_month(datetime.fromtimestamp(START_TIME, UTC))
    reading = conn.transaction()
    await reading.start()
    await conn.fetch(HISTORY)
    with pytest.raises(DatabaseUnavailable), driver_errors():
        await partitions.make_month(other, month)
    assert month not in await partitions.select_months(other)
    await reading.rollback()
    assert await partitions.make_month(other, month) == 1


async def test_the_past_is_the_same_from_months_as_from_one_table(database: str, conn: Connection) -> None:
    story = over_months(3, 150, 80)
    await post(database, story)

    async def look() -> list[object]:
        found: list[object] = []
        for item in story:
            found.append(await history.select_tranches_at_lt(conn, "main", item.cursor.lt))
            found.append(
                await history.select_tranches_at_time(conn, "main", datetime.fromtimestamp(item.block_time, UTC))
            )
        return found

    before = await look()
    await keep(database)
    assert await look() == before


async def test_old_months_become_exact_days_and_the_rest_goes_on(database: str, conn: Connection) -> None:
    story = over_months(4, 300, 200)
    await post(database, story)
    tranches = [row[0] for row in await conn.fetch("SELECT DISTINCT tranche_id FROM tranche_utilization")]
    first, last = story[0].block_time, story[-1].block_time
    start = first - first % DAY - 40 * DAY
    levels = {name: await series.select_levels(conn, "main", name, start, last + 1, 10_000) for name in tranches}
    planned = await keep(database, 45, dry_run=True)
    report = await keep(database, 45)
    assert report.dropped == planned.dropped
    assert len(report.dropped) >= 4
    horizon = await series.select_horizon(conn)
    assert horizon is not None
    assert horizon <= last - 45 * DAY
    assert datetime.fromtimestamp(horizon, UTC).date() == partitions.add_months(report.dropped[-1], 1)
    for name in tranches:
        wanted = fill_buckets(
            cut_pieces(levels[name], until=last + 1, step=DAY), None, start=start, until=horizon, step=DAY
        )
        assert await series.select_days(conn, "main", name, start, horizon) == wanted, name
        before = [level for level in levels[name] if level.time < horizon]
        assert await series.select_level_before(conn, "main", name, horizon) == (before[-1] if before else None)
    kept = [row for row in await conn.fetch(HISTORY) if row["recorded_at"].timestamp() < horizon]
    assert len(kept) == len({row["tranche_id"] for row in kept})
    assert (await replay_ledger(database, DEFAULT_PARAMS, lambda _text: None)).equal
    again = await keep(database, 45)
    assert (again.made, again.dropped) == ((), ())
    further = await keep(database, 14)
    assert len(further.dropped) == 1
    assert (await replay_ledger(database, DEFAULT_PARAMS, lambda _text: None)).equal


async def test_before_the_horizon_there_is_no_as_of_and_after_it_every_tranche_has_its_state(
    database: str, conn: Connection
) -> None:
    story = [
        at(transaction(10, deposit(1, 5 * TON)), START_TIME),
        at(transaction(20, deposit(2, 6 * TON)), START_TIME + 40 * DAY),
        at(transaction(30, deposit(3, 7 * TON)), START_TIME + 120 * DAY),
    ]
    await post(database, story)
    await keep(database, 30)
    reader = PostgresLedgerReader(database)
    for moment in (
        Moment(lt=10),
        Moment(lt=25),
        Moment(time=datetime.fromtimestamp(START_TIME + 50 * DAY, UTC)),
    ):
        with pytest.raises(BeforeHistory):
            await reader.read_state_at("main", moment)
    horizon = await series.select_horizon(conn)
    assert horizon is not None
    state = await reader.read_state_at("main", Moment(time=datetime.fromtimestamp(horizon, UTC)))
    assert [(row.tranche_id, row.capital_nano) for row in state.tranches] == [
        ("SURE-BTC", 5 * TON),
        ("SURE-SNR", 6 * TON),
    ]
    assert len((await reader.read_state_at("main", Moment(lt=30))).tranches) == 3
    await reader.close()


async def test_a_month_goes_only_after_its_days_and_only_the_oldest(database: str, conn: Connection) -> None:
    await post(database, over_months(5, 60, 100))
    await keep(database)
    month = partitions.first_of_month(datetime.fromtimestamp(START_TIME, UTC))
    before = await rows_of(conn)
    with pytest.raises(Exception, match="are not stored"):
        await partitions.drop_month(conn, month)
    with pytest.raises(Exception, match="not the oldest"):
        await retention.drop_month(conn, partitions.add_months(month, 1))
    assert await rows_of(conn) == before
    assert await conn.fetchval("SELECT count(*) FROM tranche_utilization_daily") == 0


async def test_by_default_everything_is_kept_for_ever(database: str) -> None:
    await post(database, over_months(6, 60, 400))
    report = await keep(database, DEFAULT_PARAMS.value("risk", "history_retention_days"))  # type: ignore[arg-type]
    assert (report.retention_days, report.dropped, report.dropped_rows) == (0, (), 0)


def test_months_are_counted_over_years() -> None:
    assert partitions.add_months(date(2026, 11, 1), 2) == date(2027, 1, 1)
    assert partitions.add_months(date(2026, 1, 1), -1) == date(2025, 12, 1)
    assert partitions.first_of_month(datetime(2026, 11, 30, 23, tzinfo=UTC) + timedelta(hours=2)) == date(2026, 12, 1)
