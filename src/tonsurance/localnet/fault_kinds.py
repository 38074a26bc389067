"""What can go wrong with a chain API, by name, and how wrong it goes. No fault touches the chain itself.

| name | what the client meets |
|---|---|
| 429 | too many requests, said in `result`, with Retry-After |
| 500, 542 | a liteserver's or tonlib's failure as TonCenter words it |
| hang | no answer until the client gives up (at most HANG_S) |
| drop | the connection cut, before the answer or within it |
| html | a proxy's page, with status 200 or 502 |
| truncated | an answer whose JSON ends early |
| slow | an answer that takes SLOW_S |
| lagging | a replica some blocks behind: older head, older states; pinned reads beyond its head fail |
| pruned | a server that has forgotten all but the last blocks |
| lying | one untrue thing in the answer: see lies.py |
| rollback | unpinned reads show a block that is taken back: see speculation.py |
| duplicated, reordered, lost | events of a stream, twice, late by one, or never |
"""

from __future__ import annotations

import msgspec

from tonsurance.core.errors import InputError

REFUSALS = ("429", "500", "542", "html")
"""An answer of another kind instead of the real one."""
SILENCES = ("hang", "drop")
VIEWS = ("pruned", "lagging", "rollback")
"""The answer of a server that knows another part of the chain."""
CHANGES = ("lying", "truncated")
STREAM_KINDS = ("lost", "duplicated", "reordered")
"""Struck by each event of a stream, not by requests."""
REQUEST_KINDS = ("slow", *SILENCES, *REFUSALS, *VIEWS, *CHANGES)
KINDS = (*REQUEST_KINDS, *STREAM_KINDS)

HANG_S = 30.0
SLOW_S = (0.02, 0.5)
LAG_BLOCKS = (1, 12)
"""How far behind a lagging replica is: drawn once for each time the fault is switched on."""
PRUNED_KEEPS_BLOCKS = 8
MAX_FAULT_S = 86_400.0


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault that strikes each request (or event) with probability `rate`, for so many seconds of our clock.

    The same seed and requests are struck in the same way.
    """

    name: str
    rate: float = 1.0
    seconds: float = 30.0
    seed: int = 1


def check_fault(fault: Fault) -> Fault:
    """The fault itself. Raises InputError that says what would be right."""
    if fault.name not in KINDS:
        raise InputError(f"Unknown fault: {fault.name[:64]}.", advice=f"Valid names: {', '.join(KINDS)}.")
    if not 0 <= fault.rate <= 1:
        raise InputError(f"The rate of a fault is from 0 to 1, not {fault.rate:g}.")
    if not 0 < fault.seconds <= MAX_FAULT_S:
        raise InputError(
            f"A fault lasts more than 0 and at most {MAX_FAULT_S:.0f} seconds, not {fault.seconds:g}.",
            advice="To end one sooner: fault clear.",
        )
    return fault
