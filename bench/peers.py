"""pgbench running the very statements of one posting, as the database alone would do them.

The statements and their values are written down while the real code posts one event, so that they stay the same SQL.
Values that must differ from one transaction to the next become variables of pgbench.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tonsurance.core.events import ContractBatch
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.binaries import default_candidates
from tonsurance.db.ledger import post_batches, take_ledger
from tonsurance.db.pool import Connection, connect

MARKED_LT = 7_777_777_777
MARKED_CONTRACT = "0:" + "ee" * 32
MARKED_VAULT = "marked"
MARKED_VERSION = 7_777_777
_VARIABLES = {
    MARKED_CONTRACT: "('0:' || lpad(:client_id::text, 64, '0'))",
    MARKED_VAULT: "('caller' || :client_id)",
    MARKED_LT: ":lt",
    MARKED_VERSION: ":next",
}


def contract_of(caller: int) -> str:
    """The contract that caller number `caller` posts to; pgbench makes the same name from its client's number."""
    return f"0:{caller:064d}"


def vault_of(caller: int) -> str:
    """The vault of that contract."""
    return f"caller{caller}"


def find_pgbench() -> Path | None:
    """pgbench beside the embedded or the system's PostgreSQL."""
    return next((directory / "pgbench" for directory in default_candidates() if (directory / "pgbench").exists()), None)


class Recorder:
    """A connection that writes down what is asked of it."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    @asynccontextmanager
    async def transaction(self) -> Any:
        async with self._conn.transaction():
            yield

    async def fetchrow(self, sql: str, *values: Any) -> Any:
        self.asked.append((sql, values))
        return await self._conn.fetchrow(sql, *values)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        self.asked.append((sql, values))
        return await self._conn.fetchval(sql, *values)

    async def fetch(self, sql: str, *values: Any) -> Any:
        self.asked.append((sql, values))
        return await self._conn.fetch(sql, *values)

    async def execute(self, sql: str, *values: Any) -> Any:
        self.asked.append((sql, values))
        return await self._conn.execute(sql, *values)


async def record_script(dsn: str, batch: ContractBatch) -> str:
    """Post a batch (of the marked contract, at the marked logical time) and return it as a script for pgbench.

    Its events must not change any total: the script repeats the totals it was recorded with.
    """
    conn = await connect(dsn)
    await conn.execute("UPDATE ledger_head SET version = $1", MARKED_VERSION - 1)
    epoch = await take_ledger(conn)
    recorder = Recorder(conn)
    await post_batches(recorder, [batch], DEFAULT_PARAMS, epoch)  # type: ignore[arg-type]
    await conn.close()
    head, *rest = (_inline(sql, values) for sql, values in recorder.asked)
    opening = ["\\set lt :lt + 1", "BEGIN;", f"{head[:-1]} \\gset", "\\set next :version + 1"]
    lines = [*opening, *rest, "COMMIT;"]
    return "\n".join(lines) + "\n"


def _inline(sql: str, values: Sequence[Any]) -> str:
    text = re.sub(r"\$(\d+)", lambda found: _literal(values[int(found[1]) - 1]), sql)
    return " ".join(text.split()) + ";"


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"ARRAY[{', '.join(map(_literal, value))}]" if value else "'{}'"
    if isinstance(value, str | int) and not isinstance(value, bool) and value in _VARIABLES:
        return _VARIABLES[value]
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case bytes():
            return f"'\\x{value.hex()}'::bytea"
    quoted = str(value).replace("'", "''").replace(":", "'||chr(58)||'")  # a colon would begin a variable
    return f"('{quoted}')"


def run_pgbench(pgbench: Path, dsn: str, script: Path, *, callers: int, seconds: int, first_lt: int) -> float:
    """Transactions per second. Raises RuntimeError with what pgbench said when any of them failed."""
    argv = [pgbench, "-n", "-M", "prepared", "-f", script, "-c", str(callers), "-j", "1", "-T", str(seconds)]
    done = subprocess.run([*argv, "-D", f"lt={first_lt}", dsn], capture_output=True, text=True, check=False)
    rate = re.search(r"tps = ([0-9.]+)", done.stdout)
    if done.returncode or rate is None or "number of failed transactions: 0" not in done.stdout:
        raise RuntimeError(f"pgbench: {done.stdout[-500:]} {done.stderr[-1500:]}")
    return float(rate[1])
