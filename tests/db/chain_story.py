"""Made-up chain history for ledger tests: transactions with events, cut into batches, and what they must add up to."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import (
    FACTORY_KIND,
    GENESIS,
    VAULT_KIND,
    ChainEvent,
    ContractBatch,
    CoverageChanged,
    Cursor,
    DecodedTransaction,
    DepositMade,
    EpochStarted,
    EventBody,
    LossAbsorbed,
    Paused,
    PolicyCreated,
    PolicyExpired,
    PremiumsDistributed,
    PremiumsEarned,
    Undecoded,
    WithdrawalMade,
)
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.db.events import register_contract
from tonsurance.db.pool import connect

VAULT = "0:" + "aa" * 32
FACTORY = "0:" + "bb" * 32
HOLDER = "0:" + "cc" * 32
KINDS = {VAULT: VAULT_KIND, FACTORY: FACTORY_KIND}
TON = 10**9
START_TIME = 1_900_000_000


def cursor_at(lt: int) -> Cursor:
    """The cursor of the transaction at this logical time."""
    return Cursor(lt, hashlib.sha256(str(lt).encode()).digest())


def event(lt: int, index: int, body: EventBody, contract: str = VAULT) -> ChainEvent:
    """One event, whatever the story."""
    return ChainEvent(
        contract=contract,
        contract_kind=KINDS.get(contract, VAULT_KIND),
        lt=lt,
        message_index=index,
        transaction_hash=cursor_at(lt).hash,
        block_time=START_TIME + lt,
        decoder="test-1",
        body=body,
        raw_body=b"\xb5\xee",
    )


def transaction(
    lt: int, *bodies: EventBody, contract: str = VAULT, undecoded: tuple[Undecoded, ...] = ()
) -> DecodedTransaction:
    """A transaction with these events."""
    return DecodedTransaction(
        cursor=cursor_at(lt),
        block_time=START_TIME + lt,
        succeeded=True,
        events=tuple(event(lt, index, body, contract) for index, body in enumerate(bodies)),
        undecoded=undecoded,
    )


def batch(*transactions: DecodedTransaction, after: Cursor = GENESIS, contract: str = VAULT) -> ContractBatch:
    """These transactions of a contract, following `after`."""
    return ContractBatch(
        contract=contract, contract_kind=KINDS.get(contract, VAULT_KIND), after=after, transactions=transactions
    )


def cut(transactions: Sequence[DecodedTransaction], sizes: Sequence[int], contract: str = VAULT) -> list[ContractBatch]:
    """Consecutive batches of these sizes; the rest is the last one."""
    batches, after, left = [], GENESIS, list(transactions)
    for size in (*sizes, len(left)):
        part, left = left[:size], left[size:]
        if part:
            batches.append(batch(*part, after=after, contract=contract))
            after = batches[-1].until
    return batches


def deposit(tranche: int, amount: int, shares: int | None = None) -> DepositMade:
    """A deposit whose shares default to its amount."""
    return DepositMade(tranche, HOLDER, amount, amount if shares is None else shares, 0)


def policy_created(policy_id: int, amount: int = 100 * TON) -> PolicyCreated:
    """A policy of a valid product."""
    return PolicyCreated(
        policy_id, 7_000 + policy_id, HOLDER, 0, 1, 2, amount, TON, START_TIME, START_TIME + 90, 9700, 9000
    )


def legal_bodies(seed: int, count: int) -> list[EventBody]:
    """A random vault history in which no amount ever leaves its bounds."""
    dice = random.Random(seed)
    totals = dict.fromkeys(TRANCHE_IDS, Totals())
    bodies: list[EventBody] = []
    while len(bodies) < count:
        body = _legal_body(dice, totals, len(bodies))
        for entry in entries_of(body):
            totals[entry.tranche_id] = post(totals[entry.tranche_id], entry)
        bodies.append(body)
    return bodies


def _legal_body(dice: random.Random, totals: dict[str, Totals], number: int) -> EventBody:
    tranche = dice.randint(1, 6)
    now = totals[TRANCHE_IDS[tranche - 1]]
    if dice.random() < 0.15:
        return dice.choice(
            (LossAbsorbed(tranche, dice.randint(0, now.capital), number), EpochStarted(tranche, number, now.shares))
        )
    match dice.choice(("deposit", "deposit", "withdraw", "premium", "earn", "cover", "release", "pause")):
        case "withdraw":
            return WithdrawalMade(tranche, HOLDER, dice.randint(0, now.capital), dice.randint(0, now.shares))
        case "premium":
            parts = tuple(dice.choice((0, dice.randint(1, TON))) for _ in TRANCHE_IDS)
            return PremiumsDistributed(sum(parts), number, parts)
        case "earn":
            return PremiumsEarned(tranche, dice.randint(0, now.unearned))
        case "cover":
            return CoverageChanged(number, tuple(dice.randint(0, 50 * TON) for _ in TRANCHE_IDS))
        case "release":
            return CoverageChanged(number, tuple(-dice.randint(0, totals[name].coverage) for name in TRANCHE_IDS))
        case "pause":
            return Paused(dice.random() < 0.5)
        case _:
            return deposit(tranche, dice.randint(1, 1000 * TON), dice.randint(1, 10**30))


def legal_transactions(seed: int, count: int) -> list[DecodedTransaction]:
    """That history in transactions of 0 to 3 events with growing logical times."""
    dice = random.Random(seed)
    bodies = legal_bodies(seed, count)
    transactions, lt = [], 1000
    while bodies:
        size = dice.choice((0, 1, 1, 1, 2, 3))
        mine, bodies = bodies[:size], bodies[size:]
        lt += dice.randint(1, 10_000)
        transactions.append(transaction(lt, *mine))
    return transactions


async def register(dsn: str) -> None:
    """Make the vault and its factory known to a fresh database."""
    conn = await connect(dsn)
    await register_contract(conn, VAULT, VAULT_KIND, "main")
    await register_contract(conn, FACTORY, FACTORY_KIND, "main")
    await conn.close()


def expired(policy_id: int) -> PolicyExpired:
    """The end of a policy."""
    return PolicyExpired(policy_id)
