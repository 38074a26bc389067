"""Reads the ledger from PostgreSQL for the services that show it; opens its pool when it is first needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.db import events, ledger, tranches
from tonsurance.db.pool import Connection, Pool, acquire, open_pool
from tonsurance.services.ports import ContractSync, EventQuery, LedgerState, PostedEvent, TrancheTotals

READ_TIMEOUT_S = 3.0
"""A read that takes longer is an outage: who waits for it would rather know."""

CLOSE_TIMEOUT_S = 2.0


class PostgresLedgerReader:
    """LedgerReader over a pool. May be made before the database is up: until then reads raise DatabaseUnavailable."""

    def __init__(self, dsn: str, *, pool_size: int = 4, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._read_timeout_s = read_timeout_s
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def read_state(self) -> LedgerState:
        """Version, tranches, cursors and newest event of one moment."""
        async with self._connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            version = await ledger.select_ledger_version(conn)
            rows = await tranches.select_tranches(conn)
            syncs = await events.select_sync_states(conn)
            newest = await events.select_events(conn, limit=1, newest_first=True)
        return LedgerState(
            version=version,
            read_at=time.time(),
            tranches=tuple(totals_of(row) for row in rows),
            contracts=tuple(sync_of(sync) for sync in syncs),
            last_event_id=newest[0].event_id if newest else 0,
        )

    async def read_events(self, query: EventQuery) -> tuple[PostedEvent, ...]:
        """One page of the audit log."""
        async with self._connection() as conn:
            rows = await events.select_events(
                conn,
                contract=query.contract,
                event_type=query.event_type,
                after=query.after,
                limit=query.limit,
                newest_first=query.newest_first,
            )
        return tuple(event_of(row) for row in rows)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._read_timeout_s):
                pool = await self._open()
                async with acquire(pool, timeout_s=self._read_timeout_s) as conn:
                    yield conn
        except TimeoutError as error:
            raise DatabaseUnavailable("The database did not answer in time.") from error

    async def _open(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await open_pool(
                    self._dsn, min_size=1, max_size=self._pool_size, application_name="tonsurance api"
                )
            return self._pool

    async def close(self) -> None:
        """Give the connections back; those that hang are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()


def totals_of(row: tranches.TrancheRow) -> TrancheTotals:
    """A tranche's row as the services see it."""
    return TrancheTotals(
        vault_id=row.vault_id,
        tranche_id=row.tranche_id,
        capital_nano=row.total_capital_nanoton,
        coverage_nano=row.coverage_sold_nanoton,
        unearned_nano=row.unearned_premium_nanoton,
        lt=row.logical_time,
        seqno=row.mc_seqno,
        block_time=row.block_time.timestamp(),
    )


def sync_of(sync: events.SyncState) -> ContractSync:
    """A contract's cursor as the services see it."""
    return ContractSync(
        contract=sync.contract_address,
        contract_kind=sync.contract_type,
        status=sync.sync_status,
        last_lt=sync.cursor.lt,
        head_lt=sync.head_lt,
        checked_at=None if sync.last_sync_timestamp is None else sync.last_sync_timestamp.timestamp(),
    )


def event_of(row: events.EventRow) -> PostedEvent:
    """An event's row as the services see it."""
    return PostedEvent(
        event_id=row.event_id,
        contract=row.contract_address,
        contract_kind=row.contract_type,
        event_type=row.event_type,
        lt=row.logical_time,
        message_index=row.message_index,
        transaction_hash=row.transaction_hash,
        block_time=row.block_time.timestamp(),
        fields={name: value for name, value in row.metadata.items() if name != "type"},
    )
