"""The modelled vault (equal to the contract to the nano) with everybody's wallet, beside the vault without rounding."""

from __future__ import annotations

import copy
from fractions import Fraction

from contracts.world import ADMIN, START, address
from parity.ideal import IdealVault
from parity.vault_model import BACK_GAS, COVERS, DEPOSIT_GAS, MAX_UTILIZATION, PREMIUMS, Row, VaultModel
from parity.wires import Effects, Message, Refused
from tonsurance.chain.deployment import VaultTerms
from tonsurance.core.events import EpochStarted, LossAbsorbed
from tonsurance.core.limits import coverage_cap_nano
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import earn, split

FACTORY = address(0xFA)
GAS = NANO_PER_TON


class Market:
    """Every operation runs in both vaults, moves the wallets and checks what no operation may do."""

    def __init__(self, **terms: int) -> None:
        self.vault = VaultModel(VaultTerms(admin=ADMIN, **terms), address(0x7A))
        self.vault.factory = FACTORY
        self.ideal = IdealVault()
        self.wallets: dict[str, int] = {}
        self.buyers: dict[int, str] = {}
        self.now = START
        self.tolerance = [Fraction(0)] * 6
        self.next_policy = 1
        self.most = Fraction(0)

    # ---- figures

    def accrued(self, number: int) -> tuple[Row, int]:
        """A tranche, and its capital with what it has earned by now."""
        row = self.vault.rows[number - 1]
        return row, row.capital + earn(row.stream, self.now)[1]

    def worth(self, owner: str, number: int) -> Fraction:
        """What somebody's shares of a tranche are worth now."""
        held = self.vault.holders.get((number, owner))
        if held is None:
            return Fraction(0)
        row, capital = self.accrued(number)
        return Fraction(held.shares * capital, row.shares)

    def value(self, owner: str) -> Fraction:
        """Wallet and holdings."""
        return self.wallets.get(owner, 0) + sum(self.worth(owner, number) for number in range(1, 7))

    def people(self) -> set[str]:
        return {owner for _, owner in self.vault.holders} | set(self.wallets)

    # ---- operations: False when the vault refuses

    def deposit(self, owner: str, number: int, amount: int) -> bool:
        row, capital = self.accrued(number)
        message = Message(source=owner, name="deposit", args=(number,), value=amount + DEPOSIT_GAS)
        if self._run(message, {owner: -amount}) is None:
            return False
        if capital and row.shares:
            # A nano of price for those inside is that part of the unearned premium they now share.
            left = row.stream.unearned + row.capital - capital
            self.tolerance[number - 1] *= 1 + Fraction(left * amount, capital * (capital + amount))
        row = self.vault.rows[number - 1]
        self._tolerate(number, Fraction(row.capital, row.shares))  # at most one share not minted
        tranche = self.ideal.tranches[number - 1]
        tranche.accrue(self.now)
        tranche.join(owner, amount)
        self.ideal.pay(owner, -amount)
        self.check()
        return True

    def request(self, owner: str, number: int, shares: int) -> bool:
        done = self._run(Message(source=owner, name="request_withdraw", args=(number, shares)), {})
        if done is not None:
            self._tolerate(number)
            self.check()
        return done is not None

    def withdraw(self, owner: str, number: int) -> bool:
        held = self.vault.holders.get((number, owner))
        message = Message(source=owner, name="withdraw", args=(number,))
        done = self._run(message, None, owner)
        if done is None:
            return False
        assert held is not None
        self._tolerate(number, 1)  # at most one nano not paid
        tranche = self.ideal.tranches[number - 1]
        tranche.accrue(self.now)
        self.ideal.pay(owner, tranche.leave(owner, Fraction(held.requested, held.shares)))
        self.check()
        return True

    def leave(self, owner: str, number: int, shares: int | None = None) -> bool:
        """Announce, wait, take."""
        held = self.vault.holders.get((number, owner))
        if held is None or not self.request(owner, number, held.shares if shares is None else shares):
            return False
        self.now += self.vault.terms.withdraw_delay_s
        return self.withdraw(owner, number)

    def room(self) -> int:
        """The largest cover the vault takes."""
        rooms = (
            (coverage_cap_nano(self.accrued(number)[1], MAX_UTILIZATION) - self.vault.rows[number - 1].coverage)
            * 100
            // percent
            for number, percent in enumerate(COVERS, 1)
        )
        return max(0, min(*rooms, sum(self.accrued(number)[1] for number in range(1, 7)) * 5 // 100))

    def buy(self, buyer: str, coverage: int, premium: int, duration: int) -> int | None:
        """A policy's number, or None when it is refused."""
        policy = self.next_policy
        args = (policy, coverage, premium, duration)
        message = Message(source=FACTORY, name="back_policy", args=args, value=premium + BACK_GAS)
        if self._run(message, {buyer: -premium}) is None:
            return None
        self.next_policy += 1
        self.buyers[policy] = buyer
        for number, part in enumerate(split(premium, PREMIUMS), 1):
            tranche = self.ideal.tranches[number - 1]
            tranche.accrue(self.now)
            tranche.add(part, self.vault.rows[number - 1].stream.end, self.now)
            self._tolerate(number)
        self.ideal.pay(buyer, -premium)
        self.check()
        return policy

    def release(self, policy: int) -> bool:
        done = self._run(Message(source=FACTORY, name="release_coverage", args=(policy,)), {})
        return done is not None and self._touch_all()

    def claim(self, policy: int, amount: int) -> bool:
        """Have a claim paid or deferred."""
        beneficiary = self.buyers[policy]
        message = Message(source=FACTORY, name="pay_claim", args=(policy, amount, beneficiary), value=GAS)
        return self._settle(message, policy, amount)

    def settle(self, policy: int, name: str) -> bool:
        """execute_claim, override_claim or cancel_claim of a deferred claim."""
        backed = self.vault.policies.get(policy)
        amount = backed.claim.amount if backed and backed.claim else 0
        message = Message(source=ADMIN, name=name, args=(policy,), value=GAS)
        return self._settle(message, policy, amount)

    def _settle(self, message: Message, policy: int, amount: int) -> bool:
        done = self._run(message, None, self.buyers[policy], loses=True)
        if done is None:
            return False
        if any(isinstance(event, LossAbsorbed) for event in done.events):
            for tranche in self.ideal.tranches:
                tranche.accrue(self.now)
            self.ideal.pay(self.buyers[policy], self.ideal.lose(amount))
        for event in done.events:
            if isinstance(event, EpochStarted):
                self.ideal.tranches[event.tranche_id - 1].start_epoch()
        return self._touch_all()

    def _touch_all(self) -> bool:
        for number in range(1, 7):
            self._tolerate(number)
        self.check()
        return True

    def _tolerate(self, number: int, more: Fraction | int = 0) -> None:
        """Rounding of one operation in one tranche: a nano of premium earned later, and what the operation rounds."""
        self.tolerance[number - 1] += 1 + more

    # ---- what no operation may do

    def _run(
        self, message: Message, moves: dict[str, int] | None, receiver: str = "", *, loses: bool = False
    ) -> Effects | None:
        """In the rounded vault: wallets move by `moves`, or the receiver gets what leaves the vault."""
        prices = {number: self._price(number) for number in range(1, 7)}
        values = {person: self.value(person) for person in self.people() | set(moves or ())}
        try:
            effects = self.vault.handle(self.now, message)
        except Refused:
            return None
        assert effects.booked is not None
        for person, amount in (moves if moves is not None else {receiver: -effects.booked}).items():
            self.wallets[person] = self.wallets.get(person, 0) + amount
        if not loses:
            self._check_moment(prices, values, message)
        return effects

    def _price(self, number: int) -> Fraction | None:
        row, capital = self.accrued(number)
        return Fraction(capital, row.shares) if row.shares else None

    def _check_moment(self, prices: dict[int, Fraction | None], values: dict[str, Fraction], message: Message) -> None:
        """Without a loss no price falls, none rises by more than dust, and nobody is richer at once."""
        dust = Fraction(0)
        for number, before in prices.items():
            after = self._price(number)
            if before is None or after is None:
                continue
            row = self.vault.rows[number - 1]
            assert after >= before, f"{message.name}: the price of {number} fell from {before} to {after}"
            rise = (after - before) * row.shares
            assert rise <= 1 + before, f"{message.name}: tranche {number} rose by {float(rise)} nano"
            dust += rise
        for person, before in values.items():
            gain = self.value(person) - before
            assert gain <= dust, f"{message.name} made {person[-4:]} richer by {float(gain)} nano"

    def check(self) -> None:
        """Nobody has more than a vault without rounding gives him, but for the tolerance so far; nothing is lost."""
        for tranche in self.ideal.tranches:
            tranche.accrue(self.now)
        allowed = sum(self.tolerance)
        for person in self.people():
            gain = self.value(person) - self.ideal.value(person)
            self.most = max(self.most, gain)
            assert gain <= allowed, f"{person[-4:]} gained {float(gain)} nano, tolerance {float(allowed)}"
        assert sum(self.wallets.values()) + self.vault.capital + self.vault.unearned == 0

    def end_streams(self) -> None:
        """Wait until all premium is earned."""
        self.now = max(self.now, *(row.stream.end for row in self.vault.rows))

    def copy(self) -> Market:
        return copy.deepcopy(self)
