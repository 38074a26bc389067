"""The one alerting service: evaluates figures against their lines and writes down what is to be told.

One evaluation is one transaction: figures read, alerts moved, transitions and webhook messages written, listeners
notified; or nothing of it. When the figures cannot be read, nothing happens: no alert opens and none ends.

A feature that has figures to watch brings an Evaluator: its kinds of alert, and a function that reads the figures.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from tonsurance import log
from tonsurance.core.alert_kinds import TRANCHE_KINDS, read_tranche
from tonsurance.core.alerts import AlertKind, AlertState, Change, Key, Reading, Transition, evaluate
from tonsurance.core.errors import TonsuranceError
from tonsurance.core.params import Params
from tonsurance.db import alerts, webhooks
from tonsurance.db.pool import Connection, acquire
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

EVALUATE_EVERY_S = 60.0
"""Figures are evaluated at least this often, also when nothing was committed."""

RECOUNT_AFTER_S = 30.0
"""Unchanged figures count as another evaluation after this time, so that alerts of a quiet vault end; before it they
are the same evaluation, so that a restart or a second daemon changes nothing."""

STALE_AFTER_S = 120.0
"""Figures of a vault whose contract nobody looked at for longer than this are no evidence that anything got better."""

logger = log.get("alerting")


class Figures(msgspec.Struct, frozen=True):
    """What an evaluator read: readings, and a version that changes with the figures. `vault_versions`, where there are
    any, change with the figures of each vault alone: what other vaults do is then no evaluation of its alerts."""

    version: int
    readings: tuple[Reading, ...]
    vault_versions: Mapping[str, int] = {}


class Evaluator(msgspec.Struct, frozen=True):
    """Something to watch. `read` is called inside the evaluation's transaction; it raises what makes the figures
    unreadable, and leaves out a figure that is not known now.
    """

    name: str
    kinds: tuple[AlertKind, ...]
    read: Callable[[Connection, Params], Awaitable[Figures]]


async def read_tranches(conn: Connection, params: Params) -> Figures:
    """Every tranche of every vault."""
    version, figures, moved = await alerts.select_tranche_figures(conn, STALE_AFTER_S)
    return Figures(version, tuple(reading for figure in figures for reading in read_tranche(figure, params)), moved)


TRANCHES = Evaluator("tranches", TRANCHE_KINDS, read_tranches)


class WebhookMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The body a webhook gets: `text` for chats, the rest for programs. The same id is the same message."""

    text: str
    delivery_id: str
    alert_id: str
    sequence: int
    transition: str
    alert_type: str
    severity: str
    vault_id: str | None
    tranche_id: str | None
    item: str | None
    message: str
    current_value: float | None
    limit_value: float
    unit: str
    ledger_version: str
    params_version: int
    timestamp: str


class AlertService:
    """Evaluates every evaluator's figures. `with_webhook`: messages for a webhook are written too."""

    def __init__(
        self,
        pool: LazyPool,
        params: Callable[[], Params],
        evaluators: Sequence[Evaluator] = (TRANCHES,),
        *,
        with_webhook: bool = False,
        leave_to_daemon: bool = False,
        recount_after_s: float = RECOUNT_AFTER_S,
        on_told: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_told` is called after transitions were committed. It must not block. `leave_to_daemon`: do nothing while
        a daemon writes this ledger; it evaluates every commit itself, and it alone knows of a webhook."""
        self._pool = pool
        self._params = params
        self._evaluators = tuple(evaluators)
        self._with_webhook = with_webhook
        self._leave_to_daemon = leave_to_daemon
        self._recount_after_s = recount_after_s
        self._on_told = on_told

    async def evaluate_all(self) -> tuple[Transition, ...]:
        """One evaluation of everything. A failed evaluator does not keep the others from their turn; the first
        failure is raised at the end.
        """
        told: list[Transition] = []
        failures: list[TonsuranceError] = []
        for evaluator in self._evaluators:
            try:
                told += await self.evaluate(evaluator)
            except TonsuranceError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return tuple(told)

    async def evaluate(self, evaluator: Evaluator) -> tuple[Transition, ...]:
        """One evaluation; what happened. Nothing happens twice for the same figures."""
        params = self._params()
        async with acquire(await self._pool.open()) as conn, conn.transaction():
            await alerts.lock_alerts(conn)
            if self._leave_to_daemon and await alerts.has_daemon(conn):
                return ()
            figures = await evaluator.read(conn, params)
            if await self._has_seen(conn, evaluator, figures.version, params.version):
                return ()
            transitions = await self._move_alerts(conn, evaluator, figures, params)
            await alerts.record_evaluated(conn, evaluator.name, figures.version, params.version)
        for transition in transitions:
            report_transition(transition)
        if transitions:
            self._on_told()
        return transitions

    async def _has_seen(self, conn: Connection, evaluator: Evaluator, version: int, params_version: int) -> bool:
        seen = await alerts.select_evaluated(conn, evaluator.name)
        if seen is None or (seen.figures_version, seen.params_version) != (version, params_version):
            return False
        return seen.age_s < self._recount_after_s

    async def _move_alerts(
        self, conn: Connection, evaluator: Evaluator, figures: Figures, params: Params
    ) -> tuple[Transition, ...]:
        versions = (figures.version, params.version)
        kinds = {kind.name: kind for kind in evaluator.kinds}
        stored = await alerts.select_open_states(conn, tuple(kinds))
        before = {key: state for key, (_, state) in stored.items()}
        uncounted = await self._find_uncounted(conn, evaluator, figures, before)
        result = evaluate(before, [_weigh(reading, uncounted) for reading in figures.readings])
        newest = 0
        for transition in result.transitions:
            alert_id = None if transition.change is Change.OPENED else stored[transition.alert.key][0]
            noted = await alerts.write_transition(conn, transition, alert_id, versions)
            newest = noted.transition_id
            if self._with_webhook:
                message = make_message(transition, noted, versions)
                await webhooks.insert_delivery(
                    conn, noted.transition_id, noted.alert_id, transition.change.value, message
                )
        told = {transition.alert.key for transition in result.transitions}
        quiet = {
            stored[key][0]: (state, kinds[key[0]].describe(state.subject, state.value, state.threshold))
            for key, state in result.open.items()
            if key in before and key not in told and _differs(state, before[key])
        }
        await alerts.update_quietly(conn, quiet, versions)
        counted = _vaults_of((*before, *result.open), figures) - uncounted
        moved = {vault_id: figures.vault_versions[vault_id] for vault_id in sorted(counted)}
        await alerts.record_counted(conn, evaluator.name, moved, params.version)
        if newest:
            await alerts.notify_alerts(conn, newest)
        return result.transitions

    async def _find_uncounted(
        self, conn: Connection, evaluator: Evaluator, figures: Figures, before: Mapping[Key, AlertState]
    ) -> set[str]:
        """Vaults with open alerts whose own figures are still those that counted last, and not long ago."""
        seen = await alerts.select_counted(conn, evaluator.name, _vaults_of(before, figures))
        return {
            vault_id
            for vault_id, (version, age_s) in seen.items()
            if version == figures.vault_versions[vault_id] and age_s < self._recount_after_s
        }


class StandIn:
    """Alerting of a program that moves vaults without a daemon: after its updates, never in their way.

    Nothing is evaluated before the first update; from then on also every minute, so that alerts end.
    """

    def __init__(self, service: AlertService) -> None:
        self._service = service
        self._wake = asyncio.Event()
        self._moved = self._due = False

    def note_update(self) -> None:
        """Something was posted: evaluate it soon. Any number of updates until then are one evaluation."""
        self._moved = self._due = True
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Evaluate until `stop`, and then what was posted last. What goes wrong is logged and tried again."""
        await every(EVALUATE_EVERY_S, self._evaluate, stop=stop, wake=self._wake, name="alerts")
        if self._due:
            try:
                await self._evaluate()
            except TonsuranceError as error:
                logger.warning("last_evaluation_failed", code=error.code, error=error.message)

    async def _evaluate(self) -> None:
        if not self._moved:
            return
        self._due = False
        try:
            await self._service.evaluate_all()
        except TonsuranceError:
            self._due = True
            raise


def _vaults_of(keys: Iterable[Key], figures: Figures) -> set[str]:
    """The vaults these alerts are about that have versions of their own."""
    named = {subject.vault_id for _, subject in keys if subject.vault_id is not None}
    return named & figures.vault_versions.keys()


def _weigh(reading: Reading, uncounted: set[str]) -> Reading:
    """A reading that was counted before is no evidence again that anything got better."""
    return msgspec.structs.replace(reading, stale=True) if reading.subject.vault_id in uncounted else reading


def _differs(state: AlertState, before: AlertState) -> bool:
    return (state.value, state.back) != (before.value, before.back)


def make_message(transition: Transition, noted: alerts.Noted, versions: tuple[int, int]) -> str:
    """The webhook's body as JSON text: made once, so that every attempt sends the same bytes."""
    alert, subject = transition.alert, transition.alert.subject
    message = WebhookMessage(
        text=transition.text,
        delivery_id=str(noted.transition_id),
        alert_id=str(noted.alert_id),
        sequence=noted.sequence,
        transition=transition.change.value,
        alert_type=alert.kind,
        severity=alert.severity.value,
        vault_id=subject.vault_id,
        tranche_id=subject.tranche_id,
        item=subject.item,
        message=transition.message,
        current_value=alert.value if math.isfinite(alert.value) else None,
        limit_value=alert.threshold,
        unit=transition.kind.unit,
        ledger_version=str(versions[0]),
        params_version=versions[1],
        timestamp=noted.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
    return msgspec.json.encode(message).decode()


def report_transition(transition: Transition) -> None:
    """One line of log, with the text people know."""
    subject = transition.alert.subject
    fields = {
        "change": transition.change.value,
        "alert_type": transition.alert.kind,
        "severity": transition.alert.severity.value,
        "vault_id": subject.vault_id,
        "tranche_id": subject.tranche_id,
    }
    if transition.change is Change.RESOLVED:
        logger.info(transition.text, **fields)
    elif transition.kind.log_as == "error":
        logger.error(transition.text, **fields)
    else:
        logger.warning(transition.text, **fields)
