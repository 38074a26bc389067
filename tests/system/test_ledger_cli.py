"""`tonsurance replay` and `tonsurance rescan`: exit codes, words, JSON, and that they mend what they say they mend."""

from __future__ import annotations

import asyncio
import json

import pytest

from proof.story import VAULT
from services.rescanning import follow, plant, read_waiting, without
from system.test_cli import call
from tonsurance.chain.addresses import format_friendly
from tonsurance.cli_ledger import rescan


def test_replay_swap_mends_a_ledger_and_says_what_was_wrong(database: str) -> None:
    asyncio.run(follow(database, without("Paused"), events=60))
    target = ("--database-url", database)
    assert call("replay", *target).returncode == 0
    asyncio.run(plant(database, "UPDATE ledger_entries SET loss_delta_nanoton = 5 WHERE entry_id % 2 = 0"))
    found = call("replay", *target)
    assert (found.returncode, "Not equal" in found.stdout) == (1, True)
    swapped = call("replay", "--swap", *target)
    assert swapped.returncode == 0, swapped.stderr
    assert "loss_delta_nanoton is 5, rebuilt 0" in swapped.stdout
    assert "Swapped" in swapped.stdout
    again = call("replay", "--json", "--from-lt", "1", *target)
    told = json.loads(again.stdout)
    assert (again.returncode, told["equal"], told["from_lt"]) == (0, True, 1)
    wrong = call("replay", "--from-lt", "-1", *target)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--from-lt is a logical time" in wrong.stderr


def test_rescan_says_what_it_does_and_its_exit_code_whether_all_is_well(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(follow(database, without("Paused"), events=300))
    waiting = len(asyncio.run(read_waiting(database)))
    assert waiting > 1
    assert rescan(dry_run=True, database_url=database) == 0
    assert "Dry run, nothing was changed" in capsys.readouterr().out
    assert len(asyncio.run(read_waiting(database))) == waiting
    assert rescan(contract=format_friendly(VAULT), json=True, database_url=database) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["applied"], set(told["by_type"])) == (True, {"Paused"})
    assert rescan(layout="tonsurance", database_url=database) == 0
    assert "left the quarantine" in capsys.readouterr().out
    assert asyncio.run(read_waiting(database)) == []
    assert rescan(layout="reference-first", database_url=database) == 1
    assert "of the log read otherwise now" in capsys.readouterr().out
