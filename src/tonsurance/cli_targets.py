"""Which database and which chain a command is about: what is named, else the running stack of this home."""

from __future__ import annotations

import sys

import structlog

from tonsurance import log, stack
from tonsurance.core.errors import UsageError
from tonsurance.settings import (
    DatabaseParts,
    Environment,
    check_database_url,
    database_url,
    find_tls_gap,
    home_dir,
    with_tls,
)

logger = log.get("database")


def resolve_database(parts: DatabaseParts, *, explicit: str | None = None) -> str:
    """The database to use: the flag, the environment, else the running stack of this home."""
    env = Environment()
    found = with_tls(env, check_database_url(explicit)) if explicit else database_url(env, parts)
    if found is None and (status := stack.read_status(home_dir(env))) is not None:
        found = status.database_url
    if not found:
        raise UsageError(
            "No database is named.",
            advice="Set DATABASE_URL, or start one with: tonsurance run (it uses the same home).",
        )
    if (gap := find_tls_gap(found)) is not None:
        _warn(gap)
    return found


def _warn(gap: str) -> None:
    """To the log of a process that has one; commands that print their answer say it beside that."""
    if structlog.is_configured():
        logger.warning("database_without_tls", advice=gap)
    else:
        sys.stderr.write(f"Warning: {gap}\n")


def resolve_stack() -> stack.Status:
    """The running stack of this home, with its chain."""
    status = stack.read_status(home_dir(Environment()))
    if status is None or not status.chain_url:
        raise UsageError("No chain is named and none runs in this home.", advice="Start one with: tonsurance run")
    return status
