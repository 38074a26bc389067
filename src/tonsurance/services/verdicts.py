"""What a verification, a replay or a rescan found, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tonsurance.core.units import NANO_PER_TON
from tonsurance.services.replay import Replay
from tonsurance.services.rescan import Rescan
from tonsurance.services.verification import TrancheVerdict, VaultVerdict, Verification

_FIGURES = ("capital", "coverage", "unearned")


def describe_verification(verification: Verification) -> Iterator[str]:
    """A table of each vault (figures of the chain; the ledger's beside it where it differs), and what it comes to."""
    for vault in verification.vaults:
        yield from _align([("tranche", "capital TON", "cover sold TON", "unearned TON", "shares", ""), *_rows(vault)])
        yield from vault.differences
        place = f"block {vault.seqno} (logical time {vault.lt})"
        if vault.differences:
            yield f"Not equal: {_count(len(vault.differences), 'difference')} from the chain at {place}."
        else:
            backed = _count(vault.chain_policies, "policy", "policies")
            yield f"Equal: the ledger of vault {vault.vault_id} is the chain's at {place}; {backed} backed."


def describe_replay(replay: Replay) -> Iterator[str]:
    """Each table with its rows, the differences by name, and what it comes to."""
    if replay.from_lt is not None:
        yield f"Rows of the vaults up to logical time {replay.from_lt} were taken as they stand."
    yield from _list_differences(replay)
    events = f"{_count(replay.events, 'event')} up to version {replay.version}"
    if replay.events_per_second:
        yield f"Folded {_count(replay.events, 'event')}, {replay.events_per_second:,.0f} a second."
    differing = _count(sum(t.differing for t in replay.tables), "row")
    if replay.refused is not None:
        yield f"Not equal: the log cannot be replayed past {_count(replay.events, 'event')}: {replay.refused}"
    elif replay.equal:
        yield f"Equal: every row rebuilt from {events} is the live one."
    elif replay.swapped:
        yield f"Swapped: {differing} that differed are now those rebuilt from {events} (rebuild {replay.rebuild_id})."
    else:
        yield f"Not equal: {differing} of those rebuilt from {events}."


def _list_differences(replay: Replay) -> Iterator[str]:
    for table in replay.tables:
        yield f"{table.table}: {_count(table.rows, 'row')}, {table.differing} of them not as rebuilt"
    for found in replay.differences:
        key = ", ".join(f"{name}={value}" for name, value in found.key.items())
        live, rebuilt = ("missing" if side is None else side for side in (found.live, found.rebuilt))
        yield f"{found.table} ({key}): {found.column} is {live}, rebuilt {rebuilt}"
    for swapped in replay.swapped:
        if swapped.removed or swapped.inserted:
            yield f"{swapped.table}: {swapped.removed:,} taken out, {swapped.inserted:,} put in"


def describe_rescan(found: Rescan) -> Iterator[str]:
    """What was read, what waits on and why, what the log tells otherwise, and what it comes to."""
    events, contracts = _count(found.logged, "event"), _count(found.contracts, "contract")
    yield f"Read again: {events} of the log and {_count(found.quarantined, 'quarantined message')} of {contracts}."
    yield from found.skipped
    for waiting in found.waiting:
        many, place = _count(waiting.messages, "message"), f"{waiting.contract} at logical time {waiting.lt}"
        yield f"Waits on: {many} (the first of {place}, message {waiting.message_index}): {waiting.reason}"
    for other in found.differences:
        place = f"{other.contract} at logical time {other.lt}, message {other.message_index}"
        yield f"In the log {other.event_type} of {place}: {other.said}"
    if found.differing:
        yield (
            f"{_count(found.differing, 'event')} of the log read otherwise now. The log is not changed by this: if the "
            "layout of today is right, `tonsurance sync` holds a vault's events against the chain and journals what it "
            "mends; a factory's are read anew into a fresh database. If it is wrong, mend the layout."
        )
    if found.rebuilt is not None:
        yield from _list_differences(found.rebuilt)
    yield from found.corrections
    yield _conclude_rescan(found)


def _conclude_rescan(found: Rescan) -> str:
    types = ", ".join(f"{many} {name}" for name, many in sorted(found.by_type.items()))
    late, resolved = _count(found.late, "event"), _count(found.resolved, "message")
    if found.refused is not None:
        return f"Nothing was changed: with {late} ({types}) the ledger would contradict itself: {found.refused}"
    if not found.resolved:
        return "Nothing to do: no quarantined message can be read now that could not be before."
    what = f"{resolved} left the quarantine, {late} came into the log" + (f": {types}." if types else ".")
    if found.dry_run:
        return f"Dry run, nothing was changed; otherwise: {what}"
    version = (
        ""
        if found.rebuilt is None
        else f" The read models follow from the whole log (version {found.rebuilt.version})."
    )
    return what + version


def _rows(vault: VaultVerdict) -> Iterator[tuple[str, ...]]:
    for tranche in vault.tranches:
        equal = all(
            getattr(tranche, f"chain_{name}") == getattr(tranche, f"ledger_{name}") for name in (*_FIGURES, "shares")
        )
        verdict = "equal" if equal else "DIFFERS"
        yield (tranche.tranche_id, *(_show(tranche, name) for name in _FIGURES), tranche.chain_shares, verdict)


def _show(tranche: TrancheVerdict, name: str) -> str:
    chain: int = getattr(tranche, f"chain_{name}")
    return f"{chain // NANO_PER_TON:,}.{chain % NANO_PER_TON:09d}"


def _align(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *figures, verdict in rows:
        cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells, verdict]).rstrip()


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
