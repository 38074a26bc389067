"""`tonsurance sync`: hold the vault against the ledger now, explain what differs, and repair it."""

from __future__ import annotations

from typing import Annotated

import cyclopts

from tonsurance import app, log
from tonsurance.cli_ledger import answer, note
from tonsurance.cli_targets import resolve_database, resolve_stack
from tonsurance.running import run_async
from tonsurance.settings import DatabaseParts, Environment, network_urls


def sync(
    *,
    json: bool = False,
    repair: Annotated[bool, cyclopts.Parameter(negative="--no-repair")] = True,
    network: str | None = None,
    vault: str | None = None,
    database_url: str | None = None,
    wait: float = 120.0,
) -> int:
    """Reconcile the ledger with each followed vault at one block: exit 0 equal (now), 1 a difference is left.

    Parameters
    ----------
    json
        Print the run as JSON.
    repair
        Repair what is explained and adjust what is not; --no-repair only explains.
    network
        mainnet, testnet, or the base URL of a TonCenter API; else the running stack's chain.
    vault
        Address of a vault contract; all that are followed when left out.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    wait
        Seconds to wait for the ledger to come up to that block, and for another reconciliation to end.
    """
    env = Environment()
    log.configure(env.get("LOG_LEVEL") or "critical", process="sync")
    network = network or resolve_stack().chain_url
    urls, wait = network_urls(network), app.check_wait(wait)
    vault = None if vault is None else app.check_vault(network, vault)
    dsn, key = resolve_database(DatabaseParts(), explicit=database_url), env.get("TON_API_KEY")
    return answer(*sync_vault(dsn, urls, vault, api_key=key, repair=repair, wait_s=wait, as_json=json))


def sync_vault(
    dsn: str,
    urls: tuple[str, ...],
    vault: str | None,
    *,
    api_key: str | None,
    repair: bool,
    wait_s: float,
    as_json: bool,
) -> tuple[bool, str]:
    """Reconcile now: whether the ledger is the chain's, and what to show."""
    from tonsurance.chain.client import TonCenterClient
    from tonsurance.chain.layout import load_layout
    from tonsurance.services.sync_keeper import sync_once
    from tonsurance.services.sync_verdicts import describe_sync, encode_sync, is_equal
    from tonsurance.services.vault_sync import SyncResult

    async def work() -> tuple[SyncResult, ...]:
        async with TonCenterClient(urls, api_key) as client:
            return await sync_once(dsn, client, vault, load_layout(), repair=repair, wait_s=wait_s, progress=note)

    results = run_async(work())
    return is_equal(results), encode_sync(results) if as_json else "\n".join(describe_sync(results))
