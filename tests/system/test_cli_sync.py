"""`tonsurance sync` as people call it."""

from __future__ import annotations

import asyncio
import json

from system.processes import wait_until
from system.running import Running, command
from system.test_cli import NOBODY, call
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.db.pool import connect


def test_a_running_stack_is_reconciled_and_a_planted_drift_repaired(stack: Running) -> None:
    done = command(stack, "sync", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["equal"], len(found["runs"])) == (0, True, 1)
    assert [tranche["tranche_id"] for tranche in found["runs"][0]["tranches"]] == list(TRANCHE_IDS)
    asyncio.run(lose_an_entry(str(stack.status()["database_url"])))
    told = command(stack, "sync", "--no-repair")
    assert told.returncode == 1, told.stdout
    assert "ledger_entries: 1 missing, DepositMade" in told.stdout
    said = command(stack, "sync")
    lines = said.stdout.splitlines()
    assert said.returncode == 0, said.stdout
    assert lines[0] == "=== Vault Sync Summary ==="
    assert lines[1].startswith("  SURE_BTC: capital=")
    assert lines[-1].startswith("Repaired: the ledger is the chain's at block ")
    assert "Equal: the ledger is the chain's" in command(stack, "sync").stdout
    assert command(stack, "replay").returncode == 0


async def lose_an_entry(dsn: str) -> None:
    conn = await connect(dsn)
    await conn.execute("SET session_replication_role = replica")
    gone = await conn.execute(
        "DELETE FROM ledger_entries WHERE entry_id = (SELECT min(entry_id) FROM ledger_entries"
        " WHERE capital_delta_nanoton > 0)"
    )
    assert gone == "DELETE 1"
    await conn.close()


def test_no_chain_and_no_database_are_said_so(database: str) -> None:
    away = call("sync", "--network", "http://127.0.0.1:1", "--vault", NOBODY, "--database-url", database, "--wait", "1")
    assert away.returncode == 3
    assert "Traceback" not in away.stderr
    none = call(
        "sync", "--network", "http://127.0.0.1:1", "--vault", NOBODY, "--database-url", "postgresql://127.0.0.1:1/x"
    )
    assert none.returncode == 3


def test_the_daemon_reconciles_by_itself_and_health_says_so(stack: Running) -> None:
    def counted() -> bool:
        said = command(stack, "health")
        assert said.returncode == 0, said.stdout
        return "Vault syncs: 0" not in said.stdout

    wait_until(counted, timeout_s=60, what="a reconciliation by the daemon")
    listed = command(stack, "contracts", "list")
    assert listed.returncode == 0, listed.stderr
    assert "MultiTrancheVault of main" in listed.stdout
    assert "PolicyFactory of main" in listed.stdout


def test_every_followed_vault_is_compared_and_one_by_name(stack: Running) -> None:
    vault = str(stack.status()["vault"])
    for arguments in ([], ["--vault", vault]):
        said = command(stack, "verify", "--json", *arguments)
        assert said.returncode == 0, said.stderr
        assert [found["contract"] for found in json.loads(said.stdout)["vaults"]] == [vault]
        ran = command(stack, "sync", "--json", *arguments)
        assert [run["contract"] for run in json.loads(ran.stdout)["runs"]] == [vault]
