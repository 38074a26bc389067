"""A receipt computed again: from its inputs and the parameters of its version to the nano and the byte.

What cannot be computed, like the room there was, is held against the seal, which is over every column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tonsurance.chain import messages
from tonsurance.chain.ton_connect import MAINNET_ID
from tonsurance.core.capacity import Capacity
from tonsurance.core.cover_prices import Prices, price_cover
from tonsurance.core.errors import InputError
from tonsurance.core.params import Params
from tonsurance.core.premium import MarketInputs
from tonsurance.core.products import find_unknown_dimension
from tonsurance.core.quotes import FLOOR_BPS, TRIGGER_BPS, check_terms, read_list_rates
from tonsurance.db.quotes import QuoteRow
from tonsurance.services.quote_purchases import stretch_validity
from tonsurance.services.quote_signer import MAX_AHEAD_S
from tonsurance.services.receipt_rows import ReceiptDamaged, read_json, seal_row, terms_of, ton_of, write_json

NOT_COMPUTABLE = "cannot be computed"
Differing = Iterator["Difference"]


class Difference(msgspec.Struct, frozen=True):
    """What a receipt says of a field, and what comes out when it is computed again; both as text."""

    field: str
    stored: str
    recomputed: str


def replay(row: QuoteRow, params: Params | None) -> tuple[Difference, ...]:
    """Everything about a receipt that does not come out the same; nothing when all does. Without the parameters it was
    made with (None) no price can be computed; the rest is checked all the same."""
    found = [*_check_seal(row), *_check_terms(row), *_check_signed(row), *_check_room(row)]
    if params is not None:
        found += _check_prices(row, params)
    return tuple(found)


def _check_seal(row: QuoteRow) -> Differing:
    yield from _compare("seal", row.seal.hex(), seal_row(row).hex())


def _check_terms(row: QuoteRow) -> Differing:
    yield from _compare("trigger_bps", row.trigger_bps, TRIGGER_BPS)
    yield from _compare("floor_bps", row.floor_bps, FLOOR_BPS)
    yield from _compare("value_nanoton", row.value_nanoton, row.premium_nanoton + messages.REQUEST_GAS)


def _check_room(row: QuoteRow) -> Differing:
    """Whether the room was named as enough when it was."""
    try:
        room = read_json(row.capacity, Capacity, "capacity")
    except ReceiptDamaged as error:
        yield Difference("capacity", row.capacity, error.message)
        return
    yield from _compare("sufficient", row.sufficient, row.coverage_nanoton <= room.available_nano)


def _check_prices(row: QuoteRow, params: Params) -> Differing:
    try:
        prices = _price(row, params)
    except (InputError, ReceiptDamaged) as error:
        yield Difference("prices", "as stored", f"{NOT_COMPUTABLE}: {error.message}")
        return
    yield from _check_deadline(row, read_list_rates(params).validity_s)
    stored = msgspec.to_builtins(ton_of(row))
    for name, value in msgspec.to_builtins(prices.ton).items():
        yield from _compare(name, stored[name], value)
    yield from _compare_json("list_price", row.list_price, prices.list_price)
    yield from _compare_json("technical", row.technical, prices.technical)


def _check_deadline(row: QuoteRow, validity_s: int) -> Differing:
    """The validity in the chain's seconds. Only a test network's clock may run faster than ours, so that a quote is
    valid for more of its seconds: as many as the factory takes."""
    begun = int(row.issued_at + row.chain_offset_s)
    if row.network_id == MAINNET_ID or not 0 < row.deadline - begun <= MAX_AHEAD_S:
        yield from _compare("deadline", row.deadline, begun + stretch_validity(validity_s, 1.0))


def _price(row: QuoteRow, params: Params) -> Prices:
    unknown = find_unknown_dimension(row.coverage_type, row.chain_id, row.stablecoin_id)
    if unknown is not None:
        raise InputError(f"{unknown}.")
    market = read_json(row.market, MarketInputs, "market")
    stored = terms_of(row)
    terms = check_terms(stored.product, stored.amount_usd, stored.days, read_list_rates(params))
    return price_cover(terms, row.price_usd, market, params)


def _compare_json(column: str, text: str, recomputed: object) -> Differing:
    """Field by field where both are objects, else as a whole."""
    expected = write_json(recomputed)
    if text == expected:
        return
    try:
        stored = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        stored = None
    fields = msgspec.json.decode(expected)
    if not isinstance(stored, dict) or stored == fields:  # equal values in another writing
        yield Difference(column, text, expected)
        return
    for name in sorted({str(key) for key in stored} | fields.keys()):
        yield from _compare(f"{column}.{name}", _show(stored, name), _show(fields, name))


def _show(fields: Mapping[str, Any], name: str) -> str:
    return write_json(fields[name]) if name in fields else "absent"


def _check_signed(row: QuoteRow) -> Differing:
    """The quote's cell, the signature over it, and the body that carries both."""
    try:
        quote = _quote_of(row)
        digest = messages.quote_hash(quote)
        body = messages.create_policy(quote, row.signature)
    except InputError as error:
        yield Difference("body", "as stored", f"{NOT_COMPUTABLE}: {error.message}")
        return
    yield from _compare("signature", row.signature.hex(), _check_signature(row, digest))
    yield from _compare("body", row.body.hex(), messages.boc_of(body).hex())
    yield from _compare("payload_hash", row.payload_hash.hex(), bytes(body.hash).hex())


def _check_signature(row: QuoteRow, digest: bytes) -> str:
    try:
        VerifyKey(row.public_key).verify(digest, row.signature)
    except (BadSignatureError, ValueError):
        return (
            f"not one of this quote by the key {row.public_key.hex()}"  # its hash would tell the buyer to who guesses
        )
    return row.signature.hex()


def _quote_of(row: QuoteRow) -> messages.Quote:
    return messages.Quote(
        network_id=row.network_id,
        factory=row.factory,
        quote_id=row.quote_id,
        coverage_type=row.coverage_type,
        chain_id=row.chain_id,
        stablecoin_id=row.stablecoin_id,
        coverage_amount=row.coverage_nanoton,
        premium=row.premium_nanoton,
        duration_days=row.days,
        buyer=row.buyer,
        deadline=row.deadline,
        trigger_bps=row.trigger_bps,
        floor_bps=row.floor_bps,
    )


def _compare(field: str, stored: object, recomputed: object) -> Differing:
    if stored != recomputed:
        yield Difference(field, str(stored), str(recomputed))
