"""Posting to the ledger, durable (fsync on): single updates beside pgbench, and 100,000 events beside COPY."""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.figures import Figure, median, percentile, spread
from bench.peers import (
    MARKED_CONTRACT,
    MARKED_LT,
    MARKED_VAULT,
    contract_of,
    find_pgbench,
    record_script,
    run_pgbench,
    vault_of,
)
from tonsurance.core.events import GENESIS, VAULT_KIND, Cursor, DecodedTransaction, TransactionFacts
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import register_contract
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect
from tonsurance.db.postgres import Cluster, remove_cluster
from tonsurance.services.ledger_writer import LedgerWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from db.chain_story import TON, batch, deposit, register, transaction
from proof.story import FACTORY, VAULT, histories, make_steps

CALLERS = 16
UPDATE_ROUNDS, UPDATE_S = 6, 1
EVENTS, EVENT_ROUNDS, PART = 100_000, 3, 1000
COPIED = (
    "blockchain_events",
    "blockchain_transactions",
    "ledger_entries",
    "tranche_utilization_history",
    "tranche_utilization",
    "policies",
)


@contextmanager
def durable_cluster() -> Iterator[str]:
    """A PostgreSQL of its own with everything that makes it safe."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        cluster.start()
        try:
            yield cluster.dsn
        finally:
            cluster.stop()
            remove_cluster(Path(folder))


def measure() -> list[Figure]:
    """Single updates of one caller and of many, then a backfill."""
    with durable_cluster() as dsn:
        return [*measure_updates(dsn), *uvloop.run(measure_backfill(dsn))]


async def make_database(dsn: str, name: str) -> str:
    """A fresh, migrated one."""
    server = await connect(dsn)
    await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()
    made = urlsplit(dsn)._replace(path=f"/{name}").geturl()
    conn = await connect(made)
    await migrate(conn)
    await conn.close()
    return made


# --- single updates


def measure_updates(dsn: str) -> list[Figure]:
    """Rates of one caller and of 16, ours and pgbench's in turn."""
    pgbench = find_pgbench()
    if pgbench is None:
        return [
            Figure(name="ledger update, durable", value="-", limit="pgbench", ok=None, note="pgbench was not found")
        ]
    ours, theirs = uvloop.run(_prepare(dsn, "ours")), uvloop.run(_prepare(dsn, "theirs"))
    body = deposit(1, 0)
    marked = transaction(MARKED_LT, body, contract=MARKED_CONTRACT)
    script = uvloop.run(record_script(theirs, batch(marked, contract=MARKED_CONTRACT)))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        numbers = iter(range(2, 10_000))
        run = {
            callers: _alternate_updates(ours, theirs, pgbench, Path(file.name), callers, numbers)
            for callers in (1, CALLERS)
        }
    return [*_report_one(*run[1]), *_report_many(*run[CALLERS])]


async def _prepare(dsn: str, name: str) -> str:
    made = await make_database(dsn, name)
    conn = await connect(made)
    await register_contract(conn, MARKED_CONTRACT, VAULT_KIND, MARKED_VAULT)
    for caller in range(CALLERS):
        await register_contract(conn, contract_of(caller), VAULT_KIND, vault_of(caller))
    await conn.execute("CHECKPOINT")
    await conn.close()
    return made


Rates = list[tuple[float, float]]


def _alternate_updates(
    ours: str, theirs: str, pgbench: Path, script: Path, callers: int, numbers: Iterator[int]
) -> tuple[Rates, list[float]]:
    """(ours, pgbench's) transactions per second of each round, and how long each of ours took."""
    rates, took = [], list[float]()
    for _ in range(UPDATE_ROUNDS):
        first_lt = next(numbers) * 10**9
        mine, latencies = uvloop.run(_post_single(ours, callers, first_lt))
        took += latencies
        rates.append((mine, run_pgbench(pgbench, theirs, script, callers=callers, seconds=UPDATE_S, first_lt=first_lt)))
    return rates[1:], took


async def _post_single(dsn: str, callers: int, first_lt: int) -> tuple[float, list[float]]:
    """Each caller posts one event after the other to a contract of its own and waits until it is durable."""
    writer, took = LedgerWriter(dsn, DEFAULT_PARAMS), list[float]()
    conn = await connect(dsn)
    rows = await conn.fetch("SELECT contract_address, last_synced_lt, last_synced_hash FROM blockchain_sync_state")
    await conn.close()
    stands = {row[0]: Cursor(row[1], row[2]) for row in rows}
    until = time.perf_counter() + UPDATE_S

    async def post(contract: str) -> None:
        after, lt = stands[contract], first_lt
        while (begun := time.perf_counter()) < until:
            one = batch(transaction(lt, deposit(1, TON), contract=contract), after=after, contract=contract)
            await writer.submit(one)
            took.append(time.perf_counter() - begun)
            after, lt = one.until, lt + 1

    await asyncio.gather(*(post(contract_of(caller)) for caller in range(callers)))
    await writer.close()
    return len(took) / UPDATE_S, took


def _report_one(rates: Rates, took: list[float]) -> list[Figure]:
    ratios = [mine / peer for mine, peer in rates]
    return [
        Figure(
            name="ledger update, durable, one caller: speed against pgbench with the same SQL",
            value=f"{median(ratios):.2f} ({median([mine for mine, _ in rates]):,.0f}/s)",
            spread=spread(ratios),
            limit=">= 0.65",
            ok=median(ratios) >= 0.65,
            note="each statement's answer decides the next one, in Python: the round trips are the same as pgbench's",
        ),
        Figure(
            name="ledger update, durable, one caller: time",
            value=f"p50 {percentile(took, 0.5) * 1e3:.2f} ms",
            spread=f"p99 {percentile(took, 0.99) * 1e3:.2f} ms",
            limit="10-20 ms (documents)",
            ok=percentile(took, 0.99) < 0.020,
        ),
    ]


def _report_many(rates: Rates, took: list[float]) -> list[Figure]:
    ratios = [mine / peer for mine, peer in rates]
    return [
        Figure(
            name=f"ledger update, durable, {CALLERS} callers: speed against pgbench with the same SQL (row locks)",
            value=f"{median(ratios):.2f} ({median([mine for mine, _ in rates]):,.0f}/s)",
            spread=spread(ratios),
            limit=">= 0.9; >= 5 by group commit",
            ok=median(ratios) >= 5,
            note=f"p50 {percentile(took, 0.5) * 1e3:.2f} ms, p99 {percentile(took, 0.99) * 1e3:.2f} ms",
        )
    ]


# --- many events


async def measure_backfill(dsn: str) -> list[Figure]:
    """The time COPY needs for all rows that 100,000 events write, over the time the posting of the events needs."""
    told = histories(make_steps(7, EVENTS))
    story = {contract: [_with_facts(one) for one in transactions] for contract, transactions in told.items()}
    ratios, rates, grown, rows = [], list[float](), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(EVENT_ROUNDS):
            posted = await make_database(dsn, "posted")
            before = resident_mb()
            took, peak = await _post_story(posted, story)
            grown = max(grown, peak - before)
            copied, rows = await _copy_rows(posted, await make_database(dsn, "copied"), Path(folder))
            ratios.append(copied / took)
            rates.append(EVENTS / took)
    return [
        Figure(
            name=f"posting {EVENTS:,} events: speed against COPY of the same {rows:,} rows",
            value=f"{median(ratios):.2f} ({median(rates):,.0f} events/s)",
            spread=spread(ratios),
            limit=">= 0.3",
            ok=median(ratios) >= 0.3,
            note="COPY gets finished rows; posting makes them, in Python, before the server has anything to do",
        ),
        Figure(
            name=f"memory while posting {EVENTS:,} events",
            value=f"{grown:.0f} MB more",
            limit="< 64 MB",
            ok=grown < 64,
        ),
    ]


def _with_facts(told: DecodedTransaction) -> DecodedTransaction:
    """With all that a real one would say of its message."""
    facts = TransactionFacts(
        in_msg_hash=sha256(b"message" + told.cursor.hash).digest(),
        body_hash=sha256(b"body" + told.cursor.hash).digest(),
        op=0x0A4F4DF4,
        query_id=told.cursor.lt,
        sender=f"0:{told.cursor.lt % 5_000:064x}",
        value=TON,
        exit_code=0,
        action_code=0,
        refunded=TON // 2,
        policy_id=told.cursor.lt % 50_000,
    )
    return msgspec.structs.replace(told, facts=facts)


async def _post_story(dsn: str, story: dict[str, list[DecodedTransaction]]) -> tuple[float, float]:
    """Seconds, and the most memory in MB that was seen after a batch."""
    await register(dsn)
    writer, peak = LedgerWriter(dsn, DEFAULT_PARAMS), 0.0

    async def post(contract: str) -> None:
        nonlocal peak
        after = GENESIS
        for first in range(0, len(story[contract]), PART):
            part = batch(*story[contract][first : first + PART], after=after, contract=contract)
            await writer.submit(part)
            after = part.until
            peak = max(peak, resident_mb())

    started = time.perf_counter()
    await asyncio.gather(*map(post, (VAULT, FACTORY)))
    took = time.perf_counter() - started
    await writer.close()
    return took, peak


def resident_mb() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def _copy_rows(source: str, target: str, folder: Path) -> tuple[float, int]:
    """Seconds to COPY the rows of all tables into empty ones with the same indexes, and how many these are."""
    reader, writer = await connect(source), await connect(target)
    await register(target)
    took, rows = 0.0, 0
    for table in COPIED:
        columns = await _stored_columns(reader, table)
        file = folder / table
        query = f"SELECT {', '.join(columns)} FROM {table}"
        rows += int((await reader.copy_from_query(query, output=file, format="binary")).split()[-1])
        started = time.perf_counter()
        await writer.copy_to_table(table, source=file, columns=columns, format="binary")
        took += time.perf_counter() - started
    await reader.close()
    await writer.close()
    return took, rows


async def _stored_columns(conn: object, table: str) -> list[str]:
    sql = "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
    rows = await conn.fetch(f"{sql} AND attgenerated = '' ORDER BY attnum", table)  # type: ignore[attr-defined]
    return [row[0] for row in rows]
