"""The vault as core/ describes it: what each operation should change, and the events it should log."""

from __future__ import annotations

import copy

from tonsurance.chain.deployment import VaultTerms
from tonsurance.core.capacity import coverage_cap_nano
from tonsurance.core.catalog import TRANCHES
from tonsurance.core.events import (
    CoverageChanged,
    DepositMade,
    EventBody,
    PremiumsDistributed,
    PremiumsEarned,
    WithdrawalMade,
    WithdrawalRequested,
)
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import LOCKED_SHARES, Stream, add_premium, amount_for, earn, shares_for, split


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
        self.capital = self.coverage = self.shares = 0
        self.stream = Stream(0, 0, 0)


class Mirror:
    """All operations take the time and return the events in order; one that raises Refused has changed nothing."""

    def __init__(self, terms: VaultTerms) -> None:
        self.terms = terms
        self.tranches = [MirrorTranche() for _ in TRANCHES]
        self.holders: dict[tuple[int, str], tuple[int, int, int]] = {}
        self.policies: dict[int, int] = {}
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
        refuse_if(amount < NANO_PER_TON, 111)
        tranche = self._accrued(events, now, number)
        refuse_if(tranche.capital == 0 and tranche.shares > 0, 113)
        first = tranche.shares == 0
        minted = shares_for(amount, tranche.capital, tranche.shares) - (LOCKED_SHARES if first else 0)
        refuse_if(minted <= 0, 112)
        owned, requested, available_at = self.holders.get((number, owner), (0, 0, 0))
        refuse_if(owned == 0 and len(self.holders) >= self.terms.max_owners, 114)
        self.holders[number, owner] = (owned + minted, requested, available_at)
        tranche.capital += amount
        tranche.shares += minted + (LOCKED_SHARES if first else 0)
        events.append(DepositMade(number, owner, amount, minted, LOCKED_SHARES if first else 0))

    def _request(self, events: list[EventBody], now: int, owner: str, number: int, shares: int) -> None:
        owned, _, _ = self.holders.get((number, owner), (0, 0, 0))
        refuse_if(not 0 < shares <= owned, 115)
        self._accrued(events, now, number)
        available_at = now + self.terms.withdraw_delay_s
        self.holders[number, owner] = (owned, shares, available_at)
        expires_at = available_at + self.terms.withdraw_window_s
        events.append(WithdrawalRequested(number, owner, shares, available_at, expires_at))

    def _withdraw(self, events: list[EventBody], now: int, owner: str, number: int) -> None:
        owned, requested, available_at = self.holders.get((number, owner), (0, 0, 0))
        refuse_if(requested == 0, 116)
        refuse_if(now < available_at, 117)
        refuse_if(now > available_at + self.terms.withdraw_window_s, 118)
        tranche = self._accrued(events, now, number)
        amount = amount_for(requested, tranche.capital, tranche.shares)
        tranche.capital -= amount
        tranche.shares -= requested
        refuse_if(tranche.coverage > coverage_cap_nano(tranche.capital), 119)
        refuse_if(self.total("coverage") > coverage_cap_nano(self.total("capital")), 120)
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
        refuse_if(len(self.policies) >= self.terms.max_policies, 105)
        covers = split(coverage, [t.allocation_percent for t in TRANCHES])
        premiums = split(premium, [t.premium_percent for t in TRANCHES])
        for number, (cover, part) in enumerate(zip(covers, premiums, strict=True), 1):
            tranche = self._accrued(events, now, number)
            refuse_if(tranche.capital == 0, 119)
            refuse_if(tranche.coverage + cover > coverage_cap_nano(tranche.capital), 119)
            tranche.coverage += cover
            tranche.stream = add_premium(tranche.stream, part, duration_s, now)
        refuse_if(coverage > self.total("capital") * 5 // 100, 121)
        self.policies[policy_id] = coverage
        events += [PremiumsDistributed(premium, policy_id, premiums), CoverageChanged(policy_id, covers)]

    def _release(self, events: list[EventBody], now: int, policy_id: int) -> None:
        if policy_id not in self.policies:
            return
        covers = split(self.policies.pop(policy_id), [t.allocation_percent for t in TRANCHES])
        for number, cover in enumerate(covers, 1):
            self._accrued(events, now, number).coverage -= cover
        events.append(CoverageChanged(policy_id, tuple(-cover for cover in covers)))
