"""A ledger in memory: what the API reads, without a database."""

from __future__ import annotations

import time

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import BeforeHistory, InTheFuture, TonsuranceError
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.core.limits import InForce
from tonsurance.core.moments import Moment
from tonsurance.core.units import NANO_PER_TON
from tonsurance.services.ports import (
    ContractSync,
    EntryQuery,
    EventQuery,
    LedgerState,
    PolicyCounts,
    PostedEntry,
    PostedEvent,
    TrancheTotals,
)

VAULT = "0:" + "a1" * 32
FACTORY = "0:" + "b2" * 32
BLOCK_TIME = 1_790_000_000.0
LT = 47_000_000_000_000


def totals(tranche_id: str, capital_ton: int, coverage_ton: int, *, lt: int = LT) -> TrancheTotals:
    """A tranche with whole TON amounts."""
    return TrancheTotals(
        vault_id="main",
        tranche_id=tranche_id,
        capital_nano=capital_ton * NANO_PER_TON,
        coverage_nano=coverage_ton * NANO_PER_TON,
        unearned_nano=NANO_PER_TON // 2,
        losses_nano=0,
        lt=lt,
        seqno=None,
        block_time=BLOCK_TIME,
    )


class FakeLedger:
    """LedgerReader over plain lists. `failure` is raised by every read while it is set; `commit` is one commit."""

    def __init__(self, *, tranches: tuple[str, ...] = TRANCHE_IDS) -> None:
        self.version = 1
        self.tranches = {name: totals(name, 1000, 500) for name in tranches}
        self.contracts = tuple(
            ContractSync(
                contract=address,
                contract_kind=kind,
                status="active",
                last_lt=LT,
                head_lt=LT,
                checked_at=time.time(),
            )
            for address, kind in ((VAULT, VAULT_KIND), (FACTORY, FACTORY_KIND))
        )
        self.events: list[PostedEvent] = []
        self.entries: list[PostedEntry] = []
        self.policies = PolicyCounts(active=0, approved=0, claimed=0, expired=0)
        self.past: dict[int, tuple[TrancheTotals, ...]] = {}
        """The tranches after a version."""
        self.in_force = InForce(0, 0)
        self.failure: TonsuranceError | None = None
        self.reads = 0

    async def read_state(self) -> LedgerState:
        """What was committed so far."""
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return LedgerState(
            version=self.version,
            read_at=time.time(),
            tranches=tuple(self.tranches.values()),
            contracts=self.contracts,
            last_event_id=self.events[-1].event_id if self.events else 0,
        )

    async def read_events(self, query: EventQuery) -> tuple[PostedEvent, ...]:
        """One page, as the database gives it."""
        if self.failure is not None:
            raise self.failure
        found = [
            event
            for event in self.events
            if query.contract in (None, event.contract)
            and query.event_type in (None, event.event_type)
            and query.transaction in (None, event.transaction_hash)
            and query.policy_id in (None, event.fields.get("policy_id"))
        ]
        if query.newest_first:
            found = [event for event in reversed(found) if query.after is None or event.event_id < query.after]
        else:
            found = [event for event in found if query.after is None or event.event_id > query.after]
        return tuple(found[: query.limit])

    async def read_state_at(self, vault_id: str, moment: Moment) -> LedgerState:
        """What `past` holds: a moment is a version here."""
        if self.failure is not None:
            raise self.failure
        version = moment.version or 0
        if version > self.version:
            raise InTheFuture
        if version not in self.past:
            raise BeforeHistory
        return LedgerState(
            version=version, read_at=time.time(), tranches=self.past[version], contracts=(), last_event_id=0
        )

    async def read_entries(self, query: EntryQuery) -> tuple[PostedEntry, ...]:
        """One page, as the database gives it."""
        if self.failure is not None:
            raise self.failure
        found = [entry for entry in self.entries if query.tranche_id in (None, entry.tranche_id)]
        if query.newest_first:
            found = [entry for entry in reversed(found) if query.after is None or entry.entry_id < query.after]
        else:
            found = [entry for entry in found if query.after is None or entry.entry_id > query.after]
        return tuple(found[: query.limit])

    async def read_cover_in_force(
        self, vault_id: str, coverage_type: int, chain_id: int, stablecoin_id: int
    ) -> InForce:
        """What the test set."""
        if self.failure is not None:
            raise self.failure
        return self.in_force

    async def read_policy_counts(self) -> PolicyCounts:
        """Those the test set."""
        if self.failure is not None:
            raise self.failure
        return self.policies

    def commit(self, tranche_id: str, capital_ton: int, coverage_ton: int, *, events: int = 1) -> None:
        """Move one tranche and log deposits for it."""
        self.version += 1
        self.tranches[tranche_id] = totals(tranche_id, capital_ton, coverage_ton, lt=LT + self.version)
        for _ in range(events):
            self.events.append(self._deposit(tranche_id))

    def _deposit(self, tranche_id: str) -> PostedEvent:
        number = len(self.events) + 1
        return PostedEvent(
            event_id=number,
            contract=VAULT,
            contract_kind=VAULT_KIND,
            event_type="DepositMade",
            lt=LT + number,
            message_index=0,
            transaction_hash=f"{number:064x}",
            block_time=BLOCK_TIME + number,
            fields={
                "tranche_id": TRANCHE_IDS.index(tranche_id) + 1,
                "depositor": "0:" + "c3" * 32,
                "amount": 5 * NANO_PER_TON,
                "shares": 2**70,
                "locked_shares": 0,
            },
        )

    def stop_following(self, **changes: object) -> None:
        """Change how the first contract is followed."""
        first, *others = self.contracts
        self.contracts = (msgspec.structs.replace(first, **changes), *others)
