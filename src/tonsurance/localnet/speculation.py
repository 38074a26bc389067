"""Other sights of one chain: a part of its blocks, or its last block with one on top that will be taken back.

Each is a store that reads the real one and never writes, so that all that is served of a chain is served of these too.
"""

from __future__ import annotations

from typing import NoReturn

from tonsurance.core.errors import DependencyError
from tonsurance.localnet.blocks import BlockDraft
from tonsurance.localnet.chain import FIRST_SEQNO, LocalChain
from tonsurance.localnet.store import BlockChanges, BlockHeader, ChainStore, QueuedMessage, StoredTransaction


class ReadStore(ChainStore):
    """Another store, for reading only."""

    def __init__(self, real: ChainStore) -> None:  # the base opens a file, and there is none
        self._real = real

    def close(self) -> None:
        """Nothing is held."""

    def load_fact(self, name: str) -> str | None:
        return self._real.load_fact(name)

    def load_queue(self) -> list[QueuedMessage]:
        return []

    def save_block(self, changes: BlockChanges) -> NoReturn:
        raise DependencyError("This sight of the chain cannot be written to.")

    def save_queued(self, message: QueuedMessage) -> NoReturn:
        raise DependencyError("This sight of the chain cannot be written to.")

    def save_fact(self, name: str, value: str) -> NoReturn:
        raise DependencyError("This sight of the chain cannot be written to.")


class PartStore(ReadStore):
    """The blocks from `first` to `last`, and the very first. The states of accounts are known also from before."""

    def __init__(self, real: ChainStore, first: int, last: BlockHeader) -> None:
        super().__init__(real)
        self._first = first
        self._last = last

    def load_header(self, seqno: int | None = None) -> BlockHeader | None:
        if seqno is None:
            return self._last
        return self._real.load_header(seqno) if seqno == FIRST_SEQNO or self._has(seqno) else None

    def load_last_headers(self, count: int) -> list[BlockHeader]:
        return [header for header in self._real.load_last_headers(count) if self._has(header.seqno)]

    def load_state(self, account: bytes, seqno: int) -> bytes | None:
        return self._real.load_state(account, min(seqno, self._last.seqno))

    def load_transaction(self, account: bytes, lt: int) -> StoredTransaction | None:
        found = self._real.load_transaction(account, lt)
        return found if found is not None and self._has(found.seqno) else None

    def load_transactions(
        self, account: bytes, *, until_lt: int | None = None, after_lt: int = 0, limit: int = 100
    ) -> list[StoredTransaction]:
        newest = self._last.end_lt if until_lt is None else min(until_lt, self._last.end_lt)
        found = self._real.load_transactions(account, until_lt=newest, after_lt=after_lt, limit=limit)
        return [item for item in found if self._has(item.seqno)]

    def load_block_transactions(self, seqno: int) -> list[StoredTransaction]:
        return self._real.load_block_transactions(seqno) if self._has(seqno) else []

    def _has(self, seqno: int) -> bool:
        return self._first <= seqno <= self._last.seqno


class DraftStore(ReadStore):
    """The whole chain, and a draft on top of it."""

    def __init__(self, real: ChainStore, header: BlockHeader, draft: BlockDraft) -> None:
        super().__init__(real)
        self._header = header
        self._draft = draft

    def load_header(self, seqno: int | None = None) -> BlockHeader | None:
        return self._header if seqno in (None, self._header.seqno) else self._real.load_header(seqno)

    def load_last_headers(self, count: int) -> list[BlockHeader]:
        return [*self._real.load_last_headers(count), self._header][-count:]

    def load_state(self, account: bytes, seqno: int) -> bytes | None:
        drafted = self._draft.states.get(account) if seqno >= self._header.seqno else None
        return drafted or self._real.load_state(account, seqno)

    def load_transaction(self, account: bytes, lt: int) -> StoredTransaction | None:
        drafted = [made for made in self._draft.transactions if (made.account, made.lt) == (account, lt)]
        return drafted[0] if drafted else self._real.load_transaction(account, lt)

    def load_transactions(
        self, account: bytes, *, until_lt: int | None = None, after_lt: int = 0, limit: int = 100
    ) -> list[StoredTransaction]:
        newest = self._header.end_lt if until_lt is None else until_lt
        drafted = [m for m in self._draft.transactions if m.account == account and after_lt < m.lt <= newest]
        drafted.sort(key=lambda made: -made.lt)
        real = self._real.load_transactions(account, until_lt=until_lt, after_lt=after_lt, limit=limit)
        return [*drafted, *real][:limit]

    def load_block_transactions(self, seqno: int) -> list[StoredTransaction]:
        if seqno == self._header.seqno:
            return list(self._draft.transactions)
        return self._real.load_block_transactions(seqno)


class Sights:
    """Makes the sights of one chain."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._drafted_for: tuple[int, int] | None = None
        self._drafted: LocalChain | None = None

    def behind(self, blocks: int) -> LocalChain:
        """The chain as a replica sees it that is so many blocks behind."""
        head = self._chain.head
        return self._part(FIRST_SEQNO, self._chain.header(max(FIRST_SEQNO, head.seqno - blocks)))

    def pruned(self, kept: int) -> LocalChain:
        """The chain as a server sees it that keeps only its last blocks."""
        head = self._chain.head
        return self._part(max(FIRST_SEQNO, head.seqno - kept + 1), head)

    def drafted(self) -> LocalChain | None:
        """The chain with a block on top that never comes; None when no message waits for one.

        The same one until a block is made or a message arrives, as one server would tell it.
        """
        key = (self._chain.head.seqno, self._chain.waiting)
        if key != self._drafted_for:
            self._drafted_for, self._drafted = key, self._draft()
        return self._drafted

    def _draft(self) -> LocalChain | None:
        header, draft = self._chain.draft()
        if not draft.transactions:
            return None
        return self._over(DraftStore(self._chain.store, header, draft))

    def _part(self, first: int, last: BlockHeader) -> LocalChain:
        return self._over(PartStore(self._chain.store, first, last))

    def _over(self, store: ChainStore) -> LocalChain:
        chain = self._chain
        return LocalChain(chain.engine, store, seed=chain.seed, block_seconds=chain.block_seconds)
