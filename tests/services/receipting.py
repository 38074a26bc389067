"""Quotes as they are handed to buyers, signed by a key of the tests, and a chain that buys them."""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from nacl.signing import SigningKey

from db.chain_story import FACTORY, HOLDER, START_TIME, register
from services.reserving import ChainByHand
from tonsurance import __version__
from tonsurance.chain import messages
from tonsurance.core.capacity import Capacity, Limit
from tonsurance.core.cover_prices import price_cover
from tonsurance.core.events import PolicyCreated, PolicyExpired, PolicyRefused
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.core.premium import MarketInputs
from tonsurance.core.prices import Price
from tonsurance.core.products import VALID_PRODUCTS
from tonsurance.core.quotes import Terms, read_list_rates
from tonsurance.db.pool import acquire
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.quote_values import Purchase, Quote, SeenAt
from tonsurance.services.receipt_retention import ForgetReport, ReceiptRetention
from tonsurance.services.receipts import Receipts

KEY = SigningKey(b"\x07" * 32)
NETWORK = -3
DAY = 86_400
_NUMBERS = itertools.count(1)


def make_quote(number: int | None = None, *, params: Params = DEFAULT_PARAMS, **other: Any) -> Quote:
    """A signed quote, another one for each number; `other` replaces fields before the prices are made."""
    number = next(_NUMBERS) if number is None else number
    dice = random.Random(number)
    wanted_id = other.pop("quote_id", dice.getrandbits(62) + 1)
    quote_id = secrets.randbits(63) if wanted_id is None else wanted_id
    ahead_s, network_id = other.pop("chain_offset_s", 0.0), other.pop("network_id", NETWORK)
    issued_at = other.pop("issued_at", time.time())
    price = Price(asset="TON", usd=Decimal("5.2513"), source="coingecko", observed_at=issued_at - 3.25)
    terms = Terms(
        product=dice.choice(VALID_PRODUCTS), amount_usd=Decimal(dice.randint(100, 10**7)) / 4, days=dice.randint(1, 365)
    )
    market = MarketInputs(utilization=dice.random(), loss_ratio=dice.random(), claims_count=12, stress="Elevated")
    given: dict[str, Any] = {"terms": terms, "price": price, "market": market} | other
    prices = price_cover(given["terms"], given["price"].usd, given["market"], params)
    room = Capacity(2**60, "max_policy_percent", (Limit("max_policy_percent", 2**60, None, 0.05),))
    quote = Quote(
        quote_id=quote_id,
        terms=given["terms"],
        list_price=prices.list_price,
        ton=prices.ton,
        technical=prices.technical,
        market=given["market"],
        price=given["price"],
        params_version=params.version,
        params_hash=params.hash,
        code_version=__version__,
        issued_at=issued_at,
        valid_until=int(issued_at + ahead_s) + read_list_rates(params).validity_s,
        chain_offset_s=ahead_s,
        capacity=room,
        sufficient=True,
        on_sale=(),
        seen_at=SeenAt(ledger_version=7, lt=99, seqno=None, block_time=issued_at - 1, stale=False),
    )
    return msgspec.structs.replace(quote, purchase=sign(quote, network_id))


def sign(quote: Quote, network_id: int, buyer: str = HOLDER, factory: str = FACTORY) -> Purchase:
    """What the buyer would send."""
    product = quote.terms.product
    terms = messages.Quote(
        network_id=network_id,
        factory=factory,
        quote_id=quote.quote_id,
        coverage_type=product.coverage_type_id,
        chain_id=product.chain_id,
        stablecoin_id=product.stablecoin_id,
        coverage_amount=quote.ton.coverage_nano,
        premium=quote.ton.premium_nano,
        duration_days=quote.terms.days,
        buyer=buyer,
        deadline=quote.valid_until,
    )
    signature = messages.sign_quote(terms, KEY)
    body = messages.create_policy(terms, signature)
    return Purchase(
        buyer=buyer,
        network_id=network_id,
        factory=factory,
        signature=signature,
        public_key=bytes(KEY.verify_key),
        body=messages.boc_of(body),
        payload_hash=bytes(body.hash).hex(),
        value_nano=quote.ton.premium_nano + messages.REQUEST_GAS,
    )


class Counter:
    """A fresh database that knows the vault and its factory, the receipts, and the chain."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.pool = LazyPool(dsn, max_size=4)
        self.receipts = Receipts(self.pool)
        self.chain = ChainByHand(dsn)
        self._policies = 0

    async def fetch(self, sql: str, *values: object) -> list[Any]:
        """Rows."""
        async with acquire(await self.pool.open()) as conn:
            rows: list[Any] = await conn.fetch(sql, *values)
        return rows

    async def damage(self, sql: str, *values: object) -> None:
        """What somebody with all rights could do, past every trigger."""
        async with acquire(await self.pool.open()) as conn, conn.transaction():
            await conn.execute("SET LOCAL session_replication_role = replica")
            await conn.execute(sql, *values)

    async def buy(self, quote: Quote, contract: str = FACTORY) -> int:
        """The chain tells of a policy by this quote; its id."""
        self._policies += 1
        product = quote.terms.product
        created = PolicyCreated(
            policy_id=self._policies,
            quote_id=quote.quote_id,
            buyer=HOLDER,
            coverage_type=product.coverage_type_id,
            chain_id=product.chain_id,
            stablecoin_id=product.stablecoin_id,
            coverage_amount=quote.ton.coverage_nano,
            premium=quote.ton.premium_nano,
            start=START_TIME,
            end=START_TIME + quote.terms.days * DAY,
            trigger_bps=9700,
            floor_bps=9000,
        )
        await self.chain.post(created, contract=contract)
        return self._policies

    async def refuse(self, quote: Quote) -> None:
        """The chain tells that the vault refused this quote."""
        await self.chain.post(PolicyRefused(1000, quote.quote_id, HOLDER, 0x3E9AD547), contract=FACTORY)

    async def expire(self, policy_id: int) -> None:
        """The policy ended."""
        await self.chain.post(PolicyExpired(policy_id), contract=FACTORY)

    async def follow_until(self, moment: float) -> None:
        """The daemon has found nothing newer in the factory at this time."""
        await self.damage(
            "UPDATE blockchain_sync_state SET head_lt = last_synced_lt, last_sync_timestamp = to_timestamp($1),"
            " sync_status = 'active' WHERE contract_address = $2",
            moment,
            FACTORY,
        )

    async def forget(self, params: Params = DEFAULT_PARAMS, *, batch: int = 1000) -> ForgetReport:
        """One pass of the retention, as the daemon runs it."""
        pool = LazyPool(self.dsn, max_size=1, role="tonsurance_ingest")
        try:
            return await ReceiptRetention(pool, lambda: params, batch=batch).forget()
        finally:
            await pool.close()

    async def kept(self) -> set[int]:
        """The ids of all receipts."""
        return {int(row[0]) for row in await self.fetch("SELECT quote_id FROM quotes")}


@asynccontextmanager
async def open_counter(dsn: str) -> AsyncIterator[Counter]:
    """A counter over a migrated database."""
    await register(dsn)
    counter = Counter(dsn)
    try:
        yield counter
    finally:
        await counter.receipts.close()
        await counter.chain.close()
        await counter.pool.close()
