"""Requests about reservations decided together, in the order they came, in one database transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import IdempotencyConflict, TonsuranceError, UnknownReservation, UnknownVault
from tonsurance.core.limits import read_rules
from tonsurance.core.params import Params
from tonsurance.core.reservations import (
    CommitRequest,
    Outcome,
    ReleaseRequest,
    Request,
    Reservation,
    ReserveRequest,
    VaultBook,
    decide_commit,
    decide_release,
    decide_reserve,
    replay,
)
from tonsurance.db import reservations as rows
from tonsurance.db.direct import DirectUpdate, Part, post_direct
from tonsurance.db.pool import Connection

COMMIT_ROUTE = "reservation"
"""Route of the update that a commit on a direct vault posts; the reservation's id is its key."""

Answer = Outcome | TonsuranceError


async def decide_group(conn: Connection, requests: Sequence[Request], params: Params) -> list[Answer]:
    """Decide in the transaction that is open on `conn`; each request gets its outcome or its error."""
    named = {request.reservation_id for request in requests if not isinstance(request, ReserveRequest)}
    asked = [request for request in requests if isinstance(request, ReserveRequest)]
    vault_ids = {request.vault_id for request in asked}
    if named:
        vault_ids |= await rows.select_vaults_of(conn, named)
    await rows.lock_vaults(conn, vault_ids)
    await rows.end_late(conn, vault_ids)
    known = await rows.select_by_identity(conn, {request.identity for request in asked})
    by_id = await rows.select_by_id(conn, named)
    room = await rows.read_room(
        conn, vault_ids, {request.principal for request in asked} | {one.principal for one in by_id.values()}
    )
    group = _Group(room, known, by_id, params)
    answers = [group.take(request) for request in requests]
    return await group.write(conn, answers)


class _Group:
    """The decisions of one transaction until they are stored."""

    def __init__(
        self,
        room: rows.Room,
        known: dict[rows.Identity, Reservation],
        by_id: dict[str, Reservation],
        params: Params,
    ) -> None:
        self._room = room
        self._known = known
        self._by_id = by_id
        self._params = params
        self._rules = read_rules(params)
        self._new: list[Reservation] = []
        self._moved: dict[str, Reservation] = {}
        self._covered: dict[str, Reservation] = {}

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
        made = decide_reserve(book, request, self._rules, now=self._room.now, new_id=str(uuid.uuid4()))
        self._known[request.identity] = made
        self._new.append(made)
        return Outcome(reservation=made)

    def _commit(self, request: CommitRequest, found: Reservation) -> Outcome:
        hold_s = self._params.value("risk", "reservation_commit_hold_s")
        book = self._book(found.vault_id)
        outcome = decide_commit(book, found, request.quote_id, hold_s=int(str(hold_s)))
        if book.source == "direct" and not outcome.replayed:
            book.cover(found)
            self._covered[found.reservation_id] = found
        return self._keep(outcome)

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
