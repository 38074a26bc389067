"""The configuration in PostgreSQL: a change is whole or not at all, in order, and told of."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from core.bad_values import bad_values
from core.test_parameters import SAMPLES
from services.config_story import ADA, APY, BOB, RATE, ROOT, change, fetch_value, open_store, put, run_sql
from tonsurance.bus.notify import Listener
from tonsurance.core.errors import DatabaseUnavailable, TonsuranceError, UsageError
from tonsurance.core.parameters.declaration import Kind
from tonsurance.core.parameters.registry import REGISTRY, UnknownParameter
from tonsurance.core.params import DEFAULT_PARAMS, InvalidParameters
from tonsurance.db.config import CHANNEL
from tonsurance.db.pool import Connection
from tonsurance.services.config_plan import EDITS_PER_HOUR
from tonsurance.services.config_store import (
    Actor,
    Applied,
    CageExceeded,
    ChainOwned,
    ConfigConflict,
    ConfigStore,
    Edit,
    EmergencyRefused,
    ParameterExists,
    UnknownVersion,
)

FEE = ("pilot", "fee")
EVERYTHING = """
SELECT md5(string_agg(t, '|' ORDER BY t)) FROM (
    SELECT p::text AS t FROM config_parameters p UNION ALL SELECT v::text FROM config_versions v
    UNION ALL SELECT a::text FROM config_audit_log a UNION ALL SELECT h::text FROM config_head h) AS every_row
"""


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


async def test_an_empty_database_holds_the_defaults(store: ConfigStore) -> None:
    assert await store.read() is DEFAULT_PARAMS
    rows = await store.list_parameters()
    assert [(row.category, row.key) for row in rows] == sorted(REGISTRY)
    assert {(row.id, row.version, row.updated_by) for row in rows} == {(None, 0, None)}
    assert await store.versions() == ()
    assert (await store.verify()).ok


async def test_the_first_change_keeps_the_defaults_as_version_one(store: ConfigStore) -> None:
    applied = await change(store, 16.0)
    assert (applied.version, [(c.name, c.old, c.new) for c in applied.changes]) == (2, [(APY, 15.0, 16.0)])
    assert [(row.version, row.kind, row.author) for row in await store.versions()] == [
        (2, "edit", "ada"),
        (1, "seed", "seed"),
    ]
    assert (await store.version(1)).hash == DEFAULT_PARAMS.hash
    params = await store.read()
    assert (params.version, params.hash, params.tranche("SURE-MEZZ").apy_max_pct) == (2, applied.params.hash, 16.0)


async def test_all_edits_of_a_request_hold_together(store: ConfigStore) -> None:
    edits = [put(("tranche", "SURE_SNR_apy_min"), 11.0), put(("tranche", "SURE_SNR_apy_max"), 12.0)]
    with pytest.raises(InvalidParameters, match="above tranche/SURE_SNR_apy_max, which is 10"):
        await store.apply(edits[:1], actor=ADA, reason="")
    assert (await store.apply(edits, actor=ADA, reason="")).params.tranche("SURE-SNR").apy_min_pct == 11.0
    back = Edit("tranche", "SURE_SNR_apy_min", "reset"), Edit("tranche", "SURE_SNR_apy_max", "reset")
    assert (await store.apply(back, actor=ADA, reason="")).params.hash == DEFAULT_PARAMS.hash


@pytest.mark.parametrize("kind", list(Kind))
async def test_200_bad_values_change_nothing_and_each_error_names_the_parameter(
    store: ConfigStore, database: str, kind: Kind
) -> None:
    await change(store, 16.0)
    parameter, before = REGISTRY[SAMPLES[kind]], await fetch_value(database, EVERYTHING)
    for value in bad_values(parameter):
        planned = await store.plan([put(parameter.name, value)])
        assert planned.candidate is None, value
        assert (parameter.category, parameter.key) in {(p.category, p.key) for p in planned.problems}, value
        with pytest.raises(InvalidParameters, match=parameter.key):
            await store.apply([put(parameter.name, value)], actor=ADA, reason="")
    assert await fetch_value(database, EVERYTHING) == before


async def test_all_that_is_wrong_is_named_at_once(store: ConfigStore) -> None:
    planned = await store.plan(
        [put(RATE, "0.05"), put(APY, 1.0), put(("risk", "withdraw_delay_s"), 5), put(("risk", "product_cap"), 2)]
    )
    assert [problem.key for problem in planned.problems] == [
        "withdraw_delay_s",
        "base_rate_USDC",
        "product_cap",
        "SURE_MEZZ_apy_min",
        "product_cap",
        "SURE_MEZZ_apy_max",
    ]
    assert isinstance(planned.refusal, ChainOwned)


async def test_what_a_contract_enforces_is_read_only_and_followed_from_the_chain_alone(store: ConfigStore) -> None:
    edit = put(("risk", "withdraw_delay_s"), 3_600)
    with pytest.raises(ChainOwned, match="risk/withdraw_delay_s"):
        await store.apply([edit], actor=ROOT, reason="", emergency=True)
    followed = await store.apply([edit], actor=ROOT, reason="read from the chain", kind="chain")
    assert followed.params.value("risk", "withdraw_delay_s") == 3_600
    with pytest.raises(ChainOwned, match="not enforced"):
        await store.apply([put(APY, 16.0)], actor=ROOT, reason="", kind="chain")
    back = await store.rollback(1, actor=ROOT, reason="")
    assert back.params.value("risk", "withdraw_delay_s") == 3_600


async def test_of_two_editors_who_saw_one_version_the_second_gets_a_conflict(store: ConfigStore) -> None:
    seen = (await change(store, 16.0)).version
    outcomes = await asyncio.gather(
        *(
            store.apply([put(APY, value)], actor=actor, reason="", expected_version=seen)
            for actor, value in ((ADA, 17.0), (BOB, 18.0))
        ),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Applied", "ConfigConflict"]
    assert (await store.read()).version == seen + 1
    other = await store.apply([put(RATE, 0.05)], actor=BOB, reason="", expected_version=seen)
    assert other.version == seen + 2  # a parameter nobody else touched
    with pytest.raises(ConfigConflict, match="does not exist"):
        await store.apply([put(RATE, 0.05)], actor=BOB, reason="", expected_version=99)


async def test_without_a_version_the_last_one_wins_and_none_is_lost(store: ConfigStore) -> None:
    values = [15.0 + n / 10 for n in range(12)]
    applied = await asyncio.gather(*(change(store, value) for value in values))
    assert sorted(one.version for one in applied) == list(range(2, 14))
    newest = max(applied, key=lambda one: one.version)
    assert (await store.read()).hash == newest.params.hash
    for one in applied:  # each knew what the one before had left
        before = await store.version(one.version - 1)
        assert before.values is not None
        assert before.values["tranche"]["SURE_MEZZ_apy_max"] == one.changes[0].old
    assert (await store.verify()).ok


async def test_a_rollback_is_a_new_version_equal_to_the_old_values(store: ConfigStore) -> None:
    await change(store, 16.0)
    await store.apply([Edit(*FEE, "create", 0.5, "float", "A pilot's fee")], actor=ADA, reason="")
    await change(store, 30.0)
    await store.apply([Edit(*FEE, "delete")], actor=ADA, reason="")
    three = await store.rollback(3, actor=BOB, reason="back")
    assert (three.version, three.params.hash) == (6, (await store.version(3)).hash)
    assert three.params.value(*FEE) == 0.5
    one = await store.rollback(1, actor=BOB, reason="further back")  # past the cage: these values have held
    assert (one.version, one.params.hash) == (7, DEFAULT_PARAMS.hash)
    assert [row.kind for row in await store.versions(limit=2)] == ["rollback", "rollback"]
    again = await store.rollback(1, actor=BOB, reason="once more")
    assert (again.version, again.changes) == (8, ())
    with pytest.raises(ConfigConflict, match="newest version is 8"):
        await store.rollback(2, actor=BOB, reason="", expected_version=7)
    with pytest.raises(UnknownVersion):
        await store.rollback(99, actor=BOB, reason="")
    assert (await store.verify()).ok


async def test_as_of_shows_what_held_then(store: ConfigStore) -> None:
    await store.seed(actor=ROOT)
    for value in (16.0, 17.0, 18.0):
        await change(store, value)
    rows = {row.version: row.created_at for row in await store.versions()}
    for version, time in rows.items():
        assert (await store.as_of(time)).version == version
        assert (await store.as_of(time + timedelta(microseconds=1))).version == version
    assert (await store.as_of(rows[3] - timedelta(microseconds=1))).version == 2
    assert (await store.as_of(datetime.now(UTC) + timedelta(days=1))).version == 4
    with pytest.raises(UnknownVersion, match="defaults held"):
        await store.as_of(rows[1] - timedelta(microseconds=1))


async def test_a_diff_names_what_differs_in_both_directions(store: ConfigStore) -> None:
    await change(store, 16.0)
    await store.apply([Edit(*FEE, "create", {"a": 1}, "json")], actor=ADA, reason="")
    assert [(c.name, c.action, c.old, c.new) for c in await store.diff(1, 3)] == [
        (FEE, "create", None, {"a": 1}),
        (APY, "set", 15.0, 16.0),
    ]
    assert [(c.name, c.action, c.old, c.new) for c in await store.diff(3, 2)] == [(FEE, "delete", {"a": 1}, None)]
    assert await store.diff(2, 2) == ()
    with pytest.raises(UnknownVersion):
        await store.diff(1, 9)


async def test_the_cage_bounds_step_and_frequency_and_only_an_admin_passes_it(store: ConfigStore) -> None:
    for value in (0.09, 0.01, 0.0):
        with pytest.raises(CageExceeded, match=r"factor of .*; the most of one edit is 2"):
            await change(store, value, RATE)
    with pytest.raises(EmergencyRefused):
        await store.apply([put(RATE, 0.09)], actor=ADA, reason="", emergency=True)
    await store.apply([put(RATE, 0.09)], actor=ROOT, reason="now", emergency=True)
    for turn in range(EDITS_PER_HOUR - 1):
        await change(store, 0.09 + turn / 1_000, RATE)
    with pytest.raises(CageExceeded, match=rf"changed {EDITS_PER_HOUR} times within an hour; the most is"):
        await change(store, 0.1, RATE)
    await change(store, 16.0)  # another parameter is free
    assert (await store.audit(limit=1, key=RATE[1], before=3))[0].emergency


FACTORS = DEFAULT_PARAMS.value("pricing", "risk_factors_USDC")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (("pricing", "stablecoin_adjustment_USDC"), 0.5, "would change by 0.5; the most of one edit is 0.005"),
        (("pricing", "risk_weight_regulatory_clarity"), 1.0, "would change by 1.1; the most of one edit is 0.1"),
        (("pricing", "stress_slope"), 0.0, "would change by 2; the most of one edit is 1"),
        (("pricing", "trigger_adjustment_factor"), 1.0, "would change by 0.5; the most of one edit is 0.25"),
        (("pricing", "risk_factors_USDC"), {**FACTORS, "reserve_quality": 1.0}, "reserve_quality would change by 0.9"),  # type: ignore[dict-item]
        (("risk", "min_collateralization"), 10.0, "would change by 8.9; the most of one edit is 0.25"),
        (("risk", "reservation_max_share"), 1.0, "factor of 20; the most of one edit is 2"),
        (("risk", "product_cap"), 0.001, "factor of 250"),
        (("risk", "chain_cap"), 0.25, "factor of 2.4"),
        (("tranche", "SURE_MEZZ_curve_type"), "QUADRATIC", "emergency override"),
    ],
    ids=lambda case: case[1] if isinstance(case, tuple) else "",
)
async def test_every_parameter_of_money_has_a_cage(
    store: ConfigStore, name: tuple[str, str], value: object, said: str
) -> None:
    with pytest.raises(CageExceeded, match=said):
        await store.apply([put(name, value)], actor=ADA, reason="")
    applied = await store.apply([put(name, value)], actor=ROOT, reason="now", emergency=True)
    assert applied.version == 2


async def test_a_step_within_the_cage_is_taken_also_from_and_to_zero(store: ConfigStore) -> None:
    steps: tuple[tuple[tuple[str, str], object], ...] = (
        (("pricing", "stablecoin_adjustment_USDC"), 0.005),
        (("pricing", "stablecoin_adjustment_USDC"), 0.0),
        (("pricing", "risk_weight_regulatory_clarity"), 0.0),
        (("pricing", "risk_factors_USDC"), {**FACTORS, "reserve_quality": 0.3, "banking_exposure": 0.0}),  # type: ignore[dict-item]
        (("risk", "min_collateralization"), 1.35),
    )
    for name, value in steps:
        assert (await store.apply([put(name, value)], actor=ADA, reason="")).changes[0].new == value


async def test_a_real_change_names_every_error_as_a_dry_run_does(store: ConfigStore) -> None:
    edits = [
        put(("risk", "withdraw_delay_s"), 5),
        put(RATE, "0.05"),
        put(("risk", "product_cap"), 0.001),
        Edit(*APY, "create", 1.0, "float"),
    ]
    planned = await store.plan(edits)
    with pytest.raises(ChainOwned) as refused:
        await store.apply(edits, actor=ADA, reason="")
    assert refused.value.problems == planned.problems
    assert {problem.key for problem in planned.problems} >= {edit.key for edit in edits}
    assert isinstance(planned.refusal, ChainOwned)
    assert planned.refusal.problems == planned.problems


async def test_keys_people_add_live_and_go(store: ConfigStore) -> None:
    with pytest.raises(UnknownParameter):
        await store.apply([put(FEE, 1)], actor=ADA, reason="")
    for bad in (
        Edit("Pilot", "fee", "create", 1, "int"),
        Edit("pilot", "fee\u0000", "create", 1, "int"),
        Edit("pilot", "é", "create", 1, "int"),
        Edit("pilot", "x" * 101, "create", 1, "int"),
        Edit(*FEE, "create", 1, "number"),
        Edit(*FEE, "create", "1", "int"),
        Edit(*FEE, "create", math.nan, "json"),
    ):
        with pytest.raises(InvalidParameters):
            await store.apply([bad], actor=ADA, reason="")
    created = await store.apply([Edit(*FEE, "create", 1, "float", "A fee")], actor=ADA, reason="")
    assert created.params.value(*FEE) == 1.0
    [row] = await store.list_parameters("pilot")
    assert (row.custom, row.value_type, row.value_data, row.description, row.version) == (
        True,
        "float",
        1.0,
        "A fee",
        2,
    )
    for taken in (FEE, RATE, ("tranche", "SURE_BTC_config")):
        with pytest.raises(ParameterExists):
            await store.apply([Edit(*taken, "create", 1, "float")], actor=ADA, reason="")
    with pytest.raises(InvalidParameters, match="must be a number"):
        await store.apply([put(FEE, "x")], actor=ADA, reason="")
    with pytest.raises(InvalidParameters, match="can be deleted"):
        await store.apply([Edit(*FEE, "reset")], actor=ADA, reason="")
    with pytest.raises(InvalidParameters, match="cannot be deleted"):
        await store.apply([Edit(*RATE, "delete")], actor=ADA, reason="")
    with pytest.raises(InvalidParameters, match="edited twice"):
        await store.apply([put(FEE, 1.0), put(FEE, 2.0)], actor=ADA, reason="")
    assert (await store.apply([Edit(*FEE, "delete")], actor=ADA, reason="")).params.hash == DEFAULT_PARAMS.hash
    assert await store.list_parameters("pilot") == ()


@pytest.mark.parametrize(
    "value", [1e22, -1e-300, 0.1 + 0.2, 5e-324, 123456789.123456789, [1.0, 1, {"b": 1, "a": 1e20}]]
)
async def test_what_is_stored_is_what_is_hashed(store: ConfigStore, value: object) -> None:
    kind = "json" if isinstance(value, list) else "float"
    applied = await store.apply([Edit(*FEE, "create", value, kind)], actor=ADA, reason="")
    assert (await store.read()).hash == applied.params.hash
    assert float(applied.params.value(*FEE)) == value if kind == "float" else True  # type: ignore[arg-type]
    assert (await store.verify()).ok


async def test_a_dry_run_is_audited_and_changes_nothing(store: ConfigStore, database: str) -> None:
    await change(store, 16.0)
    values = (999.99, "not_a_number", math.nan, "\ud800", "\u0000", "x" * 100_000, None)
    for value in values:
        await store.record_dry_run([put(RATE, value)], actor=BOB, reason="trying")
    await store.record_dry_run([put(("no\u0000", "where"), 1)], actor=BOB, reason="trying")
    rows = await store.audit(limit=20, category="pricing")
    assert [(row.dry_run, row.changed_by, row.version, row.old_value) for row in rows] == [(True, "bob", 2, 0.04)] * 7
    assert rows[-1].new_value == 999.99
    assert (await store.read()).version == 2
    assert (
        await fetch_value(database, "SELECT value_data::text FROM config_parameters WHERE key = 'base_rate_USDC'")
        == "0.04"
    )
    assert (await store.verify()).ok


async def test_the_audit_log_says_who_what_where_and_why(store: ConfigStore) -> None:
    await change(store, 16.0)
    await change(store, 0.05, RATE, BOB)
    newest, older, seed = await store.audit(limit=10)
    assert (newest.changed_by, newest.role, newest.client_ip, newest.request_id) == (
        "bob",
        "editor",
        "2001:db8::7",
        "r-2",
    )
    assert (older.category, older.key, older.old_value, older.new_value) == (*APY, 15.0, 16.0)
    assert (older.change_reason, older.version, older.dry_run, older.client_ip) == ("a test", 2, False, "10.1.2.3")
    assert (seed.action, seed.version) == ("seed", 1)
    assert [row.id for row in await store.audit(limit=10, before=newest.id)] == [2, 1]
    assert [row.id for row in await store.audit(limit=10, category="tranche")] == [2]
    for limit in (0, 1_001):
        with pytest.raises(UsageError):
            await store.audit(limit=limit)


@pytest.mark.parametrize(
    ("actor", "reason"),
    [
        (Actor("", "editor"), ""),
        (Actor("a" * 101, "editor"), ""),
        (Actor("a\u0000", "editor"), ""),
        (Actor("a", "editor", "not an address"), ""),
        (Actor("a", "editor", None, "r" * 101), ""),
        (ADA, "x" * 1_001),
        (ADA, "a\u0000"),
        (ADA, "\ud800"),
    ],
)
async def test_a_request_that_cannot_be_written_down_changes_nothing(
    store: ConfigStore, database: str, actor: Actor, reason: str
) -> None:
    before = await fetch_value(database, EVERYTHING)
    with pytest.raises(UsageError):
        await store.apply([put(APY, 16.0)], actor=actor, reason=reason)
    assert await fetch_value(database, EVERYTHING) == before


async def test_an_error_inside_undoes_the_change(store: ConfigStore, database: str) -> None:
    await change(store, 16.0)
    before = await fetch_value(database, EVERYTHING)

    async def refuse(_conn: Connection, applied: Applied) -> None:
        assert applied.version == 3
        raise ConfigConflict("no")

    with pytest.raises(ConfigConflict, match="no"):
        await store.apply([put(APY, 17.0)], actor=ADA, reason="", inside=refuse)
    assert await fetch_value(database, EVERYTHING) == before


_DYING = """
import asyncio, os, signal, sys
from tonsurance.services.config_store import Actor, ConfigStore, Edit
from tonsurance.services.lazy_pool import LazyPool

async def die(conn, applied):
    sys.stdout.write(str(applied.version)); sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = ConfigStore(LazyPool(sys.argv[1]))
    edits = [Edit("tranche", f"SURE_{name}_apy_max", "set", 24.0) for name in ("MEZZ", "JNR", "EQT")]
    await store.apply(edits, actor=Actor("ada", "editor"), reason="", inside=die)

asyncio.run(main())
"""


async def test_a_process_killed_in_the_middle_of_a_change_leaves_nothing_half(
    store: ConfigStore, database: str
) -> None:
    await change(store, 16.0)
    before = await fetch_value(database, EVERYTHING)
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _DYING, database], capture_output=True, check=False, env=dict(os.environ)
    )
    assert (process.returncode, process.stdout) == (-signal.SIGKILL, b"3"), process.stderr
    assert await fetch_value(database, EVERYTHING) == before
    assert (await change(store, 17.0)).version == 3  # its lock is gone with it
    assert (await store.verify()).ok


async def test_a_server_process_killed_in_the_middle_leaves_nothing_half(store: ConfigStore, database: str) -> None:
    await change(store, 16.0)
    before = await fetch_value(database, EVERYTHING)

    async def kill(conn: Connection, _applied: Applied) -> None:
        await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseUnavailable):
        await store.apply([put(APY, 17.0)], actor=ADA, reason="", inside=kill)
    assert await fetch_value(database, EVERYTHING) == before
    assert (await change(store, 17.0)).version == 3


async def test_a_change_is_announced_when_it_holds_and_not_before(store: ConfigStore, database: str) -> None:
    heard: asyncio.Queue[int | None] = asyncio.Queue()
    stop = asyncio.Event()
    listening = asyncio.create_task(Listener(database, heard.put_nowait, channel=CHANNEL).run(stop))
    assert await asyncio.wait_for(heard.get(), 60) is None

    async def fail(_conn: Connection, _applied: Applied) -> None:
        raise ConfigConflict("no")

    with pytest.raises(ConfigConflict):
        await store.apply([put(APY, 16.0)], actor=ADA, reason="", inside=fail)
    await change(store, 16.0)
    assert [await asyncio.wait_for(heard.get(), 60) for _ in range(2)] == [1, 2]  # the defaults, then the change
    stop.set()
    await listening


async def test_rows_are_not_changed_by_hand(store: ConfigStore, database: str) -> None:
    await change(store, 16.0)
    conn = await asyncpg.connect(database)
    for statement in (
        "UPDATE config_parameters SET value_data = '99' WHERE key = 'base_rate_USDC'",
        "UPDATE config_parameters SET key = 'base_rate_XXX', version = 3 WHERE key = 'base_rate_USDC'",
        "DELETE FROM config_parameters WHERE key = 'base_rate_USDC'",
        "UPDATE config_versions SET hash = hash",
        "DELETE FROM config_versions",
        "UPDATE config_audit_log SET changed_by = 'nobody'",
        "DELETE FROM config_audit_log",
        "TRUNCATE config_audit_log",
    ):
        with pytest.raises(asyncpg.PostgresError, match=r"append-only|by the admin API"):
            await conn.execute(statement)
    await conn.close()


async def test_an_unusable_version_is_an_error_and_can_be_rolled_back(store: ConfigStore, database: str) -> None:
    await change(store, 16.0)
    spoil = "jsonb_set(values, '{tranche,SURE_MEZZ_apy_max}', '999')"
    await run_sql(database, f"UPDATE config_versions SET values = {spoil} WHERE version = 2")
    with pytest.raises(TonsuranceError, match="hash does not fit"):
        await store.read()
    assert (await store.rollback(1, actor=ROOT, reason="mend")).params.hash == DEFAULT_PARAMS.hash
    assert (await store.read()).version == 3
