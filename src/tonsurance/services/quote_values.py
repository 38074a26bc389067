"""A quote as one value: what was asked, what it costs and why, until when it holds, and what the buyer would send."""

from __future__ import annotations

import msgspec

from tonsurance.core.capacity import Capacity
from tonsurance.core.premium import MarketInputs, TechnicalPrice
from tonsurance.core.prices import Price
from tonsurance.core.quotes import ListPrice, Terms, TonTerms


class SeenAt(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where the ledger was read for a quote: the last chain event, and whether newer ones may be missing.

    Times are unix seconds; `block_time` and `seqno` are None before the first event and where they are unknown.
    """

    ledger_version: int
    lt: int
    seqno: int | None
    block_time: float | None
    stale: bool


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer's wallet would send: to which factory, on which network, and the signed body.

    Addresses are raw; `body` is a bag of cells, `payload_hash` its root's hash in hex; `value_nano` is the premium and
    the gas that goes with it.
    """

    buyer: str
    network_id: int
    factory: str
    signature: bytes
    public_key: bytes
    body: bytes
    payload_hash: str
    value_nano: int


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A cover at a price. Every figure is of one version of the parameters and of one look at the market.

    `issued_at` is unix seconds of our clock; `valid_until` is the deadline in unix seconds of the chain's clock, which
    is ours on public networks. `on_sale` are the reasons why it is not sold now: empty, it is. Without a buyer there is
    no `purchase`, and the quote is not kept. Not kept either are `waiting_period_s` (from the purchase to the cover's
    start, None: not known) and `chain_offset_s` (by how much the chain's clock is ahead of ours).
    """

    quote_id: int
    terms: Terms
    list_price: ListPrice
    ton: TonTerms
    technical: TechnicalPrice
    market: MarketInputs
    price: Price
    params_version: int
    params_hash: str
    code_version: str
    issued_at: float
    valid_until: int
    capacity: Capacity
    sufficient: bool
    on_sale: tuple[str, ...]
    seen_at: SeenAt
    purchase: Purchase | None = None
    waiting_period_s: int | None = None
    chain_offset_s: float = 0.0
