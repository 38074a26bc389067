"""Proves that the configuration is what was written: the audit log's chain, the versions, and the values that hold."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tonsurance.core.datasets import DATASETS, DEPEGS, SCENARIOS, content_of
from tonsurance.db import config, datasets
from tonsurance.db.config import Head, StoredAudit, StoredVersion
from tonsurance.db.pool import Connection
from tonsurance.services.config_chain import GENESIS, hash_row
from tonsurance.services.config_rows import hash_stored, read_values, same_json_text

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
    made: dict[int, _Made] = {}
    rows = await _walk_audit(conn, head, faults, made)
    versions = await _walk_versions(conn, head, faults, made)
    faults += await _compare_parameters(conn)
    faults += await _compare_datasets(conn)
    return AuditReport(audit_rows=rows, versions=versions, head=head.audit_hash, faults=tuple(faults[:MAX_FAULTS]))


async def _walk_audit(conn: Connection, head: Head, faults: list[AuditFault], made: dict[int, _Made]) -> int:
    last, previous, count = 0, GENESIS, 0
    while page := await config.select_audit_after(conn, last, _PAGE):
        for row in page:
            if len(faults) < MAX_FAULTS:
                faults += (
                    AuditFault("config_audit_log", str(row.id), what) for what in _check_row(row, last, previous)
                )
            if not row.dry_run:
                made.setdefault(row.version, _made_by(row))
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


async def _compare_parameters(conn: Connection) -> list[AuditFault]:
    """The rows people look at against the version that holds."""
    newest = await config.select_newest(conn)
    values = {} if newest is None else read_values(newest.values)
    stored = {(row.category, row.key): row.value_data for row in await config.select_parameters(conn)}
    return [
        AuditFault("config_parameters", "/".join(name), what)
        for name in sorted(stored.keys() | values.keys())
        if (what := _compare(stored.get(name), name in values, values.get(name))) is not None
    ]


def _compare(stored: str | None, is_held: bool, held: object) -> str | None:
    if stored is None:
        return "is missing; the newest version has it"
    if not is_held:
        return "is not in the newest version"
    return None if same_json_text(stored, held) else "is not what the newest version says"


async def _compare_datasets(conn: Connection) -> list[AuditFault]:
    """Entries of the data sets against what the audit log says was written last."""
    written = await datasets.select_last_written(conn, DATASETS)
    stored = {
        (dataset, row.entry.key): content_of(row.entry)
        for dataset, rows in (
            (DEPEGS, await datasets.select_depegs(conn, asset=None, verified=None, before=None, limit=_ALL)),
            (SCENARIOS, await datasets.select_scenarios(conn, enabled=None, before=None, limit=_ALL)),
        )
        for row in rows
    }
    return [
        AuditFault(name[0], name[1], what)
        for name in sorted(stored.keys() | written.keys())
        if (what := _compare_entry(stored.get(name), written.get(name))) is not None
    ]


def _compare_entry(stored: dict[str, object] | None, written: str | None) -> str | None:
    if written is None:
        return None if stored is None else "no audit row tells of it"
    if stored is None:
        return "is gone; the audit log has it"
    return None if same_json_text(written, stored) else "is not what the audit log says was written last"
