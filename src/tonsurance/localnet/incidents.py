"""Incidents of the local world: when which cover is claimed, and how badly. Follows from the seed and the block alone.

Every slot of blocks has one incident. The market knows when one is near: nobody buys, joins or leaves from a few
blocks before until it is over, as nobody would in the middle of a run on a stablecoin.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

COVERAGE_TYPES, STABLECOINS = 5, 14
CHAINS = (0, 1, 2, 3, 4, 7, 8)
"""All but Bitcoin (5) and Lightning (6), for which not every cover is sold."""
SLOT_BLOCKS = 225
_FIRST_OFFSET, _LAST_OFFSET = 30, 105
"""Where in its slot an incident begins: so two are 150 to 300 blocks apart."""
BIG_EVERY, _BIG_SLOT = 8, 5
QUIET_BEFORE, QUIET_AFTER = 6, 5
"""Blocks without trade around an incident: what was ordered before has arrived, what was claimed is booked."""
_BLOCKS, _BIG_BLOCKS = 12, 40
_TARGETS: tuple[tuple[str, Sequence[int], tuple[int, int]], ...] = (
    ("coverage_type", range(COVERAGE_TYPES), (1, 2)),
    ("chain_id", CHAINS, (1, 3)),
    ("stablecoin_id", range(STABLECOINS), (2, 5)),
)
"""What an ordinary incident may hit, one after the other, and the eighths it pays: the fewer policies, the more."""
_BIG_EIGHTHS, _BIG_SHARE = 7, 320
"""A big one hits about a third of all policies: with many of them alive the breaker holds the last claims back."""
_FREEZE_CHANCE = 0.2
_ALL = 1_000


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What is insured, and how much. Times in unix seconds."""

    policy_id: int
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    coverage: int
    start: int
    end: int


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Hits policies on this coverage type, chain and stablecoin (None: any), and of those a share; pays eighths."""

    number: int
    begins: int
    blocks: int
    eighths: int
    coverage_type: int | None = None
    chain_id: int | None = None
    stablecoin_id: int | None = None
    per_mille: int = _ALL
    freezes: bool = False

    def is_on(self, seqno: int) -> bool:
        """Whether claims are decided at this block."""
        return self.begins <= seqno < self.begins + self.blocks

    def is_near(self, seqno: int) -> bool:
        """Whether the market stands still at this block."""
        return self.begins - QUIET_BEFORE <= seqno < self.begins + self.blocks + QUIET_AFTER

    def hits(self, policy: Policy) -> bool:
        """Whether this policy has a claim."""
        wanted = (self.coverage_type, self.chain_id, self.stablecoin_id)
        given = (policy.coverage_type, policy.chain_id, policy.stablecoin_id)
        if any(one is not None and one != other for one, other in zip(wanted, given, strict=True)):
            return False
        return Random(f"hit/{self.number}/{policy.policy_id}").randrange(_ALL) < self.per_mille

    def payout(self, policy: Policy) -> int:
        """nanoTON to pay: a part of the cover, whole at eight eighths."""
        return max(1, policy.coverage * self.eighths // 8)


def incident_of(seed: int, seqno: int) -> Incident:
    """The incident of the slot this block is in."""
    number = seqno // SLOT_BLOCKS
    rng = Random(f"incident/{seed}/{number}")
    begins = number * SLOT_BLOCKS + rng.randint(_FIRST_OFFSET, _LAST_OFFSET)
    freezes = rng.random() < _FREEZE_CHANCE
    if number % BIG_EVERY == _BIG_SLOT:
        return Incident(
            number=number,
            begins=begins,
            blocks=_BIG_BLOCKS,
            eighths=_BIG_EIGHTHS,
            per_mille=_BIG_SHARE,
            freezes=freezes,
        )
    field, values, eighths = rng.choice(_TARGETS)
    hit = {field: values[(number + seed) % len(values)]}
    return Incident(number=number, begins=begins, blocks=_BLOCKS, eighths=rng.randint(*eighths), freezes=freezes, **hit)
