"""A vault with room in it, whose chain can be moved by hand, and people who reserve."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from db.chain_story import (
    FACTORY,
    HOLDER,
    TON,
    VAULT,
    batch,
    cursor_at,
    deposit,
    policy_created,
    register,
    transaction,
)
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import CoverageChanged, EventBody, WithdrawalMade
from tonsurance.core.limits import coverage_cap_nano, read_rules
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.core.waterfall import split
from tonsurance.db.direct import DirectUpdate, Part
from tonsurance.db.pool import acquire
from tonsurance.services.direct_vaults import DirectVaults
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.reservations import Reservations

RULES = read_rules(DEFAULT_PARAMS)
WIDE = build_params({("risk", "reservation_max_share"): 1.0}, version=1)
"""Parameters under which one caller may hold all there is."""


class ChainByHand:
    """Posts events of the vault and its factory, one transaction each."""

    def __init__(self, dsn: str) -> None:
        self._writer = LedgerWriter(dsn, DEFAULT_PARAMS)
        self._lts = {VAULT: 0, FACTORY: 0}
        self._lt = 0
        self._lock = asyncio.Lock()
        self._policies = 0

    async def post(self, *bodies: EventBody, contract: str = VAULT) -> None:
        """One transaction with these events."""
        async with self._lock:
            self._lt += 1
            last = self._lts[contract]
            after: dict[str, Any] = {"after": cursor_at(last)} if last else {}
            made = transaction(self._lt, *bodies, contract=contract)
            await self._writer.submit(batch(made, contract=contract, **after))
            self._lts[contract] = self._lt

    async def fill(self, capital_ton: int = 1000, coverage_ton: int = 0) -> None:
        """The same in each tranche."""
        await self.post(*(deposit(tranche, capital_ton * TON) for tranche in range(1, 7)))
        if coverage_ton:
            await self.post(CoverageChanged(0, (coverage_ton * TON,) * 6))

    async def withdraw(self, tranche: int, amount: int) -> None:
        """Capital leaves."""
        await self.post(WithdrawalMade(tranche, HOLDER, amount, amount))

    async def tell_cover(self, policy_id: int, amount: int) -> None:
        """The vault has backed a policy."""
        await self.post(CoverageChanged(policy_id, split(amount, RULES.allocation)))

    async def tell_policy(self, policy_id: int, amount: int) -> int:
        """The factory has made it; returns the quote it was bought by."""
        created = policy_created(policy_id, amount)
        await self.post(created, contract=FACTORY)
        return created.quote_id

    def next_policy(self) -> int:
        """A new policy's id."""
        self._policies += 1
        return self._policies

    async def close(self) -> None:
        """Give the ledger back."""
        await self._writer.close()


def quote_of(policy_id: int) -> int:
    """The quote that `tell_policy` names."""
    return policy_created(policy_id).quote_id


class Desk:
    """A fresh database with one vault, its chain, and the reservations."""

    def __init__(
        self, dsn: str, pool: LazyPool, chain: ChainByHand, reservations: Reservations, changes: list[int]
    ) -> None:
        self.dsn = dsn
        self._pool = pool
        self.chain = chain
        self.reservations = reservations
        self.changes = changes
        self._keys = 0

    async def reserve(self, amount: int, *, tranche_id: str | None = None, **other: Any) -> Any:
        """Somebody new reserves; the reservation."""
        self._keys += 1
        asked = {"principal": f"person{self._keys}", "idempotency_key": f"key{self._keys}", "ttl_s": 60} | other
        return (await self.reservations.reserve_coverage("main", tranche_id, amount, **asked)).reservation

    async def fetch(self, sql: str, *values: object) -> list[Any]:
        """Rows."""
        async with acquire(await self._pool.open()) as conn:
            rows: list[Any] = await conn.fetch(sql, *values)
        return rows

    async def make_late(self, *reservation_ids: str) -> None:
        """Move these reservations' times into the past, as waiting would."""
        await self.fetch(
            "UPDATE capacity_reservations SET expires_at = created_at + interval '1 microsecond' "
            "WHERE reservation_id = ANY($1::text[]::uuid[])",
            list(reservation_ids),
        )

    async def statuses(self) -> dict[str, str]:
        """The stored status of every reservation."""
        rows = await self.fetch("SELECT reservation_id::text, status FROM capacity_reservations")
        return {row[0]: row[1] for row in rows}

    async def excess(self, max_utilization: float = 0.95) -> dict[str, int]:
        """By how much cover and what is held are together above each tranche's limit; negative is room. Computed
        from the tables alone, another way than the code does."""
        totals = await self.fetch(
            "SELECT tranche_id, total_capital_nanoton, coverage_sold_nanoton FROM tranche_utilization"
        )
        open_ones = await self.fetch(
            "SELECT split FROM capacity_reservations r WHERE status IN ('pending', 'committed') AND seen_lt IS NULL "
            "AND expires_at > clock_timestamp() AND NOT EXISTS (SELECT FROM policies p JOIN blockchain_events e "
            "USING (policy_id) WHERE p.quote_id = r.quote_id AND e.event_type = 'CoverageChanged')"
        )
        held = [sum(parts) for parts in zip(*(row[0] for row in open_ones), strict=True)] or [0] * 6
        return {
            row[0]: row[2] + held[TRANCHE_IDS.index(row[0])] - coverage_cap_nano(row[1], max_utilization)
            for row in totals
        }


class Book:
    """A direct vault `book` with 1,000 TON in each tranche, whose callers may hold all there is."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.pool = LazyPool(dsn, max_size=4)
        self.vaults = DirectVaults(self.pool, lambda: WIDE)
        self.reservations = Reservations(self.pool, lambda: WIDE)
        self._keys = itertools.count()

    async def move(self, route: str, *parts: Part) -> None:
        """One update under a new key."""
        key = f"move {next(self._keys)}"
        await self.vaults.update(DirectUpdate(principal="ada", route=route, key=key, vault_id="book", parts=parts))

    async def reserve(self, amount: int, *, tranche_id: str | None = "SURE-SNR", **other: Any) -> Any:
        """Somebody new reserves; the reservation."""
        key = f"key{next(self._keys)}"
        asked = {"principal": key, "idempotency_key": key, "ttl_s": 60} | other
        return (await self.reservations.reserve_coverage("book", tranche_id, amount, **asked)).reservation

    async def fetch(self, sql: str, *values: object) -> list[Any]:
        """Rows."""
        async with acquire(await self.pool.open()) as conn:
            rows: list[Any] = await conn.fetch(sql, *values)
        return rows

    async def totals(self, tranche_id: str = "SURE-SNR") -> tuple[int, int]:
        """A tranche's capital and coverage."""
        [row] = await self.fetch(
            "SELECT total_capital_nanoton, coverage_sold_nanoton FROM tranche_utilization "
            "WHERE vault_id = 'book' AND tranche_id = $1",
            tranche_id,
        )
        return row[0], row[1]

    async def sold_past_a_limit(self) -> list[Any]:
        """Commits at whose very moment a tranche they sold in was past 95 %, by the ledger's own history."""
        return await self.fetch(SOLD_PAST_A_LIMIT)


SOLD_PAST_A_LIMIT = """
SELECT u.idempotency_key, h.tranche_id, h.total_capital_nanoton, h.coverage_sold_nanoton
FROM direct_updates u JOIN capacity_reservations r ON r.reservation_id::text = u.idempotency_key
JOIN tranche_utilization_history h ON h.vault_id = u.vault_id AND h.logical_time = u.logical_time
WHERE u.route = 'reservation' AND h.coverage_sold_nanoton > h.total_capital_nanoton::numeric * 95 / 100
"""


@asynccontextmanager
async def open_book(dsn: str) -> AsyncIterator[Book]:
    """A book over a fresh database."""
    book = Book(dsn)
    try:
        await book.vaults.create("book")
        await book.move("fill", *(Part(tranche_id, capital=1000 * TON) for tranche_id in TRANCHE_IDS))
        yield book
    finally:
        await book.reservations.close()
        await book.vaults.close()
        await book.pool.close()


@asynccontextmanager
async def open_desk(dsn: str, *, params: Params = WIDE, patience_s: float = 0.0) -> AsyncIterator[Desk]:
    """A desk over a database that knows the vault and its factory."""
    await register(dsn)
    pool, chain = LazyPool(dsn, max_size=4), ChainByHand(dsn)
    changes: list[int] = []
    reservations = Reservations(pool, lambda: params, on_change=lambda: changes.append(1), patience_s=patience_s)
    try:
        yield Desk(dsn, pool, chain, reservations, changes)
    finally:
        await reservations.close()
        await chain.close()
        await pool.close()
