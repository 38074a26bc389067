"""REST, version 1: hold room for a cover, commit it, give it back. Every request may be repeated without harm."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, PathParameter, SkipValidation

from tonsurance.api import render, wire
from tonsurance.api.admin_guard import BODY, ROLE
from tonsurance.api.admin_routes import BEARER, check_body
from tonsurance.api.errors import PROBLEM_JSON, answer_known_error, problem_response
from tonsurance.api.reservation_wire import (
    CapacityProblem,
    CommitBody,
    PartOut,
    ReservationOut,
    ReservationView,
    ReserveBody,
)
from tonsurance.api.write_guard import WriteGuard, Writer, writer_of
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import CapacityExceeded, TonsuranceError
from tonsurance.core.reservations import Outcome, Reservation
from tonsurance.core.units import ton_from_nano
from tonsurance.services.admin_limits import Forbidden, TooManyRequests
from tonsurance.services.admin_tokens import AuthenticationFailed, Role
from tonsurance.services.reservations import Reservations

MAX_BODY_BYTES = 16 * 1024
REPLAYED = {"Idempotent-Replayed": "true"}
_STATUS = {"unauthorized": 401, "forbidden": 403, "too_many_requests": 429, "address_locked": 429}

Service = NamedDependency[SkipValidation[Reservations]]
WriterOf = NamedDependency[SkipValidation[Writer]]
IdInPath = Annotated[str, PathParameter(description="The reservation's id.", max_length=100)]
KeyInHeader = Annotated[
    str,
    HeaderParameter(
        name="Idempotency-Key",
        description="1 to 255 visible ASCII characters, new for each wish and the same for each repetition of it.",
        required=True,
    ),
]


def _problem(description: str, shape: type[wire.Problem] = wire.Problem) -> ResponseSpec:
    return ResponseSpec(shape, generate_examples=False, media_type=PROBLEM_JSON, description=description)


ANSWERS = {
    400: _problem("Bad input: which field, and why."),
    401: _problem("No token, or one that is not valid (any more)."),
    403: _problem("The token's role is not enough."),
    404: _problem("There is no such vault or reservation, or it is somebody else's."),
    409: _problem("The key was used for another request, or the reservation has ended otherwise."),
    429: _problem("Too many requests, or too many open reservations."),
    503: _problem("The database cannot be reached. Repeat the request under the same key."),
}
NO_CAPACITY = {422: _problem("No room: every limit, and the one that binds.", CapacityProblem)}
NO_QUOTE = {422: _problem("The commit has to name the quote that is bought.")}


@post(
    "",
    summary="Hold room for a cover",
    description="201 with the reservation; 200 with the same body and `Idempotent-Replayed: true` when the key was "
    "answered before. A refusal is not remembered: the same key may try again.",
    opt={ROLE: Role.EDITOR, BODY: ReserveBody},
    responses=ANSWERS | NO_CAPACITY,
)
async def post_reservation(
    reservations: Service, writer: WriterOf, data: JSONBody[ReserveBody], idempotency_key: KeyInHeader = ""
) -> Response[ReservationOut]:
    """Reserve."""
    outcome = await reservations.reserve_coverage(
        data.vault_id,
        data.tranche_id,
        int(data.amount_nanoton),
        data.ttl_s,
        idempotency_key,
        writer.principal,
        None if data.quote_id is None else int(data.quote_id),
    )
    return _answer(outcome, HTTPStatus.CREATED)


@get(
    "/{reservation_id:str}",
    summary="One reservation",
    description="As it stands now.",
    opt={ROLE: Role.EDITOR},
    responses={status: ANSWERS[status] for status in (401, 403, 404, 429, 503)},
)
async def get_reservation(reservations: Service, writer: WriterOf, reservation_id: IdInPath) -> ReservationView:
    """Its status, and until when it holds room."""
    return _view(await reservations.get(reservation_id, principal=writer.owner))


@post(
    "/{reservation_id:str}/commit",
    summary="The cover is bought",
    description="On a vault that follows its chain the room stays held until the policy of `quote_id` is seen, for a "
    "limited time; on a direct vault it becomes cover at once. Again: the same answer.",
    status_code=200,
    opt={ROLE: Role.EDITOR, BODY: CommitBody},
    responses=ANSWERS | NO_QUOTE,
)
async def commit_reservation(
    reservations: Service, writer: WriterOf, reservation_id: IdInPath, data: JSONBody[CommitBody | None] = None
) -> Response[ReservationOut]:
    """Commit."""
    quote_id = None if data is None or data.quote_id is None else int(data.quote_id)
    return _answer(await reservations.commit(reservation_id, quote_id=quote_id, principal=writer.owner), HTTPStatus.OK)


@post(
    "/{reservation_id:str}/release",
    summary="Give the room back",
    description="Again: the same answer.",
    status_code=200,
    opt={ROLE: Role.EDITOR},
    responses=ANSWERS,
)
async def release_reservation(
    reservations: Service, writer: WriterOf, reservation_id: IdInPath
) -> Response[ReservationOut]:
    """Release."""
    return _answer(await reservations.release(reservation_id, principal=writer.owner), HTTPStatus.OK)


class WriteParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the writing routes are made of."""

    reservations: Reservations
    guard: WriteGuard


def make_reservation_router(parts: WriteParts) -> Router:
    """All routes below /api/v1/reservations."""

    # A function, because the framework copies any other object once for each route.
    async def check_writer(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        await parts.guard.check(connection, handler)

    def provide_reservations() -> Reservations:
        return parts.reservations

    def provide_writer(request: Request[Any, Any, Any]) -> Writer:
        return writer_of(request)

    return Router(
        path="/api/v1/reservations",
        route_handlers=[post_reservation, get_reservation, commit_reservation, release_reservation],
        guards=[check_writer],
        before_request=check_body,
        dependencies={
            "reservations": Provide(provide_reservations, sync_to_thread=False),
            "writer": Provide(provide_writer, sync_to_thread=False),
        },
        exception_handlers={TonsuranceError: answer_write_error},
        request_max_body_size=MAX_BODY_BYTES,
        cache_control=None,
        response_headers={"Cache-Control": "no-store"},
        security=[{BEARER: []}],
        tags=["reservations"],
    )


def answer_write_error(request: Request[Any, Any, Any], error: TonsuranceError) -> Response[bytes]:
    """Who may not write, and where there is no room; the rest as everywhere."""
    request_id = request.scope.get("request_id")
    known_id = request_id if isinstance(request_id, str) else None
    if isinstance(error, CapacityExceeded):
        return answer_no_capacity(error, known_id)
    if not isinstance(error, AuthenticationFailed | Forbidden | TooManyRequests):
        return answer_known_error(request, error)
    status = _STATUS[error.code]
    answer = problem_response(status, error.code, error.message, request_id=known_id)
    if status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyRequests):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    return answer


def answer_no_capacity(error: CapacityExceeded, request_id: str | None) -> Response[bytes]:
    """422 with every limit and the one that binds."""
    status, room = HTTPStatus.UNPROCESSABLE_ENTITY, error.capacity
    problem = CapacityProblem(
        type=f"urn:tonsurance:problem:{error.code}",
        title=status.phrase,
        status=status,
        detail=error.message,
        error=error.message,
        code=error.code,
        request_id=request_id,
        available_nanoton=str(room.available_nano),
        binding_limit=room.binding_limit,
        binding_tranche=room.binding_tranche,
        limits=render.render_limits(room),
    )
    return Response(msgspec.json.encode(problem), status_code=status, media_type=PROBLEM_JSON)


def _answer(outcome: Outcome, status: HTTPStatus) -> Response[ReservationOut]:
    """201 or 200 with the reservation; 200 and a header when the answer was given before."""
    content = ReservationOut(**_fields(outcome.reservation))
    if outcome.replayed:
        return Response(content, status_code=HTTPStatus.OK, headers=REPLAYED)
    return Response(content, status_code=status)


def _view(one: Reservation) -> ReservationView:
    return ReservationView(
        **_fields(one),
        holds_room=one.holds_room,
        ended_at=None if one.ended_at is None else render.show_time(one.ended_at.timestamp()),
        seen_lt=None if one.seen_lt is None else str(one.seen_lt),
    )


def _fields(one: Reservation) -> dict[str, Any]:
    parts = zip(TRANCHE_IDS, one.split, strict=True)
    return {
        "reservation_id": one.reservation_id,
        "status": one.status.value,
        "vault_id": one.vault_id,
        "tranche_id": one.tranche_id,
        "amount_ton": ton_from_nano(one.amount_nano),
        "amount_nanoton": str(one.amount_nano),
        "split": tuple(PartOut(tranche_id=tranche_id, amount_nanoton=str(part)) for tranche_id, part in parts),
        "quote_id": None if one.quote_id is None else str(one.quote_id),
        "created_at": render.show_time(one.created_at.timestamp()),
        "expires_at": render.show_time(one.expires_at.timestamp()),
    }
