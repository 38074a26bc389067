"""A made-up life of both contracts: every kind of event, each contract's transactions in order, legal throughout."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from db.chain_story import FACTORY, HOLDER, START_TIME, TON, VAULT, cursor_at, transaction
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import (
    ClaimCancelled,
    ClaimDeferred,
    CoverageChanged,
    DecodedTransaction,
    DepositMade,
    EpochStarted,
    EventBody,
    FactorySet,
    Frozen,
    LossAbsorbed,
    Paused,
    PayoutApproved,
    PayoutCancelled,
    PayoutExecuted,
    PayoutRefused,
    PolicyCreated,
    PolicyExpired,
    PolicyRefused,
    PremiumsDistributed,
    PremiumsEarned,
    QuoteKeySet,
    ShortfallReported,
    WithdrawalMade,
    WithdrawalRequested,
)
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.policies import PAY_CLAIM_OP

SIX = range(6)


@dataclass(frozen=True)
class Step:
    """One transaction of one contract."""

    contract: str
    lt: int
    bodies: tuple[EventBody, ...]


@dataclass
class Policy:
    """What is locked for it, senior to junior."""

    parts: tuple[int, ...]
    approved: int = 0


@dataclass
class Story:
    """Grows by one operation at a time; an operation is one or more transactions."""

    dice: random.Random
    steps: list[Step] = field(default_factory=list)
    totals: dict[str, Totals] = field(default_factory=lambda: dict.fromkeys(TRANCHE_IDS, Totals()))
    active: dict[int, Policy] = field(default_factory=dict)
    approved: dict[int, Policy] = field(default_factory=dict)
    deferred: dict[int, Policy] = field(default_factory=dict)
    lt: int = 1_000
    next_policy: int = 1
    epochs: Counter[int] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """How many there are."""
        return sum(len(step.bodies) for step in self.steps)

    def act(self) -> None:
        """One operation that is possible now."""
        dice, choice = self.dice, self.dice.random()
        if choice < 0.22:
            self._deposit(dice.randrange(6))
        elif choice < 0.34:
            self._withdraw(dice.randrange(6))
        elif choice < 0.62:
            self._buy()
        elif choice < 0.78 and self.active:
            self._expire(self._take(self.active))
        elif choice < 0.86 and self.active:
            self._approve()
        elif choice < 0.93 and self.approved:
            self._answer_claim()
        elif choice < 0.95 and self.deferred:
            self._end_deferral()
        else:
            self._say()

    def _take(self, policies: dict[int, Policy]) -> tuple[int, Policy]:
        policy_id = self.dice.choice(list(policies))
        return policy_id, policies.pop(policy_id)

    def _add(self, contract: str, *bodies: EventBody) -> None:
        self.lt += self.dice.randint(1, 9_000)
        self.steps.append(Step(contract, self.lt, bodies))
        for entry in (entry for body in bodies if contract == VAULT for entry in entries_of(body)):
            self.totals[entry.tranche_id] = post(self.totals[entry.tranche_id], entry)

    def _now(self, index: int) -> Totals:
        return self.totals[TRANCHE_IDS[index]]

    def _earned(self) -> list[EventBody]:
        """What accrued until now, as every change of a price begins."""
        due = ((i, self._now(i).unearned) for i in SIX)
        return [
            PremiumsEarned(i + 1, self.dice.randint(1, most)) for i, most in due if most and self.dice.random() < 0.3
        ]

    def _deposit(self, index: int) -> None:
        locked = 0 if self._now(index).shares else 10**8
        most = 900 * TON if index < 5 else 20 * TON  # the most junior one is small, so that claims empty it
        made = DepositMade(index + 1, HOLDER, self.dice.randint(TON, most), self.dice.randint(1, 10**24), locked)
        self._add(VAULT, *self._earned(), made)

    def _withdraw(self, index: int) -> None:
        if self.dice.random() < 0.5:
            self._add(VAULT, WithdrawalRequested(index + 1, HOLDER, self.dice.randint(1, 10**20), self.lt, self.lt + 9))
            return
        earned, now = self._earned(), self._now(index)
        free = max(0, now.capital - now.coverage)
        taken = WithdrawalMade(
            index + 1, HOLDER, self.dice.randint(0, free // 4), self.dice.randint(0, now.shares // 4)
        )
        self._add(VAULT, *earned, taken)

    def _buy(self) -> None:
        policy_id, self.next_policy = self.next_policy, self.next_policy + 1
        parts = tuple(self.dice.randint(0, max(0, self._now(i).capital - self._now(i).coverage) // 20) for i in SIX)
        if not sum(parts) or self.dice.random() < 0.05:
            self._add(FACTORY, PolicyRefused(policy_id, policy_id + 7_000, HOLDER, 0xAABBCCDD))
            return
        premium = tuple(self.dice.choice((0, self.dice.randint(1, TON))) for _ in SIX)
        distributed = PremiumsDistributed(sum(premium), policy_id, premium)
        self._add(VAULT, *self._earned(), distributed, CoverageChanged(policy_id, parts))
        start, end = START_TIME, START_TIME + 90 * 86_400
        created = PolicyCreated(
            policy_id, policy_id + 7_000, HOLDER, 0, 1, 2, sum(parts), sum(premium), start, end, 9_700, 9_000
        )
        self._add(FACTORY, created)
        self.active[policy_id] = Policy(parts)

    def _expire(self, taken: tuple[int, Policy]) -> None:
        policy_id, policy = taken
        self._add(VAULT, CoverageChanged(policy_id, tuple(-part for part in policy.parts)))
        self._add(FACTORY, PolicyExpired(policy_id))

    def _approve(self) -> None:
        policy_id, policy = self._take(self.active)
        whole = sum(policy.parts)
        policy.approved = self.dice.choice((whole, self.dice.randint(1, whole)))
        self._add(FACTORY, PayoutApproved(policy_id, policy.approved))
        self.approved[policy_id] = policy

    def _answer_claim(self) -> None:
        policy_id, policy = self._take(self.approved)
        match self.dice.choice(("settle", "settle", "defer", "refuse")):
            case "settle":
                self._settle(policy_id, policy)
            case "defer":
                self._add(VAULT, *self._earned(), ClaimDeferred(policy_id, policy.approved, START_TIME + 86_400))
                self.deferred[policy_id] = policy
            case _:
                self._add(FACTORY, PayoutRefused(policy_id, PAY_CLAIM_OP))
                self.active[policy_id] = policy

    def _end_deferral(self) -> None:
        policy_id, policy = self._take(self.deferred)
        if self.dice.random() < 0.5:
            self._settle(policy_id, policy)
            return
        self._add(VAULT, ClaimCancelled(policy_id))
        self._add(FACTORY, PayoutCancelled(policy_id))
        self.active[policy_id] = policy

    def _settle(self, policy_id: int, policy: Policy) -> None:
        """The most junior capital first; what a tranche loses almost whole starts a new epoch."""
        bodies, left = self._earned(), policy.approved
        for index in reversed(SIX):
            loss = min(left, self._now(index).capital)
            if loss:
                bodies.append(LossAbsorbed(index + 1, loss, policy_id))
                left -= loss
            if loss and loss == self._now(index).capital:
                self.epochs[index] += 1
                bodies.append(EpochStarted(index + 1, self.epochs[index], self._now(index).shares))
        bodies.append(CoverageChanged(policy_id, tuple(-part for part in policy.parts)))
        if left or self.dice.random() < 0.1:
            bodies.append(ShortfallReported(policy_id, left))
        self._add(VAULT, *bodies)
        self._add(FACTORY, PayoutExecuted(policy_id, HOLDER, policy.approved - left))

    def _say(self) -> None:
        """What moves no money, and what says nothing at all."""
        said: tuple[str, tuple[EventBody, ...]] = self.dice.choice(
            (
                (VAULT, (Paused(self.dice.random() < 0.5),)),
                (VAULT, (Frozen(self.lt),)),
                (VAULT, (FactorySet(FACTORY),)),
                (FACTORY, (Paused(self.dice.random() < 0.5),)),
                (FACTORY, (QuoteKeySet(f"{self.dice.getrandbits(256):064x}"),)),
                (VAULT, ()),
                (FACTORY, ()),
            )
        )
        self._add(said[0], *said[1])


def make_steps(seed: int, events: int) -> list[Step]:
    """A story of exactly this many events."""
    story = Story(random.Random(seed))
    while story.events < events:
        story.act()
    steps, left = [], events
    for step in story.steps:
        bodies = step.bodies[:left]
        steps.append(Step(step.contract, step.lt, bodies))
        left -= len(bodies)
    return steps


def decoded(step: Step) -> DecodedTransaction:
    """The step as the decoder would give it."""
    return transaction(step.lt, *step.bodies, contract=step.contract)


def histories(steps: list[Step]) -> dict[str, list[DecodedTransaction]]:
    """Each contract's transactions, oldest first."""
    return {contract: [decoded(step) for step in steps if step.contract == contract] for contract in (VAULT, FACTORY)}


__all__ = ["FACTORY", "VAULT", "Step", "cursor_at", "decoded", "histories", "make_steps"]
