"""One contract from the chain into the ledger: follow, decode, submit. An error changes nothing but the status."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from tonsurance import log, metrics
from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.core.errors import ChainDataError, DatabaseUnavailable, LedgerRefused, TonsuranceError
from tonsurance.core.events import GENESIS, ContractBatch, Cursor, DecodedTransaction

BATCH_SIZE = 200
"""Transactions in one batch: decoded in about 10 ms, so that other work is not kept waiting."""
_log = log.get(__name__)


class BatchSink(Protocol):
    """Where batches go: the ledger's writer, or a fake."""

    async def submit(self, batch: ContractBatch) -> object:
        """Post a batch whole, or raise.

        With LedgerRefused everything before the refused transaction was posted, and the stop was recorded; with any
        other error of ours nothing was.
        """
        ...


class SyncRecords(Protocol):
    """What is stored about following a contract: the database, or a fake."""

    async def read_cursor(self, contract: str) -> Cursor:
        """The last transaction that was posted; GENESIS when there is none."""
        ...

    async def record_head(self, contract: str, head_lt: int) -> None:
        """The chain was read up to here just now, which is its newest transaction, and nothing was wrong."""
        ...

    async def record_fault(self, contract: str, message: str) -> None:
        """The contract's history as it is served now contradicts itself or ours; seen until it is read well again."""
        ...


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a round has come that has something to do: transactions read and posted in it, the logical times it
    goes from and to and has come to, and its seconds so far."""

    read: int
    posted: int
    from_lt: int
    at_lt: int
    to_lt: int
    seconds: float

    @property
    def rate(self) -> float:
        """Transactions posted a second; before the first, read."""
        return (self.posted or self.read) / self.seconds if self.seconds > 0 else 0.0


class IngestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a contract is doing. `checked_at` is the unix time the head was last read, `head_seqno` the masterchain block
    it was read at (None before the first time), `caught_up_at` when everything up to it was posted; lt 0 is before the
    first transaction."""

    contract: str
    contract_kind: str
    status: str
    cursor_lt: int
    head_lt: int
    head_seqno: int | None
    checked_at: float | None
    error_code: str | None
    error: str | None
    caught_up_at: float | None = None
    transactions_read: int = 0
    progress: Progress | None = None

    @property
    def lag_lt(self) -> int:
        """Logical time from the cursor to the head."""
        return max(0, self.head_lt - self.cursor_lt)


class ContractIngest:
    """Follows one contract. `run_once` is called again and again."""

    def __init__(
        self,
        follower: Follower,
        decoder: Decoder,
        sink: BatchSink,
        records: SyncRecords,
        *,
        batch_size: int = BATCH_SIZE,
        head_record_interval_s: float = 2.0,
        prepare: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """`prepare` is awaited before the first round, again until it raises nothing."""
        self._follower = follower
        self._prepare = prepare
        self._decoder = decoder
        self._sink = sink
        self._records = records
        self._batch_size = batch_size
        self._head_record_interval_s = head_record_interval_s
        self._known: Cursor | None = None
        """The stored cursor; None when it must be read: at the start and after every error."""
        self._posted = GENESIS
        self._head = GENESIS
        self._head_seqno: int | None = None
        self._checked_at: float | None = None
        self._caught_up_at: float | None = None
        self._round: tuple[float, int, int] | None = None
        """Of a round with something to do: when it began, the lt it began at, and how many were read before."""
        self._round_posted = 0
        self._head_recorded_at = float("-inf")
        self._stopped = False
        self._error: TonsuranceError | None = None

    @property
    def status(self) -> IngestStatus:
        """The state as of the last round."""
        return IngestStatus(
            contract=self._follower.contract,
            contract_kind=self._follower.kind,
            status="error" if self._stopped else "active",
            cursor_lt=self._posted.lt,
            head_lt=self._head.lt,
            head_seqno=self._head_seqno,
            checked_at=self._checked_at,
            error_code=self._error.code if self._error else None,
            error=self._error.message if self._error else None,
            caught_up_at=self._caught_up_at,
            transactions_read=self._follower.transactions_read,
            progress=self._progress(),
        )

    def _progress(self) -> Progress | None:
        if self._round is None:
            return None
        began, from_lt, read_before = self._round
        return Progress(
            read=self._follower.transactions_read - read_before,
            posted=self._round_posted,
            from_lt=from_lt,
            at_lt=self._posted.lt,
            to_lt=self._head.lt,
            seconds=time.monotonic() - began,
        )

    async def run_once(self, seqno: int | None = None) -> None:
        """Post everything up to the head: what the newest masterchain block commits, or the block `seqno`.

        Raises what went wrong: then the cursor is where the last posted batch put it. After LedgerRefused this contract
        stands still, just before the transaction the ledger cannot take, until it is followed anew (resumed).
        """
        if self._stopped:
            return
        known, self._known = self._known, None
        try:
            if self._prepare is not None:
                await self._prepare()
                self._prepare = None
            cursor = known or await self._records.read_cursor(self._follower.contract)
            self._known = await self._follow(cursor, seqno)
        except TonsuranceError as error:
            self._note_error(error)
            if isinstance(error, ChainDataError):
                await self._record_fault(error)
            raise
        self._error = None

    async def _record_fault(self, fault: ChainDataError) -> None:
        """Report it where people look. The next look at a sound history takes it back, so that one is noted at once."""
        self._head_recorded_at = float("-inf")
        with suppress(DatabaseUnavailable):  # the fault itself is what is raised
            await self._records.record_fault(self._follower.contract, fault.message)

    def _note_error(self, error: TonsuranceError) -> None:
        self._error = error
        metrics.INGEST_ERRORS.labels(error.code).inc()
        if isinstance(error, LedgerRefused):
            self._stopped = True
            _log.error("contract_stopped", contract=self._follower.contract, reason=error.message)

    async def _follow(self, cursor: Cursor, seqno: int | None) -> Cursor:
        """Post all that follows the cursor; returns the cursor after it."""
        self._posted = cursor
        seqno = await self._follower.read_seqno() if seqno is None else seqno
        self._head = await self._follower.read_head(seqno)
        self._head_seqno, self._checked_at = seqno, time.time()
        if self._head != cursor:
            self._round, self._round_posted = (time.monotonic(), cursor.lt, self._follower.transactions_read), 0
        try:
            await self._catch_up(self._head)
        finally:
            self._round = None
        self._caught_up_at = time.time()
        metrics.CURSOR_LAG_LT.labels(self._follower.contract).set(self.status.lag_lt)
        await self._record_head()
        return self._posted

    async def _catch_up(self, head: Cursor) -> None:
        """Walk and post, in stages when the history is too long for one walk; the first proves where they begin."""
        stages = [head]
        while stages:
            walk = await self._follower.walk(self._posted, stages[0])
            for start in range(0, len(walk.transactions), self._batch_size):
                await self._post(walk.transactions[start : start + self._batch_size])
            stages = [*walk.heads, *stages[1:]]

    async def _post(self, transactions: tuple[RawTransaction, ...]) -> None:
        batch = ContractBatch(
            contract=self._follower.contract,
            contract_kind=self._follower.kind,
            after=self._posted,
            transactions=tuple(map(self._decode, transactions)),
        )
        await self._sink.submit(batch)
        self._posted = batch.until
        self._round_posted += len(transactions)
        undecoded = sum(len(transaction.undecoded) for transaction in batch.transactions)
        if undecoded:
            _log.error("messages_quarantined", contract=self._follower.contract, count=undecoded)

    def _decode(self, transaction: RawTransaction) -> DecodedTransaction:
        """From what was read when it was proved, where that could be read."""
        if transaction.outcome is None:
            return self._decoder.decode(transaction.boc)
        return self._decoder.decode_outcome(transaction.outcome)

    async def _record_head(self) -> None:
        """At most every few seconds: it is a write, and a posted batch says as much."""
        now = time.monotonic()
        if now - self._head_recorded_at >= self._head_record_interval_s:
            await self._records.record_head(self._follower.contract, self._head.lt)
            self._head_recorded_at = now
