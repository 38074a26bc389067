"""What each factory and its vault say of themselves: read from the chain by the daemon, kept in the database, and read
from there by processes that do not ask the chain.

A reading is never made up: when the chain cannot be read the last one stays, and its age tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tonsurance import log
from tonsurance.bus.notify import Listener
from tonsurance.chain.addresses import parse_address
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import FactoryConfig, FactoryReader, VaultReader, VaultState, read_struct
from tonsurance.chain.ton_connect import MAINNET_ID
from tonsurance.core.errors import ChainDataError, ChainUnavailable, NotReady, UnknownVault
from tonsurance.core.events import FACTORY_KIND
from tonsurance.db.factory_state import (
    FactoryState,
    PolicyEnd,
    select_factory_states,
    select_followed_factories,
    select_last_event,
    select_news,
    select_policy_end,
    upsert_factory_state,
)
from tonsurance.db.pool import acquire
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

READ_EVERY_S = 10.0
MAX_BACKOFF_S = 30.0
STALE_AFTER_S = 60.0
"""A reading that is older says what was, not what is."""
TERM_EVENTS = ("QuoteKeySet", "Paused", "FactorySet", "Frozen", "ClaimDeferred", "ClaimCancelled", "PayoutExecuted")
"""Events after which the contracts are read at once."""
CLOCKS_AGREE_S = 30.0
"""The newest block of a public network is always some seconds old."""
_KEY_BYTES = 32
_NEVER = 3600.0
logger = log.get("factory_state")


class _Roles(msgspec.Struct, frozen=True, kw_only=True):
    admin: str | None
    factory: str | None


class FactoryStates:
    """The readings, from the database alone."""

    def __init__(self, pool: LazyPool) -> None:
        self._pool = pool

    async def read_all(self) -> tuple[FactoryState, ...]:
        """The last reading of every followed factory; empty before the first. Raises DatabaseUnavailable."""
        async with acquire(await self._pool.open()) as conn:
            return await select_factory_states(conn)

    async def read(self, vault_id: str) -> FactoryState:
        """The last reading of this vault's factory, however old it is: see `is_stale`.

        Raises UnknownVault when the vault follows no contract, NotReady when its contracts were never read yet,
        DatabaseUnavailable.
        """
        async with acquire(await self._pool.open()) as conn:
            states = await select_factory_states(conn)
            followed = await select_followed_factories(conn, FACTORY_KIND)
        found = [state for state in states if state.vault_id == vault_id]
        if found:
            return next((state for state in found if state.vault_factory == state.factory_address), found[0])
        if not followed or vault_id in {known for _, known in followed}:
            raise NotReady(
                f"The contracts of vault {vault_id[:64]} were not read yet.",
                advice="The daemon reads them within seconds of its start.",
            )
        known = ", ".join(sorted({known for _, known in followed}))
        raise UnknownVault(f"No vault {vault_id[:64]} has contracts that are followed. There are: {known}.")

    async def read_policy_end(self, factory: str, policy_id: int) -> PolicyEnd | None:
        """When a policy's cover ends; None when the ledger knows no such policy. Raises DatabaseUnavailable."""
        async with acquire(await self._pool.open()) as conn:
            return await select_policy_end(conn, factory, policy_id)


def is_stale(state: FactoryState) -> bool:
    """Whether the contracts were not read for too long to say what they do now."""
    return state.age_s > STALE_AFTER_S


def chain_time(state: FactoryState) -> float:
    """What the chain's clock shows about now, in unix seconds, by the database's clock."""
    return state.read_at + state.age_s + state.chain_time_offset_s


def find_purchase_blocks(state: FactoryState) -> tuple[str, ...]:
    """Why the contracts would refuse every purchase now; empty when they would not."""
    blocks = {
        "the factory is paused": state.paused,
        "the vault is paused": state.vault_paused,
        "the vault holds back a claim": state.claims_due > 0,
        "the vault takes policies from another factory": state.vault_factory != state.factory_address,
        "the factory has as many policies as it can hold": state.policy_count >= state.max_policies,
    }
    return tuple(reason for reason, holds in blocks.items() if holds)


def find_deposit_blocks(state: FactoryState) -> tuple[str, ...]:
    """Why the vault would refuse every deposit now."""
    blocks = {"the vault is paused": state.vault_paused, "the vault holds back a claim": state.claims_due > 0}
    return tuple(reason for reason, holds in blocks.items() if holds)


def find_withdrawal_blocks(state: FactoryState, chain_now: float | None = None) -> tuple[str, ...]:
    """Why the vault would pay out nothing now. `chain_now`: the chain's time, where it is known better than by this
    reading alone."""
    frozen = (chain_time(state) if chain_now is None else chain_now) < state.frozen_until
    blocks = {"the vault is frozen": frozen, "the vault holds back a claim": state.claims_due > 0}
    return tuple(reason for reason, holds in blocks.items() if holds)


class FactoryWatch:
    """Reads the followed factories and keeps what they say. `clock` tells unix seconds."""

    def __init__(self, client: TonCenterClient, pool: LazyPool, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._pool = pool
        self._clock = clock
        self._seen: int | None = None

    async def read_all(self) -> None:
        """Read every followed factory and its vault at one block. One that cannot be read does not keep the others.

        Raises ChainUnavailable, DatabaseUnavailable, and ChainDataError when none could be read; the rows stay then.
        """
        async with acquire(await self._pool.open()) as conn:
            followed = await select_followed_factories(conn, FACTORY_KIND)
        if not followed:
            return
        seqno = (await self._client.get_masterchain_info()).last.seqno
        failures = [await self._read_one(factory, vault_id, seqno) for factory, vault_id in followed]
        errors = [error for error in failures if error is not None]
        if len(errors) == len(followed):
            raise errors[0]

    async def _read_one(self, factory: str, vault_id: str, seqno: int) -> ChainDataError | ChainUnavailable | None:
        try:
            state = await read_factory(self._client, factory, vault_id, seqno, self._clock)
        except (ChainDataError, ChainUnavailable) as error:
            logger.warning("factory_not_read", factory=factory, code=error.code, error=error.message)
            return error
        async with acquire(await self._pool.open()) as conn:
            await upsert_factory_state(conn, state)
        return None

    async def has_news(self) -> bool:
        """Whether events since the last call say that the contracts' terms changed. Raises DatabaseUnavailable."""
        async with acquire(await self._pool.open()) as conn:
            if self._seen is None:
                self._seen = await select_last_event(conn)
                return False
            self._seen, concerns = await select_news(conn, self._seen, TERM_EVENTS)
        return concerns


async def read_factory(
    client: TonCenterClient, factory: str, vault_id: str, seqno: int, clock: Callable[[], float] = time.time
) -> FactoryState:
    """One factory and its vault at a masterchain block. Raises ChainUnavailable, ChainDataError."""
    account = await client.get_address_information(factory, seqno)
    ahead_s = 0.0 if account.time is None else account.time - clock()
    config = await FactoryReader(client, factory).config(seqno)
    if config.vault is None:
        raise ChainDataError(f"The factory {factory} names no vault.")
    vault = parse_address(config.vault)
    state = await VaultReader(client, vault).vault_state(seqno)
    answer = await client.run_get_method(vault, "get_vault_roles", seqno=seqno)
    return FactoryState(
        factory_address=factory,
        vault_id=vault_id,
        vault_address=vault,
        vault_factory=read_struct(_Roles, answer.stack, "get_vault_roles").factory,
        chain_time_offset_s=read_offset(config.network, ahead_s),
        seqno=seqno,
        **_from_factory(config),
        **_from_vault(state),
    )


def read_offset(network_id: int, ahead_s: float) -> float:
    """By how much deadlines must follow the chain's clock instead of ours, in seconds.

    Mainnet's time is ours: a server that tells another one must not get quotes signed that are good for years.
    """
    return 0.0 if network_id == MAINNET_ID or abs(ahead_s) <= CLOCKS_AGREE_S else ahead_s


def _from_factory(config: FactoryConfig) -> dict[str, Any]:
    return {
        "network_id": config.network,
        "public_key": config.key.to_bytes(_KEY_BYTES, "big"),
        "previous_key": config.previous_key.to_bytes(_KEY_BYTES, "big") if config.previous_key else None,
        "previous_until": config.previous_until,
        "paused": config.paused,
        "waiting_period_s": config.waiting_period,
        "claim_grace_s": config.claim_grace,
        "key_overlap_s": config.key_overlap,
        "policy_count": config.policy_count,
        "max_policies": config.max_policies,
        "quote_count": config.quote_count,
        "max_quotes": config.max_quotes,
    }


def _from_vault(state: VaultState) -> dict[str, Any]:
    return {
        "vault_paused": state.paused,
        "frozen_until": state.frozen_until,
        "claims_due": state.claims_due,
        "withdraw_delay_s": state.withdraw_delay,
        "withdraw_window_s": state.withdraw_window,
    }


async def keep_factory_states(
    dsn: str, client: TonCenterClient, stop: asyncio.Event, *, read_every_s: float = READ_EVERY_S
) -> None:
    """Read the followed factories again and again, and at once after an event that changes their terms, until `stop`
    is set, over a connection of its own."""
    role = ROLE_OF["daemon"]
    pool = LazyPool(dsn, max_size=1, application_name="tonsurance factory state", role=role)
    commit, wake = asyncio.Event(), asyncio.Event()
    commits = Listener(dsn, lambda _version: commit.set(), role=role)
    watch = FactoryWatch(client, pool)

    async def look_for_news() -> None:
        if await watch.has_news():
            wake.set()

    name = "factory state"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(commits.run(stop))
            group.create_task(every(_NEVER, look_for_news, stop=stop, wake=commit, name="factory news"))
            group.create_task(
                every(read_every_s, watch.read_all, stop=stop, wake=wake, name=name, max_backoff_s=MAX_BACKOFF_S)
            )
    finally:
        await pool.close()
