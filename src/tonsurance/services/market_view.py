"""What a quote needs of now, in memory: price, room, cover in force, the factory's state, the record of claims.

One task calls `refresh` every second, and sooner when `wake` is set; who asks does not read the database, but where
that task is behind, and then all who ask wait for the same reading.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from tonsurance import log, metrics
from tonsurance.core.capacity import Capacity
from tonsurance.core.errors import DatabaseUnavailable, NotReady, StaleFigures, TonsuranceError
from tonsurance.core.params import Params
from tonsurance.core.prices import TON, Price, PriceReading, read_price
from tonsurance.core.products import Product
from tonsurance.core.sale import FactoryFacts, SaleFacts
from tonsurance.core.tranches import Utilization, utilization
from tonsurance.db.factory_state import FactoryState
from tonsurance.db.pool import acquire
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.market_reading import ClaimsRecord, CoverInForce, MarketReading, read_market
from tonsurance.services.price_feed import check_price, max_age_s
from tonsurance.services.tranche_reads import Freshness, Snapshot, TrancheReads, vault_room

READ_EVERY_S = 1.0
READ_TIMEOUT_S = 3.0
BEHIND_AFTER_S = 2.5
"""From this age on who asks has it read, instead of the task that should have."""
logger = log.get("market_view")


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the market: everything a quote is made of, and how old each part was, in seconds.

    `price` is one that figures may be made of. `factory` is None when nobody knows the state of the vault's factory;
    it may be old: `sale` has what follows from that. Times are the database's and ours, see `FactoryState` for its own.
    """

    snapshot: Snapshot
    params: Params
    price: Price
    cover: CoverInForce
    record: ClaimsRecord
    factory: FactoryState | None
    sale: SaleFacts
    tranches_age_s: float
    cover_age_s: float
    price_age_s: float
    factory_age_s: float | None

    def capacity(self, product: Product) -> Capacity:
        """The largest policy of this product there is room for, with all limits."""
        return vault_room(self.snapshot, self.params, self.cover.of(product))

    @property
    def utilization(self) -> Utilization:
        """Cover over capital of the whole vault."""
        return utilization_of(self.snapshot)


class MarketView:
    """The market as last read. Every figure grows old by our clock; a failed reading changes none of them."""

    def __init__(
        self,
        pool: LazyPool,
        reads: TrancheReads,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._reads = reads
        self._read_timeout_s = read_timeout_s
        self._clock = clock
        self._reading: MarketReading | None = None
        self._tried_at: float | None = None
        self._busy = asyncio.Lock()
        self.failure: TonsuranceError | None = None
        self.looks = 0
        """Looks into the database so far."""
        self.wake = asyncio.Event()
        """Set it when the ledger has a new version."""

    async def refresh(self) -> bool:
        """Look into the database. False when it cannot be read: everything then stays and ages."""
        async with self._busy:
            return await self._look()

    async def freshen(self) -> None:
        """Look into the database when nobody did for too long; who asks meanwhile waits for the same look."""
        if not self._is_behind:
            return
        async with self._busy:
            if self._is_behind and not self._just_tried:
                await self._look()

    async def current(self, *, vault_id: str | None = None, need_factory: bool = False) -> Market:
        """`require`, after a look into the database when nobody looked for too long."""
        await self.freshen()
        return self.require(vault_id=vault_id, need_factory=need_factory)

    def require(self, *, vault_id: str | None = None, need_factory: bool = False) -> Market:
        """One look at a vault's market (else the first one's), from memory.

        Raises NotReady before the first reading, StaleFigures when the ledger or (with `need_factory`) the factory
        could not be read for too long, PriceUnavailable without a price of now, UnknownVault. Each says how old.
        """
        name = vault_id or self._reads.vault_id
        snapshot, freshness = self._reads.snapshot_of(name), self._reads.freshness
        _check_age("The tranches were", freshness.age_s, self._reads.stale_after_s)
        reading = self._require_reading()
        cover_age_s = self._age(reading.read_at)
        _check_age("The cover in force was", cover_age_s, self._reads.stale_after_s)
        price = check_price(self.price)
        factory, sale = self.factory(name), self.sale_facts(name)
        if need_factory:
            _check_factory(factory, sale)
        price_age_s = self.price.age_s or 0.0
        metrics.PRICE_USED_AGE.labels(price.asset).set(price_age_s)
        return Market(
            snapshot=snapshot,
            params=self._reads.params,
            price=price,
            cover=self.cover(name),
            record=self.record(name),
            factory=factory,
            sale=sale,
            tranches_age_s=freshness.age_s or 0.0,
            cover_age_s=cover_age_s,
            price_age_s=price_age_s,
            factory_age_s=None if sale.factory is None else sale.factory.age_s,
        )

    @property
    def price(self) -> PriceReading:
        """The TON price and its age now; before the first reading there is none."""
        reading, longest = self._reading, max_age_s(self._reads.params)
        if reading is None or reading.price is None or reading.price_age_s is None:
            return read_price(None, TON, 0.0, longest)
        age_s = reading.price_age_s + self._age(reading.read_at)
        return PriceReading(asset=TON, price=reading.price, age_s=age_s, max_age_s=longest)

    @property
    def freshness(self) -> Freshness:
        """How long ago the database was looked into, and whether that is too long."""
        if self._reading is None:
            return Freshness(None, True)
        age_s = self._age(self._reading.read_at)
        return Freshness(age_s, age_s > self._reads.stale_after_s)

    def cover(self, vault_id: str | None = None) -> CoverInForce:
        """A vault's cover in force as last read. Raises NotReady before the first reading."""
        return self._require_reading().cover_of(vault_id or self._reads.vault_id)

    def record(self, vault_id: str | None = None) -> ClaimsRecord:
        """A vault's record of claims as last read, some seconds old. Raises NotReady before the first reading."""
        return self._require_reading().record_of(vault_id or self._reads.vault_id)

    def factory(self, vault_id: str | None = None) -> FactoryState | None:
        """The state of a vault's factory as the daemon read it last, its `age_s` as of now; None: not known."""
        reading = self._reading
        state = None if reading is None else reading.factories.get(vault_id or self._reads.vault_id)
        if state is None or reading is None:
            return None
        return msgspec.structs.replace(state, age_s=state.age_s + self._age(reading.read_at))

    def sale_facts(self, vault_id: str | None = None) -> SaleFacts:
        """What the sale of a vault's products depends on now; unknown is a reason not to sell, so it raises nothing."""
        state = self.factory(vault_id)
        return SaleFacts(
            price=self.price,
            factory=None if state is None else _show_facts(state),
            factory_max_age_s=float(str(self._reads.params.value("risk", "factory_max_age_s"))),
        )

    async def _look(self) -> bool:
        started = self._clock()
        self.looks += 1
        try:
            async with asyncio.timeout(self._read_timeout_s):
                self._reading = await self._read(started)
        except (TonsuranceError, TimeoutError) as error:
            known = error if isinstance(error, TonsuranceError) else DatabaseUnavailable("No answer in time.")
            if self.failure is None:
                logger.warning("market cannot be read", code=known.code, error=known.message)
            self.failure = known
            metrics.MARKET_READS.labels(known.code).inc()
            return False
        finally:
            self._tried_at = self._clock()
        self.failure = None
        metrics.MARKET_READS.labels("ok").inc()
        return True

    async def _read(self, started: float) -> MarketReading:
        async with (
            acquire(await self._pool.open(), timeout_s=self._read_timeout_s) as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await read_market(conn, self._reading, started)

    def _require_reading(self) -> MarketReading:
        if self._reading is None:
            raise NotReady("The market has not been read yet.")
        return self._reading

    def _age(self, since: float) -> float:
        return max(0.0, self._clock() - since)

    @property
    def _is_behind(self) -> bool:
        return self._reading is None or self._age(self._reading.read_at) > BEHIND_AFTER_S

    @property
    def _just_tried(self) -> bool:
        """An outage is not made worse by everybody who asks."""
        return self._tried_at is not None and self._clock() - self._tried_at < READ_EVERY_S


def utilization_of(snapshot: Snapshot) -> Utilization:
    """Cover over capital of all tranches together."""
    totals = [figures.totals for figures in snapshot.tranches]
    return utilization(sum(each.capital_nano for each in totals), sum(each.coverage_nano for each in totals))


def _check_age(what: str, age_s: float | None, longest_s: float) -> None:
    if age_s is None or age_s > longest_s:
        known = "never read" if age_s is None else f"last read {age_s:.0f} s ago"
        raise StaleFigures(f"{what} {known}; after {longest_s:g} s nothing is made of them.")


def _check_factory(factory: FactoryState | None, sale: SaleFacts) -> None:
    if factory is None:
        raise NotReady("The state of the vault's factory is not known yet.")
    if factory.age_s > sale.factory_max_age_s:
        raise StaleFigures(
            f"The factory's state was read {factory.age_s:.0f} s ago; after {sale.factory_max_age_s:g} s nothing is "
            "made of it."
        )


def _show_facts(state: FactoryState) -> FactoryFacts:
    chain_now = state.read_at + state.age_s + state.chain_time_offset_s
    return FactoryFacts(
        age_s=state.age_s,
        paused=state.paused,
        vault_paused=state.vault_paused,
        backed=state.vault_factory == state.factory_address,
        frozen=chain_now < state.frozen_until,
        claims_due=state.claims_due,
        policy_count=state.policy_count,
        max_policies=state.max_policies,
        quote_count=state.quote_count,
        max_quotes=state.max_quotes,
    )
