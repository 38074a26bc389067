"""Requests about reservations decided together, in the order they came, in one database transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from tonsurance import log
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import (
    IdempotencyConflict,
    ReservationEnded,
    TonsuranceError,
    UnknownReservation,
    UnknownVault,
)
from tonsurance.core.limits import read_rules
from tonsurance.core.params import Params
from tonsurance.core.reservations import (
    CommitRequest,
    Outcome,
    ReleaseRequest,
    Request,
    Reservation,
    ReservationStatus,
    ReserveRequest,
    VaultBook,
    check_unused,
    choose_bumped,
    decide_commit,
    decide_release,
    decide_reserve,
    fits_now,
    list_crowded,
    replay,
)
from tonsurance.db import reservations as rows
from tonsurance.db.direct import DirectUpdate, Part, lock_ledger, post_direct
from tonsurance.db.pool import Connection

COMMIT_ROUTE = "reservation"
"""Route of the update that a commit on a direct vault posts; the reservation's id is its key."""

MOST_READ = 20_000
"""More reservations than may be open in a vault."""

Answer = Outcome | TonsuranceError

logger = log.get("reservations")


async def decide_group(conn: Connection, requests: Sequence[Request], params: Params) -> list[Answer]:
    """Decide in the transaction that is open on `conn`; each request gets its outcome or its error.

    A commit on a direct vault is a sale: the ledger is locked before its figures are read, so that nothing moves
    between the look at the limits and the posting. No other request takes that lock.
    """
    named = {request.reservation_id for request in requests if not isinstance(request, ReserveRequest)}
    bought = {request.reservation_id for request in requests if isinstance(request, CommitRequest)}
    asked = [request for request in requests if isinstance(request, ReserveRequest)]
    vault_ids = {request.vault_id for request in asked}
    if named:
        vault_ids |= await rows.select_vaults_of(conn, named)
    await rows.lock_vaults(conn, vault_ids)
    selling = await rows.select_selling(conn, bought) if bought else set()
    if selling:
        await lock_ledger(conn)
    await rows.end_late(conn, vault_ids)
    known = await rows.select_by_identity(conn, {request.identity for request in asked})
    by_id = await rows.select_by_id(conn, named)
    room = await rows.read_room(
        conn, vault_ids, {request.principal for request in asked} | {one.principal for one in by_id.values()}
    )
    quotes = [(request.vault_id, request.quote_id) for request in asked if request.quote_id is not None]
    group = _Group(room, known, by_id, await rows.select_used_quotes(conn, quotes), params)
    await group.make_room(conn, selling)
    answers = [group.take(request) for request in requests]
    return await group.write(conn, answers)


class _Group:
    """The decisions of one transaction until they are stored."""

    def __init__(
        self,
        room: rows.Room,
        known: dict[rows.Identity, Reservation],
        by_id: dict[str, Reservation],
        used_quotes: dict[str, set[int]],
        params: Params,
    ) -> None:
        self._room = room
        self._known = known
        self._by_id = by_id
        self._used_quotes = used_quotes
        self._params = params
        self._rules = read_rules(params)
        self._new: list[Reservation] = []
        self._moved: dict[str, Reservation] = {}
        self._covered: dict[str, Reservation] = {}

    async def make_room(self, conn: Connection, selling: set[str]) -> None:
        """End the youngest reservations where the ledger took room they held, as the keeper does: what is sold next
        must fit beside all that others hold."""
        for vault_id in sorted(selling):
            book = self._room.books[vault_id]
            if list_crowded(book, self._rules):
                open_ones = [one for one in await rows.select_open(conn, vault_id, MOST_READ) if one.holds_room]
                for one in choose_bumped(book, open_ones, self._rules):
                    self._bump(one)

    def _bump(self, found: Reservation) -> None:
        ended = msgspec.structs.replace(found, status=ReservationStatus.BUMPED, ended_at=self._room.now)
        self._moved[found.reservation_id] = ended
        logger.warning("reservation_bumped", reservation=found.reservation_id, vault=found.vault_id)

    def take(self, request: Request) -> Answer:
        """Decide one request, seeing those before it."""
        try:
            if isinstance(request, ReserveRequest):
                return self._reserve(request)
            found = self._find(request)
            if isinstance(request, ReleaseRequest):
                return self._keep(decide_release(self._book(found.vault_id), found, now=self._room.now))
            return self._commit(request, found)
        except TonsuranceError as error:
            return error

    def _reserve(self, request: ReserveRequest) -> Outcome:
        found = self._known.get(request.identity)
        if found is not None:
            return replay(request, found)
        book = self._book(request.vault_id)
        check_unused(request.quote_id, self._used_quotes.get(request.vault_id, ()))
        made = decide_reserve(book, request, self._rules, now=self._room.now, new_id=str(uuid.uuid4()))
        self._known[request.identity] = made
        self._new.append(made)
        return Outcome(reservation=made)

    def _commit(self, request: CommitRequest, found: Reservation) -> Outcome:
        hold_s = self._params.value("risk", "reservation_commit_hold_s")
        book = self._book(found.vault_id)
        outcome = decide_commit(book, found, request.quote_id, hold_s=int(str(hold_s)))
        if book.source == "direct" and not outcome.replayed:
            self._sell(book, found)
        return self._keep(outcome)

    def _sell(self, book: VaultBook, found: Reservation) -> None:
        """Make cover of it. Raises ReservationEnded when it does not fit any more; it is bumped then."""
        if not fits_now(book, found, self._rules):
            book.give_back(found)
            self._bump(found)
            raise ReservationEnded(ReservationStatus.BUMPED)
        book.cover(found)
        self._covered[found.reservation_id] = found

    def _find(self, request: CommitRequest | ReleaseRequest) -> Reservation:
        found = self._moved.get(request.reservation_id) or self._by_id.get(request.reservation_id)
        if found is None or request.principal not in (None, found.principal):
            raise UnknownReservation
        return found

    def _book(self, vault_id: str) -> VaultBook:
        book = self._room.books.get(vault_id)
        if book is None:
            raise UnknownVault(f"There is no vault {vault_id[:64]}.")
        return book

    def _keep(self, outcome: Outcome) -> Outcome:
        if not outcome.replayed:
            self._moved[outcome.reservation.reservation_id] = outcome.reservation
        return outcome

    async def write(self, conn: Connection, answers: list[Answer]) -> list[Answer]:
        """Store what was decided; the answers as they are then."""
        refused = await self._post_covered(conn)
        await rows.move_reservations(conn, [one for one in self._moved.values() if one.reservation_id not in refused])
        stored = await rows.insert_reservations(conn, self._new)
        lost = {one.reservation_id for one in self._new} - stored
        return [self._final(answer, refused, lost) for answer in answers]

    async def _post_covered(self, conn: Connection) -> dict[str, TonsuranceError]:
        """Turn what was committed on direct vaults into cover; returns what the ledger refused."""
        if not self._covered:
            return {}
        updates = [_update_of(one) for one in self._covered.values()]
        refused: dict[str, TonsuranceError] = {}
        for update, outcome in zip(updates, await post_direct(conn, updates, self._params), strict=True):
            if isinstance(outcome, TonsuranceError):
                refused[update.key] = outcome
                continue
            self._moved[update.key] = msgspec.structs.replace(
                self._moved[update.key], seen_lt=outcome.logical_time, ended_at=self._room.now
            )
        return refused

    def _final(self, answer: Answer, refused: dict[str, TonsuranceError], lost: set[str]) -> Answer:
        if isinstance(answer, TonsuranceError):
            return answer
        reservation_id = answer.reservation.reservation_id
        if reservation_id in lost:  # the same key, at the same moment, for another vault
            return IdempotencyConflict()
        if reservation_id in refused:
            return refused[reservation_id]
        if reservation_id in self._covered:
            return msgspec.structs.replace(answer, reservation=self._moved[reservation_id])
        return answer


def _update_of(reservation: Reservation) -> DirectUpdate:
    parts = zip(TRANCHE_IDS, reservation.split, strict=True)
    return DirectUpdate(
        principal=reservation.principal,
        route=COMMIT_ROUTE,
        key=reservation.reservation_id,
        vault_id=reservation.vault_id,
        parts=tuple(Part(tranche_id, coverage=part) for tranche_id, part in parts if part),
    )
