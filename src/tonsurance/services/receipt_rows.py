"""A quote as its receipt's row, and back. Whatever the row says is in its seal."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from tonsurance.core.capacity import Capacity
from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.core.premium import MarketInputs, TechnicalPrice
from tonsurance.core.prices import Price
from tonsurance.core.products import Product
from tonsurance.core.quotes import FLOOR_BPS, TRIGGER_BPS, ListPrice, Terms, TonTerms
from tonsurance.db.quotes import QuoteRow
from tonsurance.services.quote_values import Purchase, Quote, SeenAt

Part = TypeVar("Part")
NO_TIME_S = 253_402_300_800.0
"""Unix seconds after the last moment of the calendar: the year 10000."""


class ReceiptDamaged(TonsuranceError):
    """A stored receipt cannot be read."""

    code = "receipt_damaged"


def write_json(value: object) -> str:
    """Canonical JSON: equal values have equal text. Decimals are text, so that no digit is lost."""
    return msgspec.json.encode(value, order="sorted").decode()


def read_json(text: str, kind: type[Part], column: str) -> Part:
    """A column's value. Raises ReceiptDamaged naming the column."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReceiptDamaged(f"The column {column} of this receipt cannot be read.") from error


def make_row(quote: Quote) -> QuoteRow:
    """The row of a quote. Raises InputError for one without a buyer."""
    purchase, terms = quote.purchase, quote.terms
    if purchase is None:
        raise InputError("A quote without a buyer is not kept.")
    row = QuoteRow(
        quote_id=quote.quote_id,
        payload_hash=bytes.fromhex(purchase.payload_hash),
        network_id=purchase.network_id,
        factory=purchase.factory,
        buyer=purchase.buyer,
        coverage_type=terms.product.coverage_type_id,
        chain_id=terms.product.chain_id,
        stablecoin_id=terms.product.stablecoin_id,
        amount_usd=terms.amount_usd,
        days=terms.days,
        trigger_bps=TRIGGER_BPS,
        floor_bps=FLOOR_BPS,
        list_price=write_json(quote.list_price),
        list_premium_nanoton=quote.ton.list_premium_nano,
        coverage_nanoton=quote.ton.coverage_nano,
        premium_nanoton=quote.ton.premium_nano,
        raised_to=quote.ton.raised_to,
        value_nanoton=purchase.value_nano,
        technical=write_json(quote.technical),
        market=write_json(quote.market),
        capacity=write_json(quote.capacity),
        sufficient=quote.sufficient,
        on_sale=write_json(quote.on_sale),
        seen_at=write_json(quote.seen_at),
        price_asset=quote.price.asset,
        price_usd=quote.price.usd,
        price_source=quote.price.source,
        price_observed_at=float(quote.price.observed_at),
        params_version=quote.params_version,
        params_hash=quote.params_hash,
        code_version=quote.code_version,
        issued_at=float(quote.issued_at),
        chain_offset_s=float(quote.chain_offset_s),
        deadline=quote.valid_until,
        waiting_period_s=quote.waiting_period_s,
        signature=purchase.signature,
        public_key=purchase.public_key,
        body=purchase.body,
        seal=b"",
    )
    return msgspec.structs.replace(row, seal=seal_row(row))


def seal_row(row: QuoteRow) -> bytes:
    """SHA-256 of everything a row says but its seal."""
    fields = {name: _plain(value) for name, value in msgspec.structs.asdict(row).items() if name != "seal"}
    return hashlib.sha256(write_json(fields).encode()).digest()


def _plain(value: Any) -> object:
    """A decimal as the database gives it back may have other zeros at its end."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value.hex() if isinstance(value, bytes) else value


def read_quote(row: QuoteRow) -> Quote:
    """The quote as it was handed out. Raises ReceiptDamaged."""
    seen_at = read_json(row.seen_at, SeenAt, "seen_at")
    if not 0.0 <= (seen_at.block_time or 0.0) < NO_TIME_S:
        raise ReceiptDamaged("The column seen_at of this receipt has a time that never is.")
    return Quote(
        quote_id=row.quote_id,
        terms=terms_of(row),
        list_price=read_json(row.list_price, ListPrice, "list_price"),
        ton=ton_of(row),
        technical=read_json(row.technical, TechnicalPrice, "technical"),
        market=read_json(row.market, MarketInputs, "market"),
        price=Price(
            asset=row.price_asset, usd=row.price_usd, source=row.price_source, observed_at=row.price_observed_at
        ),
        params_version=row.params_version,
        params_hash=row.params_hash,
        code_version=row.code_version,
        issued_at=row.issued_at,
        valid_until=row.deadline,
        waiting_period_s=row.waiting_period_s,
        chain_offset_s=row.chain_offset_s,
        capacity=read_json(row.capacity, Capacity, "capacity"),
        sufficient=row.sufficient,
        on_sale=read_json(row.on_sale, tuple[str, ...], "on_sale"),
        seen_at=seen_at,
        purchase=Purchase(
            buyer=row.buyer,
            network_id=row.network_id,
            factory=row.factory,
            signature=row.signature,
            public_key=row.public_key,
            body=row.body,
            payload_hash=row.payload_hash.hex(),
            value_nano=row.value_nanoton,
        ),
    )


def terms_of(row: QuoteRow) -> Terms:
    """What cover was wanted; the ids as they are stored."""
    return Terms(
        product=Product(row.coverage_type, row.chain_id, row.stablecoin_id), amount_usd=row.amount_usd, days=row.days
    )


def ton_of(row: QuoteRow) -> TonTerms:
    """The cover in nanoTON as it is stored."""
    return TonTerms(
        coverage_nano=row.coverage_nanoton,
        list_premium_nano=row.list_premium_nanoton,
        premium_nano=row.premium_nanoton,
        raised_to=row.raised_to,
    )
