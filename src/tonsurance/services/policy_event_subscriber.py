"""Policy events of one factory into the ledger, as a library: for a program that wants this and no whole daemon.

subscriber = PolicyEventSubscriber(default_subscriber_config("EQ...", "postgresql://..."))
await subscriber.start_subscription(stop)
"""

from __future__ import annotations

import asyncio

import msgspec

from tonsurance import log
from tonsurance.chain.addresses import parse_address
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import load_layout
from tonsurance.core.events import FACTORY_KIND
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.db.pool import acquire
from tonsurance.db.products import EventCounts, select_event_counts
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.integration_daemon import (
    DEFAULT_POLL_INTERVAL_S,
    FollowedContract,
    IntegrationDaemon,
    check_contracts,
)
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.loop import every
from tonsurance.services.product_views import keep_product_views
from tonsurance.services.sync_records import DatabaseRecords
from tonsurance.services.task_supervision import Task

STATISTICS_EVERY_S = 60.0
MAINNET = "https://toncenter.com"

logger = log.get("policy_event_subscriber")


class SubscriberConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, from where, and into which ledger. `network` is the base URL of a TonCenter API."""

    factory_address: str
    database_url: str
    network: str = MAINNET
    api_key: str | None = None
    vault_id: str = "main"
    poll_interval_s: float = DEFAULT_POLL_INTERVAL_S
    params: Params = DEFAULT_PARAMS

    def __repr__(self) -> str:
        return f"SubscriberConfig({self.factory_address}, {self.network})"  # neither password nor key


def default_subscriber_config(factory_address: str, database_url: str) -> SubscriberConfig:
    """A factory on mainnet, looked at every 10 seconds. Raises InvalidAddress."""
    return SubscriberConfig(factory_address=parse_address(factory_address), database_url=database_url)


class PolicyEventSubscriber:
    """Follows one factory: audit log, policies, payouts, expiry, exposure and its views. The vault's events are not
    followed here, so tranches do not move by it. A ledger has one writer: beside a daemon it waits for its turn.
    """

    def __init__(self, config: SubscriberConfig, *, statistics_every_s: float = STATISTICS_EVERY_S) -> None:
        self.config = config
        self._statistics_every_s = statistics_every_s
        self._pool = LazyPool(
            config.database_url, max_size=2, application_name="tonsurance subscriber", role=ROLE_OF["daemon"]
        )

    async def start_subscription(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set; crashes and outages are got over.

        Raises NotOurContract, ChainUnavailable or DatabaseUnavailable when it cannot begin.
        """
        config = self.config
        contract = FollowedContract(
            address=parse_address(config.factory_address), kind=FACTORY_KIND, vault_id=config.vault_id
        )
        layout, writer = load_layout(), LedgerWriter(config.database_url, config.params)
        try:
            async with TonCenterClient(config.network, config.api_key) as client:
                records = DatabaseRecords(await self._pool.open())
                daemon = IntegrationDaemon(
                    client,
                    writer,
                    records,
                    [contract],
                    layout,
                    poll_interval_s=config.poll_interval_s,
                    tasks=[Task("statistics", self._tell), Task("product views", self._keep_views)],
                    only_given=True,
                )
                await check_contracts(client, [contract], layout)
                await daemon.follow(stop, take=writer.take)
        finally:
            await writer.close()
            await self._pool.close()

    async def statistics(self) -> EventCounts:
        """What was posted so far. Raises DatabaseUnavailable."""
        async with acquire(await self._pool.open()) as conn:
            return await select_event_counts(conn)

    async def _tell(self, stop: asyncio.Event) -> None:
        async def say() -> None:
            logger.info(describe_statistics(await self.statistics()))

        await every(self._statistics_every_s, say, stop=stop, name="statistics")

    async def _keep_views(self, stop: asyncio.Event) -> None:
        await keep_product_views(self.config.database_url, stop)


def describe_statistics(counts: EventCounts) -> str:
    """The documented line."""
    age = counts.last_event_age_s
    last = "never" if age is None else f"{age:.0f}s ago"
    return (
        f"📊 Event Stats: total={counts.total}, policies={counts.policies}, payouts={counts.payouts},"
        f" errors={counts.errors}, last_event={last}"
    )
