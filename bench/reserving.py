"""Reservations per second, durable, and what 16 reservers cost the ledger's writer: nothing, if all is well."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import uvloop

from bench.figures import Figure, median, percentile, spread
from bench.posting import durable_cluster, make_database
from db.chain_story import TON, VAULT, batch, deposit, register, transaction
from tonsurance.core.events import GENESIS, Cursor
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.db.pool import connect
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.reservations import Reservations

CALLERS = (1, 16, 64)
RATE_ROUNDS, RATE_S = 3, 1.0
PAIRS, POST_S = 5, 2.0
RESERVERS = 16
WIDE = build_params({("risk", "reservation_max_share"): 1.0}, version=1)
TON_EACH = 1_000_000


def measure() -> list[Figure]:
    """Rates of 1, 16 and 64 callers, then the writer's p99 without and with reservers, in turn."""
    with durable_cluster() as dsn:
        made = uvloop.run(_prepare(dsn))
        return [*(_rate(made, callers) for callers in CALLERS), *_writer_beside_reservers(made)]


async def _prepare(dsn: str) -> str:
    made = await make_database(dsn, "reserving")
    await register(made)
    writer = LedgerWriter(made, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(1, *(deposit(tranche, TON_EACH * TON) for tranche in range(1, 7)))))
    await writer.close()
    return made


# --- rates


def _rate(dsn: str, callers: int) -> Figure:
    rounds = [uvloop.run(_reserve_all(dsn, callers, RATE_S)) for _ in range(RATE_ROUNDS)]
    rates = [len(took) / RATE_S for took in rounds]
    took = [seconds for one in rounds for seconds in one]
    return Figure(
        name=f"reservations, durable, {callers} caller{'s' if callers > 1 else ''}",
        value=f"{median(rates):,.0f}/s",
        spread=spread(rates, 0),
        limit="(no limit)",
        ok=None,
        note=f"each is reserved, then released: both are counted; p50 {percentile(took, 0.5) * 1e3:.2f} ms, "
        f"p99 {percentile(took, 0.99) * 1e3:.2f} ms",
    )


async def _reserve_all(dsn: str, callers: int, seconds: float) -> list[float]:
    """How long each request took; every reservation is released, so that as many are open as there are callers."""
    pool = LazyPool(dsn, max_size=2)
    reservations, took = Reservations(pool, lambda: WIDE), list[float]()
    until = time.perf_counter() + seconds
    run = time.time_ns()

    async def reserve(caller: int) -> None:
        turn = 0
        while (begun := time.perf_counter()) < until:
            turn += 1
            key = f"{run}-{caller}-{turn}"
            made = await reservations.reserve_coverage("main", None, TON, 60, key, f"caller{caller}")
            took.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            await reservations.release(made.reservation.reservation_id)
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*map(reserve, range(callers)))
    await reservations.close()
    await pool.close()
    return took


# --- the writer beside them


def _writer_beside_reservers(dsn: str) -> list[Figure]:
    alone, beside, reserved = list[float](), list[float](), list[float]()
    for pair in range(PAIRS + 1):
        without = percentile(uvloop.run(_post(dsn)), 0.99)
        with subprocess.Popen(
            [sys.executable, "-m", "bench.reserving", dsn, str(RESERVERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as reservers:
            assert reservers.stdout is not None
            reservers.stdout.readline()  # they have begun
            with_them = percentile(uvloop.run(_post(dsn)), 0.99)
            said, _ = reservers.communicate(b"stop")
        if pair:  # the first pair warms up
            alone.append(without)
            beside.append(with_them)
            reserved.append(float(said))
    ratios = [one / other for one, other in zip(beside, alone, strict=True)]
    noise = max(alone) / min(alone)
    return [
        Figure(
            name=f"ledger update, durable, one caller: p99 with {RESERVERS} reservers over p99 without",
            value=f"{median(ratios):.2f} ({median(beside) * 1e3:.2f} ms over {median(alone) * 1e3:.2f} ms)",
            spread=spread(ratios),
            limit=f"<= {max(1.5, noise):.2f} (1.5, or the spread of p99 without: {noise:.2f})",
            ok=median(ratios) <= max(1.5, noise),
            note=f"the reservers are another process, as in the product, with {median(reserved):,.0f} requests/s; they "
            "share two things with the writer: the processors and the disk's flushes",
        )
    ]


async def _post(dsn: str) -> list[float]:
    """How long each of one caller's updates took."""
    conn = await connect(dsn)
    row = await conn.fetchrow(
        "SELECT last_synced_lt, last_synced_hash FROM blockchain_sync_state WHERE contract_address = $1", VAULT
    )
    await conn.close()
    after = GENESIS if row is None else Cursor(row[0], row[1])
    writer, took = LedgerWriter(dsn, DEFAULT_PARAMS), list[float]()
    until = time.perf_counter() + POST_S
    while (begun := time.perf_counter()) < until:
        one = batch(transaction(after.lt + 1, deposit(1, TON)), after=after)
        await writer.submit(one)
        took.append(time.perf_counter() - begun)
        after = one.until
    await writer.close()
    return took


async def _reserve_until_told(dsn: str, callers: int) -> None:
    """Print a line when begun, and requests per second once anything comes in on stdin."""
    await _reserve_all(dsn, callers, 0.2)
    print("begun", flush=True)
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    begun, count = time.perf_counter(), 0
    while not told.done():
        count += len(await _reserve_all(dsn, callers, 0.5))
    print(count / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    uvloop.run(_reserve_until_told(sys.argv[1], int(sys.argv[2])))
