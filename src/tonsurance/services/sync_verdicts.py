"""What reconciliations found, as lines for a person and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tonsurance.core.catalog import tranche_key
from tonsurance.core.drift import FindingGroup, TrancheDrift
from tonsurance.services.vault_sync import SyncResult

_LEAST_SHOWN_PCT = 0.01
_IN_WORDS = {
    "equal": "Equal: the ledger is the chain's at {place}.",
    "repaired": "Repaired: the ledger is the chain's at {place} again; {journal}.",
    "adjusted": "Adjusted: the ledger is the chain's at {place} again, not all of it explained; {journal}.",
    "drifted": "Not equal: the ledger is not the chain's at {place}.",
}


def describe_drifts(results: Iterable[SyncResult]) -> Iterator[str]:
    """The summary people know: each tranche as the vault holds it, and how far the ledger was off."""
    yield "=== Vault Sync Summary ==="
    for result in results:
        for drift in result.tranches:
            name = tranche_key(drift.tranche_id)
            capital = f"capital={drift.chain.capital} (drift: {_percent(drift.capital_pct)})"
            yield f"  {name}: {capital}, coverage={drift.chain.coverage} (drift: {_percent(drift.coverage_pct)})"


def describe_sync(results: Sequence[SyncResult]) -> Iterator[str]:
    """The summary, everything that differed with its class and logical times, and what it came to."""
    yield from describe_drifts(results)
    for result in results:
        yield from result.differences
        for group in (*result.findings, *result.unreadable):
            yield from _describe_group(group)
        yield from result.adjusted
        for line in result.remaining:
            if line not in result.differences:
                yield f"Still there: {line}"
        journal = f"{result.adjustments} rows in the journal from {result.adjustment_id} on"
        place = f"block {result.seqno} (logical time {result.lt})"
        yield _IN_WORDS[result.status].format(place=place, journal=journal)


def encode_sync(results: Sequence[SyncResult]) -> str:
    """The same as JSON: `equal` is whether the ledger is the chain's now."""
    runs = [{**msgspec.structs.asdict(result), "tranches": [*map(_row, result.tranches)]} for result in results]
    return msgspec.json.encode({"equal": is_equal(results), "runs": runs}).decode()


def is_equal(results: Sequence[SyncResult]) -> bool:
    """Whether the ledger is the chain's now."""
    return all(result.status != "drifted" for result in results)


def _describe_group(group: FindingGroup) -> Iterator[str]:
    what = f"{group.relation}: {group.count} {group.fault.value}"
    whose = "".join(f", {part}" for part in (group.event_type, group.tranche_id) if part)
    yield f"{what}{whose}, logical time {group.first_lt} to {group.last_lt}"
    yield from (f"  {example}" for example in group.examples)


def _percent(value: float) -> str:
    return f"<{_LEAST_SHOWN_PCT}%" if 0 < value < _LEAST_SHOWN_PCT else f"{value:.2f}%"


def _row(drift: TrancheDrift) -> dict[str, object]:
    sides = {"chain": drift.chain, "ledger": drift.ledger}
    return {
        "tranche_id": drift.tranche_id,
        **{f"{side}_{name}": getattr(t, name) for side, t in sides.items() for name in _NAMES},
        **{f"{side}_shares": str(totals.shares) for side, totals in sides.items()},
        "capital_drift_pct": drift.capital_pct,
        "coverage_drift_pct": drift.coverage_pct,
    }


_NAMES = ("capital", "coverage", "unearned")
