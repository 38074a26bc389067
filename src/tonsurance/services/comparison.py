"""Rows of a ledger against those that the chain's events demand: each missing, foreign or altered one by name, and what
would make it right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from tonsurance.core.drift import Fault, Finding, describe_amounts, describe_changes
from tonsurance.core.errors import LedgerRefused, UnknownTranche
from tonsurance.core.events import ChainEvent, Cursor, DecodedTransaction, EventBody
from tonsurance.core.ledger import Entry, Totals, entries_of, post
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.core.tranches import current_apy_percent, utilization
from tonsurance.db.config import select_version
from tonsurance.db.pool import Connection
from tonsurance.db.reconciliation import EntryRepair, EventRepair, LoggedEntry, LoggedEvent, PastRow, Window
from tonsurance.services.config_rows import build_version

LOG, ENTRIES = "blockchain_events", "ledger_entries"
HISTORY, SNAPSHOT = "tranche_utilization_history", "tranche_utilization"
QUARANTINE = "blockchain_quarantine"

_BODY = msgspec.json.Decoder(EventBody)
_AMOUNTS = Totals.__struct_fields__
_Place = tuple[int, int]
"""Logical time and message index."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it must stand in the log, with the versions of ledger and parameters it was posted with."""

    event: ChainEvent
    ledger_version: int
    params_version: int


class Repairs(msgspec.Struct, kw_only=True):
    """What would make the rows those that the chain demands."""

    events: list[EventRepair] = []
    entries: list[EntryRepair] = []
    drops: list[PastRow] = []
    puts: list[PastRow] = []

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.events) + len(self.entries) + len(self.drops) + len(self.puts)

    @property
    def first_lt(self) -> int | None:
        """The earliest of them."""
        rows: Iterable[EventRepair | EntryRepair | PastRow] = (*self.events, *self.entries, *self.drops, *self.puts)
        return min((row.lt for row in rows), default=None)


class Explanation(msgspec.Struct, kw_only=True):
    """What was found after the transaction `after` up to `until`. `totals` is what the chain's events come to, and
    `block_time` the time of the last transaction; `unreadable` are messages no layout explains; `refused` is why the
    events make no ledger, if they do not."""

    after: Cursor
    until: Cursor
    findings: list[Finding] = []
    unreadable: list[Finding] = []
    repairs: Repairs = msgspec.field(default_factory=Repairs)
    totals: dict[str, Totals] = {}
    block_time: int = 0
    refused: str | None = None


class ParamsBook:
    """Parameters by version, as they were stored."""

    def __init__(self) -> None:
        self._known: dict[int, Params] = {DEFAULT_PARAMS.version: DEFAULT_PARAMS}

    async def load(self, conn: Connection, versions: Iterable[int]) -> None:
        """Make these known. Raises LedgerRefused when one was never stored."""
        for version in sorted(set(versions)):
            stored = await select_version(conn, version)
            if stored is not None:
                self._known[version] = build_version(stored)
            elif version not in self._known:
                raise LedgerRefused(
                    f"Events were posted with version {version} of the parameters, which is not stored."
                )

    def __getitem__(self, version: int) -> Params:
        return self._known[version]


class Comparison:
    """Windows of a ledger against what they must hold, one after the other; what differs goes into `found`."""

    def __init__(self, contract: str, vault_id: str, found: Explanation) -> None:
        self.params = ParamsBook()
        self._contract = contract
        self._vault_id = vault_id
        self._found = found
        self._versions = (0, DEFAULT_PARAMS.version)

    def note_unreadable(self, decoded: Iterable[DecodedTransaction]) -> None:
        """Messages that may be events nobody knows."""
        for item in decoded:
            for message in item.undecoded:
                said = f"Message {message.message_index} at logical time {item.cursor.lt} is no event: {message.reason}"
                self._found.unreadable.append(
                    _finding(
                        "blockchain_quarantine",
                        Fault.UNREADABLE,
                        None,
                        None,
                        (item.cursor.lt, message.message_index),
                        said,
                    )
                )

    def compare(self, chain: Sequence[ChainEvent], window: Window) -> None:
        """The next window: its events as the chain tells them, and its rows."""
        demands = list(self._compare_log([*chain, *window.adjusted], window))
        try:
            rows = list(self._post(demands))
        except (LedgerRefused, UnknownTranche) as error:
            self._found.refused = error.message
            return
        self._compare_entries(rows, window)
        self._compare_history(rows, window)

    def compare_log(self, chain: Sequence[ChainEvent], window: Window) -> None:
        """The next window of a contract whose events make no entries: only its log."""
        for _ in self._compare_log(chain, window):
            pass

    def fold(self, window: Window) -> None:
        """A window whose log is taken as it is: only what follows from it is compared."""
        self.compare(
            [read_logged(self._contract, row) for row in window.log], msgspec.structs.replace(window, adjusted=())
        )

    def compare_beyond(self, window: Window) -> None:
        """Rows that no transaction read until now can have left."""
        for row in window.log:
            self._drop_event(row)
        for entry in window.entries:
            self.drop_entry(entry, None)
        for past in window.history:
            self._drop_past(past, None)

    def _compare_log(self, wanted: Iterable[ChainEvent], window: Window) -> Iterator[Demand]:
        chain = {(event.lt, event.message_index): event for event in wanted}
        log = {(row.lt, row.message_index): row for row in window.log}
        for place in sorted(chain.keys() | log.keys()):
            event, row = chain.get(place), log.get(place)
            if event is None:
                if row is not None:
                    self._drop_event(row)
                continue
            if row is None:
                self._versions = _find_versions(place, window, self._versions)
                self._restore_event(event)
            else:
                self._versions = (row.ledger_version, row.params_version)
                if altered := list(_differing(event, row)):
                    self._alter_event(event, altered)
            yield Demand(event=event, ledger_version=self._versions[0], params_version=self._versions[1])

    def _drop_event(self, row: LoggedEvent) -> None:
        place = (row.lt, row.message_index)
        said = f"{_at(row.event_type, place)} stands in the log and not on the chain."
        self._find(LOG, Fault.FOREIGN, row.event_type, None, place, said)
        self._repair_event(place, None, said)

    def _restore_event(self, event: ChainEvent) -> None:
        place = (event.lt, event.message_index)
        said = f"{_at(event.event_type, place)} is missing in the log."
        self._find(LOG, Fault.MISSING, event.event_type, None, place, said)
        self._repair_event(place, event, said)

    def _alter_event(self, event: ChainEvent, altered: Sequence[str]) -> None:
        place = (event.lt, event.message_index)
        said = f"{_at(event.event_type, place)} stands altered in the log: {', '.join(altered)}."
        self._find(LOG, Fault.ALTERED, event.event_type, None, place, said)
        self._repair_event(place, event, said)

    def _repair_event(self, place: _Place, event: ChainEvent | None, why: str) -> None:
        version, params_version = self._versions
        self._found.repairs.events.append(
            EventRepair(
                lt=place[0],
                message_index=place[1],
                event=event,
                ledger_version=version,
                params_version=params_version,
                why=why,
            )
        )

    def _post(self, demands: Iterable[Demand]) -> Iterator[tuple[Demand, Entry, Totals]]:
        totals = self._found.totals
        for demand in demands:
            for entry in entries_of(demand.event.body):
                totals[entry.tranche_id] = post(totals.get(entry.tranche_id, Totals()), entry)
                yield demand, entry, totals[entry.tranche_id]

    def _compare_entries(self, rows: Sequence[tuple[Demand, Entry, Totals]], window: Window) -> None:
        held = {(row.lt, row.message_index, row.entry.tranche_id): row for row in window.entries}
        for demand, entry, _ in rows:
            event = demand.event
            row = held.pop((event.lt, event.message_index, entry.tranche_id), None)
            wanted = LoggedEntry(
                contract=event.contract,
                vault_id=self._vault_id,
                lt=event.lt,
                message_index=event.message_index,
                entry=entry,
                ledger_version=demand.ledger_version,
            )
            if row != wanted:
                self._put_entry(wanted, event.event_type, row)
        types = {(demand.event.lt, demand.event.message_index): demand.event.event_type for demand, _, _ in rows}
        for row in held.values():
            self.drop_entry(row, types.get((row.lt, row.message_index)))

    def _put_entry(self, wanted: LoggedEntry, event_type: str, row: LoggedEntry | None) -> None:
        place, tranche_id = (wanted.lt, wanted.message_index), wanted.entry.tranche_id
        what = f"The entry of {tranche_id} for {_at(event_type, place)}"
        said = (
            f"{what} is missing."
            if row is None
            else f"{what} stands altered: {', '.join(_entry_changes(wanted, row))}."
        )
        self._find(ENTRIES, Fault.MISSING if row is None else Fault.ALTERED, event_type, tranche_id, place, said)
        self._found.repairs.entries.append(
            EntryRepair(
                contract=wanted.contract,
                lt=wanted.lt,
                message_index=wanted.message_index,
                entry=wanted.entry,
                ledger_version=wanted.ledger_version,
                why=said,
            )
        )

    def drop_entry(self, row: LoggedEntry, event_type: str | None) -> None:
        """An entry that no event demands."""
        place, tranche_id = (row.lt, row.message_index), row.entry.tranche_id
        what = f"The entry of {tranche_id} at logical time {place[0]}, message {place[1]}"
        said = f"{what}, belongs to no event: {describe_amounts(row.entry, _AMOUNTS)}."
        self._find(ENTRIES, Fault.FOREIGN, event_type, tranche_id, place, said)
        self._found.repairs.entries.append(
            EntryRepair(
                contract=row.contract,
                lt=row.lt,
                message_index=row.message_index,
                entry=row.entry,
                ledger_version=None,
                why=said,
            )
        )

    def _compare_history(self, rows: Sequence[tuple[Demand, Entry, Totals]], window: Window) -> None:
        held = {(row.lt, row.message_index, row.tranche_id, row.recorded_at): row for row in window.history}
        wanted = [(demand.event.event_type, self._past(demand, entry, after)) for demand, entry, after in rows]
        kept = [(name, row) for name, row in wanted if window.horizon is None or row.recorded_at >= window.horizon]
        for name, row in kept:
            found = held.pop((row.lt, row.message_index, row.tranche_id, row.recorded_at), None)
            if found != row:
                self._put_past(row, name, found)
        types = {(row.lt, row.message_index): name for name, row in kept}
        for row in held.values():
            self._drop_past(row, types.get((row.lt, row.message_index)))

    def _past(self, demand: Demand, entry: Entry, after: Totals) -> PastRow:
        used = utilization(after.capital, after.coverage)
        return PastRow(
            tranche_id=entry.tranche_id,
            lt=demand.event.lt,
            message_index=demand.event.message_index,
            recorded_at=datetime.fromtimestamp(demand.event.block_time, UTC),
            totals=after,
            capped=used.capped,
            raw=used.raw,
            insolvent=used.insolvent,
            apy=current_apy_percent(self.params[demand.params_version].tranche(entry.tranche_id), used),
            params_version=demand.params_version,
        )

    def _put_past(self, wanted: PastRow, event_type: str, row: PastRow | None) -> None:
        place = (wanted.lt, wanted.message_index)
        what = f"The state of {wanted.tranche_id} after {_at(event_type, place)}"
        said = (
            f"{what} is missing." if row is None else f"{what} stands altered: {', '.join(_past_changes(wanted, row))}."
        )
        fault = Fault.MISSING if row is None else Fault.ALTERED
        self._find(HISTORY, fault, event_type, wanted.tranche_id, place, said)
        self._found.repairs.puts.append(wanted)
        if row is not None:
            self._found.repairs.drops.append(row)

    def _drop_past(self, row: PastRow, event_type: str | None) -> None:
        place = (row.lt, row.message_index)
        said = f"The state of {row.tranche_id} at logical time {place[0]}, message {place[1]}, is after no event."
        self._find(HISTORY, Fault.FOREIGN, event_type, row.tranche_id, place, said)
        self._found.repairs.drops.append(row)

    def _find(
        self, relation: str, fault: Fault, name: str | None, tranche: str | None, place: _Place, said: str
    ) -> None:
        self._found.findings.append(_finding(relation, fault, name, tranche, place, said))


def read_logged(contract: str, row: LoggedEvent) -> ChainEvent:
    """The event a row of the log holds. Raises LedgerRefused when it holds none."""
    try:
        body = _BODY.decode(row.metadata)
    except msgspec.DecodeError as error:
        raise LedgerRefused(f"Event {row.event_id} of the log cannot be read: {error}") from error
    return ChainEvent(
        contract=contract,
        contract_kind=row.contract_type,
        lt=row.lt,
        message_index=row.message_index,
        transaction_hash=bytes.fromhex(row.transaction_hash),
        block_time=int(row.block_time.timestamp()),
        decoder=row.decoder,
        body=body,
        raw_body=row.raw_body,
    )


def _differing(event: ChainEvent, row: LoggedEvent) -> Iterator[str]:
    """The columns in which a row of the log is not the event."""
    wanted = {
        "event_type": event.event_type,
        "policy_id": getattr(event.body, "policy_id", None),
        "contract_type": event.contract_kind,
        "transaction_hash": event.transaction_hash.hex(),
        "raw_body": event.raw_body,
        "block_time": datetime.fromtimestamp(event.block_time, UTC),
    }
    for column, value in wanted.items():
        if getattr(row, column) != value:
            yield column
    try:
        same = _BODY.decode(row.metadata) == event.body
    except msgspec.DecodeError:
        same = False
    if not same:
        yield "metadata"


def _find_versions(place: _Place, window: Window, before: tuple[int, int]) -> tuple[int, int]:
    """The versions a missing event was posted with: what follows from it tells, else its neighbours."""
    entries = (row.ledger_version for row in window.entries if (row.lt, row.message_index) == place)
    params = (row.params_version for row in window.history if (row.lt, row.message_index) == place)
    after = next((row for row in window.log if (row.lt, row.message_index) > place), None)
    ledger_version, params_version = before if after is None else (after.ledger_version, after.params_version)
    return next(entries, ledger_version), next(params, params_version)


def _entry_changes(wanted: LoggedEntry, row: LoggedEntry) -> list[str]:
    own = describe_changes(wanted, row, ("vault_id", "ledger_version"))
    return [*describe_changes(wanted.entry, row.entry, _AMOUNTS), *own]


def _past_changes(wanted: PastRow, row: PastRow) -> list[str]:
    own = describe_changes(wanted, row, ("capped", "raw", "insolvent", "apy", "params_version"))
    return [*describe_changes(wanted.totals, row.totals, _AMOUNTS), *own]


def _at(event_type: str, place: _Place) -> str:
    return f"{event_type} at logical time {place[0]}, message {place[1]}"


def _finding(
    relation: str, fault: Fault, event_type: str | None, tranche_id: str | None, place: _Place, said: str
) -> Finding:
    return Finding(
        relation=relation,
        fault=fault,
        event_type=event_type,
        tranche_id=tranche_id,
        lt=place[0],
        message_index=place[1],
        said=said,
    )


def describe_strays(strayed: Mapping[str, Totals], lt: int) -> Iterator[Finding]:
    """Snapshot rows that are not the last ones of their history, each with by how much."""
    for tranche_id, gap in strayed.items():
        said = f"The row of {tranche_id} is not the last one of its history: {describe_amounts(gap, _AMOUNTS)}."
        yield _finding(SNAPSHOT, Fault.ALTERED, None, tranche_id, (lt, 0), said)
