"""Effects of a proposed set of parameters, without a server: what each probe says of given tranches."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.core.units import NANO_PER_TON
from tonsurance.services.config_effects import NOT_AVAILABLE, make_effects
from tonsurance.services.ports import LedgerState, TrancheTotals
from tonsurance.services.tranche_reads import Snapshot, compute_figures


def make_snapshot(capital_ton: int, coverage_ton: int) -> Snapshot:
    """Six tranches with these amounts."""
    rows = tuple(
        TrancheTotals(
            vault_id="main",
            tranche_id=tranche_id,
            capital_nano=capital_ton * NANO_PER_TON,
            coverage_nano=coverage_ton * NANO_PER_TON,
            unearned_nano=0,
            losses_nano=0,
            lt=1,
            seqno=None,
            block_time=0.0,
        )
        for tranche_id in TRANCHE_IDS
    )
    state = LedgerState(version=1, read_at=0.0, tranches=rows, contracts=(), last_event_id=0)
    figures = tuple(compute_figures(row, DEFAULT_PARAMS) for row in rows)
    return Snapshot(vault_id="main", state=state, params_version=1, tranches=figures)


def compute(new: Params, snapshot: Snapshot | None) -> dict[str, Any]:
    """All effects of going from the defaults to these parameters."""
    return make_effects().compute(DEFAULT_PARAMS, new, snapshot)


def test_capacity_before_and_after_is_computed_with_the_parameters_of_each() -> None:
    values = {("risk", "max_utilization"): 0.8, ("risk", "high_utilization"): 0.8, ("risk", "webhook_utilization"): 0.7}
    [first, *_] = compute(build_params(values, 2), make_snapshot(1000, 500))["capacity"]["tranches"]
    assert first["before_nanoton"] == str(450 * NANO_PER_TON)
    assert first["after_nanoton"] == str(300 * NANO_PER_TON)
    assert first["binding_limit_before"] == first["binding_limit_after"] == "max_utilization"


def test_nothing_changes_when_nothing_is_changed() -> None:
    effects = compute(build_params({}, 2), make_snapshot(1000, 920))
    assert not any(row["changed"] for row in effects["apy"]["tranches"])
    assert all(row["before"] == row["after"] for row in effects["apy"]["tranches"])
    assert effects["alerts"]["would_open"] == effects["alerts"]["would_close"] == []
    assert len(effects["alerts"]["stay_open"]) == 3 * len(TRANCHE_IDS)


@pytest.mark.parametrize(("coverage", "alerts"), [(500, 0), (850, 0), (851, 1), (900, 2), (910, 3), (2000, 3)])
def test_alerts_are_the_thresholds_a_tranche_is_beyond(coverage: int, alerts: int) -> None:
    found = compute(DEFAULT_PARAMS, make_snapshot(1000, coverage))["alerts"]["stay_open"]
    assert len(found) == alerts * len(TRANCHE_IDS)


def test_an_insolvent_tranche_is_beyond_every_threshold_and_promises_no_apy() -> None:
    effects = compute(DEFAULT_PARAMS, make_snapshot(0, 10))
    assert len(effects["alerts"]["stay_open"]) == 4 * len(TRANCHE_IDS)
    assert all(row["after"] is None for row in effects["apy"]["tranches"])


def test_a_threshold_of_collateralization_opens_its_alert() -> None:
    new = build_params({("risk", "min_collateralization"): 2.5}, 2)
    opened = compute(new, make_snapshot(1000, 500))["alerts"]["would_open"]
    assert {breach["alert"] for breach in opened} == {"Undercollateralized"}
    assert len(opened) == len(TRANCHE_IDS)


def test_an_alert_that_a_change_leaves_within_the_hysteresis_would_not_close() -> None:
    now = make_snapshot(1000, 920)
    near = compute(build_params({("risk", "high_utilization"): 0.93}, 2), now)["alerts"]
    assert "High_Utilization" not in {breach["alert"] for breach in near["would_close"]}
    far = compute(build_params({("risk", "high_utilization"): 0.945}, 2), now)["alerts"]
    assert {breach["alert"] for breach in far["would_close"]} == {"High_Utilization"}


def test_an_alert_of_another_severity_is_shown_as_a_change() -> None:
    values = {("risk", "high_utilization"): 0.9, ("risk", "max_utilization"): 0.91}
    changed = compute(build_params(values, 2), make_snapshot(1000, 920))["alerts"]
    assert {(breach["alert"], breach["severity"]) for breach in changed["would_change"]} == {
        ("High_Utilization", "Critical")
    }
    assert changed["would_open"] == changed["would_close"] == []


def test_features_that_are_not_there_say_so_and_can_be_added() -> None:
    effects = make_effects()
    assert effects.compute(DEFAULT_PARAMS, DEFAULT_PARAMS, None)["risk"] == NOT_AVAILABLE
    effects.register_probe("risk", lambda old, new, snapshot: {"from": old.version, "to": new.version})
    found = effects.compute(DEFAULT_PARAMS, build_params({}, 7), None)
    assert found["risk"] == {"from": 1, "to": 7}
    assert found["capacity"] == NOT_AVAILABLE


def test_effects_are_json_without_nan() -> None:
    msgspec.json.encode(compute(DEFAULT_PARAMS, make_snapshot(0, 10)))
