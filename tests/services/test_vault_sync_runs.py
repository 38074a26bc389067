"""Reconciliations beside a ledger that goes on, without a chain, without a database, and where no event explains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest
import structlog

from chain.patience import IMPATIENT, QUICK, ThreeTries
from services.ledger_tables import read_ledger
from services.street import LAYOUT
from services.syncing import JOURNAL, RUNS, Desk, explained, open_desk
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.errors import ChainUnavailable, DatabaseUnavailable, NotReady, TonsuranceError
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.pool import connect
from tonsurance.services.alerting import AlertService
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.sync_keeper import DRIFTS, keep_vaults_synced, sync_once
from tonsurance.services.sync_verdicts import describe_sync, encode_sync
from tonsurance.services.vault_sync import SyncResult, VaultSync

HALVE = "UPDATE tranche_utilization SET {0} = {0} / 2 WHERE tranche_id = 'SURE-JNR'"
LOSE_ENTRY = "DELETE FROM ledger_entries WHERE tranche_id = 'SURE-EQT'"
NOBODY = "0:" + "77" * 32


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with open_desk(database) as desk:
        yield desk


class Bent(TonCenterClient):
    """A chain on which the vault holds more in its first tranche than its events say."""

    extra = 5 * NANO_PER_TON

    async def run_get_method(self, address: str, method: str, *args: Any, **named: Any) -> Any:
        result = await super().run_get_method(address, method, *args, **named)
        if method != "get_all_tranches":
            return result
        first, *others = result.stack[0]
        number, capital, *rest = first
        return msgspec.structs.replace(result, stack=((((number, capital + self.extra, *rest)), *others),))


class Lagging(TonCenterClient):
    """A server whose newest block is an old one."""

    seqno = 0

    async def get_masterchain_info(self) -> Any:
        info = await super().get_masterchain_info()
        return msgspec.structs.replace(info, last=msgspec.structs.replace(info.last, seqno=self.seqno))


async def test_what_no_event_explains_is_adjusted_and_taken_back_when_it_is_over(desk: Desk) -> None:
    async with Bent(desk.client.base_url, retry=QUICK) as bent:
        result = await desk.run(client=bent)
        assert (result.status, result.findings) == ("adjusted", ())
        assert "SURE-BTC: no event explains capital +5000000000" in result.adjusted[0]
        (capital,) = await desk.rows(
            "SELECT total_capital_nanoton FROM tranche_utilization WHERE tranche_id = 'SURE-BTC'"
        )
        assert capital["total_capital_nanoton"] == result.tranches[0].chain.capital
        (event,) = await desk.rows("SELECT * FROM blockchain_events WHERE event_type = 'LedgerAdjusted'")
        assert event["logical_time"] == result.lt
        assert (await desk.replay()).equal
        assert (await desk.run(client=bent)).status == "equal"
        journal = await desk.rows(JOURNAL)
        assert [row["action"] for row in journal] == ["adjust", "insert"]
    back = await desk.run()
    assert back.status == "adjusted"
    assert "capital -5000000000" in back.adjusted[0]
    assert (await desk.replay()).equal
    assert [(await desk.run()).status for _ in range(2)] == ["equal", "equal"]
    desk.street.deposit(1, 3)
    await desk.catch_up()
    assert (await desk.run()).status == "equal"


async def test_an_adjustment_that_is_lost_is_restored(desk: Desk) -> None:
    async with Bent(desk.client.base_url, retry=QUICK) as bent:
        await desk.run(client=bent)
        right = await read_ledger(desk.dsn)
        await desk.plant("DELETE FROM blockchain_events WHERE event_type = 'LedgerAdjusted'")
        result = await desk.run(client=bent)
    assert (result.status, result.findings[0].event_type) == ("repaired", "LedgerAdjusted")
    assert await read_ledger(desk.dsn) == right


async def test_an_adjustment_waits_until_the_ledger_stands_where_the_vault_was_read(desk: Desk) -> None:
    async with Bent(desk.client.base_url, retry=QUICK) as bent, Lagging(desk.client.base_url, retry=QUICK):

        class Both(Bent, Lagging):
            seqno = desk.street.chain.head.seqno

        desk.street.deposit(2, 9)
        await desk.catch_up()
        async with Both(desk.client.base_url, retry=QUICK) as both:
            result = await desk.run(client=both)
        assert (result.status, result.adjusted) == ("drifted", ())
        assert any("SURE-BTC: capital" in line for line in result.remaining)
        assert len(await desk.rows(RUNS)) == 3  # it was tried again
        assert (await desk.run(client=bent)).status == "adjusted"
    assert (await desk.replay()).equal


SHIFT = "UPDATE {0} SET total_capital_nanoton = total_capital_nanoton - 7"


async def test_what_was_posted_on_top_of_a_drift_is_put_right_too(desk: Desk) -> None:
    then = desk.street.chain.head.seqno
    await desk.plant(SHIFT.format("tranche_utilization_history"), SHIFT.format("tranche_utilization"))
    desk.street.deposit(2, 9)
    desk.street.buy(50)
    await desk.catch_up()
    Lagging.seqno = then
    async with Lagging(desk.client.base_url, retry=QUICK) as lagging:
        result = await desk.run(client=lagging)
    assert (result.status, result.seqno) == ("repaired", then)
    assert max(group.last_lt for group in result.findings) > result.lt
    assert (await desk.replay()).equal
    assert (await desk.run()).status == "equal"


async def test_a_wrong_snapshot_that_was_built_upon_is_put_right(desk: Desk) -> None:
    assert (await desk.run()).status == "equal"
    await desk.plant(SHIFT.format("tranche_utilization"))
    desk.street.deposit(2, 9)
    desk.street.buy(50)
    await desk.catch_up()
    result = await desk.run()
    assert result.status == "repaired"
    assert {group.relation for group in result.findings} == {"tranche_utilization_history"}
    assert (await desk.replay()).equal


async def test_without_repair_everything_is_told_and_nothing_is_changed(desk: Desk) -> None:
    await desk.plant(LOSE_ENTRY, HALVE.format("coverage_sold_nanoton"))
    before = await read_ledger(desk.dsn)
    result = await desk.run(repair=False)
    assert (result.status, result.adjustments) == ("drifted", 0)
    assert await read_ledger(desk.dsn) == before
    assert await desk.rows(JOURNAL) == []
    (row,) = await desk.rows(RUNS)
    assert row["status"] == "drifted"
    assert row["ledger_digest"] is None
    assert explained(row)["findings"]
    assert (await desk.run()).status == "repaired"


async def test_drift_is_in_percent_of_the_worst_that_the_ledger_says(desk: Desk) -> None:
    await desk.plant(HALVE.format("total_capital_nanoton"), LOSE_ENTRY)
    result = await desk.run()
    drifts = {drift.tranche_id: drift for drift in result.tranches}
    assert drifts["SURE-JNR"].capital_pct == pytest.approx(100)  # 1,000 where 500 stood
    assert drifts["SURE-EQT"].ledger.capital == 0
    assert drifts["SURE-EQT"].capital_pct == 100
    assert drifts["SURE-BTC"].worst_pct == 0
    lines = list(describe_sync((result,)))
    assert lines[0] == "=== Vault Sync Summary ==="
    btc = drifts["SURE-BTC"].chain
    assert lines[1] == f"  SURE_BTC: capital={btc.capital} (drift: 0.00%), coverage={btc.coverage} (drift: 0.00%)"
    assert lines[-1].startswith("Repaired: the ledger is the chain's at block ")
    said = msgspec.json.decode(encode_sync((result,)))
    assert (said["equal"], said["runs"][0]["status"]) == (True, "repaired")
    assert said["runs"][0]["tranches"][0]["chain_capital"] == btc.capital


async def test_a_drift_of_one_nano_is_told_of(desk: Desk) -> None:
    await desk.plant(
        "UPDATE tranche_utilization_history SET total_capital_nanoton = total_capital_nanoton + 1"
        " WHERE tranche_id = 'SURE-BTC'"
    )
    async with alerting(desk) as alerts:
        result = await desk.run()
        (told,) = await alerts.evaluate_all()
    assert 0 < result.tranches[0].capital_pct < 1e-9
    assert "(drift: <0.01%)" in list(describe_sync((result,)))[1]
    assert (told.alert.kind, told.alert.severity, told.before) == ("Capital_Drift", "Low", None)


@asynccontextmanager
async def alerting(desk: Desk) -> AsyncIterator[AlertService]:
    """An alerting service that watches drift alone, where a quiet figure counts again at once."""
    pool = LazyPool(desk.dsn)
    try:
        yield AlertService(pool, lambda: DEFAULT_PARAMS, (DRIFTS,), recount_after_s=0.0)
    finally:
        await pool.close()


async def test_alerts_have_the_words_people_know_and_end_with_the_drift(desk: Desk) -> None:
    async with alerting(desk) as alerts:
        assert await alerts.evaluate_all() == ()
        await desk.plant(
            "UPDATE tranche_utilization SET total_capital_nanoton = total_capital_nanoton / 1.15"
            " WHERE tranche_id = 'SURE-JNR'",
            "UPDATE tranche_utilization SET coverage_sold_nanoton = coverage_sold_nanoton / 1.06"
            " WHERE tranche_id = 'SURE-SNR'",
        )
        await desk.run()
        await desk.run()  # both before anybody looked
        told = {item.alert.kind: item for item in await alerts.evaluate_all()}
        assert told["Capital_Drift"].message == "Drift detected: 15% capital mismatch (SURE-JNR)"
        assert told["Capital_Drift"].alert.severity == "Critical"
        assert told["Coverage_Drift"].message == "Drift detected: 6% coverage mismatch (SURE-SNR)"
        assert told["Coverage_Drift"].alert.severity == "Medium"
        changes = [item.change.value for _ in range(3) for item in await alerts.evaluate_all()]
    assert sorted(changes) == ["resolved", "resolved"]


async def test_a_chain_that_is_away_is_a_failed_run_and_changes_nothing(desk: Desk) -> None:
    await desk.plant(LOSE_ENTRY)
    before = await read_ledger(desk.dsn)
    async with TonCenterClient("http://127.0.0.1:1", retry=IMPATIENT, rng=ThreeTries()) as nobody:
        with pytest.raises(ChainUnavailable):
            await desk.run(client=nobody)
    assert await read_ledger(desk.dsn) == before
    (row,) = await desk.rows(RUNS)
    assert (row["status"], row["error_code"], row["vault_id"]) == ("failed", "chain_unavailable", None)
    assert (await desk.run()).status == "repaired"


async def test_a_chain_that_goes_away_in_the_middle_changes_nothing(desk: Desk) -> None:
    class Fading(TonCenterClient):
        async def get_transactions(self, *args: Any, **named: Any) -> Any:
            raise ChainUnavailable

    await desk.plant(LOSE_ENTRY)
    before = await read_ledger(desk.dsn)
    async with Fading(desk.client.base_url, retry=QUICK) as fading:
        with pytest.raises(ChainUnavailable):
            await desk.run(client=fading)
    assert await read_ledger(desk.dsn) == before
    assert await desk.rows(JOURNAL) == []


async def test_a_database_that_is_away_is_an_outage(desk: Desk) -> None:
    away = Desk("postgresql://nobody@127.0.0.1:1/none", desk.client, desk.street)
    with pytest.raises(DatabaseUnavailable):
        await away.run()


async def test_a_database_that_goes_away_in_the_repair_changes_nothing(desk: Desk) -> None:
    await desk.plant(LOSE_ENTRY)
    before = await read_ledger(desk.dsn)
    await desk.plant(
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'",
        "CREATE TRIGGER cut AFTER INSERT ON vault_sync_tranches FOR EACH STATEMENT EXECUTE FUNCTION cut()",
    )
    with pytest.raises(DatabaseUnavailable):
        await desk.run()
    assert await read_ledger(desk.dsn) == before
    assert await desk.rows(JOURNAL) == []
    (row,) = await desk.rows(RUNS)
    assert (row["status"], row["error_code"]) == ("failed", "database_unavailable")
    await desk.plant("DROP TRIGGER cut ON vault_sync_tranches")
    assert (await desk.run()).status == "repaired"


async def test_a_ledger_that_is_behind_is_no_drift(desk: Desk) -> None:
    desk.street.deposit(1, 5)
    with pytest.raises(NotReady):
        await desk.run(wait_s=0.0)
    (row,) = await desk.rows(RUNS)
    assert (row["status"], row["error_code"]) == ("failed", "not_ready")


async def test_beside_a_writer_that_posts_nothing_is_ever_called_a_drift(desk: Desk) -> None:
    seen: list[SyncResult] = []
    async with desk.following():
        for number in range(4):
            looking = asyncio.create_task(desk.run())
            while not looking.done():
                desk.street.deposit(number % 6 + 1, 3)
                await asyncio.sleep(0.03)
            seen.append(await looking)
    assert [result.status for result in seen] == ["equal"] * 4
    assert all(result.audited_from_lt == before.lt for before, result in pairwise(seen))
    assert await desk.rows(JOURNAL) == []


async def test_drift_is_repaired_beside_a_writer_that_posts(desk: Desk) -> None:
    async with desk.following():
        for number in range(2):
            await desk.plant(LOSE_ENTRY, "UPDATE tranche_utilization SET shares = shares + 9")
            looking = asyncio.create_task(desk.run())
            while not looking.done():
                desk.street.deposit(number % 6 + 1, 3)
                await asyncio.sleep(0.03)
            assert (await looking).status == "repaired"
            assert (await desk.run()).status == "equal"
    found = await desk.replay()
    assert found.equal, found.differences


async def test_of_many_at_once_one_repairs_and_the_others_find_it_equal(desk: Desk) -> None:
    await desk.plant(LOSE_ENTRY)
    async with Bent(desk.client.base_url, retry=QUICK) as bent:
        results = await asyncio.gather(*(desk.run(client=bent) for _ in range(4)))
    assert sorted(result.status for result in results) == ["adjusted", "equal", "equal", "equal"]
    assert len(await desk.rows("SELECT FROM blockchain_events WHERE event_type = 'LedgerAdjusted'")) == 1


async def test_who_finds_another_at_it_for_too_long_says_so(desk: Desk) -> None:
    conn = await connect(desk.dsn)
    await conn.execute(
        "SELECT pg_advisory_lock(x'746F6E5F73796E63'::bigint # hashtextextended($1, 0))", desk.street.contracts.vault
    )
    with pytest.raises(NotReady, match="Another reconciliation"):
        await desk.run(wait_s=0.2)
    await conn.close()
    assert (await desk.run()).status == "equal"


async def test_messages_nobody_can_read_are_named_and_such_a_chain_repairs_nothing(desk: Desk) -> None:
    events = {key: event for key, event in LAYOUT.events.items() if event.type != "DepositMade"}
    blind = msgspec.structs.replace(LAYOUT, events=events)
    before = await read_ledger(desk.dsn)
    result = await desk.run(layout=blind)
    assert result.status == "drifted"
    assert {group.relation for group in result.unreadable} == {"blockchain_quarantine"}
    assert result.unreadable[0].count >= 6
    assert any("make no ledger" in line for line in result.remaining), result.remaining
    assert await read_ledger(desk.dsn) == before


async def test_a_ledger_that_an_error_stopped_is_repaired_as_far_as_it_goes(desk: Desk) -> None:
    desk.street.deposit(1, 5)
    await desk.plant(
        "UPDATE blockchain_sync_state SET sync_status = 'error', error_message = 'a bad event'", LOSE_ENTRY
    )
    result = await desk.run(wait_s=0.0)
    assert result.status == "drifted"
    assert any("stopped at logical time" in line and "a bad event" in line for line in result.differences)
    assert result.adjusted == ()
    assert (await desk.replay()).equal
    await desk.catch_up()
    assert (await desk.run()).status == "equal"


async def test_one_vault_that_cannot_be_read_keeps_no_other_from_its_turn(desk: Desk) -> None:
    told: list[SyncResult | TonsuranceError] = []
    async with desk.sync(contracts=[NOBODY, desk.street.contracts.vault], on_result=told.append) as service:
        with pytest.raises(TonsuranceError):
            await service.sync_now()
    assert isinstance(told[0], TonsuranceError)
    assert isinstance(told[1], SyncResult)
    assert [row["status"] for row in await desk.rows(RUNS)] == ["failed", "equal"]


async def test_the_loop_runs_until_it_is_stopped_and_says_the_summary(desk: Desk) -> None:
    stop, results = asyncio.Event(), []

    def note(result: SyncResult | TonsuranceError) -> None:
        results.append(result)
        if len(results) == 2:
            stop.set()

    wake = asyncio.Event()
    wake.set()
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(
            keep_vaults_synced(desk.dsn, desk.client, LAYOUT, lambda: DEFAULT_PARAMS, stop,
                               contracts=[desk.street.contracts.vault], wake=wake, on_result=note)
        )  # fmt: skip
        while not stop.is_set():
            wake.set()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(task, 60)
    assert [result.status for result in results] == ["equal", "equal"]
    said = [line["event"] for line in lines]
    assert said.count("=== Vault Sync Summary ===") == 2
    assert sum(line.startswith("  SURE_JNR_PLUS: capital=") for line in said) == 2


async def test_a_run_at_once_uses_the_parameters_that_hold(desk: Desk) -> None:
    (result,) = await sync_once(
        desk.dsn,
        desk.client,
        desk.street.contracts.vault,
        LAYOUT,
        repair=True,
        wait_s=60,
        progress=lambda _line: None,
    )
    assert result.status == "equal"


async def test_nothing_goes_from_the_append_only_tables_before_the_journal_has_it(desk: Desk) -> None:
    conn = await connect(desk.dsn)
    try:
        for table in ("blockchain_events", "ledger_entries", "ledger_adjustments", "vault_sync_results"):
            with pytest.raises(asyncpg.PostgresError, match="append-only"):
                await conn.execute(f"TRUNCATE {table} CASCADE")
        for table in ("blockchain_events", "ledger_entries"):
            for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET ledger_version = 7"):
                with pytest.raises(asyncpg.PostgresError, match="append-only"):
                    await conn.execute(sql)
        await desk.plant(LOSE_ENTRY)
        await desk.run()
        for sql in ("DELETE FROM ledger_adjustments", "UPDATE vault_sync_results SET status = 'equal'"):
            with pytest.raises(asyncpg.PostgresError, match="append-only"):
                await conn.execute(sql)
        # What the journal of an earlier transaction has does not count.
        copied = "UPDATE ledger_entries SET capital_delta_nanoton = 1 WHERE entry_id = (SELECT max(entry_id) FROM {0})"
        await conn.execute(
            "INSERT INTO ledger_adjustments (run_id, vault_id, relation, action, contract_address, logical_time,"
            " row_before, reason) SELECT 1, vault_id, 'ledger_entries', 'delete', contract_address, logical_time,"
            " to_jsonb(e), 'a try' FROM ledger_entries e"
        )
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await conn.execute(copied.format("ledger_entries"))
    finally:
        await conn.close()


async def test_a_vault_nobody_follows_is_no_vault_to_sync(desk: Desk) -> None:
    async with desk.sync(contracts=[]) as service:
        assert await service.sync_now() == ()
    assert isinstance(service, VaultSync)
