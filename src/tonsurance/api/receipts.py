"""REST, version 2: the receipt of a quote, computing it again, and how many quotes became policies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter, SkipValidation

from tonsurance.api import receipt_wire as wire
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.render import render_limits, show_now, show_time
from tonsurance.api.reservations import answer_write_error
from tonsurance.api.wire import Problem
from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.core.products import CHAINS, COVERAGE_TYPES
from tonsurance.services.admin_limits import TooManyRequests
from tonsurance.services.quote_values import Quote
from tonsurance.services.receipts import ConversionRow, Difference, Receipt, Receipts, Verification

AT_ONCE = 2
"""Receipts computed again at the same time: it is work, and anybody may ask for it."""
WAITING = 30
MAX_DAYS = 31
_DEFAULT_DAYS = 7
_MAX_DIGITS = 20
_TELLS_THE_BUYER = frozenset({"body", "signature"})
_HIDDEN = "hidden"

IdInPath = Annotated[str, PathParameter(description="The quote's id: decimal digits.", max_length=100)]


class VerificationGate:
    """Lets few in at once and keeps few waiting; the rest is told to come back."""

    def __init__(self, *, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._inside = 0

    @asynccontextmanager
    async def pass_through(self) -> AsyncIterator[None]:
        """Be one of the few until the block ends. Raises TooManyRequests."""
        if self._inside >= self._most:
            raise TooManyRequests("Too many receipts are being computed again right now.", retry_after_s=1)
        self._inside += 1
        try:
            async with self._free:
                yield
        finally:
            self._inside -= 1


ReceiptsOf = NamedDependency[SkipValidation[Receipts]]
GateOf = NamedDependency[SkipValidation[VerificationGate]]


def _problem(description: str) -> ResponseSpec:
    return ResponseSpec(Problem, generate_examples=False, media_type=PROBLEM_JSON, description=description)


BAD_INPUT = _problem("Bad input: which, and why.")
NO_QUOTE = _problem("There is no such quote, or it is not kept any more. Quotes without a buyer are not kept.")
DAMAGED = _problem("The receipt was damaged where it is kept; computing it again tells what is wrong with it.")
BUSY = _problem("Too many receipts are being computed again right now.")
NO_DATABASE = _problem("The receipts cannot be read right now.")


@get(
    "/{quote_id:str}",
    summary="The receipt of a quote",
    description="All a quote was made of, with the versions of the parameters and the code and the stamps of the "
    "price, and what became of it. The buyer is hidden.",
    responses={400: BAD_INPUT, 404: NO_QUOTE, 409: DAMAGED, 503: NO_DATABASE},
)
async def get_receipt(receipts: ReceiptsOf, quote_id: IdInPath) -> wire.ReceiptAnswer:
    """One receipt."""
    return _render_receipt(await receipts.read(read_quote_id(quote_id)))


@post(
    "/{quote_id:str}/verify",
    summary="Compute a quote again",
    description="From what the receipt says it was made of and the parameters of its version: prices to the nano, the "
    "signed message to the byte, and the signature. Whoever changed a receipt is found out.",
    status_code=200,
    responses={400: BAD_INPUT, 404: NO_QUOTE, 429: BUSY, 503: NO_DATABASE},
)
async def verify_receipt(receipts: ReceiptsOf, gate: GateOf, quote_id: IdInPath) -> wire.VerificationAnswer:
    """Equal, or every difference."""
    number = read_quote_id(quote_id)
    async with gate.pass_through():
        return _render_verification(await receipts.verify(number))


@get(
    "/conversion",
    summary="Quotes that became policies",
    description=f"By the day (UTC) they were issued, coverage type and chain; quotes with a buyer only. At most "
    f"{MAX_DAYS} days at once; without `from` and `to` the last {_DEFAULT_DAYS}.",
    responses={400: BAD_INPUT, 503: NO_DATABASE},
)
async def get_conversion(
    receipts: ReceiptsOf,
    first: Annotated[
        str | None, QueryParameter(name="from", description="The first day: 2026-11-20.", max_length=20)
    ] = None,
    last: Annotated[
        str | None, QueryParameter(name="to", description="The last day, included: 2026-11-20.", max_length=20)
    ] = None,
) -> wire.ConversionAnswer:
    """Counts and ratios."""
    begin, end = choose_days(_read_day("from", first), _read_day("to", last))
    rows = await receipts.conversion(begin, end)
    return wire.ConversionAnswer(
        first=begin.isoformat(),
        last=end.isoformat(),
        **_sum(rows),
        days=tuple(
            wire.ConversionDay(
                day=row.day.isoformat(),
                coverage_type=COVERAGE_TYPES[row.coverage_type],
                chain=CHAINS[row.chain_id],
                **_sum([row]),
            )
            for row in rows
        ),
        timestamp=show_now(),
    )


def make_receipt_router(receipts: Receipts, gate: VerificationGate | None = None) -> Router:
    """The routes below /api/v2/quotes."""
    only_gate = gate or VerificationGate()

    def provide_receipts() -> Receipts:
        return receipts

    def provide_gate() -> VerificationGate:
        return only_gate

    return Router(
        path="/api/v2/quotes",
        route_handlers=[get_receipt, verify_receipt, get_conversion],
        dependencies={
            "receipts": Provide(provide_receipts, sync_to_thread=False),
            "gate": Provide(provide_gate, sync_to_thread=False),
        },
        exception_handlers={TonsuranceError: answer_write_error},
        response_headers={"Cache-Control": "no-store"},
        tags=["quotes"],
    )


def read_quote_id(text: str) -> int:
    """Raises InputError for what is no decimal number."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InputError(f"A quote's id is a decimal number, not {text[:40]!r}.")
    return int(text)


def _read_day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise InputError(f"`{name}` is a day such as 2026-11-20, not {text!r}.") from None


def choose_days(first: date | None, last: date | None) -> tuple[date, date]:
    """The days that are meant. Raises InputError for none, and for more than are given at once."""
    others = timedelta(days=_DEFAULT_DAYS - 1)
    try:
        end = last or (datetime.now(UTC).date() if first is None else first + others)
        begin = first or end - others
    except OverflowError:
        raise InputError("`from` and `to` are days of the calendar.") from None
    if not 0 <= (end - begin).days < MAX_DAYS:
        raise InputError(f"`from` is not after `to`, and at most {MAX_DAYS} days are given at once.")
    return begin, end


def _sum(rows: Iterable[ConversionRow]) -> dict[str, Any]:
    counted = [(row.issued, row.bought, row.refused) for row in rows]
    issued, bought, refused = map(sum, zip(*counted, strict=True)) if counted else (0, 0, 0)
    return {
        "issued": issued,
        "bought": bought,
        "refused": refused,
        "conversion": round(bought / issued, 6) if issued else None,
    }


def _render_receipt(receipt: Receipt) -> wire.ReceiptAnswer:
    quote = receipt.quote
    product, purchase = quote.terms.product, quote.purchase
    if purchase is None:  # there is no receipt of such a quote; this is for the type checker
        raise TypeError("A receipt without a purchase.")
    return wire.ReceiptAnswer(
        quote_id=str(quote.quote_id),
        status=receipt.status,
        policy_id=None if receipt.policy_id is None else str(receipt.policy_id),
        policy_status=receipt.policy_status,
        transaction=receipt.transaction,
        refusal_reason=receipt.refusal_reason,
        network_id=purchase.network_id,
        factory=purchase.factory,
        coverage_type=product.coverage_type,
        chain=product.chain,
        stablecoin=product.stablecoin,
        product_hash=product.hash,
        value_nanoton=str(purchase.value_nano),
        **_render_inputs(quote),
        trigger_bps=receipt.trigger_bps,
        floor_bps=receipt.floor_bps,
        **_render_prices(quote),
    )


def _render_inputs(quote: Quote) -> dict[str, Any]:
    seen, price, room = quote.seen_at, quote.price, quote.capacity
    return {
        "coverage_amount_usd": f"{quote.terms.amount_usd:f}",
        "duration_days": quote.terms.days,
        "market": msgspec.to_builtins(quote.market),
        "ton_price": wire.TonPriceStamp(
            asset=price.asset,
            usd=f"{price.usd:f}",
            source=price.source,
            observed_at=show_time(price.observed_at),
            observed_unix=price.observed_at,
        ),
        "capacity": wire.RoomOut(
            sufficient=quote.sufficient,
            available_nanoton=str(room.available_nano),
            binding_limit=room.binding_limit,
            binding_tranche=room.binding_tranche,
            limits=render_limits(room),
        ),
        "as_of": wire.SeenOut(
            ledger_version=str(seen.ledger_version),
            lt=str(seen.lt),
            seqno=seen.seqno,
            time=None if seen.block_time is None else show_time(seen.block_time),
            stale=seen.stale,
        ),
        "params_version": quote.params_version,
        "params_hash": quote.params_hash,
        "code_version": quote.code_version,
        "issued_at": show_time(quote.issued_at),
        "issued_unix": quote.issued_at,
        "chain_offset_s": quote.chain_offset_s,
        "valid_until": show_time(quote.valid_until),
    }


def _render_prices(quote: Quote) -> dict[str, Any]:
    price, ton = quote.list_price, quote.ton
    return {
        "list_price": wire.ListPriceOut(
            base_rate=str(price.base_rate),
            chain_multiplier=str(price.chain_multiplier),
            stablecoin_adjustment=str(price.stablecoin_adjustment),
            total_rate=str(price.total_rate),
            premium_usd=f"{price.premium_usd:f}",
            exact="/".join(map(str, price.exact)),
        ),
        "list_premium_nanoton": str(ton.list_premium_nano),
        "premium_nanoton": str(ton.premium_nano),
        "minimum_applied": ton.raised_to,
        "coverage_nanoton": str(ton.coverage_nano),
        "technical": msgspec.to_builtins(quote.technical),
    }


def _render_verification(found: Verification) -> wire.VerificationAnswer:
    return wire.VerificationAnswer(
        quote_id=str(found.quote_id),
        equal=found.equal,
        differences=tuple(map(_render_difference, found.differences)),
        params_version=found.params_version,
        params_hash=found.params_hash,
        code_version=found.code_version,
        verified_by=found.verified_by,
        same_code=found.same_code,
        timestamp=show_now(),
    )


def _render_difference(difference: Difference) -> wire.DifferenceOut:
    if difference.field in _TELLS_THE_BUYER:
        return wire.DifferenceOut(field=difference.field, stored=_HIDDEN, recomputed=_HIDDEN)
    return wire.DifferenceOut(field=difference.field, stored=difference.stored, recomputed=difference.recomputed)
