"""Which policies there are: found once by their number, kept until they are over. All of it is the factory's."""

from __future__ import annotations

from tonsurance.localnet.incidents import Policy
from tonsurance.localnet.market import Market

_READ_PER_BLOCK = 50
"""Policies read per block while catching up after a restart."""


class Register:
    """The policies that are not over, as far as they were looked at."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._next_id = 1
        self.alive: dict[int, Policy] = {}

    def find(self) -> list[int]:
        """Look for policies that are new; the numbers of those that are not over."""
        last = min(self._market.next_policy_id(), self._next_id + _READ_PER_BLOCK)
        found: list[int] = []
        for policy_id in range(self._next_id, last):
            view = self._market.policy(policy_id)
            if view is not None:
                self.alive[policy_id] = view.policy
                found.append(policy_id)
        self._next_id = last
        return found

    def forget(self, policy_id: int) -> None:
        """The policy is over."""
        self.alive.pop(policy_id, None)
