"""Vaults moved by API calls: apart from each other and from the chain's, and no accepted update lost or doubled."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest

from db.chain_story import cut, legal_transactions, register
from db.servers import DatabaseServer
from services.ledger_tables import post_all, reading, recompute, rows_of
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import IdempotencyConflict, InputError, LedgerRefused, UnknownVault
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.utilization_tracker import UtilizationTracker

CHILD = Path(__file__).with_name("queue_child.py")


async def move_at_random(tracker: UtilizationTracker, dice: random.Random, count: int) -> dict[str, tuple[int, int]]:
    """Random updates of one vault, refused ones among them; returns what the accepted ones add up to."""
    sums = dict.fromkeys(TRANCHE_IDS, (0, 0))
    for number in range(count):
        tranche = dice.choice(TRANCHE_IDS)
        capital, coverage = sums[tranche]
        delta = dice.randint(-30, 100)
        try:
            if dice.random() < 0.5:
                await tracker.update_capital(tranche, delta, key=f"capital {number}")
                sums[tranche] = (capital + delta, coverage)
            else:
                await tracker.update_coverage(tranche, delta, key=f"coverage {number}")
                sums[tranche] = (capital, coverage + delta)
        except LedgerRefused:
            assert min(capital + delta, coverage + delta) < 0
    return sums


@pytest.mark.parametrize("seed", range(3))
async def test_events_of_one_vault_never_touch_another(database: str, seed: int) -> None:
    dice = random.Random(seed)
    await register(database)
    transactions = legal_transactions(seed, 60)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    trackers = {name: UtilizationTracker(vault_id=name, principal=name) for name in ("one", "two", "three")}
    for name, tracker in trackers.items():
        await tracker.init(database)
        await tracker.create_vault(name)
    chain = [writer.submit(part) for part in cut(transactions, [dice.randint(1, 5) for _ in range(12)])]
    _, *sums = await asyncio.gather(
        post_in_order(chain),
        *(move_at_random(tracker, random.Random(f"{seed} {name}"), 60) for name, tracker in trackers.items()),
    )
    await writer.close()
    expected = {step: (totals.capital, totals.coverage) for _, _, step, totals in recompute(transactions)}
    for name, wanted in (*zip(trackers, sums, strict=True), ("main", expected)):
        rows = await trackers["one"].get_vault_utilizations(name)
        got = {row.tranche_id: (row.total_capital, row.coverage_sold) for row in rows}
        assert got == {tranche: wanted[tranche] for tranche in got}, name
    for tracker in trackers.values():
        await tracker.close()


async def post_in_order(submissions: list) -> None:  # type: ignore[type-arg]
    for submission in submissions:
        await submission
        await asyncio.sleep(0)


async def test_direct_updates_leave_the_chains_tables_as_they_are(database: str, pg: DatabaseServer) -> None:
    batches = cut(legal_transactions(5, 40), [10, 10])
    alone = await post_all(database, batches)
    beside = pg.create()
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(beside)
        await tracker.create_vault("lab")
        await tracker.update_capitals(dict.fromkeys(TRANCHE_IDS, 1_000))
        await register(beside)
        writer = LedgerWriter(beside, DEFAULT_PARAMS)
        for part in batches:
            await writer.submit(part)
            await tracker.update_coverage("SURE-BTC", 1)
        await writer.close()
    async with reading(beside) as conn:
        for table in ("ledger_entries", "tranche_utilization", "tranche_utilization_history"):
            mine = [row for row in await rows_of(conn, table) if row["vault_id"] == "main"]
            assert mine == alone[table], table
    pg.drop(beside)


async def test_an_accepted_update_is_applied_once_and_a_refused_one_says_why(database: str) -> None:
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(database)
        with pytest.raises(UnknownVault):
            await tracker.enqueue_capital("SURE-BTC", 1)
        await tracker.create_vault("lab")
        good = await tracker.enqueue_capital("SURE-BTC", 10, key="a")
        bad = await tracker.enqueue_coverage("SURE_BTC", -1, key="b")
        again = await tracker.enqueue_capital("SURE-BTC", 10, key="a")
        assert (good.status, again.queue_id) == ("pending", good.queue_id)
        with pytest.raises(IdempotencyConflict):
            await tracker.enqueue_capital("SURE-BTC", 11, key="a")
        await tracker.drain_queue()
        await tracker.drain_queue()
        applied, refused = await tracker.read_queued(good.queue_id), await tracker.read_queued(bad.queue_id)
        assert (applied.status, refused.status, refused.error_code) == ("applied", "refused", "ledger_refused")
        assert "coverage would become -1" in (refused.error_message or "")
        assert (await tracker.update_capital("SURE-BTC", 10, key="a")).replayed  # by the other door: the same update
        assert (await tracker.get_tranche_utilization("SURE-BTC")).total_capital == 10
        with pytest.raises(InputError):
            await tracker.read_queued(10**30)


async def test_what_was_accepted_before_a_kill_9_is_applied_once_after_it(database: str) -> None:
    dice = random.Random(9)
    accepted: set[int] = set()
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(database)
        await tracker.create_vault("lab")
        for life in range(4):
            accepted |= await run_until_killed(database, first=life * 1_000, after=dice.randint(1, 60))
        await tracker.drain_queue()
        async with reading(database) as conn:
            keys = await conn.fetch("SELECT idempotency_key FROM queued_updates WHERE status = 'applied'")
        stored = {int(row["idempotency_key"].split()[1]) for row in keys}
        assert accepted <= stored, "an acceptance was said and lost"
        assert len(stored - accepted) <= 4  # at most the one each kill cut off before it was said
        assert (await tracker.get_tranche_utilization("SURE-SNR")).total_capital == len(stored)


async def run_until_killed(dsn: str, *, first: int, after: int) -> set[int]:
    """Which updates the child said it accepted before it was killed, some acceptances after the given count."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), dsn, str(first), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    said: set[int] = set()
    while len(said) < after:
        said |= accepted_in(await child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    said |= accepted_in(*(await child.stdout.read()).split(b"\n")[:-1])
    await child.wait()
    return said


def accepted_in(*lines: bytes) -> set[int]:
    """The numbers in whole lines `accepted N`; log lines stand between them."""
    return {int(line.split()[1]) for line in lines if line.startswith(b"accepted ")}
