"""The tracker as a library: the documents' examples with their numbers, and what it says when it cannot answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.database_door import DatabaseDoor
from tonsurance.core.errors import (
    CapacityExceeded,
    DatabaseUnavailable,
    IdempotencyConflict,
    InputError,
    LedgerRefused,
    NotInitialized,
    StaleFigures,
    UnknownTranche,
    UnknownVault,
    VaultFollowsChain,
)
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.units import BIGINT_MAX, NANO_PER_TON
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
    with pytest.raises(UnknownVault):
        await tracker.get_vault_utilization("nowhere", "SURE-BTC")
    for name in ("", "UPPER", "a" * 65, "ä", "x;y", "-x"):
        with pytest.raises(InputError):
            await tracker.create_vault(name)
    for key in ("", "x" * 256, "a\nb", "ключ"):
        with pytest.raises(InputError, match="key"):
            await tracker.update_capital("SURE-BTC", 1, key=key)


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
        async with asyncio.timeout(10):
            while not other.get_statistics()["listening"]:
                await asyncio.sleep(0.01)
        await tracker.update_capital("SURE-BTC", 42)
        async with asyncio.timeout(10):  # far below the 30 s that figures may grow old without a notification
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
    with pytest.raises(InputError):
        UtilizationTracker.calculate_utilization_ratio(-1, 0)


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
        with pytest.raises(DatabaseUnavailable):
            await tracker.update_capital("SURE-BTC", 1, key="later")
        await door.open()
        async with asyncio.timeout(20):
            while not await _posted(tracker):
                await asyncio.sleep(0.05)
        assert (await tracker.get_tranche_utilization("SURE-BTC")).total_capital == 43
    await door.shut()


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


async def test_a_short_history_gives_no_forecast_and_says_why(tracker: UtilizationTracker) -> None:
    await tracker.sync_from_chain("SURE-SNR", 1_000 * TON, 10 * TON)
    assert await tracker.predict_capacity_exhaustion("SURE-SNR") is None
    outlook = await tracker.read_outlook("SURE-SNR")
    assert outlook.outlook.reason == "insufficient_history"
