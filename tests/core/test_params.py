"""A version of the parameters is one frozen value, and its hash is a property of its values alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tonsurance.core.catalog import TRANCHES, Curve, parse_tranche_id, tranche_key
from tonsurance.core.errors import InputError, InvalidUtilization
from tonsurance.core.parameters.declaration import thaw
from tonsurance.core.parameters.registry import REGISTRY, UnknownParameter
from tonsurance.core.params import DEFAULT_PARAMS, DERIVED_NAMES, build_params, hash_values
from tonsurance.core.tiers import base_rate, size_discount, utilization_multiplier

STORED = {name: thaw(value) for name, value in DEFAULT_PARAMS.values.items()}


def test_equal_values_have_one_hash_whatever_order_version_or_spelling() -> None:
    again = build_params(dict(reversed(STORED.items())), 9)
    assert (again.hash, again.version) == (DEFAULT_PARAMS.hash, 9)
    added = {("pilot", "a"): {"x": 1, "y": 2}, ("pilot", "b"): 1}
    turned = {("pilot", "b"): 1, ("pilot", "a"): {"y": 2, "x": 1}}
    assert build_params(added, 1).hash == build_params(turned, 1).hash
    assert build_params(STORED | {("pricing", "size_discount_tier1_threshold"): 10_000_000}, 2).hash == again.hash
    assert build_params(STORED | {("tranche", "SURE_MEZZ_curve_type"): "Linear"}, 2).hash == again.hash
    assert build_params(STORED | {("pricing", "risk_weight_market_depth"): -0.0}, 2).hash == build_params(
        STORED | {("pricing", "risk_weight_market_depth"): 0}, 2).hash  # fmt: skip


def test_the_hash_is_the_same_in_every_process() -> None:
    program = "from tonsurance.core.params import DEFAULT_PARAMS; print(DEFAULT_PARAMS.hash)"
    for seed in ("0", "1"):
        out = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert out.stdout.strip() == DEFAULT_PARAMS.hash


def test_every_value_counts_in_the_hash() -> None:
    values = dict(DEFAULT_PARAMS.values)
    hashes = {hash_values(values | {name: "another value"}) for name in REGISTRY}
    assert len(hashes | {DEFAULT_PARAMS.hash}) == len(REGISTRY) + 1


def test_typed_pieces_come_from_the_same_values() -> None:
    params = build_params(
        {
            ("tranche", "SURE_JNR_PLUS_apy_max"): 23.5,
            ("tranche", "SURE_JNR_PLUS_curve_type"): "SIGMOIDAL",
            ("risk", "high_utilization"): 0.8,
            ("risk", "webhook_utilization"): 0.7,
        },
        5,
    )
    tranche = params.tranche("SURE-JNR+")
    assert (tranche.apy_max_pct, tranche.curve, tranche.apy_min_pct) == (23.5, Curve.SIGMOIDAL, 16.0)
    assert params.thresholds.high_utilization == 0.8
    assert params.value("tranche", "SURE_JNR_PLUS_apy_max") == 23.5
    assert thaw(params.value("tranche", "SURE_JNR_PLUS_config")) == {
        "tranche_id": "SURE-JNR+",
        "apy_min": 16.0,
        "apy_max": 23.5,
        "curve_type": "SIGMOIDAL",
        "allocation_percent": 12,
        "premium_percent": 20,
        "risk_score": 5,
    }
    assert DEFAULT_PARAMS.tranche("SURE-JNR+").apy_max_pct == 22.0


def test_nothing_of_a_version_can_be_changed() -> None:
    with pytest.raises(TypeError):
        DEFAULT_PARAMS.values["pricing", "base_rate_USDC"] = 1.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        DEFAULT_PARAMS.version = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        DEFAULT_PARAMS.derived["tranche", "SURE_BTC_config"]["apy_min"] = 0.0  # type: ignore[index, call-overload]
    source = dict(STORED)
    params = build_params(source, 2)
    source["pricing", "base_rate_USDC"] = 0.9
    assert params.value("pricing", "base_rate_USDC") == 0.04


def test_names_people_added_are_kept_and_unknown_ones_are_errors() -> None:
    params = build_params({("pilot", "fee"): [1, {"a": 2.5}]}, 3)
    assert thaw(params.value("pilot", "fee")) == [1, {"a": 2.5}]
    assert params.hash != DEFAULT_PARAMS.hash
    for name in (("pilot", "fee"), ("tranche", "SURE_XXX_config")):
        with pytest.raises(UnknownParameter):
            DEFAULT_PARAMS.value(*name)


def test_derived_names_are_no_values() -> None:
    assert not set(DERIVED_NAMES) & set(DEFAULT_PARAMS.values)
    assert len(DERIVED_NAMES) == len(TRANCHES)


def test_the_key_form_of_a_tranche_is_read_back() -> None:
    assert [tranche_key(t.tranche_id) for t in TRANCHES][4] == "SURE_JNR_PLUS"
    assert all(parse_tranche_id(tranche_key(t.tranche_id)) == t.tranche_id for t in TRANCHES)


def test_the_defaults_are_the_catalog() -> None:
    assert DEFAULT_PARAMS.tranches == TRANCHES
    json.dumps({"/".join(name): value for name, value in STORED.items()}, allow_nan=False)


@pytest.mark.parametrize(
    ("usd", "factor"),
    [(0, 1.0), (99_999.99, 1.0), (100_000, 0.95), (999_999, 0.95), (1_000_000, 0.90), (10_000_000, 0.80), (1e12, 0.80)],
)
def test_a_larger_cover_has_the_discount_of_the_tier_it_reaches(usd: float, factor: float) -> None:
    assert size_discount(DEFAULT_PARAMS, usd) == factor


@pytest.mark.parametrize(
    ("used", "factor"),
    [(0, 1.0), (0.5, 1.0), (0.51, 1.10), (0.75, 1.10), (0.85, 1.25), (0.9, 1.25), (0.91, 1.5), (2, 1.5)],
)
def test_a_fuller_pool_has_the_surcharge_of_the_tier_it_passes(used: float, factor: float) -> None:
    assert utilization_multiplier(DEFAULT_PARAMS, used) == factor


def test_an_asset_without_a_rate_of_its_own_has_the_default() -> None:
    assert (base_rate(DEFAULT_PARAMS, "USDC"), base_rate(DEFAULT_PARAMS, "XYZ")) == (0.04, 0.10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_tiers_refuse_what_is_no_size(bad: float) -> None:
    with pytest.raises(InputError):
        size_discount(DEFAULT_PARAMS, bad)
    with pytest.raises(InvalidUtilization):
        utilization_multiplier(DEFAULT_PARAMS, bad)
