"""The configuration in the database: reading it, and changing it in one transaction with its version and audit rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec

from tonsurance import metrics
from tonsurance.core.errors import InputError, UsageError
from tonsurance.core.parameters.declaration import Key, Problem
from tonsurance.core.parameters.registry import REGISTRY, UnknownParameter
from tonsurance.core.params import DERIVED_NAMES, Params, build_params
from tonsurance.db import config
from tonsurance.db.config import Head, StoredVersion
from tonsurance.db.pool import Connection, acquire
from tonsurance.services.config_past import describe_past
from tonsurance.services.config_plan import (
    Actor,
    CageExceeded,
    ChainOwned,
    Change,
    ConfigConflict,
    Draft,
    Edit,
    EmergencyRefused,
    Known,
    ParameterExists,
    Standing,
    Terms,
    draft_edits,
    is_name,
)
from tonsurance.services.config_rollback import make_rollback_edits, newest_values, noted_values
from tonsurance.services.config_rows import (
    AuditRow,
    ConfigDamaged,
    ParameterRow,
    UnknownVersion,
    VersionRow,
    build_version,
    compare_values,
    describe_derived,
    describe_parameters,
    read_values,
    show_audit,
    show_version,
    write_values,
)
from tonsurance.services.config_verify import AuditReport, verify_all
from tonsurance.services.config_writes import Written, check_request, write_dry_run, write_seed, write_version
from tonsurance.services.lazy_pool import LazyPool

__all__ = [
    "Actor",
    "Applied",
    "AuditReport",
    "AuditRow",
    "CageExceeded",
    "ChainOwned",
    "Change",
    "ConfigConflict",
    "ConfigDamaged",
    "ConfigStore",
    "Edit",
    "EmergencyRefused",
    "ParameterExists",
    "ParameterRow",
    "Planned",
    "UnknownVersion",
    "VersionRow",
]

MAX_PAGE = 1_000
_HOUR = timedelta(hours=1)


class Applied(msgspec.Struct, frozen=True):
    """What holds now. `changes` may be empty after a rollback to equal values."""

    version: int
    params: Params
    changes: tuple[Change, ...]


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What edits would lead to. `candidate` is None when they are refused; `problems` then says all that is wrong and
    `refusal` is what `apply` would raise.
    """

    base_version: int
    candidate: Params | None
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...] = ()
    refusal: InputError | None = None


Inside = Callable[[Connection, Applied], Awaitable[None]]
"""Work to do in the transaction that applies a change: it commits with it, and its error undoes it."""


class ConfigStore:
    """Every method is one transaction and raises DatabaseUnavailable when the database cannot be reached."""

    def __init__(self, pool: LazyPool) -> None:
        self._pool = pool

    @property
    def pool(self) -> LazyPool:
        """Where the configuration is."""
        return self._pool

    async def read(self) -> Params:
        """The version that holds. Raises ConfigDamaged when it cannot be used."""
        async with self._reading() as conn:
            return build_version(await config.select_newest(conn))

    async def plan(
        self,
        edits: Sequence[Edit],
        *,
        expected_version: int | None = None,
        emergency: bool = False,
        kind: str = "edit",
    ) -> Planned:
        """What the edits would lead to; changes nothing. Raises UnknownParameter."""
        terms = Terms(kind=kind, expected_version=expected_version, emergency=emergency)
        async with self._reading() as conn:
            head = await config.select_head(conn)
            standing = await _read_standing(conn, head, tuple(edits))
            draft = draft_edits(tuple(edits), standing, terms)
            candidate = None if draft.refusals else (await _build(conn, draft, standing.version + 1)).params
        return Planned(
            base_version=standing.version,
            candidate=candidate,
            changes=draft.changes,
            problems=draft.problems,
            refusal=draft.refusal,
        )

    async def apply(
        self,
        edits: Sequence[Edit],
        *,
        actor: Actor,
        reason: str,
        expected_version: int | None = None,
        emergency: bool = False,
        kind: str = "edit",
        inside: Inside | None = None,
    ) -> Applied:
        """Make a new version of the newest one with all edits, or change nothing.

        Raises UnknownParameter, ChainOwned, ParameterExists, ConfigConflict (a parameter of the edits was changed after
        `expected_version`), InvalidParameters with everything that is wrong, CageExceeded (not with `emergency`, for
        admins), UsageError.
        """
        terms = Terms(kind=kind, expected_version=expected_version, emergency=emergency)
        check_request(edits, actor, reason, terms)
        async with self._writing() as (conn, head):
            return await self._apply(conn, head, tuple(edits), (actor, reason, terms), inside)

    async def rollback(
        self,
        version: int,
        *,
        actor: Actor,
        reason: str,
        expected_version: int | None = None,
        emergency: bool = False,
        inside: Inside | None = None,
    ) -> Applied:
        """Make a new version whose values are those of an earlier one.

        What a contract enforces, and what that version did not know yet, stays. Raises UnknownVersion, and what `apply`
        raises; ConfigConflict when `expected_version` is not the newest.
        """
        terms = Terms(kind="rollback", emergency=emergency)
        check_request((), actor, reason, terms)
        async with self._writing() as (conn, head):
            if expected_version is not None and expected_version != head.version:
                raise ConfigConflict(f"The newest version is {head.version}, not {expected_version}.")
            return await self._apply(
                conn,
                head,
                await make_rollback_edits(conn, (await _find_version(conn, version)).values),
                (actor, reason, terms),
                inside,
            )

    async def rollback_edits(self, version: int) -> tuple[Edit, ...]:
        """The edits that a rollback would make now, for `plan` and `apply` with kind="rollback"."""
        async with self._reading() as conn:
            return await make_rollback_edits(conn, (await _find_version(conn, version)).values)

    async def record_dry_run(self, edits: Sequence[Edit], *, actor: Actor, reason: str) -> None:
        """Note in the audit log that somebody tried these edits."""
        check_request(edits, actor, reason)
        async with self._writing() as (conn, head):
            standing = await _read_standing(conn, head, tuple(edits))
            await write_dry_run(conn, head, standing, tuple(edits), (actor, reason))

    async def list_parameters(self, category: str | None = None) -> tuple[ParameterRow, ...]:
        """All parameters by name, or those of one category: declared ones and those people added."""
        async with self._reading() as conn:
            stored = await config.select_parameters(conn)
            return describe_parameters(stored, await newest_values(conn), category)

    async def list_past(self, time: datetime, category: str | None = None) -> tuple[ParameterRow, ...]:
        """What `list_parameters` would have given at a time. Raises UnknownVersion before the first version."""
        async with self._reading() as conn:
            stored = await _find_as_of(conn, time)
            build_version(stored)
            return await describe_past(conn, stored, category)

    async def find(self, category: str, key: str, *, as_of: datetime | None = None) -> ParameterRow:
        """One parameter, also one that is made of others, now or as it was at a time.

        Raises UnknownParameter, and UnknownVersion for a time before the first version.
        """
        name = (category, key)
        if name in DERIVED_NAMES:
            return describe_derived(name, await (self.read() if as_of is None else self.as_of(as_of)))
        rows = await (self.list_parameters(category) if as_of is None else self.list_past(as_of, category))
        found = [row for row in rows if row.key == key]
        if not found:
            when = "" if as_of is None else f" at {as_of.isoformat()}"
            raise UnknownParameter(f"There is no parameter {category[:64]}/{key[:128]}{when}.")
        return found[0]

    async def versions(self, *, before: int | None = None, limit: int = 50) -> tuple[VersionRow, ...]:
        """A page of versions without their values, newest first."""
        async with self._reading() as conn:
            rows = await config.select_versions(conn, before=before, limit=_page(limit))
        return tuple(show_version(row, with_values=False) for row in rows)

    async def version(self, version: int) -> VersionRow:
        """One version with its values. Raises UnknownVersion."""
        async with self._reading() as conn:
            return show_version(await _find_version(conn, version), with_values=True)

    async def diff(self, old: int, new: int) -> tuple[Change, ...]:
        """What differs between two versions. Raises UnknownVersion."""
        async with self._reading() as conn:
            before, after = await _find_version(conn, old), await _find_version(conn, new)
        return compare_values(read_values(before.values), read_values(after.values))

    async def as_of(self, time: datetime) -> Params:
        """The version that held at a time. Raises UnknownVersion before the first one."""
        async with self._reading() as conn:
            return build_version(await _find_as_of(conn, time))

    async def audit(
        self, *, limit: int = 50, category: str | None = None, key: str | None = None, before: int | None = None
    ) -> tuple[AuditRow, ...]:
        """A page of the audit log, newest first; `before` is the last id of the page before."""
        async with self._reading() as conn:
            rows = await config.select_audit(conn, category=category, key=key, before=before, limit=_page(limit))
        return tuple(show_audit(row) for row in rows)

    async def verify(self) -> AuditReport:
        """Walk the audit log's hash chain and everything it vouches for."""
        async with self._reading() as conn:
            return await verify_all(conn)

    async def seed(self, *, actor: Actor, dry_run: bool = False) -> tuple[Key, ...]:
        """Store the default of every declared parameter that is not stored; returns their names.

        No value that holds changes. Raises ConfigDamaged when what is stored cannot be used.
        """
        async with self._writing() as (conn, head):
            params = build_version(await config.select_newest(conn))
            stored = {(row.category, row.key) for row in await config.select_parameters(conn)}
            missing = tuple(name for name in sorted(REGISTRY) if name not in stored)
            if missing and not dry_run:
                await write_seed(conn, head, params, missing, actor)
        return missing

    async def _apply(
        self,
        conn: Connection,
        head: Head,
        edits: tuple[Edit, ...],
        wish: tuple[Actor, str, Terms],
        inside: Inside | None,
    ) -> Applied:
        actor, reason, terms = wish
        if head.version == 0:  # what held until now becomes version 1, so that every later one can be compared with it
            head = await write_seed(conn, head, build_version(None), tuple(sorted(REGISTRY)), Actor("seed", "system"))
        standing = await _read_standing(conn, head, edits)
        draft = draft_edits(edits, standing, terms)
        if draft.refusal is not None:
            raise draft.refusal
        written = await _build(conn, draft, head.version + 1)
        await write_version(conn, head, written, (actor, reason, terms))
        applied = Applied(written.params.version, written.params, written.changes)
        if inside is not None:
            await inside(conn, applied)
        metrics.CONFIG_CHANGES.labels(terms.kind).inc()
        return applied

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        """One consistent view of all tables."""
        async with self._acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            yield conn

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[tuple[Connection, Head]]:
        """The only writer; whoever comes later waits and then sees what this one did."""
        async with self._acquire() as conn, conn.transaction():
            yield conn, await config.lock_head(conn)

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        async with acquire(await self._pool.open()) as conn:
            yield conn


async def _read_standing(conn: Connection, head: Head, edits: tuple[Edit, ...]) -> Standing:
    names = [edit.name for edit in edits if is_name(edit.name)]
    rows = await config.select_named(conn, names)
    recent = await config.count_edits(conn, names, since=head.now - _HOUR)
    known = {
        (row.category, row.key): Known(
            row.value_type, row.version, row.custom, row.description, recent.get((row.category, row.key), 0)
        )
        for row in rows
    }
    return Standing(max(1, head.version), await noted_values(conn), known)


async def _build(conn: Connection, draft: Draft, version: int) -> Written:
    """The new version as the database will give it back."""
    [text] = await config.normalise_json(conn, [write_values(draft.values)])
    values = read_values(text or "{}")
    changes = tuple(msgspec.structs.replace(change, new=values.get(change.name)) for change in draft.changes)
    return Written(build_params(values, version), text or "{}", changes, draft.declared)


async def _find_version(conn: Connection, version: int) -> StoredVersion:
    found = await config.select_version(conn, version)
    if found is None:
        raise UnknownVersion(f"There is no version {version} of the configuration.")
    return found


async def _find_as_of(conn: Connection, time: datetime) -> StoredVersion:
    found = await config.select_as_of(conn, time)
    if found is None:
        raise UnknownVersion(f"No version was stored at {time.isoformat()}: the defaults held.")
    return found


def _page(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise UsageError(f"A page has 1 to {MAX_PAGE} rows, not {limit}.")
    return limit
