"""Depegs and scenarios: seeded once, audited in the one chain, and figures that know nothing from zero."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tonsurance.core.dataset_seeds import SEED_DEPEGS, SEED_SCENARIOS
from tonsurance.core.datasets import DEPEGS, SCENARIOS, Depeg, Scenario
from tonsurance.core.errors import InputError
from tonsurance.core.products import STABLECOINS
from tonsurance.db.pool import connect
from tonsurance.services.admin_limits import Forbidden
from tonsurance.services.config_migrate import migrate_config, report_lines
from tonsurance.services.config_plan import Actor, ConfigConflict
from tonsurance.services.config_store import ConfigStore, Edit
from tonsurance.services.datasets import Datasets, EntryExists, InvalidEntry, UnknownEntry
from tonsurance.services.lazy_pool import LazyPool

EDITOR, APPROVER = Actor("eve", "editor", "10.0.0.1"), Actor("ann", "approver")
YEAR = timedelta(days=365.25)
EVENT = Depeg(
    asset="USDY",
    min_price=0.95,
    timestamp=datetime(2025, 6, 1, 12, tzinfo=UTC),
    duration_seconds=3_600,
    recovery_time_seconds=7_200,
    source="coingecko",
)
SCENARIO = Scenario(
    scenario_name="Quiet year",
    description="Nothing happens.",
    scenario_type="none",
    asset_impacts={"USDC": 1.0},
    btc_impact=0.0,
    correlation_shift=0.0,
    severity_level="low",
)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[LazyPool]:
    pool = LazyPool(database)
    yield pool
    await pool.close()


@pytest.fixture
def datasets(pool: LazyPool) -> Datasets:
    return Datasets(pool, approvals=True)


async def test_fourteen_depegs_and_four_scenarios_are_seeded_and_a_second_time_changes_nothing(
    pool: LazyPool, datasets: Datasets
) -> None:
    store = ConfigStore(pool)
    report = await migrate_config(store)
    assert (report.depegs, report.scenarios, report.ok) == (14, 4, True)
    assert any("historical depegs loaded: 14" in line for line in report_lines(report))
    head = (await store.verify()).head
    again = await migrate_config(store)
    assert (again.depegs, again.scenarios, (await store.verify()).head) == (0, 0, head)
    rows = await datasets.list_depegs()
    assert {row.entry for row in rows} == set(SEED_DEPEGS)
    assert len({row.entry.asset for row in rows if isinstance(row.entry, Depeg)}) == 11
    assert [row.entry for row in reversed(await datasets.list_scenarios())] == list(SEED_SCENARIOS)


async def test_what_people_took_out_or_changed_is_not_seeded_again(datasets: Datasets) -> None:
    await datasets.seed()
    first, second, *_ = await datasets.list_depegs()
    await datasets.delete(DEPEGS, first.id, actor=APPROVER, reason="not a depeg")
    assert isinstance(second.entry, Depeg)
    other = msgspec.structs.replace(second.entry, min_price=0.5, verified=False)
    await datasets.update(second.id, other, actor=APPROVER, reason="lower")
    assert await datasets.seed() == (0, 0)
    left = await datasets.list_depegs()
    assert len(left) == 13
    assert other in [row.entry for row in left]


async def test_statistics_are_what_arithmetic_says_and_nothing_on_record_is_not_zero(
    datasets: Datasets, database: str
) -> None:
    await datasets.seed()
    since, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    window = await datasets.statistics(since, until)
    assert {coin.asset for coin in window.coins} == set(STABLECOINS)
    years = (until - since) / YEAR
    for coin in window.coins:
        prices = [event.min_price for event in SEED_DEPEGS if event.asset == coin.asset]
        if not prices:
            assert (coin.events, coin.frequency, coin.severity, coin.expected_loss) == (0, None, None, None)
            continue
        frequency, severity = len(prices) / years, sum(1 - price for price in prices) / len(prices)
        assert coin.frequency == pytest.approx(frequency)
        assert coin.severity == pytest.approx(severity)
        assert coin.expected_loss == pytest.approx(frequency * severity)
    with pytest.raises(InputError):
        await datasets.statistics(until, since)
    conn = await connect(database)
    loss = await conn.fetchval("SELECT depeg_expected_loss('USDC', $1, $2, 10000)::float8", since, until)
    assert loss == pytest.approx(2 / years * 0.08 * 10_000)
    later = datetime(2024, 3, 11, tzinfo=UTC)
    probability = "SELECT depeg_probability($1, 0.97, 5, $2)::float8"
    assert await conn.fetchval(probability, "USDC", later) == pytest.approx(2 / 5)
    assert await conn.fetchval(probability, "USDP", later) == 0.0  # on record, but never as low as .97
    assert await conn.fetchval(probability, "USDe", later) is None
    assert await conn.fetchval("SELECT depeg_frequency('USDC', $1, $1)", since) is None
    recent = await conn.fetch("SELECT asset, has_data FROM v_recent_depegs")
    assert {row["asset"] for row in recent} == set(STABLECOINS)
    assert not any(row["has_data"] for row in recent)
    severe = await conn.fetchrow("SELECT * FROM v_depeg_statistics WHERE asset = 'USDC'")
    assert severe is not None
    assert (severe["events"], severe["severe_events"], float(severe["worst_price"])) == (2, 2, 0.88)
    await conn.close()


async def test_only_what_another_person_has_verified_counts(datasets: Datasets) -> None:
    row = await datasets.create(EVENT, actor=EDITOR, reason="seen")
    window = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))

    async def events() -> int:
        [coin] = [c for c in (await datasets.statistics(*window)).coins if c.asset == "USDY"]
        return coin.events

    assert await events() == 0
    checked = msgspec.structs.replace(EVENT, verified=True)
    with pytest.raises(Forbidden, match="approver"):
        await datasets.update(row.id, checked, actor=EDITOR, reason="")
    with pytest.raises(Forbidden, match="themselves"):
        await datasets.update(row.id, checked, actor=Actor("EVE", "admin"), reason="")
    verified = await datasets.update(row.id, checked, actor=APPROVER, reason="looked it up", expected_version=1)
    assert (verified.verified_by, verified.version, await events()) == ("ann", 2, 1)
    with pytest.raises(Forbidden):  # another content is not the one that was verified
        await datasets.update(row.id, msgspec.structs.replace(checked, min_price=0.5), actor=EDITOR, reason="")
    with pytest.raises(ConfigConflict):
        await datasets.update(row.id, EVENT, actor=EDITOR, reason="", expected_version=1)


async def test_the_statistics_by_coin_count_verified_depegs_alone_and_nothing_is_no_zero(
    datasets: Datasets, database: str
) -> None:
    await datasets.create(EVENT, actor=EDITOR, reason="seen")
    conn = await connect(database)
    query = (
        "SELECT events, verified_events, severe_events, worst_price, has_data FROM v_depeg_statistics WHERE asset = $1"
    )
    assert tuple(await conn.fetchrow(query, EVENT.asset) or ()) == (1, 0, None, None, False)
    await datasets.seed()
    lower = msgspec.structs.replace(EVENT, asset="USDC", min_price=0.1)
    await datasets.create(lower, actor=EDITOR, reason="seen")
    usdc = await conn.fetchrow(query, "USDC")
    assert usdc is not None
    assert (*tuple(usdc)[:3], float(usdc["worst_price"]), usdc["has_data"]) == (3, 2, 2, 0.88, True)
    await conn.close()


OTHER_APPROVER, CHECKED = Actor("cyd", "approver"), msgspec.structs.replace(EVENT, verified=True)


async def test_who_wrote_the_present_content_never_verifies_it(datasets: Datasets) -> None:
    row = await datasets.create(EVENT, actor=EDITOR, reason="seen")
    verified = await datasets.update(row.id, CHECKED, actor=APPROVER, reason="looked it up")
    lower = msgspec.structs.replace(CHECKED, min_price=0.2)
    for actor in (APPROVER, OTHER_APPROVER, Actor("root", "admin")):  # rewriting and verifying in one step
        with pytest.raises(Forbidden, match="themselves"):
            await datasets.update(row.id, lower, actor=actor, reason="lower")
        trial = datasets.try_update(row.id, lower, actor=actor, reason="lower")
        with pytest.raises(Forbidden, match="themselves"):
            await trial
    assert await datasets.find(DEPEGS, row.id) == verified
    open_again = msgspec.structs.replace(lower, verified=False)
    changed = await datasets.update(row.id, open_again, actor=APPROVER, reason="lower")
    assert (changed.verified_by, changed.entered_by) == (None, "eve")
    for spelling in ("ann", "ANN"):  # and in two steps
        with pytest.raises(Forbidden, match="themselves"):
            await datasets.update(row.id, lower, actor=Actor(spelling, "admin"), reason="checked")
    again = await datasets.update(row.id, lower, actor=OTHER_APPROVER, reason="checked")
    assert (again.verified_by, again.entered_by) == ("cyd", "eve")


async def test_a_small_correction_by_another_does_not_make_ones_own_content_anothers(datasets: Datasets) -> None:
    row = await datasets.create(EVENT, actor=APPROVER, reason="seen")
    noted = msgspec.structs.replace(EVENT, notes="a note", timestamp=EVENT.timestamp + timedelta(seconds=1))
    await datasets.update(row.id, noted, actor=EDITOR, reason="with a note, and another name")
    checked = msgspec.structs.replace(noted, verified=True)
    for author in (APPROVER, Actor("eve", "approver")):
        with pytest.raises(Forbidden, match="themselves"):
            await datasets.update(row.id, checked, actor=author, reason="")
    assert (await datasets.update(row.id, checked, actor=OTHER_APPROVER, reason="")).verified_by == "cyd"


async def test_what_is_verified_is_changed_and_taken_out_by_approvers_alone(datasets: Datasets) -> None:
    row = await datasets.create(EVENT, actor=EDITOR, reason="seen")
    await datasets.update(row.id, CHECKED, actor=APPROVER, reason="looked it up")
    for other in (EVENT, msgspec.structs.replace(EVENT, min_price=0.5)):
        with pytest.raises(Forbidden, match="approver"):
            await datasets.update(row.id, other, actor=EDITOR, reason="")
    with pytest.raises(Forbidden, match="approver"):
        await datasets.delete(DEPEGS, row.id, actor=EDITOR, reason="")
    assert (await datasets.find(DEPEGS, row.id)).verified_by == "ann"
    await datasets.update(row.id, EVENT, actor=APPROVER, reason="doubted")
    await datasets.delete(DEPEGS, row.id, actor=EDITOR, reason="not a depeg")


BAD_EVENTS: dict[str, dict[str, object]] = {
    "asset": {"asset": "USDX"},
    "min_price": {"min_price": float("nan")},
    "timestamp": {"timestamp": datetime(2025, 6, 1)},  # noqa: DTZ001
    "duration_seconds": {"duration_seconds": 0},
    "recovery_time_seconds": {"recovery_time_seconds": 3_599},
    "source": {"source": ""},
    "event_name": {"event_name": "a\x00b"},
}


@pytest.mark.parametrize("field", BAD_EVENTS)
async def test_a_bad_event_names_the_field_and_changes_nothing(datasets: Datasets, field: str) -> None:
    bad = msgspec.structs.replace(EVENT, **BAD_EVENTS[field])
    with pytest.raises(InvalidEntry) as refused:
        await datasets.create(bad, actor=EDITOR, reason="")
    assert [problem.key for problem in refused.value.problems] == [field]
    trial = await datasets.try_create(bad, actor=EDITOR, reason="")
    assert (trial.valid, trial.errors) == (False, refused.value.problems)
    assert await datasets.list_depegs() == ()


async def test_every_mistake_is_listed(datasets: Datasets) -> None:
    values = [float("inf"), -1.0, 0.0, 1.0, 1e300, 0.123456789]
    for price in values:
        with pytest.raises(InvalidEntry):
            await datasets.create(msgspec.structs.replace(EVENT, min_price=price), actor=EDITOR, reason="")
    bad = Scenario(
        scenario_name="",
        description="x" * 1001,
        scenario_type="banking",
        asset_impacts={"USDC": 3.0, "XXX": 1.0},
        btc_impact=-2.0,
        correlation_shift=0.333,
        severity_level="worst",
        probability_annual=float("nan"),
    )
    with pytest.raises(InvalidEntry) as refused:
        await datasets.create(bad, actor=EDITOR, reason="")
    assert {problem.key for problem in refused.value.problems} == {
        "scenario_name", "description", "asset_impacts", "btc_impact", "correlation_shift", "severity_level",
        "probability_annual",
    }  # fmt: skip
    assert len(refused.value.problems) == 8


async def test_one_name_is_one_entry(datasets: Datasets) -> None:
    await datasets.create(EVENT, actor=EDITOR, reason="")
    with pytest.raises(EntryExists):
        await datasets.create(EVENT, actor=EDITOR, reason="")
    later = await datasets.create(
        msgspec.structs.replace(EVENT, timestamp=EVENT.timestamp + timedelta(seconds=1)), actor=EDITOR, reason=""
    )
    with pytest.raises(EntryExists):
        await datasets.update(later.id, EVENT, actor=EDITOR, reason="")
    scenario = await datasets.create(SCENARIO, actor=EDITOR, reason="")
    renamed = await datasets.update(
        scenario.id, msgspec.structs.replace(SCENARIO, scenario_name="Calm"), actor=EDITOR, reason=""
    )
    assert renamed.entry.key == "Calm"
    with pytest.raises(UnknownEntry):
        await datasets.find(SCENARIOS, 2**40)


async def test_a_dry_run_shows_what_the_change_then_does_and_changes_nothing(datasets: Datasets) -> None:
    await datasets.seed()
    now = datetime.now(UTC).replace(microsecond=0)
    event = msgspec.structs.replace(EVENT, timestamp=now - timedelta(days=10), verified=True)
    with pytest.raises(Forbidden, match="themselves"):
        await datasets.try_create(event, actor=APPROVER, reason="")
    alone = Datasets(datasets._pool, approvals=False)
    trial = await alone.try_create(event, actor=APPROVER, reason="would it?")
    assert trial.valid
    [(before, after)] = trial.statistics
    assert (before.asset, before.events, before.frequency, after.events) == ("USDY", 0, None, 1)
    assert len(await datasets.list_depegs()) == 14
    await alone.create(event, actor=APPROVER, reason="")
    [coin] = [coin for coin in (await alone.statistics()).coins if coin.asset == "USDY"]
    assert coin.severity == after.severity == pytest.approx(0.05)


async def test_the_audit_chain_holds_over_parameters_and_data_sets_and_finds_a_row_changed_by_hand(
    pool: LazyPool, datasets: Datasets, database: str
) -> None:
    store = ConfigStore(pool)
    await datasets.seed()
    await store.apply([Edit("pricing", "base_rate_USDC", "set", 0.041)], actor=EDITOR, reason="a little more")
    row = await datasets.create(EVENT, actor=EDITOR, reason="seen")
    await datasets.try_create(SCENARIO, actor=EDITOR, reason="tried")
    report = await store.verify()
    assert report.ok, report.faults
    [tried, created, *_] = await store.audit(limit=3)
    assert (tried.category, tried.dry_run) == (SCENARIOS, True)
    assert (created.category, created.key, created.action) == (DEPEGS, "USDY@2025-06-01T12:00:00Z", "create")
    assert (created.changed_by, created.client_ip, created.change_reason) == ("eve", "10.0.0.1", "seen")
    conn = await connect(database)
    await conn.execute("UPDATE historical_depegs SET min_price = 0.94 WHERE id = $1", row.id)
    [fault] = (await store.verify()).faults
    assert (fault.table, fault.row) == (DEPEGS, "USDY@2025-06-01T12:00:00Z")
    await conn.execute("DELETE FROM historical_depegs WHERE id = $1", row.id)
    await conn.execute("DELETE FROM stress_scenarios WHERE scenario_name = 'Crypto Crash'")
    assert [fault.row for fault in (await store.verify()).faults] == ["USDY@2025-06-01T12:00:00Z", "Crypto Crash"]
    await conn.close()


@pytest.mark.parametrize("flip", ["entered_by = 'mal'", "verified_by = 'mal'", "version = 9"])
async def test_who_entered_and_who_verified_is_proved(
    pool: LazyPool, datasets: Datasets, database: str, flip: str
) -> None:
    store = ConfigStore(pool)
    await datasets.seed()
    row = await datasets.create(EVENT, actor=EDITOR, reason="seen")
    later = msgspec.structs.replace(CHECKED, timestamp=EVENT.timestamp + timedelta(seconds=5))
    await datasets.update(row.id, msgspec.structs.replace(later, verified=False), actor=EDITOR, reason="another name")
    await datasets.update(row.id, later, actor=APPROVER, reason="looked it up")
    await datasets.update(row.id, later, actor=OTHER_APPROVER, reason="nothing new")
    gone = await datasets.create(EVENT, actor=OTHER_APPROVER, reason="the first name is free again")
    await datasets.delete(DEPEGS, gone.id, actor=OTHER_APPROVER, reason="")
    await datasets.create(EVENT, actor=APPROVER, reason="and again")
    found = await datasets.find(DEPEGS, row.id)
    assert (found.entered_by, found.verified_by, found.version) == ("eve", "ann", 4)
    assert (await store.verify()).ok, (await store.verify()).faults
    conn = await connect(database)
    await conn.execute(f"UPDATE historical_depegs SET {flip} WHERE id = $1", row.id)
    await conn.close()
    assert [(fault.table, fault.row) for fault in (await store.verify()).faults] == [(DEPEGS, later.key)]
