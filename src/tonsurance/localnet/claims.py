"""Claims: the claims role approves what an incident hit, the vault's admin looks after what the breaker holds back.

Whatever they know is read from the contracts. What the admin does about a deferred claim follows from the claim
itself, so that it is the same after a restart.
"""

from __future__ import annotations

from random import Random

from pytoniq_core.boc.cell import Cell

from tonsurance.chain import messages
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.deploy import ADMIN, CLAIMS
from tonsurance.localnet.incidents import Incident, Policy, incident_of
from tonsurance.localnet.market import ACTIVE, DUE, PAYING, Market
from tonsurance.localnet.people import Person
from tonsurance.localnet.register import Register
from tonsurance.localnet.wallets import MAX_MESSAGES, Transfer

_ALLOWANCE_NANO = 1_000 * NANO_PER_TON
_FREEZE_AT, _THAW_AT = 1, 8
"""Blocks after the beginning of an incident."""
_CANCEL_CHANCE, _OVERRIDE_CHANCE = 0.3, 0.3
_READ_PER_BLOCK = 16


class Claims:
    """A claims role, an admin, and somebody who has deferred claims paid once they are due."""

    def __init__(self, market: Market, register: Register, *, max_freeze_s: int) -> None:
        self._market = market
        self._chain = market.chain
        self._register = register
        self._max_freeze_s = max_freeze_s
        self._waiting: dict[int, None] = {}
        self._role = Person(market.chain, CLAIMS, _ALLOWANCE_NANO)
        self._admin = Person(market.chain, ADMIN, _ALLOWANCE_NANO)
        self._claimant = Person(market.chain, "claimant", _ALLOWANCE_NANO)

    @property
    def people(self) -> list[Person]:
        """Three wallets."""
        return [self._role, self._admin, self._claimant]

    def act(self) -> None:
        """At most one order of each."""
        incident = incident_of(self._chain.seed, self._chain.head.seqno)
        if incident.is_on(self._chain.head.seqno):
            self._approve(incident)
            self._freeze(incident)
        if self._market.vault().claims_due:
            self._settle()

    # --- the claims role

    def _approve(self, incident: Incident) -> None:
        transfers: list[Transfer] = []
        for policy in self._hit(incident):
            if len(transfers) == MAX_MESSAGES:
                break
            view = self._market.policy(policy.policy_id)
            if view is None:
                self._register.forget(policy.policy_id)
            elif view.state in (PAYING, DUE):
                self._waiting[policy.policy_id] = None
            elif view.state == ACTIVE:
                transfers.append(self._approval(policy, incident))
        if transfers:
            self._role.order(*transfers)

    def _hit(self, incident: Incident) -> list[Policy]:
        """Whose cover runs now and whose claim is not being decided. All, while a tranche is neither here nor there:
        nobody may join it at its price and it is not used up, so nothing but a loss gets it going again."""
        now, stuck = self._chain.now, any(view.is_stuck for view in self._market.tranches())
        return [
            policy
            for policy in self._register.alive.values()
            if policy.start <= now <= policy.end
            and not self._market.is_touched(policy.policy_id)
            and (stuck or incident.hits(policy))
        ]

    def _approval(self, policy: Policy, incident: Incident) -> Transfer:
        self._market.touch(policy.policy_id)
        self._waiting[policy.policy_id] = None
        body = messages.execute_payout(policy.policy_id, incident.payout(policy))
        return Transfer(destination=self._market.contracts.factory, value=messages.REQUEST_GAS, body=body)

    # --- the admin, and anybody

    def _freeze(self, incident: Incident) -> None:
        """A freeze while it is looked into, and its end. Approvals go on meanwhile, and the vault refuses them."""
        if not incident.freezes:
            return
        age, now = self._chain.head.seqno - incident.begins, self._chain.now
        if age == _FREEZE_AT:
            self._admin.order(self._to_vault(messages.freeze(now + self._max_freeze_s)))
        elif age == _THAW_AT and self._market.vault().frozen_until > now:
            self._admin.order(self._to_vault(messages.freeze(1)))

    def _settle(self) -> None:
        if self._market.vault().frozen_until > self._chain.now:
            return
        for policy_id in self._deferred()[:_READ_PER_BLOCK]:
            if self._market.is_touched(policy_id):
                continue
            claim = self._market.claim(policy_id)
            if claim.due_at == 0:
                self._waiting.pop(policy_id, None)
            elif self._decide(policy_id, claim.due_at):
                self._market.touch(policy_id)

    def _deferred(self) -> list[int]:
        """Policies that may have a claim at the vault: those approved, and after a restart any."""
        if not self._waiting:
            self._waiting = dict.fromkeys(self._register.alive)
        return [policy_id for policy_id in self._waiting if not self._market.is_touched(policy_id)]

    def _decide(self, policy_id: int, due_at: int) -> bool:
        """Cancel it, pay it now, or wait until it is due; whether something was ordered."""
        if due_at <= self._chain.now:
            return self._claimant.order(self._to_vault(messages.execute_claim(policy_id)))
        choice = Random(f"{self._chain.seed}/{policy_id}/{due_at}").random()
        if choice < _CANCEL_CHANCE:
            return self._admin.order(self._to_vault(messages.cancel_claim(policy_id)))
        if choice < _CANCEL_CHANCE + _OVERRIDE_CHANCE:
            return self._admin.order(self._to_vault(messages.override_claim(policy_id)))
        return False

    def _to_vault(self, body: Cell) -> Transfer:
        return Transfer(destination=self._market.contracts.vault, value=messages.REQUEST_GAS, body=body)
