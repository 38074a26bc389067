"""The audit log as a stream of server-sent events: what GET /api/v2/events answers to `Accept: text/event-stream`.

Every message has its `event_id` as its id, so a reader that comes back with `Last-Event-ID` misses nothing and gets
nothing twice. The stream is read from the ledger page by page; the hub only says when to look again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.response import Stream

from tonsurance import log
from tonsurance.api import render
from tonsurance.api.errors import public_text
from tonsurance.api.injected import Services
from tonsurance.api.ws import Admission, network_of
from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import InputError, TonsuranceError, TooManyStreams
from tonsurance.core.events import POSTED_TYPES
from tonsurance.core.units import BIGINT_MAX
from tonsurance.services.hub import Client
from tonsurance.services.live_feed import EVENTS_CHANNEL
from tonsurance.services.ports import EventQuery, PostedEvent

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE_S = 15.0
PAGE_EVENTS = 100
RETRY_MS = 1_000
AFTER_FAILURE_S = 0.5
_LAST_ID = "Last-Event-ID"

logger = log.get("event_stream")


class EventStreams:
    """Makes streams, at most as many as there may be connections, in all and from one address."""

    def __init__(self, services: Services, *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._services = services
        self._admission = Admission(services.settings)
        self._keep_alive_s = keep_alive_s

    def open(self, query: EventQuery, address: str) -> AsyncIterator[bytes]:
        """The stream from the event after `query.after` on (None: from now on). Raises TooManyStreams."""
        if not self._admission.enter(address):
            raise TooManyStreams("There are too many open streams from this address.")
        return self._read(query, address)

    async def _read(self, query: EventQuery, address: str) -> AsyncIterator[bytes]:
        client, hub = Client(f"stream_{secrets.token_hex(4)}"), self._services.hub
        hub.join(client)
        hub.subscribe(client, EVENTS_CHANNEL)
        try:
            last, reset = await self._find_place(query.after)
            yield (f"retry: {RETRY_MS}\nid: {last}\n" + ("event: reset\ndata: {}\n" if reset else "") + "\n").encode()
            degraded = False
            while not client.kicked.is_set():
                wanted = msgspec.structs.replace(query, after=last, limit=PAGE_EVENTS)
                try:
                    page = await self._services.ledger.read_events(wanted)
                except TonsuranceError as error:  # said once, and tried again: the reader's place is kept
                    if not degraded:
                        yield frame_failure(error)
                    degraded = True
                    await self._hear(client, AFTER_FAILURE_S)
                    continue
                degraded = False
                if page:
                    last = page[-1].event_id
                    yield b"".join(map(frame_event, page))
                elif not await self._hear(client, self._keep_alive_s):
                    yield b": still here\n\n"
        finally:
            hub.leave(client)
            self._admission.leave(address)

    async def _find_place(self, after: int | None) -> tuple[int, bool]:
        """The event to go on after; True when the reader's place is beyond all there is: of another ledger."""
        if after is None:
            return self._services.reads.snapshot.state.last_event_id, False
        try:
            newest = await self._services.ledger.read_events(EventQuery(newest_first=True, limit=1))
        except TonsuranceError:
            return after, False  # the loop says so, and keeps the place
        last = newest[0].event_id if newest else 0
        return (last, True) if after > last else (after, False)

    async def _hear(self, client: Client, longest_s: float) -> bool:
        """Wait for news of the ledger; False when there was none for a while."""
        kicked = asyncio.ensure_future(client.kicked.wait())
        heard = asyncio.ensure_future(client.queue.get())
        try:
            await asyncio.wait((kicked, heard), timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
            told = heard.done()
        finally:
            for waiting in (kicked, heard):
                waiting.cancel()
        if told:
            client.queue.task_done()
        while not client.queue.empty():
            client.queue.get_nowait()
            client.queue.task_done()
        return told or client.kicked.is_set()


def frame_event(event: PostedEvent) -> bytes:
    """One message: the event as REST shows it, under its id and type."""
    body = msgspec.json.encode(render.render_event(event)).decode()
    return f"id: {event.event_id}\nevent: {event.event_type}\ndata: {body}\n\n".encode()


def frame_failure(error: TonsuranceError) -> bytes:
    """Says that the ledger cannot be read now. It has no id: the reader's place stays."""
    body = msgspec.json.encode({"code": error.code, "message": public_text(error)}).decode()
    return f"event: degraded\ndata: {body}\n\n".encode()


async def stream_if_asked(request: Request[object, object, State]) -> Stream | None:
    """The stream, for a request that accepts nothing but it or names it first; None: the page of events is wanted."""
    accepted = request.headers.get("accept", "").split(",")[0].partition(";")[0].strip().lower()
    if accepted != MEDIA_TYPE:
        return None
    streams: EventStreams = request.app.state.event_streams
    query = read_query(request.query_params, request.headers.get(_LAST_ID))
    address = network_of(request.client.host) if request.client else "unknown"
    return Stream(
        streams.open(query, address),
        headers={"content-type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def read_query(parameters: Mapping[str, str], last_id: str | None) -> EventQuery:
    """Which events are wanted: `contract`, `type`, `policy_id`, and `after` or, before it, the id read last."""
    event_type, contract = parameters.get("type"), parameters.get("contract")
    if event_type is not None and event_type not in POSTED_TYPES:
        raise InputError(f"Unknown event type: {event_type[:64]}", advice=f"Valid types: {', '.join(POSTED_TYPES)}.")
    return EventQuery(
        contract=None if contract is None else parse_address(contract),
        event_type=event_type,
        policy_id=_read_number("policy_id", parameters.get("policy_id")),
        after=_read_number(_LAST_ID, last_id) if last_id else _read_number("after", parameters.get("after")),
    )


def _read_number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= BIGINT_MAX):
        raise InputError(f"{name} is a whole number, not {text[:40]!r}.")
    return int(text)
