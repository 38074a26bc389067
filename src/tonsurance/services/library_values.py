"""What programs give the library and get from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import msgspec

from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.services.tranche_reads import Snapshot, TrancheFigures

OUTAGE_ADVICE = (
    "Look at the database with `tonsurance doctor`; then repeat the call under the same key, which counts once "
    "(without a key of your own look first whether it was done)."
)


@contextmanager
def advised() -> Iterator[None]:
    """An outage inside the block says what to do, where it does not say so itself."""
    try:
        yield
    except DatabaseUnavailable as error:
        if error.advice is not None:
            raise
        raise type(error)(error.message, advice=OUTAGE_ADVICE) from error


class DatabaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ledger is; `pool_size` connections at most."""

    host: str = "localhost"
    port: int = 5432
    database: str = "tonsurance"
    user: str = "postgres"
    password: str | None = None
    pool_size: int = 10

    @property
    def dsn(self) -> str:
        """As one address."""
        login = quote(self.user, safe="") + ("" if self.password is None else f":{quote(self.password, safe='')}")
        return f"postgresql://{login}@{quote(self.host, safe='')}:{self.port}/{quote(self.database, safe='')}"


class TrancheUtilization(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tranche stands. Amounts in nanoTON; `utilization_ratio` 0 to 1; `current_apy` is the bonding curve's
    target in percent, None when insolvent; `last_updated` is the unix time of the last event, None before the first.
    """

    vault_id: str
    tranche_id: str
    total_capital: int
    coverage_sold: int
    utilization_ratio: float
    utilization_raw: float | None
    insolvent: bool
    current_apy: float | None
    last_updated: float | None
    ledger_version: int
    params_version: int


def show_utilization(snapshot: Snapshot, figures: TrancheFigures) -> TrancheUtilization:
    totals = figures.totals
    return TrancheUtilization(
        vault_id=totals.vault_id,
        tranche_id=totals.tranche_id,
        total_capital=totals.capital_nano,
        coverage_sold=totals.coverage_nano,
        utilization_ratio=figures.used.capped,
        utilization_raw=figures.used.raw,
        insolvent=figures.used.insolvent,
        current_apy=figures.current_apy_pct,
        last_updated=totals.block_time if totals.lt else None,
        ledger_version=snapshot.state.version,
        params_version=snapshot.params_version,
    )
