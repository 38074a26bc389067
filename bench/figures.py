"""A measured figure beside its limit, and how two things are timed fairly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

ROUNDS = 7


class Figure(msgspec.Struct, kw_only=True):
    """One line of the report. `ok` is None where there is nothing to compare with; `note` says why a limit is missed,
    or how the figure is to be read."""

    name: str
    value: str
    spread: str = ""
    limit: str
    ok: bool | None
    note: str = ""


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(one: Callable[[], float], other: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """Ratios one/other of what the two return, measured in turn (A B A B) so that drift cancels."""
    one(), other()
    return [one() / other() for _ in range(rounds)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Least and largest value."""
    return f"{min(values):.{digits}f} .. {max(values):.{digits}f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


median = statistics.median
