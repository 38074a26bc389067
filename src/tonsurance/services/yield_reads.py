"""What tranches really pay, from the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from tonsurance.core.units import DAY_S
from tonsurance.core.yields import SharePrice, Yields, compute_yields
from tonsurance.db.pool import Connection
from tonsurance.db.streams import Asked, YieldBasis, select_yield_bases
from tonsurance.db.tranches import TrancheRow


async def read_yields(
    conn: Connection, rows: Sequence[TrancheRow], window_days: int, now: float
) -> dict[tuple[str, str], Yields]:
    """The yields of tranches as they stand in `rows` at `now` (unix seconds), by (vault_id, tranche_id).

    A chain's clock may run ahead of `now`: its newest block counts then.
    """
    if not rows:
        return {}
    asked = [
        Asked(
            vault_id=row.vault_id,
            tranche_id=row.tranche_id,
            lt=row.logical_time,
            since=row.block_time.timestamp() - window_days * DAY_S,
        )
        for row in rows
    ]
    bases = await select_yield_bases(conn, asked)
    at = int(max(now, *(row.block_time.timestamp() for row in rows)))
    return {(row.vault_id, row.tranche_id): _compute(row, bases[row.vault_id, row.tranche_id], at) for row in rows}


def _compute(row: TrancheRow, basis: YieldBasis, now: int) -> Yields:
    return compute_yields(
        SharePrice(time=int(row.block_time.timestamp()), capital=row.total_capital_nanoton, shares=row.shares),
        row.unearned_premium_nanoton,
        basis.stream,
        basis.before,
        new_epoch=basis.new_epoch,
        now=now,
    )
