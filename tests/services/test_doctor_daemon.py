"""Doctor finds the documents' troubles of the daemon, each planted alone, and says what to do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from db.chain_story import VAULT, register
from tonsurance.core.prices import Price
from tonsurance.db.pool import Connection, connect
from tonsurance.db.prices import insert_price
from tonsurance.services.doctor import Diagnosis, Patient, examine
from tonsurance.services.doctor_daemon import DAEMON_CHECKS

SAY = """
INSERT INTO daemon_status (instance_id, role, status, host, pid, network, started_at, heartbeat_at, report)
VALUES ($1, $2, $3, 'host-a', 7, 'testnet', now(), now() - make_interval(secs => $4), '{}')
"""
RUN = """
INSERT INTO vault_sync_results (vault_id, contract_address, status, seqno, logical_time, transaction_hash, differences,
    error_code, error_message, started_at)
VALUES ('main', $1, $2, 1, 1, 'aa', $3, $4, $5, now())
"""


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    await register(database)
    conn = await connect(database)
    yield conn
    await conn.close()


async def findings(dsn: str) -> dict[str, Diagnosis]:
    return {found.check: found for found in await examine(Patient(dsn=dsn), DAEMON_CHECKS)}


async def test_where_nothing_was_ever_said_nothing_is_judged(database: str, conn: Connection) -> None:
    found = await findings(database)
    assert found.keys() == {"database connection", "connections"}
    assert all(one.ok for one in found.values())


async def test_a_healthy_daemon_is_well_also_beside_older_ones(database: str, conn: Connection) -> None:
    await conn.execute(SAY, "old", "stopped", "UNHEALTHY", 3600.0)
    await conn.execute(SAY, "other", "standby", "HEALTHY", 0.0)
    await conn.execute(SAY, "now", "active", "HEALTHY", 3.0)
    assert (await findings(database))["daemon"].ok


@pytest.mark.parametrize(
    ("role", "status", "age_s", "named", "advised"),
    [
        ("active", "DEGRADED", 1.0, "DEGRADED", "TON_API_KEY"),
        ("active", "HEALTHY", 300.0, "nothing for 300 s", "restart"),
        ("standby", "HEALTHY", 1.0, "none is active", "takes over"),
        ("stopped", "HEALTHY", 5.0, "was stopped", "systemctl start"),
    ],
)
async def test_a_daemon_that_is_not_well_is_named(
    database: str, conn: Connection, role: str, status: str, age_s: float, named: str, advised: str
) -> None:
    await conn.execute(SAY, "one", role, status, age_s)
    fault = (await findings(database))["daemon"]
    assert not fault.ok
    assert named in fault.finding
    assert "host-a" in fault.finding
    assert advised in fault.advice


async def test_the_last_reconciliation_decides(database: str, conn: Connection) -> None:
    await conn.execute(RUN, VAULT, "drifted", 2, None, None)
    fault = (await findings(database))["reconciliation"]
    assert (fault.ok, fault.finding) == (False, "main: drifted, 2 differences")
    assert "tonsurance sync" in fault.advice
    await conn.execute(RUN, VAULT, "failed", 0, "chain_unavailable", "the TON API is away")
    assert "the TON API is away" in (await findings(database))["reconciliation"].finding
    await conn.execute(RUN, VAULT, "equal", 0, None, None)
    assert (await findings(database))["reconciliation"].ok


async def test_a_price_that_is_old_is_named(database: str, conn: Connection) -> None:
    for age_s, well in ((900.0, False), (1.0, True)):
        await insert_price(conn, Price(asset="TON", usd=Decimal(5), source="market", observed_at=time.time() - age_s))
        price = (await findings(database))["TON price"]
        assert price.ok is well, price.finding
        assert well or "PRICE_URL" in price.advice


async def test_a_server_without_connections_left_is_named(database: str, conn: Connection) -> None:
    most = int(await conn.fetchval("SHOW max_connections"))
    used = await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    reserved = int(await conn.fetchval("SHOW superuser_reserved_connections"))
    crowd = [await connect(database) for _ in range(most - used - reserved - 1)]
    try:
        fault = (await findings(database))["connections"]
    finally:
        for one in crowd:
            await one.close()
    assert not fault.ok
    assert "DB_POOL_SIZE" in fault.advice
    assert (await findings(database))["connections"].ok
