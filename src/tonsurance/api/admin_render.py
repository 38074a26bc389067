"""From the services' values to what the admin API says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, cast

import msgspec

from tonsurance.api import admin_wire as wire
from tonsurance.api.admin_errors import VALIDATION_FAILED, problems_out
from tonsurance.api.render import show_now
from tonsurance.services.admin_records import ChangeRequest, User
from tonsurance.services.config_admin import Proposal, Trial
from tonsurance.services.config_plan import Actor, Change
from tonsurance.services.config_rows import AuditRow, ParameterRow, VersionRow
from tonsurance.services.config_store import Applied


def show_moment(moment: datetime) -> str:
    """UTC with microseconds, ISO 8601: exact, so that it can be asked for with `as_of`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _show_moment_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else show_moment(moment)


def show_parameter(row: ParameterRow) -> wire.ParameterOut:
    """A parameter."""
    fields = {name: getattr(row, name) for name in ParameterRow.__struct_fields__}
    fields["last_updated_at"] = _show_moment_or_none(row.last_updated_at)
    return wire.ParameterOut(**fields)


def show_changes(changes: tuple[Change, ...]) -> tuple[wire.ChangeOut, ...]:
    """Before and after."""
    return tuple(
        wire.ChangeOut(
            category=change.category,
            key=change.key,
            action=change.action,
            old_value=change.old,
            new_value=change.new,
        )
        for change in changes
    )


def show_trial(trial: Trial, category: str, key: str, value: object) -> wire.TrialOut:
    """What a dry run found."""
    return wire.TrialOut(
        dry_run=True,
        valid=trial.valid,
        validation="OK" if trial.valid else VALIDATION_FAILED,
        errors=problems_out(trial.errors),
        effects=dict(trial.effects),
        category=category,
        key=key,
        new_value=value,
        changes=show_changes(trial.changes),
        needs_approval=trial.needs_approval,
        base_version=trial.base_version,
    )


def show_updated(applied: Applied, proposal: Proposal, actor: Actor) -> wire.UpdatedOut:
    """One edit that holds now."""
    [change] = applied.changes
    return wire.UpdatedOut(
        success=True,
        category=change.category,
        key=change.key,
        old_value=change.old,
        new_value=change.new,
        updated_by=actor.sub,
        updated_at=show_now(),
        version=applied.version,
        emergency=proposal.emergency,
    )


def show_applied(applied: Applied, actor: Actor) -> wire.RolledBackOut:
    """Several edits that hold now."""
    return wire.RolledBackOut(
        success=True,
        version=applied.version,
        changes=show_changes(applied.changes),
        updated_by=actor.sub,
        updated_at=show_now(),
    )


def show_pending(change: ChangeRequest) -> wire.PendingOut:
    """An edit that waits."""
    return wire.PendingOut(
        success=True,
        change_id=str(change.change_id),
        status="open",
        message="Filed as a change request: somebody else has to approve it.",
        base_version=change.base_version,
    )


def show_change_request(change: ChangeRequest) -> wire.ChangeRequestOut:
    """A change request and what became of it."""
    return wire.ChangeRequestOut(
        change_id=str(change.change_id),
        status=change.status.value,
        author=change.author,
        reason=change.reason,
        kind=cast(Literal["edit", "rollback"], change.kind),
        changes=tuple(msgspec.to_builtins(edit) for edit in change.edits),
        base_version=change.base_version,
        created_at=show_moment(change.created_at),
        decided_at=_show_moment_or_none(change.decided_at),
        decided_by=change.decided_by,
        decision_reason=change.decision_reason,
        applied_version=change.applied_version,
    )


def show_audit(row: AuditRow) -> wire.AuditOut:
    """One line of the audit log."""
    fields = {name: getattr(row, name) for name in wire.AuditOut.__struct_fields__}
    fields["changed_at"] = show_moment(row.changed_at)
    return wire.AuditOut(**fields)


def show_version(row: VersionRow, *, with_values: bool = False) -> wire.VersionOut:
    """One version."""
    return wire.VersionOut(
        version=row.version,
        created_at=show_moment(row.created_at),
        author=row.author,
        reason=row.reason,
        kind=row.kind,
        hash=row.hash,
        values=dict(row.values) if with_values and row.values is not None else None,
    )


def show_user(user: User) -> wire.UserOut:
    """A person."""
    return wire.UserOut(
        sub=user.sub,
        role=user.role.value,
        enabled=user.enabled,
        changed_at=show_moment(user.changed_at),
        changed_by=user.changed_by,
    )
