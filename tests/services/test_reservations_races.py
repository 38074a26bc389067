"""The promise of reservations under races: no limit is ever passed by them, whatever happens in which order."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from db.chain_story import TON, deposit
from proof.dying import DIED
from services.dying_reserver import AMOUNT, reserve
from services.reserving import RULES, WIDE, Book, Desk, open_book, open_desk, quote_of
from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import (
    CapacityExceeded,
    DatabaseUnavailable,
    IdempotencyConflict,
    ReservationEnded,
    TonsuranceError,
)
from tonsurance.core.limits import coverage_cap_nano
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.waterfall import split
from tonsurance.db.direct import DirectUpdate, Part, lock_ledger, post_direct
from tonsurance.db.pool import Pool, acquire, connect, open_pool
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.reservations import Reservations

ROUNDS, CALLERS = 20, 200
MAX_UTILIZATION = DEFAULT_PARAMS.thresholds.max_utilization
CAP = coverage_cap_nano(1000 * TON, MAX_UTILIZATION)
FINAL = {"released", "expired", "bumped"}


def amounts(seed: int) -> list[int]:
    """What the callers of a round ask for: together three times what there is."""
    dice = random.Random(seed)
    return [dice.randint(1, 30 * TON) for _ in range(CALLERS)]


async def attempt(reservations: Reservations, key: str, amount: int) -> tuple[bool, int]:
    """Whether it was taken, and the amount."""
    try:
        await reservations.reserve_coverage("main", "SURE-BTC", amount, 60, key, f"person {key}")
    except CapacityExceeded:
        return False, amount
    return True, amount


async def clear(pool: Pool) -> None:
    """Nobody holds anything."""
    async with acquire(pool) as conn:
        await conn.execute("TRUNCATE capacity_reservations")


async def held(pool: Pool) -> int:
    """What all hold in SURE-BTC."""
    async with acquire(pool) as conn:
        total: int = await conn.fetchval("SELECT coalesce(sum(split[1]), 0)::bigint FROM capacity_reservations")
    return total


async def check_then_reserve(pool: Pool, number: int, amount: int) -> None:
    """What the documents' examples do: look whether it fits, then take it."""
    async with acquire(pool, timeout_s=30) as conn:
        used = await conn.fetchval("SELECT coalesce(sum(split[1]), 0)::bigint FROM capacity_reservations")
    if used + amount > CAP:
        return
    async with acquire(pool, timeout_s=30) as conn:
        await conn.execute(
            "INSERT INTO capacity_reservations (reservation_id, vault_id, tranche_id, amount_nanoton, split, status, "
            "principal, route, idempotency_key, request_hash, ttl_s, created_at, expires_at) "
            "VALUES (gen_random_uuid(), 'main', 'SURE-BTC', $1, ARRAY[$1, 0, 0, 0, 0, 0]::bigint[], 'pending', "
            "'naive', 'r', $2, repeat('0', 64), "
            "60, now(), now() + interval '60 s')",
            amount,
            str(number),
        )


async def test_200_at_once_never_overshoot_in_20_rounds_and_check_then_update_does(database: str) -> None:
    async with open_desk(database) as desk:
        await desk.chain.fill()
        pool, others = await open_pool(database, max_size=10), LazyPool(database, max_size=2)
        second = Reservations(others, lambda: WIDE)  # another process: the lock is the database's, not ours
        naive_overshoots = 0
        for number in range(ROUNDS):
            asked = amounts(number)
            results = await asyncio.gather(
                *(attempt((desk.reservations, second)[i % 2], f"{number}-{i}", asked[i]) for i in range(CALLERS))
            )
            taken = sum(amount for ok, amount in results if ok)
            assert taken == await held(pool) <= CAP
            assert taken + min(amount for ok, amount in results if not ok) > CAP  # nobody was refused for nothing
            await clear(pool)
            await asyncio.gather(*(check_then_reserve(pool, i, asked[i]) for i in range(CALLERS)))
            naive_overshoots += await held(pool) > CAP
            await clear(pool)
        assert naive_overshoots > ROUNDS // 2
        await second.close()
        await others.close()
        await pool.close()


# --- anything in any order


async def outcome_of(work: Awaitable[Any]) -> Any:
    """What it gave, or the error of ours it ended with."""
    try:
        return await work
    except TonsuranceError as error:
        return error


class Story:
    """Random acts, one after the other, each checked against the tables."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.dice = random.Random(seed)
        self.seed = seed
        self.made: list[Any] = []
        self.ended: dict[str, str] = {}
        self.untold: list[tuple[int, int]] = []
        self.done: dict[str, int] = {}

    async def act(self) -> None:
        """One act, and what must hold after it."""
        name = self.dice.choices(
            ("reserve", "commit", "release", "expire", "settle", "deposit", "withdraw", "buy", "tell"),
            (30, 8, 8, 5, 10, 4, 8, 10, 10),
        )[0]
        self.done[name] = self.done.get(name, 0) + 1
        await getattr(self, name)()
        await self.check_ends()

    async def reserve(self) -> None:
        tranche_id = self.dice.choice((None, None, *TRANCHE_IDS))
        amount = self.dice.randint(1, 60 * TON if tranche_id is None else 400 * TON)
        quote = None
        if tranche_id is None and self.dice.random() < 0.7:
            quote = quote_of(self.desk.chain.next_policy())
        before = await self.desk.excess()
        asked = {"tranche_id": tranche_id, "quote_id": quote, "idempotency_key": f"k{self.seed}"}
        one = await outcome_of(self.desk.reserve(amount, **asked))
        if isinstance(one, TonsuranceError):
            assert isinstance(one, CapacityExceeded)
            self.check_refusal(one.capacity, amount, tranche_id, before)
            return
        self.made.append(one)
        after = await self.desk.excess()
        assert all(after[name] <= 0 for name, part in zip(TRANCHE_IDS, one.split, strict=True) if part), after

    def check_refusal(self, room: Capacity, amount: int, tranche_id: str | None, before: dict[str, int]) -> None:
        """It really did not fit."""
        assert amount > room.available_nano
        if room.binding_limit == "max_utilization":
            name = str(room.binding_tranche)
            part = amount if tranche_id else split(amount, RULES.allocation)[TRANCHE_IDS.index(name)] + 1
            assert before[name] + part > 0

    async def commit(self) -> None:
        if self.made:
            one = self.dice.choice(self.made)
            quote = one.quote_id or 10**6 + len(self.made)
            outcome = await outcome_of(self.desk.reservations.commit(one.reservation_id, quote_id=quote))
            if isinstance(outcome, ReservationEnded):
                assert (await self.desk.reservations.get(one.reservation_id)).status in FINAL
            elif isinstance(outcome, TonsuranceError):
                assert isinstance(outcome, IdempotencyConflict)

    async def release(self) -> None:
        if self.made:
            outcome = await outcome_of(self.desk.reservations.release(self.dice.choice(self.made).reservation_id))
            if isinstance(outcome, TonsuranceError):
                assert isinstance(outcome, ReservationEnded)
                assert outcome.status != "pending"

    async def expire(self) -> None:
        open_ones = await self.desk.reservations.list("main")
        if open_ones:
            await self.desk.make_late(self.dice.choice(open_ones).reservation_id)

    async def settle(self) -> None:
        """Afterwards everything fits again, and only the youngest had to go."""
        before = await self.desk.reservations.list("main")
        await self.desk.reservations.settle()
        statuses = await self.desk.statuses()
        excess = await self.desk.excess()
        left = [one for one in before if one.holds_room and statuses[one.reservation_id] in ("pending", "committed")]
        for place, tranche_id in enumerate(TRANCHE_IDS):
            assert excess[tranche_id] <= 0 or not any(one.split[place] for one in left if one.quote_id is None), excess
        bumped = [one for one in before if statuses[one.reservation_id] == "bumped"]
        for one in bumped:
            touched = [place for place, part in enumerate(one.split) if part]
            younger = [other for other in left if other.created_at > one.created_at]
            assert all(any(not other.split[place] for place in touched) for other in younger)

    async def deposit(self) -> None:
        await self.desk.chain.post(deposit(self.dice.randint(1, 6), self.dice.randint(1, 300 * TON)))

    async def withdraw(self) -> None:
        """As the contract allows: what is left backs the cover at 95 %. What is held, it does not know."""
        tranche = self.dice.randint(1, 6)
        rows = await self.desk.fetch(
            "SELECT total_capital_nanoton, coverage_sold_nanoton FROM tranche_utilization WHERE tranche_id = $1",
            TRANCHE_IDS[tranche - 1],
        )
        capital, coverage = rows[0]
        least = -(-coverage * 100 // 95)
        if capital - least > TON:
            await self.desk.chain.withdraw(tranche, self.dice.randint(1, min(capital - least, 400 * TON)))

    async def buy(self) -> None:
        """A policy of a reservation is bought: the vault tells of its cover, or the factory of the policy, first."""
        bought = {quote for _, quote in self.untold}
        wanted = [one for one in self.made if one.quote_id is not None and one.quote_id not in bought]
        wanted = [one for one in wanted if one.reservation_id not in self.ended]
        if wanted and all(free < 0 for free in (await self.desk.excess()).values()):
            one = self.dice.choice(wanted)
            policy_id = one.quote_id - quote_of(0)
            before = await self.desk.excess()
            self.untold.append((policy_id, one.quote_id))
            self.made.remove(one)
            first, second = (self.desk.chain.tell_cover, self.desk.chain.tell_policy)
            if self.dice.random() < 0.5:
                first, second = second, first
            await first(policy_id, one.amount_nano)
            await second(policy_id, one.amount_nano)
            still = await self.desk.reservations.get(one.reservation_id)
            if still.status == "committed":  # its room has become cover: nothing was counted twice, nothing never
                assert await self.desk.excess() == before

    async def tell(self) -> None:
        """Cover of a policy nobody reserved for."""
        excess = await self.desk.excess()
        amount = self.dice.randint(1, 20 * TON)
        covers = await self.desk.fetch("SELECT total_capital_nanoton, coverage_sold_nanoton FROM tranche_utilization")
        if all(row[1] + amount <= coverage_cap_nano(row[0], MAX_UTILIZATION) for row in covers) and excess:
            policy_id = self.desk.chain.next_policy()
            await self.desk.chain.tell_cover(policy_id, amount)
            await self.desk.chain.tell_policy(policy_id, amount)

    async def check_ends(self) -> None:
        """An end is an end."""
        statuses = await self.desk.statuses()
        for reservation_id, status in self.ended.items():
            assert statuses[reservation_id] == status
        self.ended |= {key: status for key, status in statuses.items() if status in FINAL}


@pytest.mark.parametrize("seed", range(6))
async def test_no_order_of_acts_passes_a_limit(database: str, seed: int) -> None:
    async with open_desk(database) as desk:
        await desk.chain.fill(random.Random(seed).randint(300, 1500), 100)
        story = Story(desk, seed)
        for _ in range(150):
            await story.act()
        assert len(story.done) == 9
        assert set(story.ended.values()) == FINAL


class Bazaar:
    """Sixteen who reserve, release and buy, a keeper, and one who looks on."""

    def __init__(self, desk: Desk, second: Reservations) -> None:
        self.desk = desk
        self.services = (desk.reservations, second)
        self.over = asyncio.Event()
        self.samples: list[int] = []

    async def run(self) -> None:
        """Until everybody has had twelve turns."""
        beside = [asyncio.create_task(self.look_on()), asyncio.create_task(self.keep())]
        await asyncio.gather(*(self.trade(number) for number in range(16)))
        self.over.set()
        await asyncio.gather(*beside)

    async def look_on(self) -> None:
        pool = await open_pool(self.desk.dsn, max_size=1)
        while not self.over.is_set():
            async with acquire(pool) as conn:
                self.samples.append(await conn.fetchval(TRUE_EXCESS))
        await pool.close()

    async def keep(self) -> None:
        while not self.over.is_set():
            await self.services[1].settle()
            await asyncio.sleep(0.005)

    async def trade(self, number: int) -> None:
        dice = random.Random(number)
        for turn in range(12):
            policy_id = self.desk.chain.next_policy()
            amount, key = dice.randint(1, 40 * TON), f"{number}-{turn}"
            asked = ("main", None, amount, 60, key, key, quote_of(policy_id))
            try:
                made = await self.services[number % 2].reserve_coverage(*asked)
            except CapacityExceeded:
                continue
            await self.use(made.reservation.reservation_id, policy_id, amount, dice)

    async def use(self, reservation_id: str, policy_id: int, amount: int, dice: random.Random) -> None:
        if dice.random() < 0.5:
            await self.services[0].release(reservation_id)
            return
        tells = [self.desk.chain.tell_cover, self.desk.chain.tell_policy]
        dice.shuffle(tells)
        for tell in tells:
            await tell(policy_id, amount)


async def test_under_concurrent_reservers_buyers_and_keepers_no_sample_is_past_a_limit(database: str) -> None:
    async with open_desk(database) as desk:
        await desk.chain.fill(400)
        others = LazyPool(database, max_size=3)
        second = Reservations(others, lambda: WIDE, patience_s=60.0)
        bazaar = Bazaar(desk, second)
        await bazaar.run()
        await desk.reservations.settle()
        assert len(bazaar.samples) > 20
        assert max(bazaar.samples) <= 0
        assert max((await desk.excess()).values()) <= 0
        assert "bumped" not in (await desk.statuses()).values()
        sold = await desk.fetch("SELECT sum(coverage_sold_nanoton) FROM tranche_utilization")
        committed = await desk.fetch("SELECT sum(amount_nanoton) FROM capacity_reservations WHERE status = 'committed'")
        assert sold[0][0] == committed[0][0] > 0
        await second.close()
        await others.close()


TRUE_EXCESS = """
SELECT max(t.coverage_sold_nanoton + coalesce(h.held, 0)
    - (t.total_capital_nanoton - (t.total_capital_nanoton + 19) / 20))::bigint
FROM tranche_utilization t
LEFT JOIN (
    SELECT place, sum(part) AS held FROM capacity_reservations r, unnest(r.split) WITH ORDINALITY AS p (part, place)
    WHERE r.status IN ('pending', 'committed')
        AND NOT EXISTS (SELECT FROM blockchain_events e
            WHERE e.event_type = 'CoverageChanged' AND e.policy_id = r.quote_id - 7000)
    GROUP BY place
) h ON h.place = array_position(ARRAY['SURE-BTC', 'SURE-SNR', 'SURE-MEZZ', 'SURE-JNR', 'SURE-JNR+', 'SURE-EQT'],
    t.tranche_id)
"""
"""Cover, and what is held for policies whose cover is not in it yet, above the limit: the database's own arithmetic."""


# --- direct vaults: whoever commits sells, so the limits are looked at where the cover is posted


class BookStory:
    """Random acts on a direct vault, each checked against the tables; `services` are processes of their own."""

    def __init__(self, book: Book, services: tuple[Reservations, ...], dice: random.Random) -> None:
        self.book = book
        self.services = services
        self.dice = dice
        self.made: list[Any] = []
        self.done: Counter[str] = Counter()

    async def act(self) -> None:
        """One act."""
        name = self.dice.choices(
            ("reserve", "commit", "release", "expire", "settle", "deposit", "withdraw", "sell", "expire_policy"),
            (30, 20, 5, 3, 3, 8, 14, 8, 8),
        )[0]
        outcome = await outcome_of(getattr(self, name)())
        self.done[f"{name} refused" if isinstance(outcome, TonsuranceError) else name] += 1

    async def reserve(self) -> None:
        tranche_id = self.dice.choice((None, *TRANCHE_IDS))
        amount = self.dice.randint(1, 100 * TON if tranche_id is None else 300 * TON)
        self.made.append(await self.book.reserve(amount, tranche_id=tranche_id))

    async def commit(self) -> None:
        if self.made:
            await self.dice.choice(self.services).commit(self.dice.choice(self.made[-12:]).reservation_id)

    async def release(self) -> None:
        if self.made:
            await self.dice.choice(self.services).release(self.dice.choice(self.made).reservation_id)

    async def expire(self) -> None:
        await self.book.fetch(
            "UPDATE capacity_reservations SET expires_at = created_at + interval '1 microsecond' WHERE holds_room "
            "AND reservation_id = (SELECT max(reservation_id::text)::uuid FROM capacity_reservations WHERE holds_room)"
        )

    async def settle(self) -> None:
        """The keeper: it may come at any time, and nothing depends on it."""
        await self.services[0].settle()

    async def deposit(self) -> None:
        await self.book.move("capital", Part(self.tranche(), capital=self.dice.randint(1, 200 * TON)))

    async def withdraw(self) -> None:
        await self.book.move("capital", Part(self.tranche(), capital=-self.dice.randint(1, 400 * TON)))

    async def sell(self) -> None:
        await self.book.move("coverage", Part(self.tranche(), coverage=self.dice.randint(1, 200 * TON)))

    async def expire_policy(self) -> None:
        await self.book.move("coverage", Part(self.tranche(), coverage=-self.dice.randint(1, 200 * TON)))

    def tranche(self) -> str:
        return self.dice.choice(TRANCHE_IDS)

    async def check(self) -> None:
        """No commit was past a limit at its moment; what was committed is cover once, and all else is none."""
        assert await self.book.sold_past_a_limit() == []
        posted = {row[0] for row in await self.book.fetch(COMMITS_POSTED)}
        assert posted == {row[0] for row in await self.book.fetch(COMMITTED)}


COMMITS_POSTED = "SELECT idempotency_key FROM direct_updates WHERE route = 'reservation'"
COMMITTED = "SELECT reservation_id::text FROM capacity_reservations WHERE status = 'committed'"


@pytest.mark.parametrize("seed", range(4))
async def test_no_order_of_acts_on_a_direct_vault_sells_past_a_limit(database: str, seed: int) -> None:
    async with open_book(database) as book:
        story = BookStory(book, (book.reservations,), random.Random(seed))
        for _ in range(150):
            await story.act()
        await story.check()
        assert story.done["commit"] > 2
        assert story.done["commit refused"] > 2


async def test_sales_on_a_direct_vault_at_once_with_withdrawals_never_pass_a_limit(database: str) -> None:
    async with open_book(database) as book:
        others = LazyPool(database, max_size=4)
        second = Reservations(others, lambda: WIDE)
        stories = [BookStory(book, (book.reservations, second), random.Random(number)) for number in range(12)]
        await asyncio.gather(*(act_often(story, 25) for story in stories))
        await stories[0].check()
        done = sum((story.done for story in stories), Counter())
        assert done["commit"] > 5
        assert "bumped" in {row[0] for row in await book.fetch("SELECT DISTINCT status FROM capacity_reservations")}
        await second.close()
        await others.close()


async def act_often(story: BookStory, times: int) -> None:
    """One after the other, each looking at its own reservations only."""
    for _ in range(times):
        await story.act()


async def test_a_withdrawal_posted_while_a_commit_waits_for_the_ledger_is_seen_by_it(database: str) -> None:
    """The moment between the look at the room and the posting, held open."""
    async with open_book(database) as book:
        made = await book.reserve(40 * TON)
        other = await connect(database)
        withdrawing = other.transaction()
        await withdrawing.start()
        await lock_ledger(other)
        committing = asyncio.create_task(book.reservations.commit(made.reservation_id))
        async with asyncio.timeout(60):
            while not await other.fetchval(WAITING):
                await asyncio.sleep(0.005)
        part = Part("SURE-SNR", capital=-990 * TON)
        update = DirectUpdate(principal="ada", route="r", key="w", vault_id="book", parts=(part,))
        await post_direct(other, [update], WIDE)
        await withdrawing.commit()
        await other.close()
        with pytest.raises(ReservationEnded, match="bumped"):
            await committing
        assert await book.totals() == (10 * TON, 0)


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""


# --- kill -9

TESTS = Path(__file__).resolve().parents[1]


async def test_a_reserver_killed_at_any_step_and_asked_again_under_its_key_holds_room_once(database: str) -> None:
    async with open_desk(database) as desk:
        await desk.chain.fill()
    stored_before_the_end = 0
    with subprocess.Popen(
        [sys.executable, "-m", "services.dying_reserver"],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        conn = await connect(database)
        for point in itertools.count(1):
            key = f"point-{point}"
            process.stdin.write(f"{point} {key} {database}\n")
            process.stdin.flush()
            exit_code = int(await asyncio.to_thread(process.stdout.readline))
            stored = await conn.fetchval(
                "SELECT reservation_id::text FROM capacity_reservations WHERE idempotency_key = $1", key
            )
            again = await reserve(database, key)
            assert stored in (None, again)
            stored_before_the_end += stored is not None and exit_code == DIED
            if exit_code == 0:
                break
            assert exit_code == DIED
        rows = await conn.fetch("SELECT sum(split[1])::bigint AS held, count(*) FROM capacity_reservations")
        await conn.close()
    assert point > 50
    assert stored_before_the_end > 3  # it died after the commit and before the answer, too
    assert (rows[0]["count"], rows[0]["held"]) == (point, point * AMOUNT * 25 // 100)


async def test_a_connection_lost_during_the_commit_is_an_outage_and_the_same_key_finds_the_reservation(
    database: str,
) -> None:
    async with open_desk(database) as desk:
        await desk.chain.fill()
        blocker = await connect(database)
        held_lock = blocker.transaction()
        await held_lock.start()
        await blocker.execute("LOCK TABLE capacity_reservations IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.create_task(desk.reserve(TON, principal="ada", idempotency_key="one"))
        async with asyncio.timeout(60):
            while not await desk.fetch(KILL_WAITING):
                await asyncio.sleep(0.005)
        with pytest.raises(DatabaseUnavailable):
            await asked
        await held_lock.rollback()
        await blocker.close()
        assert await desk.statuses() == {}
        first, second = [await desk.reserve(TON, principal="ada", idempotency_key="one") for _ in range(2)]
        assert first == second


KILL_WAITING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
