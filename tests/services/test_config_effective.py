"""A changed parameter is in the next figures of the writer and of the API; figures given before keep their version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from db.chain_story import TON, batch, cursor_at, deposit, register, transaction
from ports import free_port
from services.config_story import RATE, ROOT, Swaps, add_version, change, open_store, until
from tonsurance.api.server import serve_api_until
from tonsurance.api.settings import ApiSettings
from tonsurance.chain.contracts import FactoryConfig, VaultState
from tonsurance.core.events import CoverageChanged
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.db.pool import connect
from tonsurance.services.chain_params import ChainDifference, compare_with_chain, follow_chain
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.replay import replay_ledger

NEVER_S = 3_600.0
MEZZ = 3


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        yield opened


async def history(dsn: str) -> list[tuple[object, ...]]:
    conn = await connect(dsn)
    rows = await conn.fetch(
        "SELECT logical_time, params_version, current_apy FROM tranche_utilization_history"
        " WHERE tranche_id = 'SURE-MEZZ' ORDER BY logical_time"
    )
    await conn.close()
    return [tuple(row) for row in rows]


async def test_the_next_event_has_the_changed_apy_and_earlier_ones_keep_theirs(
    database: str, store: ConfigStore
) -> None:
    await register(database)
    loader = ConfigLoader(database, poll_s=NEVER_S)
    await loader.start()
    writer = LedgerWriter(database, lambda: loader.params)
    swaps = Swaps(loader)
    half_used = CoverageChanged(1, (0, 0, 50 * TON, 0, 0, 0))
    await writer.submit(batch(transaction(10, deposit(MEZZ, 100 * TON))))
    await writer.submit(batch(transaction(20, half_used), after=cursor_at(10)))
    await change(store, 19.0)
    await swaps.until(2)
    await writer.submit(batch(transaction(30, deposit(MEZZ, 0)), after=cursor_at(20)))
    await writer.close()
    await loader.close()
    assert await history(database) == [(10, 1, 9.0), (20, 1, 12.0), (30, 2, 14.0)]


async def test_a_replay_computes_each_event_with_the_parameters_it_was_posted_with(
    database: str, store: ConfigStore
) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(10, deposit(MEZZ, 100 * TON))))
    await writer.submit(batch(transaction(20, CoverageChanged(1, (0, 0, 50 * TON, 0, 0, 0))), after=cursor_at(10)))
    await writer.close()
    changed = (await change(store, 19.0)).params
    writer = LedgerWriter(database, changed)
    await writer.submit(batch(transaction(30, deposit(MEZZ, TON)), after=cursor_at(20)))
    await writer.close()
    assert [version for _, version, _ in await history(database)] == [1, 1, changed.version]
    found = await replay_ledger(database, DEFAULT_PARAMS, print)
    assert (found.equal, found.events) == (True, 3), found


async def test_the_next_answer_of_the_api_has_the_changed_apy(database: str, store: ConfigStore) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(10, *(deposit(number, 100 * TON) for number in range(1, 7)))))
    await writer.submit(batch(transaction(20, CoverageChanged(1, (0, 0, 50 * TON, 0, 0, 0))), after=cursor_at(10)))
    await writer.close()
    settings, stop = ApiSettings(port=free_port(), poll_interval_s=NEVER_S), asyncio.Event()
    loader = ConfigLoader(database, poll_s=NEVER_S)
    swaps = Swaps(loader)
    serving = asyncio.create_task(serve_api_until(database, settings, loader, stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=60) as http:
        before = await read_apy(http)
        assert (before["params_version"], before["current_apy"]) == (1, 12.0)
        await change(store, 19.0)
        await swaps.until(2)
        after = await read_apy(http)
        assert (after["params_version"], after["current_apy"]) == (2, 14.0)
        assert after["ledger_version"] == before["ledger_version"]
        await add_version(database, 3, RATE, 7.5)
        await until(lambda: loader.degraded is not None)
        health = (await http.get("/health")).json()
        [part] = [part for part in health["components"] if part["name"] == "configuration"]
        assert part["status"] == "degraded"
        assert "pricing/base_rate_USDC" in part["reason"]
        assert (await read_apy(http))["current_apy"] == 14.0
    stop.set()
    await serving


async def read_apy(http: httpx.AsyncClient) -> dict[str, object]:
    """One tranche, as soon as the process answers with figures."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await http.get("/api/v1/utilization/SURE-MEZZ")
                if answer.status_code == 200:
                    found: dict[str, object] = answer.json()
                    return found
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.01)


VAULT = VaultState(
    paused=False,
    total_capital=0,
    total_coverage=0,
    total_unearned=0,
    policy_count=0,
    holder_count=0,
    withdraw_delay=604_800,
    withdraw_window=172_800,
    frozen_until=0,
    claims_due=0,
)
FACTORY = FactoryConfig(
    paused=False,
    network=0,
    vault=None,
    admin=None,
    claims=None,
    key=1,
    previous_key=0,
    previous_until=0,
    waiting_period=86_400,
    claim_grace=604_800,
    key_overlap=0,
    policy_count=0,
    max_policies=0,
    quote_count=0,
    max_quotes=0,
)


@pytest.mark.parametrize("key", ["withdraw_delay_s", "withdraw_window_s", "waiting_period_s", "claim_grace_s"])
def test_whatever_a_contract_enforces_otherwise_is_named_with_both_values(key: str) -> None:
    assert compare_with_chain(DEFAULT_PARAMS, VAULT, FACTORY) == ()
    params = build_params({("risk", key): 7}, 2)
    held = DEFAULT_PARAMS.value("risk", key)
    assert compare_with_chain(params, VAULT, FACTORY) == (ChainDifference("risk", key, 7, held),)  # type: ignore[arg-type]
    assert compare_with_chain(params, None, None) == ()
    assert str(ChainDifference("risk", key, 7, 8)) == f"risk/{key} is 7; the contract enforces 8"


async def test_what_the_chain_enforces_is_written_down_only_when_somebody_decides_so(store: ConfigStore) -> None:
    vault = msgspec.structs.replace(VAULT, withdraw_delay=3_600)
    found = compare_with_chain(await store.read(), vault, FACTORY)
    assert [str(difference) for difference in found] == ["risk/withdraw_delay_s is 604800; the contract enforces 3600"]
    followed = await follow_chain(store, found, actor=ROOT, reason="the local chain's terms")
    assert compare_with_chain(followed.params, vault, FACTORY) == ()
    assert (await store.verify()).ok
