"""Which faults are switched on, whom they strike, and how often each did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from tonsurance.localnet.fault_kinds import KINDS, Fault, check_fault


class ActiveFault:
    """A fault that is on until `ends_at`; all its chances come from its seed."""

    def __init__(self, fault: Fault, ends_at: float) -> None:
        self.fault = fault
        self.ends_at = ends_at
        self.dice = Random(f"{fault.name}/{fault.seed}")
        self.chances = 0
        self.struck = 0

    def draw(self) -> bool:
        """Whether it strikes this time."""
        self.chances += 1
        return self.dice.random() < self.fault.rate


class Faults:
    """The faults of one server. At most one of each name is on; several names can be."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._on: dict[str, ActiveFault] = {}
        self.struck: Counter[str] = Counter()
        """How often each struck since the start."""

    def inject(self, fault: Fault) -> None:
        """Switch a fault on, in place of one with this name. Raises InputError for what is no fault."""
        check_fault(fault)
        self._on[fault.name] = ActiveFault(fault, self._clock() + fault.seconds)

    def clear(self) -> int:
        """Switch all faults off; returns how many were on."""
        count = len(self._active())
        self._on.clear()
        return count

    def draw(self, *names: str) -> dict[str, ActiveFault]:
        """Those of these faults that are on and strike now, in this order."""
        on = self._active()
        return {name: on[name] for name in names if name in on and on[name].draw()}

    def note(self, fault: ActiveFault) -> None:
        """Count a strike: called where something really was done to an answer."""
        fault.struck += 1
        self.struck[fault.fault.name] += 1

    def show(self) -> dict[str, Any]:
        """What is on, with the seconds left, and what was done so far."""
        now = self._clock()
        return {
            "active": [
                {
                    "name": name,
                    "rate": on.fault.rate,
                    "seconds_left": round(on.ends_at - now, 3),
                    "seed": on.fault.seed,
                    "chances": on.chances,
                    "struck": on.struck,
                }
                for name, on in self._active().items()
            ],
            "struck": {name: self.struck[name] for name in KINDS if self.struck[name]},
            "names": list(KINDS),
        }

    def _active(self) -> dict[str, ActiveFault]:
        now = self._clock()
        self._on = {name: on for name, on in self._on.items() if on.ends_at > now}
        return self._on
