"""`tonsurance doctor` as people call it."""

from __future__ import annotations

import json

from system.running import Running, command
from system.test_cli import call


def test_a_running_stack_is_all_well(stack: Running) -> None:
    done = command(stack, "doctor", "--json")
    found = json.loads(done.stdout)
    assert [row for row in found if not row["ok"]] == []
    assert done.returncode == 0
    assert {"TON API", "API", "configuration cache", "disk and processes"} <= {row["check"] for row in found}
    said = command(stack, "doctor")
    assert said.stdout.splitlines()[-1] == f"{len(found)} checks, all well."


def test_faults_are_exit_1_and_no_database_3(database: str) -> None:
    done = call("doctor", "--json", "--database-url", database)
    assert done.returncode == 1
    faults = [row for row in json.loads(done.stdout) if not row["ok"]]
    assert {"ledger writer", "following"} == {row["check"] for row in faults}
    assert all(row["advice"] for row in faults)
    away = call("doctor", "--database-url", "postgresql://me:hidden-word@127.0.0.1:1/none")
    assert away.returncode == 3
    assert "FAULT  database connection" in away.stdout
    assert "hidden-word" not in away.stdout + away.stderr
