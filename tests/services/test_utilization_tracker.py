"""The tracker as a library: the documents' examples with their numbers, and what it says when it cannot answer."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog

from services.database_door import DatabaseDoor
from services.redis_server import PROGRAM, RedisServer
from tonsurance.core.errors import (
    CapacityExceeded,
    DatabaseUnavailable,
    IdempotencyConflict,
    InputError,
    LedgerRefused,
    NotInitialized,
    NotReady,
    ReservationEnded,
    StaleFigures,
    UnknownReservation,
    UnknownTranche,
    UnknownVault,
    VaultFollowsChain,
)
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.units import BIGINT_MAX, NANO_PER_TON
from tonsurance.db.ledger import take_ledger
from tonsurance.db.pool import connect
from tonsurance.services.replay import replay_ledger
from tonsurance.services.utilization_tracker import UtilizationTracker

TON = NANO_PER_TON


@pytest.fixture
async def tracker(database: str) -> AsyncIterator[UtilizationTracker]:
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(database)
        await tracker.create_vault("lab")
        yield tracker


async def test_a_policy_lives_and_utilisation_goes_to_a_half_and_back_to_0(tracker: UtilizationTracker) -> None:
    await tracker.update_capital("SURE-SNR", 10_000 * TON)
    await tracker.update_coverage("SURE-SNR", 5_000 * TON)
    held = await tracker.get_tranche_utilization("SURE-SNR")
    assert (held.total_capital, held.coverage_sold) == (10_000 * TON, 5_000 * TON)
    assert held.utilization_ratio == 0.5
    assert held.current_apy == pytest.approx(8.5474, abs=5e-5)
    await tracker.update_coverage("SURE-SNR", -5_000 * TON)
    after = await tracker.get_tranche_utilization("SURE-SNR")
    assert (after.utilization_ratio, after.current_apy) == (0.0, 6.5)


async def test_450_ton_are_free_at_1000_and_500(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-BTC", 1_000 * TON, 500 * TON)
    assert await tracker.get_available_capacity("SURE-BTC") == 450 * TON
    assert await tracker.get_collateralization_ratio("SURE-BTC") == 2.0


async def test_100_more_are_accepted_and_200_more_refused_at_1000_and_800(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-MEZZ", 1_000 * TON, 800 * TON)
    assert await tracker.can_accept_coverage("SURE-MEZZ", 100 * TON)
    assert not await tracker.can_accept_coverage("SURE-MEZZ", 200 * TON)
    assert await tracker.can_accept_coverage("SURE-MEZZ", 150 * TON)
    assert not await tracker.can_accept_coverage("SURE-MEZZ", 150 * TON + 1)


async def test_a_new_direct_vault_is_empty_not_unknown(tracker: UtilizationTracker) -> None:
    tranches = await tracker.get_all_utilizations()
    assert [row.tranche_id for row in tranches][::5] == ["SURE-BTC", "SURE-EQT"]
    assert {(row.total_capital, row.utilization_ratio, row.last_updated) for row in tranches} == {(0, 0.0, None)}
    assert await tracker.get_available_capacity("SURE-EQT") == 0
    assert await tracker.get_collateralization_ratio("SURE-EQT") is None


async def test_coverage_without_capital_is_insolvent_and_has_no_apy(tracker: UtilizationTracker) -> None:
    await tracker.update_coverage("SURE_JNR_PLUS", 1)
    held = await tracker.get_tranche_utilization("SURE-JNR+")
    assert (held.insolvent, held.current_apy, held.utilization_ratio, held.utilization_raw) == (True, None, 1.0, None)


async def test_nothing_goes_below_zero_and_a_refused_update_changes_nothing(tracker: UtilizationTracker) -> None:
    await tracker.update_capital("SURE-SNR", 5)
    for refused in (
        tracker.update_capital("SURE-SNR", -6),
        tracker.update_coverage("SURE-SNR", -1),
        tracker.update_capitals({"SURE-BTC": 7, "SURE-SNR": -6}),
        tracker.update_capital("SURE-SNR", BIGINT_MAX),
    ):
        with pytest.raises(LedgerRefused):
            await refused
    assert [row.total_capital for row in await tracker.get_all_utilizations()] == [0, 5, 0, 0, 0, 0]


@pytest.mark.parametrize("amount", [True, 1.5, "5", None, 2**63, -(2**63), float("nan")])
async def test_what_is_no_amount_is_named_and_changes_nothing(tracker: UtilizationTracker, amount: object) -> None:
    with pytest.raises(InputError, match="nanoTON"):
        await tracker.update_capital("SURE-SNR", amount)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        await tracker.can_accept_coverage("SURE-SNR", amount)  # type: ignore[arg-type]
    assert (await tracker.get_tranche_utilization("SURE-SNR")).total_capital == 0


async def test_names_that_are_none_are_refused(tracker: UtilizationTracker) -> None:
    with pytest.raises(UnknownTranche, match="SURE-BTC"):
        await tracker.update_capital("SURE-XXX", 1)
    with pytest.raises(UnknownTranche):
        await tracker.get_tranche_utilization("sure-btc")
    for no_vault in ("nowhere", "", None, 5, "a\0b"):
        with pytest.raises(UnknownVault):
            await tracker.get_vault_utilization(no_vault, "SURE-BTC")  # type: ignore[arg-type]
        with pytest.raises(UnknownVault):
            await tracker.get_vault_utilizations(no_vault)  # type: ignore[arg-type]
    for no_tranche in (None, 5, ["SURE-BTC"], b"SURE-BTC"):
        for call in (
            tracker.get_tranche_utilization, tracker.predict_capacity_exhaustion, tracker.get_capacity
        ):  # fmt: skip
            with pytest.raises(InputError):
                await call(no_tranche)  # type: ignore[arg-type]
        with pytest.raises(InputError):
            await tracker.update_capital(no_tranche, 1)  # type: ignore[arg-type]
        with pytest.raises(InputError):
            tracker.invalidate_cache(no_tranche)  # type: ignore[arg-type]
    for no_number in (None, "x", True, 1.5):
        with pytest.raises(InputError):
            await tracker.read_queued(no_number)  # type: ignore[arg-type]
    for name in ("", "UPPER", "a" * 65, "ä", "x;y", "-x"):
        with pytest.raises(InputError):
            await tracker.create_vault(name)
    for key in ("", "x" * 256, "a\nb", "ключ"):
        with pytest.raises(InputError, match="key"):
            await tracker.update_capital("SURE-BTC", 1, key=key)


async def test_a_vault_that_is_none_is_unknown_and_an_empty_one_not_ready(database: str) -> None:
    async with UtilizationTracker(vault_id="nowhere") as tracker:
        await tracker.init(database)
        for call in (tracker.get_tranche_utilization, tracker.get_available_capacity, tracker.get_capacity):
            with pytest.raises(UnknownVault, match="nowhere"):
                await call("SURE-BTC")
        with pytest.raises(UnknownVault):
            await tracker.get_all_utilizations()
        with pytest.raises(NotReady, match="Nothing has been posted"):
            await tracker.get_vault_utilization("main", "SURE-BTC")


async def test_one_update_1000_times_with_one_key_is_one_effect(tracker: UtilizationTracker) -> None:
    answers = await asyncio.gather(*(tracker.update_capital("SURE-SNR", 3, key="once") for _ in range(1_000)))
    assert {(answer.ledger_version, answer.logical_time) for answer in answers} == {(1, 1)}
    assert [answer.replayed for answer in answers].count(False) == 1
    assert (await tracker.get_tranche_utilization("SURE-SNR")).total_capital == 3
    with pytest.raises(IdempotencyConflict):
        await tracker.update_capital("SURE-SNR", 4, key="once")
    with pytest.raises(IdempotencyConflict):
        await tracker.update_capital("SURE-BTC", 3, key="once")
    await tracker.update_coverage("SURE-SNR", 1, key="once")  # another route: another key
    held = await tracker.get_tranche_utilization("SURE-SNR")
    assert (held.total_capital, held.coverage_sold) == (3, 1)


async def test_n_single_updates_are_one_batch(tracker: UtilizationTracker, database: str) -> None:
    deltas = {"SURE-BTC": 10, "SURE-SNR": 20, "SURE-EQT": 30}
    await asyncio.gather(*(tracker.update_capital(tranche, delta) for tranche, delta in deltas.items()))
    single = [row.total_capital for row in await tracker.get_all_utilizations()]
    await tracker.create_vault("batch")
    other = UtilizationTracker(vault_id="batch")
    async with other:
        await other.init(database)
        await other.update_capitals(deltas)
        assert [row.total_capital for row in await other.get_all_utilizations()] == single == [10, 20, 0, 0, 0, 30]


async def test_a_vault_that_follows_its_contract_takes_no_updates(tracker: UtilizationTracker, database: str) -> None:
    async with UtilizationTracker(vault_id="main") as main:
        await main.init(database)
        for refused in (
            main.update_capital("SURE-BTC", 1),
            main.update_coverages({"SURE-BTC": 1}),
            main.sync_from_chain("SURE-BTC", 1, 1),
            main.enqueue_capital("SURE-BTC", 1),
            main.create_vault("main"),
        ):
            with pytest.raises(VaultFollowsChain, match="reserve_coverage"):
                await refused


async def test_another_process_sees_a_commit_at_once_and_counts_what_it_had_in_memory(
    tracker: UtilizationTracker, database: str
) -> None:
    async with UtilizationTracker(vault_id="lab") as other:
        await other.init(database)
        async with asyncio.timeout(60):
            while not other.get_statistics()["listening"]:
                await asyncio.sleep(0.01)
        await tracker.update_capital("SURE-BTC", 42)
        async with asyncio.timeout(25):  # before the 30 s that figures may grow old without a notification
            while (await other.get_tranche_utilization("SURE-BTC")).total_capital != 42:
                await asyncio.sleep(0.001)
        before = other.get_statistics()
        for _ in range(500):
            await other.get_all_utilizations()
        after = other.get_statistics()
        assert (after["hits"], after["misses"]) == (before["hits"] + 500, before["misses"])  # type: ignore[operator]
        other.invalidate_cache("SURE-BTC")
        await other.get_tranche_utilization("SURE-SNR")
        assert other.get_statistics()["misses"] == after["misses"] + 1  # type: ignore[operator]
        assert after["hit_rate"] > 0.9  # type: ignore[operator]
        assert after["size"] == 6


async def test_uninitialised_it_says_what_to_call() -> None:
    tracker = UtilizationTracker()
    with pytest.raises(NotInitialized, match="init"):
        await tracker.get_tranche_utilization("SURE-BTC")
    with pytest.raises(NotInitialized):
        tracker.get_statistics()
    await tracker.close()
    assert tracker.default_thresholds.max_utilization == 0.95
    assert UtilizationTracker.calculate_utilization_ratio(1_000, 925) == 0.925
    assert UtilizationTracker.calculate_utilization_ratio(0, 0) == 0.0
    assert UtilizationTracker.calculate_utilization_ratio(0, 1) == 1.0
    assert UtilizationTracker.calculate_utilization_ratio(1, 10**400) == 1.0
    nan = float("nan")
    for bad in ((-1, 0), (0, -1), (nan, 1), (1, nan), ("1", 2), (None, 1), (True, 1), (1.5, 1), (1, float("inf"))):
        with pytest.raises(InputError, match=r"Capital|Coverage"):
            UtilizationTracker.calculate_utilization_ratio(*bad)


@pytest.mark.parametrize("ttl_s", [float("nan"), float("inf"), 3600, 30.1, 0, -1, True, "5", None])
def test_figures_are_never_kept_longer_than_30_s_whatever_is_asked_for(ttl_s: object) -> None:
    with pytest.raises(InputError, match="cache_ttl_s"):
        UtilizationTracker(cache_ttl_s=ttl_s)  # type: ignore[arg-type]
    assert UtilizationTracker(cache_ttl_s=30).cache_ttl_s == 30


async def test_without_a_database_init_says_so() -> None:
    with pytest.raises(DatabaseUnavailable):
        await UtilizationTracker().init("postgresql://nobody@127.0.0.1:1/none")


async def test_an_outage_is_told_and_never_zero(database: str) -> None:
    door = DatabaseDoor(database)
    await door.open()
    async with UtilizationTracker(vault_id="lab", cache_ttl_s=0.2) as tracker:
        await tracker.init(door.dsn)
        await tracker.create_vault("lab")
        await tracker.update_capital("SURE-BTC", 42)
        assert (await tracker.get_tranche_utilization("SURE-BTC")).total_capital == 42
        await door.shut()
        await asyncio.sleep(0.3)
        with pytest.raises(StaleFigures, match="no current figures"):
            await tracker.get_tranche_utilization("SURE-BTC")
        with pytest.raises(StaleFigures):
            await tracker.can_accept_coverage("SURE-BTC", 1)
        assert "cannot be read" in str(tracker.get_statistics()["degraded"])
        for call in (
            tracker.update_capital("SURE-BTC", 1, key="later"),
            tracker.enqueue_capital("SURE-BTC", 1, key="queued"),
            tracker.reserve_coverage("SURE-BTC", 1, ttl_s=5, key="held"),
            tracker.list_vaults(),
        ):
            with pytest.raises(DatabaseUnavailable, match="doctor") as caught:
                await call
            assert "same key" in str(caught.value.advice)
        await door.open()
        async with asyncio.timeout(60):
            while not await _posted(tracker):
                await asyncio.sleep(0.05)
        assert (await tracker.get_tranche_utilization("SURE-BTC")).total_capital == 43
        async with asyncio.timeout(60):
            while tracker.get_statistics()["degraded"] is not None:
                await asyncio.sleep(0.05)
    await door.shut()


async def test_an_outage_puts_none_of_the_drivers_tracebacks_into_the_hosts_log(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    name = urlsplit(database).path[1:]
    admin = await connect(database.replace(f"/{name}", "/postgres", 1))
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(database)
        await tracker.create_vault("lab")
        async with asyncio.timeout(60):
            while not tracker.get_statistics()["listening"]:
                await asyncio.sleep(0.01)
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        async with asyncio.timeout(60):
            while tracker.get_statistics()["degraded"] is None:
                await asyncio.sleep(0.01)
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await tracker.update_capital("SURE-BTC", 1)
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await admin.close()
    gc.collect()
    assert unhandled == []
    assert [record.name for record in caplog.records if record.name.startswith("asyncpg")] == []


@pytest.mark.skipif(PROGRAM is None, reason="no redis-server here")
async def test_with_a_redis_figures_are_shared_and_its_death_is_told_and_changes_no_answer(
    database: str, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with UtilizationTracker(vault_id="lab", redis_url=server.url) as tracker:
            await tracker.init(database)
            await tracker.create_vault("lab")
            await tracker.update_capital("SURE-BTC", 42)
            assert (await tracker.get_tranche_utilization("SURE-BTC")).total_capital == 42
            assert tracker.get_statistics()["degraded"] is None
            server.send(signal.SIGKILL)
            await tracker.update_capital("SURE-BTC", 1)
            assert (await tracker.get_tranche_utilization("SURE-BTC")).total_capital == 43
            assert "edis" in str(tracker.get_statistics()["degraded"])
    finally:
        server.end()


async def _posted(tracker: UtilizationTracker) -> bool:
    try:
        await tracker.update_capital("SURE-BTC", 1, key="later")
    except DatabaseUnavailable:
        return False
    return True


async def test_a_replay_of_direct_vaults_gives_the_same_tables(tracker: UtilizationTracker, database: str) -> None:
    await tracker.update_capitals({"SURE-BTC": 10, "SURE-SNR": 20})
    await tracker.update_coverage("SURE-SNR", 7)
    await tracker.sync_from_chain("SURE-SNR", 5, 1)
    replayed = await replay_ledger(database, DEFAULT_PARAMS, lambda _text: None)
    assert replayed.equal, replayed
    assert replayed.events == 4


async def test_room_is_held_committed_into_coverage_and_given_back(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-SNR", 100_000 * TON, 0)
    held = await tracker.reserve_coverage("SURE-SNR", 1_000 * TON, ttl_s=60, key="one")
    assert await tracker.get_available_capacity("SURE-SNR") == 94_000 * TON
    again = await tracker.reserve_coverage("SURE-SNR", 1_000 * TON, ttl_s=60, key="one")
    assert again.reservation_id == held.reservation_id
    assert (await tracker.commit_reservation(held.reservation_id)).status == "committed"
    assert (await tracker.get_tranche_utilization("SURE-SNR")).coverage_sold == 1_000 * TON
    assert await tracker.get_available_capacity("SURE-SNR") == 94_000 * TON
    other = await tracker.reserve_coverage("SURE-SNR", 2_000 * TON, ttl_s=60, key="two")
    await tracker.release_reservation(other.reservation_id)
    assert await tracker.get_available_capacity("SURE-SNR") == 94_000 * TON
    with pytest.raises(CapacityExceeded, match="reservation_share"):
        await tracker.reserve_coverage("SURE-SNR", 90_000 * TON, ttl_s=60, key="three")
    assert [limit.name for limit in (await tracker.get_capacity("SURE-SNR")).limits] == ["max_utilization"]


async def test_what_is_no_reservation_is_named_and_holds_nothing(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-SNR", 100_000 * TON, 0)
    nan = float("nan")
    good = {"tranche": "SURE-SNR", "amount": TON, "ttl_s": 60, "key": "k", "quote_id": None}
    bads = (
        *({"amount": bad} for bad in (0, -1, 1.5, True, None, "1", nan, 2**63)),
        *({"ttl_s": bad} for bad in (0, 301, 1.5, True, None, "1", nan)),
        *({"key": bad} for bad in ("", None, 5, "a b")),
        *({"quote_id": bad} for bad in (-1, 2**64, 1.5, True, "5", nan)),
    )
    for bad in bads:
        with pytest.raises(InputError):
            await tracker.reserve_coverage(**(good | bad))
    for no_id in (None, 5, "", "nope"):
        with pytest.raises(UnknownReservation):
            await tracker.commit_reservation(no_id)  # type: ignore[arg-type]
    assert await tracker.get_available_capacity("SURE-SNR") == 95_000 * TON


async def test_a_commit_after_a_withdrawal_is_refused_and_says_so(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-SNR", 1_000 * TON, 0)
    held = await tracker.reserve_coverage("SURE-SNR", 40 * TON, ttl_s=60, key="one")
    await tracker.update_capital("SURE-SNR", -990 * TON)
    with pytest.raises(ReservationEnded, match="bumped"):
        await tracker.commit_reservation(held.reservation_id)
    row = await tracker.get_tranche_utilization("SURE-SNR")
    assert (row.total_capital, row.coverage_sold) == (10 * TON, 0)


async def test_room_that_another_tracker_holds_is_free_again_when_its_time_is_over(
    tracker: UtilizationTracker, database: str
) -> None:
    """Nothing is announced when a reservation is late: it is counted by time, far before the 30 s of the cache."""
    await tracker.sync_from_chain("SURE-SNR", 10_000 * TON, 0)
    held = await tracker.reserve_coverage("SURE-SNR", 400 * TON, ttl_s=6, key="z")  # long enough to be read meanwhile
    async with UtilizationTracker(vault_id="lab", principal="other") as other:
        await other.init(database)
        assert await other.get_available_capacity("SURE-SNR") == 9_100 * TON
        async with asyncio.timeout(25):
            while await other.get_available_capacity("SURE-SNR") != 9_500 * TON:
                await asyncio.sleep(0.01)
    with pytest.raises(ReservationEnded, match="expired"):
        await tracker.commit_reservation(held.reservation_id)


# --- alerts without a daemon


async def test_updates_emit_the_documented_alerts_where_no_daemon_runs(database: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with UtilizationTracker(vault_id="main2") as tracker:
            await tracker.init(database)
            await tracker.create_vault("main2")
            await tracker.sync_from_chain("SURE-MEZZ", 1_000 * TON, 0)
            await asyncio.gather(*(tracker.update_coverage("SURE-MEZZ", 25 * TON) for _ in range(37)))
    said = [line for line in lines if line.get("alert_type")]
    assert [(line["event"], line["log_level"]) for line in said if line["alert_type"] == "High_Utilization"][-1:] == [
        ("⚠️  HIGH UTILIZATION: SURE-MEZZ of main2 at 92.50% (threshold: 90.00%)", "warning")
    ]
    assert any(line["event"].startswith("🚨 UNDERCOLLATERALIZED: SURE-MEZZ") for line in said)


async def test_queued_updates_and_commits_emit_alerts_too_and_never_twice(database: str) -> None:
    async with UtilizationTracker(vault_id="lab") as one, UtilizationTracker(vault_id="lab") as two:
        await one.init(database)
        await two.init(database)
        with structlog.testing.capture_logs() as lines:
            await one.create_vault("lab")
            await one.sync_from_chain("SURE-SNR", 1_000 * TON, 870 * TON)
            held = await two.reserve_coverage("SURE-SNR", 4 * TON, ttl_s=60, key="k")
            await two.enqueue_coverage("SURE-SNR", 30 * TON)
            await two.drain_queue()
            await two.commit_reservation(held.reservation_id)
            await one.close()
            await two.close()
    high = [line["event"] for line in lines if line.get("alert_type") == "High_Utilization"]
    assert len(high) == 1, high
    assert "HIGH UTILIZATION: SURE-SNR of lab at 90." in high[0]


async def test_a_daemon_that_runs_is_left_its_alerts(tracker: UtilizationTracker, database: str) -> None:
    """It alone knows of a webhook: what another process wrote down would never be sent."""
    conn = await connect(database)
    await take_ledger(conn)
    await tracker.sync_from_chain("SURE-SNR", 1_000 * TON, 960 * TON)
    await tracker.close()
    assert await conn.fetchval("SELECT count(*) FROM risk_alerts") == 0
    await conn.close()


async def test_a_short_history_gives_no_forecast_and_says_why(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-SNR", 1_000 * TON, 10 * TON)
    assert await tracker.predict_capacity_exhaustion("SURE-SNR") is None
    outlook = await tracker.read_outlook("SURE-SNR")
    assert outlook.outlook.reason == "insufficient_history"
