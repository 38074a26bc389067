"""What people do with parameters: look, try out, change, roll back, and decide about each other's changes.

Money needs two people. When `approvals` is on, an edit of a parameter of money, however it is made (set, reset,
rollback), becomes a change request that somebody other than its author commits. An admin may override that, loudly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from tonsurance import log, metrics
from tonsurance.core.datasets import DATASETS
from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.core.parameters.declaration import Problem
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.db.pool import Connection
from tonsurance.services.admin_limits import Forbidden
from tonsurance.services.admin_records import AdminRecords, ChangeDecided, ChangeRequest, ChangeStatus, User
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_effects import Effect, Effects
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_plan import Actor, Change, ConfigConflict, Edit
from tonsurance.services.config_store import Applied, ConfigStore, ParameterRow, Planned
from tonsurance.services.config_writes import ALL, USERS
from tonsurance.services.tranche_reads import Snapshot

logger = log.get("config_admin")

MIN_OVERRIDE_REASON = 10
TAKE_OVER_S = 5.0
"""How long an answer waits at most for its own process to have the new version."""
RESERVED_CATEGORIES = frozenset(
    {"audit", "changes", "diff", "reload", "rollback", "stats", "versions", USERS, *DATASETS, ALL}
)
"""Names of routes beside the categories, where a category could not be reached, and what else is in the audit log."""


class ReasonNeeded(InputError):
    """A reason must be given."""

    code = "reason_needed"


class ReservedCategory(InputError):
    """A category cannot have the name of a route."""

    code = "reserved_category"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to change. `expected_version` is the version they saw: changes by others since then refuse
    it. `emergency` passes the cage and the second person; but not the second person of what is never changed without an
    override, such as the shape of a curve.
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

    async def find(self, category: str, key: str, *, as_of: datetime | None = None) -> ParameterRow:
        """One parameter, also one that is made of others, now or as it was at a time. Raises what the store raises."""
        return await self.store.find(category, key, as_of=as_of)

    async def propose(self, proposal: Proposal, actor: Actor) -> Applied | ChangeRequest:
        """Apply a proposal, or file it as a change request when a second person has to agree.

        Raises what ConfigStore.apply raises, ReasonNeeded, ReservedCategory, Forbidden.
        """
        _check_proposal(proposal, actor)
        if self.approvals and not proposal.reason.strip():
            raise ReasonNeeded("A change needs a `reason`.")
        if self._needs_approval(proposal) and not (proposal.emergency and not _needs_both(proposal)):
            return await self.request_change(proposal, actor)
        applied = await self.store.apply(
            proposal.edits,
            actor=actor,
            reason=proposal.reason,
            expected_version=proposal.expected_version,
            emergency=proposal.emergency,
        )
        await self._take_over(applied)
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
        applied = await self.store.rollback(version, actor=actor, reason=reason, expected_version=expected_version)
        await self._take_over(applied)
        return applied

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
        user = await self.records.save_user(sub, role, enabled=enabled, actor=actor)
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
        await self._take_over(applied)
        logger.info("change approved", change_id=change.change_id, author=change.author, by=actor.sub)
        return applied

    async def _take_over(self, applied: Applied) -> None:
        """Have this process work with a version before it is answered that it holds, so that the next answer has it.
        When that fails, it is heard of like every change: it holds in any case."""
        try:
            async with asyncio.timeout(TAKE_OVER_S):
                if self._loader.params.version < applied.version:
                    await self._loader.reload_cache()
        except (TonsuranceError, TimeoutError) as error:
            logger.warning("change holds, not in this process yet", version=applied.version, error=str(error))

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


def _needs_both(proposal: Proposal) -> bool:
    """Whether a parameter is among the edits that an override does not free from the second person."""
    return any(REGISTRY[edit.name].needs_override for edit in proposal.edits if edit.name in REGISTRY)


def _check_proposal(proposal: Proposal, actor: Actor) -> None:
    for edit in proposal.edits:
        if edit.action == "create" and edit.category in RESERVED_CATEGORIES:
            raise ReservedCategory(f"{edit.category} is taken; choose another category.")
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
