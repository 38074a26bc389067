"""Series from the database equal the steps looked at one by one; yields are known whichever contract is read first."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import permutations

import pytest

from db.chain_story import (
    FACTORY,
    HOLDER,
    START_TIME,
    TON,
    batch,
    cut,
    deposit,
    legal_transactions,
    register,
    transaction,
)
from db.test_partitions import over_months
from services.ledger_tables import rows_of
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import InputError, InTheFuture, TooManyPoints
from tonsurance.core.events import (
    ContractBatch,
    CoverageChanged,
    EpochStarted,
    LossAbsorbed,
    PolicyCreated,
    PremiumsDistributed,
    PremiumsEarned,
)
from tonsurance.core.history import cut_pieces, fill_buckets
from tonsurance.core.moments import Moment
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.waterfall import Stream, add_premium, earn
from tonsurance.core.yields import YEAR_S
from tonsurance.db import series
from tonsurance.db.history import select_reach
from tonsurance.db.pool import connect
from tonsurance.services.history_reads import HistoryReads, SeriesQuery
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.replay import replay_ledger
from tonsurance.services.tranche_reads import TrancheReads

DAY = 86_400


async def post(dsn: str, *batches: ContractBatch) -> None:
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    for part in batches:
        await writer.submit(part)
    await writer.close()


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[tuple[HistoryReads, TrancheReads]]:
    ledger = PostgresLedgerReader(dsn)
    reads = TrancheReads(ledger, DEFAULT_PARAMS, vault_id="main", stale_after_s=60.0)
    assert await reads.refresh()
    past = HistoryReads(LazyPool(dsn), reads)
    yield past, reads
    await past.close()
    await ledger.close()


@pytest.mark.parametrize("step", [60, 1_800, 3_600, 21_600, DAY, 7 * DAY])
async def test_buckets_summed_in_the_database_are_those_of_the_steps(database: str, step: int) -> None:
    await post(database, *cut(over_months(7, 250, 20), [40, 40]))
    conn = await connect(database)
    reach = await select_reach(conn, "main")
    assert reach is not None
    assert reach.time is not None
    until = int(reach.time.timestamp()) + 1
    start = until - 1_500 * 60 if step == 60 else START_TIME - DAY
    start -= start % step
    for tranche_id in TRANCHE_IDS:
        levels = await series.select_levels(conn, "main", tranche_id, start, until, 10_000)
        before = await series.select_level_before(conn, "main", tranche_id, start)
        pieces = await series.select_pieces(conn, "main", tranche_id, start, until, step)
        assert pieces == cut_pieces(levels, until=until, step=step)
        async with reading(database) as (past, _):
            found = await past.read_series(SeriesQuery(tranche_id=tranche_id, start=start, end=until, step=step))
        wanted = fill_buckets(cut_pieces(levels, until=until, step=step), before, start=start, until=until, step=step)
        assert found.buckets[: len(wanted) - 1] == wanted[:-1]
        assert found.buckets[len(wanted) - 1].capital.close == wanted[-1].capital.close
    await conn.close()


async def test_amounts_near_the_largest_are_summed_exactly(database: str) -> None:
    most = 2**63 - 1
    await post(
        database, batch(transaction(10, deposit(6, most)), transaction(5_000, CoverageChanged(1, (0,) * 5 + (7,))))
    )
    async with reading(database) as (past, _):
        found = await past.read_series(
            SeriesQuery(tranche_id="SURE-EQT", start=START_TIME, end=START_TIME + 5_001, step=10_000)
        )
    (bucket,) = found.buckets
    assert bucket.capital.area == most * bucket.seconds
    assert bucket.capital.mean_rounded == most


async def test_without_times_the_last_day_up_to_the_newest_event_is_shown(database: str) -> None:
    await post(database, batch(transaction(10, deposit(6, TON)), transaction(2 * DAY, deposit(6, TON))))
    async with reading(database) as (past, _):
        found = await past.read_series(SeriesQuery(tranche_id="SURE-EQT"))
        assert (found.start, found.end) == (START_TIME + DAY + 1, START_TIME + 2 * DAY + 1)
        assert found.step == 300
        assert {bucket.capital.close for bucket in found.buckets} == {TON, 2 * TON}
        raw = await past.read_series(SeriesQuery(tranche_id="SURE-EQT", step=0))
        assert [(bucket.changes, bucket.capital.close) for bucket in raw.buckets] == [(0, TON), (1, 2 * TON)]
        assert sum(bucket.seconds for bucket in raw.buckets) == DAY


async def test_a_time_that_has_not_come_or_runs_backwards_or_is_too_fine_is_refused(database: str) -> None:
    story = [transaction(10 * number, deposit(6, TON)) for number in range(1, 2_100)]
    await post(database, *cut(story, []))
    async with reading(database) as (past, _):
        for query, error in (
            (SeriesQuery(tranche_id="SURE-EQT", start=START_TIME + DAY * 10_000), InTheFuture),
            (SeriesQuery(tranche_id="SURE-EQT", start=START_TIME + 9, end=START_TIME + 9), InputError),
            (SeriesQuery(tranche_id="SURE-EQT", start=0, end=START_TIME, step=60), TooManyPoints),
            (SeriesQuery(tranche_id="SURE-EQT", step=0, start=START_TIME), TooManyPoints),
        ):
            with pytest.raises(error):
                await past.read_series(query)
        found = await past.read_series(SeriesQuery(tranche_id="SURE-EQT", step=0, start=START_TIME + 1_200))
        assert len(found.buckets) == 1_980


def policy(policy_id: int, lt: int, days: int) -> tuple[int, PolicyCreated]:
    start = START_TIME + lt
    return lt, PolicyCreated(policy_id, policy_id, HOLDER, 0, 1, 2, TON, TON, start, start + days * DAY, 9700, 9000)


def premium_batches() -> tuple[list[ContractBatch], Stream]:
    """Three premiums on SURE-SNR, their covers (the factory hears of the second before the first), and the stream the
    vault's own rules make of them."""
    plan = [(1_000, 1, 50 * TON, 30), (5 * DAY, 2, 20 * TON, 90), (9 * DAY, 3, 70 * TON, 7)]
    stream, vault, factory = Stream(0, 0, 0), [transaction(10, deposit(2, 1_000 * TON))], []
    for lt, policy_id, premium, days in plan:
        stream, earned = earn(stream, START_TIME + lt)
        stream = add_premium(stream, premium, days * DAY, START_TIME + lt)
        bodies = [PremiumsDistributed(premium, policy_id, (0, premium, 0, 0, 0, 0))]
        vault.append(transaction(lt, *([PremiumsEarned(2, earned)] if earned else []), *bodies))
        at, body = policy(policy_id, 6 * DAY if policy_id == 1 else lt + 5, days)
        factory.append(transaction(at, body, contract=FACTORY))
    factory.sort(key=lambda item: item.cursor.lt)
    return [*cut(vault, [2, 1]), *cut(factory, [1, 1], FACTORY)], stream


async def test_streams_are_the_same_whichever_contract_is_read_first(database: str, pg) -> None:  # type: ignore[no-untyped-def]
    batches, stream = premium_batches()
    vault, factory = batches[:3], batches[3:]
    seen = []
    for order in {tuple(order) for order in permutations("vvvfff")}:
        if random.Random(str(order)).random() > 0.3:
            continue
        dsn = pg.create()
        queues = {"v": list(vault), "f": list(factory)}
        await post(dsn, *(queues[name].pop(0) for name in order))
        conn = await connect(dsn)
        seen.append(await rows_of(conn, "premium_streams"))
        await conn.close()
        assert (await replay_ledger(dsn, DEFAULT_PARAMS, lambda _text: None)).equal
        pg.drop(dsn)
    assert len(seen) >= 3
    assert all(rows == seen[0] for rows in seen)
    assert len(seen[0]) == 3
    last = max(seen[0], key=lambda row: row["logical_time"])
    assert (last["unearned_premium_nanoton"], last["ends_at"].timestamp()) == (stream.unearned, stream.end)


async def test_the_funded_apy_waits_for_the_cover_and_is_that_of_the_stream(database: str) -> None:
    batches, stream = premium_batches()
    await post(database, *batches[:3])
    async with reading(database) as (_, reads):
        assert reads.figures("SURE-SNR").totals.paid.funded_pct is None
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    for part in batches[3:]:
        await writer.submit(part)
    await writer.close()
    async with reading(database) as (_, reads):
        totals = reads.figures("SURE-SNR").totals
        wanted = 100 * stream.unearned / (stream.end - stream.last) * YEAR_S / totals.capital_nano
        assert totals.paid.funded_pct == pytest.approx(wanted)
        then = await reads.read_at(Moment(lt=2_000))
        (past,) = then.tranches
        assert past.totals.paid.funded_pct == pytest.approx(100 * 50 * YEAR_S / (30 * DAY) / 1_000)
        early = await reads.read_at(Moment(lt=10))
        assert early.tranches[0].totals.paid.funded_pct == 0.0


async def test_the_realised_apy_is_the_share_price_over_the_window_and_as_of(database: str) -> None:
    story = [
        transaction(10, deposit(6, 1_000 * TON)),
        transaction(20 * DAY, deposit(6, 1_000 * TON)),
        transaction(50 * DAY + 10, LossAbsorbed(6, 20 * TON, 1)),
    ]
    await post(database, batch(*story))
    async with reading(database) as (_, reads):
        paid = reads.figures("SURE-EQT").totals.paid
        assert paid.window_days == pytest.approx(30 + 10 / DAY)
        assert (paid.price_before, paid.price_now) == (1.0, 0.99)
        assert paid.realised_pct == pytest.approx(100 * (0.99 ** (365 / (30 + 10 / DAY)) - 1))
        then = await reads.read_at(Moment(lt=20 * DAY))
        assert then.tranches[0].totals.paid.realised_pct == 0.0


async def test_shares_that_became_void_have_no_realised_apy(database: str) -> None:
    story = [
        transaction(10, deposit(6, 1_000 * TON)),
        transaction(5 * DAY, LossAbsorbed(6, 1_000 * TON, 1), EpochStarted(6, 1, 1_000 * TON)),
        transaction(6 * DAY, deposit(6, 500 * TON)),
        transaction(9 * DAY, deposit(5, 500 * TON)),
        transaction(12 * DAY, deposit(6, 500 * TON), deposit(5, TON)),
    ]
    await post(database, batch(*story))
    async with reading(database) as (_, reads):
        assert reads.figures("SURE-EQT").totals.paid.realised_pct is None
        assert reads.figures("SURE-JNR+").totals.paid.realised_pct == 0.0


async def test_premiums_without_a_factory_do_not_hold_anything_up(database: str) -> None:
    await post(database, *cut(legal_transactions(11, 200), [50, 50]))
    async with reading(database) as (_, reads):
        assert {figures.totals.paid.funded_pct for figures in reads.snapshot.tranches} <= {None, 0.0}


async def test_the_forecast_says_how_little_it_knows(database: str) -> None:
    await post(
        database, batch(transaction(10, deposit(6, TON)), transaction(9_000, CoverageChanged(1, (0,) * 5 + (7,))))
    )
    async with reading(database) as (past, _):
        found = await past.read_outlook("SURE-EQT")
        assert (found.outlook.reason, found.outlook.forecast) == ("insufficient_history", None)
        assert found.room_nano == TON * 95 // 100 - 7


async def test_a_tranche_that_fills_hour_by_hour_gets_its_hours_and_expiries_make_room(database: str) -> None:
    dice = random.Random(5)
    story = [transaction(10, deposit(1, 10_000 * TON))]
    sold = 0
    for hour in range(1, 300):
        part = int(TON * dice.uniform(5, 35))
        sold += part
        story.append(transaction(hour * 3_600, CoverageChanged(hour, (part, 0, 0, 0, 0, 0))))
    await post(database, *cut(story, []))
    async with reading(database) as (past, _):
        found = await past.read_outlook("SURE-BTC")
        again = await past.read_outlook("SURE-BTC")
    assert again is found
    forecast = found.outlook.forecast
    assert forecast is not None
    hours = (9_500 * TON - sold) / (20 * TON)
    assert forecast.hours == pytest.approx(hours, rel=0.15)
    assert found.outlook.record is not None
    assert found.outlook.record.origins >= 5
    ending = policy(1, 299 * 3_600, 1)[1]
    big = PolicyCreated(
        1, 1, HOLDER, 0, 1, 2, 16_000 * TON, TON, ending.start - 9 * DAY, ending.start - 6 * DAY, 9700, 9000
    )
    await post(database, batch(transaction(299 * 3_600 + 1, big, contract=FACTORY), contract=FACTORY))
    async with reading(database) as (past, _):
        later = await past.read_outlook("SURE-BTC")
    assert later.expiring_nano == 4_000 * TON
    assert later.outlook.forecast is not None
    assert later.outlook.forecast.hours > forecast.hours + 150
