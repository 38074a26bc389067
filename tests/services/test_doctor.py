"""Doctor finds each fault that is planted, names it, and says what to do; a healthy system is all well."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from api.running import running_api
from db.chain_story import batch, deposit, register, transaction
from db.servers import DatabaseServer
from services.database_door import DatabaseDoor
from tonsurance import metrics
from tonsurance.api.settings import ApiSettings
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import record_fault, record_head
from tonsurance.db.pool import Connection, connect
from tonsurance.services.config_plan import Actor, Edit
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.doctor import Diagnosis, Patient, examine
from tonsurance.services.doctor_checks import CHECKS, describe, encode
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter

TON = 10**9
EVE = Actor("eve", "admin")
VAULT = "0:" + "aa" * 32


@pytest.fixture
async def healthy(database: str) -> AsyncIterator[Connection]:
    """A ledger with a deposit in each tranche, followed up to its head, with its writer there; yields a connection."""
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(10, *(deposit(tranche, 100 * TON) for tranche in range(1, 7)))))
    conn = await connect(database)
    for row in await conn.fetch("SELECT contract_address, last_synced_lt FROM blockchain_sync_state"):
        await record_head(conn, row["contract_address"], row["last_synced_lt"])
    yield conn
    await conn.close()
    await writer.close()


async def faults_of(patient: Patient) -> dict[str, Diagnosis]:
    return {found.check: found for found in await examine(patient, CHECKS) if not found.ok}


async def only_fault_of(dsn: str) -> Diagnosis:
    """The one fault doctor finds; every other check must be well."""
    [fault] = (await faults_of(Patient(dsn=dsn))).values()
    assert fault.advice
    return fault


async def change(dsn: str, *edits: Edit) -> None:
    pool = LazyPool(dsn)
    await ConfigStore(pool).apply(edits, actor=EVE, reason="a test")
    await pool.close()


async def test_a_healthy_system_is_all_well(database: str, healthy: Connection, tmp_path: Path) -> None:
    ledger = PostgresLedgerReader(database)
    metrics.CONFIG_VERSION.set(1)
    metrics.CONFIG_DEGRADED.set(0)
    async with running_api(ledger, settings=ApiSettings(port=0, poll_interval_s=0.05)) as api:
        url = f"http://127.0.0.1:{api.port}"
        patient = Patient(dsn=database, api_url=url, home=tmp_path, pids={"api": os.getpid()})
        found = await examine(patient, CHECKS)
    await ledger.close()
    assert [diagnosis for diagnosis in found if not diagnosis.ok] == []
    assert len(found) == 13
    assert describe(found)[-1] == "13 checks, all well."
    rows = msgspec.json.decode(encode(found))
    assert all(set(row) == {"check", "ok", "finding", "advice"} for row in rows)


@pytest.mark.parametrize(
    ("dsn", "advice"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", "pg_isready"),
        ("{server}/missing", "DB_NAME"),
        ("{stranger}", "DB_USER"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_the_fault_and_nothing_is_called_well(
    database: str, dsn: str, advice: str
) -> None:
    parts = urlsplit(database)
    server = database.replace(parts.path, "", 1)
    stranger = database.replace(f"{parts.username}@", "stranger:secret-word@", 1)
    wanted = dsn.format(server=server, stranger=stranger)
    if dsn == "{server}/missing":
        wanted = database.replace(parts.path, "/missing", 1)
    found = await examine(Patient(dsn=wanted), CHECKS)
    assert found[0].check == "database connection"
    assert advice in found[0].advice
    assert not any(diagnosis.ok for diagnosis in found)
    assert all("not checked" in diagnosis.finding for diagnosis in found[1:])
    assert "secret-word" not in encode(found)


async def test_a_database_behind_a_shut_door_is_told(database: str) -> None:
    door = DatabaseDoor(database)
    faults = await faults_of(Patient(dsn=door.dsn))
    assert "cannot be reached" in faults["database connection"].finding


async def test_missing_migrations_are_named(pg: DatabaseServer, database: str) -> None:
    conn = await connect(database)
    await conn.execute("DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)")
    await conn.close()
    faults = await faults_of(Patient(dsn=database))
    assert "tonsurance migrate" in faults["schema"].advice
    assert ".sql" in faults["schema"].finding


async def test_a_ledger_that_nobody_writes_is_told(database: str) -> None:
    faults = await faults_of(Patient(dsn=database))
    assert set(faults) == {"ledger writer", "following"}
    assert "daemon" in faults["ledger writer"].advice


async def test_a_contract_in_error_is_told_with_its_reason(database: str, healthy: Connection) -> None:
    await record_fault(healthy, VAULT, "transaction 11 is missing")
    fault = await only_fault_of(database)
    assert (fault.check, "transaction 11 is missing" in fault.finding) == ("following", True)


async def test_a_contract_nobody_reads_is_told(database: str, healthy: Connection) -> None:
    await healthy.execute("UPDATE blockchain_sync_state SET last_sync_timestamp = now() - interval '5 minutes'")
    fault = await only_fault_of(database)
    assert "300 s ago" in fault.finding


async def test_a_value_changed_by_hand_is_told(database: str, healthy: Connection) -> None:
    await change(database, Edit("risk", "high_utilization", "set", 0.91))
    assert await faults_of(Patient(dsn=database)) == {}
    await healthy.execute("ALTER TABLE config_parameters DISABLE TRIGGER ALL")
    await healthy.execute("UPDATE config_parameters SET value_data = '0.5' WHERE key = 'high_utilization'")
    fault = await only_fault_of(database)
    assert fault.check == "configuration as stored"
    assert "risk/high_utilization" in fault.finding


async def test_an_api_that_did_not_take_a_change_is_told(database: str, healthy: Connection) -> None:
    await change(database, Edit("risk", "high_utilization", "set", 0.91))
    ledger = PostgresLedgerReader(database)
    async with running_api(ledger, settings=ApiSettings(port=0, poll_interval_s=0.05)) as api:
        patient = Patient(dsn=database, api_url=f"http://127.0.0.1:{api.port}")
        metrics.CONFIG_DEGRADED.set(0)
        metrics.CONFIG_VERSION.set(1)
        faults = await faults_of(patient)
        assert set(faults) == {"configuration cache"}
        assert "uses version 1, the newest is 2" in faults["configuration cache"].finding
        assert "reload" in faults["configuration cache"].advice
        metrics.CONFIG_VERSION.set(2)
        assert await faults_of(patient) == {}
        metrics.CONFIG_DEGRADED.set(1)
        assert "not from the database" in (await faults_of(patient))["configuration cache"].finding
    metrics.CONFIG_DEGRADED.set(0)
    await ledger.close()


async def test_a_daemon_that_did_not_take_a_change_is_told(database: str, healthy: Connection) -> None:
    await change(database, Edit("risk", "high_utilization", "set", 0.91))
    await healthy.execute("ALTER TABLE config_versions DISABLE TRIGGER ALL")
    await healthy.execute("UPDATE config_versions SET created_at = created_at - $1::interval", timedelta(minutes=1))
    faults = await faults_of(Patient(dsn=database))
    assert "posted with version 1" in faults["changes are reflected"].finding
    assert "daemon" in faults["changes are reflected"].advice


async def test_a_change_of_what_nothing_uses_yet_is_told(database: str, healthy: Connection) -> None:
    await change(database, Edit("risk", "var_confidence_99", "set", 0.98))
    fault = await only_fault_of(database)
    assert "risk/var_confidence_99 (awaits risk engine)" in fault.finding


async def test_an_apy_that_is_not_the_curves_is_told(database: str, healthy: Connection) -> None:
    await healthy.execute("UPDATE tranche_utilization SET current_apy = 7.5 WHERE tranche_id = 'SURE-SNR'")
    fault = await only_fault_of(database)
    assert (fault.check, "SURE-SNR" in fault.finding) == ("APY", True)
    await healthy.execute("UPDATE tranche_utilization SET current_apy = 6.5 WHERE tranche_id = 'SURE-SNR'")
    await healthy.execute("UPDATE tranche_utilization SET ledger_version = 0")
    assert "stand at 0" in (await only_fault_of(database)).finding


async def test_what_is_gone_around_it_is_told(database: str, healthy: Connection, tmp_path: Path) -> None:
    patient = Patient(
        dsn=database,
        api_url="http://127.0.0.1:1",
        chain_url="http://127.0.0.1:1",
        home=tmp_path,
        pids={"daemon": 2**22 + 1},
    )
    faults = await faults_of(patient)
    assert set(faults) == {"TON API", "API", "configuration cache", "tranche cache", "processes"}
    assert "daemon" in faults["processes"].finding


async def test_a_cache_that_always_misses_is_told(database: str, healthy: Connection) -> None:
    ledger = PostgresLedgerReader(database)
    async with running_api(ledger, settings=ApiSettings(port=0, poll_interval_s=0.05, stale_after_s=0.0)) as api:
        for _ in range(60):
            await api.get("/api/v1/utilization/SURE-SNR")
        patient = Patient(dsn=database, api_url=f"http://127.0.0.1:{api.port}")
        faults = await faults_of(patient)
        assert "reads found fresh figures just now" in faults["tranche cache"].finding
    async with running_api(ledger, settings=ApiSettings(port=0, poll_interval_s=0.05)) as api:
        assert "tranche cache" not in await faults_of(Patient(dsn=database, api_url=f"http://127.0.0.1:{api.port}"))
    await ledger.close()


async def test_a_cache_that_misses_now_is_told_however_well_it_did_before(database: str, healthy: Connection) -> None:
    ledger = PostgresLedgerReader(database)
    async with running_api(ledger, settings=ApiSettings(port=0, poll_interval_s=0.05)) as api:
        reads, patient = api.parts.reads, Patient(dsn=database, api_url=f"http://127.0.0.1:{api.port}")
        reads.hits += 1_000_000
        reads.stale_after_s = 0.0
        assert "reads found fresh figures just now" in (await faults_of(patient))["tranche cache"].finding
        reads.stale_after_s, reads.misses = 60.0, reads.misses + 9_000_000
        assert "tranche cache" not in await faults_of(patient)
    await ledger.close()


@pytest.mark.parametrize(
    ("key", "value", "least"), [("reservation_max_share", 0.05, 1e-4), ("product_cap", 0.25, 1e-3)]
)
async def test_a_cap_configured_far_below_what_the_tranches_have_is_told(
    database: str, healthy: Connection, key: str, value: float, least: float
) -> None:
    while value > least:  # one edit may halve it at most
        value = max(least, value / 2)
        await change(database, Edit("risk", key, "set", value))
    fault = await only_fault_of(database)
    assert (fault.check, f"risk/{key} leaves" in fault.finding) == ("capacity", True)
    assert "config set" in fault.advice


async def test_capacity_that_is_too_tight_is_told_with_what_takes_it(database: str, healthy: Connection) -> None:
    await change(database, Edit("risk", "enforce_min_collateralization", "set", True))
    await healthy.execute(
        "UPDATE tranche_utilization SET coverage_sold_nanoton = $1, utilization_ratio = 0.94, utilization_raw = 0.94,"
        " current_apy = 9.8226 WHERE tranche_id = 'SURE-SNR'",
        94 * TON,
    )
    faults = await faults_of(Patient(dsn=database))
    assert "SURE-SNR refuses because of min_collateralization" in faults["capacity"].finding
    await change(database, Edit("risk", "enforce_min_collateralization", "set", False))
    assert "capacity" not in await faults_of(Patient(dsn=database))


@pytest.mark.parametrize("ahead", [5.0, -5.0])
async def test_a_clock_that_is_off_is_told(database: str, healthy: Connection, ahead: float) -> None:
    [fault] = (await faults_of(Patient(dsn=database, clock=lambda: time.time() + ahead))).values()
    assert (fault.check, "differ by 5.0 s" in fault.finding) == ("clock", True)
    assert "NTP" in fault.advice
