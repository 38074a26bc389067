"""What people do with the list of followed contracts. The daemon notices within a second or two."""

from __future__ import annotations

from collections.abc import Callable

from tonsurance.chain.addresses import check_network
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import check_contract
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout, load_layout
from tonsurance.core.errors import InputError
from tonsurance.db.contracts import (
    ContractState,
    check_addition,
    insert_followed,
    select_contract_states,
    select_wanted,
    update_wanted,
)
from tonsurance.db.daemons import DaemonRow, select_statuses
from tonsurance.db.pool import Pool, acquire


class UnknownContract(InputError):
    """This contract was never followed."""

    code = "unknown_contract"


class ContractAdmin:
    """The list, changed by `actor`. Nothing of the ledger changes here: cursors and history stay where they are."""

    def __init__(self, pool: Pool, *, actor: str, layout_of: Callable[[str], Layout] = load_layout) -> None:
        self._pool = pool
        self._actor = actor
        self._layout_of = layout_of

    async def read_states(self) -> tuple[ContractState, ...]:
        """Every contract that is or was followed, and how far it was read."""
        async with acquire(self._pool) as conn:
            return await select_contract_states(conn)

    async def read_daemons(self) -> tuple[DaemonRow, ...]:
        """What the daemons of the last day say of themselves, the active one first."""
        async with acquire(self._pool) as conn:
            return await select_statuses(conn)

    async def add(
        self,
        client: TonCenterClient,
        address: str,
        *,
        kind: str,
        vault_id: str,
        network: str,
        layout: str = DEFAULT_LAYOUT,
        note: str = "",
    ) -> str:
        """Follow a contract from where its cursor stands, at first from its beginning; returns its raw address.

        Raises InvalidAddress, WrongNetwork, UsageError for an unknown layout, NotOurContract when it holds other code,
        ChainUnavailable, and InputError when the ledger cannot follow it or does already. Nothing is changed then.
        """
        raw = check_network(address, network)
        await check_contract(client, raw, kind, self._layout_of(layout))
        async with acquire(self._pool) as conn, conn.transaction():
            wanted = await select_wanted(conn, raw)
            await check_addition(conn, raw, kind, vault_id)
            if wanted not in (None, "removed"):
                raise InputError(f"{raw} is on the list already; it is {wanted}.")
            if wanted is None:
                await insert_followed(
                    conn, address=raw, kind=kind, vault_id=vault_id, layout=layout, note=note, changed_by=self._actor
                )
            else:
                await update_wanted(conn, raw, "active", changed_by=self._actor, note=note or None)
        return raw

    async def want(self, address: str, wanted: str, *, network: str, note: str | None = None) -> str:
        """Pause, resume, remove or backfill a contract; returns its raw address. `active` again starts it anew; for one
        that is followed a backfill changes nothing, as it comes up to its head by itself.

        Raises UnknownContract, and InputError when a removed one is to go on.
        """
        raw = check_network(address, network)
        async with acquire(self._pool) as conn, conn.transaction():
            now = await select_wanted(conn, raw)
            if now is None:
                raise UnknownContract(f"{raw} was never followed.", advice="See: tonsurance contracts list")
            if now == "removed" and wanted != "removed":
                raise InputError(f"{raw} was removed.", advice="Follow it again with: tonsurance contracts add")
            if (now, wanted) != ("active", "backfill"):
                await update_wanted(conn, raw, wanted, changed_by=self._actor, note=note)
        return raw
