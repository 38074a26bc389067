"""Drift is measured in percent of the ledger, never rounded to nothing, and findings are told by kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.alert_kinds import KINDS
from tonsurance.core.alerts import Severity, Subject, evaluate
from tonsurance.core.drift import (
    Fault,
    Finding,
    TrancheDrift,
    choose_worst,
    describe_amounts,
    describe_changes,
    drift_percent,
    group_findings,
)
from tonsurance.core.events import LedgerAdjusted
from tonsurance.core.ledger import Entry, Totals, entries_of
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.sync_alerts import DriftFigure, read_drift, show_percent
from tonsurance.services.config_rows import default_values

MEZZ = Subject(vault_id="main", tranche_id="SURE-MEZZ")


@pytest.mark.parametrize(
    ("chain", "ledger", "percent"),
    [
        (0, 0, 0.0),
        (1, 0, 100.0),
        (10**30, 0, 100.0),
        (0, 7, 100.0),
        (115, 100, 15.0),
        (85, 100, 15.0),
        (5, -100, 105.0),
        (300, 100, 200.0),
        (10**18 + 1, 10**18, 1e-16),
    ],
)
def test_drift_is_in_percent_of_the_ledger(chain: int, ledger: int, percent: float) -> None:
    assert drift_percent(chain, ledger) == pytest.approx(percent, rel=1e-9)


@given(st.integers(0, 10**40), st.integers(-(10**40), 10**40))
def test_there_is_a_drift_exactly_when_the_amounts_differ(chain: int, ledger: int) -> None:
    assert (drift_percent(chain, ledger) > 0) == (chain != ledger)


def test_the_table_that_is_furthest_from_the_chain_counts() -> None:
    chain = Totals(capital=100, coverage=50)
    near, far = Totals(capital=99, coverage=50), Totals(capital=100, coverage=20)
    assert choose_worst(chain, (near, far, near)) is far
    assert choose_worst(chain, (chain, chain)) is chain
    drift = TrancheDrift(tranche_id="SURE-BTC", chain=chain, ledger=far)
    assert (drift.capital_pct, drift.coverage_pct, drift.worst_pct) == (0.0, 150.0, 150.0)


def finding(lt: int, fault: Fault = Fault.MISSING, event_type: str = "DepositMade") -> Finding:
    return Finding(
        relation="ledger_entries",
        fault=fault,
        event_type=event_type,
        tranche_id="SURE-BTC",
        lt=lt,
        message_index=0,
        said=f"at {lt}",
    )


def test_findings_are_told_by_kind_with_their_logical_times() -> None:
    first, second = group_findings([*(finding(lt) for lt in (50, 20, 90, 1, 2, 3)), finding(7, Fault.FOREIGN)], 5)
    assert (first.count, first.first_lt, first.last_lt) == (6, 1, 90)
    assert first.examples == ("at 50", "at 20", "at 90", "at 1", "at 2")
    assert (second.fault, second.count) == (Fault.FOREIGN, 1)
    assert group_findings([], 5) == ()


def test_what_differs_is_said_with_both_sides() -> None:
    wanted, held = Entry(tranche_id="SURE-BTC", capital=5), Entry(tranche_id="SURE-BTC", capital=7)
    assert describe_changes(wanted, held, ("capital", "coverage")) == ["capital is 7 and must be 5"]
    assert describe_amounts(Totals(capital=-3, shares=4), ("capital", "coverage", "shares")) == "capital -3, shares +4"
    assert describe_amounts(Totals(), ("capital",)) == "no amount"


def test_an_adjustment_moves_a_tranche_by_what_it_says() -> None:
    assert entries_of(LedgerAdjusted(tranche_id=6, capital=-1, coverage=2, unearned=-3, shares=4)) == (
        Entry(tranche_id="SURE-EQT", capital=-1, coverage=2, unearned=-3, shares=4),
    )


def severities(percent: float, **risk: float) -> list[tuple[str, str]]:
    params = DEFAULT_PARAMS
    if risk:
        changed = {("risk", key): value for key, value in risk.items()}
        params = build_params(default_values() | changed, 2)
    figure = DriftFigure(vault_id="main", tranche_id="SURE-MEZZ", capital_pct=percent, coverage_pct=0.0)
    found = evaluate({}, read_drift(figure, params)).transitions
    return [(item.alert.kind, item.alert.severity.value) for item in found]


@pytest.mark.parametrize(
    ("percent", "severity"),
    [(5e-324, "Low"), (5.0, "Low"), (5.0001, "Medium"), (10.0, "Medium"), (10.0001, "Critical"), (1e9, "Critical")],
)
def test_any_drift_is_told_and_more_of_it_louder(percent: float, severity: str) -> None:
    assert severities(percent) == [("Capital_Drift", severity)]


def test_no_drift_is_no_alert_and_the_lines_are_parameters() -> None:
    assert severities(0.0) == []
    assert severities(3.0, drift_warning_pct=1.0, drift_critical_pct=2.0) == [("Capital_Drift", "Critical")]


def test_the_words_are_those_people_know() -> None:
    assert KINDS["Capital_Drift"].describe(MEZZ, 15.0, 10.0) == "Drift detected: 15% capital mismatch (SURE-MEZZ)"
    assert KINDS["Coverage_Drift"].describe(MEZZ, 0.125, 0.0) == "Drift detected: 0.12% coverage mismatch (SURE-MEZZ)"
    assert [show_percent(value) for value in (0.0, 1e-9, 0.01, 12.3, 100.0)] == [
        "0%", "<0.01%", "0.01%", "12.3%", "100%"]  # fmt: skip
    assert Severity.LOW == "Low"
