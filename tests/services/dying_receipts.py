"""A process that keeps receipts and tells the id of each one once it is kept, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from services.receipting import make_quote
from tonsurance import log
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.receipts import Receipts

_AT_ONCE = 4


async def keep_on(receipts: Receipts) -> None:
    """Keep one after the other."""
    while True:
        quote = make_quote(quote_id=None)
        await receipts.keep(quote)
        print(quote.quote_id, flush=True)


async def main(dsn: str) -> None:
    """Several at once, so that they share transactions."""
    receipts = Receipts(LazyPool(dsn))
    await asyncio.gather(*(keep_on(receipts) for _ in range(_AT_ONCE)))


if __name__ == "__main__":
    log.configure("error", process="dying")
    asyncio.run(main(sys.argv[1]))
