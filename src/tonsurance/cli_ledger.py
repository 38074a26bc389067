"""`tonsurance verify` and `tonsurance replay`: whether the ledger is the chain's, and its tables the event log's."""

from __future__ import annotations

import sys

from rich.console import Console

from tonsurance import app, log
from tonsurance.cli_targets import resolve_database, resolve_stack
from tonsurance.settings import DatabaseParts, Environment

EXIT_EQUAL, EXIT_DIFFERENT = 0, 1


def note(line: str) -> None:
    """One line on how it goes, apart from the command's answer."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)


def answer(equal: bool, text: str) -> int:
    """Show what was found; returns the exit code."""
    sys.stdout.write(text + "\n")
    return EXIT_EQUAL if equal else EXIT_DIFFERENT


def verify(
    *,
    json: bool = False,
    network: str | None = None,
    vault: str | None = None,
    database_url: str | None = None,
    wait: float = 120.0,
) -> int:
    """Compare the ledger with the chain at one block, tranche by tranche: exit 0 equal, 1 a difference.

    Parameters
    ----------
    json
        Print the figures of both sides as JSON.
    network
        mainnet, testnet, or the base URL of a TonCenter API; else the running stack's chain and vault.
    vault
        Address of the vault contract (else VAULT_ADDRESS).
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    wait
        Seconds to wait for the ledger to come up to that block.
    """
    env = Environment()
    log.configure(env.get("LOG_LEVEL") or "warning", process="verify")
    vault = vault or env.get("VAULT_ADDRESS")
    if network is None:
        network, vault = resolve_stack().chain_url, vault or resolve_stack().vault
    vault, wait = app.check_vault(network, vault), app.check_wait(wait)
    dsn, key = resolve_database(DatabaseParts(), explicit=database_url), env.get("TON_API_KEY")
    return answer(*app.verify_vault(dsn, network, vault, api_key=key, wait_s=wait, as_json=json, progress=note))


def replay(*, json: bool = False, database_url: str | None = None) -> int:
    """Rebuild every read model from the event log and compare it with the live one: exit 0 equal, 1 a difference.

    Parameters
    ----------
    json
        Print what was found as JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    dsn = resolve_database(DatabaseParts(), explicit=database_url)
    return answer(*app.replay_ledger(dsn, as_json=json, progress=note))
