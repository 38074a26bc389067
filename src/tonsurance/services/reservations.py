"""Reserve, commit and release room for new cover, and the keeper's pass over what time and the chain did to it.

Every decision is made under the vault's lock against what is then in the ledger, so that no limit is ever passed; and
every request has an identity, so that a repeated one has one effect.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import msgspec

from tonsurance import log, metrics
from tonsurance.core.errors import InputError, LedgerRefused, TonsuranceError, UnknownReservation
from tonsurance.core.limits import read_rules
from tonsurance.core.params import Params
from tonsurance.core.reservations import (
    RESERVE_ROUTE,
    CommitRequest,
    Outcome,
    ReleaseRequest,
    Request,
    Reservation,
    ReservationStatus,
    ReserveRequest,
    check_quote,
    check_request,
    choose_bumped,
    list_crowded,
)
from tonsurance.db import reservations as rows
from tonsurance.db.ledger import select_ledger_version
from tonsurance.db.pool import Connection, acquire
from tonsurance.services.group_commit import GroupCommit
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.reservation_group import MOST_READ, Answer, decide_group

KEEP_S = 30 * 86_400.0
"""Reservations are forgotten this long after their end, and their keys with them."""

PATIENCE_S = 5.0
"""How long cover that only the vault has told of bumps nobody: its factory's word may free the same room."""

logger = log.get("reservations")


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass of the keeper did: how many reservations it marked as what."""

    committed: int = 0
    expired: int = 0
    bumped: int = 0


class Reservations:
    """Room for new cover of any vault, over a pool of two or more connections.

    `on_change` is called after a transaction that may have moved what is held; it must not block.
    """

    def __init__(
        self,
        pool: LazyPool,
        params: Callable[[], Params],
        *,
        on_change: Callable[[], None] = lambda: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._pool = pool
        self._params = params
        self._on_change = on_change
        self._patience_s = patience_s
        self._group: GroupCommit[Request, Outcome] = GroupCommit(self._decide, name="reservations")

    async def reserve_coverage(
        self,
        vault_id: str,
        tranche_id: str | None,
        amount_nano: int,
        ttl_s: int,
        idempotency_key: str,
        principal: str,
        quote_id: int | None = None,
        *,
        route: str = RESERVE_ROUTE,
    ) -> Outcome:
        """Hold room for a cover for `ttl_s` seconds: of one tranche, or of a policy over all six (None).

        The same key of the same principal is the same request: it gets the first answer again. Raises CapacityExceeded
        with every limit, QuoteUsed, IdempotencyConflict, TooManyReservations, UnknownVault, UnknownTranche, InputError;
        after DatabaseUnavailable repeat it under the same key.
        """
        request = ReserveRequest(
            vault_id=vault_id,
            tranche_id=tranche_id,
            amount_nano=amount_nano,
            ttl_s=ttl_s,
            idempotency_key=idempotency_key,
            principal=principal,
            quote_id=quote_id,
            route=route,
        )
        return await self._submit(check_request(request, self._longest_ttl_s()))

    async def commit(
        self, reservation_id: str, *, quote_id: int | None = None, principal: str | None = None
    ) -> Outcome:
        """The cover is bought: on a direct vault it is posted at once, if the limits still permit it under the ledger's
        lock (else it ends as `bumped`); on one that follows its chain, which decides, the room stays held until the
        policy of `quote_id` is seen, for a limited time. Again: the same answer.

        Raises ReservationEnded, QuoteNeeded, IdempotencyConflict, UnknownReservation.
        """
        check_quote(quote_id)
        wanted = check_id(reservation_id)
        return await self._submit(CommitRequest(reservation_id=wanted, quote_id=quote_id, principal=principal))

    async def release(self, reservation_id: str, *, principal: str | None = None) -> Outcome:
        """Give the room back. Again: the same answer. Raises ReservationEnded, UnknownReservation."""
        return await self._submit(ReleaseRequest(reservation_id=check_id(reservation_id), principal=principal))

    async def get(self, reservation_id: str, *, principal: str | None = None) -> Reservation:
        """One reservation as it stands now. Raises UnknownReservation, also when it is another principal's."""
        wanted = check_id(reservation_id)
        async with acquire(await self._pool.open()) as conn:
            found = (await rows.select_by_id(conn, [wanted])).get(wanted)
        if found is None or principal not in (None, found.principal):
            raise UnknownReservation
        return found

    async def list(self, vault_id: str, *, limit: int = 100) -> tuple[Reservation, ...]:
        """Open reservations of a vault, youngest first."""
        async with acquire(await self._pool.open()) as conn:
            return tuple(await rows.select_open(conn, vault_id, limit))

    async def settle(self) -> Settled:
        """The keeper's pass: mark what is late or seen on chain, and bump the youngest where events of the chain took
        room that was held. What it marks held no room any more before, so nothing depends on how often it runs."""
        done = Settled()
        rules = read_rules(self._params())
        pool = await self._pool.open()
        async with acquire(pool) as conn:
            for vault_id, due in (await rows.select_open_vaults(conn)).items():
                room = await rows.read_room(conn, [vault_id])
                if due or list_crowded(room.books[vault_id], rules):
                    done = _add(done, await self._settle_vault(conn, vault_id))
            await rows.delete_old(conn, KEEP_S)
        if done != Settled():
            metrics.RESERVATIONS_SETTLED.labels("committed").inc(done.committed)
            metrics.RESERVATIONS_SETTLED.labels("expired").inc(done.expired)
            metrics.RESERVATIONS_SETTLED.labels("bumped").inc(done.bumped)
            self._on_change()
        return done

    async def close(self) -> None:
        """Decide what was submitted, then stop. The pool is its owner's."""
        await self._group.close()

    async def _submit(self, request: Request) -> Outcome:
        try:
            outcome = await self._group.submit(request)
        except TonsuranceError as error:
            metrics.RESERVATIONS.labels(type(request).__name__, error.code).inc()
            raise
        metrics.RESERVATIONS.labels(type(request).__name__, "replayed" if outcome.replayed else "ok").inc()
        return outcome

    async def _decide(self, requests: Sequence[Request]) -> Sequence[Answer]:
        pool = await self._pool.open()
        try:
            async with acquire(pool) as conn, conn.transaction():
                answers = await decide_group(conn, requests, self._params())
        except LedgerRefused as error:  # a value that our checks let through; whose it is, the group finds out
            logger.error("request_refused_by_database", requests=len(requests), error=error.message)
            raise InputError("The request cannot be stored: the database refuses one of its values.") from error
        self._on_change()
        return answers

    async def _settle_vault(self, conn: Connection, vault_id: str) -> Settled:
        rules = read_rules(self._params())
        async with conn.transaction():
            await rows.lock_vaults(conn, [vault_id])
            committed = await rows.mark_seen(conn, [vault_id])
            expired = await rows.end_late(conn, [vault_id])
            bumped = 0
            book = (await rows.read_room(conn, [vault_id])).books[vault_id]
            if list_crowded(book, rules) and not await rows.has_untold_cover(conn, vault_id, self._patience_s):
                bumped = await self._bump(conn, vault_id)
        return Settled(committed=committed, expired=expired, bumped=bumped)

    async def _bump(self, conn: Connection, vault_id: str) -> int:
        """End the youngest until the rest fits. Not while the ledger moves under the reads: there is a next pass."""
        version = await select_ledger_version(conn)
        room = await rows.read_room(conn, [vault_id])
        found = await rows.select_open(conn, vault_id, MOST_READ)
        if version != await select_ledger_version(conn):
            return 0
        open_ones = [one for one in found if one.holds_room]
        chosen = choose_bumped(room.books[vault_id], open_ones, read_rules(self._params()))
        status = ReservationStatus.BUMPED
        bumped = [msgspec.structs.replace(one, status=status, ended_at=room.now) for one in chosen]
        await rows.move_reservations(conn, bumped)
        for one in bumped:
            logger.warning("reservation_bumped", reservation=one.reservation_id, vault=vault_id)
        return len(bumped)

    def _longest_ttl_s(self) -> int:
        return int(str(self._params().value("risk", "reservation_max_ttl_s")))


def check_id(reservation_id: str) -> str:
    """The id in its usual form. Raises UnknownReservation for what is none."""
    if not isinstance(reservation_id, str):
        raise UnknownReservation
    try:
        return str(uuid.UUID(reservation_id))
    except ValueError:
        raise UnknownReservation from None


def _add(one: Settled, other: Settled) -> Settled:
    return Settled(
        committed=one.committed + other.committed,
        expired=one.expired + other.expired,
        bumped=one.bumped + other.bumped,
    )
