"""A replay rebuilds every read model from the log, row for row, while the ledger goes on; and names what is not so."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.chain_story import FACTORY, TON, VAULT, batch, cut, deposit, register, transaction
from db.servers import DatabaseServer
from proof.story import histories, make_steps
from services.ledger_tables import read_ledger, reading
from tonsurance.core.errors import CursorConflict, DatabaseUnavailable, LedgerRefused, NotReady
from tonsurance.core.events import DecodedTransaction, WithdrawalMade
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import connect, driver_errors
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.rebuilding import Rebuild
from tonsurance.services.replay import Replay, replay_ledger, shadowed
from tonsurance.services.verdicts import describe_replay

EVENTS = 220
TABLES = ["ledger_entries", "tranche_utilization", "tranche_utilization_history", "policies", "premium_streams"]
KEPT_BY_TRIGGER = "product_exposure"


def hush(line: str) -> None:
    """Progress that nobody reads."""


async def post_story(dsn: str, seed: int, sizes: list[int], *, events: int = EVENTS) -> None:
    """A life of both contracts with claims, epochs and refusals, each batch delivered twice, events doubled."""
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    for contract, transactions in histories(make_steps(seed, events)).items():
        doubled = [msgspec.structs.replace(item, events=item.events * 2) for item in transactions]
        for part in cut(doubled, sizes, contract):
            await writer.submit(part)
            with pytest.raises(CursorConflict):
                await writer.submit(part)
    await writer.close()


async def replay(dsn: str, batch_events: int = 100) -> Replay:
    return await replay_ledger(dsn, DEFAULT_PARAMS, hush, batch_events=batch_events)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 40), max_size=8),
    batch_events=st.sampled_from((1, 7, 999)),
)
def test_a_replay_equals_the_ledger_whatever_the_batches_were(
    pg: DatabaseServer, seed: int, sizes: list[int], batch_events: int
) -> None:
    dsn = pg.create()
    asyncio.run(post_story(dsn, seed, sizes))
    before = asyncio.run(read_ledger(dsn))
    found = asyncio.run(replay(dsn, batch_events))
    assert found.equal, "\n".join(describe_replay(found))
    assert (found.events, found.differences) == (EVENTS, ())
    assert [table.table for table in found.tables] == [*TABLES, KEPT_BY_TRIGGER]
    assert {table.table: table.rows for table in found.tables[:-1]} == {name: len(before[name]) for name in TABLES}
    assert asyncio.run(read_ledger(dsn)) == before
    assert asyncio.run(schemas(dsn)) == []
    pg.drop(dsn)


async def schemas(dsn: str) -> list[str]:
    """What a replay left behind."""
    async with reading(dsn) as conn:
        return [row[0] for row in await conn.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ 'replay'")]


async def test_each_postgres_version_replays(each_database: str) -> None:
    await post_story(each_database, 5, [3])
    found = await replay(each_database)
    assert found.equal
    assert "Equal: every row rebuilt from 220 events" in list(describe_replay(found))[-1]


async def test_an_empty_ledger_replays_to_nothing(database: str) -> None:
    await register(database)
    found = await replay(database)
    assert (found.equal, found.version, found.events) == (True, 0, 0)


async def plant(dsn: str, *statements: str) -> None:
    """Change what may never change, as only a superuser can."""
    conn = await connect(dsn)
    await conn.execute("SET session_replication_role = replica")
    for statement in statements:
        await conn.execute(statement)
    await conn.close()


A_ROW = "ctid = (SELECT min(ctid) FROM {0})"


@pytest.mark.parametrize(
    ("table", "change", "column"),
    [
        ("ledger_entries", "UPDATE {0} SET capital_delta_nanoton = capital_delta_nanoton + 1", "capital_delta_nanoton"),
        ("ledger_entries", "UPDATE {0} SET loss_delta_nanoton = 5", "loss_delta_nanoton"),
        ("ledger_entries", "UPDATE {0} SET shares_delta = shares_delta + 1", "shares_delta"),
        ("ledger_entries", "DELETE FROM {0}", "*"),
        ("tranche_utilization", "UPDATE {0} SET total_capital_nanoton = 7", "total_capital_nanoton"),
        ("tranche_utilization", "UPDATE {0} SET absorbed_losses_nanoton = 7e30", "absorbed_losses_nanoton"),
        ("tranche_utilization", "UPDATE {0} SET current_apy = current_apy + 1e-13", "current_apy"),
        ("tranche_utilization_history", "UPDATE {0} SET recorded_at = recorded_at + interval '1 s'", "recorded_at"),
        ("tranche_utilization_history", "UPDATE {0} SET coverage_sold_nanoton = 3", "coverage_sold_nanoton"),
        ("tranche_utilization_history", "DELETE FROM {0}", "*"),
        (
            "policies",
            "UPDATE {0} SET status = 'active', closed_lt = NULL, closed_message_index = NULL,"
            " closed_at = NULL, approved_nanoton = NULL",
            "status",
        ),
        ("policies", "UPDATE {0} SET created_at = now()", "created_at"),
        (
            "policies",
            "UPDATE {0} SET payout_nanoton = payout_nanoton + 1, coverage_amount_nanoton = coverage_amount_nanoton + 1",
            "payout_nanoton",
        ),
        ("policies", "DELETE FROM {0}", "*"),
    ],
)
async def test_a_planted_drift_is_found_and_named(database: str, table: str, change: str, column: str) -> None:
    await post_story(database, 9, [10])
    where = A_ROW.format(table + ("_default" if table.endswith("history") else ""))
    if table == "policies":
        where = "policy_id = (SELECT min(policy_id) FROM policies WHERE status = 'claimed')"
    await plant(database, f"{change.format(table)} WHERE {where}")
    found = await replay(database)
    assert not found.equal
    assert {verdict.table: verdict.differing for verdict in found.tables} == {
        name: int(name == table) for name in (*TABLES, KEPT_BY_TRIGGER)
    }
    assert column in [difference.column for difference in found.differences]
    for difference in found.differences:
        assert difference.table == table
        assert all(difference.key.values())
        assert difference.live != difference.rebuilt
    assert any(column in line and table in line for line in describe_replay(found))
    assert await schemas(database) == []


async def test_a_row_too_many_is_named_and_at_most_twenty_are(database: str) -> None:
    await post_story(database, 9, [10])
    await plant(
        database,
        "INSERT INTO tranche_utilization VALUES"
        " ('main', 'SURE-NEW', 1, 0, 0, 0, 1, 0, 0, false, 4, 1, 0, NULL, now(), 1, 1, now(), 0)",
        "UPDATE ledger_entries SET earned_delta_nanoton = earned_delta_nanoton + 1",
    )
    found = await replay(database)
    entries, now = found.tables[:2]
    assert (entries.differing, now.differing) == (entries.rows, 1)
    assert len(found.differences) == 20
    await plant(database, "UPDATE ledger_entries SET earned_delta_nanoton = earned_delta_nanoton - 1")
    (difference,) = (await replay(database)).differences
    assert (difference.key["tranche_id"], difference.live, difference.rebuilt) == ("SURE-NEW", "a row", None)


async def test_an_event_lost_from_the_log_is_found(database: str) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(*(transaction(lt, deposit(1, TON)) for lt in (10, 20, 30))))
    await writer.close()
    await plant(database, "DELETE FROM blockchain_events WHERE logical_time = 20")
    found = await replay(database)
    named = {(d.table, d.key["tranche_id"], d.column, d.live, d.rebuilt) for d in found.differences}
    assert ("ledger_entries", "SURE-BTC", "*", "a row", None) in named
    assert ("tranche_utilization", "SURE-BTC", "total_capital_nanoton", str(3 * TON), str(2 * TON)) in named


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM blockchain_events WHERE logical_time = 10", "capital would become"),
        ("UPDATE blockchain_events SET metadata = metadata - 'amount' WHERE logical_time = 10", "cannot be read"),
        ("UPDATE blockchain_events SET metadata = '[]' WHERE logical_time = 10", "cannot be read"),
    ],
)
async def test_a_log_that_makes_no_ledger_is_said_so(database: str, change: str, said: str) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    withdrawn = WithdrawalMade(1, VAULT, TON, TON)
    await writer.submit(batch(transaction(10, deposit(1, TON)), transaction(20, withdrawn)))
    await writer.close()
    await plant(database, change)
    found = await replay(database)
    assert (found.equal, found.tables) == (False, ())
    assert said in (found.refused or "")
    assert said in list(describe_replay(found))[-1]
    assert await schemas(database) == []


async def test_a_replay_is_right_while_the_ledger_grows(database: str) -> None:
    """The writer posts one transaction after the other for as long as the replay takes."""
    await register(database)
    told = histories(make_steps(21, 4_000))
    seen: list[int] = []
    done = asyncio.Event()

    async def write(contract: str, transactions: list[DecodedTransaction]) -> None:
        for part in cut(transactions, [1] * len(transactions), contract):
            if done.is_set():
                return
            await writer.submit(part)

    writer = LedgerWriter(database, DEFAULT_PARAMS)
    writing = [asyncio.create_task(write(contract, told[contract])) for contract in (VAULT, FACTORY)]
    for _ in range(3):
        found = await replay(database, batch_events=20)
        assert found.equal, "\n".join(describe_replay(found))
        seen.append(found.version)
    done.set()
    await asyncio.gather(*writing)
    await writer.close()
    assert seen == sorted(set(seen)), "the ledger did not move meanwhile"


async def test_only_one_replay_runs_at_a_time_and_a_killed_one_is_swept_away(database: str) -> None:
    await post_story(database, 3, [], events=40)
    first = await connect(database)
    await first.execute("SELECT pg_advisory_lock(x'746F6E5F7265706C'::bigint)")
    await first.execute("CREATE SCHEMA ledger_replay CREATE TABLE policies (half int)")
    with pytest.raises(NotReady, match="Another replay"):
        await replay(database)
    assert await schemas(database) == ["ledger_replay"]
    await first.close()
    assert (await replay(database)).equal
    assert await schemas(database) == []


async def test_a_database_that_is_away_is_an_outage(tmp_path: Any) -> None:
    with pytest.raises(DatabaseUnavailable):
        await replay(f"postgresql://nobody@/none?host={tmp_path}")


OBJECTS = """
SELECT c.relname, c.oid, c.relkind, c.relowner, c.relacl::text, (
    SELECT string_agg(t.tgname::text || t.tgenabled::text, ',' ORDER BY t.tgname) FROM pg_trigger t
    WHERE t.tgrelid = c.oid) AS triggers
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace ORDER BY c.relname
"""
DAMAGE = (
    "DELETE FROM ledger_entries WHERE entry_id % 7 = 0",
    "UPDATE ledger_entries SET capital_delta_nanoton = capital_delta_nanoton + 1 WHERE entry_id % 11 = 0",
    "INSERT INTO ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id,"
    " capital_delta_nanoton, coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton, loss_delta_nanoton,"
    " shares_delta, ledger_version) VALUES ('0:foreign', 1, 0, 'main', 'SURE-BTC', 5, 0, 0, 0, 0, 0, 1)",
    "UPDATE tranche_utilization SET total_capital_nanoton = 7 WHERE tranche_id = 'SURE-JNR'",
    "DELETE FROM tranche_utilization WHERE tranche_id = 'SURE-SNR'",
    "DELETE FROM tranche_utilization_history WHERE logical_time % 3 = 0",
    "UPDATE tranche_utilization_history SET recorded_at = recorded_at + interval '40 days' WHERE logical_time % 5 = 1",
    "UPDATE policies SET coverage_amount_nanoton = coverage_amount_nanoton + 9 WHERE policy_id % 3 = 0",
    "DELETE FROM policies WHERE policy_id % 3 = 1",
    "DELETE FROM premium_streams WHERE logical_time % 2 = 0",
    "UPDATE product_exposure SET total_coverage = 3, policy_count = 1",
)


async def rows(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    async with reading(dsn) as conn:
        return [tuple(row) for row in await conn.fetch(sql)]


async def exposure(dsn: str) -> list[tuple[Any, ...]]:
    return await rows(
        dsn,
        "SELECT vault_id, coverage_type, chain_id, stablecoin_id, total_coverage, policy_count, total_premium"
        " FROM product_exposure WHERE policy_count > 0 ORDER BY 1, 2, 3, 4",
    )


async def test_a_swap_restores_what_was_damaged_exactly(each_database: str) -> None:
    await post_story(each_database, 9, [10])
    async with reading(each_database) as conn:
        await conn.execute("SELECT make_history_month('2030-03-01')")
    right, cover = await read_ledger(each_database), await exposure(each_database)
    objects = await rows(each_database, OBJECTS)
    kept = await rows(
        each_database, "SELECT entry_id FROM ledger_entries WHERE entry_id % 7 <> 0 AND entry_id % 11 <> 0"
    )
    await plant(each_database, *DAMAGE)
    lost = await rows(
        each_database,
        "SELECT count(*) FROM ledger_entries WHERE entry_id % 11 = 0 OR contract_address = '0:foreign'",
    )
    (before,) = await rows(each_database, "SELECT version FROM ledger_head")
    found = await replay_ledger(each_database, DEFAULT_PARAMS, hush, swap=True)
    assert (found.equal, found.version, found.refused) == (False, before[0] + 1, None)
    assert {table.table for table in found.tables if table.differing} == {*TABLES, KEPT_BY_TRIGGER}
    assert {table.table for table in found.swapped if table.removed or table.inserted} == {*TABLES, KEPT_BY_TRIGGER}
    assert await read_ledger(each_database) == right
    assert await exposure(each_database) == cover
    assert await rows(each_database, OBJECTS) == objects
    assert await schemas(each_database) == []
    again = await replay(each_database)
    assert again.equal, "\n".join(describe_replay(again))
    assert {*kept} <= {*await rows(each_database, "SELECT entry_id FROM ledger_entries")}, "what was right was replaced"
    journal = "SELECT count(*) FROM ledger_adjustments WHERE relation = 'ledger_entries' AND action = 'delete'"
    assert await rows(each_database, journal) == lost
    told = await rows(each_database, "SELECT kind, ledger_version, events FROM ledger_rebuilds")
    assert told == [("replay", found.version, EVENTS)]
    assert any("Swapped" in line for line in describe_replay(found))


async def test_a_swap_of_an_equal_ledger_changes_nothing(database: str) -> None:
    await post_story(database, 9, [10], events=60)
    (before,) = await rows(database, "SELECT version FROM ledger_head")
    found = await replay_ledger(database, DEFAULT_PARAMS, hush, swap=True)
    assert (found.equal, found.swapped, found.version) == (True, (), before[0])
    assert await rows(database, "SELECT * FROM ledger_rebuilds") == []


async def test_entries_and_events_still_cannot_be_changed_by_hand(database: str) -> None:
    await post_story(database, 9, [10], events=60)
    await plant(database, DAMAGE[1])
    await replay_ledger(database, DEFAULT_PARAMS, hush, swap=True)
    async with reading(database) as conn:
        for sql in (
            "DELETE FROM ledger_entries",
            "UPDATE ledger_entries SET capital_delta_nanoton = 1",
            "UPDATE blockchain_events SET event_id = event_id + 1000",
            "DELETE FROM blockchain_events",
            "UPDATE ledger_rebuilds SET events = 0",
            "DELETE FROM ledger_rebuilds",
        ):
            with pytest.raises(LedgerRefused, match="append-only"), driver_errors():
                await conn.execute(sql)


async def test_a_swap_while_the_ledger_grows_loses_nothing(pg: DatabaseServer, database: str) -> None:
    known = pg.create()
    await post_story(known, 21, [], events=300)
    await register(database)
    told, writer, done = histories(make_steps(21, 300)), LedgerWriter(database, DEFAULT_PARAMS), asyncio.Event()

    async def write(contract: str) -> None:
        parts = cut(told[contract], [1] * len(told[contract]), contract)
        for number, part in enumerate(parts, 1):
            if number > len(parts) - 5:
                await done.wait()
            await writer.submit(part)
            if number == 10:
                ready.release()

    ready = asyncio.Semaphore(0)
    writing = [asyncio.create_task(write(contract)) for contract in (VAULT, FACTORY)]
    await ready.acquire()
    await plant(database, "UPDATE ledger_entries SET loss_delta_nanoton = 5 WHERE entry_id % 2 = 0")
    found = await replay_ledger(database, DEFAULT_PARAMS, hush, swap=True, batch_events=10)
    assert found.swapped
    done.set()
    await asyncio.gather(*writing)
    await writer.close()
    assert await read_ledger(database) == await read_ledger(known)
    assert await exposure(database) == await exposure(known)
    assert (await replay(database)).equal
    pg.drop(known)


async def test_a_replay_from_a_logical_time_looks_at_what_follows_it(database: str) -> None:
    await post_story(database, 9, [10])
    right = await read_ledger(database)
    times = [row[0] for row in await rows(database, "SELECT DISTINCT logical_time FROM ledger_entries ORDER BY 1")]
    for lt in [0, *times[::9], times[-1], times[-1] + 5]:
        found = await replay_ledger(database, DEFAULT_PARAMS, hush, from_lt=lt)
        assert (found.equal, found.from_lt) == (True, lt), "\n".join(describe_replay(found))
    middle, later = times[len(times) // 2], times[3 * len(times) // 4]
    hurt = "UPDATE tranche_utilization_history SET current_apy = 1 WHERE NOT insolvent AND logical_time = {0}"
    await plant(database, hurt.format(times[2]), hurt.format(later))
    found = await replay_ledger(database, DEFAULT_PARAMS, hush, from_lt=middle, swap=True)
    assert {difference.key["logical_time"] for difference in found.differences} == {str(later)}
    (row,) = await rows(database, "SELECT from_lt FROM ledger_rebuilds")
    assert row == (middle,)
    assert (await replay_ledger(database, DEFAULT_PARAMS, hush, from_lt=middle)).equal
    assert not (await replay(database)).equal  # what stands before it was not looked at
    await replay_ledger(database, DEFAULT_PARAMS, hush, swap=True)
    assert await read_ledger(database) == right


async def test_nothing_is_built_on_rows_that_do_not_agree(database: str) -> None:
    await post_story(database, 9, [10])
    times = [row[0] for row in await rows(database, "SELECT DISTINCT logical_time FROM ledger_entries ORDER BY 1")]
    await plant(database, f"DELETE FROM ledger_entries WHERE logical_time = {times[3]}")
    said: list[str] = []
    found = await replay_ledger(database, DEFAULT_PARAMS, said.append, from_lt=times[10])
    assert (found.equal, found.from_lt) == (False, None)
    assert {difference.key["logical_time"] for difference in found.differences} == {str(times[3])}
    assert any("folded from the start" in line for line in said)


async def test_what_was_folded_is_not_used_when_the_log_is_repaired_meanwhile(database: str) -> None:
    await post_story(database, 9, [10], events=60)
    last = "FROM blockchain_events e WHERE event_id = (SELECT max(event_id) FROM blockchain_events)"
    async with reading(database) as conn, reading(database) as other, shadowed(conn) as live:
        rebuild = Rebuild(conn, live, DEFAULT_PARAMS, hush)
        await rebuild.catch_up()
        assert await rebuild.fold_rest()
        async with other.transaction():
            await other.execute(
                "INSERT INTO vault_sync_results (run_id, contract_address, status, error_code, started_at)"
                " VALUES (1, 'x', 'failed', 'x', now())"
            )
            await other.execute(
                "INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time,"
                " message_index, row_before, reason) SELECT 1, 'main', 'blockchain_events', 'delete',"
                f" contract_address, logical_time, message_index, to_jsonb(e), 'a test' {last}"
            )
            await other.execute(f"DELETE {last}")
        assert not await rebuild.fold_rest()
        await rebuild.catch_up()
        assert await rebuild.fold_rest()
        assert rebuild.folded == 59


async def test_progress_says_how_fast_and_how_far(database: str) -> None:
    await post_story(database, 9, [10], events=60)
    said: list[str] = []
    async with reading(database) as conn, shadowed(conn) as live:
        await Rebuild(conn, live, DEFAULT_PARAMS, said.append, batch_events=7, say_every_s=0).catch_up()
    assert said[-1].startswith("Replayed 60 of 60 events (100 %), ")
    assert " a second" in said[0]
    assert any("a second" in line for line in describe_replay(await replay(database)))
