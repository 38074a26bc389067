"""Room for new cover as values: what each limit leaves, and which of them binds."""

from __future__ import annotations

import msgspec


class Limit(msgspec.Struct, frozen=True):
    """One limit on new cover and the room it leaves, in nanoTON (never below 0).

    `tranche_id` says whose limit it is, None for one of the whole vault; `ratio` is the limit itself.
    """

    name: str
    headroom_nano: int
    tranche_id: str | None = None
    ratio: float = 0.0


class Capacity(msgspec.Struct, frozen=True):
    """Room for new cover in nanoTON: the least head-room, and the limit that has it (the first of equal ones)."""

    available_nano: int
    binding_limit: str
    limits: tuple[Limit, ...]
    binding_tranche: str | None = None
