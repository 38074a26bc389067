"""Following one account: every transaction from the stored cursor to the head, each proved to be the next one.

A transaction names the one before it (logical time and hash). Walking these links from the head back to the cursor
proves that nothing is missing; a page can be short, late or wrong, but it cannot hide a transaction.
"""

from __future__ import annotations

import msgspec

from tonsurance import metrics
from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.client import MAX_PAGE, TonCenterClient
from tonsurance.core.errors import BrokenLink, HeadWentBack
from tonsurance.core.events import GENESIS, Cursor

MAX_WALK_BYTES = 64 * 1024 * 1024
"""Bytes of transactions one walk keeps, about 60,000 of them."""


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """Transactions after a cursor, oldest first. Not `complete`: newer ones follow and another walk gets them.

    `heads` are transactions this walk has proved to be in the account's history, oldest first, each so far from the
    one before it that a walk down from it is complete: what follows need not be looked for from the newest one again.
    """

    after: Cursor
    transactions: tuple[RawTransaction, ...]
    complete: bool
    heads: tuple[Cursor, ...] = ()


class Follower:
    """Reads the transactions of one account."""

    def __init__(
        self,
        client: TonCenterClient,
        contract: str,
        kind: str,
        *,
        page_size: int = MAX_PAGE,
        max_bytes: int = MAX_WALK_BYTES,
    ) -> None:
        self.contract = contract
        self.kind = kind
        self._client = client
        self._page_size = page_size
        self._max_bytes = max_bytes
        self.transactions_read = 0
        """Since the start, those read twice included: a sign of life during a long walk."""

    async def read_seqno(self) -> int:
        """The newest masterchain block: what followers of several accounts can read their heads at."""
        return (await self._client.get_masterchain_info()).last.seqno

    async def read_head(self, seqno: int | None = None) -> Cursor:
        """The account's newest transaction that masterchain block `seqno` (the newest) commits; GENESIS when there is
        none.

        Never an account as it is "now": that may hold transactions of blocks which the chain takes back. Raises
        ChainUnavailable when the server does not know that block yet, as a replica that lags does not.
        """
        seqno = await self.read_seqno() if seqno is None else seqno
        return (await self._client.get_address_information(self.contract, seqno)).last_transaction

    async def walk(self, after: Cursor, head: Cursor) -> Walk:
        """All transactions after the cursor up to the head; none when they are equal.

        Raises BrokenLink when a transaction is not the one its successor names or the cursor is not in the account's
        history, HeadWentBack when the head is older than the cursor.

        What is kept is bounded: of a history too long for one walk the newer parts are dropped on the way and only the
        oldest is returned, so that it can be posted before the next walk.
        """
        if head.lt < after.lt:
            raise HeadWentBack(f"{self.contract}: the head {head.lt} is older than the cursor {after.lt}.")
        kept: list[RawTransaction] = []
        heads: list[Cursor] = []
        kept_bytes, wanted, newer = 0, head, "the head"
        while wanted != after:
            for transaction in await self._read_page(wanted, after):
                self._check_link(transaction, wanted, newer)
                wanted, newer = transaction.previous, _shown(wanted)
                if kept and kept_bytes + len(transaction.boc) > self._max_bytes:
                    heads.append(kept[0].cursor)
                    kept, kept_bytes = [], 0
                kept.append(transaction)
                kept_bytes += len(transaction.boc)
                if wanted == after:
                    break
        return Walk(after=after, transactions=tuple(reversed(kept)), complete=not heads, heads=tuple(reversed(heads)))

    async def find_cursor(self, lt: int, head: Cursor) -> Cursor:
        """The account's newest transaction at or before a logical time, by the links from the head back to it.

        GENESIS when it has none so old. Raises BrokenLink.
        """
        wanted, newer = head, "the head"
        while wanted.lt > lt:
            for transaction in await self._read_page(wanted, Cursor(lt, b"")):
                self._check_link(transaction, wanted, newer)
                wanted, newer = transaction.previous, _shown(wanted)
                if wanted.lt <= lt:
                    break
        return wanted

    async def _read_page(self, wanted: Cursor, after: Cursor) -> tuple[RawTransaction, ...]:
        """Transactions from `wanted` on, newest first, at least one."""
        if wanted.lt <= after.lt:
            raise BrokenLink(
                f"{self.contract}: the cursor {_shown(after)} is not in the account's history,"
                f" which goes on to {_shown(wanted)}."
            )
        page = await self._client.get_transactions(
            self.contract, limit=self._page_size, lt=wanted.lt, hash=wanted.hash, to_lt=after.lt
        )
        if not page:
            raise BrokenLink(f"{self.contract}: the API returned nothing for the transaction {_shown(wanted)}.")
        metrics.TRANSACTIONS_READ.labels(self.kind).inc(len(page))
        self.transactions_read += len(page)
        return page

    def _check_link(self, transaction: RawTransaction, wanted: Cursor, newer: str) -> None:
        """`newer` is who names `wanted`: with what came instead it is where something is missing."""
        if transaction.cursor != wanted:
            raise BrokenLink(
                f"{self.contract}: before {newer} {_shown(wanted)} must come next and the API returned"
                f" {_shown(transaction.cursor)}."
            )
        if transaction.previous.lt >= wanted.lt:
            raise BrokenLink(f"{self.contract}: {_shown(wanted)} names the later {_shown(transaction.previous)}.")


def _shown(cursor: Cursor) -> str:
    return "genesis" if cursor == GENESIS else f"({cursor.lt}, {cursor.hash.hex()})"
