"""The local chain: accounts, a queue of messages, blocks. Driven by hand; who wants a clock calls `mine` from one.

A block takes the messages that waited when it began and runs them in order; what they send waits for the next block, so
that a request and its answer are never in the same block. Everything follows from the seed, the first block's time and
the messages from outside: the same inputs give the same hashes.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell

from tonsurance.core.errors import InputError, NotReady, TonsuranceError
from tonsurance.localnet.accounts import AccountView, open_account, view_account
from tonsurance.localnet.blocks import LT_STEP, Block, BlockDraft, account_key
from tonsurance.localnet.cells import address_from, boc_of, cell_from_outside
from tonsurance.localnet.engine import GetResult, TonpyEngine
from tonsurance.localnet.messages import external_destination, internal_message
from tonsurance.localnet.store import BlockChanges, BlockHeader, ChainStore, QueuedMessage, StoredTransaction

FIRST_SEQNO = 1
FIRST_LT = 46_000_000 * LT_STEP
GENESIS_TIME = 1_790_000_000
NETWORK_ID = -3
"""The id of the public test network: a quote or wallet of this chain is worth nothing on mainnet."""
MAX_BLOCK_MESSAGES = 500
MAX_WAITING_MESSAGES = 5_000
"""Messages from outside are refused while more than this wait."""
MAX_SPEED = 100_000.0
_LAST_CLOCK_MS = 1000 << 32
FAUCET = Address((0, hashlib.sha256(b"tonsurance local faucet").digest()))
"""Where given coins come from. The address has no contract: it only names the source."""


class LocalChain:
    """One chain on one store. Not for use from two threads."""

    def __init__(
        self,
        engine: TonpyEngine,
        store: ChainStore,
        *,
        seed: int = 1,
        genesis_time: int = GENESIS_TIME,
        block_seconds: float = 1.0,
    ) -> None:
        """Starts a chain, or goes on with the stored one: then `genesis_time` does not matter.

        A block is `block_seconds` of chain time later than the one before. Raises InputError when the store holds a
        chain of another seed.
        """
        self.engine = engine
        self.network_id = NETWORK_ID
        self.block_seconds = block_seconds
        self.on_block: list[Callable[[Block], None]] = []
        """Called with each block when it is stored. They must not block, and not make blocks."""
        self._store = store
        self._speed = 1.0
        self.seed = self._load_seed(seed)
        self._head = store.load_header() or self._make_genesis(genesis_time)
        self._queue = deque(store.load_queue())
        self._next_position = 1 + (self._queue[-1].position if self._queue else 0)

    def _load_seed(self, seed: int) -> int:
        stored = self._store.load_fact("seed")
        if stored is None:
            self._store.save_fact("seed", str(seed))
        elif int(stored) != seed:
            raise InputError(
                f"This chain was started with seed {stored}, not {seed}.",
                advice="Use that seed, or another data directory.",
            )
        return seed

    def _make_genesis(self, genesis_time: int) -> BlockHeader:
        header = BlockHeader(
            seqno=FIRST_SEQNO, clock_ms=genesis_time * 1000, start_lt=FIRST_LT, end_lt=FIRST_LT,
            root_hash=self._digest(b"root", FIRST_SEQNO), file_hash=self._digest(b"file", FIRST_SEQNO),
            rejected=0, mined_at=time.time(),
        )  # fmt: skip
        self._store.save_block(BlockChanges(header=header))
        return header

    def _digest(self, purpose: bytes, seqno: int, *parts: bytes) -> bytes:
        return hashlib.sha256(b"/".join((purpose, str(self.seed).encode(), str(seqno).encode(), *parts))).digest()

    # --- inputs

    @property
    def speed(self) -> float:
        """How many times faster than `block_seconds` says chain time runs."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        if not 0 < value <= MAX_SPEED:
            raise InputError(f"The speed must be above 0 and at most {MAX_SPEED:g}, not {value}.")
        self._speed = value

    def submit_external(self, boc: bytes) -> bytes:
        """Let an external message wait for the next block; returns its hash. Raises InputError for anything else.

        Whether the contract accepts it is seen in that block: if not, it is dropped and counted.
        """
        message = cell_from_outside(boc)
        self._enqueue(external_destination(boc), message)
        return bytes(message.hash)

    def submit_internal(
        self,
        destination: Address | str,
        value: int,
        body: Cell | None = None,
        *,
        source: Address | str = FAUCET,
        state_init: Cell | None = None,
        bounce: bool = True,
    ) -> bytes:
        """Let an internal message from `source` wait for the next block, its nanoTON made from nothing; its hash."""
        message = internal_message(
            _address(source), _address(destination), value, body, state_init=state_init, bounce=bounce,
            lt=self._head.end_lt, at=self.now,
        )  # fmt: skip
        self._enqueue(_address(destination), message)
        return bytes(message.hash)

    def airdrop(self, address: Address | str, nano: int) -> bytes:
        """Give nanoTON to an address; it need not exist yet. Returns the message's hash."""
        if not 0 < nano < 2**63:
            raise InputError(f"The amount must be above 0 nanoTON and below 2^63, not {nano}.")
        return self.submit_internal(address, nano, bounce=False)

    def _enqueue(self, destination: Address, message: Cell) -> None:
        if len(self._queue) >= MAX_WAITING_MESSAGES:
            raise NotReady(f"{len(self._queue)} messages wait for the next block already.")
        waiting = QueuedMessage(position=self._next_position, account=account_key(destination), boc=boc_of(message))
        self._store.save_queued(waiting)
        self._queue.append(waiting)
        self._next_position += 1

    # --- blocks

    @property
    def head(self) -> BlockHeader:
        """The last block."""
        return self._head

    @property
    def now(self) -> int:
        """The chain's time in unix seconds: that of the last block."""
        return self._head.utime

    @property
    def waiting(self) -> int:
        """How many messages wait for the next block."""
        return len(self._queue)

    @property
    def rejected(self) -> int:
        """External messages no contract accepted, since the first block."""
        return self._head.rejected

    def mine(self, *, later_s: float = 0.0) -> Block:
        """Make the next block, `later_s` seconds of chain time later than it would be. On return it is stored."""
        clock_ms = self._head.clock_ms + round(1000 * (self.block_seconds * self._speed + later_s))
        if clock_ms >= _LAST_CLOCK_MS:
            raise InputError("The chain's time would pass the year 2106, where TON's clock ends.")
        seed = self._digest(b"rand", self._head.seqno + 1)
        draft = BlockDraft(self._head, now=clock_ms // 1000, seed=seed, next_position=self._next_position)
        taken = tuple(islice(self._queue, MAX_BLOCK_MESSAGES))
        for message in taken:
            draft.run(self.engine, self._store, message)
        return self._commit(draft, clock_ms, taken)

    def draft(self) -> tuple[BlockHeader, BlockDraft]:
        """A block that could come next and never does: what waits in another order, a second later. It is not stored,
        and the real next block has other transactions."""
        clock_ms = self._head.clock_ms + round(1000 * (self.block_seconds * self._speed + 1))
        seed = self._digest(b"fork", self._head.seqno + 1)
        draft = BlockDraft(self._head, now=clock_ms // 1000, seed=seed, next_position=self._next_position)
        for message in reversed(tuple(islice(self._queue, MAX_BLOCK_MESSAGES))):
            draft.run(self.engine, self._store, message)
        return self._seal(draft, clock_ms), draft

    def _commit(self, draft: BlockDraft, clock_ms: int, taken: tuple[QueuedMessage, ...]) -> Block:
        header, transactions = self._seal(draft, clock_ms), tuple(draft.transactions)
        self._store.save_block(
            BlockChanges(
                header=header, transactions=transactions, states=draft.states, taken=taken, queued=tuple(draft.queued)
            )
        )
        for _ in taken:
            self._queue.popleft()
        self._queue.extend(draft.queued)
        self._next_position += len(draft.queued)
        self._head = header
        block = Block(header=header, transactions=transactions)
        for listener in self.on_block:
            listener(block)
        return block

    def _seal(self, draft: BlockDraft, clock_ms: int) -> BlockHeader:
        """The header. Its hashes follow from the block before and the transactions, but are no proof."""
        contents = (self._head.root_hash, *(made.hash for made in draft.transactions))
        return BlockHeader(
            seqno=draft.seqno, clock_ms=clock_ms, start_lt=draft.start_lt, end_lt=draft.end_lt,
            root_hash=self._digest(b"root", draft.seqno, *contents),
            file_hash=self._digest(b"file", draft.seqno, *contents),
            rejected=self._head.rejected + draft.rejected, mined_at=time.time(),
        )  # fmt: skip

    def mine_until_idle(self, limit: int = 50) -> list[Block]:
        """Make blocks until no message waits. Raises TonsuranceError when some still wait after `limit` blocks."""
        blocks: list[Block] = []
        while self._queue:
            if len(blocks) >= limit:
                raise TonsuranceError(f"{len(self._queue)} messages still wait after {limit} blocks.")
            blocks.append(self.mine())
        return blocks

    def advance_time(self, seconds: int) -> Block:
        """Make one block that is `seconds` later than it would be."""
        if seconds < 0:
            raise InputError("Time goes forward only.")
        return self.mine(later_s=seconds)

    # --- reads

    @property
    def store(self) -> ChainStore:
        """Where the chain is kept."""
        return self._store

    def load_fact(self, name: str) -> str | None:
        """What save_fact stored under this name; None when it never did."""
        return self._store.load_fact(name)

    def save_fact(self, name: str, value: str) -> None:
        """Keep something about this chain that is not part of a block."""
        self._store.save_fact(name, value)

    def header(self, seqno: int | None = None) -> BlockHeader:
        """One block, the last without seqno. Raises InputError when there is no such block."""
        if seqno is None or seqno == self._head.seqno:
            return self._head
        found = self._store.load_header(seqno) if 0 <= seqno < self._head.seqno else None
        if found is None:
            raise InputError(f"There is no block {seqno}; the last is {self._head.seqno}.")
        return found

    def last_headers(self, count: int = 50) -> list[BlockHeader]:
        """The last blocks, oldest first."""
        return self._store.load_last_headers(count)

    def account_boc(self, address: Address | str, seqno: int | None = None) -> bytes | None:
        """The ShardAccount cell after a block; None when nothing had reached the address by then."""
        return self._store.load_state(account_key(_address(address)), self.header(seqno).seqno)

    def account(self, address: Address | str, seqno: int | None = None) -> AccountView:
        """The account after a block, the last without seqno."""
        return view_account(self.account_boc(address, seqno))

    def balance(self, address: Address | str, seqno: int | None = None) -> int:
        """nanoTON of an account after a block."""
        return open_account(self.account_boc(address, seqno)).view.balance

    def get_method(
        self, address: Address | str, name: str | int, args: Sequence[Any] = (), seqno: int | None = None
    ) -> GetResult:
        """Run a get-method on the state after a block, at that block's time."""
        header, target = self.header(seqno), _address(address)
        state = self._store.load_state(account_key(target), header.seqno)
        return self.engine.run_get_method(state, target, name, args, now=header.utime, lt=header.end_lt)

    def transactions(
        self, address: Address | str, *, until_lt: int | None = None, after_lt: int = 0, limit: int = 100
    ) -> list[StoredTransaction]:
        """The account's transactions with after_lt < lt <= until_lt, newest first."""
        key = account_key(_address(address))
        return self._store.load_transactions(key, until_lt=until_lt, after_lt=after_lt, limit=limit)

    def transaction(self, address: Address | str, lt: int) -> StoredTransaction | None:
        """The account's transaction with this logical time."""
        return self._store.load_transaction(account_key(_address(address)), lt)

    def block(self, seqno: int) -> Block:
        """A block with its transactions. Raises InputError when there is no such block."""
        header = self.header(seqno)
        return Block(header=header, transactions=tuple(self._store.load_block_transactions(seqno)))


def _address(given: Address | str) -> Address:
    return given if isinstance(given, Address) else address_from(given)
