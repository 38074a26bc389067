"""Reads the ledger from PostgreSQL for the services that show it; opens its pool when it is first needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from tonsurance.core.errors import BeforeHistory, DatabaseUnavailable, InTheFuture, NotReady
from tonsurance.core.limits import InForce
from tonsurance.core.moments import Moment
from tonsurance.core.yields import Yields
from tonsurance.db import direct, entries, events, history, ledger, policies, reservations, series, tranches
from tonsurance.db.pool import Connection, Pool, acquire, open_pool
from tonsurance.db.roles import ROLE_OF
from tonsurance.services import yield_reads
from tonsurance.services.ports import (
    ContractSync,
    EntryQuery,
    EventQuery,
    LedgerState,
    PolicyCounts,
    PostedEntry,
    PostedEvent,
    RowCache,
    TrancheTotals,
)

READ_TIMEOUT_S = 3.0
"""A read that takes longer is an outage: who waits for it would rather know."""

CLOSE_TIMEOUT_S = 2.0
DEFAULT_WINDOW_DAYS = 30


class PostgresLedgerReader:
    """LedgerReader over a pool. May be made before the database is up: until then reads raise DatabaseUnavailable."""

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 4,
        read_timeout_s: float = READ_TIMEOUT_S,
        window_days: Callable[[], int] = lambda: DEFAULT_WINDOW_DAYS,
        shared: RowCache | None = None,
    ) -> None:
        """`shared` is asked for the tranches' rows of the version that holds before the database is."""
        self._dsn = dsn
        self._pool_size = pool_size
        self._read_timeout_s = read_timeout_s
        self._window_days = window_days
        self._shared = shared
        self._system: str | None = None
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def read_state(self) -> LedgerState:
        """Version, tranches, cursors and newest event of one moment."""
        offered = await self._ask_shared()
        async with self._connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            version = await ledger.select_ledger_version(conn)
            known = offered is not None and offered[0] == version
            rows = list(offered[1]) if offered is not None and known else await tranches.select_tranches(conn)
            syncs = await events.select_sync_states(conn)
            newest = await events.select_events(conn, limit=1, newest_first=True)
            sources = await direct.select_vaults(conn)
            held, held_for_s = await reservations.select_held_until(conn)
            paid = await yield_reads.read_yields(conn, rows, self._window_days(), time.time())
            if self._shared is not None and self._system is None:
                self._system = await tranches.select_system(conn)
        if self._shared is not None and self._system is not None and not known:
            await self._shared.store_utilizations(self._system, version, tuple(rows))
        return LedgerState(
            version=version,
            read_at=time.time(),
            tranches=tuple(
                totals_of(row, held.get((row.vault_id, row.tranche_id), 0), paid.get((row.vault_id, row.tranche_id)))
                for row in rows
            ),
            contracts=tuple(sync_of(sync) for sync in syncs),
            last_event_id=newest[0].event_id if newest else 0,
            direct_vaults=tuple(vault_id for vault_id, source in sources.items() if source == "direct"),
            held_for_s=held_for_s,
        )

    async def _ask_shared(self) -> tuple[int, tuple[tranches.TrancheRow, ...]] | None:
        if self._shared is None or self._system is None:
            return None
        return await self._shared.get_utilizations(self._system)

    async def read_events(self, query: EventQuery) -> tuple[PostedEvent, ...]:
        """One page of the audit log."""
        async with self._connection() as conn:
            rows = await events.select_events(
                conn,
                contract=query.contract,
                event_type=query.event_type,
                transaction=query.transaction,
                policy_id=query.policy_id,
                after=query.after,
                limit=query.limit,
                newest_first=query.newest_first,
            )
        return tuple(event_of(row) for row in rows)

    async def read_state_at(self, vault_id: str, moment: Moment) -> LedgerState:
        """A vault's tranches as they stood then. Raises BeforeHistory, InTheFuture, NotReady without a vault."""
        async with self._connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            reach = await history.select_reach(conn, vault_id)
            if reach is None:
                raise NotReady(f"No contract of vault {vault_id} has been read yet.")
            check_reach(moment, reach)
            await check_kept(conn, vault_id, moment)
            rows = await read_rows_at(conn, vault_id, moment)
            then = moment.time.timestamp() if moment.time else 0.0
            paid = await yield_reads.read_yields(conn, rows, self._window_days(), then)
        if not rows:
            raise BeforeHistory
        return LedgerState(
            version=max(row.ledger_version for row in rows),
            read_at=time.time(),
            tranches=tuple(totals_of(row, paid=paid.get((row.vault_id, row.tranche_id))) for row in rows),
            contracts=(),
            last_event_id=0,
        )

    async def read_entries(self, query: EntryQuery) -> tuple[PostedEntry, ...]:
        """One page of a vault's entries."""
        async with self._connection() as conn:
            rows = await entries.select_entries(
                conn,
                vault_id=query.vault_id,
                tranche_id=query.tranche_id,
                after=query.after,
                limit=query.limit,
                newest_first=query.newest_first,
            )
        return tuple(entry_of(row) for row in rows)

    async def read_policy_counts(self) -> PolicyCounts:
        """All policies by status."""
        async with self._connection() as conn:
            counts = await policies.select_policy_counts(conn)
        return PolicyCounts(**msgspec.structs.asdict(counts))

    async def read_cover_in_force(
        self, vault_id: str, coverage_type: int, chain_id: int, stablecoin_id: int
    ) -> InForce:
        """Cover of active and approved policies of one product, and of all products of its chain."""
        async with self._connection() as conn:
            return await policies.select_cover_in_force(conn, vault_id, coverage_type, chain_id, stablecoin_id)

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
                    self._dsn,
                    min_size=1,
                    max_size=self._pool_size,
                    application_name="tonsurance api",
                    role=ROLE_OF["api"],
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


def check_reach(moment: Moment, reach: history.Reach) -> None:
    """Raises InTheFuture. A chain's clock may run ahead of ours: what is in the ledger is never in the future."""
    if moment.lt is not None and moment.lt > reach.lt:
        raise InTheFuture(f"The vault has been read up to logical time {reach.lt} so far.")
    if moment.version is not None and moment.version > reach.version:
        raise InTheFuture(f"The ledger's version is {reach.version} now.")
    if moment.time is not None:
        latest = max(time.time(), reach.time.timestamp() if reach.time else 0.0)
        if moment.time.timestamp() > latest:
            raise InTheFuture(f"{moment.time.isoformat()} has not come yet.")


async def check_kept(conn: Connection, vault_id: str, moment: Moment) -> None:
    """Raises BeforeHistory when the steps of that time are no longer kept."""
    since = await series.select_horizon(conn)
    if since is None:
        return
    time_of = None if moment.time is None else moment.time.timestamp()
    if time_of is None:
        lt = moment.lt
        if lt is None:
            lt = await history.select_lt_at_version(conn, vault_id, moment.version or 0)
        time_of = await series.select_time_at_lt(conn, vault_id, lt)
    if time_of is None or time_of < since:
        kept = datetime.fromtimestamp(since, UTC).isoformat()
        raise BeforeHistory(f"The history is kept from {kept} on; of the time before there are days only.")


async def read_rows_at(conn: Connection, vault_id: str, moment: Moment) -> list[tranches.TrancheRow]:
    """The tranches' rows at a moment."""
    if moment.time is not None:
        return await history.select_tranches_at_time(conn, vault_id, moment.time)
    lt = moment.lt if moment.lt is not None else await history.select_lt_at_version(conn, vault_id, moment.version or 0)
    return await history.select_tranches_at_lt(conn, vault_id, lt)


def totals_of(row: tranches.TrancheRow, held_nano: int = 0, paid: Yields | None = None) -> TrancheTotals:
    """A tranche's row as the services see it, with what reservations hold of its room and what it really pays."""
    return TrancheTotals(
        vault_id=row.vault_id,
        tranche_id=row.tranche_id,
        capital_nano=row.total_capital_nanoton,
        coverage_nano=row.coverage_sold_nanoton,
        unearned_nano=row.unearned_premium_nanoton,
        losses_nano=row.absorbed_losses_nanoton,
        lt=row.logical_time,
        seqno=row.mc_seqno,
        block_time=row.block_time.timestamp(),
        held_nano=held_nano,
        paid=paid or Yields(),
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


def entry_of(row: entries.EntryRow) -> PostedEntry:
    """An entry's row as the services see it."""
    return PostedEntry(
        entry_id=row.entry_id,
        tranche_id=row.tranche_id,
        event_id=row.event_id,
        event_type=row.event_type,
        policy_id=row.policy_id,
        capital_delta=row.capital_delta_nanoton,
        coverage_delta=row.coverage_delta_nanoton,
        unearned_delta=row.unearned_delta_nanoton,
        loss_delta=row.loss_delta_nanoton,
        shares_delta=row.shares_delta,
        transaction_hash=row.transaction_hash,
        lt=row.logical_time,
        message_index=row.message_index,
        block_time=row.block_time.timestamp(),
    )
