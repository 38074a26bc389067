"""The utilisation tracker inside another program: a vault of its own, purchases, a dashboard and a watch.

    DATABASE_URL=postgresql://... python examples/utilization.py

Everything happens on the direct vault `example`; vaults that follow the chain are only read.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys

from tonsurance.core.errors import TonsuranceError
from tonsurance.core.units import NANO_PER_TON, nano_from_ton, ton_from_nano
from tonsurance.services.utilization_tracker import TrancheUtilization, UtilizationTracker

APPROACHING = 0.85


async def sell(tracker: UtilizationTracker, tranche: str, cover_ton: int, policy: str) -> bool:
    """A purchase: first the hint whether it fits, then the cover under the policy's own key, so that it counts once."""
    cover = nano_from_ton(cover_ton)
    if not await tracker.can_accept_coverage(tranche, cover):
        return False
    await tracker.update_coverage(tranche, cover, key=policy)
    return True


async def expire(tracker: UtilizationTracker, tranche: str, cover_ton: int, policy: str) -> None:
    """The end of a policy gives its cover back."""
    await tracker.update_coverage(tranche, -nano_from_ton(cover_ton), key=f"{policy} expired")


def render_dashboard(tranches: tuple[TrancheUtilization, ...]) -> str:
    """All tranches as JSON for a page."""
    rows = [
        {
            "tranche": row.tranche_id,
            "apy": row.current_apy,
            "utilization": row.utilization_ratio,
            "tvl_ton": ton_from_nano(row.total_capital),
        }
        for row in tranches
    ]
    return json.dumps({"tranches": rows}, indent=2)


async def watch(tracker: UtilizationTracker, *, rounds: int, pause_s: float) -> list[str]:
    """What is worth telling somebody: tranches that approach their capacity."""
    told: list[str] = []
    for _ in range(rounds):
        told += [
            f"{row.tranche_id} approaching capacity: {row.utilization_ratio:.2%}"
            for row in await tracker.get_all_utilizations()
            if row.utilization_ratio > APPROACHING
        ]
        await asyncio.sleep(pause_s)
    return told


async def run(dsn: str) -> None:
    """The example from its start to its end. A key counts once for ever, so each run sells policies of its own."""
    first, second, third = (f"policy {number} of {secrets.token_hex(8)}" for number in (1, 2, 3))
    async with UtilizationTracker(vault_id="example") as tracker:
        await tracker.init(dsn)
        await tracker.create_vault("example")
        await tracker.sync_from_chain("SURE-SNR", 10_000 * NANO_PER_TON, 0)

        assert await sell(tracker, "SURE-SNR", 5_000, first)
        half = await tracker.get_tranche_utilization("SURE-SNR")
        print(f"Half sold: {half.utilization_ratio:.0%} at {half.current_apy:.4f} % APY")

        assert await sell(tracker, "SURE-SNR", 4_000, second)
        print(f"Another 1,000 TON: {'sold' if await sell(tracker, 'SURE-SNR', 1_000, third) else 'no capacity'}")
        for line in await watch(tracker, rounds=1, pause_s=0.0):
            print(line)

        await expire(tracker, "SURE-SNR", 4_000, second)
        await expire(tracker, "SURE-SNR", 5_000, first)
        await expire(tracker, "SURE-SNR", 5_000, first)  # told twice, counted once
        print(render_dashboard(await tracker.get_all_utilizations()))
        print(f"Cache: {tracker.get_statistics()}", file=sys.stderr)


if __name__ == "__main__":
    address = os.environ.get("DATABASE_URL")
    if not address:
        sys.exit("DATABASE_URL is not set: `tonsurance run` writes one into .tonsurance/status.json.")
    try:
        asyncio.run(run(address))
    except TonsuranceError as error:
        sys.exit(str(error))
