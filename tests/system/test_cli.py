"""The command line: exit codes, clear words about bad input, and following contracts by URL."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from system.processes import wait_until
from system.running import Running
from tonsurance.chain.addresses import format_friendly
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.db.pool import connect

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "transactions.json"
NOBODY = "0:" + "00" * 31 + "01"
TEST_ONLY = format_friendly(NOBODY, test_only=True)


def call(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DB_"))}
    return subprocess.run(
        [sys.executable, "-m", "tonsurance", *arguments],
        env=kept | env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "Unknown command"),
        (["run", "--bogus"], "--bogus"),
        (["run", "--speed", "fast"], "speed"),
        (["run", "--speed", "-1"], "speed"),
        (["run", "--speed", "nan"], "speed"),
        (["run", "--network", "testnet"], "--vault is missing"),
        (["daemon", "--network", "mainet", "--vault", NOBODY, "--factory", NOBODY], "mainnet, testnet or URLs"),
        (["daemon", "--network", "mainnet", "--vault", "EQbad", "--factory", NOBODY], "not a TON address"),
        (["daemon", "--network", "mainnet", "--vault", TEST_ONLY, "--factory", NOBODY], "test networks"),
        (["daemon", "--network", "testnet", "--vault", NOBODY, "--factory", NOBODY], "same address"),
        (["daemon", "--network", "testnet", "--db-password", "x"], "DB_PASSWORD_FILE"),
        (["daemon", "--network", "testnet", "--db-password=x"], "DB_PASSWORD_FILE"),
        (["migrate"], "DATABASE_URL"),
        (["replay"], "DATABASE_URL"),
        (["replay", "--from", "1"], "--from"),
        (["verify"], "tonsurance run"),
        (["verify", "--network", "testnet"], "--vault is missing"),
        (["verify", "--network", "testnet", "--vault", "EQbad"], "not a TON address"),
        (["verify", "--network", "mainnet", "--vault", TEST_ONLY], "test networks"),
        (["verify", "--network", "testnet", "--vault", NOBODY], "DATABASE_URL"),
        (["verify", "--network", "testnet", "--vault", NOBODY, "--wait", "-1"], "--wait"),
        (["verify", "--network", "testnet", "--vault", NOBODY, "--wait", "nan"], "--wait"),
        (["localnet", "mine", "5"], "tonsurance run"),
        (["events", "decode", "--contract-kind", "MultiTrancheVault", "--transaction", "/nowhere"], "cannot be read"),
        (["events", "decode", "--contract-kind", "MultiTrancheVault", "--transaction", "-"], "BOC"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_why(arguments: list[str], said: str, tmp_path: Path) -> None:
    answer = call(*arguments, stdin="no boc!", TONSURANCE_HOME=str(tmp_path / "none"))
    assert answer.returncode == 2, answer.stderr
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "none").exists()


def test_an_unreachable_dependency_ends_with_3(tmp_path: Path) -> None:
    home = str(tmp_path / "none")
    answer = call("migrate", DATABASE_URL="postgresql://127.0.0.1:1/none", TONSURANCE_HOME=home)
    assert (answer.returncode, "cannot be reached" in answer.stderr) == (3, True), answer.stderr


@pytest.mark.parametrize(
    "arguments", [["replay"], ["verify", "--network", "http://127.0.0.1:1", "--vault", NOBODY]], ids=" ".join
)
def test_a_check_whose_database_is_away_ends_with_3(tmp_path: Path, arguments: list[str]) -> None:
    home = str(tmp_path / "none")
    answer = call(*arguments, DATABASE_URL="postgresql://127.0.0.1:1/none", TONSURANCE_HOME=home)
    assert (answer.returncode, answer.stdout) == (3, ""), answer.stderr


def test_the_checks_call_a_running_stack_equal(stack: Running) -> None:
    verified = call("verify", "--json", TONSURANCE_HOME=str(stack.home))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    document = json.loads(verified.stdout)
    assert document["equal"] is True
    assert [row["tranche_id"] for row in document["vaults"][0]["tranches"]] == list(TRANCHE_IDS)
    for command in ("verify", "replay"):
        answer = call(command, TONSURANCE_HOME=str(stack.home))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert answer.stdout.splitlines()[-1].startswith("Equal: ")
        assert answer.stderr == ""


def test_help_names_every_command() -> None:
    answer = call("--help")
    assert answer.returncode == 0
    for name in ("run", "api", "daemon", "localnet", "migrate", "events", "psql", "verify", "replay"):
        assert name in answer.stdout


def test_events_decode_prints_each_event_of_a_transaction() -> None:
    for item in with_events():
        answer = call("events", "decode", "--contract-kind", item["kind"], "--transaction", "-", stdin=item["boc"])
        assert answer.returncode == 0, answer.stderr
        events = [json.loads(line) for line in answer.stdout.splitlines()]
        assert len(events) == len(item["bodies"])
        for event in events:
            assert set(event) >= {"event_type", "logical_time", "transaction_hash", "message_index", "fields"}
            assert event["logical_time"] == str(item["lt"])
            assert event["canonical"] == event["event_type"]


def with_events() -> list[dict[str, Any]]:
    """One recorded transaction of each contract, the one with most events."""
    recorded = json.loads(GOLDEN.read_text())["transactions"]
    kinds = sorted({item["kind"] for item in recorded})
    return [max((i for i in recorded if i["kind"] == kind), key=lambda i: len(i["bodies"])) for kind in kinds]


def test_events_decode_of_bytes_that_are_no_transaction() -> None:
    text = base64.b64encode(b"\xb5\xee\x9c\x72 not a bag of cells").decode()
    answer = call("events", "decode", "--contract-kind", "MultiTrancheVault", "--transaction", "-", stdin=text)
    assert answer.returncode in (1, 2)
    assert "Traceback" not in answer.stderr


def daemon_arguments(stack: Running, vault: str, factory: str) -> list[str]:
    network = str(stack.status()["chain_url"])
    return ["daemon", "--network", network, "--vault", vault, "--factory", factory, "--poll-interval", "0.1"]


@pytest.mark.parametrize(
    ("which", "said"),
    [("not deployed", "is not deployed"), ("swapped", "not"), ("a wallet", "not")],
)
def test_a_contract_that_is_not_ours_is_said_at_start(stack: Running, database: str, which: str, said: str) -> None:
    status = stack.status()
    vault, factory = str(status["vault"]), str(status["factory"])
    if which == "swapped":
        vault, factory = factory, vault
    elif which == "not deployed":
        vault = NOBODY
    else:
        vault = some_wallet(stack)
    answer = call(*daemon_arguments(stack, vault, factory), DATABASE_URL=database)
    assert answer.returncode == 1, answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("tonsurance: ")
    assert vault in last
    assert said in last

    async def written() -> int:
        conn = await connect(database)
        count: int = await conn.fetchval("SELECT count(*) FROM blockchain_sync_state")
        await conn.close()
        return count

    assert asyncio.run(written()) == 0


def some_wallet(stack: Running) -> str:
    """The account that made the vault's last deposit."""
    events = stack.get("/api/v2/events?type=DepositMade&limit=1")["events"]
    assert isinstance(events, list)
    return str(events[0]["fields"]["depositor"])


def test_a_daemon_follows_by_url_into_a_database_of_its_own(stack: Running, database: str) -> None:
    """The same two contracts, followed from their first transaction by a second daemon, give the same figures."""
    status = stack.status()
    arguments = daemon_arguments(stack, str(status["vault"]), str(status["factory"]))
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tonsurance", *arguments],
        env=os.environ | {"DATABASE_URL": database},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: asyncio.run(ledger_of(database)) == shown(stack), timeout_s=60, what="equal ledgers")
        check = ("verify", *arguments[1:5], "--json")
        assert call(*check, DATABASE_URL=database).returncode == 0
        asyncio.run(plant_drift(database))
        for command, differences in ((check, "vaults"), (("replay", "--json"), "differences")):
            answer = call(*command, DATABASE_URL=database)
            assert answer.returncode == 1, answer.stderr
            document = json.loads(answer.stdout)
            assert document["equal"] is False
            assert "SURE-" in str(document[differences])
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
    assert daemon.returncode == 0


async def plant_drift(dsn: str) -> None:
    """One nanoTON more in the first entry, as only a superuser can write it."""
    conn = await connect(dsn)
    await conn.execute("SET session_replication_role = replica")
    await conn.execute(
        "UPDATE ledger_entries SET capital_delta_nanoton = capital_delta_nanoton + 1"
        " WHERE entry_id = (SELECT min(entry_id) FROM ledger_entries)"
    )
    await conn.close()


async def ledger_of(dsn: str) -> list[tuple[str, int, int]]:
    conn = await connect(dsn)
    rows = await conn.fetch("SELECT tranche_id, total_capital_nanoton, coverage_sold_nanoton FROM tranche_utilization")
    await conn.close()
    return sorted((row[0], row[1], row[2]) for row in rows)


def shown(stack: Running) -> list[tuple[str, int, int]]:
    rows = httpx.get(f"{stack.url}/api/v1/utilization/dashboard", timeout=60).json()["tranches"]
    assert len(rows) == len(TRANCHE_IDS)
    figures = ((r["tranche_id"], int(r["total_capital_nanoton"]), int(r["coverage_sold_nanoton"])) for r in rows)
    return sorted(figures)
