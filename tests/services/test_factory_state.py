"""What the API knows of the contracts is what they say, and its age tells when they were not read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from chain.conftest import QUICK
from services.factory_reading import follow, reading
from services.signing import FACTORY, SEED, key_of
from services.street import KEY, following
from tonsurance.chain import messages
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.errors import (
    ChainDataError,
    ChainUnavailable,
    DatabaseDenied,
    DatabaseUnavailable,
    NotReady,
    UnknownVault,
)
from tonsurance.db.factory_state import FactoryState, upsert_factory_state
from tonsurance.db.pool import acquire, open_pool
from tonsurance.services.factory_state import (
    STALE_AFTER_S,
    FactoryStates,
    FactoryWatch,
    find_deposit_blocks,
    find_purchase_blocks,
    find_withdrawal_blocks,
    is_stale,
    keep_factory_states,
    read_offset,
)
from tonsurance.services.lazy_pool import LazyPool

NEW_KEY = SigningKey(b"\x09" * 32)


def state(**changes: Any) -> FactoryState:
    """Contracts that refuse nothing."""
    fair = FactoryState(
        factory_address=FACTORY, vault_id="main", vault_address=f"0:{'a0' * 32}", network_id=-3,
        public_key=key_of(SEED), previous_key=None, previous_until=0, paused=False, waiting_period_s=60,
        claim_grace_s=600, key_overlap_s=300, policy_count=1, max_policies=10, quote_count=1, max_quotes=10,
        vault_factory=FACTORY, vault_paused=False, frozen_until=0, claims_due=0, withdraw_delay_s=3_600,
        withdraw_window_s=86_400, seqno=7, read_at=1_000.0, age_s=1.0,
    )  # fmt: skip
    return msgspec.structs.replace(fair, **changes)


async def test_a_reading_is_what_the_contracts_say(database: str) -> None:
    async with reading(database) as parts:
        street = parts.street
        street.fill()
        street.buy(100)
        found = await parts.read()
        config = street.chain.get_method(street.contracts.factory, "get_factory_config").stack
        vault = street.chain.get_method(street.contracts.vault, "get_vault_state").stack
        assert found.factory_address == street.contracts.factory
        assert found.vault_address == street.contracts.vault
        assert found.vault_factory == street.contracts.factory
        assert found.network_id == street.chain.network_id == config[1]
        assert found.public_key == bytes(SigningKey(KEY).verify_key) == config[5].to_bytes(32, "big")
        assert (found.previous_key, found.previous_until) == (None, 0)
        terms = found.waiting_period_s, found.claim_grace_s, found.key_overlap_s, found.policy_count
        assert (*terms, found.max_policies, found.quote_count, found.max_quotes) == tuple(config[8:])
        assert (found.policy_count, found.quote_count) == (1, 1)
        assert (found.paused, found.vault_paused) == (False, False)
        assert [found.withdraw_delay_s, found.withdraw_window_s, found.frozen_until, found.claims_due] == vault[6:]
        assert found.seqno == street.chain.head.seqno
        assert not is_stale(found)
        assert abs(found.chain_time_offset_s - (street.chain.now - time.time())) < 60, (
            "this chain's time is driven by hand"
        )
        assert [one.seqno for one in await parts.states.read_all()] == [found.seqno]
        blocks = find_purchase_blocks(found), find_deposit_blocks(found), find_withdrawal_blocks(found)
        assert blocks == ((), (), ())


async def test_every_change_that_matters_to_a_sale_is_seen(database: str) -> None:
    async with reading(database) as parts:
        street, chain = parts.street, parts.street.chain
        vault, factory = street.contracts.vault, street.contracts.factory
        street.fill()
        policies = [street.buy(250) for _ in range(3)]
        parts.order(factory, messages.set_quote_key(bytes(NEW_KEY.verify_key)))
        found = await parts.read()
        assert found.public_key == bytes(NEW_KEY.verify_key)
        assert found.previous_key == bytes(SigningKey(KEY).verify_key)
        assert chain.now < found.previous_until <= chain.now + found.key_overlap_s
        parts.order(factory, messages.pause())
        parts.order(vault, messages.pause())
        parts.order(vault, messages.freeze(chain.now + 1_000))
        found = await parts.read()
        assert (found.paused, found.vault_paused) == (True, True)
        assert found.frozen_until > chain.now
        parts.order(vault, messages.unpause())
        parts.order(factory, messages.unpause())
        parts.order(vault, messages.freeze(0))
        for policy in policies:
            street.pay_out(policy, 250)
        found = await parts.read()
        assert (found.paused, found.vault_paused, found.frozen_until) == (False, False, 0)
        assert (found.claims_due, found.policy_count) == (1, 1), "more than a tenth of the capital: it is held back"
        assert "the vault holds back a claim" in find_purchase_blocks(found)


@pytest.mark.parametrize(
    ("changes", "purchase", "deposit", "withdrawal"),
    [
        ({}, 0, 0, 0),
        ({"paused": True}, 1, 0, 0),
        ({"vault_paused": True}, 1, 1, 0),
        ({"claims_due": 2}, 1, 1, 1),
        ({"frozen_until": 1_002}, 0, 0, 1),
        ({"frozen_until": 1_001}, 0, 0, 0),
        ({"frozen_until": 1_001, "chain_time_offset_s": -60.0}, 0, 0, 1),
        ({"vault_factory": None}, 1, 0, 0),
        ({"vault_factory": f"0:{'01' * 32}"}, 1, 0, 0),
        ({"policy_count": 10}, 1, 0, 0),
        ({"paused": True, "claims_due": 1, "policy_count": 11}, 3, 1, 1),
    ],
)
def test_what_the_contracts_would_refuse_is_named(
    changes: dict[str, Any], purchase: int, deposit: int, withdrawal: int
) -> None:
    told = state(**changes)
    blocks = find_purchase_blocks(told), find_deposit_blocks(told), find_withdrawal_blocks(told)
    assert tuple(map(len, blocks)) == (purchase, deposit, withdrawal)


@pytest.mark.parametrize(
    ("network_id", "ahead_s", "offset_s"),
    [(-3, 5_000.0, 5_000.0), (-3, -31.0, -31.0), (-3, -20.0, 0.0), (-3, 29.0, 0.0), (-239, 1e8, 0.0)],
)
def test_deadlines_follow_the_chains_clock_only_where_it_may_run_otherwise(
    network_id: int, ahead_s: float, offset_s: float
) -> None:
    assert read_offset(network_id, ahead_s) == offset_s


async def test_an_outage_leaves_the_reading_and_its_age_tells(database: str) -> None:
    async with reading(database) as parts:
        before = await parts.read()
        async with TonCenterClient("http://127.0.0.1:9", retry=QUICK) as nobody:
            with pytest.raises(ChainUnavailable):
                await FactoryWatch(nobody, parts.daemon_pool).read_all()
        after = await parts.states.read("main")
        assert msgspec.structs.replace(after, age_s=before.age_s) == before
        assert after.age_s >= before.age_s
        await parts.execute("UPDATE factory_state SET read_at = read_at - make_interval(secs => $1)", STALE_AFTER_S)
        assert is_stale(await parts.states.read("main"))
        assert not is_stale(await parts.read()), "the first reading after it is fresh again"


async def test_a_reading_of_an_older_block_changes_nothing(database: str) -> None:
    async with reading(database) as parts:
        now = await parts.read()
        late = msgspec.structs.replace(now, seqno=now.seqno - 1, public_key=key_of(SEED), paused=True)
        async with acquire(await parts.daemon_pool.open()) as conn:
            await upsert_factory_state(conn, late)
        kept = await parts.states.read("main")
        assert (kept.seqno, kept.public_key, kept.paused, kept.read_at) == (
            now.seqno, now.public_key, now.paused, now.read_at,
        )  # fmt: skip


async def test_a_factory_that_cannot_be_read_does_not_keep_the_others(database: str) -> None:
    async with reading(database) as parts:
        await follow(database, None, FACTORY, "other")
        assert (await parts.read()).vault_id == "main"
        with pytest.raises(NotReady, match="other were not read"):
            await parts.states.read("other")


async def test_when_none_can_be_read_the_task_hears_of_it(database: str) -> None:
    async with reading(database, follows=False) as parts:
        await parts.watch.read_all()
        await follow(database, None, FACTORY)
        with pytest.raises(ChainDataError):
            await parts.watch.read_all()
        with pytest.raises(NotReady):
            await parts.states.read("main")


async def test_a_vault_that_is_not_followed_is_unknown_and_one_that_was_never_read_is_not_ready(database: str) -> None:
    async with reading(database, follows=False) as parts:
        with pytest.raises(NotReady):
            await parts.states.read("main")
        assert await parts.states.read_all() == ()
        await follow(database, parts.street.contracts.vault, parts.street.contracts.factory)
        with pytest.raises(NotReady):
            await parts.states.read("main")
        await parts.watch.read_all()
        with pytest.raises(UnknownVault, match=r"There are: main\."):
            await parts.states.read("x" * 300)
        await parts.execute("UPDATE followed_contracts SET wanted = 'removed'")
        assert await parts.states.read_all() == ()


async def test_of_two_factories_of_a_vault_the_one_it_takes_policies_from_counts(database: str) -> None:
    async with reading(database) as parts:
        now = await parts.read()
        old = f"0:{'00' * 32}"
        await follow(database, None, old)
        async with acquire(await parts.daemon_pool.open()) as conn:
            await upsert_factory_state(conn, msgspec.structs.replace(now, factory_address=old))
        assert [found.factory_address for found in await parts.states.read_all()] == [old, now.factory_address]
        assert (await parts.states.read("main")).factory_address == now.factory_address


async def test_a_new_key_is_known_soon_after_its_event_without_waiting_for_the_next_turn(database: str) -> None:
    async with reading(database, follows=False) as parts:
        stop, pool = asyncio.Event(), await open_pool(database)
        async with following(parts.client, parts.street, database, pool):
            task = asyncio.create_task(keep_factory_states(database, parts.client, stop, read_every_s=3_600.0))
            try:
                async with asyncio.timeout(60):
                    while not await parts.states.read_all():
                        await asyncio.sleep(0.01)
                    parts.order(parts.street.contracts.factory, messages.set_quote_key(bytes(NEW_KEY.verify_key)))
                    while (await parts.states.read("main")).public_key != bytes(NEW_KEY.verify_key):
                        await asyncio.sleep(0.01)
            finally:
                stop.set()
                await task
                await pool.close()


async def test_without_a_database_nothing_is_made_up() -> None:
    pool = LazyPool("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable):
        await FactoryStates(pool).read_all()
    with pytest.raises(DatabaseUnavailable):
        await FactoryStates(pool).read("main")


async def test_the_api_reads_and_does_not_write(database: str) -> None:
    async with reading(database) as parts:
        now = await parts.read()
        with pytest.raises(DatabaseDenied):
            async with acquire(await parts.api_pool.open()) as conn:
                await upsert_factory_state(conn, now)
