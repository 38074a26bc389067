"""The ledger posts every event once, all of a group or nothing of it, and never past a refused event."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.chain_story import (
    FACTORY,
    TON,
    VAULT,
    batch,
    cursor_at,
    cut,
    deposit,
    expired,
    legal_transactions,
    policy_created,
    register,
    transaction,
)
from db.servers import INSTALLED_BINARIES, DatabaseServer, running_cluster
from tonsurance.core.errors import (
    CursorConflict,
    DatabaseUnavailable,
    LedgerError,
    LedgerRefused,
    WriterFenced,
)
from tonsurance.core.events import (
    GENESIS,
    ContractBatch,
    CoverageChanged,
    Cursor,
    DecodedTransaction,
    PremiumsDistributed,
    Undecoded,
    WithdrawalMade,
)
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.tranches import apy_percent
from tonsurance.db.events import (
    select_cursor,
    select_events,
    select_events_since,
    select_quarantine_count,
    select_sync_states,
)
from tonsurance.db.ledger import Posted, post_batches, select_ledger_version, take_ledger
from tonsurance.db.policies import PolicyCounts, select_policy_counts
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.postgres import Cluster
from tonsurance.db.tranches import TrancheRow, select_tranches, select_tranches_since
from tonsurance.services.ledger_writer import LedgerWriter

ILLEGAL = WithdrawalMade(1, "0:" + "dd" * 32, 10**15, 0)


@pytest.fixture
async def conn(each_database: str) -> AsyncIterator[Connection]:
    """A reader beside the writer, on a database that knows the vault and its factory."""
    await register(each_database)
    conn = await connect(each_database)
    yield conn
    await conn.close()


@pytest.fixture
async def writer(each_database: str, conn: Connection) -> AsyncIterator[LedgerWriter]:
    writer = LedgerWriter(each_database, DEFAULT_PARAMS)
    writer.start()
    yield writer
    await writer.close()


async def rows_of(conn: Connection, table: str) -> list[dict[str, Any]]:
    """A table without what depends on when and in which groups it was written."""
    times = {"created_at", "updated_at", "last_sync_timestamp", "ledger_version", "event_id", "entry_id"}
    rows = [dict(row) for row in await conn.fetch(f"SELECT * FROM {table}")]
    kept = [{name: value for name, value in row.items() if name not in times} for row in rows]
    return sorted(kept, key=repr)


LEDGER_TABLES = (
    "blockchain_events",
    "ledger_entries",
    "tranche_utilization",
    "tranche_utilization_history",
    "blockchain_sync_state",
    "policies",
)


async def whole_ledger(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    return {table: await rows_of(conn, table) for table in LEDGER_TABLES}


async def post_all(dsn: str, batches: list[ContractBatch]) -> dict[str, list[dict[str, Any]]]:
    """Post batches one after the other through a writer of their own, and return the whole ledger."""
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    for part in batches:
        await writer.submit(part)
    await writer.close()
    return await read_ledger(dsn)


async def read_ledger(dsn: str) -> dict[str, list[dict[str, Any]]]:
    async with reading(dsn) as conn:
        return await whole_ledger(conn)


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[Connection]:
    conn = await connect(dsn)
    try:
        yield conn
    finally:
        await conn.close()


def recompute(transactions: list[DecodedTransaction]) -> list[tuple[int, int, str, Totals]]:
    """Every step of the history, folded through core alone."""
    totals: dict[str, Totals] = {}
    steps = []
    for event in (event for item in transactions for event in item.events):
        for entry in entries_of(event.body):
            totals[entry.tranche_id] = post(totals.get(entry.tranche_id, Totals()), entry)
            steps.append((event.lt, event.message_index, entry.tranche_id, totals[entry.tranche_id]))
    return steps


def totals_of(row: dict[str, Any]) -> Totals:
    return Totals(
        capital=row["total_capital_nanoton"],
        coverage=row["coverage_sold_nanoton"],
        unearned=row["unearned_premium_nanoton"],
        earned=int(row["earned_premium_nanoton"]),
        shares=int(row["shares"]),
    )


async def test_an_event_moves_its_tranche_and_gives_it_an_apy(writer: LedgerWriter, conn: Connection) -> None:
    covered = CoverageChanged(1, (0, 25 * TON, 0, 0, 0, 0))
    posted = await writer.submit(batch(transaction(10, deposit(2, 100 * TON)), transaction(20, covered)))
    assert posted == Posted(version=1, events=2, by_type={"DepositMade": 1, "CoverageChanged": 1})
    (row,) = await select_tranches(conn)
    assert isinstance(row, TrancheRow)
    assert (row.vault_id, row.tranche_id, row.utilization_ratio) == ("main", "SURE-SNR", 0.25)
    assert row.current_apy == pytest.approx(7.6267, abs=5e-5)  # spec figure of the logarithmic curve at 0.25
    assert (row.logical_time, row.message_index, row.params_version, row.ledger_version) == (20, 0, 1, 1)
    assert await select_cursor(conn, VAULT) == cursor_at(20)


async def test_coverage_without_capital_is_insolvent_and_promises_no_rate(
    writer: LedgerWriter, conn: Connection
) -> None:
    await writer.submit(batch(transaction(10, CoverageChanged(1, (5, 0, 0, 0, 0, 0)))))
    (row,) = await select_tranches(conn)
    assert (row.insolvent, row.utilization_ratio, row.utilization_raw, row.current_apy) == (True, 1.0, None, None)


async def test_amounts_past_64_bits_are_exact(writer: LedgerWriter, conn: Connection) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON, 2**120), deposit(1, TON, 2**120))))
    (row,) = await select_tranches(conn)
    assert row.shares == 2**121
    (newest, _) = await select_events(conn)
    assert newest.metadata["shares"] == 2**120


async def test_a_replayed_batch_changes_nothing(writer: LedgerWriter, conn: Connection) -> None:
    transactions = legal_transactions(1, 60)
    for part in cut(transactions, [7, 20]):
        await writer.submit(part)
    before, version = await whole_ledger(conn), await select_ledger_version(conn)
    for part in cut(transactions, [7, 20]):
        with pytest.raises(CursorConflict):
            await writer.submit(part)
    assert (await whole_ledger(conn), await select_ledger_version(conn)) == (before, version)


async def test_an_event_delivered_twice_posts_once(writer: LedgerWriter, conn: Connection) -> None:
    once = transaction(10, deposit(1, TON))
    doubled = msgspec.structs.replace(once, events=once.events * 2)
    posted = await writer.submit(batch(doubled))
    assert (posted.events, posted.duplicates) == (1, 1)
    (row,) = await select_tranches(conn)
    assert row.total_capital_nanoton == TON
    assert len(await rows_of(conn, "ledger_entries")) == 1


async def test_an_event_stored_by_an_earlier_process_is_not_folded_again(
    writer: LedgerWriter, conn: Connection
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    again = msgspec.structs.replace(transaction(10, deposit(1, TON)), cursor=cursor_at(20))
    late = transaction(20, deposit(1, 5))
    event = msgspec.structs.replace(late.events[0], message_index=0)
    await conn.execute(  # as if the event had been stored without its cursor
        "INSERT INTO blockchain_events (event_type, contract_address, contract_type, transaction_hash, logical_time,"
        " message_index, raw_body, decoder, block_time, ledger_version)"
        " VALUES ('DepositMade', $1, 'MultiTrancheVault', repeat('0', 64), 20, 0, '', 'test-1', now(), 1)",
        VAULT,
    )
    assert again.cursor == cursor_at(event.lt)
    posted = await writer.submit(batch(late, after=cursor_at(10)))
    assert (posted.events, posted.duplicates, posted.version) == (0, 1, 1)
    (row,) = await select_tranches(conn)
    assert row.total_capital_nanoton == TON


@pytest.mark.parametrize(
    "after",
    [GENESIS, cursor_at(999), Cursor(10, bytes(32))],
    ids=["an earlier one", "a later one", "the same time, another hash"],
)
async def test_a_dropped_link_is_a_conflict_and_posts_nothing(
    writer: LedgerWriter, conn: Connection, after: Cursor
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    before = await whole_ledger(conn)
    with pytest.raises(CursorConflict):
        await writer.submit(batch(transaction(1000, deposit(1, TON)), after=after))
    assert await whole_ledger(conn) == before


async def test_transactions_out_of_order_are_refused(writer: LedgerWriter, conn: Connection) -> None:
    with pytest.raises(CursorConflict):
        await writer.submit(batch(transaction(20, deposit(1, TON)), transaction(10, deposit(1, TON))))
    assert await select_cursor(conn, VAULT) == GENESIS


async def test_an_unknown_contract_is_refused(writer: LedgerWriter, conn: Connection) -> None:
    stranger = "0:" + "ee" * 32
    with pytest.raises(LedgerError, match="not registered"):
        await writer.submit(batch(transaction(10, deposit(1, TON), contract=stranger), contract=stranger))
    assert await rows_of(conn, "blockchain_events") == []


async def test_a_refused_event_stops_its_contract_just_before_it_and_no_other(
    writer: LedgerWriter, conn: Connection
) -> None:
    good = [transaction(10, deposit(1, TON)), transaction(20, deposit(2, TON))]
    bad = [transaction(30, deposit(3, TON), ILLEGAL), transaction(40, deposit(4, TON))]
    policies = transaction(15, policy_created(1), contract=FACTORY)
    outcomes = await asyncio.gather(
        writer.submit(batch(*good, *bad)),
        writer.submit(batch(policies, contract=FACTORY)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], LedgerRefused)
    assert "capital would become" in str(outcomes[0])
    assert isinstance(outcomes[1], Posted)
    assert await select_cursor(conn, VAULT) == cursor_at(20)
    assert [row.tranche_id for row in await select_tranches(conn)] == ["SURE-BTC", "SURE-SNR"]
    states = {state.contract_address: state for state in await select_sync_states(conn)}
    assert (states[VAULT].sync_status, states[FACTORY].sync_status) == ("error", "active")
    assert "capital would become" in (states[VAULT].error_message or "")


async def test_a_contract_goes_on_when_the_cause_of_its_refusal_is_gone(writer: LedgerWriter, conn: Connection) -> None:
    with pytest.raises(LedgerRefused):
        await writer.submit(batch(transaction(10, ILLEGAL)))
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    (state,) = [state for state in await select_sync_states(conn) if state.contract_address == VAULT]
    assert (state.sync_status, state.error_message, state.cursor) == ("active", None, cursor_at(10))


async def test_what_only_the_database_refuses_is_found_the_same_way(writer: LedgerWriter, conn: Connection) -> None:
    await conn.execute("ALTER TABLE tranche_utilization ADD CHECK (total_capital_nanoton < 5000000000)")
    outcomes = await asyncio.gather(
        writer.submit(batch(transaction(10, deposit(1, 4 * TON)), transaction(20, deposit(1, 4 * TON)))),
        writer.submit(batch(transaction(15, policy_created(1), contract=FACTORY), contract=FACTORY)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], LedgerRefused)
    assert isinstance(outcomes[1], Posted)
    assert await select_cursor(conn, VAULT) == cursor_at(10)


async def test_parts_that_do_not_make_the_premium_are_refused(writer: LedgerWriter, conn: Connection) -> None:
    with pytest.raises(LedgerRefused, match="not its parts' sum"):
        await writer.submit(batch(transaction(10, PremiumsDistributed(7, 1, (1, 1, 1, 1, 1, 1)))))
    assert await select_tranches(conn) == []


async def test_policies_follow_the_factory_in_either_order_to_the_vault(writer: LedgerWriter, conn: Connection) -> None:
    first = transaction(10, policy_created(1), policy_created(2), contract=FACTORY)
    ended = transaction(20, expired(1), contract=FACTORY)
    await writer.submit(batch(first, ended, contract=FACTORY))
    await writer.submit(batch(transaction(12, deposit(1, TON), CoverageChanged(1, (1, 1, 1, 1, 1, 1)))))
    assert await select_policy_counts(conn) == PolicyCounts(active=1, claimed=0, expired=1)


@pytest.mark.parametrize("body", [expired(9), policy_created(1)], ids=["ends without a beginning", "begins twice"])
async def test_an_impossible_policy_is_refused(writer: LedgerWriter, conn: Connection, body: Any) -> None:
    begun = transaction(10, policy_created(1), contract=FACTORY)
    await writer.submit(batch(begun, contract=FACTORY))
    with pytest.raises(LedgerRefused):
        await writer.submit(batch(transaction(20, body, contract=FACTORY), after=cursor_at(10), contract=FACTORY))
    assert await select_cursor(conn, FACTORY) == cursor_at(10)


async def test_an_undecoded_message_is_kept_and_the_cursor_moves_on(writer: LedgerWriter, conn: Connection) -> None:
    unknown = Undecoded(message_index=0, reason="op 0x1 is in no layout\x00", raw_body=b"\x00\x01")
    posted = await writer.submit(batch(transaction(10, undecoded=(unknown,))))
    assert (posted.quarantined, posted.version) == (1, 0)
    assert await select_quarantine_count(conn) == 1
    assert await select_cursor(conn, VAULT) == cursor_at(10)


async def test_each_group_is_one_version_and_one_notification(writer: LedgerWriter, conn: Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await conn.add_listener("tonsurance_ledger", lambda *args: heard.put_nowait(str(args[3])))
    parts = cut(legal_transactions(3, 40), [5, 5, 5])
    await asyncio.gather(*(writer.submit(part) for part in parts))
    version = await select_ledger_version(conn)
    assert 1 <= version < len(parts)  # those that waited went together
    assert [await heard.get() for _ in range(version)] == [f'{{"v":{n}}}' for n in range(1, version + 1)]


async def test_readers_get_what_came_after_a_version(writer: LedgerWriter, conn: Connection) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON)), transaction(20, deposit(2, TON))))
    await writer.submit(batch(transaction(30, deposit(2, TON)), after=cursor_at(20)))
    assert [row.tranche_id for row in await select_tranches_since(conn, 1)] == ["SURE-SNR"]
    assert [row.logical_time for row in await select_events_since(conn, 1)] == [30]
    newest = await select_events(conn, limit=2)
    assert [row.logical_time for row in newest] == [30, 20]
    assert [row.logical_time for row in await select_events(conn, after=newest[-1].event_id)] == [10]
    oldest = await select_events(conn, newest_first=False, after=newest[-1].event_id, contract=VAULT)
    assert [row.logical_time for row in oldest] == [30]
    assert await select_events(conn, event_type="Paused") == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 20), max_size=8), many=st.booleans())
def test_the_ledger_is_the_same_whatever_the_batches_were(
    pg: DatabaseServer, seed: int, sizes: list[int], many: bool
) -> None:
    transactions = legal_transactions(seed, 60 if many else 8)
    ledgers = []
    for batches in (cut(transactions, sizes), cut(transactions, [])):
        dsn = pg.create()
        ledgers.append(asyncio.run(post_all(dsn, batches)))
        pg.drop(dsn)
    assert ledgers[0] == ledgers[1]
    check_against_core(ledgers[0], transactions)


def check_against_core(ledger: dict[str, list[dict[str, Any]]], transactions: list[DecodedTransaction]) -> None:
    """History equals the recomputation step by step, the snapshot its last step, the totals the sums of the entries."""
    steps = recompute(transactions)
    history = {
        (row["logical_time"], row["message_index"], row["tranche_id"]): row
        for row in ledger["tranche_utilization_history"]
    }
    assert {key: totals_of(row) for key, row in history.items()} == {step[:3]: step[3] for step in steps}
    last = {tranche: totals for _, _, tranche, totals in steps}
    assert {row["tranche_id"]: totals_of(row) for row in ledger["tranche_utilization"]} == last
    for row in history.values():
        assert row["current_apy"] == expected_apy(row["tranche_id"], totals_of(row))
    for tranche_id, totals in last.items():
        mine = [row for row in ledger["ledger_entries"] if row["tranche_id"] == tranche_id]
        assert sum(row["capital_delta_nanoton"] for row in mine) == totals.capital
        assert sum(row["coverage_delta_nanoton"] for row in mine) == totals.coverage
        assert sum(row["unearned_delta_nanoton"] for row in mine) == totals.unearned
        assert sum(row["earned_delta_nanoton"] for row in mine) == totals.earned
        assert sum(int(row["shares_delta"]) for row in mine) == totals.shares


def expected_apy(tranche_id: str, totals: Totals) -> float | None:
    """The curve at coverage / capital; no rate without capital under the coverage."""
    if totals.coverage and not totals.capital:
        return None
    used = totals.coverage / totals.capital if totals.coverage else 0.0
    return apy_percent(DEFAULT_PARAMS.tranche(tranche_id), min(used, 1.0))


async def test_a_lost_connection_leaves_nothing_half_done_and_the_next_batch_goes_in(
    writer: LedgerWriter, conn: Connection, each_database: str
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    blocker = await connect(each_database)
    held = blocker.transaction()
    await held.start()
    await blocker.execute("LOCK TABLE ledger_entries IN ACCESS EXCLUSIVE MODE")  # stops the writer half-way
    second = batch(transaction(20, deposit(1, TON)), after=cursor_at(10))
    submitted = asyncio.create_task(writer.submit(second))
    await kill_when_waiting(conn)
    with pytest.raises(DatabaseUnavailable):
        await submitted
    await held.rollback()
    await blocker.close()
    assert await select_cursor(conn, VAULT) == cursor_at(10)
    assert len(await rows_of(conn, "blockchain_events")) == 1
    assert (await writer.submit(second)).events == 1
    assert await select_cursor(conn, VAULT) == cursor_at(20)


async def kill_when_waiting(conn: Connection) -> None:
    """Terminate the writer's backend as soon as it waits for a lock inside its transaction."""
    waiting = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'tonsurance-writer' AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not await conn.fetchval(waiting):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", sorted(INSTALLED_BINARIES, reverse=True))
def test_kill_9_of_the_writing_backend_loses_nothing_and_doubles_nothing(version: str) -> None:
    """Such a kill ends the whole server, so it is one of this test's own, with fsync on."""
    transactions = legal_transactions(11, 300)
    with running_cluster(INSTALLED_BINARIES[version], durable=True) as cluster:
        dsn = DatabaseServer(cluster.dsn).create()
        asyncio.run(register(dsn))
        kills = asyncio.run(post_through_kills(cluster, dsn, transactions))
        ledger = asyncio.run(read_ledger(dsn))
    assert kills == 4
    check_against_core(ledger, transactions)
    assert len(ledger["blockchain_events"]) == 300


async def post_through_kills(cluster: Cluster, dsn: str, transactions: list[DecodedTransaction]) -> int:
    """Post in batches of three and kill the backend in the middle of some of them; go on from the stored cursor."""
    writer, kills = LedgerWriter(dsn, DEFAULT_PARAMS), 0
    while left := await read_what_is_left(cluster, dsn, transactions):
        after = transactions[-len(left) - 1].cursor if len(left) < len(transactions) else GENESIS
        pid = await find_writer(dsn)
        posted = asyncio.create_task(writer.submit(batch(*left[:3], after=after)))
        if pid is not None and kills < 4 and len(left) < 180 - kills * 40:
            await asyncio.sleep(0.0005 * kills)
            os.kill(pid, signal.SIGKILL)
            kills += 1
        with suppress(DatabaseUnavailable):
            await posted
    await writer.close()
    return kills


async def find_writer(dsn: str) -> int | None:
    with suppress(DatabaseUnavailable), driver_errors():
        async with reading(dsn) as conn:
            pid: int | None = await conn.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'tonsurance-writer'"
            )
            return pid
    return None


async def read_what_is_left(
    cluster: Cluster, dsn: str, transactions: list[DecodedTransaction]
) -> list[DecodedTransaction]:
    """The transactions after the stored cursor, as soon as the server is up again."""
    while True:
        if cluster.poll() is not None:
            cluster.start()
        with suppress(DatabaseUnavailable), driver_errors():
            async with reading(dsn) as conn:
                cursor = await select_cursor(conn, VAULT)
            assert cursor is not None
            return [item for item in transactions if item.cursor > cursor]
        await asyncio.sleep(0.01)


async def test_a_database_that_is_down_is_an_error_for_every_submitter(tmp_path: Any) -> None:
    writer = LedgerWriter(f"postgresql://nobody@/none?host={tmp_path}", DEFAULT_PARAMS)
    parts = cut(legal_transactions(1, 10), [2])
    outcomes = await asyncio.gather(*(writer.submit(part) for part in parts), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * len(parts)
    await writer.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await writer.submit(parts[0])


async def test_a_second_writer_cannot_post(writer: LedgerWriter, conn: Connection, each_database: str) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    second = LedgerWriter(each_database, DEFAULT_PARAMS)
    with pytest.raises(WriterFenced):
        await second.submit(batch(transaction(20, deposit(1, TON)), after=cursor_at(10)))
    await second.close()
    assert (await writer.submit(batch(transaction(20, deposit(1, TON)), after=cursor_at(10)))).events == 1


async def test_a_writer_that_was_replaced_cannot_post(conn: Connection, each_database: str) -> None:
    stale, fresh = await connect(each_database), await connect(each_database)
    epoch = await take_ledger(stale)
    await stale.execute("SELECT pg_advisory_unlock_all()")  # as after a failover: the lock is gone, the process is not
    newer = await take_ledger(fresh)
    with pytest.raises(WriterFenced):
        await post_batches(stale, [batch(transaction(10, deposit(1, TON)))], DEFAULT_PARAMS, epoch)
    assert await rows_of(conn, "blockchain_events") == []
    await post_batches(fresh, [batch(transaction(10, deposit(1, TON)))], DEFAULT_PARAMS, newer)
    assert len(await rows_of(conn, "blockchain_events")) == 1
    await stale.close()
    await fresh.close()


async def test_a_submitter_that_gives_up_stops_nobody(writer: LedgerWriter, conn: Connection) -> None:
    parts = cut(legal_transactions(5, 30), [4, 4])
    given_up = asyncio.create_task(writer.submit(parts[0]))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await writer.submit(batch(transaction(10, policy_created(1), contract=FACTORY), contract=FACTORY))
    assert await select_cursor(conn, FACTORY) == cursor_at(10)


async def test_a_fault_of_ours_neither_hangs_a_submitter_nor_ends_the_writer(
    writer: LedgerWriter, conn: Connection
) -> None:
    key = "blockchain_events_contract_address_logical_time_message_ind_key"
    await conn.execute(f"ALTER TABLE blockchain_events DROP CONSTRAINT {key}")
    part = batch(transaction(10, deposit(1, TON)))
    with pytest.raises(DatabaseUnavailable, match="writer stopped"):
        await writer.submit(part)
    await conn.execute("ALTER TABLE blockchain_events ADD UNIQUE (contract_address, logical_time, message_index)")
    assert (await writer.submit(part)).events == 1


async def test_closing_posts_what_was_submitted(each_database: str, conn: Connection) -> None:
    writer = LedgerWriter(each_database, DEFAULT_PARAMS, queue_size=2)
    parts = cut(legal_transactions(6, 40), [3] * 6)
    submitted = [asyncio.create_task(writer.submit(part)) for part in parts]
    await submitted[0]
    await asyncio.gather(*submitted)
    await writer.close()
    assert await select_cursor(conn, VAULT) == parts[-1].until


@pytest.mark.parametrize("table", ["blockchain_events", "ledger_entries"])
@pytest.mark.parametrize("change", ["UPDATE {} SET logical_time = 1", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_ledger_is_append_only_even_for_its_owner(
    writer: LedgerWriter, conn: Connection, table: str, change: str
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    with pytest.raises(Exception, match="append-only"):
        await conn.execute(change.format(table))


@pytest.mark.parametrize("change", ["last_synced_lt = 9", "last_synced_hash = decode(repeat('01', 32), 'hex')"])
async def test_no_sql_moves_a_cursor_back(writer: LedgerWriter, conn: Connection, change: str) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    with pytest.raises(Exception, match="cannot go"):
        await conn.execute(f"UPDATE blockchain_sync_state SET {change} WHERE contract_address = '{VAULT}'")
