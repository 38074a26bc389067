"""The utilisation tracker as a library: what tranches hold, pay and can still take, for any program.

A vault of source `chain` follows its contract; here it is read. A `direct` vault is moved by the `update_*` calls.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from tonsurance.bus.notify import Listener
from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import TRANCHE_IDS, parse_tranche_id
from tonsurance.core.errors import InputError, NotInitialized
from tonsurance.core.params import DEFAULT_PARAMS, Params, Thresholds
from tonsurance.core.reservations import Reservation
from tonsurance.core.tranches import utilization
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.direct import DirectUpdate, Part, Updated
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect
from tonsurance.db.queued import QueuedUpdate
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.direct_vaults import QUEUE_POLL_S, DirectVaults
from tonsurance.services.history_reads import HistoryReads, TrancheOutlook
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.library_values import DatabaseConfig, TrancheUtilization, show_utilization
from tonsurance.services.loop import every
from tonsurance.services.reservations import Reservations
from tonsurance.services.tranche_reads import Snapshot, TrancheFigures, TrancheReads

CACHE_TTL_S = 30.0
"""Figures in memory are never used longer than this, whatever was or was not announced."""

FRESHEN_S = 10.0
FIRST_VAULT = "main"


class _Parts:
    """What an initialised tracker works with."""

    def __init__(self, dsn: str, *, pool_size: int, vault_id: str, cache_ttl_s: float) -> None:
        self.loader = ConfigLoader(dsn, process="tracker")
        self.ledger = PostgresLedgerReader(dsn, pool_size=pool_size)
        self.pool = LazyPool(dsn, max_size=pool_size, application_name="tonsurance tracker")
        self.reads = TrancheReads(self.ledger, self.loader.params, vault_id=vault_id, stale_after_s=cache_ttl_s)
        self.direct = DirectVaults(self.pool, lambda: self.loader.params)
        self.reservations = Reservations(self.pool, lambda: self.loader.params, on_change=self.note_change)
        self.history = HistoryReads(self.pool, self.reads)
        self.stop = asyncio.Event()
        self.wake = asyncio.Event()
        self.commits = Listener(dsn, lambda _version: self.note_change())
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.loader.subscribe(self._use_params)
        await self.loader.start()
        self.tasks = [
            asyncio.create_task(self.commits.run(self.stop)),
            asyncio.create_task(
                every(FRESHEN_S, self.reads.freshen, stop=self.stop, wake=self.wake, name="tranches in memory")
            ),
            asyncio.create_task(every(QUEUE_POLL_S, self.direct.apply_queued, stop=self.stop, name="queued updates")),
        ]
        await self.reads.refresh()  # warm from the first call on

    def note_change(self) -> None:
        """Something was committed: no read takes the old figures any more, and the new ones are fetched at once."""
        self.reads.invalidate()
        self.wake.set()

    async def close(self) -> None:
        self.stop.set()
        await asyncio.gather(*self.tasks)
        await self.reservations.close()
        await self.direct.close()
        await self.loader.close()
        await self.pool.close()
        await self.ledger.close()

    def _use_params(self, params: Params) -> None:
        self.reads.use_params(params)


class UtilizationTracker:
    """Utilisation, target APY and capacity of vaults' tranches, over one ledger.

    Answers come from memory while they are current: a commit of any process makes them old at once, and no answer is
    older than `cache_ttl_s`. `vault_id` is the vault meant where none is named; `principal` is whose keys the
    idempotency keys are. Methods are for one event loop. All of them raise NotInitialized before `init`, StaleFigures
    or DatabaseUnavailable when the ledger cannot be reached, UnknownTranche and UnknownVault for names that are none.
    """

    default_thresholds: ClassVar[Thresholds] = DEFAULT_PARAMS.thresholds
    """The limits that hold when nothing was configured; `thresholds` are those in force."""

    def __init__(
        self, *, vault_id: str = FIRST_VAULT, principal: str = "tracker", cache_ttl_s: float = CACHE_TTL_S
    ) -> None:
        self.vault_id = vault_id
        self.principal = principal
        self.cache_ttl_s = cache_ttl_s
        self._parts: _Parts | None = None

    async def init(self, database_config: DatabaseConfig | str) -> None:
        """Connect, bring the schema to this version, and warm the figures. Raises DatabaseUnavailable, MigrationError.

        `database_config` may be an address `postgresql://user@host/name`. Initialising again connects anew.
        """
        await self.close()
        config = database_config
        dsn, pool_size = (
            (config, DatabaseConfig().pool_size) if isinstance(config, str) else (config.dsn, config.pool_size)
        )
        conn = await connect(dsn, application_name="tonsurance tracker")
        try:
            await migrate(conn)
        finally:
            await conn.close()
        parts = _Parts(dsn, pool_size=pool_size, vault_id=self.vault_id, cache_ttl_s=self.cache_ttl_s)
        await parts.start()
        self._parts = parts

    async def close(self) -> None:
        """Post what was submitted and give the connections back. Closing twice is once."""
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.close()

    async def __aenter__(self) -> UtilizationTracker:
        """Use as `async with tracker`, after `init` or before it."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    # What tranches hold

    async def get_tranche_utilization(self, tranche: str) -> TrancheUtilization:
        """One tranche of the tracker's vault."""
        return await self.get_vault_utilization(self.vault_id, tranche)

    async def get_all_utilizations(self) -> tuple[TrancheUtilization, ...]:
        """The tranches of the tracker's vault, senior to junior."""
        return await self.get_vault_utilizations(self.vault_id)

    async def get_vault_utilization(self, vault_id: str, tranche: str) -> TrancheUtilization:
        """One tranche of any vault."""
        snapshot, figures = await self._figures(tranche, vault_id)
        return show_utilization(snapshot, figures)

    async def get_vault_utilizations(self, vault_id: str) -> tuple[TrancheUtilization, ...]:
        """The tranches of any vault, senior to junior."""
        snapshot = await self._ready.reads.current(vault_id)
        return tuple(show_utilization(snapshot, figures) for figures in snapshot.tranches)

    @staticmethod
    def calculate_utilization_ratio(total_capital: int, coverage_sold: int) -> float:
        """coverage / capital, at most 1, and 0 when both are 0; amounts in nanoTON. Raises InputError below zero."""
        if total_capital < 0 or coverage_sold < 0:
            raise InputError("Capital and coverage are not below zero.")
        return utilization(total_capital, coverage_sold).capped

    @property
    def thresholds(self) -> Thresholds:
        """The limits in force."""
        return self._ready.loader.params.thresholds

    # What they can still take

    async def can_accept_coverage(self, tranche: str, amount: int) -> bool:
        """Whether this much new cover (nanoTON) fits the tranche now: a hint, only a reservation holds it."""
        if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= BIGINT_MAX:
            raise InputError(f"An amount of cover is a whole number of nanoTON from 1 to {BIGINT_MAX}.")
        return amount <= await self.get_available_capacity(tranche)

    async def get_available_capacity(self, tranche: str) -> int:
        """nanoTON of new cover the tranche can take now."""
        _, figures = await self._figures(tranche, self.vault_id)
        return figures.room.available_nano

    async def get_collateralization_ratio(self, tranche: str) -> float | None:
        """capital / coverage; None when nothing is covered."""
        _, figures = await self._figures(tranche, self.vault_id)
        return figures.collateralization

    async def get_capacity(self, tranche: str) -> Capacity:
        """Every limit on new cover with the room it leaves, and the one that binds; reservations are counted."""
        _, figures = await self._figures(tranche, self.vault_id)
        return figures.room

    async def predict_capacity_exhaustion(self, tranche: str) -> float | None:
        """Hours until the tranche takes no more cover (median); None when it will not be full within the horizon, its
        history is too short, or no forecast is better than the naive one: `read_outlook` says which, with intervals
        and the track record."""
        forecast = (await self.read_outlook(tranche)).outlook.forecast
        return None if forecast is None else forecast.hours

    async def read_outlook(self, tranche: str) -> TrancheOutlook:
        """When the tranche will be full, how sure that is, and how well such forecasts did so far."""
        wanted, parts = parse_tranche_id(tranche), self._ready
        await parts.reads.current(self.vault_id)
        return await parts.history.read_outlook(wanted, self.vault_id)

    # Holding room

    async def reserve_coverage(
        self, tranche: str | None, amount: int, *, ttl_s: int, key: str, quote_id: int | None = None
    ) -> Reservation:
        """Hold room for a cover (nanoTON) for `ttl_s` seconds: of one tranche, or of a policy over all six (None).

        Raises CapacityExceeded with every limit; the same key again is the same reservation.
        """
        held = await self._ready.reservations.reserve_coverage(
            self.vault_id, tranche, amount, ttl_s, key, self.principal, quote_id
        )
        return held.reservation

    async def commit_reservation(self, reservation_id: str, *, quote_id: int | None = None) -> Reservation:
        """The cover is bought: on a direct vault it is posted; on one that follows its chain its policy is awaited."""
        reservations = self._ready.reservations
        return (await reservations.commit(reservation_id, quote_id=quote_id, principal=self.principal)).reservation

    async def release_reservation(self, reservation_id: str) -> Reservation:
        """Give the room back."""
        return (await self._ready.reservations.release(reservation_id, principal=self.principal)).reservation

    # Moving direct vaults

    async def create_vault(self, vault_id: str) -> None:
        """Make a direct vault, empty; the same again changes nothing. Raises InputError, VaultFollowsChain."""
        parts = self._ready
        await parts.direct.create(vault_id)
        parts.note_change()

    async def list_vaults(self) -> dict[str, str]:
        """All vaults and the source of each: `chain` or `direct`."""
        return await self._ready.direct.list_vaults()

    async def update_capital(self, tranche: str, delta: int, *, key: str | None = None) -> Updated:
        """Move the capital of a tranche of a direct vault by this many nanoTON; returns when it is durable.

        The same `key` again is the same update (without one each call is another). Raises VaultFollowsChain,
        LedgerRefused when the capital would go below zero, IdempotencyConflict.
        """
        return await self._post("update_capital", (Part(tranche, capital=delta),), key)

    async def update_coverage(self, tranche: str, delta: int, *, key: str | None = None) -> Updated:
        """Move the coverage of a tranche of a direct vault by this many nanoTON; otherwise like update_capital."""
        return await self._post("update_coverage", (Part(tranche, coverage=delta),), key)

    async def update_capitals(self, deltas: Mapping[str, int], *, key: str | None = None) -> Updated:
        """Move the capital of several tranches, all of it or nothing."""
        return await self._post("update_capital", tuple(Part(t, capital=delta) for t, delta in deltas.items()), key)

    async def update_coverages(self, deltas: Mapping[str, int], *, key: str | None = None) -> Updated:
        """Move the coverage of several tranches, all of it or nothing."""
        return await self._post("update_coverage", tuple(Part(t, coverage=delta) for t, delta in deltas.items()), key)

    async def sync_from_chain(
        self, tranche: str, total_capital: int, coverage_sold: int, *, key: str | None = None
    ) -> Updated:
        """Set a tranche of a direct vault to what its chain says. Raises VaultFollowsChain for vaults that are followed
        here: they are equal to their chain by themselves, and `tonsurance verify` proves it."""
        parts = (Part(tranche, capital=total_capital, coverage=coverage_sold),)
        return await self._post("sync_from_chain", parts, key, absolute=True)

    async def enqueue_capital(self, tranche: str, delta: int, *, key: str | None = None) -> QueuedUpdate:
        """Like update_capital, but returns when it is accepted: from then on it will be applied once, also after a
        crash. Whether the ledger took it is told by `read_queued`."""
        return await self._enqueue("update_capital", (Part(tranche, capital=delta),), key)

    async def enqueue_coverage(self, tranche: str, delta: int, *, key: str | None = None) -> QueuedUpdate:
        """Like update_coverage, but returns when it is accepted; otherwise like enqueue_capital."""
        return await self._enqueue("update_coverage", (Part(tranche, coverage=delta),), key)

    async def read_queued(self, queue_id: int) -> QueuedUpdate:
        """What became of an accepted update."""
        return await self._ready.direct.read_queued(queue_id)

    async def drain_queue(self) -> int:
        """Apply what was accepted now instead of within a second; returns how many came to their end."""
        parts = self._ready
        done = await parts.direct.apply_queued()
        if done:
            parts.note_change()
        return done

    # The cache

    def invalidate_cache(self, tranche: str, vault_id: str | None = None) -> None:
        """Have the ledger read before the next answer about this tranche (all are read together)."""
        parse_tranche_id(tranche)
        self._ready.reads.invalidate()

    def clear_caches(self) -> None:
        """Have the ledger read before the next answer."""
        self._ready.reads.invalidate()

    def get_statistics(self) -> dict[str, object]:
        """The cache's hits, misses, size and age (seconds), the versions in use, and whether commits are heard."""
        parts = self._ready
        state = parts.reads.state_or_none
        return {
            **msgspec.structs.asdict(parts.reads.statistics),
            "ledger_version": None if state is None else state.version,
            "params_version": parts.loader.params.version,
            "listening": parts.commits.connected,
            "degraded": parts.loader.degraded,
        }

    @property
    def _ready(self) -> _Parts:
        if self._parts is None:
            raise NotInitialized
        return self._parts

    async def _figures(self, tranche: str, vault_id: str) -> tuple[Snapshot, TrancheFigures]:
        wanted = parse_tranche_id(tranche)
        snapshot = await self._ready.reads.current(vault_id)
        return snapshot, snapshot.pick(wanted)

    async def _post(self, route: str, parts: tuple[Part, ...], key: str | None, *, absolute: bool = False) -> Updated:
        ready = self._ready
        updated = await ready.direct.update(self._make_update(route, parts, key, absolute=absolute))
        ready.note_change()
        return updated

    async def _enqueue(self, route: str, parts: tuple[Part, ...], key: str | None) -> QueuedUpdate:
        return await self._ready.direct.enqueue(self._make_update(route, parts, key))

    def _make_update(
        self, route: str, parts: tuple[Part, ...], key: str | None, *, absolute: bool = False
    ) -> DirectUpdate:
        return DirectUpdate(
            principal=self.principal,
            route=route,
            key=secrets.token_hex() if key is None else key,
            vault_id=self.vault_id,
            parts=parts,
            absolute=absolute,
        )


__all__ = ["TRANCHE_IDS", "DatabaseConfig", "TrancheUtilization", "UtilizationTracker"]
