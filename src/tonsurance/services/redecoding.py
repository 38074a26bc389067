"""What was kept of every message, read again with the layouts of today: what waits in quarantine, and the log.

Nothing is changed here. Messages are read in the order of their contract's history, because a policy that still cannot
be applied keeps everything that happens to it waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import msgspec

from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout, load_layout
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import ChainEvent, Cursor, EventBody, LedgerAdjusted, PolicyCreated
from tonsurance.core.policies import policy_of
from tonsurance.core.products import find_unknown_dimension
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.pool import Connection
from tonsurance.db.quarantine import DecodedContract, KeptMessage, select_logged, select_quarantined
from tonsurance.db.shadow import START, Place
from tonsurance.services.rebuilding import Progress
from tonsurance.services.superseded import AdjustedPlace

MOST_NAMED = 20
_BATCH = 2_000
_SAY_EVERY = 50_000
_MOST_REASONS = 20
_BODY = msgspec.json.Decoder(EventBody)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that stay in quarantine for one reason; the place is the first one's."""

    contract: str
    lt: int
    message_index: int
    reason: str
    messages: int


class ReadOtherwise(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log that its own message does not tell by the layout of today."""

    contract: str
    lt: int
    message_index: int
    event_type: str
    said: str


class Redecoded(msgspec.Struct, kw_only=True):
    """What was found. `late` are events that are not in the log; `resolved` are rows of the quarantine that need not
    wait, with what they are; `adjusted` is where vaults were adjusted."""

    quarantined: int = 0
    logged: int = 0
    late: list[ChainEvent] = []
    resolved: list[tuple[int, str]] = []
    waiting: dict[str, Waiting] = {}
    differing: int = 0
    differences: list[ReadOtherwise] = []
    skipped: list[str] = []
    adjusted: dict[str, list[AdjustedPlace]] = {}


class Redecoder:
    """Reads everything that was kept of some contracts. `layout`: with this one instead of each contract's own."""

    def __init__(self, conn: Connection, layout: Layout | None, progress: Progress) -> None:
        self.found = Redecoded()
        self._conn = conn
        self._layout = layout
        self._progress = progress
        self._loaded: dict[str, Layout] = {}

    async def read(self, contract: DecodedContract) -> None:
        """Everything of one contract. Raises UsageError when its layout cannot be read."""
        layout = self._layout or self._load(contract.layout or DEFAULT_LAYOUT)
        if contract.kind not in layout.kinds:
            self.found.skipped.append(f"{contract.address}: the layout {layout.name} says nothing of {contract.kind}.")
            return
        decoder = Decoder(layout, contract=contract.address, kind=contract.kind)
        logged: dict[Place, EventBody] = {}
        waits = [row async for row in _pages(partial(select_quarantined, self._conn, contract.address))]
        places = {row.place for row in waits}
        async for row in _pages(partial(select_logged, self._conn, contract.address)):
            if row.place in places:
                logged[row.place] = _read_body(row)
            self._compare(decoder, row)
        self._resolve(decoder, waits, logged)

    def _load(self, name: str) -> Layout:
        if name not in self._loaded:
            self._loaded[name] = load_layout(name)
        return self._loaded[name]

    def _compare(self, decoder: Decoder, row: KeptMessage) -> None:
        """An event of the log against its message."""
        found = self.found
        found.logged += 1
        if found.logged % _SAY_EVERY == 0:
            self._progress(f"Read {found.logged:,} events of the log again.")
        body = _read_body(row)
        if isinstance(body, LedgerAdjusted):  # no message told it
            self._note_adjusted(decoder.contract, row)
            return
        said = _tell_difference(body, read_message(decoder, row))
        if said is None:
            return
        found.differing += 1
        if len(found.differences) < MOST_NAMED:
            found.differences.append(
                ReadOtherwise(
                    contract=decoder.contract,
                    lt=row.lt,
                    message_index=row.message_index,
                    event_type=type(body).__name__,
                    said=said,
                )
            )

    def _note_adjusted(self, contract: str, row: KeptMessage) -> None:
        """Rows come in order: the first of a transaction has the lowest index."""
        places = self.found.adjusted.setdefault(contract, [])
        if not places or places[-1].lt != row.lt:
            places.append(
                AdjustedPlace(
                    lt=row.lt, lowest_index=row.message_index, transaction_hash=row.hash, block_time=row.block_time
                )
            )

    def _resolve(self, decoder: Decoder, rows: list[KeptMessage], logged: dict[Place, EventBody]) -> None:
        unknown: set[int] = set()
        self.found.quarantined += len(rows)
        for row in rows:
            reading = read_message(decoder, row)
            reason = _find_reason(row, reading, unknown)
            if reason is not None:
                self._wait(decoder.contract, row, reason)
            elif isinstance(reading, ChainEvent) and row.place not in logged:
                self.found.late.append(reading)
                self.found.resolved.append((row.row_id, f"{decoder.layout.name}: {reading.event_type}"))
            elif not isinstance(reading, ChainEvent):
                self.found.resolved.append((row.row_id, f"{decoder.layout.name}: no event of ours"))
            elif logged[row.place] == reading.body:
                self.found.resolved.append((row.row_id, f"{decoder.layout.name}: was in the log"))
            else:
                self._wait(decoder.contract, row, "The log holds another event in its place.")

    def _wait(self, contract: str, row: KeptMessage, reason: str) -> None:
        waiting = self.found.waiting
        if reason not in waiting and len(waiting) >= _MOST_REASONS:
            reason = "There are other reasons."
        known = waiting.get(reason) or Waiting(
            contract=contract, lt=row.lt, message_index=row.message_index, reason=reason, messages=0
        )
        waiting[reason] = msgspec.structs.replace(known, messages=known.messages + 1)


_Read = ChainEvent | str | None
"""An event; why there is none; or None: the layout knows the message, and it is no event of ours."""


def read_message(decoder: Decoder, row: KeptMessage) -> _Read:
    """A message as its layout tells it now."""
    try:
        decoded = decoder.decode_kept(
            row.raw_body,
            message_index=row.message_index,
            cursor=Cursor(row.lt, row.hash),
            block_time=row.block_time,
        )
    except DecodeError as error:
        return error.message
    if decoded.events:
        return decoded.events[0]
    return decoded.undecoded[0].reason if decoded.undecoded else None


def _find_reason(row: KeptMessage, reading: _Read, unknown: set[int]) -> str | None:
    """Why the message must wait on; `unknown` are the policies that do, and grows."""
    if not isinstance(reading, ChainEvent):
        if isinstance(reading, str) and row.policy_id is not None:
            unknown.add(row.policy_id)
        return reading
    body, policy_id = reading.body, policy_of(reading.body)
    if policy_id is None:
        return None
    if policy_id > BIGINT_MAX:
        return f"Policy {policy_id} is larger than the ledger can hold."
    if isinstance(body, PolicyCreated):
        missing = find_unknown_dimension(body.coverage_type, body.chain_id, body.stablecoin_id)
        if missing is not None:
            unknown.add(policy_id)
            return f"PolicyCreated of policy {policy_id}: {missing}."
    return f"Policy {policy_id} is in quarantine itself." if policy_id in unknown else None


def _tell_difference(body: EventBody, reading: _Read) -> str | None:
    if isinstance(reading, ChainEvent):
        if reading.body == body:
            return None
        if type(reading.body) is not type(body):
            return f"it would be {reading.event_type} now"
        names = [n for n in body.__struct_fields__ if getattr(body, n) != getattr(reading.body, n)]
        return "other now: " + ", ".join(f"{n} {getattr(body, n)} -> {getattr(reading.body, n)}" for n in names)
    return "it would be no event of ours now" if reading is None else f"it cannot be read now: {reading}"


def _read_body(row: KeptMessage) -> EventBody:
    try:
        body: EventBody = _BODY.decode(row.told)
    except msgspec.DecodeError as error:
        raise DecodeError(f"Event {row.row_id} of the log cannot be read: {error}") from error
    return body


async def _pages(read: Callable[[Place, int], Awaitable[list[KeptMessage]]]) -> AsyncIterator[KeptMessage]:
    after = START
    while page := await read(after, _BATCH):
        for row in page:
            yield row
        after = page[-1].place


def count_types(events: list[ChainEvent]) -> dict[str, int]:
    """How many events of each type."""
    return dict(Counter(event.event_type for event in events))
