"""The one writer of the ledger: collects batches while a transaction is in flight and posts them together.

No timer is involved: alone, a batch is posted at once; under load, the group grows to what arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from tonsurance import log, metrics
from tonsurance.core.errors import (
    LedgerError,
    LedgerRefused,
    TonsuranceError,
    WriterFenced,
)
from tonsurance.core.events import ContractBatch
from tonsurance.core.params import Params
from tonsurance.db.ledger import Posted, post_batches, record_error, take_ledger
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.group_commit import GroupCommit

__all__ = ["LedgerWriter", "Posted"]

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_CLOSE_TIMEOUT_S = 20.0
LIVE_S = 300.0
"""A block older than this when its events are posted was read up, not followed."""

logger = log.get("ledger_writer")


class LedgerWriter:
    """Posts batches for any number of submitters over one connection of its own.

    At most `max_events` (plus the last batch's) go into one transaction and `queue_size` batches wait; further
    submitters wait for room. A second writer on the same database is refused (WriterFenced). `params` are asked for
    anew with every transaction, unless they are fixed ones.
    """

    def __init__(
        self, dsn: str, params: Params | Callable[[], Params], *, max_events: int = 1000, queue_size: int = 1024
    ) -> None:
        self._dsn = dsn
        self._params: Callable[[], Params] = (lambda: params) if isinstance(params, Params) else params
        self._group: GroupCommit[ContractBatch, Posted] = GroupCommit(
            self._post, name="ledger writer", most=max_events, queue_size=queue_size, weigh=_weigh
        )
        self._conn: Connection | None = None
        self._epoch = 0
        self._delay_s = 0.0

    def start(self) -> None:
        """Start posting. Connects with the first batch, so a database that is down is its submitter's error."""
        self._group.start()

    async def take(self) -> None:
        """Become the writer now, not with the first batch. Raises WriterFenced while another one is, and
        DatabaseUnavailable. Only before the first batch: nothing else may use the connection."""
        try:
            await self._connected()
        except TonsuranceError as error:
            self._note_failure(error)
            raise

    async def submit(self, batch: ContractBatch) -> Posted:
        """Post a batch; returns when it is durable.

        Raises CursorConflict (read the cursor again), LedgerRefused (everything before the refused transaction is
        posted and the contract is marked), WriterFenced, or DatabaseUnavailable (nothing moved, or, when the
        connection broke during the commit, all of it: the cursor tells).
        """
        return await self._group.submit(batch)

    async def close(self) -> None:
        """Post what was submitted, then give the ledger back."""
        await self._group.close()
        conn, self._conn = self._conn, None
        if conn is not None:
            with driver_errors():
                await conn.close(timeout=_CLOSE_TIMEOUT_S)

    async def _post(self, batches: Sequence[ContractBatch]) -> Sequence[Posted | TonsuranceError]:
        """Post a group; when the ledger refuses it, each batch for itself, so that the good ones still go in."""
        outcome = await self._attempt(batches)
        if not isinstance(outcome, TonsuranceError):
            return outcome
        if len(batches) > 1 and _is_about_data(outcome):
            return [result for batch in batches for result in await self._post([batch])]
        if isinstance(outcome, LedgerRefused):
            return [await self._post_until_refused(batches[0], outcome)]
        return [outcome] * len(batches)

    async def _post_until_refused(self, batch: ContractBatch, refusal: TonsuranceError) -> TonsuranceError:
        """Post the transactions before the refused one, mark the contract, and return the refusal."""
        after = batch.after
        for transaction in batch.transactions if len(batch.transactions) > 1 else ():
            part = msgspec.structs.replace(batch, after=after, transactions=(transaction,))
            outcome = await self._attempt([part])
            if isinstance(outcome, TonsuranceError):
                refusal = outcome
                break
            after = part.until
        if isinstance(refusal, LedgerRefused):
            logger.error("batch_refused", contract=batch.contract, after_lt=after.lt, error=refusal.message)
            await self._record(batch.contract, refusal)
        return refusal

    async def _attempt(self, batches: Sequence[ContractBatch]) -> tuple[Posted, ...] | TonsuranceError:
        """One transaction: what each batch did, or the error that rolled all of it back."""
        try:
            conn = await self._connected()
            with driver_errors(), metrics.LEDGER_BATCH_SECONDS.time():
                posted = await post_batches(conn, batches, self._params(), self._epoch)
        except TonsuranceError as error:
            self._note_failure(error)
            return error
        self._delay_s = 0.0
        _observe(batches, posted)
        return posted

    async def _record(self, contract: str, refusal: LedgerRefused) -> None:
        try:
            conn = await self._connected()
            with driver_errors():
                await record_error(conn, contract, refusal.message, self._epoch)
        except TonsuranceError as error:  # the submitter learns of the refusal in any case
            self._note_failure(error)

    async def _connected(self) -> Connection:
        """The writer's connection; a lost one is replaced after a delay that grows with each failure."""
        if self._conn is not None and not self._conn.is_closed():
            return self._conn
        await asyncio.sleep(self._delay_s)
        self._conn = await connect(self._dsn, application_name="tonsurance-writer", role=ROLE_OF["writer"])
        with driver_errors():
            self._epoch = await take_ledger(self._conn)
        logger.info("ledger_taken", epoch=self._epoch)
        return self._conn

    def _note_failure(self, error: TonsuranceError) -> None:
        """After an outage the connection is not trusted any more."""
        if _is_about_data(error):
            return
        self._delay_s = min(max(self._delay_s * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        logger.warning("ledger_unavailable", code=error.code, error=error.message, next_delay_s=self._delay_s)
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.terminate()


def _weigh(batch: ContractBatch) -> int:
    return sum(1 + len(transaction.events) for transaction in batch.transactions)


def _is_about_data(error: TonsuranceError) -> bool:
    """Whether the batch is the reason, not the database or another writer."""
    return isinstance(error, LedgerError) and not isinstance(error, WriterFenced)


def _observe_latency(batches: Sequence[ContractBatch]) -> None:
    """How long the newest block of each batch took to get here. What is read up later, and the blocks of a local chain
    whose clock is ahead, tell nothing about it."""
    for batch in batches:
        if batch.transactions and batch.transactions[-1].events:
            age_s = time.time() - batch.transactions[-1].block_time
            if 0 <= age_s <= LIVE_S:
                metrics.BLOCK_TO_LEDGER_SECONDS.observe(age_s)


def _observe(batches: Sequence[ContractBatch], posted: Sequence[Posted]) -> None:
    _observe_latency(batches)
    metrics.LEDGER_BATCH_EVENTS.observe(sum(result.events for result in posted))
    for batch, result in zip(batches, posted, strict=True):
        for event_type, count in result.by_type.items():
            metrics.EVENTS_POSTED.labels(event_type).inc(count)
        if result.quarantined:
            metrics.QUARANTINED.labels(batch.contract_kind).inc(result.quarantined)
