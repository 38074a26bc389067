"""Reconciliation as the daemon runs it, and what alerts are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tonsurance import log
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import Layout
from tonsurance.core.errors import NotReady, TonsuranceError
from tonsurance.core.params import Params
from tonsurance.core.sync_alerts import DRIFT_KINDS, read_drift
from tonsurance.db.config import select_newest
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.roles import ROLE_OF
from tonsurance.db.sync_results import EVALUATOR, select_drifts
from tonsurance.services.alerting import Evaluator, Figures
from tonsurance.services.config_rows import build_version
from tonsurance.services.sync_verdicts import describe_drifts
from tonsurance.services.vault_sync import SyncResult, VaultSync

logger = log.get("vault_sync")


async def read_drifts(conn: Connection, params: Params) -> Figures:
    """How far each tranche was off when it was looked at last."""
    version, figures = await select_drifts(conn)
    return Figures(version, tuple(reading for figure in figures for reading in read_drift(figure, params)))


DRIFTS = Evaluator(EVALUATOR, DRIFT_KINDS, read_drifts)
"""For the alerting service."""


async def keep_vaults_synced(
    dsn: str,
    client: TonCenterClient,
    layout: Layout,
    params: Callable[[], Params],
    stop: asyncio.Event,
    *,
    contracts: Sequence[str] | None = None,
    wake: asyncio.Event | None = None,
    on_result: Callable[[SyncResult | TonsuranceError], None] = lambda _result: None,
) -> None:
    """Reconcile vaults (None: all that are followed) at once and then as often as the parameters say, until `stop` is
    set. After each run its summary is in the log and `on_result` is called."""

    def tell(result: SyncResult | TonsuranceError) -> None:
        if isinstance(result, SyncResult):
            for line in describe_drifts((result,)):
                logger.info(line)
        on_result(result)

    sync = VaultSync(dsn, client, contracts, layout, params, on_result=tell)
    try:
        await sync.start_sync_loop(sync_interval_s(params()), stop, wake)
    finally:
        await sync.close()


def sync_interval_s(params: Params) -> float:
    """Seconds between two reconciliations."""
    value = params.value("risk", "vault_sync_interval_s")
    if not isinstance(value, (int, float)):  # the declaration says so; this is for the type checker
        raise TypeError("risk/vault_sync_interval_s is not a number.")
    return float(value)


async def sync_once(
    dsn: str,
    client: TonCenterClient,
    vault: str | None,
    layout: Layout,
    *,
    repair: bool,
    wait_s: float,
    progress: Callable[[str], None],
) -> tuple[SyncResult, ...]:
    """Reconcile one vault now, or all that are followed, with the parameters that hold.

    Raises NotReady when none is followed.
    """
    conn = await connect(dsn, application_name="tonsurance sync", role=ROLE_OF["sync"])
    try:
        with driver_errors():
            params = build_version(await select_newest(conn))
    finally:
        await conn.close()
    vaults = None if vault is None else [vault]
    sync = VaultSync(dsn, client, vaults, layout, lambda: params, repair=repair, wait_s=wait_s, progress=progress)
    try:
        results = await sync.sync_now()
    finally:
        await sync.close()
    if not results:
        raise NotReady("This database follows no vault.", advice="Start the daemon with --vault and --factory.")
    return results
