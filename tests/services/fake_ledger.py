"""A ledger in memory: where batches go, and what is stored about following."""

from __future__ import annotations

from collections import deque

from tonsurance.core.errors import CursorConflict, TonsuranceError
from tonsurance.core.events import GENESIS, ContractBatch, Cursor, PremiumsEarned
from tonsurance.services.integration_daemon import FollowedContract


class FakeLedger:
    """A sink and its records in memory, as strict about the cursor as the real ones."""

    def __init__(self) -> None:
        self.cursor = GENESIS
        self.batches: list[ContractBatch] = []
        self.heads: list[int] = []
        self.faults: list[str] = []
        self.errors: deque[TonsuranceError] = deque()
        self.registered: list[FollowedContract] = []
        self.reads = 0

    async def submit(self, batch: ContractBatch) -> None:
        if self.errors:
            raise self.errors.popleft()
        if batch.after != self.cursor:
            raise CursorConflict
        self.batches.append(batch)
        self.cursor = batch.until

    async def read_cursor(self, contract: str) -> Cursor:
        self.reads += 1
        return self.cursor

    async def record_head(self, contract: str, head_lt: int) -> None:
        self.heads.append(head_lt)

    async def record_fault(self, contract: str, message: str) -> None:
        self.faults.append(message)

    async def register(self, contract: FollowedContract) -> None:
        self.registered.append(contract)

    @property
    def amounts(self) -> list[int]:
        """The amounts of all events, in the order they were posted."""
        events = [event for batch in self.batches for made in batch.transactions for event in made.events]
        return [event.body.amount for event in events if isinstance(event.body, PremiumsEarned)]
