"""A vault with policies, a price and a factory's state in a real database, and a market view of it."""

from __future__ import annotations

import time
from decimal import Decimal

import msgspec

from db.chain_story import FACTORY, TON, VAULT, batch, cursor_at, deposit, policy_created, register, transaction
from tonsurance.core.events import DecodedTransaction, EventBody, PolicyCreated
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.prices import Price
from tonsurance.core.products import Product
from tonsurance.db.factory_state import FactoryState, upsert_factory_state
from tonsurance.db.pool import Connection, connect
from tonsurance.db.prices import insert_price
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.market_view import MarketView
from tonsurance.services.tranche_reads import TrancheReads

STALE_AFTER_S = 30.0
FOLLOW = """
INSERT INTO followed_contracts (contract_address, contract_type, vault_id, changed_by)
VALUES ($1, 'PolicyFactory', 'main', 'test') ON CONFLICT (contract_address) DO UPDATE SET wanted = 'active'
"""


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MarketStory:
    """Events are posted in the order of the calls; `lt` is also the second of their block."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.clock = Clock()
        self.ledger = PostgresLedgerReader(dsn, pool_size=1)
        self.reads = TrancheReads(
            self.ledger, DEFAULT_PARAMS, vault_id="main", stale_after_s=STALE_AFTER_S, clock=self.clock
        )
        self.pool = LazyPool(dsn, max_size=1, application_name="market")
        self.view = MarketView(self.pool, self.reads, clock=self.clock)
        self._writer = LedgerWriter(dsn, DEFAULT_PARAMS)
        self._lt = 0
        self._last: dict[str, int] = {}
        self._policies = 0
        self.conn: Connection

    async def start(self, capital_ton: int = 1000) -> None:
        """Both contracts known, and so much capital in each tranche."""
        await register(self.dsn)
        self.conn = await connect(self.dsn)
        await self.post(*(deposit(tranche, capital_ton * TON) for tranche in range(1, 7)))

    async def post(self, *bodies: EventBody, contract: str = VAULT, after_s: int = 1) -> None:
        """One transaction of a contract, so many seconds after the last one."""
        self._lt += after_s
        made: DecodedTransaction = transaction(self._lt, *bodies, contract=contract)
        last = self._last.get(contract)
        after = {} if last is None else {"after": cursor_at(last)}
        await self._writer.submit(batch(made, contract=contract, **after))
        self._last[contract] = self._lt

    async def sell(self, product: Product, cover_nano: int) -> int:
        """A policy; returns its id."""
        self._policies += 1
        bought: PolicyCreated = msgspec.structs.replace(
            policy_created(self._policies, cover_nano),
            coverage_type=product.coverage_type_id,
            chain_id=product.chain_id,
            stablecoin_id=product.stablecoin_id,
        )
        await self.post(bought, contract=FACTORY)
        return self._policies

    async def see_price(self, usd: str, age_s: float = 0.0) -> Price:
        """A price that the source saw so many seconds ago."""
        price = Price(asset="TON", usd=Decimal(usd), source="test", observed_at=time.time() - age_s)
        await insert_price(self.conn, price)
        return price

    async def see_factory(self, age_s: float = 0.0, **changes: object) -> FactoryState:
        """What the factory said of itself so many seconds ago."""
        state = msgspec.structs.replace(open_factory(), **changes)
        await self.conn.execute(FOLLOW, state.factory_address)
        await upsert_factory_state(self.conn, state)
        await self.conn.execute("UPDATE factory_state SET read_at = read_at - make_interval(secs => $1)", age_s)
        return state

    async def look(self) -> MarketView:
        """Read the tranches and the market."""
        assert await self.reads.refresh()
        assert await self.view.refresh()
        return self.view

    async def close(self) -> None:
        """Give everything back."""
        await self._writer.close()
        await self.pool.close()
        await self.ledger.close()
        await self.conn.close()


def open_factory() -> FactoryState:
    """A factory that sells."""
    return FactoryState(
        factory_address=FACTORY,
        vault_id="main",
        vault_address=VAULT,
        network_id=-3,
        public_key=bytes(32),
        previous_key=None,
        previous_until=0,
        paused=False,
        waiting_period_s=86_400,
        claim_grace_s=604_800,
        key_overlap_s=3_600,
        policy_count=0,
        max_policies=1_000,
        quote_count=0,
        max_quotes=1_000,
        vault_factory=FACTORY,
        vault_paused=False,
        frozen_until=0,
        claims_due=0,
        withdraw_delay_s=604_800,
        withdraw_window_s=172_800,
        seqno=1,
    )
