"""Who brought an entry of a data set in, who wrote what it says now, and who checked it: read from the audit log.

The log is the source: a row of the table could be changed by hand, a row of the log not without being found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from tonsurance.db.datasets import WrittenEntry

Name = tuple[str, str]
"""(data set, key)"""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """People behind one entry. `authors` wrote its content since somebody checked it last (else since it was entered);
    `verified_by` is None while nobody has checked what it says now.
    """

    entered_by: str
    authors: tuple[str, ...]
    verified_by: str | None
    version: int

    def is_author(self, person: str) -> bool:
        """Whether this person wrote any of what is to be checked, under whatever spelling."""
        return person.casefold() in (author.casefold() for author in self.authors)


def trace_entries(log: Iterable[WrittenEntry]) -> dict[Name, Provenance]:
    """The people behind every entry that is there, from the log's rows of data sets, oldest first.

    A new name is written as a `delete` and a `create` of the same moment: the entry stays the same one.
    """
    found: dict[Name, Provenance] = {}
    before: WrittenEntry | None = None
    left: Provenance | None = None
    for row in log:
        known = found.get(row.name)
        if row.action == "create" and _is_new_name(before, row):
            known = left
        left = found.pop(row.name, None)
        if row.new_value is not None:
            old = before if row.action == "create" else row
            found[row.name] = _write(known, None if old is None else old.old_value, row)
        before = row
    return found


def _is_new_name(before: WrittenEntry | None, row: WrittenEntry) -> bool:
    return (
        before is not None
        and (before.action, before.dataset, before.changed_by) == ("delete", row.dataset, row.changed_by)
        and before.changed_at == row.changed_at
        and before.id == row.id - 1
    )


def _write(known: Provenance | None, old_text: str | None, row: WrittenEntry) -> Provenance:
    """The entry after a row of the log."""
    old, new = _content(old_text), _content(row.new_value)
    was_verified, is_verified = bool(old.pop("verified", False)), bool(new.pop("verified", False))
    if known is None:
        checked = row.changed_by if is_verified else None
        return Provenance(entered_by=row.changed_by, authors=(row.changed_by,), verified_by=checked, version=1)
    authors, checker = known.authors, known.verified_by
    if old != new:
        kept = () if was_verified else tuple(name for name in authors if name.casefold() != row.changed_by.casefold())
        authors, was_verified = (*kept, row.changed_by), False
    if not is_verified:
        checker = None
    elif not was_verified:
        checker = row.changed_by
    return Provenance(entered_by=known.entered_by, authors=authors, verified_by=checker, version=known.version + 1)


def _content(text: str | None) -> dict[str, object]:
    content: dict[str, object] = {} if text is None else json.loads(text)
    return content
