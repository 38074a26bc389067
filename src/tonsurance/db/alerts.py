"""SQL of alerts: where they stand, what happened to them, and which figures were evaluated already.

Whoever writes alerts holds `lock_alerts` until the end of the transaction, so that transitions are numbered in the
order in which they can be seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from tonsurance.core.alert_kinds import TrancheFigure
from tonsurance.core.alerts import AlertState, Change, Key, Severity, Subject, Transition
from tonsurance.db.diagnosis import select_writers
from tonsurance.db.ledger import WRITER_LOCK
from tonsurance.db.pool import Connection, Record

CHANNEL = "tonsurance_alerts"
"""Notification channel; the payload is `{"v": <newest transition>}`."""

_ALERTS_LOCK = 0x746F6E5F616C7274  # "ton_alrt"

_ALERT_COLUMNS = """
    alert_id, kind, vault_id, tranche_id, item, severity, message, value, threshold, unit, transitions, opened_version,
    ledger_version, params_version, opened_at, updated_at, resolved_at, acknowledged_by, acknowledged_at
"""

LOCK_ALERTS = "SELECT pg_advisory_xact_lock($1)"
SELECT_EVALUATED = """
SELECT figures_version, params_version, extract(epoch FROM now() - evaluated_at)::double precision AS age_s
FROM alert_evaluations WHERE evaluator = $1
"""
SELECT_EVALUATION_AGES = """
SELECT evaluator, extract(epoch FROM now() - evaluated_at)::double precision AS age_s FROM alert_evaluations
WHERE evaluator !~ '_[0-9a-f]{16}$'
"""
SELECT_COUNTED = """
SELECT evaluator, figures_version, extract(epoch FROM now() - evaluated_at)::double precision AS age_s
FROM alert_evaluations WHERE evaluator = ANY($1)
"""
UPSERT_COUNTED = """
INSERT INTO alert_evaluations (evaluator, figures_version, params_version, evaluated_at)
SELECT name, version, $3, now() FROM unnest($1::text[], $2::bigint[]) AS counted (name, version)
ON CONFLICT (evaluator) DO UPDATE SET figures_version = EXCLUDED.figures_version,
    params_version = EXCLUDED.params_version, evaluated_at = EXCLUDED.evaluated_at
"""
UPSERT_EVALUATED = """
INSERT INTO alert_evaluations (evaluator, figures_version, params_version, evaluated_at) VALUES ($1, $2, $3, now())
ON CONFLICT (evaluator) DO UPDATE SET figures_version = EXCLUDED.figures_version,
    params_version = EXCLUDED.params_version, evaluated_at = EXCLUDED.evaluated_at
"""
SELECT_OPEN_STATES = """
SELECT alert_id, kind, vault_id, tranche_id, item, severity, value, threshold, told_value, evaluations_back
FROM risk_alerts WHERE resolved_at IS NULL AND kind = ANY($1)
"""
SELECT_TRANCHE_FIGURES = """
SELECT head.version, t.vault_id, t.tranche_id, t.total_capital_nanoton, t.coverage_sold_nanoton, t.ledger_version,
    EXISTS (SELECT FROM blockchain_sync_state s JOIN vaults v USING (vault_id)
        WHERE s.vault_id = t.vault_id AND v.source = 'chain'
        AND (s.sync_status <> 'active' OR s.last_sync_timestamp IS NULL
            OR s.last_sync_timestamp < now() - make_interval(secs => $1))) AS stale
FROM ledger_head head LEFT JOIN tranche_utilization t ON true
"""
INSERT_ALERT = """
INSERT INTO risk_alerts (kind, vault_id, tranche_id, item, severity, message, value, threshold, unit, told_value,
    evaluations_back, opened_version, opened_params_version, ledger_version, params_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $13) RETURNING alert_id, transitions
"""
UPDATE_ALERT = """
UPDATE risk_alerts SET severity = $2, message = $3, value = $4, threshold = $5, told_value = $6, evaluations_back = $7,
    ledger_version = $8, params_version = $9, updated_at = now(), transitions = transitions + 1,
    resolved_at = CASE WHEN $10 THEN now() END,
    acknowledged_by = CASE WHEN $11 THEN NULL ELSE acknowledged_by END,
    acknowledged_at = CASE WHEN $11 THEN NULL ELSE acknowledged_at END
WHERE alert_id = $1 RETURNING alert_id, transitions
"""
UPDATE_QUIETLY = """
UPDATE risk_alerts SET value = $2, message = $3, evaluations_back = $4, ledger_version = $5, params_version = $6
WHERE alert_id = $1
"""
INSERT_TRANSITION = """
INSERT INTO risk_alert_transitions (alert_id, sequence, change, severity, message, value, threshold, ledger_version,
    params_version, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING transition_id, at
"""
NOTIFY_ALERTS = "SELECT pg_notify($1, format('{\"v\":%s}', $2::bigint))"
ACKNOWLEDGE = f"""
UPDATE risk_alerts SET acknowledged_by = $2, acknowledged_at = now(), transitions = transitions + 1
WHERE alert_id = $1 AND acknowledged_by IS NULL RETURNING {_ALERT_COLUMNS}
"""  # noqa: S608 - the column list is a constant of this module
SELECT_ALERT = f"SELECT {_ALERT_COLUMNS} FROM risk_alerts WHERE alert_id = $1"  # noqa: S608
_FILTER = """
    ($1::text IS NULL OR severity = $1) AND ($2::text IS NULL OR kind = $2)
    AND ($3::boolean IS NULL OR (resolved_at IS NULL) = $3)
"""
SELECT_ALERTS = f"""
SELECT {_ALERT_COLUMNS} FROM risk_alerts
WHERE {_FILTER} AND ($4::bigint IS NULL OR alert_id < $4) ORDER BY alert_id DESC LIMIT $5
"""  # noqa: S608
SELECT_ALERT_COUNTS = f"""
SELECT count(*) AS total, count(*) FILTER (WHERE severity = 'Critical') AS critical FROM risk_alerts WHERE {_FILTER}
"""  # noqa: S608
SELECT_OPEN_ALERTS = f"""
SELECT {_ALERT_COLUMNS} FROM risk_alerts WHERE resolved_at IS NULL ORDER BY alert_id DESC LIMIT $1
"""  # noqa: S608
SELECT_NEWEST_TRANSITION = "SELECT coalesce(max(transition_id), 0) FROM risk_alert_transitions"
SELECT_TRANSITIONS = """
SELECT t.transition_id, t.alert_id, t.sequence, t.change, a.kind, a.vault_id, a.tranche_id, a.item, a.unit, t.severity,
    t.message, t.value, t.threshold, t.ledger_version, t.params_version, t.actor, t.at, a.opened_at
FROM risk_alert_transitions t JOIN risk_alerts a USING (alert_id)
WHERE t.transition_id > $1 ORDER BY t.transition_id LIMIT $2
"""


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """An alert. `value` may be infinite; `transitions` counts what was told of it."""

    alert_id: int
    kind: str
    vault_id: str | None
    tranche_id: str | None
    item: str | None
    severity: str
    message: str
    value: float
    threshold: float
    unit: str
    transitions: int
    opened_version: int
    ledger_version: int
    params_version: int
    opened_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None


class TransitionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an alert, and whose it is. `actor`: who acknowledged it."""

    transition_id: int
    alert_id: int
    sequence: int
    change: str
    kind: str
    vault_id: str | None
    tranche_id: str | None
    item: str | None
    unit: str
    severity: str
    message: str
    value: float
    threshold: float
    ledger_version: int
    params_version: int
    actor: str | None
    at: datetime
    opened_at: datetime


class Evaluated(msgspec.Struct, frozen=True):
    """The figures that were evaluated last, and how many seconds ago."""

    figures_version: int
    params_version: int
    age_s: float


class AlertCounts(msgspec.Struct, frozen=True):
    """How many alerts fit a query, and how many of them are critical."""

    total: int
    critical: int


class Noted(msgspec.Struct, frozen=True):
    """A transition as it was written down."""

    alert_id: int
    transition_id: int
    sequence: int
    at: datetime


async def lock_alerts(conn: Connection) -> None:
    """Be the only one who writes alerts until the transaction ends."""
    await conn.execute(LOCK_ALERTS, _ALERTS_LOCK)


async def has_daemon(conn: Connection) -> bool:
    """Whether somebody is this ledger's writer now."""
    return await select_writers(conn, WRITER_LOCK) > 0


async def select_evaluated(conn: Connection, evaluator: str) -> Evaluated | None:
    """What this evaluator saw last; None when it never ran."""
    row = await conn.fetchrow(SELECT_EVALUATED, evaluator)
    return None if row is None else Evaluated(*row)


async def select_evaluation_ages(conn: Connection) -> dict[str, float]:
    """For each evaluator that ever ran the seconds since its last evaluation."""
    return {row["evaluator"]: row["age_s"] for row in await conn.fetch(SELECT_EVALUATION_AGES)}


async def record_evaluated(conn: Connection, evaluator: str, figures_version: int, params_version: int) -> None:
    """Note that these figures have been evaluated now."""
    await conn.execute(UPSERT_EVALUATED, evaluator, figures_version, params_version)


async def select_counted(conn: Connection, evaluator: str, vault_ids: Iterable[str]) -> dict[str, tuple[int, float]]:
    """Of each of these vaults the version that counted last as an evaluation of its own, and how many seconds ago."""
    names = {_name_of(evaluator, vault_id): vault_id for vault_id in vault_ids}
    found = await conn.fetch(SELECT_COUNTED, list(names)) if names else ()
    return {names[row["evaluator"]]: (row["figures_version"], row["age_s"]) for row in found}


async def record_counted(conn: Connection, evaluator: str, versions: Mapping[str, int], params_version: int) -> None:
    """Note that these vaults' figures, of these versions, have counted now."""
    names = [_name_of(evaluator, vault_id) for vault_id in versions]
    if names:
        await conn.execute(UPSERT_COUNTED, names, list(versions.values()), params_version)


def _name_of(evaluator: str, vault_id: str) -> str:
    """An evaluator's name for one vault; names of evaluators alone never end like this."""
    return f"{evaluator}_{hashlib.sha256(vault_id.encode()).hexdigest()[:16]}"


async def select_tranche_figures(
    conn: Connection, stale_after_s: float
) -> tuple[int, tuple[TrancheFigure, ...], dict[str, int]]:
    """The ledger's version, every tranche of every vault, and for each vault the version at which it moved last; of
    one moment."""
    rows = await conn.fetch(SELECT_TRANCHE_FIGURES, stale_after_s)
    figures = tuple(
        TrancheFigure(
            vault_id=row["vault_id"],
            tranche_id=row["tranche_id"],
            capital_nano=row["total_capital_nanoton"],
            coverage_nano=row["coverage_sold_nanoton"],
            stale=row["stale"],
        )
        for row in rows
        if row["tranche_id"] is not None
    )
    moved: dict[str, int] = {}
    for row in rows:
        if row["tranche_id"] is not None:
            moved[row["vault_id"]] = max(moved.get(row["vault_id"], 0), row["ledger_version"])
    return rows[0]["version"], figures, moved


async def select_open_states(conn: Connection, kinds: Sequence[str]) -> dict[Key, tuple[int, AlertState]]:
    """The open alerts of these kinds with their ids."""
    found = {}
    for row in await conn.fetch(SELECT_OPEN_STATES, list(kinds)):
        state = AlertState(
            kind=row["kind"],
            subject=Subject(vault_id=row["vault_id"], tranche_id=row["tranche_id"], item=row["item"]),
            severity=Severity(row["severity"]),
            value=row["value"],
            threshold=row["threshold"],
            told_value=row["told_value"],
            back=tuple(row["evaluations_back"]),
        )
        found[state.key] = (row["alert_id"], state)
    return found


async def write_transition(
    conn: Connection, transition: Transition, alert_id: int | None, versions: tuple[int, int]
) -> Noted:
    """Write what happened to an alert (None: it opens) under these versions of figures and parameters."""
    if alert_id is None:
        [row] = await conn.fetch(INSERT_ALERT, *_opened_row(transition), *versions)
    else:
        [row] = await conn.fetch(UPDATE_ALERT, alert_id, *_updated_row(transition, versions))
    alert, words = transition.alert, transition.message
    change = transition.change.value
    severity, figures = alert.severity.value, (alert.value, alert.threshold)
    [told] = await conn.fetch(INSERT_TRANSITION, *row, change, severity, words, *figures, *versions, None)
    return Noted(row["alert_id"], told["transition_id"], row["transitions"], told["at"])


def _opened_row(transition: Transition) -> tuple[object, ...]:
    alert, subject = transition.alert, transition.alert.subject
    return (
        alert.kind,
        subject.vault_id,
        subject.tranche_id,
        subject.item,
        alert.severity.value,
        transition.message,
        alert.value,
        alert.threshold,
        transition.kind.unit,
        alert.told_value,
        list(alert.back),
    )


def _updated_row(transition: Transition, versions: tuple[int, int]) -> tuple[object, ...]:
    alert = transition.alert
    return (
        alert.severity.value,
        transition.message,
        alert.value,
        alert.threshold,
        alert.told_value,
        list(alert.back),
        *versions,
        transition.change is Change.RESOLVED,
        transition.escalated,  # who acknowledged it saw something milder
    )


async def update_quietly(
    conn: Connection, states: Mapping[int, tuple[AlertState, str]], versions: tuple[int, int]
) -> None:
    """Keep values, messages and counts of alerts of which there is nothing to tell."""
    rows = [(key, state.value, said, list(state.back), *versions) for key, (state, said) in states.items()]
    await conn.executemany(UPDATE_QUIETLY, rows)


async def notify_alerts(conn: Connection, transition_id: int) -> None:
    """Announce the newest transition; listeners hear it when the transaction commits."""
    await conn.execute(NOTIFY_ALERTS, CHANNEL, transition_id)


async def acknowledge_alert(conn: Connection, alert_id: int, actor: str) -> AlertRow | None:
    """Note who has seen an alert; the first stays. None when there is no such alert."""
    row = await conn.fetchrow(ACKNOWLEDGE, alert_id, actor)
    if row is None:
        return await select_alert(conn, alert_id)
    alert = _alert_of(row)
    figures = (alert.value, alert.threshold, alert.ledger_version, alert.params_version)
    words = ("acknowledged", alert.severity, alert.message)
    [told] = await conn.fetch(INSERT_TRANSITION, alert_id, alert.transitions, *words, *figures, actor)
    await notify_alerts(conn, told["transition_id"])
    return alert


async def select_alert(conn: Connection, alert_id: int) -> AlertRow | None:
    """One alert."""
    row = await conn.fetchrow(SELECT_ALERT, alert_id)
    return None if row is None else _alert_of(row)


async def select_alerts(
    conn: Connection, *, severity: str | None, kind: str | None, is_open: bool | None, before: int | None, limit: int
) -> tuple[AlertRow, ...]:
    """A page of alerts, newest first."""
    return tuple(_alert_of(row) for row in await conn.fetch(SELECT_ALERTS, severity, kind, is_open, before, limit))


async def select_alert_counts(
    conn: Connection, *, severity: str | None, kind: str | None, is_open: bool | None
) -> AlertCounts:
    """How many there are on all pages."""
    [row] = await conn.fetch(SELECT_ALERT_COUNTS, severity, kind, is_open)
    return AlertCounts(*row)


async def select_open_alerts(conn: Connection, limit: int) -> tuple[AlertRow, ...]:
    """The open ones, newest first."""
    return tuple(_alert_of(row) for row in await conn.fetch(SELECT_OPEN_ALERTS, limit))


async def select_newest_transition(conn: Connection) -> int:
    """0 before the first."""
    newest: int = await conn.fetchval(SELECT_NEWEST_TRANSITION)
    return newest


async def select_transitions(conn: Connection, after: int, limit: int) -> tuple[TransitionRow, ...]:
    """What happened after a transition, oldest first."""
    return tuple(TransitionRow(**dict(row)) for row in await conn.fetch(SELECT_TRANSITIONS, after, limit))


def _alert_of(row: Record) -> AlertRow:
    return AlertRow(**dict(row))
