"""What a verification or a replay found, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tonsurance.core.units import NANO_PER_TON
from tonsurance.services.replay import Replay
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
    for table in replay.tables:
        yield f"{table.table}: {_count(table.rows, 'row')}, {table.differing} of them not as rebuilt"
    for found in replay.differences:
        key = ", ".join(f"{name}={value}" for name, value in found.key.items())
        live, rebuilt = ("missing" if side is None else side for side in (found.live, found.rebuilt))
        yield f"{found.table} ({key}): {found.column} is {live}, rebuilt {rebuilt}"
    events = f"{_count(replay.events, 'event')} up to version {replay.version}"
    if replay.refused is not None:
        yield f"Not equal: the log cannot be replayed past {_count(replay.events, 'event')}: {replay.refused}"
    elif replay.equal:
        yield f"Equal: every row rebuilt from {events} is the live one."
    else:
        yield f"Not equal: {_count(sum(t.differing for t in replay.tables), 'row')} of those rebuilt from {events}."


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
