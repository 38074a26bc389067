"""The vault as core/ describes it: what each operation should change, and the events it should log."""

from __future__ import annotations

import copy

from tonsurance.chain.deployment import VaultTerms
from tonsurance.core.catalog import TRANCHES
from tonsurance.core.claims import (
    BreakerWindow,
    absorb_loss,
    add_loss,
    holds_back,
    is_worthless,
    may_deposit,
    window_at,
)
from tonsurance.core.events import (
    ClaimCancelled,
    ClaimDeferred,
    CoverageChanged,
    DepositMade,
    EpochStarted,
    EventBody,
    Frozen,
    LossAbsorbed,
    PremiumsDistributed,
    PremiumsEarned,
    ShortfallReported,
    WithdrawalMade,
    WithdrawalRequested,
)
from tonsurance.core.limits import coverage_cap_nano
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import Stream, add_premium, amount_for, earn, mint, split

MAX_UTILIZATION = DEFAULT_PARAMS.thresholds.max_utilization


class Refused(Exception):
    """The vault would throw this code (contracts/errors.fc)."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


def refuse_if(condition: bool, code: int) -> None:
    """Throw like the contract."""
    if condition:
        raise Refused(code)


class MirrorTranche:
    """One tranche, with core's stream of unearned premium."""

    def __init__(self) -> None:
        self.capital = self.coverage = self.shares = self.epoch = 0
        self.stream = Stream(0, 0, 0)


class Mirror:
    """All operations take the time and return the events in order; one that raises Refused has changed nothing."""

    def __init__(self, terms: VaultTerms) -> None:
        self.terms = terms
        self.tranches = [MirrorTranche() for _ in TRANCHES]
        self.holders: dict[tuple[int, str], tuple[int, int, int]] = {}
        self.policies: dict[int, int] = {}
        self.claims: dict[int, tuple[int, int, str]] = {}
        """(amount, due at, beneficiary) of the claims the breaker holds back."""
        self.window = BreakerWindow()
        self.frozen_until = 0
        self.paused = False

    def apply(self, operation: str, *args: object) -> list[EventBody]:
        """Run an operation by name, all or nothing."""
        before = copy.deepcopy(self.__dict__)
        events: list[EventBody] = []
        try:
            getattr(self, f"_{operation}")(events, *args)
        except Refused:
            self.__dict__ = before
            raise
        return events

    def rows(self) -> tuple[tuple[int, ...], ...]:
        """What get_all_tranches should return."""
        return tuple(
            (number, t.capital, t.coverage, t.stream.unearned, t.stream.end, t.stream.last, t.shares)
            for number, t in enumerate(self.tranches, 1)
        )

    def total(self, field: str) -> int:
        """A sum over the tranches."""
        if field == "unearned":
            return sum(t.stream.unearned for t in self.tranches)
        return sum(getattr(t, field) for t in self.tranches)

    def _accrued(self, events: list[EventBody], now: int, number: int) -> MirrorTranche:
        tranche = self.tranches[number - 1]
        tranche.stream, earned = earn(tranche.stream, now)
        tranche.capital += earned
        if earned:
            events.append(PremiumsEarned(number, earned))
        return tranche

    def _deposit(self, events: list[EventBody], now: int, owner: str, number: int, amount: int) -> None:
        refuse_if(self.paused, 100)
        refuse_if(bool(self.claims), 125)
        refuse_if(amount < NANO_PER_TON, 111)
        tranche = self._accrued(events, now, number)
        refuse_if(not may_deposit(tranche.capital, tranche.shares), 113)
        minted, locked = mint(amount, tranche.capital, tranche.shares)
        refuse_if(minted <= 0, 112)
        owned, requested, available_at = self.holders.get((number, owner), (0, 0, 0))
        refuse_if(owned == 0 and len(self.holders) >= self.terms.max_owners, 114)
        self.holders[number, owner] = (owned + minted, requested, available_at)
        tranche.capital += amount
        tranche.shares += minted + locked
        events.append(DepositMade(number, owner, amount, minted, locked))

    def _request(self, events: list[EventBody], now: int, owner: str, number: int, shares: int) -> None:
        owned, _, _ = self.holders.get((number, owner), (0, 0, 0))
        refuse_if(not 0 < shares <= owned, 115)
        self._accrued(events, now, number)
        available_at = now + self.terms.withdraw_delay_s
        self.holders[number, owner] = (owned, shares, available_at)
        expires_at = available_at + self.terms.withdraw_window_s
        events.append(WithdrawalRequested(number, owner, shares, available_at, expires_at))

    def _withdraw(self, events: list[EventBody], now: int, owner: str, number: int) -> None:
        refuse_if(now < self.frozen_until, 123)
        refuse_if(bool(self.claims), 125)
        owned, requested, available_at = self.holders.get((number, owner), (0, 0, 0))
        refuse_if(requested == 0, 116)
        refuse_if(now < available_at, 117)
        refuse_if(now > available_at + self.terms.withdraw_window_s, 118)
        tranche = self._accrued(events, now, number)
        amount = amount_for(requested, tranche.capital, tranche.shares)
        tranche.capital -= amount
        tranche.shares -= requested
        refuse_if(tranche.coverage > coverage_cap_nano(tranche.capital, MAX_UTILIZATION), 119)
        refuse_if(self.total("coverage") > coverage_cap_nano(self.total("capital"), MAX_UTILIZATION), 120)
        self.holders[number, owner] = (owned - requested, 0, 0)
        if owned == requested:
            del self.holders[number, owner]
        events.append(WithdrawalMade(number, owner, amount, requested))

    def _back(
        self, events: list[EventBody], now: int, policy_id: int, coverage: int, premium: int, duration_s: int
    ) -> None:
        if policy_id in self.policies:
            return
        refuse_if(self.paused, 100)
        refuse_if(bool(self.claims), 125)
        refuse_if(len(self.policies) >= self.terms.max_policies, 105)
        covers = split(coverage, [t.allocation_percent for t in TRANCHES])
        premiums = split(premium, [t.premium_percent for t in TRANCHES])
        for number, (cover, part) in enumerate(zip(covers, premiums, strict=True), 1):
            tranche = self._accrued(events, now, number)
            refuse_if(tranche.shares == 0, 119)
            refuse_if(tranche.coverage + cover > coverage_cap_nano(tranche.capital, MAX_UTILIZATION), 119)
            tranche.coverage += cover
            tranche.stream = add_premium(tranche.stream, part, duration_s, now)
        refuse_if(coverage > self.total("capital") * 5 // 100, 121)
        self.policies[policy_id] = coverage
        events += [PremiumsDistributed(premium, policy_id, premiums), CoverageChanged(policy_id, covers)]

    def _release(self, events: list[EventBody], now: int, policy_id: int) -> None:
        if policy_id not in self.policies:
            return
        refuse_if(policy_id in self.claims, 125)
        covers = split(self.policies.pop(policy_id), [t.allocation_percent for t in TRANCHES])
        for number, cover in enumerate(covers, 1):
            self._accrued(events, now, number).coverage -= cover
        events.append(CoverageChanged(policy_id, tuple(-cover for cover in covers)))

    # ---- claims: each returns what it pays

    def _pay(self, events: list[EventBody], now: int, policy_id: int, amount: int, beneficiary: str) -> None:
        if policy_id not in self.policies or policy_id in self.claims:
            return
        refuse_if(now < self.frozen_until, 123)
        refuse_if(not 0 < amount <= self.policies[policy_id], 128)
        total = self._accrue_all(events, now)
        if holds_back(window_at(self.window, total, now, self.terms.breaker_window_s), min(amount, total)):
            due_at = now + self.terms.claim_delay_s
            self.claims[policy_id] = (amount, due_at, beneficiary)
            events.append(ClaimDeferred(policy_id, amount, due_at))
            return
        self._settle(events, now, policy_id, amount, total)

    def _execute(self, events: list[EventBody], now: int, policy_id: int) -> None:
        refuse_if(policy_id not in self.claims, 126)
        refuse_if(now < self.claims[policy_id][1], 127)
        self._override(events, now, policy_id)

    def _override(self, events: list[EventBody], now: int, policy_id: int) -> None:
        refuse_if(policy_id not in self.claims, 126)
        refuse_if(now < self.frozen_until, 123)
        amount, _, _ = self.claims.pop(policy_id)
        self._settle(events, now, policy_id, amount, self._accrue_all(events, now))

    def _cancel(self, events: list[EventBody], now: int, policy_id: int) -> None:
        refuse_if(policy_id not in self.claims, 126)
        del self.claims[policy_id]
        events.append(ClaimCancelled(policy_id))

    def _freeze(self, events: list[EventBody], now: int, until: int) -> None:
        refuse_if(until > now + self.terms.max_freeze_s, 124)
        self.frozen_until = until
        events.append(Frozen(until))

    def _accrue_all(self, events: list[EventBody], now: int) -> int:
        return sum(self._accrued(events, now, number).capital for number in range(1, len(self.tranches) + 1))

    def _settle(self, events: list[EventBody], now: int, policy_id: int, amount: int, total: int) -> None:
        covers = split(self.policies.pop(policy_id), [t.allocation_percent for t in TRANCHES])
        borne, shortfall = absorb_loss(amount, [tranche.capital for tranche in self.tranches])
        for number in range(len(self.tranches), 0, -1):
            tranche, loss = self.tranches[number - 1], borne[number - 1]
            tranche.coverage -= covers[number - 1]
            tranche.capital -= loss
            if loss:
                events.append(LossAbsorbed(number, loss, policy_id))
            if loss and is_worthless(tranche.capital, tranche.shares):
                self._start_epoch(events, number, tranche)
        if amount > shortfall:
            self.window = add_loss(window_at(self.window, total, now, self.terms.breaker_window_s), amount - shortfall)
        events.append(CoverageChanged(policy_id, tuple(-cover for cover in covers)))
        if shortfall:
            events.append(ShortfallReported(policy_id, shortfall))

    def _start_epoch(self, events: list[EventBody], number: int, tranche: MirrorTranche) -> None:
        unearned = tranche.stream.unearned
        if unearned:
            events.append(PremiumsEarned(number, unearned))
        tranche.capital += unearned
        tranche.stream = Stream(0, tranche.stream.end, tranche.stream.last)
        tranche.epoch += 1
        events.append(EpochStarted(number, tranche.epoch, tranche.shares))
        tranche.shares = 0
        self.holders = {key: held for key, held in self.holders.items() if key[0] != number}
