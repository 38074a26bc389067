"""Alerts open at their line, get worse at once, and are over only after the figure was well back for a while."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.alert_kinds import (
    HIGH_UTILIZATION,
    INSOLVENT,
    KINDS,
    UNDERCOLLATERALIZED,
    UTILIZATION_WEBHOOK,
    TrancheFigure,
    read_tranche,
)
from tonsurance.core.alerts import (
    AlertState,
    Change,
    Key,
    Line,
    Reading,
    Severity,
    Subject,
    Transition,
    evaluate,
)
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.units import NANO_PER_TON

HIGH, CRITICAL = Severity.HIGH, Severity.CRITICAL
MEZZ = Subject(vault_id="main", tranche_id="SURE-MEZZ")
LADDER = (Line(HIGH, 0.90), Line(CRITICAL, 0.95))


def reading(value: float, *, stale: bool = False, **changes: object) -> Reading:
    """The utilisation of SURE-MEZZ under the documented lines."""
    return msgspec.structs.replace(
        Reading(
            kind=HIGH_UTILIZATION,
            subject=MEZZ,
            value=value,
            lines=LADDER,
            hysteresis=0.02,
            evaluations=2,
            step=0.01,
            stale=stale,
        ),
        **changes,
    )


def run(values: Iterable[float | Reading]) -> list[tuple[str, Severity] | None]:
    """What each evaluation told: a change and the severity after it."""
    states: dict[Key, AlertState] = {}
    told: list[tuple[str, Severity] | None] = []
    for value in values:
        result = evaluate(states, [value if isinstance(value, Reading) else reading(value)])
        states = dict(result.open)
        [transition] = result.transitions or (None,)
        told.append(None if transition is None else (transition.change.value, transition.alert.severity))
    return told


OPEN, WORSE, OVER = ("opened", HIGH), ("updated", HIGH), ("resolved", HIGH)
GRAVE, MILDER = ("updated", CRITICAL), ("updated", HIGH)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param([0.8999999], [None], id="just below the line"),
        pytest.param([0.9], [OPEN], id="the line itself"),
        pytest.param([0.9, 0.9, 0.9], [OPEN, None, None], id="told once"),
        pytest.param([0.9, 0.899, 0.899, 0.899, 0.899], [OPEN, None, None, None, None], id="below but not well below"),
        pytest.param([0.9, 0.8801, 0.8801, 0.8801], [OPEN, None, None, None], id="a hair short of the hysteresis"),
        pytest.param([0.9, 0.88, 0.88], [OPEN, None, OVER], id="the hysteresis itself, twice"),
        pytest.param([0.9, 0.5, 0.89, 0.5, 0.5], [OPEN, None, None, None, OVER], id="in a row, or it starts again"),
        pytest.param([0.9, 0.88, 0.9, 0.88, 0.88], [OPEN, None, None, None, OVER], id="back at the line in between"),
        pytest.param([0.9, 0.88, 0.88, 0.9], [OPEN, None, OVER, OPEN], id="opens again as a new one"),
        pytest.param([0.9, 0.905, 0.909], [OPEN, None, None], id="a little worse is not told"),
        pytest.param([0.9, 0.905, 0.91, 0.915, 0.92], [OPEN, None, WORSE, None, WORSE], id="worse by a step is told"),
        pytest.param([0.92, 0.9, 0.92, 0.93], [OPEN, None, None, WORSE], id="worse than what was told before"),
        pytest.param([0.9, 0.95], [OPEN, GRAVE], id="the next line at once"),
        pytest.param([0.96], [("opened", CRITICAL)], id="opens at its severity"),
        pytest.param([0.95, 0.94, 0.931, 0.94], [("opened", CRITICAL), None, None, None], id="severity has hysteresis"),
        pytest.param([0.95, 0.93, 0.93], [("opened", CRITICAL), None, MILDER], id="severity falls"),
        pytest.param([0.95, 0.93, 0.93, 0.95], [("opened", CRITICAL), None, MILDER, GRAVE], id="and rises again"),
        pytest.param(
            [0.96, 0.5, 0.5], [("opened", CRITICAL), None, ("resolved", CRITICAL)], id="over from the worst at once"
        ),
        pytest.param(
            [0.96, 0.91, 0.5, 0.5],
            [("opened", CRITICAL), None, MILDER, OVER],
            id="each line counts its own evaluations",
        ),
        pytest.param(
            [math.inf, math.inf, 0.5, 0.5], [("opened", CRITICAL), None, None, ("resolved", CRITICAL)], id="infinite"
        ),
    ],
)  # fmt: skip
def test_an_alert_goes_through_its_life_as_the_table_says(values: list[float], told: list[object]) -> None:
    assert run(values) == told


def test_the_number_of_evaluations_and_the_hysteresis_are_the_readings() -> None:
    quick = {"hysteresis": 0.0, "evaluations": 1}
    assert run([reading(0.9, **quick), reading(0.8999, **quick)]) == [OPEN, OVER]


def test_a_stale_figure_opens_and_worsens_but_ends_nothing() -> None:
    stale = [reading(0.5, stale=True)] * 5
    assert run([reading(0.92, stale=True), reading(0.96, stale=True), *stale]) == [OPEN, GRAVE, *[None] * 5]
    assert run([0.9, 0.5, *stale, 0.5]) == [OPEN, None, *[None] * 5, OVER]


def test_an_unknown_figure_changes_nothing() -> None:
    [opened] = evaluate({}, [reading(0.96)]).open.values()
    for unknown in ([], [reading(math.nan)]):
        result = evaluate({opened.key: opened}, unknown)
        assert (result.open, result.transitions) == ({opened.key: opened}, ())


def test_another_ladder_while_an_alert_is_open_is_followed() -> None:
    one_line = {"lines": (Line(HIGH, 0.90),)}
    assert run([0.96, reading(0.96, **one_line), reading(0.8, **one_line), reading(0.8, **one_line)]) == [
        ("opened", CRITICAL), MILDER, None, OVER]  # fmt: skip


VALUES = st.lists(
    st.one_of(
        st.sampled_from([0.85, 0.88, 0.8800001, 0.9, 0.93, 0.95, 0.97, math.inf]),
        st.floats(0.8, 1.0, allow_nan=False),
    ),
    max_size=60,
)


@given(VALUES, st.integers(1, 4), st.sampled_from([0.0, 0.005, 0.02]))
def test_an_alert_never_opens_again_before_the_figure_was_well_back_long_enough(
    values: list[float], evaluations: int, hysteresis: float
) -> None:
    """So it flaps at most once for every such stretch, whatever the figure does in between."""
    readings = [reading(value, evaluations=evaluations, hysteresis=hysteresis) for value in values]
    told = run(readings)
    stretches, in_a_row = 0, 0
    for value in values:
        in_a_row = in_a_row + 1 if value < 0.9 and value <= 0.9 - hysteresis + 1e-9 else 0
        stretches += in_a_row == evaluations
    opened = sum(item is not None and item[0] == "opened" for item in told)
    resolved = sum(item is not None and item[0] == "resolved" for item in told)
    assert opened <= stretches + 1
    assert opened - resolved in (0, 1)


@given(VALUES)
def test_no_breach_is_ever_without_an_alert_of_its_severity(values: list[float]) -> None:
    states: dict[Key, AlertState] = {}
    for value in values:
        states = dict(evaluate(states, [reading(value)]).open)
        if value >= 0.9:
            [alert] = states.values()
            assert alert.value == value
            assert alert.severity is CRITICAL or value < 0.95


@given(VALUES)
def test_what_is_told_leads_from_severity_to_severity_without_a_gap(values: list[float]) -> None:
    """Who hears the transitions knows the state; the same reading again tells nothing unless it ends something."""
    states: dict[Key, AlertState] = {}
    heard: Severity | None = None
    for value in values:
        result = evaluate(states, [reading(value)])
        for transition in result.transitions:
            assert transition.before == heard
            heard = None if transition.change is Change.RESOLVED else transition.alert.severity
        states = dict(result.open)
        assert [alert.severity for alert in states.values()] == ([] if heard is None else [heard])


def tell(capital_ton: float, coverage_ton: float, tranche_id: str = "SURE-MEZZ") -> dict[str, Transition]:
    """What the first evaluation of a tranche tells, by kind."""
    figure = TrancheFigure(
        vault_id="main",
        tranche_id=tranche_id,
        capital_nano=int(capital_ton * NANO_PER_TON),
        coverage_nano=int(coverage_ton * NANO_PER_TON),
    )
    found = evaluate({}, read_tranche(figure, DEFAULT_PARAMS)).transitions
    return {transition.alert.kind: transition for transition in found}


def test_the_documented_texts() -> None:
    told = tell(1000, 925)
    assert told["High_Utilization"].text == "⚠️  HIGH UTILIZATION: SURE-MEZZ at 92.50% (threshold: 90.00%)"
    assert told["Utilization_Webhook"].text == "⚠️ SURE-MEZZ approaching capacity: 92.50%"
    low = tell(1050, 1000, "SURE-JNR")["Undercollateralized"]
    assert low.text == "🚨 UNDERCOLLATERALIZED: SURE-JNR at 1.05x (minimum: 1.10x)"
    assert low.kind.log_as == "error"
    assert told["High_Utilization"].kind.log_as == "warning"


@pytest.mark.parametrize(
    ("capital", "coverage", "kinds"),
    [
        (1000, 850, []),
        (1000, 850.000001, [UTILIZATION_WEBHOOK]),
        (1000, 899.999999, [UTILIZATION_WEBHOOK]),
        (1000, 900, [HIGH_UTILIZATION, UTILIZATION_WEBHOOK]),
        (1100, 1000, [HIGH_UTILIZATION, UTILIZATION_WEBHOOK]),
        (1099.999, 1000, [UNDERCOLLATERALIZED, HIGH_UTILIZATION, UTILIZATION_WEBHOOK]),
        (0, 0, []),
        (0, 1, [INSOLVENT, UNDERCOLLATERALIZED, HIGH_UTILIZATION, UTILIZATION_WEBHOOK]),
        (1, 0, []),
    ],
)
def test_each_line_is_passed_where_the_documents_say(capital: float, coverage: float, kinds: list[object]) -> None:
    assert list(tell(capital, coverage)) == [kind.name for kind in kinds]


def test_a_figure_below_its_minimum_never_reads_as_if_it_were_not() -> None:
    assert "at 1.09x (minimum: 1.10x)" in tell(1099.9, 1000)["Undercollateralized"].message


def test_tranches_of_other_vaults_are_told_apart() -> None:
    figure = TrancheFigure(vault_id="book", tranche_id="SURE-MEZZ", capital_nano=1000, coverage_nano=870)
    [told] = evaluate({}, read_tranche(figure, DEFAULT_PARAMS)).transitions
    assert told.message == "SURE-MEZZ of book approaching capacity: 87.00%"


def test_insolvency_is_said_without_infinities() -> None:
    told = tell(0, 12.5)
    assert told["Insolvent"].text == "🚨 INSOLVENT: SURE-MEZZ has 12.50 TON of cover without capital"
    assert told["High_Utilization"].message == "HIGH UTILIZATION: SURE-MEZZ at no capital at all (threshold: 95.00%)"
    assert {transition.alert.severity for transition in told.values()} == {Severity.MEDIUM, CRITICAL}


def test_ninety_five_per_cent_is_one_step_more_severe() -> None:
    assert tell(1000, 949)["High_Utilization"].alert.severity is HIGH
    assert tell(1000, 950)["High_Utilization"].alert.severity is CRITICAL


def test_lines_are_the_parameters() -> None:
    params = build_params({("risk", "high_utilization"): 0.8, ("risk", "webhook_utilization"): 0.5}, 2)
    figure = TrancheFigure(vault_id="main", tranche_id="SURE-BTC", capital_nano=100, coverage_nano=80)
    found = evaluate({}, read_tranche(figure, params)).transitions
    assert {item.alert.kind: item.alert.threshold for item in found} == {
        "High_Utilization": 0.8, "Utilization_Webhook": 0.5}  # fmt: skip


def test_a_new_kind_is_data_and_readings_only() -> None:
    """Falling figures with a line that counts, as the reserves of the collateral manager will be."""
    kind = msgspec.structs.replace(
        HIGH_UTILIZATION, name="Reserve_Low", rising=False,
        describe=lambda _subject, value, limit: f"Reserves: {value:.2%} <= {limit:.2%}",
    )  # fmt: skip
    base = reading(0.2, kind=kind, subject=Subject(), lines=(Line(HIGH, 0.20), Line(CRITICAL, 0.15)))
    readings = [msgspec.structs.replace(base, value=value) for value in (0.2001, 0.2, 0.15, 0.169, 0.3, 0.3)]
    assert run(readings) == [None, OPEN, GRAVE, None, None, ("resolved", CRITICAL)]


def test_kinds_are_found_by_their_names() -> None:
    assert all(KINDS[name].name == name for name in KINDS)
