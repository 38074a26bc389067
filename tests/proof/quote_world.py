"""A whole market in one process: the real chain, the real daemon, a real database and the real API over its socket.

Only the clock of the chain is driven by hand.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from decimal import Decimal
from typing import Any

import httpx
from pytoniq_core.boc.cell import Cell

from chain.conftest import QUICK
from ports import free_port
from tonsurance.api.server import serve_api_until
from tonsurance.api.settings import ApiSettings
from tonsurance.api.shop_parts import ShopWiring
from tonsurance.chain import messages
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import load_layout
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.core.prices import TON, Price
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.events import select_sync_states
from tonsurance.db.pool import Pool, acquire, open_pool
from tonsurance.db.prices import insert_price
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import Contracts, deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer, Wallet
from tonsurance.services.factory_state import FactoryWatch
from tonsurance.services.integration_daemon import IntegrationDaemon, read_contracts
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.loop import every
from tonsurance.services.signing_key import SecretKey
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.verification import VaultVerifier

KEY = bytes(range(40, 72))
LAYOUT = load_layout()
HASTY = build_params({("pricing", "quote_validity_s"): 30}, 1)
PRICE = Decimal(3)
"""Dollars for one TON."""
LAST_POSTED = "SELECT max(logical_time) FROM blockchain_events WHERE contract_address = $1"
ASK = {
    "coverage_type": "depeg",
    "chain": "Ethereum",
    "stablecoin": "USDC",
    "coverage_amount": 1000,
    "duration_days": 90,
}


class QuoteWorld:
    """A chain with wallets, the ledger that follows it, and the API."""

    def __init__(self, chain: LocalChain, contracts: Contracts, client: TonCenterClient, pool: Pool, dsn: str) -> None:
        self.chain = chain
        self.contracts = contracts
        self.client = client
        self.pool = pool
        self.dsn = dsn
        self.buyers: list[Wallet] = []
        """Made before the API looks at the chain, for blocks by hand look to it like a chain that runs fast."""
        self.port, self.hasty_port = free_port(), free_port()
        self.http, self.hasty = (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) for port in (self.port, self.hasty_port)
        )
        self._watch = FactoryWatch(client, LazyPool(dsn, max_size=1, application_name="test factory"))

    def wallet(self, name: str, ton: int) -> Wallet:
        """Somebody with money."""
        wallet = Wallet(name, self.chain.seed)
        self.chain.airdrop(wallet.address, ton * NANO_PER_TON)
        self.chain.mine_until_idle()
        return wallet

    def fill(self, ton: int) -> None:
        """So much capital in each tranche."""
        saver = self.wallet("saver", 7 * ton + 100)
        for tranche_id in range(1, 7):
            value = ton * NANO_PER_TON + messages.DEPOSIT_GAS
            saver.send(
                self.chain, Transfer(destination=self.contracts.vault, value=value, body=messages.deposit(tranche_id))
            )
            self.chain.mine_until_idle()

    async def look(self) -> None:
        """What the daemon keeps reading: the price, and what the contracts say of themselves."""
        async with acquire(self.pool) as conn:
            await insert_price(conn, Price(asset=TON, usd=PRICE, source="test", observed_at=time.time()))
        await self._watch.read_all()

    async def catch_up(self) -> None:
        """Wait until the ledger is where the chain is, and what the contracts say of themselves is read."""
        heads = {
            address: self.chain.transactions(address, limit=1)[0].lt
            for address in (self.contracts.vault, self.contracts.factory)
        }
        async with asyncio.timeout(60):
            while True:
                async with acquire(self.pool) as conn:
                    states = {one.contract_address: one.cursor.lt for one in await select_sync_states(conn)}
                if states == heads:
                    break
                await asyncio.sleep(0.02)
        await self.look()

    async def settle(self) -> None:
        """The same, and wait until the API's quotes know it too."""
        await self.catch_up()
        async with acquire(self.pool) as conn:
            posted = await conn.fetchval(LAST_POSTED, self.contracts.vault)
        async with asyncio.timeout(60):
            while True:
                answer = await self.ask()
                if answer.status_code == httpx.codes.OK and self._is_up_to(answer.json(), posted):
                    return
                await asyncio.sleep(0.05)

    @staticmethod
    def _is_up_to(quote: dict[str, Any], posted: int) -> bool:
        """Whether a price is of the ledger up to this logical time, and of a factory that was read."""
        return int(quote["as_of"]["lt"]) >= posted and quote["on_sale"]["on_sale"]

    async def ready(self) -> None:
        """Wait until both API processes answer at all, and have figures."""
        async with asyncio.timeout(60):
            for http in (self.http, self.hasty):
                while not await _is_ready(http):
                    await asyncio.sleep(0.05)

    async def ask(self, *, hasty: bool = False, **fields: Any) -> httpx.Response:
        """A quote; a hasty one is valid for 30 seconds only."""
        http = self.hasty if hasty else self.http
        return await http.post("/api/v2/quote/multi-dimensional", json=ASK | fields)

    async def ask_transfer(
        self, buyer: Wallet, *, hasty: bool = False, **fields: Any
    ) -> tuple[dict[str, Any], Transfer]:
        """A signed quote, and what the buyer's wallet makes of it."""
        answer = await self.ask(hasty=hasty, buyer=buyer.address, **fields)
        assert answer.status_code == httpx.codes.OK, answer.text
        quote = answer.json()
        (message,) = quote["transaction"]["messages"]
        body = Cell.one_from_boc(base64.b64decode(message["payload"]))
        return quote, Transfer(destination=self.contracts.factory, value=int(message["amount"]), body=body)

    def deliver(self, orders: Sequence[tuple[Wallet, Transfer]]) -> None:
        """Have all wallets send theirs in this order; a wallet sends one order a block."""
        waiting = list(orders)
        while waiting:
            ordered: set[str] = set()
            for order in list(waiting):
                wallet, transfer = order
                if wallet.address not in ordered:
                    ordered.add(wallet.address)
                    wallet.send(self.chain, transfer)
                    waiting.remove(order)
            self.chain.mine()
        self.chain.mine_until_idle(500)

    def vault_money(self) -> int:
        """Capital and unearned premiums of all tranches in nanoTON, as the vault says; rent does not move them."""
        (rows,) = self.chain.get_method(self.contracts.vault, "get_all_tranches").stack
        return sum(capital + unearned for _, capital, _, unearned, *_ in rows)

    async def find_differences(self) -> list[str]:
        """In what the ledger is not what the chain says."""
        verifier = VaultVerifier(self.client, self.pool, self.contracts.vault, LAYOUT, lambda _line: None, wait_s=10.0)
        found = await verifier.verify()
        return [text for vault in found.vaults for text in vault.differences]


async def _is_ready(http: httpx.AsyncClient) -> bool:
    with suppress(httpx.TransportError):
        return (await http.get("/health/ready")).status_code == httpx.codes.OK
    return False


@asynccontextmanager
async def a_quote_world(dsn: str, *, ton: int, buyers: int = 0) -> AsyncIterator[QuoteWorld]:
    """With so much capital in each tranche, everything posted, a price of 3 dollars, and the API up."""
    with closing(ChainStore()) as store:
        chain = LocalChain(TonpyEngine(), store)
        contracts = deploy_contracts(chain, KEY)
        pool = await open_pool(dsn, max_size=4)
        async with running(chain) as url, TonCenterClient(url, retry=QUICK) as client:
            world = QuoteWorld(chain, contracts, client, pool, dsn)
            world.fill(ton)
            world.buyers = [world.wallet(f"buyer {number}", 3_000) for number in range(buyers)]
            stop = asyncio.Event()
            jobs = (
                _follow(world, stop),
                _serve(dsn, world.port, DEFAULT_PARAMS, stop),
                _serve(dsn, world.hasty_port, HASTY, stop),
                _look_again(world, stop),
            )
            tasks = [asyncio.create_task(job) for job in jobs]
            try:
                await world.ready()
                await world.settle()
                yield world
            finally:
                stop.set()
                await asyncio.wait_for(asyncio.gather(*tasks), 30)
                await world.http.aclose()
                await world.hasty.aclose()
                await world._watch._pool.close()
                await pool.close()


async def _look_again(world: QuoteWorld, stop: asyncio.Event) -> None:
    """A price and a reading are good for a minute; the test may take longer."""
    await every(5.0, world.look, stop=stop, name="looks")


async def _follow(world: QuoteWorld, stop: asyncio.Event) -> None:
    """The daemon at work."""
    writer = LedgerWriter(world.dsn, DEFAULT_PARAMS)
    writer.start()
    contracts = read_contracts(world.contracts.vault, world.contracts.factory, "testnet")
    daemon = IntegrationDaemon(
        world.client, writer, DatabaseRecords(world.pool), contracts, LAYOUT, poll_interval_s=0.02
    )
    try:
        await daemon.run(stop)
    finally:
        await writer.close()


async def _serve(dsn: str, port: int, params: Params, stop: asyncio.Event) -> None:
    """An API process' worth of work."""
    settings = ApiSettings(host="127.0.0.1", port=port)
    await serve_api_until(dsn, settings, params, stop, shop=ShopWiring(dsn, keys=(SecretKey(KEY),)))
