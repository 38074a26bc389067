"""The ingest as a process that can be told at which step it shall be gone, without a word to anybody.

A step of a task begins when an await of it ended and ends when the next one begins: both are counted, of all tasks of
the loop, those of the HTTP client and the database driver too. Between two such points a process of one thread does
nothing that anybody outside could see: asyncio's own loop writes to a socket at once, before the await for the answer.
So the points are all the ways in which this process can leave the world behind.

As a program it takes lines `point url dsn` and answers each with the exit code, from a process forked for each.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Generator
from typing import Any

from proof.story import FACTORY, VAULT
from tonsurance import log
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import load_layout
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import open_pool
from tonsurance.services.ingest import ContractIngest
from tonsurance.services.integration_daemon import FollowedContract
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords

DIED = 77
FOLLOWED = (
    FollowedContract(address=VAULT, kind=VAULT_KIND),
    FollowedContract(address=FACTORY, kind=FACTORY_KIND),
)
LAYOUT = load_layout()


async def ingest(url: str, dsn: str) -> None:
    """All that the daemon does for one look at the chain: register, follow, prove, decode, post, note the head."""
    pool = await open_pool(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    try:
        async with TonCenterClient(url) as client:
            records = DatabaseRecords(pool)
            for contract in FOLLOWED:
                await records.register(contract)
            for contract in FOLLOWED:
                decoder = Decoder(LAYOUT, contract=contract.address, kind=contract.kind)
                follower = Follower(client, contract.address, contract.kind)
                await ContractIngest(follower, decoder, writer, records).run_once()
    finally:
        await writer.close()
        await pool.close()


class Steps:
    """Makes the tasks of a loop count their steps, and ends the process at one of them; 0 is none."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self._last:
            os._exit(DIED)

    def make_task(
        self, loop: asyncio.AbstractEventLoop, work: Generator[Any, None, Any] | Coroutine[Any, Any, Any], **named: Any
    ) -> asyncio.Task[Any]:
        assert isinstance(work, Coroutine)
        return asyncio.Task(_Counted(work, self), loop=loop, **named)


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that counts where it is suspended and resumed."""

    def __init__(self, inner: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self._inner = inner
        self._steps = steps
        self.__name__ = self.__qualname__ = type(inner).__name__

    def send(self, value: Any) -> Any:
        self._steps.pass_one()
        awaited = self._inner.send(value)
        self._steps.pass_one()
        return awaited

    def throw(self, *raised: Any) -> Any:
        self._steps.pass_one()
        awaited = self._inner.throw(*raised)
        self._steps.pass_one()
        return awaited

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


def run_until(last: int, url: str, dsn: str) -> int:
    """Ingest on a loop of asyncio's own and return how many steps it took, unless the process ends at `last`."""
    steps = Steps(last)
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(steps.make_task)
    try:
        loop.run_until_complete(ingest(url, dsn))
    finally:
        loop.close()
    return steps.count


def main() -> None:
    """Serve runs; each is forked from this process, which has everything imported and no loop of its own."""
    log.configure("error", process="dying")
    for line in sys.stdin:
        last, url, dsn = line.split()
        child = os.fork()
        if not child:
            run_until(int(last), url, dsn)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
