"""The past is read as it was: the state as of any event is the fold of everything up to it, and cheap to find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.chain_story import FACTORY, START_TIME, TON, cut, deposit, legal_transactions, register, transaction
from db.servers import DatabaseServer
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import BeforeHistory, InTheFuture, NotReady
from tonsurance.core.events import VAULT_KINDS, CoverageChanged, DecodedTransaction, LossAbsorbed, Paused
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.moments import Moment
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db import history
from tonsurance.db.entries import select_entries
from tonsurance.db.events import select_events
from tonsurance.db.pool import Connection, connect
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter

FIGURES = """vault_id, total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton,
    absorbed_losses_nanoton, shares, utilization_ratio, utilization_raw, insolvent, current_apy, params_version"""


@asynccontextmanager
async def posted(dsn: str, transactions: list[DecodedTransaction], sizes: list[int]) -> AsyncIterator[Connection]:
    """A connection to a database with this history in it."""
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    for part in cut(transactions, sizes):
        await writer.submit(part)
    await writer.close()
    conn = await connect(dsn)
    yield conn
    await conn.close()


def fold(transactions: list[DecodedTransaction], lt: int) -> dict[str, Totals]:
    """Everything up to a logical time, through core alone."""
    totals: dict[str, Totals] = {}
    for event in (event for item in transactions for event in item.events if event.lt <= lt):
        for entry in entries_of(event.body):
            totals[entry.tranche_id] = post(totals.get(entry.tranche_id, Totals()), entry)
    return totals


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 15), max_size=6))
def test_the_state_as_of_any_event_is_the_fold_of_the_prefix(pg: DatabaseServer, seed: int, sizes: list[int]) -> None:
    dsn = pg.create()
    asyncio.run(check_every_moment(dsn, legal_transactions(seed, 50), sizes))
    pg.drop(dsn)


async def check_every_moment(dsn: str, transactions: list[DecodedTransaction], sizes: list[int]) -> None:
    async with posted(dsn, transactions, sizes) as conn:
        versions = {
            row["logical_time"]: row["ledger_version"]
            for row in await conn.fetch("SELECT logical_time, ledger_version FROM blockchain_events")
        }
        last_of = {version: lt for lt, version in sorted(versions.items())}
        for lt in [0, *(lt + step for item in transactions for lt in [item.cursor.lt] for step in (-1, 0, 1))]:
            expected = fold(transactions, lt)
            rows = await history.select_tranches_at_lt(conn, "main", lt)
            assert {row.tranche_id: row.totals for row in rows} == expected, lt
            time = datetime.fromtimestamp(START_TIME + lt, UTC)
            rows = await history.select_tranches_at_time(conn, "main", time)
            assert {row.tranche_id: row.totals for row in rows} == expected, time
            assert all(row.logical_time <= lt and row.ledger_version == versions[row.logical_time] for row in rows)
        for version, lt in last_of.items():
            assert await history.select_lt_at_version(conn, "main", version) == lt


@pytest.fixture
async def story(database: str) -> AsyncIterator[PostgresLedgerReader]:
    """Three versions: a deposit at 10, one that only the factory would see at 20, cover and a loss at 30."""
    transactions = [
        transaction(10, deposit(6, 100 * TON)),
        transaction(20, Paused(True)),
        transaction(30, CoverageChanged(1, (0, 0, 0, 0, 0, TON)), LossAbsorbed(6, TON, 1)),
        transaction(40),
    ]
    async with posted(database, transactions, [1, 1]):
        reader = PostgresLedgerReader(database)
        yield reader
        await reader.close()


@pytest.mark.parametrize(
    ("moment", "capital", "lt", "version"),
    [
        (Moment(lt=10), 100, 10, 1),
        (Moment(lt=29), 100, 10, 1),
        (Moment(lt=30), 99, 30, 3),
        (Moment(lt=40), 99, 30, 3),
        (Moment(version=1), 100, 10, 1),
        (Moment(version=2), 100, 10, 1),
        (Moment(version=3), 99, 30, 3),
        (Moment(time=datetime.fromtimestamp(START_TIME + 10, UTC)), 100, 10, 1),
        (Moment(time=datetime.fromtimestamp(START_TIME + 29.9, UTC)), 100, 10, 1),
        (Moment(time=datetime.fromtimestamp(START_TIME + 30, UTC)), 99, 30, 3),
    ],
)
async def test_each_form_of_a_moment_finds_the_last_event_before_it(
    story: PostgresLedgerReader, moment: Moment, capital: int, lt: int, version: int
) -> None:
    state = await story.read_state_at("main", moment)
    (row,) = state.tranches
    assert (row.tranche_id, row.capital_nano, row.lt, state.version) == ("SURE-EQT", capital * TON, lt, version)
    assert (row.losses_nano, row.block_time) == ((100 - capital) * TON, START_TIME + lt)


@pytest.mark.parametrize(
    "moment",
    [Moment(lt=0), Moment(lt=9), Moment(version=0), Moment(time=datetime.fromtimestamp(START_TIME + 9, UTC))],
)
async def test_before_the_first_event_there_is_nothing(story: PostgresLedgerReader, moment: Moment) -> None:
    with pytest.raises(BeforeHistory):
        await story.read_state_at("main", moment)


@pytest.mark.parametrize(
    "moment",
    [
        Moment(lt=41),
        Moment(version=4),
        Moment(time=datetime.fromtimestamp(START_TIME + 10**9, UTC)),
        Moment(time=datetime.max.replace(tzinfo=UTC)),
    ],
)
async def test_what_the_ledger_does_not_know_yet_is_not_made_up(story: PostgresLedgerReader, moment: Moment) -> None:
    with pytest.raises(InTheFuture):
        await story.read_state_at("main", moment)


async def test_a_vault_nobody_follows_has_no_past(story: PostgresLedgerReader) -> None:
    with pytest.raises(NotReady):
        await story.read_state_at("other", Moment(lt=10))


async def test_an_entry_names_its_event_and_pages_do_not_overlap(database: str) -> None:
    transactions = [transaction(10 * n, deposit(n % 6 + 1, n)) for n in range(1, 31)]
    async with posted(database, transactions, [7, 7]) as conn:
        everything = await select_entries(conn, vault_id="main", limit=500)
        assert [row.capital_delta_nanoton for row in everything] == list(range(30, 0, -1))
        first = everything[0]
        assert (first.event_type, first.logical_time, first.block_time.timestamp()) == (
            "DepositMade",
            300,
            START_TIME + 300,
        )
        assert first.transaction_hash == transactions[-1].cursor.hash.hex()
        for newest in (True, False):
            pages, after = [], None
            while page := await select_entries(conn, vault_id="main", after=after, limit=4, newest_first=newest):
                pages += page
                after = page[-1].entry_id
            assert pages == (everything if newest else everything[::-1])
        mine = await select_entries(conn, vault_id="main", tranche_id="SURE-BTC")
        assert [row.capital_delta_nanoton for row in mine] == [30, 24, 18, 12, 6]
        assert [
            row.capital_delta_nanoton
            for row in await select_entries(
                conn, vault_id="main", tranche_id="SURE-BTC", after=mine[1].entry_id, limit=2
            )
        ] == [18, 12]
        assert await select_entries(conn, vault_id="other") == []


async def test_events_of_a_transaction_and_of_a_policy_are_found(database: str) -> None:
    transactions = [
        transaction(10, CoverageChanged(5, (1, 0, 0, 0, 0, 0)), deposit(1, 5)),
        transaction(20, CoverageChanged(6, (1, 0, 0, 0, 0, 0))),
        transaction(30, CoverageChanged(5, (-1, 0, 0, 0, 0, 0))),
    ]
    async with posted(database, transactions, []) as conn:
        found = await select_events(conn, transaction=transactions[0].cursor.hash.hex(), newest_first=False)
        assert [row.event_type for row in found] == ["CoverageChanged", "DepositMade"]
        assert [row.logical_time for row in await select_events(conn, policy_id=5)] == [30, 10]
        assert [row.logical_time for row in await select_events(conn, policy_id=5, after=found[0].event_id + 2)] == [10]
        assert await select_events(conn, policy_id=5, contract=FACTORY) == []
        assert await select_events(conn, transaction="0" * 64) == []


async def test_the_past_is_found_by_index_among_100_000_rows(database: str) -> None:
    async with posted(database, [transaction(1, deposit(1, TON))], []) as conn:
        await conn.execute(
            f"INSERT INTO tranche_utilization_history ({FIGURES}, tranche_id, logical_time, message_index, recorded_at)"
            f" SELECT {FIGURES}, added.tranche_id, n, 0, to_timestamp(n)"
            " FROM tranche_utilization, generate_series(2, 20000) n, unnest($1::text[]) AS added (tranche_id)",
            list(TRANCHE_IDS[:5]),
        )
        await conn.execute("ANALYZE")
        for sql, value in (
            (history.SELECT_TRANCHES_AT_LT, 3),
            (history.SELECT_TRANCHES_AT_LT, 10_000),
            (history.SELECT_TRANCHES_AT_TIME, datetime.fromtimestamp(3, UTC)),
            (history.SELECT_TRANCHES_AT_TIME, datetime.fromtimestamp(10_000, UTC)),
        ):
            plan = await conn.fetch(
                f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {sql}", "main", list(TRANCHE_IDS), value, list(VAULT_KINDS)
            )
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan on tranche_utilization_history" not in text, text
            pages = max(int(part.split()[0]) for part in text.partition("Planning:")[0].split("shared hit=")[1:])
            assert pages < 100, text
