"""A parameter is what its declaration says: 200 bad values of each kind are refused by name and change nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from core.bad_values import COUNT, bad_values, nested
from tonsurance.core.errors import UnknownTranche
from tonsurance.core.parameters.declaration import (
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    Kind,
    Parameter,
    freeze,
    parse_value,
    thaw,
)
from tonsurance.core.parameters.registry import CATEGORIES, PARAMETERS, REGISTRY, UnknownParameter, find_parameter
from tonsurance.core.parameters.rules import _NOT_ABOVE, check_rules
from tonsurance.core.params import DEFAULT_PARAMS, InvalidParameters, build_params

SAMPLES = {
    Kind.FLOAT: ("pricing", "base_rate_USDC"),
    Kind.INT: ("risk", "monte_carlo_simulations"),
    Kind.BOOL: ("risk", "enforce_min_collateralization"),
    Kind.STRING: ("tranche", "SURE_MEZZ_curve_type"),
    Kind.JSON: ("pricing", "risk_factors_USDC"),
}
FREE_JSON = Parameter(category="stress", key="any", kind=Kind.JSON, default=None, unit="", meaning="Anything.")


@pytest.mark.parametrize("kind", list(Kind))
def test_of_200_bad_values_each_is_refused_by_name_and_changes_nothing(kind: Kind) -> None:
    parameter = REGISTRY[SAMPLES[kind]]
    values = bad_values(parameter)
    assert len(values) == COUNT
    before = DEFAULT_PARAMS.hash
    for value in values:
        with pytest.raises(InvalidParameters) as caught:
            build_params({parameter.name: value}, 2)
        assert (parameter.category, parameter.key) in {(p.category, p.key) for p in caught.value.problems}, value
        assert all(problem.reason for problem in caught.value.problems)
    assert build_params({}, 1).hash == before


def test_every_wrong_value_of_a_set_is_named_at_once() -> None:
    stored = dict.fromkeys(REGISTRY, math.nan)
    with pytest.raises(InvalidParameters) as caught:
        build_params(stored, 2)
    assert {(problem.category, problem.key) for problem in caught.value.problems} >= set(REGISTRY)


def test_minus_zero_becomes_zero_and_a_whole_float_an_int() -> None:
    value, problems = parse_value(REGISTRY["pricing", "stress_slope"], -0.0)
    assert (str(value), problems) == ("0.0", [])
    value, problems = parse_value(REGISTRY[SAMPLES[Kind.INT]], 20_000.0)
    assert (value, type(value), problems) == (20_000, int, [])
    value, problems = parse_value(REGISTRY[SAMPLES[Kind.FLOAT]], 1)
    assert (value, type(value), problems) == (1.0, float, [])


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.key)
def test_bounds_include_their_ends_and_nothing_beyond(parameter: Parameter) -> None:
    assert parse_value(parameter, thaw(parameter.default))[1] == []
    if parameter.kind not in (Kind.FLOAT, Kind.INT):
        return
    assert parameter.low is not None
    assert parameter.high is not None
    for end, outside in ((parameter.low, -math.inf), (parameter.high, math.inf)):
        assert parse_value(parameter, end)[1] == []
        beyond = (
            int(end) + int(math.copysign(1, outside)) if parameter.kind is Kind.INT else math.nextafter(end, outside)
        )
        [problem] = parse_value(parameter, beyond)[1]
        assert parameter.unit in problem.reason


def test_names_are_unique_and_their_categories_known() -> None:
    assert len(REGISTRY) == len(PARAMETERS) >= 110
    assert {parameter.category for parameter in PARAMETERS} <= set(CATEGORIES)
    assert all(parameter.meaning.endswith(".") and len(parameter.key) <= 100 for parameter in PARAMETERS)


def test_what_a_contract_enforces_is_marked() -> None:
    owned = {parameter.key for parameter in PARAMETERS if parameter.chain_owned}
    assert {"max_utilization", "max_policy_percent", "breaker_percent", "breaker_window_s"} <= owned
    assert {"claim_delay_s", "max_freeze_s", "withdraw_delay_s", "SURE_JNR_PLUS_allocation_percent"} <= owned
    assert not {"SURE_JNR_PLUS_apy_min", "base_rate_USDC", "high_utilization"} & owned


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if p.money], ids=lambda parameter: parameter.key)
def test_no_parameter_of_money_goes_any_distance_in_one_edit(parameter: Parameter) -> None:
    if parameter.kind is Kind.BOOL:  # it has two values
        return
    if parameter.kind is Kind.STRING:
        assert parameter.needs_override
        return
    assert (parameter.max_factor is None) != (parameter.max_step is None)
    assert parameter.low is not None
    if parameter.max_factor is None:
        assert parameter.high is not None
        assert 0 < parameter.max_step <= (parameter.high - parameter.low) / 4  # type: ignore[operator]


def test_what_moves_the_room_for_cover_is_money() -> None:
    for key in ("min_collateralization", "reservation_max_share", "product_cap", "chain_cap"):
        assert REGISTRY["risk", key].money


def test_an_unknown_name_is_an_error() -> None:
    assert find_parameter("pricing", "base_rate_USDC").default == 0.04
    with pytest.raises(UnknownParameter, match="pricing/base_rate_XXX"):
        find_parameter("pricing", "base_rate_XXX")


@pytest.mark.parametrize("pair", _NOT_ABOVE, ids=lambda pair: pair[0][1])
def test_an_ordered_pair_the_wrong_way_round_is_named(pair: tuple[tuple[str, str], tuple[str, str]]) -> None:
    low, high = pair
    values = dict(DEFAULT_PARAMS.values)
    assert check_rules(values) == []
    values[low], values[high] = 2.0, 1.0
    named = {(problem.category, problem.key) for problem in check_rules(values)}
    assert low in named
    values[low] = 1.0
    assert low not in {
        (problem.category, problem.key) for problem in check_rules(values) if high[1] in problem.reason
    }  # equal is in order


@pytest.mark.parametrize("field", ["allocation_percent", "premium_percent"])
def test_percents_of_the_tranches_add_up(field: str) -> None:
    with pytest.raises(InvalidParameters, match=rf"\*_{field}: add up to 101, not 100"):
        build_params({("tranche", f"SURE_BTC_{field}"): DEFAULT_PARAMS.value("tranche", f"SURE_BTC_{field}") + 1}, 2)  # type: ignore[operator]


def test_a_broken_value_does_not_hide_broken_rules() -> None:
    with pytest.raises(InvalidParameters) as caught:
        build_params({SAMPLES[Kind.FLOAT]: "x", ("tranche", "SURE_SNR_apy_min"): 11.0}, 2)
    assert [problem.key for problem in caught.value.problems] == ["base_rate_USDC", "SURE_SNR_apy_min"]


def test_json_is_bounded_in_depth_size_and_content() -> None:
    assert parse_value(FREE_JSON, nested(MAX_JSON_DEPTH))[1] == []
    assert parse_value(FREE_JSON, "x" * (MAX_JSON_BYTES - 2))[1] == []
    for bad in (
        nested(MAX_JSON_DEPTH + 1),
        "x" * (MAX_JSON_BYTES - 1),
        [math.nan],
        {"a": math.inf},
        "a\u0000b",
        ["\ud800"],
        {"\u0000": 1},
        {1: 2},
        [2**63],
        {"a": 10**5000},
    ):
        assert parse_value(FREE_JSON, bad)[1], bad


def test_frozen_values_cannot_be_changed_and_thaw_to_what_they_were() -> None:
    raw = {"a": [1, {"b": None}], "c": "d"}
    frozen = freeze(raw)
    assert thaw(frozen) == raw
    with pytest.raises(TypeError):
        frozen["a"] = 1  # type: ignore[index, call-overload]
    raw["c"] = "changed"
    assert thaw(frozen) != raw


def test_curve_names_are_read_in_any_case_and_kept_in_one() -> None:
    parameter = REGISTRY[SAMPLES[Kind.STRING]]
    assert [parse_value(parameter, text)[0] for text in ("Linear", "LINEAR", "linear")] == ["LINEAR"] * 3


def test_tiers_are_in_order_by_default() -> None:
    for name in ("size_discount", "utilization"):
        steps = [DEFAULT_PARAMS.value("pricing", f"{name}_tier{tier}_threshold") for tier in (1, 2, 3)]
        assert all(high > low for high, low in pairwise(steps))  # type: ignore[operator]


def test_a_tranche_is_found_by_its_shown_id_alone() -> None:
    with pytest.raises(UnknownTranche):
        DEFAULT_PARAMS.tranche("SURE_JNR_PLUS")
