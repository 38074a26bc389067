"""Depositors: they fill the tranches, add to them, announce withdrawals and take them."""

from __future__ import annotations

from random import Random

from pytoniq_core.boc.cell import Cell

from tonsurance.chain import messages
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import amount_for
from tonsurance.localnet.market import Holding, Market, TrancheView, has_room
from tonsurance.localnet.people import Person
from tonsurance.localnet.wallets import Transfer

FIRST_DEPOSITS_TON = (54_000, 31_500, 24_000, 16_500, 13_500, 10_500)
"""Capital by tranche, senior to junior: 36/21/16/11/9/7 %, while cover is split 25/20/18/15/12/10. So the same cover
uses the junior tranches twice as much as the most senior one, and no two of them equally."""
SAVER_COUNT = 6
_ALLOWANCE_NANO = 120_000 * NANO_PER_TON
_DEPOSIT_CHANCE, _REQUEST_CHANCE = 0.4, 0.25
_DEPOSIT_PER_MILLE, _REFILL_PER_MILLE = (10, 50), (30, 80)
"""Size of a deposit, in thousandths of the tranche's first one: an ordinary one, and one after losses."""
_MOST_CAPITAL, _LEAST_CAPITAL = 1.20, 0.85
"""Bounds of a tranche's capital, as parts of its first deposit, beyond which nobody adds or announces."""


class Savers:
    """Six depositors. What they own is read from the vault, so that they go on after a restart."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._chain = market.chain
        self.people = [Person(market.chain, f"saver-{number}", _ALLOWANCE_NANO) for number in range(SAVER_COUNT)]

    def act(self, rng: Random) -> None:
        """At most one deposit, one announcement and one withdrawal."""
        if not self._market.is_open():
            return
        tranches = self._market.tranches()
        if any(view.shares == 0 for view in tranches):
            self._open(tranches)
            return
        if self._market.vault().frozen_until <= self._chain.now:
            self._withdraw_due()
        if rng.random() < _DEPOSIT_CHANCE:
            self._deposit(rng, tranches)
        if rng.random() < _REQUEST_CHANCE:
            self._announce(rng, rng.choice(tranches))

    def _open(self, tranches: list[TrancheView]) -> None:
        """The first deposits of an epoch: each saver one tranche. Repeated every few blocks until all six have an
        owner."""
        if self._chain.head.seqno % 4:
            return
        for person, view in zip(self.people, tranches, strict=True):
            if view.shares == 0:
                self._order_deposit(person, view.number, _first_nano(view.number))

    def _deposit(self, rng: Random, tranches: list[TrancheView]) -> None:
        """Into any tranche, but first of all into one that has lost."""
        view, sizes = rng.choice(tranches), _DEPOSIT_PER_MILLE
        neediest = min(tranches, key=_filled)
        if _filled(neediest) < _LEAST_CAPITAL:
            view, sizes = neediest, _REFILL_PER_MILLE
        amount = _first_nano(view.number) * rng.randint(*sizes) // 1000
        if not view.is_stuck and view.capital + amount <= _first_nano(view.number) * _MOST_CAPITAL:
            self._order_deposit(rng.choice(self.people), view.number, amount)

    def _order_deposit(self, person: Person, number: int, amount: int) -> None:
        person.order(self._to_vault(amount + messages.DEPOSIT_GAS, messages.deposit(number)))

    def _announce(self, rng: Random, view: TrancheView) -> None:
        person = rng.choice(self.people)
        held = self._market.holding(person.address, view.number)
        if held.requested or not held.shares or view.capital < _first_nano(view.number) * _LEAST_CAPITAL:
            return
        most = view.shares * _first_nano(view.number) // (20 * view.capital)
        shares = min(held.shares, round(most * rng.uniform(0.2, 1.0)))
        person.order(self._to_vault(messages.SIMPLE_GAS, messages.request_withdraw(view.number, max(1, shares))))

    def _withdraw_due(self) -> None:
        """One saver per block looks whether a withdrawal it announced can be taken now."""
        person = self.people[self._chain.head.seqno % len(self.people)]
        for view in self._market.expected():
            held = self._market.holding(person.address, view.number)
            if self._is_due(held) and self._withdraw(person, view, held):
                return

    def _is_due(self, held: Holding) -> bool:
        return held.requested > 0 and held.available_at <= self._chain.now < held.expires_at

    def _withdraw(self, person: Person, view: TrancheView, held: Holding) -> bool:
        """Take it if the tranche stays within what actors use; else it waits, and may be announced again later."""
        amount = amount_for(held.requested, view.capital, view.shares)
        if not has_room(view, withdrawn=amount):
            return False
        ordered = person.order(self._to_vault(messages.SIMPLE_GAS, messages.withdraw(view.number)))
        if ordered:
            self._market.note_withdrawal(view.number, amount)
        return ordered

    def _to_vault(self, value: int, body: Cell) -> Transfer:
        return Transfer(destination=self._market.contracts.vault, value=value, body=body)


def _filled(view: TrancheView) -> float:
    """Capital as a part of what the tranche began with."""
    return view.capital / _first_nano(view.number)


def _first_nano(number: int) -> int:
    return FIRST_DEPOSITS_TON[number - 1] * NANO_PER_TON
