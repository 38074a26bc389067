"""Errors as problem details (RFC 9457): one table from code to status, and nothing internal in the text."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from tonsurance import log
from tonsurance.api.wire import FieldError, Problem
from tonsurance.core.errors import BadField, InputError, NotReady, PriceUnavailable, TonsuranceError, UnknownTranche

logger = log.get("api")

PROBLEM_JSON = "application/problem+json"

STATUS_BY_CODE = {
    "bad_input": 400,
    "unknown_tranche": 400,
    "unknown_vault": 404,
    "unknown_alert": 404,
    "invalid_utilization": 400,
    "invalid_address": 400,
    "wrong_network": 400,
    "before_history": 404,
    "in_the_future": 422,
    "too_many_points": 422,
    "idempotency_conflict": 409,
    "vault_follows_chain": 409,
    "capacity_exceeded": 422,
    "unknown_reservation": 404,
    "reservation_ended": 409,
    "quote_needed": 422,
    "quote_used": 409,
    "too_many_reservations": 429,
    "too_many_connections": 429,
    "invalid_product": 422,
    "not_on_sale": 422,
    "unknown_quote": 404,
    "unknown_transaction": 404,
    "quote_expired": 422,
    "refused_now": 422,
    "unknown_policy": 404,
    "price_unavailable": 503,
    "signer_unavailable": 503,
    "signing_refused": 503,
    "receipt_damaged": 409,
    "quote_id_taken": 503,
    "usage": 400,
    "dependency": 503,
    "chain_unavailable": 503,
    "rate_limited": 503,
    "database_unavailable": 503,
    "database_denied": 503,
    "postgres_not_found": 503,
    "not_ready": 503,
    "stale_figures": 503,
    "migration": 503,
    "chain_data": 502,
    "ledger": 409,
    "ledger_refused": 422,
    "cursor_conflict": 409,
}
"""Every code that may reach a caller. What is not here is a 500 without details."""

RETRY_AFTER_S = "1"

_PUBLIC_TEXT = {
    "database_unavailable": "The ledger cannot be read right now.",
    "database_denied": "The ledger cannot be read right now.",
    "migration": "The ledger is not set up yet.",
    "chain_unavailable": "The chain cannot be read right now.",
    "receipt_damaged": "This receipt was damaged where it is kept: POST /api/v2/quotes/{id}/verify tells what is wrong "
    "with it.",
}
"""Codes whose own message may name hosts or users: callers get these words instead."""

_TO_BE_LOOKED_AT = frozenset({"signing_refused", "receipt_damaged"})
"""No outage that ends by itself: somebody has to see to it."""

_encoder = msgspec.json.Encoder()


def encode_problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str | None = None,
    valid_ids: tuple[str, ...] | None = None,
    errors: tuple[FieldError, ...] | None = None,
) -> bytes:
    """The body of every error of this API."""
    problem = Problem(
        type=f"urn:tonsurance:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        error=detail,
        code=code,
        valid_ids=valid_ids,
        errors=errors,
        request_id=request_id,
    )
    return _encoder.encode(problem)


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str | None = None,
    valid_ids: tuple[str, ...] | None = None,
    errors: tuple[FieldError, ...] | None = None,
) -> Response[bytes]:
    """An error as an answer."""
    body = encode_problem(status, code, detail, request_id=request_id, valid_ids=valid_ids, errors=errors)
    headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else {}
    return Response(body, status_code=status, media_type=PROBLEM_JSON, headers=headers)


def _request_id(request: Request[Any, Any, Any]) -> str | None:
    value = request.scope.get("request_id")
    return value if isinstance(value, str) else None


def public_text(error: TonsuranceError) -> str:
    """The error's own words where they are for callers; others may name hosts or users."""
    own_words = error.message if isinstance(error, (InputError, NotReady, PriceUnavailable)) else type(error)().message
    return _PUBLIC_TEXT.get(error.code, own_words)


def answer_known_error(request: Request[Any, Any, Any], error: TonsuranceError) -> Response[bytes]:
    """Our own errors: the table's status, the error's own words where they are for callers."""
    status = STATUS_BY_CODE.get(error.code)
    if status is None:
        return answer_unexpected_error(request, error)
    if not isinstance(error, InputError):
        tell = logger.error if error.code in _TO_BE_LOOKED_AT else logger.warning
        tell("request failed", code=error.code, error=error.message, path=request.scope["path"])
    detail = public_text(error)
    valid = error.valid if isinstance(error, UnknownTranche) else None
    errors = (FieldError(field=error.field, message=detail),) if isinstance(error, BadField) else None
    return problem_response(status, error.code, detail, request_id=_request_id(request), valid_ids=valid, errors=errors)


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework's errors. A 404 or 405 says which it is; validation says which field; others say no more."""
    status = error.status_code
    if isinstance(error, ValidationException):
        return _answer_validation(request, error)
    if status >= 500:
        return answer_unexpected_error(request, error)
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "_")
    return problem_response(status, code, f"{phrase}.", request_id=_request_id(request))


def _answer_validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    extra = error.extra if isinstance(error.extra, list) else []
    errors = tuple(
        FieldError(field=str(item.get("key", "")), message=str(item.get("message", "")))
        for item in extra
        if isinstance(item, dict)
    )
    detail = "; ".join(f"{e.field}: {e.message}" for e in errors) or "The input cannot be used."
    return problem_response(400, "bad_input", detail, request_id=_request_id(request), errors=errors or None)


def answer_unexpected_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Anything else is our fault: logged in full, answered without a word about the inside."""
    logger.error("request crashed", path=request.scope["path"], request_id=_request_id(request), exc_info=error)
    return problem_response(500, "internal", "Something went wrong here.", request_id=_request_id(request))
