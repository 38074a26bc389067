"""Vault and factory in the TVM, and the models over core/, run the same random sequences, equal after every message.

Compared to the nano after each transaction: exit code, events in their order with every field, every message sent, the
balance moved, and that no nano is lost between value, balance, messages and fees; then, when a contract's data changed,
all of its getters. After each: shares are holders' and nobody's, the ledger of the events is the vault's rows, the
balance holds everybody's money and the reserve, capital covers coverage after a sale or a withdrawal.

TONSURANCE_PARITY_SEQUENCES runs more (default 200), TONSURANCE_PARITY_SEED starts elsewhere.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache

import pytest

from parity.sequences import Recorded

SEQUENCES = int(os.environ.get("TONSURANCE_PARITY_SEQUENCES", "200"))
FIRST = int(os.environ.get("TONSURANCE_PARITY_SEED", "0"))
LENGTH = 50
CHUNK = 25

OPERATIONS = {
    "deposit", "request_withdraw", "withdraw", "create_policy", "expire_policy", "retry_policy in state 1",
    "retry_policy in state 3", "retry_policy in state 4", "execute_payout", "execute_claim", "override_claim",
    "cancel_claim",
    "freeze", "pause", "unpause", "set_quote_key", "top_up", "set_factory", "bounce of back_policy",
    "bounce of pay_claim",
}  # fmt: skip
REFUSALS = {
    "vault": {
        100, 101, 102, 104, 105, 110, 111, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128,
        0xFFFF,
    },
    "factory": {
        100, 101, 103, 104, 105, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144, 145, 146,
        150, 151, 152, 153, 154, 155, 156, 0xFFFF,
    },
}  # fmt: skip
"""All that a message can meet, but 112: see test_attacks.py, it takes a billion TON of premium."""
EVENTS = {
    "DepositMade", "WithdrawalRequested", "WithdrawalMade", "PremiumsDistributed", "PremiumsEarned", "CoverageChanged",
    "LossAbsorbed", "EpochStarted", "ClaimDeferred", "ClaimCancelled", "Frozen", "Paused", "FactorySet",
    "PolicyCreated", "PolicyRefused", "PolicyExpired", "PayoutApproved", "PayoutExecuted", "PayoutCancelled",
    "PayoutRefused", "QuoteKeySet",
}  # fmt: skip


@cache
def run_chunk(first: int) -> Counter[str]:
    """The counts of some sequences; a difference is raised."""
    counts: Counter[str] = Counter()
    for seed in range(first, min(first + CHUNK, FIRST + SEQUENCES)):
        counts += Recorded(seed, LENGTH).play()
    return counts


CHUNKS = range(FIRST, FIRST + SEQUENCES, CHUNK)


@pytest.mark.parametrize("first", CHUNKS)
def test_contracts_and_core_are_equal_to_the_nano_after_every_step(first: int) -> None:
    assert run_chunk(first).total() > 0


@pytest.mark.skipif(SEQUENCES < 200, reason="too few sequences to meet everything")
def test_the_sequences_meet_every_operation_event_and_refusal() -> None:
    counts: Counter[str] = sum((run_chunk(first) for first in CHUNKS), Counter())
    print("\n" + "\n".join(f"{what:40} {count}" for what, count in sorted(counts.items())))
    wanted = {f"done {name}" for name in OPERATIONS} | {f"event {name}" for name in EVENTS}
    wanted |= {f"{who} refused {code}" for who, codes in REFUSALS.items() for code in codes}
    assert sorted(wanted - set(counts)) == []
    for what, least in {
        "event WithdrawalMade": 120, "event LossAbsorbed": 500, "event ClaimDeferred": 60, "event EpochStarted": 80,
        "event PayoutExecuted": 400, "event PolicyExpired": 40, "event PolicyRefused": 300,
    }.items():  # fmt: skip
        assert counts[what] >= least, what
