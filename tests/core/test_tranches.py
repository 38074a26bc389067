"""Curves, utilisation and capacity against numbers computed another way."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.capacity import Capacity
from tonsurance.core.catalog import TRANCHE_IDS, TRANCHES, Curve, Tranche, parse_tranche_id, tranche_id_on_chain
from tonsurance.core.errors import InvalidUtilization, UnknownTranche
from tonsurance.core.limits import TrancheRoom, coverage_cap_nano, read_rules, tranche_capacity
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.tranches import apy_percent, collateralization, current_apy_percent, utilization

POINTS = ("0", "0.25", "0.5", "0.75", "0.9", "0.95", "1")
GOLDEN = {  # published table of the product, four decimals
    "SURE-BTC": (4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0),
    "SURE-SNR": (6.5, 7.6267, 8.5474, 9.3257, 9.7410, 9.8722, 10.0),
    "SURE-MEZZ": (9.0, 10.5, 12.0, 13.5, 14.4, 14.7, 15.0),
    "SURE-JNR": (12.5234, 12.7655, 14.25, 15.7345, 15.9370, 15.9615, 15.9766),
    "SURE-JNR+": (16.0, 16.375, 17.5, 19.375, 20.86, 21.415, 22.0),
    "SURE-EQT": (15.0, 16.0154, 17.6894, 20.4495, 22.9036, 23.8994, 25.0),
}
nano = st.integers(0, 2**62)
ratios = st.floats(0, 1)
MAX_UTILIZATION = DEFAULT_PARAMS.thresholds.max_utilization


def exact_curve(curve: Curve, u: Decimal) -> Decimal:
    """The same curves in 50-digit decimals, written from their definitions."""
    getcontext().prec = 50
    one, two = Decimal(1), Decimal(2)
    return {
        Curve.FLAT: Decimal(0),
        Curve.LOGARITHMIC: (one + u).ln() / two.ln(),
        Curve.LINEAR: u,
        Curve.SIGMOIDAL: one / (one + (-10 * (u - Decimal("0.5"))).exp()),
        Curve.QUADRATIC: u**2,
        Curve.EXPONENTIAL: ((two * u).exp() - one) / (two.exp() - one),
    }[curve]


@pytest.mark.parametrize("tranche", TRANCHES, ids=TRANCHE_IDS)
def test_apy_equals_the_published_table(tranche: Tranche) -> None:
    got = [round(apy_percent(tranche, float(u)), 4) for u in POINTS]
    assert got == list(GOLDEN[tranche.tranche_id])


@pytest.mark.parametrize("tranche", TRANCHES, ids=TRANCHE_IDS)
def test_apy_equals_fifty_digit_arithmetic(tranche: Tranche) -> None:
    low, high = Decimal(str(tranche.apy_min_pct)), Decimal(str(tranche.apy_max_pct))
    for step in range(101):
        u = Decimal(step) / 100
        exact = low + (high - low) * exact_curve(tranche.curve, u)
        assert apy_percent(tranche, step / 100) == pytest.approx(float(exact), abs=1e-12)


@given(st.sampled_from(TRANCHES), ratios, ratios)
def test_apy_never_falls_and_stays_in_its_bounds(tranche: Tranche, u: float, v: float) -> None:
    low, high = sorted((u, v))
    assert tranche.apy_min_pct <= apy_percent(tranche, low) <= apy_percent(tranche, high) <= tranche.apy_max_pct


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_apy_of_no_number_is_refused(bad: float) -> None:
    with pytest.raises(InvalidUtilization):
        apy_percent(TRANCHES[1], bad)


def test_apy_outside_zero_to_one_is_clamped() -> None:
    assert apy_percent(TRANCHES[2], -3.0) == 9.0
    assert apy_percent(TRANCHES[2], 7.0) == 15.0


def test_utilization_edges() -> None:
    assert utilization(0, 0).capped == 0.0
    assert utilization(100, 50) == utilization(200, 100)
    over = utilization(100, 150)
    assert (over.capped, over.raw, over.insolvent) == (1.0, 1.5, False)
    broke = utilization(0, 1)
    assert (broke.capped, broke.raw, broke.insolvent) == (1.0, None, True)
    assert current_apy_percent(TRANCHES[1], broke) is None
    assert collateralization(110, 100) == pytest.approx(1.1)
    assert collateralization(110, 0) is None


def capacity(capital: int, coverage: int) -> Capacity:
    """The room of a tranche without reservations."""
    return tranche_capacity(
        TrancheRoom(tranche_id="SURE-BTC", capital_nano=capital, coverage_nano=coverage), read_rules(DEFAULT_PARAMS)
    )


def test_documented_capacity_examples() -> None:
    ton = 10**9
    assert capacity(1000 * ton, 500 * ton).available_nano == 450 * ton
    room = capacity(1000 * ton, 800 * ton)
    assert 100 * ton <= room.available_nano < 200 * ton
    assert room.binding_limit == "max_utilization"
    assert capacity(0, 0).available_nano == 0


@given(nano, nano)
def test_capacity_fills_to_exactly_the_cap(capital: int, coverage: int) -> None:
    room = capacity(capital, coverage).available_nano
    assert room >= 0
    if room:
        assert (coverage + room) * 100 <= capital * 95 < (coverage + room + 1) * 100
    assert coverage_cap_nano(capital, MAX_UTILIZATION) == capital - (capital + 19) // 20  # the form the database uses


@given(nano)
def test_contract_and_database_forms_of_the_cap_agree(capital: int) -> None:
    assert coverage_cap_nano(capital, MAX_UTILIZATION) == capital * 95 // 100


def test_both_forms_of_a_name_are_read() -> None:
    assert parse_tranche_id("SURE-JNR+") == parse_tranche_id("SURE_JNR_PLUS") == "SURE-JNR+"
    assert tranche_id_on_chain(6) == "SURE-EQT"


@pytest.mark.parametrize("bad", ["", "SURE-XYZ", "sure-btc", "SURE_JNR+", "SURE-JNR ", "1", "x" * 10_000])
def test_an_unknown_tranche_lists_the_valid_ones(bad: str) -> None:
    with pytest.raises(UnknownTranche) as caught:
        parse_tranche_id(bad)
    assert all(name in str(caught.value) for name in TRANCHE_IDS)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("number", [0, 7, -1])
def test_a_tranche_number_outside_the_six_is_refused(number: int) -> None:
    with pytest.raises(UnknownTranche):
        tranche_id_on_chain(number)


def test_allocations_sum_to_a_hundred() -> None:
    assert sum(t.allocation_percent for t in DEFAULT_PARAMS.tranches) == 100
    assert sum(t.premium_percent for t in DEFAULT_PARAMS.tranches) == 100
    assert DEFAULT_PARAMS.tranche("SURE-EQT").on_chain_id == 6
    with pytest.raises(UnknownTranche):
        DEFAULT_PARAMS.tranche("SURE_EQT")
