"""What a change of parameters would do, computed with the very code that serves the figures.

Features register probes; the ones that are not built yet answer `not_available`, so that nobody takes silence for "no
effect".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from tonsurance.core.alert_kinds import TrancheFigure, read_tranche
from tonsurance.core.alerts import AlertState, Key, evaluate
from tonsurance.core.catalog import Tranche
from tonsurance.core.params import Params
from tonsurance.core.tranches import apy_percent
from tonsurance.services.ports import TrancheTotals
from tonsurance.services.tranche_reads import Snapshot, TrancheFigures, compute_figures

NOT_AVAILABLE = "not_available"
CURVE_STEPS = 20
"""The curve is compared at every 5 % of utilisation."""

Effect: TypeAlias = "Mapping[str, object] | str"
Probe: TypeAlias = Callable[[Params, Params, "Snapshot | None"], Effect]
"""(parameters now, parameters as proposed, tranches now or None when there are none) -> what changes, as plain JSON."""


class Breach(msgspec.Struct, frozen=True, order=True):
    """An alert about a tranche, by its kind and severity."""

    tranche_id: str
    alert: str
    severity: str


class Effects:
    """The registered probes, by the name of what they look at."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}

    def register_probe(self, name: str, probe: Probe) -> None:
        """Have this probe asked from now on; a name has one probe."""
        self._probes[name] = probe

    def compute(self, old: Params, new: Params, snapshot: Snapshot | None) -> dict[str, Effect]:
        """Every probe's answer."""
        return {name: probe(old, new, snapshot) for name, probe in self._probes.items()}


def make_effects() -> Effects:
    """The probes of what exists; the risk engine registers its own when it does."""
    effects = Effects()
    effects.register_probe("apy", compare_apy)
    effects.register_probe("capacity", compare_capacity)
    effects.register_probe("alerts", compare_alerts)
    effects.register_probe("quotes", compare_quotes)
    effects.register_probe("risk", answer_not_available)
    return effects


def answer_not_available(_old: Params, _new: Params, _snapshot: Snapshot | None) -> Effect:
    """For what is not built yet."""
    return NOT_AVAILABLE


def compare_quotes(old: Params, new: Params, _snapshot: Snapshot | None) -> Effect:
    """What the prices of all products become. Only a dry run loads the module, and the arrays it works with."""
    from tonsurance.services.quote_effects import compare_prices  # noqa: PLC0415

    return compare_prices(old, new)


def compare_apy(old: Params, new: Params, snapshot: Snapshot | None) -> Effect:
    """Target APY of each tranche in percent: now (None without figures, or when insolvent) and along its curve."""
    before, after = (_figures_by_id(params, snapshot) for params in (old, new))
    return {
        "tranches": [
            {
                "tranche_id": tranche.tranche_id,
                "changed": tranche != new.tranche(tranche.tranche_id),
                "before": _apy_of(before.get(tranche.tranche_id)),
                "after": _apy_of(after.get(tranche.tranche_id)),
                "curve": _compare_curve(tranche, new.tranche(tranche.tranche_id)),
            }
            for tranche in old.tranches
        ]
    }


def compare_capacity(old: Params, new: Params, snapshot: Snapshot | None) -> Effect:
    """Room for new cover of each tranche, in nanoTON as text, and the limit that binds."""
    if snapshot is None:
        return NOT_AVAILABLE
    after = _figures_by_id(new, snapshot)
    return {
        "tranches": [
            {
                "tranche_id": tranche_id,
                "before_nanoton": str(figures.room.available_nano),
                "after_nanoton": str(after[tranche_id].room.available_nano),
                "binding_limit_before": figures.room.binding_limit,
                "binding_limit_after": after[tranche_id].room.binding_limit,
            }
            for tranche_id, figures in _figures_by_id(old, snapshot).items()
        ]
    }


def compare_alerts(old: Params, new: Params, snapshot: Snapshot | None) -> Effect:
    """Which alerts of the tranches would open, end or be of another severity once the figures were evaluated often
    enough, by the very rules that open and end them: what is not well beyond its new line does not end.
    """
    if snapshot is None:
        return NOT_AVAILABLE
    before = _settle({}, old, snapshot)
    after = _settle(before, new, snapshot)
    both = before.keys() & after.keys()
    return {
        "would_open": _show_breaches(after, after.keys() - before.keys()),
        "would_close": _show_breaches(before, before.keys() - after.keys()),
        "would_change": _show_breaches(after, {key for key in both if after[key].severity != before[key].severity}),
        "stay_open": _show_breaches(after, {key for key in both if after[key].severity == before[key].severity}),
    }


def _settle(alerts: Mapping[Key, AlertState], params: Params, snapshot: Snapshot) -> Mapping[Key, AlertState]:
    """The alerts that are open when these figures were evaluated until nothing moves any more."""
    readings = [
        reading for figures in snapshot.tranches for reading in read_tranche(_figure_of(figures.totals), params)
    ]
    for _ in range(max((reading.evaluations for reading in readings), default=0)):
        alerts = evaluate(alerts, readings).open
    return alerts


def _figure_of(totals: TrancheTotals) -> TrancheFigure:
    return TrancheFigure(
        vault_id=totals.vault_id,
        tranche_id=totals.tranche_id,
        capital_nano=totals.capital_nano,
        coverage_nano=totals.coverage_nano,
    )


def _show_breaches(alerts: Mapping[Key, AlertState], keys: Set[Key]) -> list[dict[str, object]]:
    breaches = sorted(Breach(key[1].name, key[0], alerts[key].severity.value) for key in keys)
    return [msgspec.to_builtins(breach) for breach in breaches]


def _figures_by_id(params: Params, snapshot: Snapshot | None) -> Mapping[str, TrancheFigures]:
    if snapshot is None:
        return MappingProxyType({})
    return {figures.totals.tranche_id: compute_figures(figures.totals, params) for figures in snapshot.tranches}


def _apy_of(figures: TrancheFigures | None) -> float | None:
    return None if figures is None else figures.current_apy_pct


def _compare_curve(old: Tranche, new: Tranche) -> list[dict[str, float]]:
    points = (step / CURVE_STEPS for step in range(CURVE_STEPS + 1))
    return [{"utilization": u, "before": apy_percent(old, u), "after": apy_percent(new, u)} for u in points]
