"""The example program and the written-down queries do what they say on a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tonsurance.db.pool import connect

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "utilization.py"


def run_example(**environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | environment
    return subprocess.run(
        [sys.executable, str(EXAMPLE)], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_example_sells_refuses_watches_and_ends_where_it_began(database: str) -> None:
    check_run(run_example(DATABASE_URL=database))
    check_run(run_example(DATABASE_URL=database))  # a second run sells policies of its own


def check_run(done: subprocess.CompletedProcess[str]) -> None:
    """What a run prints, from beginning to end."""
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if " part=" not in line]  # the log goes there, too
    assert lines[:3] == [
        "Half sold: 50% at 8.5474 % APY",
        "Another 1,000 TON: no capacity",
        "SURE-SNR approaching capacity: 90.00%",
    ]
    tranches = json.loads("\n".join(lines[3:]))["tranches"]
    assert [row["tranche"] for row in tranches][1] == "SURE-SNR"
    assert tranches[1] == {"tranche": "SURE-SNR", "apy": 6.5, "utilization": 0.0, "tvl_ton": 10_000.0}


def test_the_example_says_what_is_missing() -> None:
    unset, away = run_example(), run_example(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (unset.returncode, away.returncode) == (1, 1)
    assert "DATABASE_URL is not set" in unset.stderr
    assert "Traceback" not in away.stderr
    assert "cannot be reached" in away.stderr


async def test_every_written_query_runs(database: str) -> None:
    queries = [part.strip() for part in (ROOT / "docs" / "queries.sql").read_text("utf-8").split(";") if part.strip()]
    assert len(queries) == 7
    conn = await connect(database)
    for query in queries:
        await conn.fetch(query)
    await conn.close()
