"""A program that accepts updates and applies them beside; each acceptance is said on stdout. Killed by its test."""

from __future__ import annotations

import asyncio
import sys

from tonsurance.services.utilization_tracker import UtilizationTracker


async def run(dsn: str, first: int) -> None:
    async with UtilizationTracker(vault_id="lab") as tracker:
        await tracker.init(dsn)
        draining = asyncio.create_task(drain(tracker))
        for number in range(first, first + 1_000):
            await tracker.enqueue_capital("SURE-SNR", 1, key=f"update {number}")
            sys.stdout.write(f"accepted {number}\n")
            sys.stdout.flush()
        await draining


async def drain(tracker: UtilizationTracker) -> None:
    while True:
        await tracker.drain_queue()
        await asyncio.sleep(0.002)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
