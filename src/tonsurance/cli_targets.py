"""Which database and which chain a command is about: what is named, else the running stack of this home."""

from __future__ import annotations

from tonsurance import stack
from tonsurance.core.errors import UsageError
from tonsurance.settings import DatabaseParts, Environment, check_database_url, database_url, home_dir


def resolve_database(parts: DatabaseParts, *, explicit: str | None = None) -> str:
    """The database to use: the flag, the environment, else the running stack of this home."""
    env = Environment()
    found = check_database_url(explicit) if explicit else database_url(env, parts)
    if found is None and (status := stack.read_status(home_dir(env))) is not None:
        found = status.database_url
    if not found:
        raise UsageError(
            "No database is named.",
            advice="Set DATABASE_URL, or start one with: tonsurance run (it uses the same home).",
        )
    return found


def resolve_stack() -> stack.Status:
    """The running stack of this home, with its chain."""
    status = stack.read_status(home_dir(Environment()))
    if status is None or not status.chain_url:
        raise UsageError("No chain is named and none runs in this home.", advice="Start one with: tonsurance run")
    return status
