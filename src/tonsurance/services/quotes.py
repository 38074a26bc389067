"""Makes quotes: what a cover costs now, whether there is room for it, and, for a buyer, the signed purchase.

A quote is of one version of the parameters and one look at the market. Without a buyer nothing is waited for while the
market in memory is of now, and nothing is kept.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from decimal import Decimal

import msgspec

from tonsurance import __version__, metrics
from tonsurance.chain.addresses import check_network, parse_address
from tonsurance.chain.ton_connect import MAINNET_ID
from tonsurance.core.cover_prices import price_cover, read_terms
from tonsurance.core.errors import BadField, CapacityExceeded, InputError, TonsuranceError
from tonsurance.core.parameters.pricing import STRESS_LEVELS
from tonsurance.core.params import Params
from tonsurance.core.premium import MarketInputs, TechnicalPrice, price_technical
from tonsurance.core.products import CHAINS, COVERAGE_TYPES
from tonsurance.core.quotes import SOLD_TRIGGER, ListPrice, Terms, price_list, read_list_rates
from tonsurance.core.sale_errors import (
    NotOnSale,
    QuoteExpired,
    QuoteIdTaken,
    QuoteUsed,
    SignerUnavailable,
    UnknownQuote,
)
from tonsurance.core.technical_rates import read_technical_rates
from tonsurance.db.factory_state import FactoryState
from tonsurance.services.chain_clock import ChainClock
from tonsurance.services.market_view import Market, MarketView
from tonsurance.services.policies import PolicyChecks
from tonsurance.services.quote_purchases import is_accepted, sign_purchase, stretch_validity
from tonsurance.services.quote_rooms import QuoteRooms
from tonsurance.services.quote_signer import Signer
from tonsurance.services.quote_values import Quote, SeenAt
from tonsurance.services.receipts import Receipts

QUOTE_ID_BITS = 63
CALM = STRESS_LEVELS[0]
"""The stress of the market until something measures it."""
PRICED, SIGNED = "priced", "signed"
_OTHER = "other"
_TYPES, _CHAINS = frozenset(COVERAGE_TYPES), frozenset(CHAINS)


class TechnicalQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What a cover should cost, beside what it does by the list. `made_at` is unix seconds."""

    terms: Terms
    technical: TechnicalPrice
    list_price: ListPrice
    market: MarketInputs
    params_version: int
    made_at: float
    seen_at: SeenAt


class QuoteDesk:
    """Makes quotes from what is in memory. Without a signer and receipts it tells prices only."""

    def __init__(
        self,
        params: Callable[[], Params],
        market: MarketView,
        checks: PolicyChecks,
        *,
        signer: Signer | None = None,
        receipts: Receipts | None = None,
        clock: Callable[[], float] = time.time,
        chain: ChainClock | None = None,
    ) -> None:
        self._params = params
        self._market = market
        self._checks = checks
        self._signer = signer
        self._receipts = receipts
        self._clock = clock
        self._chain = ChainClock(clock) if chain is None else chain
        self._rooms = QuoteRooms()

    async def quote(
        self, coverage_type: str, chain: str, stablecoin: str, amount_usd: Decimal, days: int, buyer: str | None = None
    ) -> Quote:
        """A quote; with a buyer's address (any written form) a signed and kept one.

        Raises BadField, InvalidProduct, PriceUnavailable, NotReady, StaleFigures; with a buyer also InvalidAddress,
        WrongNetwork, NotOnSale, CapacityExceeded, SignerUnavailable, DatabaseUnavailable.
        """
        names = coverage_type if coverage_type in _TYPES else _OTHER, chain if chain in _CHAINS else _OTHER
        try:
            made = await self._make(coverage_type, chain, stablecoin, amount_usd, days, buyer)
        except TonsuranceError as error:
            metrics.QUOTES.labels(*names, error.code).inc()
            raise
        metrics.QUOTES.labels(*names, PRICED if buyer is None else SIGNED).inc()
        return made

    async def _make(
        self, coverage_type: str, chain: str, stablecoin: str, amount_usd: Decimal, days: int, buyer: str | None
    ) -> Quote:
        params = self._params()
        terms = read_terms(coverage_type, chain, stablecoin, amount_usd, days, params)
        if buyer is not None:
            parse_address(buyer)
        market = await self._market.current(need_factory=buyer is not None)
        if market.params is not params:  # they were exchanged while the market was read
            terms = read_terms(coverage_type, chain, stablecoin, amount_usd, days, market.params)
        made = self._price(terms, market)
        if buyer is None or market.factory is None:
            return made
        return await self._sell(made, market.factory, buyer)

    def _price(self, terms: Terms, market: Market) -> Quote:
        self._chain.note(market.factory)
        self._chain.note_block(market.snapshot.latest.block_time)
        params, now, ahead_s = market.params, self._clock(), self._chain.ahead_s()
        inputs = read_inputs(market)
        prices = price_cover(terms, market.price.usd, inputs, params)
        room = self._rooms.find(market, terms.product)
        decision = self._checks.decide(market, terms.product, prices.ton.coverage_nano, capacity=room)
        return Quote(
            quote_id=make_quote_id(),
            terms=terms,
            list_price=prices.list_price,
            ton=prices.ton,
            technical=prices.technical,
            market=inputs,
            price=market.price,
            params_version=params.version,
            params_hash=params.hash,
            code_version=__version__,
            issued_at=now,
            valid_until=int(now + ahead_s) + stretch_validity(read_list_rates(params).validity_s, self._chain.speed),
            capacity=decision.capacity,
            sufficient=decision.sufficient,
            on_sale=decision.reasons,
            seen_at=_show_seen(market),
            waiting_period_s=None if market.factory is None else market.factory.waiting_period_s,
            chain_offset_s=ahead_s,
        )

    async def _sell(self, made: Quote, factory: FactoryState, buyer: str) -> Quote:
        """The same quote signed for its buyer, and kept."""
        raw = check_network(buyer, "mainnet" if factory.network_id == MAINNET_ID else "testnet")
        if made.on_sale:
            raise NotOnSale(made.terms.product.name, made.on_sale)
        if not made.sufficient:
            raise CapacityExceeded(made.ton.coverage_nano, made.capacity)
        if self._signer is None or self._receipts is None:
            raise SignerUnavailable(advice="Set QUOTE_KEY or QUOTE_SIGNER for the API.")
        sold = await sign_purchase(made, factory, raw, self._signer)
        try:
            await self._receipts.keep(sold)
        except QuoteIdTaken:  # one of 2^63; the second time it is somebody's fault
            sold = await sign_purchase(
                msgspec.structs.replace(made, quote_id=make_quote_id()), factory, raw, self._signer
            )
            await self._receipts.keep(sold)
        return sold

    async def find(self, quote_id: int, buyer: str) -> Quote:
        """A kept quote that its buyer (any written form) can still buy. To anybody else there is no such quote: who it
        is for is told to nobody.

        Raises InvalidAddress, UnknownQuote, QuoteExpired, QuoteUsed, ReceiptDamaged, DatabaseUnavailable.
        """
        raw = parse_address(buyer)
        if self._receipts is None:
            raise UnknownQuote
        receipt = await self._receipts.read(quote_id)
        if receipt.quote.purchase is None or receipt.quote.purchase.buyer != raw:
            raise UnknownQuote
        if receipt.status == "bought":
            raise QuoteUsed(quote_id)
        if receipt.status == "refused_by_vault":
            raise QuoteExpired(f"Quote {quote_id} was used, and the vault refused it.", advice="Ask for a new one.")
        factory = self._market.factory()
        self._chain.note(factory)
        if receipt.status == "expired" or self._chain.now() >= receipt.quote.valid_until:
            raise QuoteExpired(f"Quote {quote_id} is not valid any more.", advice="Ask for a new one.")
        if factory is not None and not is_accepted(receipt.quote, factory):
            raise QuoteExpired(
                f"Quote {quote_id} was signed by a key or for a factory that sells no more.",
                advice="Ask for a new one.",
            )
        return receipt.quote

    async def price_technical(
        self,
        coverage_type: str,
        chain: str,
        stablecoin: str,
        amount_usd: Decimal,
        days: int,
        *,
        trigger: Decimal = SOLD_TRIGGER,
        stress: str | None = None,
    ) -> TechnicalQuote:
        """What a cover should cost by the technical premium; nothing is kept, and any trigger has a price.

        Raises BadField, InvalidProduct, PriceUnavailable, NotReady, StaleFigures.
        """
        read_terms(coverage_type, chain, stablecoin, amount_usd, days, self._params())
        market = await self._market.current()
        params = market.params
        terms = read_terms(coverage_type, chain, stablecoin, amount_usd, days, params)
        inputs = read_inputs(market, CALM if stress is None else _check_stress(stress))
        try:
            technical = price_technical(terms, trigger, inputs, read_technical_rates(params))
        except InputError as error:
            raise BadField("trigger", error.message) from error
        return TechnicalQuote(
            terms=terms,
            technical=technical,
            list_price=price_list(terms, read_list_rates(params)),
            market=inputs,
            params_version=params.version,
            made_at=self._clock(),
            seen_at=_show_seen(market),
        )


def read_inputs(market: Market, stress: str = CALM) -> MarketInputs:
    """What the technical price takes of the market."""
    return MarketInputs(
        utilization=market.utilization.capped,
        loss_ratio=market.record.loss_ratio,
        claims_count=market.record.claims,
        stress=stress,
    )


def _check_stress(level: str) -> str:
    if level not in STRESS_LEVELS:
        raise BadField("stress", f"The stress of the market is one of {', '.join(STRESS_LEVELS)}.")
    return level


def make_quote_id() -> int:
    """A random id that is not 0; no two are the same in practice, and the receipts' key makes it sure."""
    return secrets.randbits(QUOTE_ID_BITS) or make_quote_id()


def _show_seen(market: Market) -> SeenAt:
    """The daemon reads the factory every few seconds: its age tells when nobody looks at the chain any more."""
    age_s = market.factory_age_s
    latest = market.snapshot.latest
    return SeenAt(
        ledger_version=market.snapshot.state.version,
        lt=latest.lt,
        seqno=latest.seqno,
        block_time=latest.block_time if latest.lt else None,
        stale=age_s is None or age_s > market.sale.factory_max_age_s,
    )
