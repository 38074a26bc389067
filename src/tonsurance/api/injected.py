"""The constructed services that handlers are given."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, PathParameter, QueryParameter, SkipValidation

from tonsurance.api.settings import ApiSettings
from tonsurance.services.alert_feed import AlertFeed
from tonsurance.services.health import HealthReads
from tonsurance.services.history_reads import HistoryReads
from tonsurance.services.hub import Hub
from tonsurance.services.market_view import MarketView
from tonsurance.services.ports import LedgerReader
from tonsurance.services.price_feed import PriceReads
from tonsurance.services.product_list import ProductList
from tonsurance.services.tranche_reads import TrancheReads


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the routes read from."""

    reads: TrancheReads
    ledger: LedgerReader
    health: HealthReads
    hub: Hub
    settings: ApiSettings
    alerts: AlertFeed | None = None
    history: HistoryReads | None = None
    prices: PriceReads | None = None
    market: MarketView | None = None
    products: ProductList | None = None


Injected = NamedDependency[SkipValidation[Services]]
TrancheInPath = Annotated[
    str,
    PathParameter(
        description="A tranche: `SURE-BTC`, `SURE-SNR`, `SURE-MEZZ`, `SURE-JNR`, `SURE-JNR+` "
        "(also written `SURE-JNR%2B`) or `SURE-EQT`; the key form (`SURE_JNR_PLUS`) is read too.",
        max_length=1000,
    ),
]
VaultInQuery = Annotated[
    str | None,
    QueryParameter(
        name="vault_id", description="A vault of `/api/v1/vaults`; the first one when left out.", max_length=100
    ),
]
IfNoneMatch = Annotated[str | None, HeaderParameter(name="If-None-Match", description="ETag of the copy you have.")]
