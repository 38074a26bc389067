"""What people do with parameters: look, try out, change, roll back, and decide about each other's changes.

Money needs two people. When `approvals` is on, an edit of a parameter of money, however it is made (set, reset,
rollback), becomes a change request that somebody other than its author commits. An admin may override that, loudly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from tonsurance import log, metrics
from tonsurance.core.errors import InputError
from tonsurance.core.parameters.declaration import Problem
from tonsurance.core.parameters.registry import REGISTRY, UnknownParameter
from tonsurance.core.params import DERIVED_NAMES
from tonsurance.db.pool import Connection
from tonsurance.services.admin_limits import Forbidden
from tonsurance.services.admin_records import AdminRecords, ChangeDecided, ChangeRequest, ChangeStatus, User
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_effects import Effect, Effects
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_plan import Actor, Change, ConfigConflict, Edit
from tonsurance.services.config_store import Applied, ConfigStore, ParameterRow, Planned
from tonsurance.services.tranche_reads import Snapshot

logger = log.get("config_admin")

MIN_OVERRIDE_REASON = 10
RESERVED_CATEGORIES = frozenset({"audit", "changes", "diff", "reload", "rollback", "stats", "versions"})
"""Names of routes beside the categories; a category of such a name could not be reached."""


class ReasonNeeded(InputError):
    """A reason must be given."""

    code = "reason_needed"


class ReservedCategory(InputError):
    """A category cannot have the name of a route."""

    code = "reserved_category"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to change. `expected_version` is the version they saw: changes by others since then refuse
    it. `emergency` passes the cage and the second person.
    """

    edits: tuple[Edit, ...]
    reason: str = ""
    expected_version: int | None = None
    emergency: bool = False
    kind: Literal["edit", "rollback"] = "edit"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a proposal would do. Nothing was changed."""

    valid: bool
    errors: tuple[Problem, ...]
    changes: tuple[Change, ...]
    effects: dict[str, Effect]
    needs_approval: bool
    base_version: int


class ConfigAdmin:
    """The use cases. `loader` is this process's copy of the parameters; `snapshot` gives the tranches as they are."""

    def __init__(
        self,
        store: ConfigStore,
        records: AdminRecords,
        effects: Effects,
        loader: ConfigLoader,
        *,
        snapshot: Callable[[], Snapshot | None],
        approvals: bool,
    ) -> None:
        self.store = store
        self.records = records
        self.approvals = approvals
        self._effects = effects
        self._loader = loader
        self._snapshot = snapshot

    async def find(self, category: str, key: str) -> ParameterRow:
        """One parameter, also one that is made of others. Raises UnknownParameter."""
        if (category, key) in DERIVED_NAMES:
            return await self._derive(category, key)
        for row in await self.store.list_parameters(category):
            if row.key == key:
                return row
        raise UnknownParameter(f"There is no parameter {category[:64]}/{key[:128]}.")

    async def propose(self, proposal: Proposal, actor: Actor) -> Applied | ChangeRequest:
        """Apply a proposal, or file it as a change request when a second person has to agree.

        Raises what ConfigStore.apply raises, ReasonNeeded, ReservedCategory, Forbidden.
        """
        _check_proposal(proposal, actor)
        if self.approvals and not proposal.reason.strip():
            raise ReasonNeeded("A change needs a `reason`.")
        if self._needs_approval(proposal) and not proposal.emergency:
            return await self.request_change(proposal, actor)
        applied = await self.store.apply(
            proposal.edits,
            actor=actor,
            reason=proposal.reason,
            expected_version=proposal.expected_version,
            emergency=proposal.emergency,
        )
        if proposal.emergency:
            _report_override(applied, proposal, actor)
        return applied

    async def try_out(self, proposal: Proposal, actor: Actor) -> Trial:
        """What a proposal would do; it is noted in the audit log as a dry run.

        Raises UnknownParameter; everything else that is wrong stands in the answer.
        """
        _check_proposal(proposal, actor)
        planned = await self._plan(proposal)
        effects: dict[str, Effect] = {}
        if planned.candidate is not None:
            effects = self._effects.compute(await self.store.read(), planned.candidate, self._snapshot())
        await self.store.record_dry_run(proposal.edits, actor=actor, reason=proposal.reason)
        return Trial(
            valid=planned.refusal is None,
            errors=planned.problems,
            changes=planned.changes,
            effects=effects,
            needs_approval=self._needs_approval(proposal),
            base_version=planned.base_version,
        )

    async def roll_back(
        self, version: int, actor: Actor, *, reason: str, expected_version: int | None = None
    ) -> Applied | ChangeRequest:
        """Bring the values of an earlier version back, as a new one; a change request when that moves money.

        Raises UnknownVersion, ConfigConflict, ReasonNeeded and what ConfigStore.apply raises.
        """
        if self.approvals and not reason.strip():
            raise ReasonNeeded("A rollback needs a `reason`.")
        edits = await self.store.rollback_edits(version)
        proposal = Proposal(edits=edits, reason=reason, expected_version=expected_version, kind="rollback")
        if self._needs_approval(proposal):
            return await self.request_change(proposal, actor)
        return await self.store.rollback(version, actor=actor, reason=reason, expected_version=expected_version)

    async def request_change(self, proposal: Proposal, actor: Actor) -> ChangeRequest:
        """File a proposal for a second person. What is wrong with it is said now, not when it is approved."""
        _check_proposal(proposal, actor)
        if not proposal.reason.strip():
            raise ReasonNeeded("A change request needs a `reason`.")
        planned = await self._plan(proposal)
        if planned.refusal is not None:
            raise planned.refusal
        seen = proposal.expected_version
        change = await self.records.open_change(
            proposal.edits,
            actor=actor,
            reason=proposal.reason,
            base_version=planned.base_version if seen is None else seen,
            kind=proposal.kind,
        )
        logger.info("change requested", change_id=change.change_id, author=actor.sub, edits=len(change.edits))
        return change

    async def approve(self, change_id: int, actor: Actor, *, reason: str = "") -> Applied:
        """Apply a change request in the name of a second person.

        Raises Forbidden to its author and to who is no approver, ChangeDecided when it is not open any more, and
        ConfigConflict when one of its parameters was changed since the version it was written for: it is outdated
        then for good.
        """
        change = await self.records.change(change_id)
        await self._check_approver(change, actor)
        try:
            return await self._commit(change, actor, reason)
        except ChangeDecided:
            raise
        except ConfigConflict:
            await self.records.close_change(
                change_id, ChangeStatus.OUTDATED, by=actor.sub, reason="Its parameters were changed by others."
            )
            raise

    async def reject(self, change_id: int, actor: Actor, *, reason: str = "") -> ChangeRequest:
        """Refuse a change request. Raises UnknownChange, ChangeDecided."""
        await self.records.change(change_id)
        return await self._close(change_id, ChangeStatus.REJECTED, actor, reason)

    async def cancel(self, change_id: int, actor: Actor, *, reason: str = "") -> ChangeRequest:
        """Take a change request back. Raises Forbidden unless it is one's own or one is an admin."""
        change = await self.records.change(change_id)
        if not _same_person(change.author, actor.sub) and actor.role != Role.ADMIN:
            raise Forbidden("A change request is cancelled by its author or an admin.")
        return await self._close(change_id, ChangeStatus.CANCELLED, actor, reason)

    async def save_user(self, sub: str, role: Role, *, enabled: bool, actor: Actor) -> User:
        """Write down what a person may do."""
        user = await self.records.save_user(sub, role, enabled=enabled, by=actor.sub)
        logger.warning("admin user changed", sub=sub, role=role.value, enabled=enabled, by=actor.sub)
        return user

    async def reload(self, actor: Actor) -> dict[str, object]:
        """Read the parameters again, in this process, and say how they stand. Raises DatabaseUnavailable."""
        await self._loader.reload_cache()
        logger.info("parameters reloaded", by=actor.sub)
        return self.stats()

    def stats(self) -> dict[str, object]:
        """How the parameters in memory stand."""
        return dict(self._loader.get_cache_stats())

    async def _commit(self, change: ChangeRequest, actor: Actor, reason: str) -> Applied:
        async def mark(conn: Connection, applied: Applied) -> None:
            await self.records.mark_applied(
                conn, change.change_id, by=actor.sub, reason=reason or None, version=applied.version
            )

        applied = await self.store.apply(
            change.edits,
            actor=actor,
            reason=f"Change {change.change_id} of {change.author}: {change.reason}"[:1000],
            expected_version=change.base_version,
            kind="rollback" if change.kind == "rollback" else "change",
            inside=mark,
        )
        logger.info("change approved", change_id=change.change_id, author=change.author, by=actor.sub)
        return applied

    async def _close(self, change_id: int, status: ChangeStatus, actor: Actor, reason: str) -> ChangeRequest:
        change = await self.records.close_change(change_id, status, by=actor.sub, reason=reason or None)
        logger.info("change closed", change_id=change_id, status=status.value, by=actor.sub)
        return change

    async def _check_approver(self, change: ChangeRequest, actor: Actor) -> None:
        if change.status is not ChangeStatus.OPEN:
            raise ChangeDecided(f"Change request {change.change_id} is {change.status}.")
        if _same_person(change.author, actor.sub):
            raise Forbidden("Nobody approves their own change request.")
        await self.records.require_approver(actor.sub)

    async def _plan(self, proposal: Proposal) -> Planned:
        return await self.store.plan(
            proposal.edits,
            expected_version=proposal.expected_version,
            emergency=proposal.emergency,
            kind=proposal.kind,
        )

    def _needs_approval(self, proposal: Proposal) -> bool:
        """Whether a parameter of money is among the edits, and money needs two people here."""
        return self.approvals and any(REGISTRY[edit.name].money for edit in proposal.edits if edit.name in REGISTRY)

    async def _derive(self, category: str, key: str) -> ParameterRow:
        params = await self.store.read()
        return ParameterRow(
            id=None,
            category=category,
            key=key,
            value_type="json",
            value_data=params.value(category, key),
            description="Made of the tranche's other parameters; read only.",
            last_updated_at=None,
            updated_by=None,
            version=params.version,
            default=None,
            unit="",
            low=None,
            high=None,
            choices=(),
            chain_owned=False,
            money=False,
            custom=False,
            awaited_by=None,
        )


def _check_proposal(proposal: Proposal, actor: Actor) -> None:
    for edit in proposal.edits:
        if edit.action == "create" and edit.category in RESERVED_CATEGORIES:
            raise ReservedCategory(f"{edit.category} is the name of a route; choose another category.")
    if not proposal.emergency:
        return
    if actor.role != Role.ADMIN:
        raise Forbidden("Only an admin may override.")
    if len(proposal.reason.strip()) < MIN_OVERRIDE_REASON:
        raise ReasonNeeded(f"An emergency override needs a `reason` of at least {MIN_OVERRIDE_REASON} characters.")


def _report_override(applied: Applied, proposal: Proposal, actor: Actor) -> None:
    metrics.CONFIG_OVERRIDES.inc()
    logger.error(
        "EMERGENCY OVERRIDE: parameters changed past the cage and the second person",
        by=actor.sub,
        version=applied.version,
        parameters=[f"{edit.category}/{edit.key}" for edit in proposal.edits],
        reason=proposal.reason,
    )


def _same_person(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
