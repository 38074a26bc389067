"""Counts how often parameters are read, and writes the counts once a minute. Reading never waits for that."""

from __future__ import annotations

from threading import Lock

from tonsurance import metrics
from tonsurance.core.parameters.declaration import Key
from tonsurance.db.config import AccessCount, insert_accesses
from tonsurance.db.pool import acquire
from tonsurance.services.lazy_pool import LazyPool

MAX_NAMES = 2_000
"""Names counted apart within a minute; what comes after is counted together."""
OTHERS: Key = ("others", "others")
WHOLE_SET: Key = ("all", "params")
"""Under this name it is counted how often somebody took the whole set of parameters, which is how calculations get
theirs; which of them they then use is not counted. A hit had the newest set as far as was known; a miss came while the
database could not be read (`degraded`): with the last good set or the defaults."""


class AccessCounts:
    """Accesses since the last sample and since the start, counted by any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._hits: dict[Key, int] = {}
        self._misses: dict[Key, int] = {}
        self._sampled_hits = self._sampled_misses = 0

    def record(self, name: Key, hit: bool, number: int = 1) -> None:
        """Accesses: with the value (hit), or with a default because the value was not there."""
        with self._lock:
            counts = self._hits if hit else self._misses
            if name not in counts and len(counts) >= MAX_NAMES:
                name = OTHERS
            counts[name] = counts.get(name, 0) + number

    @property
    def totals(self) -> tuple[int, int]:
        """Hits and misses since the start."""
        with self._lock:
            return (
                self._sampled_hits + sum(self._hits.values()),
                self._sampled_misses + sum(self._misses.values()),
            )

    def take(self) -> tuple[AccessCount, ...]:
        """The counts since the last time, which start anew."""
        with self._lock:
            hits, self._hits = self._hits, {}
            misses, self._misses = self._misses, {}
            self._sampled_hits += sum(hits.values())
            self._sampled_misses += sum(misses.values())
        metrics.CONFIG_ACCESSES.labels("hit").inc(sum(hits.values()))
        metrics.CONFIG_ACCESSES.labels("miss").inc(sum(misses.values()))
        return tuple(
            AccessCount(*name, hit, number)
            for counts, hit in ((hits, True), (misses, False))
            for name, number in counts.items()
        )


async def write_sample(pool: LazyPool, process: str, counts: AccessCounts) -> int:
    """Write what was counted since the last sample; returns the number of rows.

    Raises DatabaseUnavailable; that minute's counts are lost then, and the next one's are written.
    """
    sample = counts.take()
    if sample:
        async with acquire(await pool.open()) as conn:
            await insert_accesses(conn, process, sample)
    return len(sample)
