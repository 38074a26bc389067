"""The people of a local chain. They use it as anybody could: signed orders from wallets, getters, no shortcuts.

What they do follows from the seed and the block, and what they know is read from the chain, so that they go on after
a restart. They leave a fifth of what the contracts allow to others.
"""

from __future__ import annotations

from random import Random

from tonsurance import log
from tonsurance.localnet.buyers import Buyers
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.claims import Claims
from tonsurance.localnet.deploy import LOCAL_TERMS, Contracts
from tonsurance.localnet.keeper import Keeper
from tonsurance.localnet.market import BLOCKS_UNDER_WAY, Market
from tonsurance.localnet.register import Register
from tonsurance.localnet.savers import Savers

_log = log.get("localnet.actors")


class Actors:
    """Six savers, eight buyers, a keeper, and three who see to claims."""

    def __init__(self, chain: LocalChain, contracts: Contracts, quote_key: bytes) -> None:
        """`quote_key` is the Ed25519 seed the factory's quotes are signed with."""
        self._chain = chain
        market = Market(chain, contracts)
        self._savers = Savers(market)
        self._buyers = Buyers(market, quote_key)
        register = Register(market)
        self._keeper = Keeper(market, register, claim_grace_s=_claim_grace_s(chain, contracts))
        self._claims = Claims(market, register, max_freeze_s=LOCAL_TERMS.max_freeze_s)
        self._starts_at = chain.head.seqno + BLOCKS_UNDER_WAY if market.next_policy_id() > 1 else 0
        self.errors = 0

    def act_safely(self) -> None:
        """Act; a failure is logged and counted and never stops the chain."""
        try:
            self.act()
        except Exception:  # noqa: BLE001  # an outermost edge: nobody depends on what actors do
            self.errors += 1
            _log.exception("actors_failed", seqno=self._chain.head.seqno)

    def act(self) -> None:
        """Order what everybody wants to have done in the next block."""
        for group in (self._savers, self._buyers, self._keeper, self._claims):
            for person in group.people:
                person.fill_up()
        if self._chain.head.seqno < self._starts_at:
            return  # orders given before a restart are still under way, and nobody remembers them
        rng = Random(f"{self._chain.seed}/{self._chain.head.seqno}")
        self._savers.act(rng)
        self._buyers.act(rng)
        self._keeper.act()
        self._claims.act()


def _claim_grace_s(chain: LocalChain, contracts: Contracts) -> int:
    return int(chain.get_method(contracts.factory, "get_factory_config").stack[9])
