"""The business numbers as one frozen value. Everything published carries the version it was computed with."""

from __future__ import annotations

import msgspec

from tonsurance.core.catalog import TRANCHES, Tranche
from tonsurance.core.errors import UnknownTranche


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a tranche, as ratios. `max_utilization` is enforced by the vault contract."""

    high_utilization: float = 0.90
    max_utilization: float = 0.95
    min_collateralization: float = 1.10


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """One version of all business parameters."""

    version: int = 1
    tranches: tuple[Tranche, ...] = TRANCHES
    thresholds: Thresholds = Thresholds()

    def tranche(self, tranche_id: str) -> Tranche:
        """The parameters of one tranche, by its shown id."""
        for tranche in self.tranches:
            if tranche.tranche_id == tranche_id:
                return tranche
        raise UnknownTranche(tranche_id, tuple(t.tranche_id for t in self.tranches))


DEFAULT_PARAMS = Params()
