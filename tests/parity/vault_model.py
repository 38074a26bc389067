"""The vault as a state machine over the functions of core/."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from parity.wires import UNKNOWN_OP, Effects, Message, Out, Refused, refuse_if
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
    FactorySet,
    Frozen,
    LossAbsorbed,
    Paused,
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

DEPOSIT_GAS = 100_000_000
BACK_GAS = 50_000_000
MAX_UTILIZATION = DEFAULT_PARAMS.thresholds.max_utilization
CLAIMS_SOURCE = (Path(__file__).resolve().parents[2] / "contracts" / "vault_claims.fc").read_text()


def read_allowance(name: str) -> int:
    """An allowance for gas as the contract's source states it: a measured figure, not a rule of core/."""
    found = re.search(rf"const int gas::{name} = (\d+);", CLAIMS_SOURCE)
    assert found is not None
    return int(found[1])


CLAIM_GAS, NOTICE = read_allowance("claim"), read_allowance("answer")
COVERS = tuple(t.allocation_percent for t in TRANCHES)
PREMIUMS = tuple(t.premium_percent for t in TRANCHES)


class Row(msgspec.Struct, frozen=True):
    """One tranche. `nobody`: how many of its shares have no holder."""

    capital: int = 0
    coverage: int = 0
    stream: Stream = Stream(0, 0, 0)
    shares: int = 0
    nobody: int = 0
    epoch: int = 0

    def seen(self, number: int) -> tuple[int, ...]:
        """What the getters show of it."""
        return (
            number, self.capital, self.coverage, self.stream.unearned, self.stream.end, self.stream.last, self.shares,
        )  # fmt: skip


class Holder(msgspec.Struct, frozen=True):
    """What an owner has in a tranche."""

    shares: int = 0
    requested: int = 0
    available_at: int = 0


class Claim(msgspec.Struct, frozen=True):
    """A claim the breaker deferred."""

    amount: int
    beneficiary: str
    due_at: int


class Backed(msgspec.Struct, frozen=True):
    """A policy of the vault."""

    coverage: int
    claim: Claim | None = None


class VaultModel:
    """`handle` takes one message: its effects, or Refused and nothing changed."""

    def __init__(self, terms: VaultTerms, address: str) -> None:
        self.terms = terms
        self.address = address
        self.factory = terms.admin
        self.rows = [Row() for _ in TRANCHES]
        self.holders: dict[tuple[int, str], Holder] = {}
        self.policies: dict[int, Backed] = {}
        self.paused = False
        self.frozen_until = 0
        self.window = BreakerWindow()
        self.now = 0
        self.events: list[EventBody] = []

    def handle(self, now: int, message: Message) -> Effects:
        """Run one message."""
        if message.bounced:
            return Effects(booked=None)
        saved = {**self.__dict__, "rows": [*self.rows], "holders": {**self.holders}, "policies": {**self.policies}}
        self.now, self.events = now, []
        handler = getattr(self, f"_do_{message.name}", None)
        try:
            refuse_if(handler is None, UNKNOWN_OP)
            assert handler is not None
            outs, booked = handler(message, *message.args)
        except Refused:
            self.__dict__ = saved
            raise
        return Effects(events=tuple(self.events), outs=outs, booked=booked)

    # ---- sums

    @property
    def capital(self) -> int:
        return sum(row.capital for row in self.rows)

    @property
    def coverage(self) -> int:
        return sum(row.coverage for row in self.rows)

    @property
    def unearned(self) -> int:
        return sum(row.stream.unearned for row in self.rows)

    @property
    def claims_due(self) -> int:
        return sum(backed.claim is not None for backed in self.policies.values())

    def breaker_seen(self, now: int) -> list[int]:
        """What get_circuit_breaker shows."""
        window, closes_at = self.window, self.window.opened_at + self.terms.breaker_window_s
        if now >= closes_at:
            return [0] * 5
        return [window.opened_at, closes_at, window.capital, window.losses, window.limit]

    # ---- parts of handlers

    def _accrue(self, number: int) -> Row:
        row = self.rows[number - 1]
        stream, earned = earn(row.stream, self.now)
        if earned:
            self.events.append(PremiumsEarned(number, earned))
        return self._put(number, row, stream=stream, capital=row.capital + earned)

    def _put(self, number: int, row: Row, **changes: object) -> Row:
        changed = msgspec.structs.replace(row, **changes)
        self.rows[number - 1] = changed
        return changed

    def _excess(self, message: Message, booked: int) -> tuple[tuple[Out, ...], int]:
        return (Out(to=message.source, name="excesses", query_id=message.query_id),), booked

    def _answer(self, name: str, message: Message, *args: int, booked: int = 0) -> tuple[tuple[Out, ...], int]:
        return (Out(to=self.factory, name=name, query_id=message.query_id, args=args),), booked

    def _check_tranche(self, number: int) -> None:
        refuse_if(not 1 <= number <= 6, 110)

    def _check_admin(self, message: Message) -> None:
        refuse_if(message.source != self.terms.admin, 101)

    def _check_factory(self, message: Message) -> None:
        refuse_if(message.source != self.factory, 102)

    def _keep_holder(self, key: tuple[int, str], holder: Holder) -> None:
        if holder.shares:
            self.holders[key] = holder
        else:
            del self.holders[key]

    # ---- depositors

    def _do_deposit(self, message: Message, number: int) -> tuple[tuple[Out, ...], int]:
        self._check_tranche(number)
        refuse_if(self.paused, 100)
        refuse_if(self.claims_due > 0, 125)
        amount = message.value - DEPOSIT_GAS
        refuse_if(amount < NANO_PER_TON, 111)
        row = self._accrue(number)
        refuse_if(not may_deposit(row.capital, row.shares), 113)
        minted, locked = mint(amount, row.capital, row.shares)
        refuse_if(minted <= 0, 112)
        key = (number, message.source)
        refuse_if(key not in self.holders and len(self.holders) >= self.terms.max_owners, 114)
        held = self.holders.get(key, Holder())
        self.holders[key] = msgspec.structs.replace(held, shares=held.shares + minted)
        self._put(
            number, row, capital=row.capital + amount, shares=row.shares + minted + locked, nobody=row.nobody + locked
        )
        self.events.append(DepositMade(number, message.source, amount, minted, locked))
        return self._excess(message, amount)

    def _do_request_withdraw(self, message: Message, number: int, shares: int) -> tuple[tuple[Out, ...], int]:
        self._check_tranche(number)
        key = (number, message.source)
        held = self.holders.get(key, Holder())
        refuse_if(not 0 < shares <= held.shares, 115)
        self._accrue(number)
        opens = self.now + self.terms.withdraw_delay_s
        self.holders[key] = Holder(held.shares, shares, opens)
        closes = opens + self.terms.withdraw_window_s
        self.events.append(WithdrawalRequested(number, message.source, shares, opens, closes))
        return self._excess(message, 0)

    def _do_withdraw(self, message: Message, number: int) -> tuple[tuple[Out, ...], int]:
        self._check_tranche(number)
        refuse_if(self.now < self.frozen_until, 123)
        refuse_if(self.claims_due > 0, 125)
        key = (number, message.source)
        held = self.holders.get(key, Holder())
        refuse_if(held.requested == 0, 116)
        refuse_if(self.now < held.available_at, 117)
        refuse_if(self.now > held.available_at + self.terms.withdraw_window_s, 118)
        row = self._accrue(number)
        amount = amount_for(held.requested, row.capital, row.shares)
        row = self._put(number, row, capital=row.capital - amount, shares=row.shares - held.requested)
        refuse_if(row.coverage > coverage_cap_nano(row.capital, MAX_UTILIZATION), 119)
        refuse_if(self.coverage > coverage_cap_nano(self.capital, MAX_UTILIZATION), 120)
        self._keep_holder(key, Holder(held.shares - held.requested))
        self.events.append(WithdrawalMade(number, message.source, amount, held.requested))
        return self._excess(message, -amount)

    # ---- policies

    def _do_back_policy(
        self, message: Message, policy_id: int, coverage: int, premium: int, duration_s: int
    ) -> tuple[tuple[Out, ...], int]:
        self._check_factory(message)
        if policy_id in self.policies:
            return self._answer("policy_backed", message, policy_id)
        refuse_if(self.paused, 100)
        refuse_if(self.claims_due > 0, 125)
        refuse_if(message.value < premium + BACK_GAS, 104)
        refuse_if(len(self.policies) >= self.terms.max_policies, 105)
        covers, premiums = split(coverage, COVERS), split(premium, PREMIUMS)
        for number, (cover, part) in enumerate(zip(covers, premiums, strict=True), 1):
            row = self._accrue(number)
            refuse_if(row.shares == 0, 119)
            refuse_if(row.coverage + cover > coverage_cap_nano(row.capital, MAX_UTILIZATION), 119)
            stream = add_premium(row.stream, part, duration_s, self.now)
            self._put(number, row, coverage=row.coverage + cover, stream=stream)
        refuse_if(coverage > self.capital * 5 // 100, 121)
        self.policies[policy_id] = Backed(coverage)
        self.events += [PremiumsDistributed(premium, policy_id, premiums), CoverageChanged(policy_id, covers)]
        return self._answer("policy_backed", message, policy_id, booked=premium)

    def _do_release_coverage(self, message: Message, policy_id: int) -> tuple[tuple[Out, ...], int]:
        self._check_factory(message)
        backed = self.policies.get(policy_id)
        if backed is not None:
            refuse_if(backed.claim is not None, 125)
            for number in range(1, 7):
                self._accrue(number)
            self._unlock(policy_id)
        return self._answer("coverage_released", message, policy_id)

    def _unlock(self, policy_id: int) -> None:
        """Give the policy's coverage back and forget it."""
        covers = split(self.policies.pop(policy_id).coverage, COVERS)
        for number, cover in enumerate(covers, 1):
            row = self.rows[number - 1]
            self._put(number, row, coverage=row.coverage - cover)
        self.events.append(CoverageChanged(policy_id, tuple(-cover for cover in covers)))

    # ---- claims

    def _do_pay_claim(
        self, message: Message, policy_id: int, amount: int, beneficiary: str
    ) -> tuple[tuple[Out, ...], int]:
        self._check_factory(message)
        backed = self.policies.get(policy_id)
        if backed is None:
            return self._answer("claim_settled", message, policy_id, amount)
        if backed.claim is not None:
            return self._answer("claim_held", message, policy_id)
        refuse_if(self.now < self.frozen_until, 123)
        refuse_if(message.value < CLAIM_GAS, 104)
        refuse_if(not 0 < amount <= backed.coverage, 128)
        for number in range(1, 7):
            self._accrue(number)
        if holds_back(self._window_now(), min(amount, self.capital)):
            due_at = self.now + self.terms.claim_delay_s
            self.policies[policy_id] = Backed(backed.coverage, Claim(amount, beneficiary, due_at))
            self.events.append(ClaimDeferred(policy_id, amount, due_at))
            return self._answer("claim_held", message, policy_id)
        paid = self._settle(policy_id, amount)
        answer, _ = self._answer("claim_settled", message, policy_id, paid)
        return (*self._payment(message, beneficiary, policy_id, paid), *answer), -paid

    def _payment(self, message: Message, beneficiary: str, policy_id: int, paid: int) -> tuple[Out, ...]:
        if paid == 0:
            return ()
        return (Out(to=beneficiary, name="claim_payment", query_id=message.query_id, args=(policy_id,), value=paid),)

    def _window_now(self) -> BreakerWindow:
        return window_at(self.window, self.capital, self.now, self.terms.breaker_window_s)

    def _settle(self, policy_id: int, amount: int) -> int:
        """All tranches have accrued. Returns what is paid."""
        window = self._window_now()
        losses, shortfall = absorb_loss(amount, [row.capital for row in self.rows])
        for number in range(6, 0, -1):
            if losses[number - 1]:
                self._lose(policy_id, number, losses[number - 1])
        if amount > shortfall:
            self.window = add_loss(window, amount - shortfall)
        self._unlock(policy_id)
        if shortfall:
            self.events.append(ShortfallReported(policy_id, shortfall))
        return amount - shortfall

    def _lose(self, policy_id: int, number: int, loss: int) -> None:
        row = self.rows[number - 1]
        self.events.append(LossAbsorbed(number, loss, policy_id))
        row = self._put(number, row, capital=row.capital - loss)
        if is_worthless(row.capital, row.shares):
            self._start_epoch(number, row)

    def _start_epoch(self, number: int, row: Row) -> None:
        """Shares are void; unearned premium is capital at once, and nobody's."""
        left = row.stream.unearned
        if left:
            self.events.append(PremiumsEarned(number, left))
        self.events.append(EpochStarted(number, row.epoch + 1, row.shares))
        self.holders = {key: held for key, held in self.holders.items() if key[0] != number}
        stream = Stream(0, row.stream.end, row.stream.last)
        self._put(number, row, capital=row.capital + left, stream=stream, shares=0, nobody=0, epoch=row.epoch + 1)

    def _noted(self, policy_id: int) -> Claim:
        backed = self.policies.get(policy_id)
        if backed is None or backed.claim is None:
            raise Refused(126)
        return backed.claim

    def _pay_noted(self, message: Message, policy_id: int, claim: Claim) -> tuple[tuple[Out, ...], int]:
        refuse_if(self.now < self.frozen_until, 123)
        refuse_if(message.value < CLAIM_GAS + NOTICE, 104)
        for number in range(1, 7):
            self._accrue(number)
        paid = self._settle(policy_id, claim.amount)
        notice = Out(to=self.factory, name="claim_settled", args=(policy_id, paid), value=NOTICE)
        excess, _ = self._excess(message, 0)
        return (*self._payment(message, claim.beneficiary, policy_id, paid), notice, *excess), -paid

    def _do_execute_claim(self, message: Message, policy_id: int) -> tuple[tuple[Out, ...], int]:
        claim = self._noted(policy_id)
        refuse_if(self.now < claim.due_at, 127)
        return self._pay_noted(message, policy_id, claim)

    def _do_override_claim(self, message: Message, policy_id: int) -> tuple[tuple[Out, ...], int]:
        self._check_admin(message)
        return self._pay_noted(message, policy_id, self._noted(policy_id))

    def _do_cancel_claim(self, message: Message, policy_id: int) -> tuple[tuple[Out, ...], int]:
        self._check_admin(message)
        self._noted(policy_id)
        refuse_if(message.value < NOTICE, 104)
        self.policies[policy_id] = Backed(self.policies[policy_id].coverage)
        self.events.append(ClaimCancelled(policy_id))
        notice = Out(to=self.factory, name="claim_dropped", args=(policy_id,), value=NOTICE)
        excess, _ = self._excess(message, 0)
        return (notice, *excess), 0

    # ---- admin and rent

    def _do_pause(self, message: Message) -> tuple[tuple[Out, ...], int]:
        return self._set_paused(message, True)

    def _do_unpause(self, message: Message) -> tuple[tuple[Out, ...], int]:
        return self._set_paused(message, False)

    def _set_paused(self, message: Message, paused: bool) -> tuple[tuple[Out, ...], int]:
        self._check_admin(message)
        self.paused = paused
        self.events.append(Paused(paused))
        return self._excess(message, 0)

    def _do_freeze(self, message: Message, until: int) -> tuple[tuple[Out, ...], int]:
        self._check_admin(message)
        refuse_if(until > self.now + self.terms.max_freeze_s, 124)
        self.frozen_until = until
        self.events.append(Frozen(until))
        return self._excess(message, 0)

    def _do_set_factory(self, message: Message, factory: str) -> tuple[tuple[Out, ...], int]:
        self._check_admin(message)
        refuse_if(bool(self.policies), 122)
        self.factory = factory
        self.events.append(FactorySet(factory))
        return self._excess(message, 0)

    def _do_top_up(self, message: Message) -> tuple[tuple[Out, ...], int | None]:
        return (), None
