"""Two daemons on one database: one is active, the other takes over within seconds, and no event is posted twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from db.test_roles import as_role
from services.database_door import DatabaseDoor
from system.running import Running
from system.test_roles import program
from tonsurance.core.errors import InputError, UsageError
from tonsurance.core.events import VAULT_KIND
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.daemon_control import Chain, add_contract, await_backfill, show_contracts, show_daemons, want_contract
from tonsurance.db.pool import Connection
from tonsurance.services.replay import replay_ledger

SECONDS = 60.0
"""More than a takeover needs by far on a busy machine."""


class Daemons:
    """Daemons of the running stack's chain, each with a database of this test's."""

    def __init__(self, stack: Running, folder: Path, dsn: str, conn: Connection) -> None:
        chain = stack.status()
        self.url, self.vault, self.factory = (str(chain[name]) for name in ("chain_url", "vault", "factory"))
        self.dsn = dsn
        self.conn = conn
        self._folder = folder
        self._started = ExitStack()
        self.processes: list[subprocess.Popen[str]] = []
        self.cursors: dict[str, list[int]] = {}

    def start(self, dsn: str | None = None) -> int:
        """One more; its process id."""
        where = ("--network", self.url, "--vault", self.vault, "--factory", self.factory, "--poll-interval", "0.05")
        self.processes.append(self._started.enter_context(program(self._folder, dsn or self.dsn, "daemon", *where)))
        return self.processes[-1].pid

    def end(self) -> None:
        """End those that still run."""
        self._started.close()

    async def roles(self) -> dict[int, str]:
        """What each process said last of itself."""
        return {row["pid"]: row["role"] for row in await self.conn.fetch("SELECT pid, role FROM daemon_status")}

    async def until(self, done: Callable[[dict[int, str]], bool], what: str) -> None:
        """Wait for the roles to be such; the cursors are looked at all the time."""
        deadline = time.monotonic() + SECONDS
        while not done(await self.roles()):
            await self.look()
            assert time.monotonic() < deadline, f"waited for {what}: {await self.roles()}"
            await asyncio.sleep(0.02)

    async def look(self) -> None:
        """Note where the cursors stand."""
        for row in await self.conn.fetch("SELECT contract_address, last_synced_lt FROM blockchain_sync_state"):
            self.cursors.setdefault(row["contract_address"], []).append(row["last_synced_lt"])

    async def grows(self) -> None:
        """Wait for events posted from now on: whoever is active works."""
        before = await self.conn.fetchval("SELECT version FROM ledger_head")
        deadline = time.monotonic() + SECONDS
        while await self.conn.fetchval("SELECT version FROM ledger_head") <= before:
            await self.look()
            assert time.monotonic() < deadline, "nothing is posted"
            await asyncio.sleep(0.02)

    async def speaks(self) -> None:
        """Wait for what a daemon says of itself from now on."""
        asked = await self.conn.fetchval("SELECT now()")
        async with asyncio.timeout(SECONDS):
            while await self.conn.fetchval("SELECT max(heartbeat_at) FROM daemon_status") <= asked:
                await asyncio.sleep(0.02)

    async def check(self) -> None:
        """Cursors only went forward, the tables are the event log's, and each transaction was posted once."""
        for lts in self.cursors.values():
            assert lts == sorted(lts)
        found = await replay_ledger(self.dsn, DEFAULT_PARAMS, lambda _line: None)
        assert found.equal
        total = await self.conn.fetchval("SELECT sum(total_events_synced) FROM blockchain_sync_state")
        assert total == await self.conn.fetchval("SELECT count(*) FROM blockchain_events") > 0


@pytest.fixture
async def daemons(database: str, stack: Running, tmp_path: Path) -> AsyncIterator[Daemons]:
    async with as_role(database, None) as conn:
        found = Daemons(stack, tmp_path, database, conn)
        try:
            yield found
        finally:
            await asyncio.to_thread(found.end)


async def test_a_second_daemon_takes_over_from_one_that_is_killed(daemons: Daemons) -> None:
    first = daemons.start()
    await daemons.until(lambda roles: roles.get(first) == "active", "the first to lead")
    second = daemons.start()
    await daemons.until(lambda roles: roles.get(second) == "standby", "the second to stand by")
    await daemons.grows()
    os.kill(first, signal.SIGKILL)
    await daemons.until(lambda roles: roles.get(second) == "active", "the second to lead")
    await daemons.grows()
    third = daemons.start()
    await daemons.until(lambda roles: roles.get(third) == "standby", "the third to stand by")
    os.kill(second, signal.SIGTERM)
    await daemons.until(lambda roles: (roles[second], roles.get(third)) == ("stopped", "active"), "the third to lead")
    await daemons.grows()
    await asyncio.to_thread(daemons.end)
    await daemons.check()


async def test_a_daemon_that_lost_the_database_stands_by_when_it_comes_back(daemons: Daemons) -> None:
    door = DatabaseDoor(daemons.dsn)
    await door.open()
    try:
        first = daemons.start(door.dsn)
        await daemons.until(lambda roles: roles.get(first) == "active", "the first to lead")
        second = daemons.start()
        await daemons.until(lambda roles: roles.get(second) == "standby", "the second to stand by")
        await door.shut()
        await daemons.until(lambda roles: roles[second] == "active", "the second to lead")
        await daemons.grows()
        await door.open()
        await daemons.until(lambda roles: (roles[first], roles[second]) == ("standby", "active"), "the first to return")
        await daemons.grows()
        os.kill(second, signal.SIGKILL)
        await daemons.until(lambda roles: roles[first] == "active", "the first to lead again")
        await daemons.grows()
        await asyncio.to_thread(daemons.end)
        await daemons.check()
    finally:
        await door.shut()


async def test_a_daemon_says_its_health_when_it_is_asked(daemons: Daemons) -> None:
    """By a signal to its log, and by its row."""
    process = daemons.start()
    await daemons.until(lambda roles: roles.get(process) == "active", "it to lead")
    await daemons.grows()
    await daemons.speaks()
    os.kill(process, signal.SIGUSR1)
    await daemons.speaks()
    report = json.loads(await daemons.conn.fetchval("SELECT report FROM daemon_status"))
    assert {contract["contract"] for contract in report["contracts"]} == {daemons.vault, daemons.factory}
    assert {task["name"] for task in report["tasks"]} >= {"contracts", "alerts", "reservations", "history"}
    assert all(task["state"] == "running" and task["crashes"] == 0 for task in report["tasks"])
    assert report["endpoints"][0]["url"] == daemons.url
    daemons.processes[0].send_signal(signal.SIGTERM)
    said = (await asyncio.to_thread(daemons.processes[0].communicate, timeout=60))[0]
    for words in (
        "Uptime: 0.0",
        "Events processed: ",
        "Vault syncs: ",
        "Errors: ",
        "| Cached: ",
        "Event Stats: total=",
    ):
        assert words in said, words
    assert "Traceback" not in said


async def test_people_see_and_change_what_a_running_daemon_follows(daemons: Daemons) -> None:
    """By what the commands call, with the roles they take."""
    process = daemons.start()
    await daemons.until(lambda roles: roles.get(process) == "active", "it to lead")
    await daemons.grows()
    await daemons.speaks()
    anywhere = Chain(named=None, of_stack="")
    well, text = await asyncio.to_thread(show_daemons, daemons.dsn, as_json=False)
    assert "Uptime: " in text
    assert "task alerts: running, crashed 0 times" in text
    assert well == ("HEALTHY" in text and "DEGRADED" not in text)
    for wanted, status in (("paused", "paused"), ("active", "active"), ("paused", "paused"), ("backfill", "paused")):
        await asyncio.to_thread(want_contract, daemons.dsn, anywhere, daemons.factory, wanted, note="a test")
        if wanted == "backfill":
            await asyncio.to_thread(
                await_backfill, daemons.dsn, daemons.factory, wait_s=SECONDS, say=lambda _line: None
            )
        shown = json.loads(await asyncio.to_thread(show_contracts, daemons.dsn, as_json=True))
        [factory] = [row for row in shown if row["contract_address"] == daemons.factory]
        assert (factory["sync_status"], factory["note"]) == (status, "a test")
        await daemons.grows()
    with pytest.raises(InputError, match="on the list already"):
        await asyncio.to_thread(
            add_contract, daemons.dsn, anywhere, daemons.vault, kind=VAULT_KIND, vault_id="main",
            layout="tonsurance", note="",
        )  # fmt: skip
    other = Chain(named="http://127.0.0.1:1", of_stack="")
    with pytest.raises(UsageError, match="The daemon follows"):
        await asyncio.to_thread(want_contract, daemons.dsn, other, daemons.vault, "paused", note=None)
    assert daemons.vault in await asyncio.to_thread(show_contracts, daemons.dsn, as_json=False)
