"""The processes take the database's roles: with logins that may do nothing by themselves they work all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from db.test_roles import as_role, login
from ports import free_port
from system.processes import wait_until
from system.running import Running
from tonsurance.db.roles import ADMIN, API, INGEST

WAIT_S = 60


@contextmanager
def program(home: Path, dsn: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, as an operator starts it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DB_"))}
    env |= {"TONSURANCE_HOME": str(home), "DATABASE_URL": dsn, "JWT_SECRET": "07" * 32, "DB_POOL_SIZE": "2"}
    command = [sys.executable, "-m", "tonsurance", *arguments]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


async def _value(dsn: str, sql: str) -> object:
    async with as_role(dsn, None) as owner:
        return await owner.fetchval(sql)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


async def test_api_and_daemon_work_with_logins_that_own_nothing(database: str, stack: Running, tmp_path: Path) -> None:
    """The chain is the running stack's; the database is another one."""
    chain = stack.status()
    where = ("--network", str(chain["chain_url"]), "--vault", str(chain["vault"]), "--factory", str(chain["factory"]))
    port = free_port()
    async with login(database, INGEST, ADMIN) as follower, login(database, API, ADMIN) as reader:
        with (
            program(tmp_path, follower, "daemon", *where, "--poll-interval", "0.1"),
            program(tmp_path, reader, "api", "--port", str(port)),
        ):
            url = f"http://127.0.0.1:{port}"
            await asyncio.to_thread(wait_until, lambda: _is_ready(url), timeout_s=WAIT_S, what=url)
            names = await _value(
                database,
                "SELECT array_agg(DISTINCT usename::text || ' ' || application_name) FROM pg_stat_activity"
                f" WHERE datname = current_database() AND usename::text IN ('{_name(follower)}', '{_name(reader)}')",
            )
            assert isinstance(names, list)
            assert {name.partition(" ")[2] for name in names} >= {
                "tonsurance daemon",
                "tonsurance-writer",
                "tonsurance-listener",
                "tonsurance-config daemon",
                "tonsurance-config api",
                "tonsurance api",
            }
            most = await _value(
                database,
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tonsurance api'"
                f" AND usename::text = '{_name(reader)}'",
            )
            assert isinstance(most, int)
            assert 1 <= most <= 2
        assert await _value(database, "SELECT version FROM ledger_head") != 0


async def test_a_daemon_whose_login_may_not_write_says_what_to_grant(
    database: str, stack: Running, tmp_path: Path
) -> None:
    chain = stack.status()
    where = ("--network", str(chain["chain_url"]), "--vault", str(chain["vault"]), "--factory", str(chain["factory"]))
    async with login(database, API) as reader:
        with program(tmp_path, reader, "daemon", *where) as process:
            said = await asyncio.to_thread(lambda: process.communicate(timeout=WAIT_S)[0])
        assert process.returncode != 0
        assert "may not take the role tonsurance_ingest" in said
        assert "GRANT tonsurance_ingest TO" in said
        assert "Traceback" not in said


def _name(dsn: str) -> str:
    return dsn.partition("//")[2].partition("@")[0]
