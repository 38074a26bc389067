"""What a change of the configuration leaves in its tables, all in the caller's transaction, which holds the head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface

import msgspec

from tonsurance.core.errors import UsageError
from tonsurance.core.parameters.declaration import MAX_TEXT, Key, Parameter, thaw
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.core.params import Params
from tonsurance.db import admin, config
from tonsurance.db.admin import UserRow
from tonsurance.db.config import Head, StoredParameter, StoredVersion
from tonsurance.db.pool import Connection
from tonsurance.services.config_chain import AuditDraft, chain_rows
from tonsurance.services.config_plan import Actor, Change, Edit, EmergencyRefused, Standing, Terms, is_name
from tonsurance.services.config_rows import write_values

ALL = "all"
"""Category and key of an audit row about the whole configuration."""
USERS = "admin_users"
"""Category of audit rows about people of the admin API: their table."""
MAX_EDITS = 1_000
MAX_NAME = 100

KINDS = ("edit", "change", "rollback", "chain")
"""Kinds of versions that are made by edits."""

_ADMIN = "admin"
_UNREADABLE = "(no value that can be stored)"
_MAX_TRIED = 4_000


class Written(msgspec.Struct, frozen=True):
    """A new version: its parameters, its values as the database writes them, and what changes."""

    params: Params
    text: str
    changes: tuple[Change, ...]
    declared: Mapping[Key, Parameter]


def check_request(edits: Sequence[Edit], actor: Actor, reason: str, terms: Terms | None = None) -> None:
    """Raises UsageError for what could not be stored, EmergencyRefused for who may not override."""
    if len(edits) > MAX_EDITS:
        raise UsageError(f"{len(edits)} edits at once; the most is {MAX_EDITS}.")
    if not (1 <= len(actor.sub) <= MAX_NAME and actor.sub.isprintable()):
        raise UsageError(f"A name has 1 to {MAX_NAME} characters, without control characters.")
    if len(reason) > MAX_TEXT or not reason.replace("\n", "").replace("\t", "").isprintable():
        raise UsageError(f"A reason has at most {MAX_TEXT} characters, without control characters.")
    if actor.request_id is not None and not (len(actor.request_id) <= MAX_NAME and actor.request_id.isprintable()):
        raise UsageError(f"A request id has at most {MAX_NAME} characters.")
    if terms is not None and terms.kind not in KINDS:
        raise UsageError(f"A version is of kind {', '.join(KINDS)}, not {terms.kind[:20]}.")
    if terms is not None and terms.emergency and actor.role != _ADMIN:
        raise EmergencyRefused
    try:
        ip_interface(actor.client_ip or "::")
    except ValueError as error:
        raise UsageError("The client's address is not an IP address.") from error


async def write_seed(conn: Connection, head: Head, params: Params, names: Sequence[Key], actor: Actor) -> Head:
    """Store these declared parameters as they hold; the new version's values are the ones that hold already."""
    [text] = await config.normalise_json(conn, [write_values({n: thaw(v) for n, v in params.values.items()})])
    terms = Terms(kind="seed")
    reason = f"{len(names)} declared parameters stored as they hold"
    written = Written(msgspec.structs.replace(params, version=head.version + 1), text or "{}", (), REGISTRY)
    await _insert_version(conn, head, written, (actor, reason, terms))
    rows = [_row_of(REGISTRY[name], thaw(params.values[name])) for name in names]
    await config.upsert_parameters(conn, rows, version=head.version + 1, time=head.now, by=actor.sub)
    change = Change(ALL, ALL, "seed", None, {"parameters": len(names)})
    return await _append_audit(conn, head, written, [change], (actor, reason, terms))


async def write_version(conn: Connection, head: Head, written: Written, wish: tuple[Actor, str, Terms]) -> None:
    """Store a new version with its parameters and audit rows."""
    actor = wish[0]
    await _insert_version(conn, head, written, wish)
    kept = [change for change in written.changes if change.action != "delete"]
    rows = [_row_of(written.declared[change.name], change.new) for change in kept]
    await config.upsert_parameters(conn, rows, version=written.params.version, time=head.now, by=actor.sub)
    about = written.changes or (Change(ALL, ALL, "rollback", None, None),)
    await _append_audit(conn, head, written, about, wish)
    gone = [change.name for change in written.changes if change.action == "delete"]
    if gone:
        await config.delete_parameters(conn, gone)


async def write_dry_run(
    conn: Connection, head: Head, standing: Standing, edits: Sequence[Edit], wish: tuple[Actor, str]
) -> None:
    """Note that these edits were tried; values that cannot be stored are noted as such."""
    tried = [edit for edit in edits if is_name(edit.name)]
    changes = [
        Change(edit.category, edit.key, edit.action, standing.values.get(edit.name), _tried_value(edit.value))
        for edit in tried
    ]
    await audit_beside(conn, head, changes, (*wish, Terms()), dry_run=True)


def user_content(row: UserRow) -> dict[str, object]:
    """A person of the admin API, the way they stand in the audit log."""
    return {"role": row.role, "enabled": row.enabled}


async def write_user(conn: Connection, head: Head, sub: str, role: str, enabled: bool, actor: Actor) -> UserRow:
    """Write down a person, with its audit row in the one chain."""
    old = await admin.select_user(conn, sub)
    row = await admin.upsert_user(conn, sub=sub, role=role, enabled=enabled, by=actor.sub)
    before = None if old is None else user_content(old)
    change = Change(USERS, row.sub, "create" if old is None else "set", before, user_content(row))
    await audit_beside(conn, head, [change], (actor, "", Terms(kind="user")), dry_run=False)
    return row


async def audit_beside(
    conn: Connection, head: Head, changes: Sequence[Change], wish: tuple[Actor, str, Terms], *, dry_run: bool
) -> Head:
    """Audit rows in the one chain of what makes no version of the parameters."""
    newest = await config.select_newest(conn)
    return await chain_changes(
        conn, head, head.version, "" if newest is None else newest.hash, changes, wish, dry_run=dry_run
    )


async def _insert_version(conn: Connection, head: Head, written: Written, wish: tuple[Actor, str, Terms]) -> None:
    actor, reason, terms = wish
    await config.insert_version(
        conn,
        StoredVersion(
            version=written.params.version,
            created_at=head.now,
            author=actor.sub,
            reason=reason,
            kind=terms.kind,
            values=written.text,
            hash=written.params.hash,
        ),
    )


async def _append_audit(
    conn: Connection, head: Head, written: Written, changes: Sequence[Change], wish: tuple[Actor, str, Terms]
) -> Head:
    """Audit rows of a new version; then it holds, and the services hear of it when the transaction commits."""
    version = written.params.version
    moved = await chain_changes(conn, head, version, written.params.hash, changes, wish, dry_run=False)
    await config.announce_version(conn, version)
    return moved


async def chain_changes(
    conn: Connection,
    head: Head,
    version: int,
    version_hash: str,
    changes: Sequence[Change],
    wish: tuple[Actor, str, Terms],
    *,
    dry_run: bool,
) -> Head:
    """Audit rows of these changes, linked to the chain's end; returns the head with its new end."""
    actor, reason, terms = wish
    ids = {(row.category, row.key): row.id for row in await config.select_named(conn, [c.name for c in changes])}
    texts = await config.normalise_json(
        conn, [_text(value) for change in changes for value in (change.old, change.new)]
    )
    drafts = [
        AuditDraft(
            config_id=ids.get(change.name),
            category=change.category,
            key=change.key,
            action=change.action,
            old_value=old,
            new_value=new,
            changed_by=actor.sub,
            role=actor.role,
            change_reason=reason,
            kind=terms.kind,
            client_ip=actor.client_ip,
            request_id=actor.request_id,
            dry_run=dry_run,
            emergency=terms.emergency,
            version=version,
            version_hash=version_hash,
        )
        for change, old, new in zip(changes, texts[::2], texts[1::2], strict=True)
    ]
    rows = chain_rows(head, drafts)
    await config.insert_audit(conn, rows)
    last = rows[-1] if rows else None
    moved = (
        Head(version, head.audit_id, head.audit_hash, head.now)
        if last is None
        else Head(version, last.id, last.hash, head.now)
    )
    await config.move_head(conn, moved)
    return moved


def _row_of(parameter: Parameter, value: object) -> StoredParameter:
    return StoredParameter(
        category=parameter.category,
        key=parameter.key,
        value_type=parameter.kind.value,
        value_data=json.dumps(value, allow_nan=False),
        description=parameter.meaning or None,
        custom=parameter.custom,
    )


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)


def _tried_value(value: object) -> object:
    """A value somebody tried, if it is JSON of a reasonable size that the database can hold."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return _UNREADABLE
    return _UNREADABLE if len(text) > _MAX_TRIED or "\\u0000" in text or "\\ud" in text else value
