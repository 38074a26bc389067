"""The audit log's hash chain: each row holds the hash of the row before, so that none can be changed or taken out.

Whoever may write everything could compute a whole new chain; the head's hash, noted elsewhere, tells that too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_interface

import msgspec

from tonsurance.db.config import Head, StoredAudit

GENESIS = "0" * 64
"""What the first row holds in place of a hash before it."""


class AuditDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An audit row without its place in the chain. Values are JSON text as the database gives it."""

    config_id: int | None
    category: str
    key: str
    action: str
    old_value: str | None
    new_value: str | None
    changed_by: str
    role: str
    change_reason: str
    kind: str
    client_ip: str | None
    request_id: str | None
    dry_run: bool
    emergency: bool
    version: int
    version_hash: str


def chain_rows(head: Head, drafts: Iterable[AuditDraft]) -> tuple[StoredAudit, ...]:
    """The rows that follow the head, linked to it and to each other."""
    rows: list[StoredAudit] = []
    number, previous = head.audit_id, head.audit_hash
    for draft in drafts:
        number += 1
        row = StoredAudit(
            id=number, changed_at=head.now, previous_hash=previous, hash="", **msgspec.structs.asdict(draft)
        )
        row = msgspec.structs.replace(row, hash=hash_row(row))
        rows.append(row)
        previous = row.hash
    return tuple(rows)


def hash_row(row: StoredAudit) -> str:
    """SHA-256 over all of a row but its own hash, hex. Times count in microseconds of UTC."""
    fields = msgspec.structs.asdict(row)
    del fields["hash"]
    fields["changed_at"] = _time_text(row.changed_at)
    fields["client_ip"] = None if row.client_ip is None else str(ip_interface(row.client_ip))
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _time_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")
