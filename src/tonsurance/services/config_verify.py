"""Proves that the configuration is what was written: the audit log's chain, the versions, and the values that hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from tonsurance.core.datasets import DATASETS, DEPEGS, SCENARIOS, content_of
from tonsurance.core.parameters.declaration import Key
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.db import admin, config, datasets
from tonsurance.db.admin import UserRow
from tonsurance.db.config import Head, StoredAudit, StoredParameter, StoredVersion
from tonsurance.db.datasets import EntryRow
from tonsurance.db.pool import Connection
from tonsurance.services.config_chain import GENESIS, hash_row
from tonsurance.services.config_past import Writing, read_seeds
from tonsurance.services.config_plan import is_note, note_name, write_note
from tonsurance.services.config_rows import hash_stored, read_values, same_json_text
from tonsurance.services.config_writes import USERS, user_content
from tonsurance.services.dataset_provenance import Provenance, trace_entries

MAX_FAULTS = 100
_PAGE = 1_000
_ALL = 1_000_000


class AuditFault(msgspec.Struct, frozen=True):
    """Something that is not as it was written: the table, the row's key in it, and what is wrong."""

    table: str
    row: str
    reason: str

    def __str__(self) -> str:
        return f"{self.table}, row {self.row}: {self.reason}"


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much was walked, and what is wrong, first thing first (the first hundred).

    `head` is the newest audit row's hash: noted elsewhere, it also proves that the whole log was not rewritten.
    """

    audit_rows: int
    versions: int
    head: str
    faults: tuple[AuditFault, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return not self.faults


class _Log(msgspec.Struct, frozen=True):
    """What the audit log says: of the making of every version, and of the last writing of every name."""

    made: dict[int, _Made]
    written: dict[Key, StoredAudit]


class _Made(msgspec.Struct, frozen=True):
    """What the audit log says about the making of a version."""

    hash: str
    author: str
    reason: str
    kind: str
    time: float


async def verify_all(conn: Connection) -> AuditReport:
    """Walk everything in the caller's transaction, which shows one consistent state."""
    head = await config.select_head(conn)
    faults: list[AuditFault] = []
    log = _Log({}, {})
    rows = await _walk_audit(conn, head, faults, log)
    versions = await _walk_versions(conn, head, faults, log.made)
    faults += await _compare_parameters(conn, log.written)
    faults += await _compare_datasets(conn)
    faults += await _compare_users(conn, log.written)
    return AuditReport(audit_rows=rows, versions=versions, head=head.audit_hash, faults=tuple(faults[:MAX_FAULTS]))


async def _walk_audit(conn: Connection, head: Head, faults: list[AuditFault], log: _Log) -> int:
    last, previous, count = 0, GENESIS, 0
    while page := await config.select_audit_after(conn, last, _PAGE):
        for row in page:
            if len(faults) < MAX_FAULTS:
                faults += (
                    AuditFault("config_audit_log", str(row.id), what) for what in _check_row(row, last, previous)
                )
            if not row.dry_run:
                log.made.setdefault(row.version, _made_by(row))
                log.written[row.category, row.key] = row
            last, previous, count = row.id, row.hash, count + 1
    if (last, previous) != (head.audit_id, head.audit_hash):
        faults.append(AuditFault("config_audit_log", str(head.audit_id), f"the log should end here; it ends at {last}"))
    return count


def _check_row(row: StoredAudit, last: int, previous: str) -> Iterator[str]:
    if row.id != last + 1:
        yield (
            f"row {last + 1} should come before it"
            if row.id == last + 2
            else f"rows {last + 1} to {row.id - 1} are gone"
        )
    elif row.previous_hash != previous:
        yield "it does not hold the hash of the row before"
    if row.hash != hash_row(row):
        yield "its hash does not fit its content: it was changed after it was written"


def _made_by(row: StoredAudit) -> _Made:
    return _Made(row.version_hash, row.changed_by, row.change_reason, row.kind, row.changed_at.timestamp())


async def _walk_versions(conn: Connection, head: Head, faults: list[AuditFault], made: dict[int, _Made]) -> int:
    last = 0
    while page := await config.select_versions_after(conn, last, _PAGE):
        for row in page:
            if len(faults) < MAX_FAULTS:
                whats = _check_version(row, last, made.get(row.version))
                faults += (AuditFault("config_versions", str(row.version), what) for what in whats)
            last = row.version
    if last != head.version:
        faults.append(AuditFault("config_head", "true", f"it says version {head.version}; the newest is {last}"))
    return last


def _check_version(row: StoredVersion, last: int, made: _Made | None) -> Iterator[str]:
    if row.version != last + 1:
        yield f"version {last + 1} is gone"
    if hash_stored(row) != row.hash:
        yield "its hash does not fit its values: it was changed after it was written"
    if made is None:
        yield "no audit row tells of it"
    elif made != _Made(row.hash, row.author, row.reason, row.kind, row.created_at.timestamp()):
        yield "the audit log tells otherwise of its hash, author, reason, kind or time"


async def _compare_parameters(conn: Connection, written: Mapping[Key, StoredAudit]) -> list[AuditFault]:
    """The rows people look at against the version that holds and what the audit log says of them."""
    newest = await config.select_newest(conn)
    values = {} if newest is None else read_values(newest.values)
    seeds = read_seeds(await config.select_seeds(conn, _ALL if newest is None else newest.version))
    stored = {(row.category, row.key): row for row in await config.select_parameters(conn)}
    names = stored.keys() | {name for name in values if not is_note(name)}
    return [
        AuditFault("config_parameters", "/".join(name), what)
        for name in sorted(names)
        for what in _check_parameter(stored.get(name), name, values, _writings(written.get(name), seeds.get(name)))
    ]


def _writings(told: StoredAudit | None, seeded: tuple[Writing, ...] | None) -> tuple[Writing, ...]:
    """What a row may say of its last writing: as its audit row does; without one, as one that stored all defaults."""
    return (seeded or ()) if told is None else (Writing(told.version, told.changed_at, told.changed_by),)


def _check_parameter(
    row: StoredParameter | None, name: Key, values: Mapping[Key, object], writings: tuple[Writing, ...]
) -> Iterator[str]:
    if row is None:
        yield "is missing; the newest version has it"
        return
    if name not in values:
        yield "is not in the newest version"
        return
    if not same_json_text(row.value_data, values[name]):
        yield "is not what the newest version says"
    if (row.version, row.last_updated_at, row.updated_by) not in {(w.version, w.time, w.by) for w in writings}:
        yield "the audit log tells otherwise of its version, time or person"
    note, declared = values.get(note_name(name)), REGISTRY.get(name)
    if note is not None and (not row.custom or note != write_note(row.value_type, row.description)):
        yield "its type or description is not what the newest version says"
    if declared is not None and not row.custom and row.value_type != declared.kind:
        yield f"its type is not {declared.kind}"


async def _compare_datasets(conn: Connection) -> list[AuditFault]:
    """Entries of the data sets against what the audit log says was written last."""
    written = await datasets.select_last_written(conn, DATASETS)
    people = trace_entries(await datasets.select_written(conn, DATASETS))
    stored = {
        (dataset, row.entry.key): row
        for dataset, rows in (
            (DEPEGS, await datasets.select_depegs(conn, asset=None, verified=None, before=None, limit=_ALL)),
            (SCENARIOS, await datasets.select_scenarios(conn, enabled=None, before=None, limit=_ALL)),
        )
        for row in rows
    }
    return [
        AuditFault(name[0], name[1], what)
        for name in sorted(stored.keys() | written.keys())
        for what in _check_entry(stored.get(name), written.get(name), people.get(name))
    ]


def _check_entry(row: EntryRow | None, written: str | None, people: Provenance | None) -> Iterator[str]:
    if row is None:
        if written is not None:
            yield "is gone; the audit log has it"
        return
    if written is None:
        yield "no audit row tells of it"
        return
    if not same_json_text(written, content_of(row.entry)):
        yield "is not what the audit log says was written last"
    told = None if people is None else (people.entered_by, people.verified_by, people.version)
    if told != (row.entered_by, row.verified_by, row.version):
        yield "the audit log tells otherwise of who entered or verified it, or of its version"


async def _compare_users(conn: Connection, written: Mapping[Key, StoredAudit]) -> list[AuditFault]:
    """People of the admin API against what the audit log says was written last about each."""
    stored = {row.sub: row for row in await admin.select_users(conn)}
    told = {key: row for (category, key), row in written.items() if category == USERS}
    return [
        AuditFault(USERS, sub, what)
        for sub in sorted(stored.keys() | told.keys())
        if (what := _check_user(stored.get(sub), told.get(sub))) is not None
    ]


def _check_user(row: UserRow | None, told: StoredAudit | None) -> str | None:
    if row is None:
        return "is gone; the audit log has it"
    if told is None or told.new_value is None:
        return "no audit row tells of it"
    as_told = same_json_text(told.new_value, user_content(row)) and told.changed_by == row.changed_by
    return None if as_told else "is not what the audit log says was written last"
