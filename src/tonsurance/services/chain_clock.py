"""The chain's time as deadlines need it: ours on public networks; on a local chain, which may run fast, by readings."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from tonsurance.db.factory_state import FactoryState

KEPT_S = 35.0
"""A pause or another speed of a local chain is forgotten after this time."""
LEAST_SPAN_S = 5.0
"""Of two readings closer together than this nobody can tell how fast the chain runs: its blocks come in steps."""


class ChainClock:
    """Tells the chain's time between two readings of a factory. Without a reading that says otherwise it is ours."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._readings: deque[tuple[float, float]] = deque()
        """Our time and by how much the chain's was ahead then, oldest first."""
        self._least_s = -math.inf

    def note(self, factory: FactoryState | None) -> None:
        """A factory was read, perhaps again."""
        if factory is None or (self._readings and factory.read_at <= self._readings[-1][0]):
            return
        if factory.chain_time_offset_s == 0.0:  # its clock agrees with ours
            self._readings.clear()
            self._least_s = -math.inf
            return
        self._readings.append((factory.read_at, factory.chain_time_offset_s))
        while factory.read_at - self._readings[0][0] > KEPT_S:
            self._readings.popleft()

    def note_block(self, block_time: float) -> None:
        """There is a block of this time (unix seconds): the chain's clock is not behind it."""
        self._least_s = block_time - self._clock()

    @property
    def speed(self) -> float:
        """Seconds of the chain in one of ours, as far as it is known; never below 1."""
        if not self._readings:
            return 1.0
        (began, first), (ended, last) = self._readings[0], self._readings[-1]
        return 1.0 if ended - began < LEAST_SPAN_S else max(1.0, 1.0 + (last - first) / (ended - began))

    def ahead_s(self) -> float:
        """By how much the chain's clock is ahead of ours now, in seconds; below 0 when it is behind."""
        if not self._readings:
            return 0.0
        read_at, offset_s = self._readings[-1]
        return max(self._least_s, offset_s + (self.speed - 1.0) * max(0.0, self._clock() - read_at))

    def now(self) -> float:
        """The chain's time, in unix seconds."""
        return self._clock() + self.ahead_s()
