"""What sells cover in one API process, joined: the market of now, quotes, receipts, and what became of purchases."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
from litestar import Router

from tonsurance.api.builders import make_builder_router
from tonsurance.api.policy_reads import make_policy_router
from tonsurance.api.quotes import make_purchase_handler, make_quote_router
from tonsurance.api.receipts import make_receipt_router
from tonsurance.api.transactions import make_transaction_router
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.chain_clock import ChainClock
from tonsurance.services.factory_state import FactoryStates
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every
from tonsurance.services.market_view import READ_EVERY_S, MarketView
from tonsurance.services.policies import PolicyChecks
from tonsurance.services.policy_reads import PolicyReads
from tonsurance.services.product_list import ProductList
from tonsurance.services.quote_signer import LocalSigner, Signer
from tonsurance.services.quotes import QuoteDesk
from tonsurance.services.receipts import Receipts
from tonsurance.services.signing_key import SecretKey
from tonsurance.services.tranche_reads import TrancheReads
from tonsurance.services.transaction_reads import TransactionReads
from tonsurance.services.wallet_requests import WalletRequests

MAX_BACKOFF_S = 2.0


class ShopParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the routes of products, quotes and policies are made of."""

    market: MarketView
    products: ProductList
    desk: QuoteDesk
    receipts: Receipts
    transactions: TransactionReads
    policies: PolicyReads
    requests: WalletRequests
    vault_id: str

    def routers(self) -> list[Router]:
        """Their routes, but those that take the services of the whole application."""
        return [
            make_quote_router(self.desk),
            make_receipt_router(self.receipts),
            make_transaction_router(self.transactions),
            make_policy_router(self.policies, make_purchase_handler(self.desk)),
            make_builder_router(self.requests, self.vault_id),
        ]


class ShopWiring:
    """Makes the parts over pools of their own."""

    def __init__(self, dsn: str, *, keys: Sequence[SecretKey] = (), signer: Signer | None = None) -> None:
        """Quotes are signed by `signer`, else here by `keys`; with neither there are prices only."""
        role = ROLE_OF["api"]
        self._market_pool = LazyPool(dsn, max_size=1, application_name="tonsurance market", role=role)
        self._receipt_pool = LazyPool(dsn, max_size=2, application_name="tonsurance receipts", role=role)
        self._reading_pool = LazyPool(dsn, max_size=2, application_name="tonsurance policies", role=role)
        self._receipts = Receipts(self._receipt_pool)
        self._keys = tuple(keys)
        self._signer = signer
        self._market: MarketView | None = None
        self._chain = ChainClock()

    def make(self, reads: TrancheReads) -> ShopParts:
        """The parts, over the tranches as this process reads them."""
        market = self._market = MarketView(self._market_pool, reads)
        if self._signer is None and self._keys:
            self._signer = LocalSigner(self._keys, clock=self._chain.now)
        checks = PolicyChecks(market)
        return ShopParts(
            market=market,
            products=ProductList(market, reads, checks),
            desk=QuoteDesk(
                lambda: reads.params,
                market,
                checks,
                signer=self._signer,
                receipts=self._receipts,
                chain=self._chain,
            ),
            receipts=self._receipts,
            transactions=TransactionReads(self._reading_pool),
            policies=PolicyReads(self._reading_pool, reads.vault_id),
            requests=WalletRequests(FactoryStates(self._reading_pool), chain=self._chain),
            vault_id=reads.vault_id,
        )

    def note_commit(self) -> None:
        """The ledger has a new version."""
        if self._market is not None:
            self._market.wake.set()

    def jobs(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the server until `stop`, once the parts were made."""
        market = self._market
        if market is None:
            return []

        async def look() -> None:
            await market.refresh()
            self._chain.note(market.factory())

        return [every(READ_EVERY_S, look, stop=stop, wake=market.wake, name="market", max_backoff_s=MAX_BACKOFF_S)]

    async def close(self) -> None:
        """Keep the receipts that were submitted, and give the connections back."""
        await self._receipts.close()
        if self._signer is not None:
            await self._signer.close()
        for pool in (self._market_pool, self._receipt_pool, self._reading_pool):
            await pool.close()
