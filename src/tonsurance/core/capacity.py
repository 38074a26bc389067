"""How much more cover a tranche can take."""

from __future__ import annotations

import msgspec

from tonsurance.core.units import PARTS_PER_MILLION


class Limit(msgspec.Struct, frozen=True):
    """One limit on new cover and the room it leaves, in nanoTON (never below 0)."""

    name: str
    headroom_nano: int


class Capacity(msgspec.Struct, frozen=True):
    """Room for new cover in nanoTON: the smallest head-room, and the limit that has it."""

    available_nano: int
    binding_limit: str
    limits: tuple[Limit, ...]


def coverage_cap_nano(capital_nano: int, max_utilization: float) -> int:
    """floor(max_utilization * capital) in exact integers: the ratio is taken to six decimals."""
    return capital_nano * round(max_utilization * PARTS_PER_MILLION) // PARTS_PER_MILLION


def capacity(capital_nano: int, coverage_nano: int, max_utilization: float) -> Capacity:
    """Room of one tranche. Zero capital is zero capacity."""
    headroom = max(0, coverage_cap_nano(capital_nano, max_utilization) - coverage_nano)
    limits = (Limit("max_utilization", headroom),)
    tightest = min(limits, key=lambda limit: limit.headroom_nano)
    return Capacity(tightest.headroom_nano, tightest.name, limits)
