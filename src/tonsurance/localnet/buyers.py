"""Buyers: they take cover against quotes, as much as keeps the tranches where a slow tide of demand wants them."""

from __future__ import annotations

import hashlib
import math
from random import Random

from nacl.signing import SigningKey

from tonsurance.chain import messages
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.incidents import CHAINS, COVERAGE_TYPES, STABLECOINS
from tonsurance.localnet.market import Market, TrancheView, fullest, has_room, split_cover
from tonsurance.localnet.people import Person
from tonsurance.localnet.wallets import Transfer

BUYER_COUNT = 8
QUOTE_VALIDITY_S = 600
"""As long as the factory allows."""
TIDE_BLOCKS = 900
"""Demand comes and goes once in so many blocks (six minutes)."""
_LOW_TIDE, _HIGH_TIDE = 0.30, 0.74
"""Utilisation of the fullest tranche that buyers go up to."""
_ALLOWANCE_NANO = 1_000 * NANO_PER_TON
_COVER_TON = (300, 1_500)
_LEAST_PREMIUM_NANO = NANO_PER_TON // 10
_ANNUAL_BPS = (80, 250)
_DAYS = (1, 3)
_BUSY_GAP, _CALM_CHANCE = 0.10, 0.25
_BLOCKS_TO_FACTORY = 2


class Buyers:
    """Eight buyers, who sign their own quotes with the quote key."""

    def __init__(self, market: Market, quote_key: bytes) -> None:
        self._market = market
        self._chain = market.chain
        self._key = SigningKey(quote_key)
        self.people = [Person(market.chain, f"buyer-{number}", _ALLOWANCE_NANO) for number in range(BUYER_COUNT)]

    def act(self, rng: Random) -> None:
        """At most one purchase."""
        if not self._market.is_open():
            return
        tranches = self._market.expected()
        wanted = tide(self._chain.head.seqno) - fullest(tranches, (0,) * len(tranches))
        if wanted <= 0 or not self._can_arrive():
            return
        if wanted < _BUSY_GAP and rng.random() > _CALM_CHANCE:
            return
        coverage = rng.randint(*_COVER_TON) * NANO_PER_TON
        if self._fits(tranches, coverage):
            self._buy(rng, coverage)

    def _can_arrive(self) -> bool:
        """Whether a quote made now is still valid when it reaches the factory: not when the clock runs too fast."""
        return self._chain.block_seconds * self._chain.speed * _BLOCKS_TO_FACTORY < QUOTE_VALIDITY_S

    def _fits(self, tranches: list[TrancheView], coverage: int) -> bool:
        parts = split_cover(coverage)
        pairs = zip(tranches, parts, strict=True)
        return all(view.shares > 0 and has_room(view, coverage=part) for view, part in pairs)

    def _buy(self, rng: Random, coverage: int) -> None:
        buyer = rng.choice(self.people)
        quote = self._quote(rng, coverage, buyer.address)
        body = messages.create_policy(quote, messages.sign_quote(quote, self._key))
        value = quote.premium + messages.REQUEST_GAS
        if buyer.order(Transfer(destination=self._market.contracts.factory, value=value, body=body)):
            self._market.note_cover(coverage)

    def _quote(self, rng: Random, coverage: int, buyer: str) -> messages.Quote:
        days = rng.randint(*_DAYS)
        premium = coverage * days * rng.randint(*_ANNUAL_BPS) // 3_650_000
        return messages.Quote(
            network_id=self._chain.network_id,
            factory=self._market.contracts.factory,
            quote_id=self._quote_id(buyer),
            coverage_type=rng.randrange(COVERAGE_TYPES),
            chain_id=rng.choice(CHAINS),
            stablecoin_id=rng.randrange(STABLECOINS),
            coverage_amount=coverage,
            premium=max(premium, _LEAST_PREMIUM_NANO),
            duration_days=days,
            buyer=buyer,
            deadline=self._chain.now + QUOTE_VALIDITY_S,
        )

    def _quote_id(self, buyer: str) -> int:
        """Different for every buyer and block."""
        text = f"quote/{self._chain.seed}/{self._chain.head.seqno}/{buyer}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def tide(seqno: int) -> float:
    """The utilisation of the fullest tranche that buyers go up to at this block."""
    middle, swing = (_HIGH_TIDE + _LOW_TIDE) / 2, (_HIGH_TIDE - _LOW_TIDE) / 2
    return middle + swing * math.sin(2 * math.pi * seqno / TIDE_BLOCKS)
