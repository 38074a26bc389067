"""However deliveries interleave, are cut and come twice: one history of two contracts gives one state."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import msgspec
import pytest

from db.chain_story import batch, register
from db.servers import DatabaseServer
from proof.ledger_state import State, digest, read_state
from proof.story import FACTORY, VAULT, histories, make_steps
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import CursorConflict
from tonsurance.core.events import GENESIS, Cursor, DecodedTransaction
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.policies import PolicyState, move_policy, policy_of
from tonsurance.db.ledger import post_batches, take_ledger
from tonsurance.db.pool import Connection, connect

SEED = int(os.environ.get("TONSURANCE_TEST_SEED", "3"))
EVENTS, ORDERS, STORED_ORDERS = 10_000, 1_000, 20
CONTRACTS = (VAULT, FACTORY)
HISTORIES = histories(make_steps(SEED, EVENTS))

Delivery = tuple[str, int, int]
"""Transactions from one place to another of a contract's history."""


def make_order(seed: int) -> list[Delivery]:
    """Cuts of both histories, each in its order, interleaved at random; one in ten is followed by an old one again."""
    dice = random.Random(seed)
    largest = dice.choice((5, 20, 60, 200, 700))
    at, order = dict.fromkeys(CONTRACTS, 0), list[Delivery]()
    while left := [contract for contract in CONTRACTS if at[contract] < len(HISTORIES[contract])]:
        contract = dice.choice(left)
        until = min(len(HISTORIES[contract]), at[contract] + dice.randint(1, largest))
        order.append((contract, at[contract], until))
        at[contract] = until
        if dice.random() < 0.1:
            order.append((contract, dice.randint(max(0, until - 2 * largest), until - 1), until))
    return [*order, (VAULT, len(HISTORIES[VAULT]) - largest, len(HISTORIES[VAULT]))]


Step = tuple[int, int, str, Totals]


class Fold:
    """The ledger as core alone makes it: totals by entries_of and post, each event once."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(TRANCHE_IDS, Totals())
        self.policies: dict[int, PolicyState] = {}
        self.steps: list[Step] = []
        self.seen: set[tuple[str, int, int]] = set()
        self.cursors = dict.fromkeys(CONTRACTS, GENESIS)
        self.duplicates = 0

    def deliver(self, contract: str, transactions: Sequence[DecodedTransaction]) -> None:
        for transaction in transactions:
            for event in transaction.events:
                identity = (contract, event.lt, event.message_index)
                if identity in self.seen:
                    self.duplicates += 1
                    continue
                self.seen.add(identity)
                for entry in entries_of(event.body):
                    after = self.totals[entry.tranche_id] = post(self.totals[entry.tranche_id], entry)
                    self.steps.append((event.lt, event.message_index, entry.tranche_id, after))
                policy_id = policy_of(event.body) if contract == FACTORY else None
                if policy_id is not None:
                    self.policies[policy_id] = move_policy(self.policies.get(policy_id), event.body)
            self.cursors[contract] = max(self.cursors[contract], transaction.cursor)

    def hash(self) -> str:
        policies = {number: as_row(policy) for number, policy in self.policies.items()}
        return state_hash(
            self.cursors, Counter(contract for contract, _, _ in self.seen), self.totals, self.steps, policies
        )


PolicyRow = tuple[str, int, int | None, int, str]


def as_row(policy: PolicyState) -> PolicyRow:
    return (policy.status.value, policy.coverage, policy.approved, policy.payout, policy.beneficiary)


def state_hash(
    cursors: dict[str, Cursor],
    events: Counter[str],
    totals: dict[str, Totals],
    steps: list[Step],
    policies: dict[int, PolicyRow],
) -> str:
    """One hash of where both contracts stand, what each event made of each tranche, where these and the policies are
    now."""
    known = [(contract, cursor.lt, cursor.hash) for contract, cursor in sorted(cursors.items())]
    state = (known, sorted(events.items()), sorted(totals.items()), sorted(steps), sorted(policies.items()))
    return hashlib.sha256(msgspec.json.encode(state)).hexdigest()[:16]


def fold_orders(seeds: Sequence[int]) -> tuple[set[str], int, int]:
    """The hashes of these orders, and how many deliveries and doubled events there were."""
    hashes, deliveries, duplicates = set(), 0, 0
    for seed in seeds:
        order, fold = make_order(seed), Fold()
        for contract, start, end in order:
            fold.deliver(contract, HISTORIES[contract][start:end])
        hashes.add(fold.hash())
        deliveries += len(order)
        duplicates += fold.duplicates
    return hashes, deliveries, duplicates


class Stored(msgspec.Struct):
    """What posting one order to PostgreSQL came to."""

    shared_hash: str
    state: State
    batches: int = 0
    conflicts: int = 0
    duplicates: int = 0


async def post_order(dsn: str, seed: int) -> Stored:
    """Post an order as it comes. Every other event comes twice within its transaction; what was posted before is
    refused by the cursor and changes nothing."""
    await register(dsn)
    conn = await connect(dsn)
    epoch = await take_ledger(conn)
    counts: Counter[str] = Counter()
    for contract, start, end in make_order(seed):
        history = HISTORIES[contract]
        after = history[start - 1].cursor if start else GENESIS
        part = batch(*map(double_some, history[start:end]), after=after, contract=contract)
        try:
            (posted,) = await post_batches(conn, [part], DEFAULT_PARAMS, epoch)
            counts += Counter(batches=1, duplicates=posted.duplicates)
        except CursorConflict:
            counts["conflicts"] += 1
    stored = Stored(await read_shared_hash(conn), await read_state(conn), **counts)
    await conn.close()
    return stored


def double_some(transaction: DecodedTransaction) -> DecodedTransaction:
    again = transaction.events[:: 1 + transaction.cursor.lt % 2]
    return msgspec.structs.replace(transaction, events=transaction.events + again)


TOTALS = (
    "total_capital_nanoton AS capital, coverage_sold_nanoton AS coverage, unearned_premium_nanoton AS unearned, "
    "earned_premium_nanoton::text AS earned, shares::text AS shares, absorbed_losses_nanoton::text AS losses"
)
POLICY_COLUMNS = (
    "status",
    "coverage_amount_nanoton",
    "approved_nanoton",
    "payout_nanoton",
    "beneficiary_address",
)


async def read_shared_hash(conn: Connection) -> str:
    """The same hash as core's, from the tables."""
    cursors = await conn.fetch("SELECT * FROM blockchain_sync_state")
    events = await conn.fetch("SELECT contract_address, count(*) FROM blockchain_events GROUP BY 1")
    now = await conn.fetch(f"SELECT tranche_id, {TOTALS} FROM tranche_utilization")
    steps = await conn.fetch(
        f"SELECT logical_time, message_index, tranche_id, {TOTALS} FROM tranche_utilization_history"
    )
    policies = await conn.fetch("SELECT * FROM policies")
    return state_hash(
        {row["contract_address"]: Cursor(row["last_synced_lt"], row["last_synced_hash"]) for row in cursors},
        Counter({row[0]: row[1] for row in events}),
        {row["tranche_id"]: numbers_of(row) for row in now},
        [(row["logical_time"], row["message_index"], row["tranche_id"], numbers_of(row)) for row in steps],
        {row["policy_id"]: tuple(row[name] for name in POLICY_COLUMNS) for row in policies},
    )


def numbers_of(row: Any) -> Totals:
    return Totals(**{name: int(row[name]) for name in Totals.__struct_fields__})


def test_the_story_has_the_promised_length_and_claims() -> None:
    counted = Counter(event.event_type for history in HISTORIES.values() for item in history for event in item.events)
    print(f"\nseed {SEED}: {sum(counted.values())} events: {dict(counted.most_common())}")
    assert sum(counted.values()) == EVENTS
    assert {"LossAbsorbed", "EpochStarted", "PayoutApproved", "PayoutExecuted", "ClaimDeferred"} <= counted.keys()


@pytest.mark.timeout(900)
def test_a_thousand_orders_give_one_state_and_postgresql_the_same(pg: DatabaseServer) -> None:
    places = [range(start, ORDERS, 4) for start in range(4)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        found = list(workers.map(fold_orders, places))
    hashes = set[str]().union(*(part[0] for part in found))
    stored = asyncio_run_orders(pg, range(STORED_ORDERS))
    shown = Counter(f"core {one}" for one in hashes) + Counter(f"stored {one.shared_hash}" for one in stored)
    print(
        f"\nseed {SEED}: {EVENTS} events in {ORDERS} orders ({sum(part[1] for part in found)} deliveries, "
        f"{sum(part[2] for part in found)} doubled events) through core, {len(stored)} through PostgreSQL "
        f"({sum(one.batches for one in stored)} batches, {sum(one.conflicts for one in stored)} refused by the cursor, "
        f"{sum(one.duplicates for one in stored)} doubled events): {dict(shown)}"
    )
    assert len(hashes) == 1
    assert {one.shared_hash for one in stored} == hashes
    assert len({digest(one.state) for one in stored}) == 1
    assert all(one.conflicts and one.duplicates for one in stored)


def asyncio_run_orders(pg: DatabaseServer, seeds: Sequence[int]) -> list[Stored]:
    """Two at a time, each in a database of its own."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        databases = [pg.create() for _ in seeds]
        try:
            return list(workers.map(post_order_apart, databases, seeds))
        finally:
            for dsn in databases:
                pg.drop(dsn)


def post_order_apart(dsn: str, seed: int) -> Stored:
    return asyncio.run(post_order(dsn, seed))


def test_a_lost_event_gives_another_state() -> None:
    """The hash sees one missing event, so that equal hashes mean something."""
    whole, lacking = Fold(), Fold()
    for contract in CONTRACTS:
        whole.deliver(contract, HISTORIES[contract])
        lost = next(n for n, item in enumerate(HISTORIES[contract]) if item.events)
        without = msgspec.structs.replace(HISTORIES[contract][lost], events=())
        lacking.deliver(contract, [*HISTORIES[contract][:lost], without, *HISTORIES[contract][lost + 1 :]])
    assert whole.hash() != lacking.hash()
