"""From a quote to what the wire says."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from tonsurance.api import quote_wire as wire
from tonsurance.api.render import show_time
from tonsurance.api.wire import AsOf
from tonsurance.chain.ton_connect import WalletRequest
from tonsurance.core.premium import NO_FLOOR, MarketInputs, TechnicalPrice
from tonsurance.core.quotes import FLOOR_BPS, TRIGGER_BPS, Terms, TonTerms, worth_usd
from tonsurance.core.units import ton_from_nano
from tonsurance.services.quote_purchases import request_purchase
from tonsurance.services.quote_values import Purchase, Quote, SeenAt
from tonsurance.services.quotes import TechnicalQuote

NOTICE = (
    "Cover, premium and payout are TON, fixed when the cover is bought. What they are worth in US dollars moves with "
    "the price of TON."
)

_STAMPS_KEPT = 256
_show_stamp = lru_cache(_STAMPS_KEPT)(show_time)
"""For moments that many quotes share."""


def render_quote(quote: Quote) -> wire.QuoteAnswer:
    """A quote in full; with the buyer's transaction when it has a buyer."""
    terms, ton, product, purchase = quote.terms, quote.ton, quote.terms.product, quote.purchase
    request = request_purchase(quote)
    chain_now = quote.issued_at + quote.chain_offset_s
    return wire.QuoteAnswer(
        quote_id=str(quote.quote_id),
        coverage_type=product.coverage_type,
        chain=product.chain,
        stablecoin=product.stablecoin,
        product_hash=product.hash,
        product_key=product.key,
        premium=float(quote.list_price.premium_usd),
        premium_usd=show_usd(quote.list_price.premium_usd),
        charged_usd=show_usd(worth_usd(ton.premium_nano, quote.price.usd)),
        list_premium_nanoton=str(ton.list_premium_nano),
        premium_ton=ton_from_nano(ton.premium_nano),
        premium_nanoton=str(ton.premium_nano),
        coverage_ton=ton_from_nano(ton.coverage_nano),
        coverage_nanoton=str(ton.coverage_nano),
        breakdown=_render_breakdown(quote, terms, ton),
        technical=render_technical(quote.technical, quote.market),
        ton_price=wire.TonPriceOut(
            usd=show_usd(quote.price.usd),
            source=quote.price.source,
            observed_at=_show_stamp(quote.price.observed_at),
            age_s=round(max(0.0, quote.issued_at - quote.price.observed_at), 3),
        ),
        notice=NOTICE,
        trigger_bps=TRIGGER_BPS,
        floor_bps=FLOOR_BPS,
        capacity=wire.QuoteCapacityOut(
            sufficient=quote.sufficient,
            available_ton=ton_from_nano(quote.capacity.available_nano),
            available_nanoton=str(quote.capacity.available_nano),
            binding_limit=quote.capacity.binding_limit,
            binding_tranche=quote.capacity.binding_tranche,
        ),
        on_sale=wire.OnSaleOut(on_sale=not quote.on_sale, reasons=quote.on_sale),
        issued_at=show_time(quote.issued_at),
        valid_until=_show_stamp(float(quote.valid_until)),
        valid_for_s=max(0, quote.valid_until - int(chain_now)),
        cover_starts_after_s=quote.waiting_period_s,
        cover_starts=None if quote.waiting_period_s is None else show_time(chain_now + quote.waiting_period_s),
        buyer=None if purchase is None else purchase.buyer,
        transaction=None if request is None else request.transaction,
        payload_hash=None if request is None else request.payload_hash,
        link=None if request is None else request.link,
        value_nanoton=None if purchase is None else str(purchase.value_nano),
        params_version=quote.params_version,
        params_hash=quote.params_hash,
        code_version=quote.code_version,
        as_of=_render_seen(quote.seen_at),
        stale=quote.seen_at.stale,
        timestamp=quote.issued_at,
    )


def _render_breakdown(quote: Quote, terms: Terms, ton: TonTerms) -> wire.BreakdownOut:
    listed = quote.list_price
    return wire.BreakdownOut(
        base_rate=float(listed.base_rate),
        chain_multiplier=float(listed.chain_multiplier),
        stablecoin_adjustment=float(listed.stablecoin_adjustment),
        total_rate=float(listed.total_rate),
        coverage_amount=float(terms.amount_usd),
        coverage_amount_usd=show_usd(terms.amount_usd),
        duration_days=terms.days,
        minimum_applied=ton.raised_to,
        list_premium_nanoton=str(ton.list_premium_nano),
    )


def render_technical(price: TechnicalPrice, market: MarketInputs) -> wire.TechnicalOut:
    """The technical premium with every factor."""
    return wire.TechnicalOut(
        premium=float(price.premium_usd),
        premium_usd=show_usd(price.premium_usd),
        floor_applied=None if price.floor_applied == NO_FLOOR else price.floor_applied,
        trigger_price=float(price.trigger_price),
        floor_price=float(price.floor_price),
        factors=wire.FactorsOut(
            base_rate=float(price.base_rate),
            risk_adjustment=float(price.risk_adjustment),
            risk={
                part.name: wire.RiskOut(weight=float(part.weight), factor=float(part.factor), part=float(part.part))
                for part in price.risk
            },
            size=float(price.size),
            utilization=float(price.utilization),
            trigger=float(price.trigger),
            stress=float(price.stress),
            claims=float(price.claims),
            annual_rate=float(price.annual_rate),
            duration_days=float(price.duration_days),
        ),
        market=wire.MarketOut(
            utilization=float(market.utilization),
            loss_ratio=None if market.loss_ratio is None else float(market.loss_ratio),
            claims_count=market.claims_count,
            stress=market.stress,
        ),
    )


def render_technical_quote(made: TechnicalQuote) -> wire.TechnicalAnswer:
    """A technical premium and the list price beside it."""
    product = made.terms.product
    return wire.TechnicalAnswer(
        coverage_type=product.coverage_type,
        chain=product.chain,
        stablecoin=product.stablecoin,
        product_hash=product.hash,
        coverage_amount=float(made.terms.amount_usd),
        coverage_amount_usd=show_usd(made.terms.amount_usd),
        duration_days=made.terms.days,
        premium=float(made.technical.premium_usd),
        premium_usd=show_usd(made.technical.premium_usd),
        list_premium_usd=show_usd(made.list_price.premium_usd),
        technical=render_technical(made.technical, made.market),
        params_version=made.params_version,
        as_of=_render_seen(made.seen_at),
        stale=made.seen_at.stale,
        timestamp=made.made_at,
    )


def render_purchase(quote: Quote, purchase: Purchase, request: WalletRequest) -> wire.PurchaseAnswer:
    """What the buyer of a kept quote has to sign."""
    return wire.PurchaseAnswer(
        quote_id=str(quote.quote_id),
        product_hash=quote.terms.product.hash,
        buyer=purchase.buyer,
        premium_ton=ton_from_nano(quote.ton.premium_nano),
        premium_nanoton=str(quote.ton.premium_nano),
        coverage_ton=ton_from_nano(quote.ton.coverage_nano),
        coverage_nanoton=str(quote.ton.coverage_nano),
        valid_until=show_time(float(quote.valid_until)),
        transaction=request.transaction,
        payload_hash=request.payload_hash,
        link=request.link,
        value_nanoton=str(purchase.value_nano),
        params_version=quote.params_version,
    )


def show_usd(amount: Decimal) -> str:
    """Dollars as plain decimal digits, never with an exponent."""
    return f"{amount:f}"


def _render_seen(seen: SeenAt) -> AsOf:
    return AsOf(
        seqno=seen.seqno, lt=str(seen.lt), time=None if seen.block_time is None else _show_stamp(seen.block_time)
    )
