"""The driver's errors become ours in one place: an outage says so, a refused value says so, a fault stays a fault."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tonsurance.core.errors import DatabaseUnavailable, InputError, LedgerRefused, MigrationError, TonsuranceError
from tonsurance.core.events import FACTORY_KIND, GENESIS, VAULT_KIND
from tonsurance.db.events import record_head, register_contract, select_cursor, select_sync_states
from tonsurance.db.pool import acquire, connect, driver_errors, open_pool

VAULT, OTHER = "0:" + "11" * 32, "0:" + "22" * 32


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseUnavailable),
        ("SET statement_timeout = '10ms'; SELECT pg_sleep(5)", DatabaseUnavailable),
        ("BEGIN READ ONLY; CREATE TABLE t ()", DatabaseUnavailable),
        ("INSERT INTO vaults (vault_id, source) VALUES ('main', 'chain')", LedgerRefused),
        ("SELECT 9223372036854775807 + 1", LedgerRefused),
        ("SELECT * FROM no_such_table", MigrationError),
        ("SELEKT", asyncpg.PostgresSyntaxError),
    ],
)
async def test_each_kind_of_failure_has_its_own_error(database: str, sql: str, expected: type[Exception]) -> None:
    conn = await connect(database)
    with pytest.raises(expected), driver_errors():
        await conn.execute(sql)
    conn.terminate()


@pytest.mark.parametrize("dsn", ["postgresql://u@127.0.0.1:1/d", "postgresql://u@/d?host={empty}", "not a dsn"])
async def test_a_database_that_cannot_be_reached_is_an_outage(tmp_path: Path, dsn: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        await connect(dsn.format(empty=tmp_path))
    with pytest.raises(DatabaseUnavailable):
        await open_pool(dsn.format(empty=tmp_path))


async def test_an_exhausted_pool_is_an_error_in_time(database: str) -> None:
    pool = await open_pool(database, max_size=1)
    async with acquire(pool):
        with pytest.raises(DatabaseUnavailable, match="in time"):
            async with acquire(pool, timeout_s=0.05):
                pass
    await pool.close()


async def test_an_unknown_database_is_an_outage_with_its_name(database: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="no_such_database"):
        await connect(database.replace("/tonsurance_test", "/no_such_database"))


async def test_a_contract_is_registered_once_and_never_differently(database: str) -> None:
    conn = await connect(database)
    assert await select_cursor(conn, VAULT) is None
    for _ in range(2):
        await register_contract(conn, VAULT, VAULT_KIND, "main")
    assert await select_cursor(conn, VAULT) == GENESIS
    for head_lt in (30, 20):  # a server that lags behind does not take the head back
        await record_head(conn, VAULT, head_lt)
    (state,) = await select_sync_states(conn)
    assert (state.head_lt, state.cursor, state.sync_status) == (30, GENESIS, "active")
    await conn.execute("INSERT INTO vaults (vault_id, source) VALUES ('manual', 'direct')")
    for contract, kind, vault_id in (
        (VAULT, FACTORY_KIND, "main"),
        (VAULT, VAULT_KIND, "second"),
        (OTHER, VAULT_KIND, "main"),
        (OTHER, VAULT_KIND, "manual"),
    ):
        with pytest.raises(InputError):
            await register_contract(conn, contract, kind, vault_id)
    assert await select_cursor(conn, OTHER) is None
    assert await conn.fetchval("SELECT count(*) FROM vaults") == 2
    with pytest.raises(TonsuranceError), driver_errors():
        await register_contract(conn, OTHER, VAULT_KIND, "Not A Name")
    await conn.close()
