"""Keeps the six tranches in memory, so that a read never waits for the database, and says how old they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from tonsurance import log, metrics
from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import TRANCHE_IDS, Tranche
from tonsurance.core.errors import BeforeHistory, NotReady, StaleFigures, TonsuranceError, UnknownVault
from tonsurance.core.limits import InForce, TrancheRoom, policy_capacity, read_rules, tranche_capacity
from tonsurance.core.moments import Moment
from tonsurance.core.params import Params, Thresholds
from tonsurance.core.tranches import Utilization, collateralization, current_apy_percent, utilization
from tonsurance.services.ports import LedgerReader, LedgerState, TrancheTotals

logger = log.get("tranche_reads")


class TrancheFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche's totals and what follows from them under one version of the parameters.

    `current_apy_pct` is the bonding curve's target in percent, None when the tranche is insolvent.
    """

    totals: TrancheTotals
    tranche: Tranche
    thresholds: Thresholds
    used: Utilization
    current_apy_pct: float | None
    room: Capacity
    collateralization: float | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one vault's tranches, senior to junior, as of one ledger version."""

    vault_id: str
    state: LedgerState
    params_version: int
    tranches: tuple[TrancheFigures, ...]

    def pick(self, tranche_id: str) -> TrancheFigures:
        """One tranche by its shown id. Raises NotReady when nothing is known about it yet."""
        for figures in self.tranches:
            if figures.totals.tranche_id == tranche_id:
                return figures
        raise NotReady(f"{tranche_id} has not been posted yet.")

    @property
    def latest(self) -> TrancheTotals:
        """The totals that moved last: how far the snapshot as a whole reaches."""
        return max((figures.totals for figures in self.tranches), key=lambda totals: totals.lt)


class Freshness(msgspec.Struct, frozen=True):
    """Seconds since the ledger was last read (None: never), and whether that is too long to call figures current."""

    age_s: float | None
    stale: bool


class CacheStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The figures in memory: reads answered from them while fresh (hits) and others, tranches and vaults kept, and
    the age from which they no longer count as current, in seconds."""

    hits: int
    misses: int
    hit_rate: float | None
    size: int
    vaults: int
    ttl_s: float
    age_s: float | None


def compute_figures(totals: TrancheTotals, params: Params) -> TrancheFigures:
    """Utilisation, target APY and room of one tranche, all with the same parameters."""
    tranche = params.tranche(totals.tranche_id)
    used = utilization(totals.capital_nano, totals.coverage_nano)
    return TrancheFigures(
        totals=totals,
        tranche=tranche,
        thresholds=params.thresholds,
        used=used,
        current_apy_pct=current_apy_percent(tranche, used),
        room=tranche_capacity(room_of(totals), read_rules(params)),
        collateralization=collateralization(totals.capital_nano, totals.coverage_nano),
    )


def room_of(totals: TrancheTotals) -> TrancheRoom:
    """A tranche's totals as the limits take them."""
    return TrancheRoom(
        tranche_id=totals.tranche_id,
        capital_nano=totals.capital_nano,
        coverage_nano=totals.coverage_nano,
        held_nano=totals.held_nano,
    )


def vault_room(snapshot: Snapshot, params: Params, in_force: InForce | None = None) -> Capacity:
    """The largest policy a vault can take; with `in_force` under the caps of that product and its chain too."""
    rooms = [room_of(figures.totals) for figures in snapshot.tranches]
    return policy_capacity(rooms, read_rules(params), in_force=in_force)


def _empty(vault_id: str, tranche_id: str) -> TrancheTotals:
    return TrancheTotals(
        vault_id=vault_id,
        tranche_id=tranche_id,
        capital_nano=0,
        coverage_nano=0,
        unearned_nano=0,
        losses_nano=0,
        lt=0,
        seqno=None,
        block_time=0.0,
    )


class TrancheReads:
    """The last ledger state that was read, and its age.

    A failed refresh keeps what was read before and lets it grow old; it never becomes zero or empty.
    """

    def __init__(
        self,
        reader: LedgerReader,
        params: Params,
        *,
        vault_id: str,
        stale_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self.params = params
        self.vault_id = vault_id
        self.stale_after_s = stale_after_s
        self._snapshots: dict[str, Snapshot] = {}
        self._state: LedgerState | None = None
        self._read_at: float | None = None
        self._held_until: float | None = None
        self.failure: TonsuranceError | None = None
        self._asked = self._answered = 0
        self._reading = asyncio.Lock()
        self.hits = self.misses = 0

    async def refresh(self) -> bool:
        """Read the ledger again. False when it cannot be read: the figures then stay and age."""
        started, asked = self._clock(), self._asked
        try:
            state = await self._reader.read_state()
        except TonsuranceError as error:
            metrics.LEDGER_READS.labels(error.code).inc()
            if self.failure is None:
                logger.warning("ledger cannot be read", code=error.code, error=error.message)
            self.failure = error
            self._held_until = None  # asked in vain: the figures show less room than there is, until they are too old
            return False
        if self.failure is not None:
            logger.info("ledger can be read again")
        metrics.LEDGER_READS.labels("ok").inc()
        self.failure = None
        self._answered = asked
        self._keep(state, started)
        return True

    def invalidate(self) -> None:
        """What is in memory may be old from now on: `current` reads the ledger again first."""
        self._asked += 1

    async def freshen(self) -> None:
        """Read the ledger when what is in memory was invalidated or has grown too old. Who asks meanwhile waits for
        the same reading."""
        async with self._reading:
            if self._is_old:
                await self.refresh()

    async def current(self, vault_id: str | None = None) -> Snapshot:
        """A vault's figures (else the first one's), read anew when they were invalidated or have grown too old, or when
        a reservation they count is late. New reservations of other processes show with the next reading.

        Raises StaleFigures when that is not possible, and what `snapshot_of` raises.
        """
        if self._is_old:
            self._count(hit=False)
            await self.freshen()
        else:
            self._count(hit=True)
        if self.failure is not None and (self._answered < self._asked or self.freshness.stale):
            raise StaleFigures(
                f"There are no current figures: {self.failure.message}",
                advice="Look at the database with `tonsurance doctor`; nothing is answered from old figures meanwhile.",
            )
        return self._find(vault_id or self.vault_id)

    @property
    def _is_old(self) -> bool:
        """Invalidated, too old, or a reservation counted in it is over by now."""
        late = self._held_until is not None and self._clock() >= self._held_until
        return late or self._answered < self._asked or self.freshness.stale

    def use_params(self, params: Params) -> None:
        """Compute the figures anew with these parameters, from what was read last."""
        self.params = params
        if self._state is not None and self._read_at is not None:
            self._keep(self._state, self._read_at)

    def _keep(self, state: LedgerState, started: float) -> None:
        self._read_at, self._state = started, state
        self._held_until = None if state.held_for_s is None else started + state.held_for_s
        vault_ids = dict.fromkeys((*(totals.vault_id for totals in state.tranches), *state.direct_vaults))
        self._snapshots = {vault_id: self._make_snapshot(state, vault_id) for vault_id in vault_ids}

    def _make_snapshot(self, state: LedgerState, vault_id: str) -> Snapshot:
        order = {tranche_id: place for place, tranche_id in enumerate(TRANCHE_IDS)}
        mine = sorted(
            (totals for totals in state.tranches if totals.vault_id == vault_id),
            key=lambda totals: order[totals.tranche_id],
        )
        if vault_id in state.direct_vaults:
            posted = {totals.tranche_id: totals for totals in mine}
            mine = [posted.get(tranche_id) or _empty(vault_id, tranche_id) for tranche_id in TRANCHE_IDS]
        return Snapshot(
            vault_id=vault_id,
            state=state,
            params_version=self.params.version,
            tranches=tuple(compute_figures(totals, self.params) for totals in mine),
        )

    async def read_at(self, moment: Moment, vault_id: str | None = None) -> Snapshot:
        """The figures of a vault (else of the first) as they were at a moment of the past, from the ledger's history.

        Raises BeforeHistory, InTheFuture, and what makes the ledger unreadable.
        """
        vault_id = vault_id or self.vault_id
        snapshot = self._make_snapshot(await self._reader.read_state_at(vault_id, moment), vault_id)
        if not snapshot.tranches:
            raise BeforeHistory
        return snapshot

    @property
    def snapshot(self) -> Snapshot:
        """The first vault's figures as last read. Raises NotReady when there were never any."""
        return self.snapshot_of(self.vault_id)

    def snapshot_of(self, vault_id: str) -> Snapshot:
        """A vault's figures as last read. Raises NotReady when there were never any, UnknownVault when others have
        some."""
        self._count(hit=vault_id in self._snapshots and not self.freshness.stale)
        return self._find(vault_id)

    def _find(self, vault_id: str) -> Snapshot:
        found = self._snapshots.get(vault_id)
        if found is not None:
            return found
        if self._snapshots and vault_id != self.vault_id:
            raise UnknownVault(f"There is no vault {vault_id}, or nothing was posted to it yet.")
        raise NotReady("No tranche has been posted yet, or the ledger could not be read so far.")

    def _count(self, *, hit: bool) -> None:
        if hit:
            self.hits += 1
        else:
            self.misses += 1

    @property
    def snapshot_or_none(self) -> Snapshot | None:
        """The first vault's figures as last read, None when there were never any."""
        return self._snapshots.get(self.vault_id)

    @property
    def vault_ids(self) -> tuple[str, ...]:
        """The vaults that figures are there of."""
        return tuple(self._snapshots)

    @property
    def state_or_none(self) -> LedgerState | None:
        """What was read last, of all vaults."""
        return self._state

    def figures(self, tranche_id: str, vault_id: str | None = None) -> TrancheFigures:
        """One tranche by its shown id, of a vault (else of the first). Raises what `find` raises."""
        return self.find(tranche_id, vault_id)[0]

    def find(self, tranche_id: str, vault_id: str | None = None) -> tuple[TrancheFigures, Snapshot]:
        """One tranche and the snapshot it stands in. Raises NotReady when nothing is known about it yet, and what
        `snapshot_of` raises."""
        snapshot = self.snapshot_of(vault_id or self.vault_id)
        return snapshot.pick(tranche_id), snapshot

    @property
    def statistics(self) -> CacheStatistics:
        """How often figures were asked for and were here, fresh, since the start; and how many are kept."""
        asked = self.hits + self.misses
        return CacheStatistics(
            hits=self.hits,
            misses=self.misses,
            hit_rate=self.hits / asked if asked else None,
            size=sum(len(snapshot.tranches) for snapshot in self._snapshots.values()),
            vaults=len(self._snapshots),
            ttl_s=self.stale_after_s,
            age_s=self.freshness.age_s,
        )

    @property
    def freshness(self) -> Freshness:
        """How old the figures are now."""
        if self._read_at is None:
            return Freshness(None, True)
        age = max(0.0, self._clock() - self._read_at)
        return Freshness(age, age > self.stale_after_s)
