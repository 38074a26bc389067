"""What a daemon knows of its chain, its database, its contracts and its tasks, by its own clock; and the alerts of it.

The figures are in memory, so that an outage of the database is measured too. What was beyond its line while nothing
could be stored is told, with its worst value, as soon as alerts can be stored again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from tonsurance import log
from tonsurance.core import daemon_alerts as kinds
from tonsurance.core.alerts import AlertKind, Subject
from tonsurance.core.params import Params
from tonsurance.db.alerts import select_evaluated, select_open_states
from tonsurance.db.pool import Connection
from tonsurance.services.alerting import Evaluator, Figures
from tonsurance.services.ingest import IngestStatus
from tonsurance.services.task_supervision import TaskState

EVALUATOR = "daemon"
HOUR_S = 3_600.0
_MOST_ERRORS = 10_000
_NS_PER_MS = 1_000_000
_KIND_OF = {kind.name: kind for kind in kinds.DAEMON_KINDS}
Figure: TypeAlias = tuple[AlertKind, str]
"""A kind of alert and what it is about."""

_log = log.get(__name__)


class DaemonWatch:
    """Figures of one process. `on_change` is called when one passes its line or comes back; it must not block."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.on_change: Callable[[], None] = lambda: None
        self.stores = False
        """Whether this process stores alerts now; else it only logs them."""
        self.errors = 0
        self.seqno: int | None = None
        self._began_at = self._moved_at = self._answered_at = self._stored_at = clock()
        self._chain_fails = self._database_fails = False
        self._failed_at: deque[float] = deque(maxlen=_MOST_ERRORS)
        self._contracts: Callable[[], Sequence[IngestStatus]] = tuple
        self._tasks: Callable[[], Sequence[TaskState]] = tuple
        self._sights: dict[str, tuple[object, float]] = {}
        """For each contract what it looked like when it last showed life, and when that was."""
        self._moves: dict[str, tuple[int, float]] = {}
        self._beyond: set[Figure] = set()
        self._untold: dict[Figure, float] = {}
        self._offered: tuple[int, frozenset[Figure]] | None = None

    def begin(self, contracts: Callable[[], Sequence[IngestStatus]], tasks: Callable[[], Sequence[TaskState]]) -> None:
        """This process is the active daemon now, with these contracts and tasks."""
        self._contracts, self._tasks, self.stores = contracts, tasks, True
        self._sights.clear()
        self._moves.clear()

    def end(self) -> None:
        """It is no longer the active one: there is nothing to say of contracts and tasks."""
        self._contracts, self._tasks, self.stores = tuple, tuple, False

    def note_head(self, seqno: int) -> None:
        """The chain answered with its newest masterchain block."""
        now = self._clock()
        if self.seqno is None or seqno > self.seqno:
            self.seqno, self._moved_at = seqno, now
        elif self._chain_fails:
            self._moved_at = now  # nobody knows since when it stands
        self._answered_at, self._chain_fails = now, False

    def note_chain_failure(self) -> None:
        """The chain did not answer, or not usefully."""
        self._chain_fails = True

    def note_database(self, *, answers: bool) -> None:
        """The database stored something, or did not."""
        if answers:
            self._stored_at = self._clock()
        self._database_fails = not answers

    def note_error(self, code: str) -> None:
        """A round of following, or another synchronisation, failed with this error."""
        self.errors += 1
        self._failed_at.append(self._clock())
        _log.debug("sync_error", code=code, errors=self.errors)

    @property
    def database_answers(self) -> bool:
        """Whether the last look at the database went well."""
        return not self._database_fails

    @property
    def chain_answers(self) -> bool:
        """Whether the last look at the chain went well, and there was one."""
        return self.seqno is not None and not self._chain_fails

    @property
    def contracts(self) -> Sequence[IngestStatus]:
        """The contracts that are followed now."""
        return self._contracts()

    @property
    def tasks(self) -> Sequence[TaskState]:
        """The tasks that run now."""
        return self._tasks()

    def quiet_s(self, contract: str) -> float:
        """For how long the cursor of a contract has not moved, as far as this process saw."""
        known = self._moves.get(contract)
        return 0.0 if known is None else self._clock() - known[1]

    def figures(self, params: Params) -> dict[Figure, float]:
        """Everything that is known now. A figure that is not known is left out."""
        now = self._clock()
        found: dict[Figure, float] = {
            (kinds.CHAIN_AWAY, "TON API"): now - self._answered_at if self._chain_fails else 0.0,
            (kinds.DATABASE_AWAY, "database"): now - self._stored_at if self._database_fails else 0.0,
            (kinds.SYNC_ERRORS, "daemon"): float(self._count_errors(now)),
        }
        if self.chain_answers:
            found[kinds.HEAD_STALLED, "masterchain"] = now - self._moved_at
        for status in self._contracts():
            found[kinds.NO_EVENTS, status.contract] = self._idle_s(status, now)
        well_after_s = params.value("risk", "task_well_s")
        assert isinstance(well_after_s, int)
        for task in self._tasks():
            found[kinds.TASK_CRASHED, task.name] = float(task.unwell(time.time(), well_after_s))
        return found

    def sample(self, params: Params) -> None:
        """Look at all figures: keep the worst of what is beyond its line, and tell when that changes."""
        figures = self.figures(params)
        beyond = {figure for figure, value in figures.items() if _passes(figure, value, params)}
        for figure in beyond:
            self._untold[figure] = max(figures[figure], self._untold.get(figure, 0.0))
        changed = beyond ^ (self._beyond & figures.keys())
        self._beyond = beyond
        if not self.stores or self._database_fails:
            for figure in changed:
                _say(figure, figures[figure], params, passed=figure in beyond)
        if changed or self._untold.keys() - beyond:  # until its end is told too
            self.on_change()

    @property
    def evaluator(self) -> Evaluator:
        """What the alerting service asks."""
        return Evaluator(EVALUATOR, kinds.DAEMON_KINDS, self._read)

    async def _read(self, conn: Connection, params: Params) -> Figures:
        """The figures now, or the worst there was and could not be told; an open alert of what is gone ends."""
        values = self.figures(params)
        beyond = {figure for figure, value in values.items() if _passes(figure, value, params)}
        await self._forget_told(conn, beyond)
        for figure, worst in self._untold.items():
            values[figure] = max(worst, values.get(figure, 0.0))
        if not self._knows_an_hour and (kinds.SYNC_ERRORS, "daemon") not in beyond | self._untold.keys():
            del values[kinds.SYNC_ERRORS, "daemon"]  # the daemon before may have seen errors within the hour
        for kind, subject in await select_open_states(conn, tuple(_KIND_OF)):
            unknown = (_KIND_OF[kind] is kinds.SYNC_ERRORS and not self._knows_an_hour) or (
                _KIND_OF[kind] is kinds.HEAD_STALLED and not self.chain_answers
            )
            if subject.item is not None and not unknown:
                values.setdefault((_KIND_OF[kind], subject.item), 0.0)
        version = self._make_version(frozenset(beyond | self._untold.keys()))
        return Figures(version, tuple(kinds.read_figure(*figure, value, params) for figure, value in values.items()))

    @property
    def _knows_an_hour(self) -> bool:
        """Whether this process has watched for so long that what it counted is all there was within an hour."""
        return self._clock() - self._began_at >= HOUR_S

    def _make_version(self, loud: frozenset[Figure]) -> int:
        """Another one whenever other figures are beyond their lines, so that they are evaluated at once."""
        if self._offered is None or self._offered[1] != loud:
            before = 0 if self._offered is None else self._offered[0]
            self._offered = (max(before + 1, time.time_ns() // _NS_PER_MS), loud)
        return self._offered[0]

    async def _forget_told(self, conn: Connection, beyond: set[Figure]) -> None:
        """What was offered last time is told once its evaluation is in the database."""
        if self._offered is None:
            return
        version, told = self._offered
        stored = await select_evaluated(conn, EVALUATOR)
        if stored is not None and stored.figures_version == version:
            for figure in told - beyond:
                self._untold.pop(figure, None)

    def _idle_s(self, status: IngestStatus, now: float) -> float:
        """How long a contract has shown no life: not caught up, nothing posted, not even read."""
        sight = (status.cursor_lt, status.caught_up_at, status.transactions_read)
        if self._sights.get(status.contract, (None, 0.0))[0] != sight:
            self._sights[status.contract] = (sight, now)
        if self._moves.get(status.contract, (None, 0.0))[0] != status.cursor_lt:
            self._moves[status.contract] = (status.cursor_lt, now)
        return now - self._sights[status.contract][1]

    def _count_errors(self, now: float) -> int:
        while self._failed_at and self._failed_at[0] < now - HOUR_S:
            self._failed_at.popleft()
        return len(self._failed_at)


def _passes(figure: Figure, value: float, params: Params) -> bool:
    return figure[0].passes(value, kinds.limit_of(figure[0], params))


def find_faults(figures: Mapping[Figure, float], params: Params) -> list[tuple[AlertKind, str]]:
    """The kind and the words of every figure that is beyond its line."""
    return [
        (kind, kind.describe(Subject(item=item), value, kinds.limit_of(kind, params)))
        for (kind, item), value in figures.items()
        if _passes((kind, item), value, params)
    ]


def _say(figure: Figure, value: float, params: Params, *, passed: bool) -> None:
    """To the log, when nothing can be stored."""
    kind, item = figure
    words = kind.describe(Subject(item=item), value, kinds.limit_of(kind, params))
    if passed:
        _log.error(f"{kind.sign}{words}", alert_type=kind.name, stored=False)
    else:
        _log.info(f"✅ OVER: {words}", alert_type=kind.name, stored=False)
