"""Errors of the admin API as problem details that also say `error` and `message`, as its first clients know them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from tonsurance.api.admin_wire import AdminProblem, ParameterProblem
from tonsurance.api.errors import PROBLEM_JSON, answer_known_error, answer_unexpected_error
from tonsurance.core.errors import TonsuranceError
from tonsurance.core.parameters.declaration import Problem
from tonsurance.core.params import InvalidParameters
from tonsurance.services.admin_limits import TooManyRequests
from tonsurance.services.config_plan import Refused

VALIDATION_FAILED = "Validation failed"

STATUS_BY_CODE = {
    "unauthorized": 401,
    "forbidden": 403,
    "too_many_requests": 429,
    "address_locked": 429,
    "bad_input": 400,
    "usage": 400,
    "invalid_parameters": 400,
    "invalid_entry": 400,
    "reason_needed": 400,
    "reserved_category": 400,
    "unknown_parameter": 404,
    "unknown_version": 404,
    "unknown_change": 404,
    "unknown_alert": 404,
    "unknown_entry": 404,
    "parameter_exists": 409,
    "entry_exists": 409,
    "chain_owned": 409,
    "config_conflict": 409,
    "change_decided": 409,
    "too_many_open_changes": 409,
    "cage_exceeded": 422,
}
"""Codes of this part of the API; the others are answered as everywhere."""

_encoder = msgspec.json.Encoder()


def problems_out(problems: tuple[Problem, ...]) -> tuple[ParameterProblem, ...]:
    """What is wrong, for the wire."""
    return tuple(
        ParameterProblem(
            category=problem.category,
            key=problem.key,
            message=problem.reason,
            field=f"{problem.category}/{problem.key}",
        )
        for problem in problems
    )


def answer_admin_error(request: Request[Any, Any, Any], error: TonsuranceError) -> Response[bytes]:
    """Our own errors, by the table above."""
    status = STATUS_BY_CODE.get(error.code)
    if status is None:
        return answer_known_error(request, error)
    problems = problems_out(error.problems) if isinstance(error, InvalidParameters | Refused) else ()
    headers = {}
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    title = VALIDATION_FAILED if isinstance(error, InvalidParameters) else HTTPStatus(status).phrase
    return _respond(request, status, error.code, str(error), title, problems, headers)


def answer_admin_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework's errors: which field of the input is wrong, or only which error it is."""
    status = error.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return answer_unexpected_error(request, error)
    phrase = HTTPStatus(status).phrase
    if isinstance(error, ValidationException):
        extra = error.extra if isinstance(error.extra, list) else []
        found = [f"{item.get('key', '')}: {item.get('message', '')}" for item in extra if isinstance(item, dict)]
        detail = "; ".join(found) or "The input cannot be used."
        return _respond(request, status, "bad_input", detail, VALIDATION_FAILED, (), {})
    return _respond(request, status, phrase.lower().replace(" ", "_"), f"{phrase}.", phrase, (), {})


def _respond(
    request: Request[Any, Any, Any],
    status: int,
    code: str,
    detail: str,
    title: str,
    problems: tuple[ParameterProblem, ...],
    headers: dict[str, str],
) -> Response[bytes]:
    request_id = request.scope.get("request_id")
    body = AdminProblem(
        type=f"urn:tonsurance:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        error=title,
        message=detail,
        code=code,
        errors=problems or None,
        request_id=request_id if isinstance(request_id, str) else None,
    )
    return Response(_encoder.encode(body), status_code=status, media_type=PROBLEM_JSON, headers=headers)
