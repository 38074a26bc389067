"""`tonsurance doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys

from tonsurance import app, log, stack
from tonsurance.cli_targets import resolve_database
from tonsurance.settings import DatabaseParts, Environment, home_dir, network_url

EXIT_WELL, EXIT_FAULT, EXIT_UNREACHABLE = 0, 1, 3


def doctor(*, json: bool = False, network: str | None = None, database_url: str | None = None) -> int:
    """Look at the running system and explain what is wrong: exit 0 all well, 1 a fault, 3 no database.

    Parameters
    ----------
    json
        Print a list of {check, ok, finding, advice} as JSON.
    network
        mainnet, testnet, or the base URL of a TonCenter API; else the running stack's chain.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    env = Environment()
    log.configure(env.get("LOG_LEVEL") or "error", process="doctor")
    home = home_dir(env)
    dsn = resolve_database(DatabaseParts(), explicit=database_url)
    status = stack.read_status(home)
    if status is not None and status.database_url != dsn:
        status = None  # the stack of this home is another system
    chain = network_url(network) if network else None
    reached, healthy, text = app.examine_system(
        dsn,
        api_url=None if status is None else status.api_url,
        chain_url=chain or (status.chain_url or None if status is not None else None),
        home=None if status is None else home,
        pids={} if status is None else status.pids,
        as_json=json,
    )
    sys.stdout.write(text + "\n")
    if not reached:
        return EXIT_UNREACHABLE
    return EXIT_WELL if healthy else EXIT_FAULT
