"""Room for new cover held for a short time: what a reservation is, what holds room, and what becomes of a request.

Pure: a `VaultBook` is what stood in the database under the vault's lock, and every decision moves it on, so that
requests decided together see each other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import TRANCHE_IDS, parse_tranche_id
from tonsurance.core.errors import (
    CapacityExceeded,
    IdempotencyConflict,
    InputError,
    ReservationEnded,
    TooManyReservations,
    UnknownVault,
)
from tonsurance.core.limits import Rules, TrancheRoom, policy_cap_nano, policy_capacity, split_cover, tranche_capacity
from tonsurance.core.sale_errors import QuoteNeeded, QuoteUsed
from tonsurance.core.units import BIGINT_MAX

ANONYMOUS = "-"
"""Principal of requests without a token, where these are allowed; no token's name begins with a dash."""

RESERVE_ROUTE = "reservations"
MOST_OPEN = 10_000
"""Open reservations of one vault; sums over them are taken with every decision."""

MOST_OPEN_OF_ONE = 1_000
QUOTE_MAX = 2**64 - 1
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_VAULT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_NAME = re.compile(r"[\x20-\x7e]{1,100}", re.ASCII)


class ReservationStatus(StrEnum):
    """Where a reservation is in its life. All but the first are final; a committed one holds room until its policy
    is in the ledger."""

    PENDING = "pending"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"
    BUMPED = "bumped"


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Room held for one cover. `split` is what each tranche holds, senior to junior, in nanoTON; `tranche_id` is None
    for a policy. `seen_lt` is the logical time at which the ledger took the cover over, None before.
    """

    reservation_id: str
    vault_id: str
    tranche_id: str | None
    amount_nano: int
    split: tuple[int, ...]
    status: ReservationStatus
    principal: str
    route: str
    idempotency_key: str
    request_hash: str
    quote_id: int | None
    ttl_s: int
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    seen_lt: int | None = None

    @property
    def holds_room(self) -> bool:
        """Whether it holds room, as long as it is not late."""
        return self.status is ReservationStatus.PENDING or (
            self.status is ReservationStatus.COMMITTED and self.seen_lt is None
        )


class ReserveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks for room. (principal, route, idempotency_key) is the identity of the request."""

    vault_id: str
    tranche_id: str | None
    amount_nano: int
    ttl_s: int
    idempotency_key: str
    principal: str
    quote_id: int | None = None
    route: str = RESERVE_ROUTE

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes it the same request when it comes again."""
        return (self.principal, self.route, self.idempotency_key)

    @property
    def hash(self) -> str:
        """SHA-256 of what is asked for, hex."""
        body = [self.vault_id, self.tranche_id, self.amount_nano, self.ttl_s, self.quote_id]
        return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The holder has bought, or is about to. Without a principal anybody's reservation is meant."""

    reservation_id: str
    quote_id: int | None = None
    principal: str | None = None


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The holder does not need the room any more."""

    reservation_id: str
    principal: str | None = None


Request = ReserveRequest | CommitRequest | ReleaseRequest


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request; `replayed` when the request had been answered before."""

    reservation: Reservation
    replayed: bool = False


class VaultBook:
    """Where a vault's room stands while its lock is held. Amounts in nanoTON, lists senior to junior."""

    def __init__(
        self,
        vault_id: str,
        source: str,
        *,
        rooms: Sequence[TrancheRoom] = (),
        held: Sequence[int] = (0,) * len(TRANCHE_IDS),
        open_count: int = 0,
    ) -> None:
        """`rooms` have capital and coverage only; what is held is told apart."""
        self.vault_id = vault_id
        self.source = source
        found = {room.tranche_id: room for room in rooms}
        self._rooms = [found.get(tranche_id) or TrancheRoom(tranche_id=tranche_id) for tranche_id in TRANCHE_IDS]
        self._held = list(held)
        self._open = open_count
        self._own: dict[str, list[int]] = {}

    def know_own(self, principal: str, count: int, held: Sequence[int]) -> None:
        """What a principal's open reservations hold, and how many there are."""
        self._own[principal] = [count, *held]

    def rooms(self, principal: str | None = None) -> tuple[TrancheRoom, ...]:
        """All six tranches as this principal sees them."""
        own = self._own.get(principal or "", [0] * (1 + len(TRANCHE_IDS)))[1:]
        return tuple(
            msgspec.structs.replace(room, held_nano=held, own_nano=mine)
            for room, held, mine in zip(self._rooms, self._held, own, strict=True)
        )

    def check_counts(self, principal: str) -> None:
        """Raises TooManyReservations."""
        mine = self._own.get(principal, [0])[0]
        if self._open >= MOST_OPEN or mine >= MOST_OPEN_OF_ONE:
            most = MOST_OPEN if self._open >= MOST_OPEN else MOST_OPEN_OF_ONE
            raise TooManyReservations(f"{most} reservations are open; more are not taken.")

    def take(self, reservation: Reservation) -> None:
        """A new reservation holds room from here on."""
        self._move(reservation, 1)

    def give_back(self, reservation: Reservation) -> None:
        """A reservation holds no room any more."""
        self._move(reservation, -1)

    def cover(self, reservation: Reservation) -> None:
        """What a reservation held has become cover."""
        self.give_back(reservation)
        self._rooms = [
            msgspec.structs.replace(room, coverage_nano=room.coverage_nano + part)
            for room, part in zip(self._rooms, reservation.split, strict=True)
        ]

    def _move(self, reservation: Reservation, sign: int) -> None:
        self._open += sign
        self._held = [held + sign * part for held, part in zip(self._held, reservation.split, strict=True)]
        if reservation.principal != ANONYMOUS:
            mine = self._own.get(reservation.principal, [0] * (1 + len(TRANCHE_IDS)))
            moved = (1, *reservation.split)
            self._own[reservation.principal] = [a + sign * b for a, b in zip(mine, moved, strict=True)]


def check_request(request: ReserveRequest, max_ttl_s: int) -> ReserveRequest:
    """The request with the tranche's shown id, fit to be stored: nothing in it can be refused by the database.

    Raises InputError naming the field, UnknownTranche, or UnknownVault for a name that no vault can have.
    """
    if not _is_whole(request.amount_nano, 1, BIGINT_MAX):
        raise InputError(f"amount_nanoton is a whole number from 1 to {BIGINT_MAX}.")
    if not _is_whole(request.ttl_s, 1, max_ttl_s):
        raise InputError(f"ttl_s is a whole number of seconds from 1 to {max_ttl_s}.")
    if not _is_text(request.idempotency_key, _KEY):
        raise InputError("Idempotency-Key has 1 to 255 visible ASCII characters.")
    if not (_is_text(request.principal, _NAME) and _is_text(request.route, _NAME)):
        raise InputError("The principal, and the route, has 1 to 100 visible ASCII characters.")
    check_quote(request.quote_id)
    check_vault(request.vault_id)
    if request.tranche_id is None:
        return request
    return msgspec.structs.replace(request, tranche_id=check_tranche(request.tranche_id))


def check_quote(quote_id: int | None) -> None:
    """Raises InputError."""
    if quote_id is not None and not _is_whole(quote_id, 0, QUOTE_MAX):
        raise InputError("quote_id is a whole number of at most 64 bits.")


def check_vault(vault_id: str) -> None:
    """Raises UnknownVault for a name that no vault can have."""
    if not _is_text(vault_id, _VAULT):
        raise UnknownVault("There is no vault of this name: it is none that a vault can have.")


def check_tranche(tranche_id: str) -> str:
    """The tranche's shown id. Raises UnknownTranche, and InputError for what is no text."""
    if not isinstance(tranche_id, str):
        raise InputError(f"A tranche is named by its id, not by {type(tranche_id).__name__}.")
    return parse_tranche_id(tranche_id)


def _is_whole(number: object, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most


def _is_text(text: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def replay(request: ReserveRequest, found: Reservation) -> Outcome:
    """The first answer again, whatever became of the reservation. Raises IdempotencyConflict for another request."""
    if found.request_hash != request.hash:
        raise IdempotencyConflict
    as_it_was = msgspec.structs.replace(
        found,
        status=ReservationStatus.PENDING,
        quote_id=request.quote_id,
        expires_at=found.created_at + timedelta(seconds=found.ttl_s),
        ended_at=None,
        seen_lt=None,
    )
    return Outcome(reservation=as_it_was, replayed=True)


def decide_reserve(
    book: VaultBook, request: ReserveRequest, rules: Rules, *, now: datetime, new_id: str
) -> Reservation:
    """A new reservation, taken from the book. Raises CapacityExceeded or TooManyReservations."""
    principal = None if request.principal == ANONYMOUS else request.principal
    book.check_counts(request.principal)
    room = find_room(book, request.tranche_id, principal, rules)
    if request.amount_nano > room.available_nano:
        raise CapacityExceeded(request.amount_nano, room)
    reservation = Reservation(
        reservation_id=new_id,
        vault_id=request.vault_id,
        tranche_id=request.tranche_id,
        amount_nano=request.amount_nano,
        split=split_cover(request.amount_nano, rules, request.tranche_id),
        status=ReservationStatus.PENDING,
        principal=request.principal,
        route=request.route,
        idempotency_key=request.idempotency_key,
        request_hash=request.hash,
        quote_id=request.quote_id,
        ttl_s=request.ttl_s,
        created_at=now,
        expires_at=now + timedelta(seconds=request.ttl_s),
    )
    book.take(reservation)
    return reservation


def check_unused(quote_id: int | None, used: Container[int]) -> None:
    """A quote is bought once: what is reserved for it afterwards would hold nothing. Raises QuoteUsed."""
    if quote_id is not None and quote_id in used:
        raise QuoteUsed(quote_id)


def find_room(book: VaultBook, tranche_id: str | None, principal: str | None, rules: Rules) -> Capacity:
    """The room of one tranche, or of a policy, for a caller."""
    rooms = book.rooms(principal)
    if tranche_id is None:
        return policy_capacity(rooms, rules, reserving=True)
    return tranche_capacity(rooms[TRANCHE_IDS.index(tranche_id)], rules, reserving=True)


def decide_commit(book: VaultBook, found: Reservation, quote_id: int | None, *, hold_s: int) -> Outcome:
    """The committed reservation; on a vault that follows its chain it goes on holding room until its policy is seen.

    Raises ReservationEnded, QuoteNeeded without a quote to know the policy by, IdempotencyConflict for another quote.
    """
    if quote_id is not None and found.quote_id not in (None, quote_id):
        raise IdempotencyConflict(f"The reservation is for quote {found.quote_id}.")
    if found.status is ReservationStatus.COMMITTED:
        return Outcome(reservation=found, replayed=True)
    if found.status is not ReservationStatus.PENDING:
        raise ReservationEnded(found.status)
    quote = found.quote_id if quote_id is None else quote_id
    if book.source == "chain" and quote is None:
        raise QuoteNeeded
    committed = msgspec.structs.replace(
        found,
        status=ReservationStatus.COMMITTED,
        quote_id=quote,
        expires_at=found.expires_at + timedelta(seconds=hold_s),
    )
    return Outcome(reservation=committed)


def fits_now(book: VaultBook, reservation: Reservation, rules: Rules) -> bool:
    """Whether an open reservation may become cover: with all that is held beside it no tranche of it is past its
    limits, and a policy is not larger than the vault's capital permits by now."""
    if any(reservation.split[place] for place in list_crowded(book, rules)):
        return False
    capital = sum(room.capital_nano for room in book.rooms())
    return reservation.tranche_id is not None or reservation.amount_nano <= policy_cap_nano(capital, rules)


def decide_release(book: VaultBook, found: Reservation, *, now: datetime) -> Outcome:
    """The released reservation, given back to the book. Raises ReservationEnded, also when it is committed."""
    if found.status is ReservationStatus.RELEASED:
        return Outcome(reservation=found, replayed=True)
    if found.status is not ReservationStatus.PENDING:
        raise ReservationEnded(found.status)
    book.give_back(found)
    return Outcome(reservation=msgspec.structs.replace(found, status=ReservationStatus.RELEASED, ended_at=now))


def choose_bumped(book: VaultBook, open_ones: Sequence[Reservation], rules: Rules) -> list[Reservation]:
    """The youngest reservations that have to go until the rest fits every tranche's limit again, given back to the
    book. One that holds nothing in a crowded tranche stays.
    """
    bumped = []
    for reservation in sorted(open_ones, key=lambda one: (one.created_at, one.reservation_id), reverse=True):
        crowded = list_crowded(book, rules)
        if not crowded:
            break
        if any(reservation.split[place] for place in crowded):
            book.give_back(reservation)
            bumped.append(reservation)
    return bumped


def list_crowded(book: VaultBook, rules: Rules) -> list[int]:
    """Places of the tranches where more is held than the limits leave beside the cover."""
    return [
        place
        for place, room in enumerate(book.rooms())
        if room.held_nano
        > tranche_capacity(msgspec.structs.replace(room, held_nano=0, own_nano=0), rules).available_nano
    ]
