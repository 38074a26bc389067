"""Runs random sequences, and makes a failing one short enough to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace
from pytoniq_core.boc.cell import Cell

from parity.generator import Generator
from parity.pair_run import Action, PairRun


class Recorded:
    """One sequence: a seed, and the actions it led to."""

    def __init__(self, seed: int, length: int = 50, codes: Mapping[str, Cell] | None = None) -> None:
        self.seed = seed
        self.codes = codes
        self.length = length
        self.actions: list[Action] = []

    def play(self, *, shorten: bool = True) -> Counter[str]:
        """Run it. A difference is raised, with the shortest sequence that still shows one as a note."""
        generator = Generator(self.seed, self.codes)
        run = generator.deploy()
        try:
            for action in generator.opening(run):
                self._take(run, action)
            run.counts.clear()
            for _ in range(self.length):
                self._take(run, generator.choose(run))
        except Exception as error:
            if shorten:
                error.add_note(self._report(error))
            raise
        return run.counts

    def _take(self, run: PairRun, action: Action) -> None:
        self.actions.append(action)
        run.act(action)

    def _fails(self, actions: list[Action]) -> Exception | None:
        run = Generator(self.seed, self.codes).deploy()
        try:
            for action in actions:
                run.act(action)
        except Exception as error:  # noqa: BLE001  # whatever it is, a shorter sequence must do the same
            return error
        return None

    def _report(self, error: Exception) -> str:
        actions, shown = self.actions, error
        if self._fails(actions) is None:
            return f"seed {self.seed}: {error!r}, but not again"
        place = len(actions) - 2
        while place >= 0:
            fewer = [*actions[:place], *actions[place + 1 :]]
            if place + 1 < len(actions):  # the time must pass all the same
                fewer[place] = later(fewer[place], actions[place].wait)
            again = self._fails(fewer)
            if again is not None and type(again) is type(error):
                actions, shown = fewer, again
            place -= 1
        lines = "\n".join(f"  {action}" for action in actions)
        head = f"seed {self.seed}, {len(actions)} of {len(self.actions)} actions:"
        return f"{head}\n{lines}\n{type(shown).__name__}: {shown}"


def later(action: Action, seconds: int) -> Action:
    """The action after some more seconds."""
    return replace(action, wait=action.wait + seconds)
