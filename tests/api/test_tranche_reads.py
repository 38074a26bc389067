"""Figures in memory: an outage ages them, never changes them."""

from __future__ import annotations

import msgspec
import pytest

from api.ledger_fake import FakeLedger, totals
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import DatabaseUnavailable, MigrationError, NotReady, TonsuranceError
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.ports import LedgerState
from tonsurance.services.tranche_reads import TrancheReads


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


def make_reads(ledger: FakeLedger, clock: Clock) -> TrancheReads:
    """Reads of the first vault that are stale after 10 s."""
    return TrancheReads(ledger, DEFAULT_PARAMS, vault_id="main", stale_after_s=10.0, clock=clock)


@pytest.mark.parametrize("failure", [DatabaseUnavailable(), MigrationError()])
async def test_a_failed_refresh_keeps_every_figure_and_lets_it_age(
    ledger: FakeLedger, failure: TonsuranceError
) -> None:
    clock = Clock()
    reads = make_reads(ledger, clock)
    assert await reads.refresh()
    before = reads.snapshot
    ledger.failure = failure
    clock.now += 10.0
    assert not await reads.refresh()
    assert reads.snapshot is before
    assert (reads.freshness.age_s, reads.freshness.stale) == (10.0, False)
    clock.now += 0.5
    assert not await reads.refresh()
    assert reads.snapshot is before
    assert (reads.freshness.age_s, reads.freshness.stale) == (10.5, True)
    assert reads.failure is failure
    ledger.failure = None
    assert await reads.refresh()
    assert (reads.freshness.age_s, reads.freshness.stale, reads.failure) == (0.0, False, None)


async def test_the_age_counts_from_the_start_of_the_read() -> None:
    clock = Clock()

    class SlowLedger(FakeLedger):
        """Takes three seconds for a read."""

        async def read_state(self) -> LedgerState:
            clock.now += 3.0
            return await super().read_state()

    reads = make_reads(SlowLedger(), clock)
    await reads.refresh()
    assert reads.freshness.age_s == 3.0


async def test_nothing_was_read_yet(ledger: FakeLedger) -> None:
    reads = make_reads(ledger, Clock())
    assert (reads.freshness.age_s, reads.freshness.stale) == (None, True)
    with pytest.raises(NotReady):
        _ = reads.snapshot
    with pytest.raises(NotReady):
        reads.figures("SURE-BTC")


async def test_another_vaults_tranches_are_not_shown(ledger: FakeLedger) -> None:
    other = totals("SURE-BTC", 7, 7)
    ledger.tranches["other"] = msgspec.structs.replace(other, vault_id="other")
    reads = make_reads(ledger, Clock())
    await reads.refresh()
    assert [figures.totals.tranche_id for figures in reads.snapshot.tranches] == list(TRANCHE_IDS)
    assert reads.figures("SURE-BTC").totals.capital_nano == 1000 * 10**9


async def test_tranches_stand_senior_to_junior_whatever_the_ledger_says(ledger: FakeLedger) -> None:
    ledger.tranches = dict(reversed(ledger.tranches.items()))
    reads = make_reads(ledger, Clock())
    await reads.refresh()
    assert [figures.totals.tranche_id for figures in reads.snapshot.tranches] == list(TRANCHE_IDS)
