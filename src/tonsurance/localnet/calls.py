"""A request as far as faults look at it, read without taking it from the application."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tonsurance.localnet.http import MAX_BODY_BYTES, Receive

Message = dict[str, Any]


class Call(msgspec.Struct, frozen=True):
    """A request as far as faults look at it: the API's method, the block it names, and its body to be read again."""

    method: str
    seqno: str | int | None
    receive: Receive


async def read_call(scope: dict[str, Any], receive: Receive) -> Call:
    """What a request asks for. Its body is read, and given to the application again."""
    method = scope["path"].rpartition("/")[2]
    if scope["method"] != "POST":
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        return Call(method, query.get("seqno") or query.get("mc_seqno"), receive)
    events = await _read_events(receive)
    parameters = _read_object(b"".join(event.get("body", b"") for event in events))
    if method == "jsonRPC":
        method, given = str(parameters.get("method")), parameters.get("params")
        parameters = given if isinstance(given, dict) else {}
    return Call(method, parameters.get("seqno"), _replay(events, receive))


async def _read_events(receive: Receive) -> list[Message]:
    """The body as it came, up to what the application itself would read."""
    events, size = [], 0
    while True:
        event = await receive()
        events.append(event)
        size += len(event.get("body", b""))
        if event["type"] != "http.request" or not event.get("more_body", False) or size > MAX_BODY_BYTES:
            return events


def _replay(events: list[Message], receive: Receive) -> Receive:
    waiting = iter(events)

    async def again() -> Message:
        event = next(waiting, None)
        return await receive() if event is None else event

    return again


def _read_object(body: bytes) -> dict[str, Any]:
    """A JSON object; empty when it is none: the application says what is wrong."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(body, type=dict[str, Any])
    return {}
