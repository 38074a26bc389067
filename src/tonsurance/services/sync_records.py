"""What is stored about following contracts, over the daemon's pool."""

from __future__ import annotations

from tonsurance import log
from tonsurance.core.errors import LedgerError
from tonsurance.core.events import Cursor
from tonsurance.db.contracts import end_backfill, insert_followed, select_followed, select_wanted
from tonsurance.db.events import record_fault, record_head, register_contract, select_cursor
from tonsurance.db.pool import Pool, acquire
from tonsurance.services.contract_set import FollowedContract, WantedContract

BY_DAEMON = "daemon"
_log = log.get(__name__)


class DatabaseRecords:
    """The records in the database. Every method raises DatabaseUnavailable when it cannot be reached."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, contract: FollowedContract) -> None:
        """Make a contract known and follow it; what people want of it already stays.

        Raises InputError when it is known otherwise.
        """
        async with acquire(self._pool) as conn, conn.transaction():
            await register_contract(conn, contract.address, contract.kind, contract.vault_id)
            await insert_followed(
                conn,
                address=contract.address,
                kind=contract.kind,
                vault_id=contract.vault_id,
                layout=contract.layout,
                note="",
                changed_by=BY_DAEMON,
            )
            wanted = await select_wanted(conn, contract.address)
        if wanted in ("paused", "removed"):
            _log.warning("contract_not_followed", contract=contract.address, wanted=wanted)

    async def read_wanted(self) -> tuple[WantedContract, ...]:
        """Every contract that is or was followed, and what people want of it."""
        async with acquire(self._pool) as conn:
            rows = await select_followed(conn)
        return tuple(
            WantedContract(
                contract=FollowedContract(
                    address=row.contract_address, kind=row.contract_type, vault_id=row.vault_id, layout=row.layout
                ),
                wanted=row.wanted,
                revision=row.revision,
            )
            for row in rows
        )

    async def end_backfill(self, address: str, revision: int) -> None:
        """The contract came up to its head: it is paused now, unless people want something else of it meanwhile."""
        async with acquire(self._pool) as conn:
            await end_backfill(conn, address, revision)

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
