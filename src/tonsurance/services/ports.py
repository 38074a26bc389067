"""What the reading services need from the ledger, as values and one Protocol.

The real reader is services/ledger_reads.py; the tests' fake holds these values in memory.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from tonsurance.core.limits import InForce
from tonsurance.core.moments import Moment
from tonsurance.core.yields import Yields
from tonsurance.db.tranches import TrancheRow


class TrancheTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tranche stands after the last event that touched it. Amounts in nanoTON, `block_time` in unix seconds;
    `losses_nano` is the lifetime sum of the claims it paid, `held_nano` what open reservations hold now,
    `paid` what it really pays.

    `lt` is the logical time of that event's transaction, 0 when nothing was posted yet; `seqno` is the block's
    number, None when the chain reader does not know it.
    """

    vault_id: str
    tranche_id: str
    capital_nano: int
    coverage_nano: int
    unearned_nano: int
    losses_nano: int
    lt: int
    seqno: int | None
    block_time: float
    held_nano: int = 0
    paid: Yields = Yields()


class ContractSync(msgspec.Struct, frozen=True, kw_only=True):
    """How far one contract is followed. Times in unix seconds of the database's clock; None is never.

    `head_lt` is the newest transaction the chain reader has seen, `checked_at` when it last looked.
    """

    contract: str
    contract_kind: str
    status: str
    last_lt: int
    head_lt: int | None
    checked_at: float | None


class LedgerState(msgspec.Struct, frozen=True, kw_only=True):
    """All that the figures are made of, read in one transaction. `read_at` is the database's clock.

    `direct_vaults` are moved by API calls: those of their tranches that nothing was posted to are empty. `held_for_s`:
    so many seconds after the reading the first open reservation is late, and what is held is less (None: none is open).
    """

    version: int
    read_at: float
    tranches: tuple[TrancheTotals, ...]
    contracts: tuple[ContractSync, ...]
    last_event_id: int
    direct_vaults: tuple[str, ...] = ()
    held_for_s: float | None = None


class PostedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the audit log. `fields` is the event's body as built-in values; `event_id` only grows."""

    event_id: int
    contract: str
    contract_kind: str
    event_type: str
    lt: int
    message_index: int
    transaction_hash: str
    block_time: float
    fields: dict[str, object]


class PolicyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many policies are in each status."""

    active: int
    approved: int
    claimed: int
    expired: int


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to read: oldest first after an event, or newest first before one.

    `transaction` is a hash as 64 lower-case hexadecimal digits.
    """

    contract: str | None = None
    event_type: str | None = None
    transaction: str | None = None
    policy_id: int | None = None
    after: int | None = None
    newest_first: bool = False
    limit: int = 50


class PostedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one event did to one tranche. Amounts in nanoTON, shares in share units; `entry_id` only grows."""

    entry_id: int
    tranche_id: str
    event_id: int
    event_type: str
    policy_id: int | None
    capital_delta: int
    coverage_delta: int
    unearned_delta: int
    loss_delta: int
    shares_delta: int
    transaction_hash: str
    lt: int
    message_index: int
    block_time: float


class EntryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of a vault to read: oldest first after an entry, or newest first before one."""

    vault_id: str
    tranche_id: str | None = None
    after: int | None = None
    newest_first: bool = True
    limit: int = 50


class LedgerReader(Protocol):
    """Reads of the ledger. Every method raises DatabaseUnavailable when the ledger cannot be read."""

    async def read_state(self) -> LedgerState:
        """The tranches and cursors as of now."""
        ...

    async def read_events(self, query: EventQuery) -> tuple[PostedEvent, ...]:
        """One page of the audit log."""
        ...

    async def read_policy_counts(self) -> PolicyCounts:
        """All policies by status."""
        ...

    async def read_cover_in_force(
        self, vault_id: str, coverage_type: int, chain_id: int, stablecoin_id: int
    ) -> InForce:
        """Cover of policies not ended: of one product, and of all products of its chain."""
        ...

    async def read_state_at(self, vault_id: str, moment: Moment) -> LedgerState:
        """A vault's tranches as they stood then; those without an event until then are left out.

        Raises BeforeHistory when there is none, InTheFuture when the ledger does not reach there yet.
        """
        ...

    async def read_entries(self, query: EntryQuery) -> tuple[PostedEntry, ...]:
        """One page of a vault's entries."""
        ...


class RowCache(Protocol):
    """The tranches' rows of one ledger version, shared by processes. No method raises or waits long."""

    async def get_utilizations(self, system: str) -> tuple[int, tuple[TrancheRow, ...]] | None:
        """The version stored last and its rows; None when there is nothing usable."""
        ...

    async def store_utilizations(self, system: str, version: int, rows: tuple[TrancheRow, ...]) -> None:
        """Let the others have these rows."""
        ...
