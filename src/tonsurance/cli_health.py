"""`tonsurance health`: what each daemon says of itself."""

from __future__ import annotations

import sys

from tonsurance import log
from tonsurance.cli_targets import resolve_database
from tonsurance.daemon_control import show_daemons
from tonsurance.settings import DatabaseParts, Environment

EXIT_WELL, EXIT_FAULT = 0, 1


def health(*, json: bool = False, database_url: str | None = None) -> int:
    """Show the health of the active daemon and of those standing by: exit 0 healthy, 1 not or none, 3 no database.

    Parameters
    ----------
    json
        Print a list with one object a daemon as JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    log.configure(Environment().get("LOG_LEVEL") or "error", process="health")
    well, text = show_daemons(resolve_database(DatabaseParts(), explicit=database_url), as_json=json)
    sys.stdout.write(text + "\n")
    return EXIT_WELL if well else EXIT_FAULT
