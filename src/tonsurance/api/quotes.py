"""REST, version 2: what a cover costs, with every figure behind it, and what the buyer's wallet has to sign.

Nothing is reserved by a quote, and the server holds no key of a buyer.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter, SkipValidation

from tonsurance.api import wire
from tonsurance.api.admin_guard import BODY
from tonsurance.api.bodies import ExactRequest, check_exact_body, read_decimal
from tonsurance.api.errors import (
    PROBLEM_JSON,
    answer_http_error,
    answer_known_error,
    answer_unexpected_error,
    problem_response,
)
from tonsurance.api.quote_render import render_purchase, render_quote, render_technical_quote
from tonsurance.api.quote_wire import (
    PolicyBody,
    PurchaseAnswer,
    QuoteAnswer,
    QuoteBody,
    RefusalProblem,
    TechnicalAnswer,
)
from tonsurance.api.reservations import answer_no_capacity
from tonsurance.core.errors import BadField, CapacityExceeded, InvalidAddress, TonsuranceError, WrongNetwork
from tonsurance.core.parameters.pricing import STRESS_LEVELS
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS
from tonsurance.core.sale_errors import NotOnSale
from tonsurance.services.quote_purchases import request_purchase
from tonsurance.services.quote_values import Quote
from tonsurance.services.quotes import QuoteDesk

MAX_BODY_BYTES = 16 * 1024
QUOTE_PATH = "/api/v2/quote/multi-dimensional"
_NEEDED = ("coverage_type", "chain", "stablecoin", "coverage_amount", "duration_days", "buyer")

Desk = NamedDependency[SkipValidation[QuoteDesk]]


def _problem(description: str, shape: type[Any] = wire.Problem) -> ResponseSpec:
    return ResponseSpec(shape, generate_examples=False, media_type=PROBLEM_JSON, description=description)


BAD_INPUT = _problem("Bad input: which field, and why.")
AWAY = _problem("There is no TON price of now (and how old it is), the figures are too old, or no quote can be signed.")
REFUSED = _problem(
    "There is no such cover, and why; for a buyer also: not sold now, or no room, which names every limit.",
    RefusalProblem,
)


@post(
    QUOTE_PATH,
    summary="A quote",
    description="The list price of a cover with its breakdown, in US dollars and in TON at a stamped price; the "
    "technical premium beside it; whether there is room (a hint: the vault decides) and whether it is sold. With "
    "`buyer` the quote is signed and kept, and `transaction` is what the buyer's wallet sends, in TON Connect's form. "
    "Nothing is reserved.",
    status_code=200,
    opt={BODY: QuoteBody},
    responses={400: BAD_INPUT, 422: REFUSED, 503: AWAY},
)
async def post_quote(desk: Desk, data: JSONBody[QuoteBody]) -> QuoteAnswer:
    """A price, or with a buyer a purchase to sign."""
    return await answer_quote(desk, data)


async def answer_quote(desk: QuoteDesk, asked: QuoteBody) -> QuoteAnswer:
    """The same, wherever the body was read."""
    return render_quote(await make_quote(desk, asked))


async def make_quote(desk: QuoteDesk, asked: QuoteBody) -> Quote:
    """The quote that a body asks for."""
    return await desk.quote(
        asked.coverage_type,
        asked.chain,
        asked.stablecoin,
        asked.coverage_amount,
        asked.duration_days,
        asked.buyer,
    )


def _one_of(names: tuple[str, ...]) -> QueryParameter:
    return QueryParameter(description=f"One of {', '.join(names)}.", max_length=64)


@get(
    ["/api/v2/quote/{stablecoin:str}/{amount:str}", "/quote/{stablecoin:str}/{amount:str}"],
    summary="The technical premium",
    description="What a cover should cost by the risk of its coin and by the market, with every factor; the list price "
    "is beside it. Nothing can be bought by it: only the trigger .97 is sold, at the list price.",
    responses={400: BAD_INPUT, 422: _problem("There is no such cover, and why."), 503: AWAY},
)
async def get_technical_quote(
    desk: Desk,
    stablecoin: Annotated[str, PathParameter(description=f"One of {', '.join(STABLECOINS)}.", max_length=64)],
    amount: Annotated[str, PathParameter(description="Cover in US dollars, decimal digits.", max_length=64)],
    days: Annotated[int, QueryParameter(description="How long the cover lasts.")] = 90,
    coverage_type: Annotated[str, _one_of(COVERAGE_TYPES)] = "depeg",
    chain: Annotated[str, _one_of(CHAINS)] = "Ethereum",
    trigger: Annotated[
        str, QueryParameter(description="US dollars of the coin below which the cover pays.", max_length=64)
    ] = "0.97",
    stress: Annotated[
        str | None,
        QueryParameter(description=f"{', '.join(STRESS_LEVELS)}; the market's when left out.", max_length=64),
    ] = None,
) -> TechnicalAnswer:
    """The premium and its factors."""
    made = await desk.price_technical(
        coverage_type,
        chain,
        stablecoin,
        read_decimal("amount", amount),
        days,
        trigger=read_decimal("trigger", trigger),
        stress=stress,
    )
    return render_technical_quote(made)


def make_purchase_handler(desk: QuoteDesk) -> HTTPRouteHandler:
    """POST at the path of the policies, which have a router of their own."""

    @post(
        "/",
        summary="Build a purchase",
        description="What the buyer's wallet has to sign: for a quote that was made for a buyer, by `quote_id` and "
        "that `buyer` while it is valid, or for a new one. Nothing is sent; the contract takes it from that buyer's "
        "wallet alone, and once.",
        status_code=200,
        opt={BODY: PolicyBody},
        responses={
            400: BAD_INPUT,
            404: _problem("There is no such quote for this buyer, or it is not kept any more."),
            409: _problem("A policy was bought by this quote already, or its receipt was damaged where it is kept."),
            422: REFUSED,
            503: AWAY,
        },
        request_class=ExactRequest,
        before_request=check_exact_body,
        exception_handlers=make_error_handlers(),
        request_max_body_size=MAX_BODY_BYTES,
        response_headers={"Cache-Control": "no-store"},
        tags=["quotes"],
    )
    async def build_policy(data: JSONBody[PolicyBody]) -> PurchaseAnswer:
        """The transaction of a kept quote, or of a new one."""
        quote = await _find_or_make(desk, data)
        request = request_purchase(quote)
        if quote.purchase is None or request is None:
            raise BadField("buyer", "A purchase needs a buyer.")
        return render_purchase(quote, quote.purchase, request)

    return build_policy


async def _find_or_make(desk: QuoteDesk, asked: PolicyBody) -> Quote:
    if asked.quote_id is not None:
        beside = next((name for name in _NEEDED if name != "buyer" and getattr(asked, name) is not None), None)
        if beside is not None:
            raise BadField(beside, f"{beside} is the quote's own when quote_id is given.")
        if asked.buyer is None:
            raise BadField("buyer", "buyer is missing: a quote is handed to the one it was made for.")
        return await desk.find(int(asked.quote_id), asked.buyer)
    missing = next((name for name in _NEEDED if getattr(asked, name) is None), None)
    if missing is not None:
        raise BadField(missing, f"{missing} is missing: give it, or the quote_id of a kept quote.")
    return await make_quote(desk, msgspec.convert({name: getattr(asked, name) for name in _NEEDED}, QuoteBody))


def answer_quote_error(request: Request[Any, Any, Any], error: TonsuranceError) -> Response[bytes]:
    """The field at fault, the limits without room, the reasons not to sell; the rest as everywhere. Never cached."""
    return _forbid_caching(_show_error(request, error))


def answer_quote_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework's errors, never cached."""
    return _forbid_caching(answer_http_error(request, error))


def answer_quote_crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """What is our fault, never cached."""
    return _forbid_caching(answer_unexpected_error(request, error))


def make_error_handlers() -> dict[int | type[Exception], Any]:
    """For the framework: how the quotes' routes answer errors."""
    return {
        TonsuranceError: answer_quote_error,
        HTTPException: answer_quote_http_error,
        Exception: answer_quote_crash,
    }


def _forbid_caching(response: Response[bytes]) -> Response[bytes]:
    response.set_header("Cache-Control", "no-store")
    return response


def _show_error(request: Request[Any, Any, Any], error: TonsuranceError) -> Response[bytes]:
    request_id = request.scope.get("request_id")
    known_id = request_id if isinstance(request_id, str) else None
    if isinstance(error, CapacityExceeded):
        return answer_no_capacity(error, known_id)
    if isinstance(error, NotOnSale):
        return _answer_not_on_sale(error, known_id)
    field = "buyer" if isinstance(error, InvalidAddress | WrongNetwork) else getattr(error, "field", None)
    if isinstance(error, BadField | InvalidAddress | WrongNetwork) and field is not None:
        errors = (wire.FieldError(field=field, message=error.message),)
        return problem_response(400, error.code, error.message, request_id=known_id, errors=errors)
    return answer_known_error(request, error)


def _answer_not_on_sale(error: NotOnSale, request_id: str | None) -> Response[bytes]:
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    problem = RefusalProblem(
        type=f"urn:tonsurance:problem:{error.code}",
        title=status.phrase,
        status=status,
        detail=error.message,
        error=error.message,
        code=error.code,
        request_id=request_id,
        reasons=error.reasons,
    )
    return Response(msgspec.json.encode(problem), status_code=status, media_type=PROBLEM_JSON)


def make_quote_router(desk: QuoteDesk) -> Router:
    """The quotes' routes."""

    def provide_desk() -> QuoteDesk:
        return desk

    return Router(
        path="/",
        route_handlers=[post_quote, get_technical_quote],
        request_class=ExactRequest,
        before_request=check_exact_body,
        dependencies={"desk": Provide(provide_desk, sync_to_thread=False)},
        exception_handlers=make_error_handlers(),
        request_max_body_size=MAX_BODY_BYTES,
        cache_control=None,
        response_headers={"Cache-Control": "no-store"},
        tags=["quotes"],
    )
