"""The six tranches, and how their names are read."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tonsurance.core.errors import UnknownTranche


class Curve(StrEnum):
    """Shape of a tranche's bonding curve (formulas in core/tranches.py)."""

    FLAT = "FLAT"
    LOGARITHMIC = "LOGARITHMIC"
    LINEAR = "LINEAR"
    SIGMOIDAL = "SIGMOIDAL"
    QUADRATIC = "QUADRATIC"
    EXPONENTIAL = "EXPONENTIAL"


class Tranche(msgspec.Struct, frozen=True, kw_only=True):
    """One capital tranche. APY bounds in percent, allocations in whole percent of cover and of premium."""

    on_chain_id: int
    tranche_id: str
    apy_min_pct: float
    apy_max_pct: float
    curve: Curve
    allocation_percent: int
    premium_percent: int


TRANCHES: tuple[Tranche, ...] = tuple(
    Tranche(
        on_chain_id=number,
        tranche_id=name,
        apy_min_pct=low,
        apy_max_pct=high,
        curve=curve,
        allocation_percent=allocation,
        premium_percent=premium,
    )
    for number, name, low, high, curve, allocation, premium in (
        (1, "SURE-BTC", 4.0, 4.0, Curve.FLAT, 25, 8),
        (2, "SURE-SNR", 6.5, 10.0, Curve.LOGARITHMIC, 20, 15),
        (3, "SURE-MEZZ", 9.0, 15.0, Curve.LINEAR, 18, 20),
        (4, "SURE-JNR", 12.5, 16.0, Curve.SIGMOIDAL, 15, 18),
        (5, "SURE-JNR+", 16.0, 22.0, Curve.QUADRATIC, 12, 20),
        (6, "SURE-EQT", 15.0, 25.0, Curve.EXPONENTIAL, 10, 19),
    )
)
"""Senior to junior. These are the defaults of the configuration and what the contracts enforce."""

TRANCHE_IDS: tuple[str, ...] = tuple(t.tranche_id for t in TRANCHES)


def tranche_key(tranche_id: str) -> str:
    """The key form of a shown id: SURE_JNR_PLUS of SURE-JNR+."""
    return tranche_id.replace("-", "_").replace("+", "_PLUS")


_BY_NAME = {t.tranche_id: t.tranche_id for t in TRANCHES} | {tranche_key(t.tranche_id): t.tranche_id for t in TRANCHES}


def parse_tranche_id(text: str) -> str:
    """The shown form (`SURE-JNR+`) from the shown or the key form (`SURE_JNR_PLUS`).

    Raises UnknownTranche, which lists the valid ids.
    """
    found = _BY_NAME.get(text)
    if found is None:
        raise UnknownTranche(text, TRANCHE_IDS)
    return found


def tranche_id_on_chain(number: int) -> str:
    """The tranche's id from its number in the contracts (1 senior .. 6 junior)."""
    if not 1 <= number <= len(TRANCHE_IDS):
        raise UnknownTranche(str(number), TRANCHE_IDS)
    return TRANCHE_IDS[number - 1]
