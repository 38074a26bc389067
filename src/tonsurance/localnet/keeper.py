"""The keeper: ends policies whose time is over, and asks again where an answer is missing."""

from __future__ import annotations

from tonsurance.chain import messages
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.market import ACTIVE, BLOCKS_UNDER_WAY, DUE, PENDING, Market, PolicyView
from tonsurance.localnet.people import Person
from tonsurance.localnet.register import Register
from tonsurance.localnet.wallets import MAX_MESSAGES, Transfer

RETRY_DELAY_S = 600
"""How long the factory wants an answer to be waited for."""
_ALLOWANCE_NANO = 1_000 * NANO_PER_TON
_READ_PER_BLOCK = 50
"""Policies looked at per block."""


class Keeper:
    """Looks at every policy when something may be due. Knows nothing that the factory does not."""

    def __init__(self, market: Market, register: Register, *, claim_grace_s: int) -> None:
        self._market = market
        self._register = register
        self._chain = market.chain
        self._claim_grace_s = claim_grace_s
        self._look_at: dict[int, int] = {}
        self.person = Person(market.chain, "keeper", _ALLOWANCE_NANO)

    @property
    def people(self) -> list[Person]:
        """The keeper's one wallet."""
        return [self.person]

    def act(self) -> None:
        """One order with up to four messages."""
        now = self._chain.now
        for policy_id in self._register.find():
            self._look_at[policy_id] = now + self._answer_time_s()
        due = [policy_id for policy_id, when in self._look_at.items() if when <= now]
        transfers: list[Transfer] = []
        for policy_id in due[:_READ_PER_BLOCK]:
            if len(transfers) == MAX_MESSAGES:
                break
            transfers += self._look(policy_id)
        if transfers:
            self.person.order(*transfers)

    def _answer_time_s(self) -> int:
        return 1 + int(BLOCKS_UNDER_WAY * self._chain.block_seconds * self._chain.speed)

    def _look(self, policy_id: int) -> list[Transfer]:
        """The message that is due for a policy, if any; and when to look again."""
        policy = self._market.policy(policy_id)
        if policy is None:
            del self._look_at[policy_id]
            self._register.forget(policy_id)
            return []
        due = self._due(policy)
        if due > self._chain.now:
            self._look_at[policy_id] = due
            return []
        self._look_at[policy_id] = self._chain.now + self._answer_time_s()
        if policy.state == DUE or self._market.is_touched(policy_id):
            return []  # the vault says when a claim it holds back is settled
        self._market.touch(policy_id)
        return [self._message(policy_id, policy)]

    def _due(self, policy: PolicyView) -> int:
        if policy.state == ACTIVE:
            return policy.end + self._claim_grace_s
        return policy.tried_at + max(RETRY_DELAY_S, self._answer_time_s())

    def _message(self, policy_id: int, policy: PolicyView) -> Transfer:
        value = messages.REQUEST_GAS + (policy.premium if policy.state == PENDING else 0)
        make = messages.expire_policy if policy.state == ACTIVE else messages.retry_policy
        return Transfer(destination=self._market.contracts.factory, value=value, body=make(policy_id))
