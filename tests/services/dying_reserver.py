"""A process that reserves and is gone at a given step, without a word to anybody.

As a program it takes lines `point key dsn` and answers each with the exit code, from a process forked for each.
"""

from __future__ import annotations

import asyncio
import os
import sys

from proof.dying import Steps
from tonsurance import log
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.reservations import Reservations

AMOUNT = 1_000_000


async def reserve(dsn: str, key: str) -> str:
    """One reservation under this key; its id."""
    pool = LazyPool(dsn)
    reservations = Reservations(pool, lambda: DEFAULT_PARAMS)
    try:
        outcome = await reservations.reserve_coverage("main", None, AMOUNT, 60, key, "ada")
        return outcome.reservation.reservation_id
    finally:
        await reservations.close()
        await pool.close()


def main() -> None:
    """Serve runs; each is forked from this process, which has everything imported and no loop of its own."""
    log.configure("error", process="dying")
    for line in sys.stdin:
        point, key, dsn = line.split()
        child = os.fork()
        if not child:
            loop = asyncio.SelectorEventLoop()
            loop.set_task_factory(Steps(int(point)).make_task)
            loop.run_until_complete(reserve(dsn, key))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
