"""What is stored about following contracts, over the daemon's pool."""

from __future__ import annotations

from tonsurance.core.errors import LedgerError
from tonsurance.core.events import Cursor
from tonsurance.db.events import record_fault, record_head, register_contract, select_cursor
from tonsurance.db.pool import Pool, acquire
from tonsurance.services.integration_daemon import FollowedContract


class DatabaseRecords:
    """The records in the database. Every method raises DatabaseUnavailable when it cannot be reached."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, contract: FollowedContract) -> None:
        """Make a contract known; again is fine. Raises InputError when it is known otherwise."""
        async with acquire(self._pool) as conn:
            await register_contract(conn, contract.address, contract.kind, contract.vault_id)

    async def read_cursor(self, contract: str) -> Cursor:
        """The last posted transaction. Raises LedgerError when the contract was never registered."""
        async with acquire(self._pool) as conn:
            cursor = await select_cursor(conn, contract)
        if cursor is None:
            raise LedgerError(f"{contract} is not registered.")
        return cursor

    async def record_head(self, contract: str, head_lt: int) -> None:
        """The chain was read just now and this is the newest transaction of the contract."""
        async with acquire(self._pool) as conn:
            await record_head(conn, contract, head_lt)

    async def record_fault(self, contract: str, message: str) -> None:
        """The contract's history as it is served now contradicts itself or ours."""
        async with acquire(self._pool) as conn:
            await record_fault(conn, contract, message)
