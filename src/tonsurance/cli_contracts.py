"""`tonsurance contracts`: which contracts the running daemon follows, and changing that while it runs."""

from __future__ import annotations

import sys

import cyclopts

from tonsurance import log, stack
from tonsurance.cli_targets import resolve_database
from tonsurance.core.errors import UsageError
from tonsurance.daemon_control import Chain, add_contract, await_backfill, show_contracts, want_contract
from tonsurance.settings import DatabaseParts, Environment, home_dir

_MOST_WAIT_S = 86_400.0

contracts_cli = cyclopts.App(name="contracts", help="Contracts that are followed: list, add, pause, resume, remove.")


@contracts_cli.command(name="list")
def list_contracts(*, json: bool = False, database_url: str | None = None) -> None:
    """Show every contract, what is wanted of it, how far it was read, and how a backfill goes.

    Parameters
    ----------
    json
        Print a list of objects as JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    _say(show_contracts(_find_database(database_url), as_json=json))


@contracts_cli.command
def add(
    address: str,
    *,
    kind: str,
    vault_id: str,
    layout: str = "tonsurance",
    note: str = "",
    network: str | None = None,
    database_url: str | None = None,
) -> None:
    """Follow a contract from now on, each event from its first transaction (or from where it was left).

    Parameters
    ----------
    address
        Raw or user-friendly address.
    kind
        Kind of the contract, such as MultiTrancheVault or PolicyFactory.
    vault_id
        The vault whose amounts or policies it moves, such as `main`; a new one is made.
    layout
        Name of the layout that describes its messages.
    note
        A word for people.
    network
        mainnet, testnet, or the base URL of a TonCenter API; else the active daemon's.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    dsn, chain = _find_database(database_url), _find_chain(network)
    raw = add_contract(dsn, chain, address, kind=kind, vault_id=vault_id, layout=layout, note=note)
    _say(f"{raw} is followed as the {kind} of vault {vault_id}.")


@contracts_cli.command
def pause(address: str, *, note: str | None = None, database_url: str | None = None) -> None:
    """Stop following a contract for now; its figures stand still and are shown as such.

    Parameters
    ----------
    address
        Raw or user-friendly address.
    note
        Why, for people.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    _say(f"{_want(address, 'paused', note, database_url)} is paused.")


@contracts_cli.command
def resume(address: str, *, note: str | None = None, database_url: str | None = None) -> None:
    """Go on with a contract where it was left, also one that an error had stopped.

    Parameters
    ----------
    address
        Raw or user-friendly address.
    note
        Why, for people.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    _say(f"{_want(address, 'active', note, database_url)} is followed.")


@contracts_cli.command
def remove(address: str, *, note: str | None = None, database_url: str | None = None) -> None:
    """Follow a contract no longer; its history and its cursor stay.

    Parameters
    ----------
    address
        Raw or user-friendly address.
    note
        Why, for people.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    _say(f"{_want(address, 'removed', note, database_url)} is no longer followed; its history stays.")


@contracts_cli.command
def backfill(address: str, *, wait: float = 0.0, note: str | None = None, database_url: str | None = None) -> None:
    """Read a paused contract up to its newest transaction, after which it is paused again.

    Parameters
    ----------
    address
        Raw or user-friendly address.
    wait
        Show the progress for at most so many seconds, until it is done.
    note
        Why, for people.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    if not 0 <= wait <= _MOST_WAIT_S:
        raise UsageError(f"--wait is between 0 and {_MOST_WAIT_S:g} seconds, not {wait}.")
    raw = _want(address, "backfill", note, database_url)
    if wait == 0:
        _say(f"{raw} is read up to its head. Progress: tonsurance contracts list")
        return
    await_backfill(_find_database(database_url), raw, wait_s=wait, say=_say)


def _want(address: str, wanted: str, note: str | None, database_url: str | None) -> str:
    return want_contract(_find_database(database_url), _find_chain(None), address, wanted, note=note)


def _find_chain(network: str | None) -> Chain:
    env = Environment()
    status = stack.read_status(home_dir(env))
    return Chain(named=network, of_stack="" if status is None else status.chain_url, api_key=env.get("TON_API_KEY"))


def _find_database(explicit: str | None) -> str:
    log.configure(Environment().get("LOG_LEVEL") or "error", process="contracts")
    return resolve_database(DatabaseParts(), explicit=explicit)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
