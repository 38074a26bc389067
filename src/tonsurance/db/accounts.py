"""Which system user PostgreSQL runs as, and what that user can reach.

PostgreSQL refuses to run as root, so root hands it to an existing unprivileged user. No user is ever created and
no directory that is somebody else's is ever opened up.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from tonsurance.core.errors import PostgresNotFound

_UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A system user by its ids."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The user PostgreSQL must run as: None (our own) unless we are root, then `postgres`, else `nobody`.

    Raises PostgresNotFound when root has neither.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            return find_account(name)
        except KeyError:
            continue
    raise PostgresNotFound(
        "PostgreSQL does not run as root, and this system has neither a user `postgres` nor `nobody`.",
        advice="Start as an ordinary user, or set DATABASE_URL.",
    )


def find_account(name: str) -> Account:
    """The system user of this name. Raises KeyError."""
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(account: Account, path: Path) -> bool:
    """Whether the user may pass through every directory down to and including `path` (by mode bits, without ACLs)."""
    real = path.resolve()
    return all(_may_pass(account, directory) for directory in (real, *real.parents))


def _may_pass(account: Account, directory: Path) -> bool:
    try:
        found = directory.stat()
    except OSError:
        return False
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
