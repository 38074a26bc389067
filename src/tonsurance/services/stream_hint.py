"""From hints to looks: when word comes that a contract has news, its loop is woken, often enough and not too often.

A hint is only a reason to look now. What it says is believed so far that a look is repeated a few times while the
transaction it told of cannot be read yet: the word may be ahead of the block that makes it final. Lost, doubled, late
or invented hints change nothing but when the chain is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from tonsurance import metrics
from tonsurance.chain.stream import Hint, HintStream, StreamStatus
from tonsurance.services.ingest import IngestStatus
from tonsurance.services.loop import pause

FLOOR_S = 0.05
AGAIN_S = (0.05, 0.1, 0.2)
_REQUESTS_PER_LOOK = 3
"""The newest block, the account at it, and a page of transactions."""
_LONGEST_PAUSE_S = 60.0
_ADDRESSES_EVERY_S = 1.0


class _Contract(msgspec.Struct):
    """What is due for one contract. Times are the loop's clock; `wanted_lt` 0 is nothing that was announced."""

    looked_at: float = float("-inf")
    due: float | None = None
    wanted_lt: int = 0
    unsaid: bool = False
    repeats: int = 0


class HintLooks:
    """Wakes the loops of contracts for hints: `wake(address)` must not block, and looks soon.

    `cursor_lt(address)` is the logical time up to which the contract is in the ledger, None for one that is not
    followed. No contract is looked at more often than every `floor_s` seconds by this.
    """

    def __init__(
        self,
        wake: Callable[[str], None],
        cursor_lt: Callable[[str], int | None],
        *,
        floor_s: float = FLOOR_S,
        again_s: tuple[float, ...] = AGAIN_S,
    ) -> None:
        self._wake = wake
        self._cursor_lt = cursor_lt
        self._floor_s = floor_s
        self._again_s = again_s
        self._contracts: dict[str, _Contract] = {}
        self._news = asyncio.Event()

    def take(self, hint: Hint) -> None:
        """Note a hint. Never blocks, and keeps one note for each contract however many come."""
        cursor_lt = self._cursor_lt(hint.address)
        if cursor_lt is None:
            self._contracts.pop(hint.address, None)
            return
        if hint.lt is not None and hint.lt <= cursor_lt:
            return
        contract = self._contracts.setdefault(hint.address, _Contract())
        contract.unsaid |= hint.lt is None
        contract.wanted_lt = max(contract.wanted_lt, hint.lt or 0)
        contract.repeats = 0
        soonest = max(_now(), contract.looked_at + self._floor_s)
        if contract.due is None or soonest < contract.due:
            contract.due = soonest
            self._news.set()

    @property
    def busy(self) -> bool:
        """Whether a look is due, now or soon."""
        return any(contract.due is not None for contract in self._contracts.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Look when it is due, until `stop` is set."""
        while not stop.is_set():
            self._news.clear()
            for address, contract in list(self._contracts.items()):
                if contract.due is not None and contract.due <= _now():
                    self._look(address, contract)
            await pause(self._next_in_s(), stop, self._news)

    def _next_in_s(self) -> float:
        dues = [contract.due for contract in self._contracts.values() if contract.due is not None]
        return min([_LONGEST_PAUSE_S, *(due - _now() for due in dues)])

    def _look(self, address: str, contract: _Contract) -> None:
        """Look, and again later when what was announced is not in the ledger by then."""
        contract.due = None
        seen = contract.wanted_lt <= (self._cursor_lt(address) or 0)
        if seen and not contract.unsaid:
            contract.wanted_lt = 0
            return
        contract.unsaid = False
        contract.looked_at = _now()
        metrics.HINT_LOOKS.inc()
        self._wake(address)
        if not seen and contract.repeats < len(self._again_s):
            contract.due = contract.looked_at + max(self._floor_s, self._again_s[contract.repeats])
            contract.repeats += 1
        else:
            contract.wanted_lt = 0  # an invented one must not be waited for


class StreamHints:
    """A task of the daemon: keeps a stream open about whatever is followed now, and looks for its hints.

    `statuses` says what is followed and how far, `wake` is told which contract to look at.
    """

    def __init__(
        self,
        stream: HintStream,
        wake: Callable[[str], None],
        statuses: Callable[[], Sequence[IngestStatus]],
        *,
        floor_s: float = FLOOR_S,
        again_s: tuple[float, ...] = AGAIN_S,
    ) -> None:
        self._stream = stream
        self._statuses = statuses
        self.looks = HintLooks(wake, self._find_cursor, floor_s=floor_s, again_s=again_s)

    @property
    def status(self) -> StreamStatus:
        """How the stream is doing."""
        return self._stream.status

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. No fault of the stream's server gets out of here."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream.run(self.looks.take, stop))
            group.create_task(self.looks.run(stop))
            group.create_task(self._keep_addresses(stop))

    async def _keep_addresses(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._stream.follow(status.contract for status in self._statuses())
            await pause(_ADDRESSES_EVERY_S, stop)

    def _find_cursor(self, address: str) -> int | None:
        return next((status.cursor_lt for status in self._statuses() if status.contract == address), None)


def floor_for(rps: float) -> float:
    """Seconds between looks at one contract, so that its hints take at most half of these requests per second."""
    return max(FLOOR_S, 2 * _REQUESTS_PER_LOOK / rps)


def _now() -> float:
    return asyncio.get_running_loop().time()
