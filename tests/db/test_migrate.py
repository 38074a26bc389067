"""The schema: applied once, by one process, and never from a file that was changed afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.servers import DatabaseServer
from tonsurance.core.errors import DatabaseUnavailable, MigrationError
from tonsurance.db.migrate import MIGRATIONS, load_migrations, migrate
from tonsurance.db.pool import connect

_ONE_PROCESS = """
import asyncio, pathlib, sys
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect

async def main():
    conn = await connect(sys.argv[1])
    report = await migrate(conn, folder=pathlib.Path(sys.argv[2]))
    await conn.close()
    print(len(report.applied))

asyncio.run(main())
"""


@pytest.fixture
def empty(each_server: DatabaseServer) -> Iterator[str]:
    dsn = each_server.create_empty()
    yield dsn
    each_server.drop(dsn)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "001_first.sql").write_text("CREATE TABLE first (id int); CREATE TABLE more (id int);")
    (tmp_path / "002_second.sql").write_text("CREATE TABLE second (id int);")
    return tmp_path


async def tables(dsn: str) -> set[str]:
    conn = await connect(dsn)
    rows = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await conn.close()
    return {row["tablename"] for row in rows}


async def migrate_in(dsn: str, folder: Path, *, dry_run: bool = False) -> tuple[str, ...]:
    conn = await connect(dsn)
    try:
        return (await migrate(conn, folder=folder, dry_run=dry_run)).applied
    finally:
        await conn.close()


async def test_a_second_run_changes_nothing(empty: str) -> None:
    names = tuple(migration.name for migration in load_migrations())
    assert await migrate_in(empty, MIGRATIONS) == names
    assert await migrate_in(empty, MIGRATIONS) == ()
    assert {"vaults", "blockchain_events", "tranche_utilization", "policies"} <= await tables(empty)


async def test_a_later_file_is_applied_alone(empty: str, folder: Path) -> None:
    await migrate_in(empty, folder)
    (folder / "003_third.sql").write_text("CREATE TABLE third (id int);")
    assert await migrate_in(empty, folder) == ("003_third.sql",)


async def test_a_dry_run_names_the_files_and_changes_nothing(empty: str, folder: Path) -> None:
    assert await migrate_in(empty, folder, dry_run=True) == ("001_first.sql", "002_second.sql")
    assert await tables(empty) == set()


async def test_of_four_processes_at_once_one_does_the_work(empty: str, folder: Path) -> None:
    (folder / "003_slow.sql").write_text("SELECT pg_sleep(0.3); CREATE TABLE slow (id int);")
    processes = [
        subprocess.Popen([sys.executable, "-c", _ONE_PROCESS, empty, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
    assert sorted(out.strip() for out, _ in said) == ["0", "0", "0", "3"]


async def test_an_edited_file_is_refused_by_name(empty: str, folder: Path) -> None:
    await migrate_in(empty, folder)
    (folder / "001_first.sql").write_text("CREATE TABLE first (id bigint);")
    with pytest.raises(MigrationError, match=r"001_first\.sql was changed"):
        await migrate_in(empty, folder)


async def test_a_failing_file_is_rolled_back_whole_and_earlier_ones_stay(empty: str, folder: Path) -> None:
    (folder / "003_bad.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"003_bad\.sql failed .* division by zero"):
        await migrate_in(empty, folder)
    assert await tables(empty) == {"schema_migrations", "first", "more", "second"}
    (folder / "003_bad.sql").write_text("CREATE TABLE whole (id int);")
    assert await migrate_in(empty, folder) == ("003_bad.sql",)


async def test_a_newer_database_is_refused(empty: str, folder: Path) -> None:
    await migrate_in(empty, folder)
    (folder / "002_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer than this program: it has 002_second\.sql"):
        await migrate_in(empty, folder)


@pytest.mark.parametrize("name", ["003_gap.sql", "001_double.sql", "2_unnumbered.sql"])
def test_numbers_have_no_gap_and_no_double(tmp_path: Path, name: str) -> None:
    (tmp_path / "001_first.sql").write_text("SELECT 1;")
    (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError):
        load_migrations(tmp_path)


async def test_a_lock_that_is_never_free_is_an_error_not_a_hang(empty: str, folder: Path) -> None:
    holder, waiter = await connect(empty), await connect(empty)
    await holder.execute("SELECT pg_advisory_lock(x'746F6E5F6D696772'::bigint)")
    with pytest.raises(MigrationError, match="Another process"):
        await migrate(waiter, folder=folder, wait_s=0.0)
    await holder.close()
    await waiter.close()


async def test_an_outage_is_not_a_schema_error(empty: str, folder: Path) -> None:
    (folder / "003_dies.sql").write_text("SELECT pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(DatabaseUnavailable):
        await migrate_in(empty, folder)
    assert await tables(empty) == {"schema_migrations", "first", "more", "second"}


async def test_a_ledger_from_before_claims_keeps_its_rows_and_has_lost_nothing(empty: str, tmp_path: Path) -> None:
    for path in sorted(MIGRATIONS.glob("00[123]_*.sql")):
        (tmp_path / path.name).write_text(path.read_text())
    await migrate_in(empty, tmp_path)
    conn = await connect(empty)
    await conn.execute(OLD_ROWS)
    assert (await migrate(conn)).applied[0] == "004_claims.sql"
    for table, column in (
        ("ledger_entries", "loss_delta_nanoton"),
        ("tranche_utilization", "absorbed_losses_nanoton"),
        ("tranche_utilization_history", "absorbed_losses_nanoton"),
    ):
        assert [row[0] for row in await conn.fetch(f"SELECT {column} FROM {table}")] == [0]
        default = "SELECT column_default FROM information_schema.columns WHERE table_name = $1 AND column_name = $2"
        assert await conn.fetchval(default, table, column) is None  # from now on it must be said
    assert await conn.fetchval("SELECT status FROM policies WHERE approved_nanoton IS NULL") == "active"
    for change in ("status = 'approved'", "approved_nanoton = 1", "status = 'approved', approved_nanoton = 101"):
        with pytest.raises(Exception, match="policies_appro"):
            await conn.execute(f"UPDATE policies SET {change}")
    await conn.execute("UPDATE policies SET status = 'approved', approved_nanoton = 100")
    await conn.close()


OLD_ROWS = """
INSERT INTO ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id, capital_delta_nanoton,
    coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton, shares_delta, ledger_version)
VALUES ('0:aa', 1, 0, 'main', 'SURE-BTC', 5, 0, 0, 0, 5, 1);
INSERT INTO tranche_utilization VALUES ('main', 'SURE-BTC', 5, 0, 0, 0, 5, 0, 0, false, 4, 1, 0, NULL, now(), 1, 1);
INSERT INTO tranche_utilization_history (vault_id, tranche_id, logical_time, message_index, recorded_at,
    total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton, shares,
    utilization_ratio, utilization_raw, insolvent, current_apy, params_version)
VALUES ('main', 'SURE-BTC', 1, 0, now(), 5, 0, 0, 0, 5, 0, 0, false, 4, 1);
INSERT INTO policies (contract_address, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id,
    buyer_address, beneficiary_address, coverage_amount_nanoton, premium_nanoton, trigger_bps, floor_bps, start_time,
    expiry_time, status, created_lt, created_message_index, created_at, ledger_version)
VALUES ('0:bb', 1, 'main', 1, 0, 1, 0, '0:cc', '0:cc', 100, 1, 9700, 9000, now(), now(), 'active', 1, 0, now(), 1);
"""
