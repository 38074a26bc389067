"""Events become entries, entries move totals, totals keep their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.errors import DecodeError, LedgerRefused, UnknownTranche
from tonsurance.core.events import (
    EVENT_TYPES,
    CoverageChanged,
    DepositMade,
    EpochStarted,
    EventBody,
    LossAbsorbed,
    PolicyExpired,
    PremiumsDistributed,
    PremiumsEarned,
    WithdrawalMade,
    build_event,
)
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.units import BIGINT_MAX, nano_from_ton, ratio, ton_from_nano

WHO = "0:" + "11" * 32
SIX = (25, 20, 18, 15, 12, 10)


def apply(totals: dict[str, Totals], body: EventBody) -> None:
    """Post all entries of an event."""
    for entry in entries_of(body):
        totals[entry.tranche_id] = post(totals.get(entry.tranche_id, Totals()), entry)


def test_each_event_moves_what_it_says() -> None:
    totals: dict[str, Totals] = {}
    apply(totals, DepositMade(1, WHO, 1000, 900, 100))
    apply(totals, PremiumsDistributed(100, 7, SIX))
    apply(totals, CoverageChanged(7, SIX))
    apply(totals, PremiumsEarned(1, 20))
    apply(totals, WithdrawalMade(1, WHO, 300, 250))
    apply(totals, PolicyExpired(7))
    assert totals["SURE-BTC"] == Totals(capital=720, coverage=25, unearned=5, earned=20, shares=750)
    assert totals["SURE-EQT"] == Totals(coverage=10, unearned=10)
    apply(totals, CoverageChanged(7, tuple(-part for part in SIX)))
    assert all(t.coverage == 0 for t in totals.values())


def test_a_loss_takes_capital_and_is_remembered_for_life() -> None:
    totals: dict[str, Totals] = {}
    apply(totals, DepositMade(6, WHO, 1000, 900, 100))
    apply(totals, LossAbsorbed(6, 300, 7))
    apply(totals, LossAbsorbed(6, 699, 8))
    assert totals["SURE-EQT"] == Totals(capital=1, losses=999, shares=1000)
    apply(totals, EpochStarted(6, 1, 1000))
    assert totals["SURE-EQT"] == Totals(capital=1, losses=999)
    apply(totals, DepositMade(6, WHO, 50, 40, 11))
    assert totals["SURE-EQT"] == Totals(capital=51, losses=999, shares=51)


@pytest.mark.parametrize(
    "body",
    [
        LossAbsorbed(1, 1, 7),
        LossAbsorbed(1, -1, 7),
        EpochStarted(1, 1, 1),
        WithdrawalMade(1, WHO, 1, 0),
        WithdrawalMade(1, WHO, 0, 1),
        PremiumsEarned(1, 1),
        CoverageChanged(1, (-1, 0, 0, 0, 0, 0)),
        DepositMade(1, WHO, BIGINT_MAX + 1, 1, 0),
        PremiumsDistributed(99, 1, SIX),
        PremiumsDistributed(100, 1, (50, 50)),
    ],
)
def test_what_would_leave_the_bounds_is_refused(body: EventBody) -> None:
    with pytest.raises(LedgerRefused):
        apply({}, body)


@pytest.mark.parametrize("tranche", [0, 7, 255])
def test_a_tranche_that_does_not_exist_is_refused(tranche: int) -> None:
    with pytest.raises(UnknownTranche):
        entries_of(PremiumsEarned(tranche, 1))


@given(st.integers(-(10**30), 10**30))
def test_posting_never_yields_totals_outside_the_database(amount: int) -> None:
    try:
        totals: dict[str, Totals] = {}
        apply(totals, WithdrawalMade(2, WHO, -amount, 0))
    except LedgerRefused:
        assert not 0 <= amount <= BIGINT_MAX
    else:
        assert totals["SURE-SNR"].capital == amount


def test_events_are_built_only_from_exact_fields() -> None:
    assert build_event("PolicyExpired", {"policy_id": 3}) == PolicyExpired(3)
    for name, fields in (
        ("Nothing", {}),
        ("PolicyExpired", {}),
        ("PolicyExpired", {"policy_id": "3"}),
        ("CoverageChanged", {"policy_id": 1, "parts": 5}),
    ):
        with pytest.raises(DecodeError):
            build_event(name, fields)
    assert len(EVENT_TYPES) == 23


def test_money_is_exact() -> None:
    assert nano_from_ton("1.000000001") == 1_000_000_001
    for bad in ("0.0000000001", "NaN", "Infinity"):
        with pytest.raises(ValueError, match="nanoTON"):
            nano_from_ton(bad)
    assert ton_from_nano(1_500_000_000) == 1.5
    assert ratio(1, 0) is None
