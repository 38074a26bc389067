"""Keeps the six tranches in memory, so that a read never waits for the database, and says how old they are."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from tonsurance import log, metrics
from tonsurance.core.capacity import Capacity, capacity
from tonsurance.core.catalog import TRANCHE_IDS, Tranche
from tonsurance.core.errors import BeforeHistory, NotReady, TonsuranceError
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

    state: LedgerState
    params_version: int
    tranches: tuple[TrancheFigures, ...]

    @property
    def latest(self) -> TrancheTotals:
        """The totals that moved last: how far the snapshot as a whole reaches."""
        return max((figures.totals for figures in self.tranches), key=lambda totals: totals.lt)


class Freshness(msgspec.Struct, frozen=True):
    """Seconds since the ledger was last read (None: never), and whether that is too long to call figures current."""

    age_s: float | None
    stale: bool


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
        room=capacity(totals.capital_nano, totals.coverage_nano, params.thresholds.max_utilization),
        collateralization=collateralization(totals.capital_nano, totals.coverage_nano),
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
        self._snapshot: Snapshot | None = None
        self._read_at: float | None = None
        self.failure: TonsuranceError | None = None

    async def refresh(self) -> bool:
        """Read the ledger again. False when it cannot be read: the figures then stay and age."""
        started = self._clock()
        try:
            state = await self._reader.read_state()
        except TonsuranceError as error:
            metrics.LEDGER_READS.labels(error.code).inc()
            if self.failure is None:
                logger.warning("ledger cannot be read", code=error.code, error=error.message)
            self.failure = error
            return False
        if self.failure is not None:
            logger.info("ledger can be read again")
        metrics.LEDGER_READS.labels("ok").inc()
        self.failure = None
        self._keep(state, started)
        return True

    def use_params(self, params: Params) -> None:
        """Compute the figures anew with these parameters, from what was read last."""
        self.params = params
        if self._snapshot is not None and self._read_at is not None:
            self._keep(self._snapshot.state, self._read_at)

    def _keep(self, state: LedgerState, started: float) -> None:
        self._read_at = started
        self._snapshot = self._make_snapshot(state)

    def _make_snapshot(self, state: LedgerState) -> Snapshot | None:
        order = {tranche_id: place for place, tranche_id in enumerate(TRANCHE_IDS)}
        mine = sorted(
            (totals for totals in state.tranches if totals.vault_id == self.vault_id),
            key=lambda totals: order[totals.tranche_id],
        )
        if not mine:
            return None
        return Snapshot(
            state=state,
            params_version=self.params.version,
            tranches=tuple(compute_figures(totals, self.params) for totals in mine),
        )

    async def read_at(self, moment: Moment) -> Snapshot:
        """The figures as they were at a moment of the past, read from the ledger's history.

        Raises BeforeHistory, InTheFuture, and what makes the ledger unreadable.
        """
        snapshot = self._make_snapshot(await self._reader.read_state_at(self.vault_id, moment))
        if snapshot is None:
            raise BeforeHistory
        return snapshot

    @property
    def snapshot(self) -> Snapshot:
        """The figures as last read. Raises NotReady when there were never any."""
        if self._snapshot is None:
            raise NotReady("No tranche has been posted yet, or the ledger could not be read so far.")
        return self._snapshot

    @property
    def snapshot_or_none(self) -> Snapshot | None:
        """The figures as last read, None when there were never any."""
        return self._snapshot

    def figures(self, tranche_id: str) -> TrancheFigures:
        """One tranche by its shown id. Raises NotReady when nothing is known about it yet."""
        for figures in self.snapshot.tranches:
            if figures.totals.tranche_id == tranche_id:
                return figures
        raise NotReady(f"{tranche_id} has not been posted yet.")

    @property
    def freshness(self) -> Freshness:
        """How old the figures are now."""
        if self._read_at is None:
            return Freshness(None, True)
        age = max(0.0, self._clock() - self._read_at)
        return Freshness(age, age > self.stale_after_s)
