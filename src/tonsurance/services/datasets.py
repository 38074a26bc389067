"""Depegs of the past and stress scenarios: looking, entering, checking, taking out; every change audited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from tonsurance.core.dataset_seeds import SEED_DEPEGS, SEED_SCENARIOS
from tonsurance.core.datasets import DEPEGS, SCENARIOS, Depeg, Entry, check_depeg, check_scenario, content_of
from tonsurance.core.errors import InputError
from tonsurance.core.parameters.declaration import Problem
from tonsurance.db import config, datasets
from tonsurance.db.config import Head
from tonsurance.db.datasets import DepegStatistics, EntryRow
from tonsurance.db.pool import Connection, acquire
from tonsurance.services.admin_limits import Forbidden
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_plan import Actor, Change, ConfigConflict, Refused, Terms
from tonsurance.services.config_writes import audit_beside, check_request
from tonsurance.services.dataset_provenance import trace_entries
from tonsurance.services.lazy_pool import LazyPool

MAX_PAGE = 500
_MAX_ID = 2**31 - 1
_MAX_NAME = 100
RECENT = timedelta(days=730)
KIND = "dataset"
_SEED = Actor("seed", "system")

_Work: TypeAlias = Callable[[Connection, Head], Awaitable[object]]


class UnknownEntry(InputError):
    """There is no such entry."""

    code = "unknown_entry"


class InvalidEntry(Refused):
    """The entry cannot be used."""

    code = "invalid_entry"


class EntryExists(Refused):
    """There is an entry of this name."""

    code = "entry_exists"


class EntryTrial(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of an entry would do; nothing was changed. `statistics` are those of the coins it moves, before and
    after, over the last two years."""

    valid: bool
    errors: tuple[Problem, ...]
    before: dict[str, object] | None
    after: dict[str, object] | None
    statistics: tuple[tuple[DepegStatistics, DepegStatistics], ...] = ()


class Window(msgspec.Struct, frozen=True):
    """Statistics of every coin from a time on, up to another."""

    since: datetime
    until: datetime
    coins: tuple[DepegStatistics, ...]


class Datasets:
    """Every method is one transaction and raises DatabaseUnavailable when the database cannot be reached.

    `approvals`: whoever wrote what a depeg says cannot verify it. What is verified counts, so that it is changed and
    taken out by approvers alone.
    """

    def __init__(self, pool: LazyPool, *, approvals: bool) -> None:
        self._pool = pool
        self._approvals = approvals

    async def list_depegs(
        self,
        *,
        asset: str | None = None,
        verified: bool | None = None,
        before: int | None = None,
        limit: int = MAX_PAGE,
    ) -> tuple[EntryRow, ...]:
        """A page of depegs, newest entry first; `before` is the last id of the page before."""
        async with self._reading() as conn:
            return await datasets.select_depegs(
                conn, asset=asset, verified=verified, before=before, limit=min(limit, MAX_PAGE)
            )

    async def list_scenarios(
        self, *, enabled: bool | None = None, before: int | None = None, limit: int = MAX_PAGE
    ) -> tuple[EntryRow, ...]:
        """A page of scenarios, newest entry first."""
        async with self._reading() as conn:
            return await datasets.select_scenarios(conn, enabled=enabled, before=before, limit=min(limit, MAX_PAGE))

    async def find(self, dataset: str, number: int) -> EntryRow:
        """One entry. Raises UnknownEntry."""
        async with self._reading() as conn:
            return await _find(conn, dataset, number)

    async def statistics(self, since: datetime | None = None, until: datetime | None = None) -> Window:
        """What the verified depegs of each coin come to in a window: the last two years unless said otherwise."""
        async with self._reading() as conn:
            head = await config.select_head(conn)
            until = until or head.now
            since = since or until - RECENT
            if since >= until:
                raise InputError("The window ends before it begins.")
            return Window(since, until, await datasets.select_statistics(conn, since, until))

    async def create(self, entry: Entry, *, actor: Actor, reason: str) -> EntryRow:
        """Enter something. Raises InvalidEntry with all that is wrong, EntryExists, Forbidden (verified at once)."""
        check_request((), actor, reason)
        async with self._writing() as (conn, head):
            return await self._create(conn, head, entry, actor, reason)

    async def update(
        self, number: int, entry: Entry, *, actor: Actor, reason: str, expected_version: int | None = None
    ) -> EntryRow:
        """Write another content of an entry. Raises UnknownEntry, InvalidEntry, EntryExists, Forbidden, and
        ConfigConflict when it was changed since `expected_version`."""
        check_request((), actor, reason)
        async with self._writing() as (conn, head):
            return await self._update(conn, head, (number, entry, expected_version), actor, reason)

    async def delete(
        self, dataset: str, number: int, *, actor: Actor, reason: str, expected_version: int | None = None
    ) -> EntryRow:
        """Take an entry out; a seeded one does not come back. Raises UnknownEntry, ConfigConflict, and Forbidden when
        it is verified and the actor no approver."""
        check_request((), actor, reason)
        async with self._writing() as (conn, head):
            row = await _find(conn, dataset, number)
            _check_version(row, expected_version)
            _check_right(row.entry, actor)
            await datasets.delete_entry(conn, dataset, number)
            await _audit(conn, head, [_change(dataset, "delete", row.entry, None)], actor, reason)
        return row

    async def try_create(self, entry: Entry, *, actor: Actor, reason: str) -> EntryTrial:
        """What entering it would do; noted in the audit log as a dry run."""

        async def work(conn: Connection, head: Head) -> EntryRow:
            return await self._create(conn, head, entry, actor, reason)

        return await self._try(work, entry, None, actor, reason)

    async def try_update(
        self, number: int, entry: Entry, *, actor: Actor, reason: str, expected_version: int | None = None
    ) -> EntryTrial:
        """What another content would do; noted in the audit log as a dry run. Raises UnknownEntry."""
        before = (await self.find(_dataset_of(entry), number)).entry

        async def work(conn: Connection, head: Head) -> EntryRow:
            return await self._update(conn, head, (number, entry, expected_version), actor, reason)

        return await self._try(work, entry, before, actor, reason)

    async def seed(self, *, dry_run: bool = False) -> tuple[int, int]:
        """Bring in what was never brought in; returns how many depegs and scenarios. What people changed or took out
        stays so."""
        async with self._writing() as (conn, head):
            counts = []
            for dataset, entries in ((DEPEGS, SEED_DEPEGS), (SCENARIOS, SEED_SCENARIOS)):
                seeded = await datasets.select_seeded(conn, dataset)
                missing = [entry for entry in entries if entry.key not in seeded]
                counts.append(len(missing))
                if missing and not dry_run:
                    head = await _seed(conn, head, dataset, missing)
        return counts[0], counts[1]

    async def _create(self, conn: Connection, head: Head, entry: Entry, actor: Actor, reason: str) -> EntryRow:
        _check_entry(entry, head.now)
        verified_by = await self._check_verified(conn, entry, None, actor)
        number = await datasets.insert_entry(conn, entry, by=actor.sub, verified_by=verified_by)
        if number is None:
            raise EntryExists(f"There is an entry {entry.key} already.")
        await _audit(conn, head, [_change(_dataset_of(entry), "create", None, entry)], actor, reason)
        return await _find(conn, _dataset_of(entry), number)

    async def _update(
        self, conn: Connection, head: Head, wanted: tuple[int, Entry, int | None], actor: Actor, reason: str
    ) -> EntryRow:
        number, entry, expected_version = wanted
        dataset = _dataset_of(entry)
        row = await _find(conn, dataset, number)
        _check_version(row, expected_version)
        _check_entry(entry, head.now)
        if entry != row.entry:
            _check_right(row.entry, actor)
        verified_by = await self._check_verified(conn, entry, row, actor)
        if not await datasets.update_entry(conn, number, entry, verified_by=verified_by):
            raise EntryExists(f"There is an entry {entry.key} already.")
        changes = [_change(dataset, "set", row.entry, entry)]
        if entry.key != row.entry.key:
            changes = [_change(dataset, "delete", row.entry, None), _change(dataset, "create", None, entry)]
        await _audit(conn, head, changes, actor, reason)
        return await _find(conn, dataset, number)

    async def _check_verified(self, conn: Connection, entry: Entry, row: EntryRow | None, actor: Actor) -> str | None:
        """Who vouches for the entry from now on; None: nobody. Another content has to be checked anew, by somebody who
        wrote none of it."""
        if not (isinstance(entry, Depeg) and entry.verified):
            return None
        if row is not None and entry == row.entry:
            return row.verified_by
        if not Role(actor.role).includes(Role.APPROVER):
            raise Forbidden("An entry is verified by an approver.")
        if self._approvals and (_is_rewritten(entry, row) or await _is_author(conn, row, actor)):
            raise Forbidden("Nobody verifies what they entered or changed themselves.")
        return actor.sub

    async def _try(self, work: _Work, entry: Entry, before: Entry | None, actor: Actor, reason: str) -> EntryTrial:
        """Do it, look, and undo it; then note that it was tried."""
        check_request((), actor, reason)
        trial = EntryTrial(valid=True, errors=(), before=None if before is None else content_of(before), after=None)
        try:
            moved = await self._see(work)
            trial = msgspec.structs.replace(trial, after=content_of(entry), statistics=moved)
        except Refused as refused:
            errors = refused.problems or (Problem(_dataset_of(entry), entry.key[:100], refused.message),)
            trial = msgspec.structs.replace(trial, valid=False, errors=errors)
        action = "create" if before is None else "set"
        async with self._writing() as (conn, head):
            change = Change(_dataset_of(entry), _name(entry), action, trial.before, trial.after)
            await _audit(conn, head, [change], actor, reason, dry_run=True)
        return trial

    async def _see(self, work: _Work) -> tuple[tuple[DepegStatistics, DepegStatistics], ...]:
        """The coins whose statistics the work changes, before and after. Nothing of it stays."""
        async with acquire(await self._pool.open()) as conn:
            transaction = conn.transaction()
            await transaction.start()
            try:
                head = await config.lock_head(conn)
                window = (head.now - RECENT, head.now + timedelta(days=1))
                old = await datasets.select_statistics(conn, *window)
                await work(conn, head)
                new = await datasets.select_statistics(conn, *window)
            finally:
                await transaction.rollback()
        return tuple((one, other) for one, other in zip(old, new, strict=True) if one != other)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        async with (
            acquire(await self._pool.open()) as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield conn

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[tuple[Connection, Head]]:
        """The only writer of configuration and data sets."""
        async with acquire(await self._pool.open()) as conn, conn.transaction():
            yield conn, await config.lock_head(conn)


async def _find(conn: Connection, dataset: str, number: int) -> EntryRow:
    found = await datasets.select_entry(conn, dataset, number) if 0 < number <= _MAX_ID else None
    if found is None:
        raise UnknownEntry(f"There is no entry {number} in {dataset}.")
    return found


def _is_rewritten(entry: Depeg, row: EntryRow | None) -> bool:
    """Whether the content is not what is stored, apart from being verified: its author is then the one who sends it."""
    stored = None if row is None else row.entry
    return not isinstance(stored, Depeg) or msgspec.structs.replace(stored, verified=True) != entry


async def _is_author(conn: Connection, row: EntryRow | None, actor: Actor) -> bool:
    """Whether the actor wrote any of what nobody has checked yet; without a trace of it, whoever entered it did."""
    if row is None:
        return True
    found = trace_entries(await datasets.select_written(conn, (DEPEGS,))).get((DEPEGS, _name(row.entry)))
    if found is None:
        return row.entered_by.casefold() == actor.sub.casefold()
    return found.is_author(actor.sub)


def _check_right(stored: Entry, actor: Actor) -> None:
    """What is verified counts, and stops counting only by somebody who could have verified it."""
    if isinstance(stored, Depeg) and stored.verified and not Role(actor.role).includes(Role.APPROVER):
        raise Forbidden("A verified entry is changed or taken out by an approver.")


async def _seed(conn: Connection, head: Head, dataset: str, entries: Sequence[Entry]) -> Head:
    """Store these entries unless one of their names is there already, and remember all of them."""
    stored = [
        _change(dataset, "create", None, entry)
        for entry in entries
        if await datasets.insert_entry(conn, entry, by=_SEED.sub, verified_by=_SEED.sub) is not None
    ]
    await datasets.insert_seeded(conn, dataset, [entry.key for entry in entries])
    return await _audit(conn, head, stored, _SEED, f"{len(stored)} entries of {dataset} this program starts with")


async def _audit(
    conn: Connection, head: Head, changes: Sequence[Change], actor: Actor, reason: str, *, dry_run: bool = False
) -> Head:
    """Rows in the one audit chain; no version of the parameters is made."""
    return await audit_beside(conn, head, changes, (actor, reason, Terms(kind=KIND)), dry_run=dry_run)


def _change(dataset: str, action: str, old: Entry | None, new: Entry | None) -> Change:
    named = old if new is None else new
    return Change(
        dataset,
        "" if named is None else _name(named),
        action,
        None if old is None else content_of(old),
        None if new is None else content_of(new),
    )


def _name(entry: Entry) -> str:
    """The entry's name as the audit log can hold it."""
    return entry.key[:_MAX_NAME].replace("\0", "") or "(no name)"


def _dataset_of(entry: Entry) -> str:
    return DEPEGS if isinstance(entry, Depeg) else SCENARIOS


def _check_entry(entry: Entry, now: datetime) -> None:
    problems = check_depeg(entry, now) if isinstance(entry, Depeg) else check_scenario(entry)
    if problems:
        raise InvalidEntry(problems=problems)


def _check_version(row: EntryRow, expected: int | None) -> None:
    if expected is not None and expected != row.version:
        raise ConfigConflict(f"The entry is at version {row.version}, not {expected}: somebody changed it.")
