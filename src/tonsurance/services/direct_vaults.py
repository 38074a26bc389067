"""Vaults moved by API calls: each update once, many in a transaction, and a durable queue for who does not wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

import msgspec

from tonsurance import log
from tonsurance.core.errors import IdempotencyConflict, InputError, LedgerRefused
from tonsurance.core.params import Params
from tonsurance.core.reservations import check_tranche, check_vault
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.direct import (
    DirectUpdate,
    Outcome,
    Updated,
    check_direct,
    create_direct_vault,
    post_direct,
    select_vaults,
)
from tonsurance.db.pool import acquire
from tonsurance.db.queued import (
    QueuedUpdate,
    end_queued,
    insert_queued,
    lock_pending,
    select_pending_count,
    select_queued,
)
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.group_commit import GroupCommit
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

MOST_IN_A_GROUP = 256
QUEUE_POLL_S = 1.0
_VAULT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEY_LIMIT = 255
_PRINCIPAL_LIMIT = 100

logger = log.get("direct_vaults")


class DirectVaults:
    """Updates of direct vaults over a pool; `params` are asked for anew with every transaction."""

    def __init__(self, pool: LazyPool, params: Callable[[], Params]) -> None:
        self._pool = pool
        self._params = params
        self._group: GroupCommit[DirectUpdate, Updated] = GroupCommit(
            self._post, name="direct updates", most=MOST_IN_A_GROUP
        )

    async def create(self, vault_id: str) -> None:
        """Make a direct vault; the same again changes nothing. Raises InputError, VaultFollowsChain."""
        if not isinstance(vault_id, str) or not _VAULT_NAME.fullmatch(vault_id):
            raise InputError("A vault's name has 1 to 64 of a-z, 0-9, _ and -, and begins with a letter or digit.")
        async with acquire(await self._pool.open()) as conn:
            await create_direct_vault(conn, vault_id)

    async def list_vaults(self) -> dict[str, str]:
        """All vaults and the source of each: `chain` or `direct`."""
        async with acquire(await self._pool.open()) as conn:
            return await select_vaults(conn)

    async def check(self, vault_id: str) -> None:
        """Raises UnknownVault, and VaultFollowsChain when callers may not move it."""
        async with acquire(await self._pool.open()) as conn:
            await check_direct(conn, vault_id)

    async def update(self, update: DirectUpdate) -> Updated:
        """Post an update; returns when it is durable. The same key again gives the same answer.

        Raises UnknownVault, VaultFollowsChain, IdempotencyConflict, LedgerRefused (an amount would go below zero),
        InputError, DatabaseUnavailable (repeat it under the same key).
        """
        return await self._group.submit(check_update(update))

    async def enqueue(self, update: DirectUpdate) -> QueuedUpdate:
        """Accept an update: from then on it will be applied once, also after a crash. Raises what `update` raises,
        but for amounts: whether the ledger takes them shows when it is applied."""
        update = check_update(update)
        async with acquire(await self._pool.open()) as conn:
            await check_direct(conn, update.vault_id)
            queued = await insert_queued(conn, update)
        if queued.request_hash != update.request_hash:
            raise IdempotencyConflict
        return queued

    async def read_queued(self, queue_id: int) -> QueuedUpdate:
        """What became of an accepted update. Raises InputError when there is none."""
        known = isinstance(queue_id, int) and not isinstance(queue_id, bool) and 0 < queue_id <= BIGINT_MAX
        async with acquire(await self._pool.open()) as conn:
            found = await select_queued(conn, queue_id) if known else None
        if found is None:
            raise InputError(f"No update {queue_id} was accepted.")
        return found

    async def apply_queued(self) -> int:
        """Apply what waits, oldest first; returns how many came to their end. Any number of processes may do it."""
        done = 0
        while True:
            async with acquire(await self._pool.open()) as conn, conn.transaction():
                queued = await lock_pending(conn, MOST_IN_A_GROUP)
                if not queued:
                    return done
                outcomes = await post_direct(conn, [item.update for item in queued], self._params())
                await end_queued(conn, queued, outcomes)
            done += len(queued)

    async def count_queued(self) -> int:
        """How many accepted updates wait."""
        async with acquire(await self._pool.open()) as conn:
            return await select_pending_count(conn)

    async def close(self) -> None:
        """Post what was submitted. The pool stays its owner's."""
        await self._group.close()

    async def _post(self, updates: Sequence[DirectUpdate]) -> Sequence[Outcome]:
        try:
            async with acquire(await self._pool.open()) as conn:
                return await post_direct(conn, updates, self._params())
        except LedgerRefused as error:  # a value that our checks let through; whose it is, the group finds out
            logger.error("update_refused_by_database", updates=len(updates), error=error.message)
            raise InputError("The update cannot be stored: the database refuses one of its values.") from error


async def keep_queue(dsn: str, params: Callable[[], Params], stop: asyncio.Event) -> None:
    """Apply accepted updates within a second, until `stop`."""
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance queued updates", role=ROLE_OF["daemon"])
    vaults = DirectVaults(pool, params)
    try:
        await every(QUEUE_POLL_S, vaults.apply_queued, stop=stop, name="queued updates")
    finally:
        await pool.close()


def check_update(update: DirectUpdate) -> DirectUpdate:
    """The update with its tranches' shown ids. Raises UnknownTranche, UnknownVault, and InputError naming all that is
    wrong otherwise."""
    parts = tuple(msgspec.structs.replace(part, tranche_id=check_tranche(part.tranche_id)) for part in update.parts)
    wrong = [
        *_check_text("the key", update.key, _KEY_LIMIT),
        *_check_text("the principal", update.principal, _PRINCIPAL_LIMIT),
        *([] if 0 < len({part.tranche_id for part in parts}) == len(parts) else ["each tranche stands there once"]),
        *(error for part in parts for error in _check_amount("capital", part.capital, update.absolute)),
        *(error for part in parts for error in _check_amount("coverage", part.coverage, update.absolute)),
    ]
    if wrong:
        raise InputError(f"The update cannot be used: {'; '.join(wrong)}.")
    check_vault(update.vault_id)
    return msgspec.structs.replace(update, parts=parts)


def _check_text(what: str, text: str, limit: int) -> list[str]:
    fits = isinstance(text, str) and 0 < len(text) <= limit and text.isascii() and text.isprintable()
    return [] if fits else [f"{what} has 1 to {limit} visible ASCII characters"]


def _check_amount(what: str, amount: int, absolute: bool) -> list[str]:
    if isinstance(amount, bool) or not isinstance(amount, int):
        return [f"{what} is a whole number of nanoTON, not {type(amount).__name__}"]
    least = 0 if absolute else -BIGINT_MAX
    return [] if least <= amount <= BIGINT_MAX else [f"{what} is from {least} to {BIGINT_MAX} nanoTON"]
