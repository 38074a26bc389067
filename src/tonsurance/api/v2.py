"""REST, version 2: APY of all tranches, the audit log of chain events, and what the ledger booked for them."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Response, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from tonsurance.api import render, wire
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.event_stream import stream_if_asked
from tonsurance.api.injected import IfNoneMatch, Injected
from tonsurance.api.v1 import BAD_INPUT, NOT_MODIFIED, NOT_READY, answer_tranches
from tonsurance.chain.addresses import parse_address
from tonsurance.core.catalog import parse_tranche_id
from tonsurance.core.errors import InputError
from tonsurance.core.events import POSTED_TYPES
from tonsurance.core.units import BIGINT_MAX
from tonsurance.services.ports import EntryQuery, EventQuery

MAX_EVENTS = 200
MAX_ENTRIES = 200

NO_LEDGER = ResponseSpec(
    wire.Problem, generate_examples=False, media_type=PROBLEM_JSON, description="The ledger cannot be read right now."
)


@get(
    "/api/v2/tranches/apy",
    summary="Target APY of all tranches",
    description="`apy` is the target: the bonding curve at the present utilisation.",
    tags=["tranches"],
    responses={304: NOT_MODIFIED, 503: NOT_READY},
)
async def get_tranches_apy(
    services: Injected, if_none_match: IfNoneMatch = None
) -> Response[wire.TranchesAnswer | None]:
    """Six tranches, or 304."""
    return answer_tranches(services, if_none_match)


@get(
    "/api/v2/events",
    summary="The audit log",
    description="Events in the order in which they were posted. `order=asc` (default) starts with the oldest, "
    "`order=desc` with the newest. `next_after` of one page is `after` of the next; in ascending order the last page's "
    "cursor stays valid for asking again later. With `Accept: text/event-stream` the answer is a stream that goes on: "
    "server-sent events whose ids are event ids, from `Last-Event-ID` or `after` on, else from now on; "
    "`reset` comes first when that place is beyond all there is.",
    tags=["events"],
    responses={400: BAD_INPUT, 503: NO_LEDGER},
    before_request=stream_if_asked,
)
async def get_events(
    services: Injected,
    contract: Annotated[
        str | None, QueryParameter(description="Only this contract; any address form.", max_length=100)
    ] = None,
    event_type: Annotated[
        str | None,
        QueryParameter(name="type", description=f"Only this type: {', '.join(POSTED_TYPES)}.", max_length=100),
    ] = None,
    transaction: Annotated[
        str | None,
        QueryParameter(description="Only events of this transaction: its hash, 64 hexadecimal digits.", max_length=100),
    ] = None,
    policy_id: Annotated[
        int | None, QueryParameter(ge=0, le=BIGINT_MAX, description="Only events that name this policy.")
    ] = None,
    after: Annotated[
        int | None, QueryParameter(ge=0, le=BIGINT_MAX, description="Continue after this `event_id`.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_EVENTS, description="Events on the page.")] = 50,
    order: Annotated[Literal["asc", "desc"], QueryParameter(description="Oldest or newest first.")] = "asc",
) -> wire.EventsAnswer:
    """One page of events."""
    if event_type is not None and event_type not in POSTED_TYPES:
        raise InputError(f"Unknown event type: {event_type[:64]}", advice=f"Valid types: {', '.join(POSTED_TYPES)}.")
    query = EventQuery(
        contract=None if contract is None else parse_address(contract),
        event_type=event_type,
        transaction=None if transaction is None else read_hash(transaction),
        policy_id=policy_id,
        after=after,
        newest_first=order == "desc",
        limit=limit,
    )
    events = await services.ledger.read_events(query)
    return wire.EventsAnswer(
        events=tuple(render.render_event(event) for event in events),
        order=order,
        next_after=str(events[-1].event_id) if events else None,
        timestamp=render.show_now(),
    )


def read_hash(text: str) -> str:
    """A transaction's hash in lower case. Raises InputError."""
    digits = text.lower()
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise InputError(f"A transaction's hash is 64 hexadecimal digits, not {text[:80]!r}.")
    return digits


@get(
    "/api/v2/ledger/entries",
    summary="The ledger's entries",
    description="What each event did to each tranche: the entries whose sums are the tranches' figures, each with its "
    "event and transaction. `order=newest` (default) starts with the last one posted. `next_after` of one page is "
    "`after` of the next; oldest first, the last page's cursor stays valid for asking again later.",
    tags=["events"],
    responses={400: BAD_INPUT, 503: NO_LEDGER},
)
async def get_ledger_entries(
    services: Injected,
    tranche_id: Annotated[
        str | None, QueryParameter(description="Only this tranche; all when left out.", max_length=100)
    ] = None,
    after: Annotated[
        int | None, QueryParameter(ge=0, le=BIGINT_MAX, description="Continue after this `entry_id`.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_ENTRIES, description="Entries on the page.")] = 50,
    order: Annotated[Literal["newest", "oldest"], QueryParameter(description="What comes first.")] = "newest",
) -> wire.EntriesAnswer:
    """One page of entries."""
    query = EntryQuery(
        vault_id=services.settings.vault_id,
        tranche_id=None if tranche_id is None else parse_tranche_id(tranche_id),
        after=after,
        newest_first=order == "newest",
        limit=limit,
    )
    entries = await services.ledger.read_entries(query)
    return wire.EntriesAnswer(
        entries=tuple(render.render_entry(entry) for entry in entries),
        order=order,
        next_after=str(entries[-1].entry_id) if entries else None,
        timestamp=render.show_now(),
    )
