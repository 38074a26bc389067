"""The utilisation tracker as a library: what tranches hold, pay and can still take, for any program.

A vault of source `chain` follows its contract; here it is read. A `direct` vault is moved by the `update_*` calls.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import InputError, NotInitialized, NotReady, UnknownVault
from tonsurance.core.params import DEFAULT_PARAMS, Thresholds
from tonsurance.core.reservations import Reservation, check_tranche, check_vault
from tonsurance.core.tranches import utilization_ratio
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.direct import DirectUpdate, Part, Updated
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect
from tonsurance.db.queued import QueuedUpdate
from tonsurance.services.history_reads import TrancheOutlook
from tonsurance.services.library_values import DatabaseConfig, TrancheUtilization, advised, show_utilization
from tonsurance.services.tracker_parts import TrackerParts
from tonsurance.services.tranche_reads import Snapshot, TrancheFigures

CACHE_TTL_S = 30.0
"""Figures in memory are never used longer than this, whatever was or was not announced."""

FRESHEN_S = 10.0
FIRST_VAULT = "main"


class UtilizationTracker:
    """Utilisation, target APY and capacity of vaults' tranches, over one ledger.

    Answers come from memory while they are current: a commit of any process makes them old at once, and no answer is
    older than `cache_ttl_s` seconds (0 to 30). What reservations of other processes take from a shown capacity is the
    exception: these announce nothing (docs/adr/0007), so it is seen with the next reading of the ledger, after
    `cache_ttl_s` at the latest; their expiry is counted by time. A reservation itself is always decided upon current
    figures. `vault_id` is the vault meant where none is named; `principal` is whose keys the idempotency keys are;
    with `redis_url` what is read is shared through that Redis (REDIS_URL is the programs', not this class's: give it).

    Where no daemon runs, alerts of the updated vaults are evaluated after the updates' answers, and logged.

    Methods are for one event loop. All of them raise NotInitialized before `init`, StaleFigures or DatabaseUnavailable
    when the ledger cannot be reached, UnknownTranche and UnknownVault for names that are none.
    """

    default_thresholds: ClassVar[Thresholds] = DEFAULT_PARAMS.thresholds
    """The limits that hold when nothing was configured; `thresholds` are those in force."""

    def __init__(
        self,
        *,
        vault_id: str = FIRST_VAULT,
        principal: str = "tracker",
        cache_ttl_s: float = CACHE_TTL_S,
        redis_url: str | None = None,
    ) -> None:
        """Connects to nothing yet. Raises InputError for a time that is not above 0 and at most 30 s."""
        number = isinstance(cache_ttl_s, int | float) and not isinstance(cache_ttl_s, bool)
        if not (number and math.isfinite(cache_ttl_s) and 0 < cache_ttl_s <= CACHE_TTL_S):
            raise InputError(f"cache_ttl_s is a number of seconds above 0, at most {CACHE_TTL_S:g}.")
        self._redis_url = redis_url
        self.vault_id = vault_id
        self.principal = principal
        self.cache_ttl_s = cache_ttl_s
        self._parts: TrackerParts | None = None

    async def init(self, database_config: DatabaseConfig | str) -> None:
        """Connect, bring the schema to this version, and warm the figures. Raises DatabaseUnavailable, MigrationError.

        `database_config` may be an address `postgresql://user@host/name`. Initialising again connects anew.
        """
        await self.close()
        config = database_config
        dsn, pool_size = (
            (config, DatabaseConfig().pool_size) if isinstance(config, str) else (config.dsn, config.pool_size)
        )
        with advised():
            conn = await connect(dsn, application_name="tonsurance tracker")
            try:
                await migrate(conn)
            finally:
                await conn.close()
        parts = TrackerParts(
            dsn,
            pool_size=pool_size,
            vault_id=self.vault_id,
            cache_ttl_s=self.cache_ttl_s,
            freshen_s=FRESHEN_S,
            redis_url=self._redis_url,
        )
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
        snapshot = await self._snapshot(vault_id)
        return tuple(show_utilization(snapshot, figures) for figures in snapshot.tranches)

    @staticmethod
    def calculate_utilization_ratio(total_capital: int, coverage_sold: int) -> float:
        """coverage / capital, at most 1, and 0 when both are 0; amounts in whole nanoTON. Raises InputError for what is
        no such amount, or below zero."""
        return utilization_ratio(total_capital, coverage_sold)

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
        wanted, parts = check_tranche(tranche), self._ready
        await self._snapshot(self.vault_id)
        with advised():
            return await parts.history.read_outlook(wanted, self.vault_id)

    # Holding room

    async def reserve_coverage(
        self, tranche: str | None, amount: int, *, ttl_s: int, key: str, quote_id: int | None = None
    ) -> Reservation:
        """Hold room for a cover (nanoTON) for `ttl_s` seconds: of one tranche, or of a policy over all six (None).

        Raises CapacityExceeded with every limit; the same key again is the same reservation.
        """
        reservations = self._ready.reservations
        with advised():
            held = await reservations.reserve_coverage(
                self.vault_id, tranche, amount, ttl_s, key, self.principal, quote_id
            )
        return held.reservation

    async def commit_reservation(self, reservation_id: str, *, quote_id: int | None = None) -> Reservation:
        """The cover is bought: on a direct vault it is posted, and only within the limits of that moment (else it ends
        as `bumped`: ReservationEnded); on one that follows its chain its policy is awaited."""
        parts = self._ready
        with advised():
            committed = await parts.reservations.commit(reservation_id, quote_id=quote_id, principal=self.principal)
        parts.note_update()
        return committed.reservation

    async def release_reservation(self, reservation_id: str) -> Reservation:
        """Give the room back."""
        reservations = self._ready.reservations
        with advised():
            return (await reservations.release(reservation_id, principal=self.principal)).reservation

    # Moving direct vaults

    async def create_vault(self, vault_id: str) -> None:
        """Make a direct vault, empty; the same again changes nothing. Raises InputError, VaultFollowsChain."""
        parts = self._ready
        with advised():
            await parts.direct.create(vault_id)
        parts.note_change()

    async def list_vaults(self) -> dict[str, str]:
        """All vaults and the source of each: `chain` or `direct`."""
        direct = self._ready.direct
        with advised():
            return await direct.list_vaults()

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
        direct = self._ready.direct
        with advised():
            return await direct.read_queued(queue_id)

    async def drain_queue(self) -> int:
        """Apply what was accepted now instead of within a second; returns how many came to their end."""
        parts = self._ready
        with advised():
            return await parts.apply_queued()

    # The cache

    def invalidate_cache(self, tranche: str, vault_id: str | None = None) -> None:
        """Have the ledger read before the next answer about this tranche (all are read together)."""
        check_tranche(tranche)
        self._ready.reads.invalidate()

    def clear_caches(self) -> None:
        """Have the ledger read before the next answer."""
        self._ready.reads.invalidate()

    def get_statistics(self) -> dict[str, object]:
        """The cache's hits, misses, size and age (seconds), the versions in use, whether commits are heard, and why
        the tracker is degraded (None: it is not), as while the database cannot be reached."""
        parts = self._ready
        state = parts.reads.state_or_none
        return {
            **msgspec.structs.asdict(parts.reads.statistics),
            "ledger_version": None if state is None else state.version,
            "params_version": parts.loader.params.version,
            "listening": parts.commits.connected,
            "degraded": parts.degraded,
        }

    @property
    def _ready(self) -> TrackerParts:
        if self._parts is None:
            raise NotInitialized
        return self._parts

    async def _figures(self, tranche: str, vault_id: str) -> tuple[Snapshot, TrancheFigures]:
        wanted = check_tranche(tranche)
        snapshot = await self._snapshot(vault_id)
        return snapshot, snapshot.pick(wanted)

    async def _snapshot(self, vault_id: str) -> Snapshot:
        """A vault's current figures. Raises UnknownVault, and NotReady for one that nothing was posted to yet."""
        reads = self._ready.reads
        check_vault(vault_id)
        try:
            return await reads.current(vault_id)
        except (NotReady, UnknownVault):
            if vault_id not in await self.list_vaults():
                raise UnknownVault(f"There is no vault {vault_id}.") from None
            raise NotReady(f"Nothing has been posted to vault {vault_id} yet.") from None

    async def _post(self, route: str, parts: tuple[Part, ...], key: str | None, *, absolute: bool = False) -> Updated:
        ready = self._ready
        with advised():
            updated = await ready.direct.update(self._make_update(route, parts, key, absolute=absolute))
        ready.note_update()
        return updated

    async def _enqueue(self, route: str, parts: tuple[Part, ...], key: str | None) -> QueuedUpdate:
        direct = self._ready.direct
        with advised():
            return await direct.enqueue(self._make_update(route, parts, key))

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
