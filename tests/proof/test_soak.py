"""The soak in small: some hundred blocks, kill -9 of everything in turn, every event twice; equal after each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_ledger_and_chain_are_equal_after_every_kill_and_after_every_event_came_twice() -> None:
    argv = [sys.executable, "tools/soak.py", "--blocks", "300", "--transactions", "400", "--kills", "3"]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for act in ("300 blocks", "the daemon", "PostgreSQL", "kill -9 of run", "every batch twice"):
        assert act in ran.stdout
