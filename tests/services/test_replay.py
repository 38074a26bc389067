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
from tonsurance.core.errors import CursorConflict, DatabaseUnavailable, NotReady
from tonsurance.core.events import DecodedTransaction, WithdrawalMade
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import connect
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.replay import Replay, replay_ledger
from tonsurance.services.verdicts import describe_replay

EVENTS = 220
TABLES = ["ledger_entries", "tranche_utilization", "tranche_utilization_history", "policies", "premium_streams"]


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
    assert [table.table for table in found.tables] == TABLES
    assert {table.table: table.rows for table in found.tables} == {name: len(before[name]) for name in TABLES}
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
        name: int(name == table) for name in TABLES
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
