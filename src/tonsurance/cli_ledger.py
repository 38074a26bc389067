"""`tonsurance verify`, `replay` and `rescan`: whether the ledger is the chain's, and its tables the event log's."""
# ruff: noqa: PLC0415 - no other command pays for the parts of a rescan

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cyclopts
import msgspec
from rich.console import Console

from tonsurance import app, log
from tonsurance.cli_targets import resolve_database, resolve_stack
from tonsurance.core.errors import UsageError
from tonsurance.core.units import BIGINT_MAX
from tonsurance.running import run_async
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
        mainnet, testnet, or the base URL of a TonCenter API; else the running stack's chain.
    vault
        Address of a vault contract; all that are followed when left out (VAULT_ADDRESS when none is yet).
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    wait
        Seconds to wait for the ledger to come up to that block.
    """
    env = Environment()
    log.configure(env.get("LOG_LEVEL") or "warning", process="verify")
    every, vault = vault is None, vault or env.get("VAULT_ADDRESS")
    if network is None:
        network, vault = resolve_stack().chain_url, vault or resolve_stack().vault
    vault, wait = app.check_vault(network, vault), app.check_wait(wait)
    dsn, key = resolve_database(DatabaseParts(), explicit=database_url), env.get("TON_API_KEY")
    return answer(
        *app.verify_vaults(
            dsn, network, vault, all_followed=every, api_key=key, wait_s=wait, as_json=json, progress=note
        )
    )


def replay(
    *,
    swap: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    from_lt: int | None = None,
    json: bool = False,
    database_url: str | None = None,
) -> int:
    """Rebuild every read model from the event log and compare it with the live one: exit 0 equal, 1 a difference.

    Parameters
    ----------
    swap
        Put the rebuilt rows in the place of those that differ, all in one transaction: exit 0 equal now.
    from_lt
        Look only at what follows this logical time of the vaults, built on the rows that stand until there. Policies
        are always rebuilt from the start.
    json
        Print what was found as JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    if from_lt is not None and not 0 <= from_lt <= BIGINT_MAX:
        raise UsageError(f"--from-lt is a logical time from 0 to {BIGINT_MAX}, not {from_lt}.")
    dsn = resolve_database(DatabaseParts(), explicit=database_url)
    return answer(*app.replay_ledger(dsn, as_json=json, progress=note, swap=swap, from_lt=from_lt))


def rescan(
    *,
    layout: str | None = None,
    contract: str | None = None,
    dry_run: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    json: bool = False,
    database_url: str | None = None,
) -> int:
    """Read quarantine and log again with the layouts of today: exit 0 done, 1 the log reads otherwise or contradicts.

    What can be decoded now becomes events of the log, and the read models what the whole log comes to; all of it in
    one transaction, while the daemon goes on. Let the daemon follow with the same layout: what only this command can
    read would be foreign to its reconciliation.

    Parameters
    ----------
    layout
        A layout's name or file, for all contracts; else the one each contract is followed with.
    contract
        Raw or user-friendly address of the only contract to read again.
    dry_run
        Say what would be done, and change nothing.
    json
        Print what was found as JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    dsn = resolve_database(DatabaseParts(), explicit=database_url)
    return answer(*rescan_ledger(dsn, layout=layout, contract=contract, dry_run=dry_run, as_json=json))


def rescan_ledger(
    dsn: str, *, layout: str | None, contract: str | None, dry_run: bool, as_json: bool
) -> tuple[bool, str]:
    """Rescan a database: whether nothing needs a person, and what to show."""
    from tonsurance.chain.addresses import parse_address
    from tonsurance.chain.layout import load_layout
    from tonsurance.core.params import DEFAULT_PARAMS
    from tonsurance.services.rescan import rescan_ledger as rescan
    from tonsurance.services.verdicts import describe_rescan

    chosen = None if layout is None else load_layout(Path(layout) if layout.endswith(".toml") else layout)
    raw = None if contract is None else parse_address(contract)
    found = run_async(rescan(dsn, DEFAULT_PARAMS, note, layout=chosen, contract=raw, dry_run=dry_run))
    return found.clean, msgspec.json.encode(found).decode() if as_json else "\n".join(describe_rescan(found))
