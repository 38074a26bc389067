"""How one block comes about: messages in, transactions, changed accounts and new messages out."""

from __future__ import annotations

import msgspec
from pytoniq_core.boc.address import Address

from tonsurance import log
from tonsurance.localnet.cells import boc_of
from tonsurance.localnet.engine import EngineError, TonpyEngine
from tonsurance.localnet.messages import read_message, read_transaction
from tonsurance.localnet.store import BlockHeader, ChainStore, QueuedMessage, StoredTransaction

LT_STEP = 1_000_000

_log = log.get("localnet.blocks")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block and what it holds."""

    header: BlockHeader
    transactions: tuple[StoredTransaction, ...]

    @property
    def seqno(self) -> int:
        """The block's number in the masterchain."""
        return self.header.seqno

    @property
    def utime(self) -> int:
        """The block's time in unix seconds."""
        return self.header.utime

    @property
    def start_lt(self) -> int:
        """The logical time every account starts at in this block."""
        return self.header.start_lt

    @property
    def end_lt(self) -> int:
        """Past the last logical time used in this block."""
        return self.header.end_lt


class BlockDraft:
    """A block in the making. Messages are run in the order given; what they send is only collected."""

    def __init__(self, head: BlockHeader, *, now: int, seed: bytes, next_position: int) -> None:
        self.seqno = head.seqno + 1
        self.start_lt = (head.end_lt // LT_STEP + 1) * LT_STEP
        self.end_lt = self.start_lt
        self.now = now
        self.seed = seed
        self.transactions: list[StoredTransaction] = []
        self.states: dict[bytes, bytes] = {}
        self.queued: list[QueuedMessage] = []
        self.rejected = 0
        self._next_position = next_position

    def run(self, engine: TonpyEngine, store: ChainStore, message: QueuedMessage) -> None:
        """Run one message. One that no contract accepts, or that the TVM cannot run, is dropped and counted."""
        account = self.states.get(message.account) or store.load_state(message.account, self.seqno)
        try:
            result = engine.run_transaction(account, message.boc, now=self.now, lt=self.start_lt, seed=self.seed)
        except EngineError as error:
            _log.warning("message_dropped", account=message.account.hex(), reason=error.message)
            result = None
        if result is None:
            self.rejected += 1
            return
        self.states[message.account] = result.account_boc
        self._collect(message.account, result.transaction_boc)

    def _collect(self, account: bytes, boc: bytes) -> None:
        made = read_transaction(boc)
        self.transactions.append(
            StoredTransaction(account=account, lt=made.lt, hash=made.hash, seqno=self.seqno, boc=boc)
        )
        self.end_lt = max(self.end_lt, made.lt + len(made.out_messages) + 1)
        for sent in made.out_messages:
            destination = read_message(sent).destination
            if destination is not None:
                key = account_key(destination)
                self.queued.append(QueuedMessage(position=self._next_position, account=key, boc=boc_of(sent)))
                self._next_position += 1


def account_key(address: Address) -> bytes:
    """How accounts are stored: one byte of workchain, 32 of address."""
    return bytes((address.wc & 0xFF,)) + bytes(address.hash_part)
