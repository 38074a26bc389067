"""The documents' database objects: exposure that is always a recount, statistics, prices on events, cursors by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import pytest

from db.chain_story import (
    FACTORY,
    HOLDER,
    START_TIME,
    TON,
    VAULT,
    batch,
    cursor_at,
    expired,
    policy_created,
    transaction,
)
from tonsurance.core.events import FACTORY_KIND, ClaimCancelled, PayoutApproved, PayoutExecuted, PolicyCreated
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS
from tonsurance.db.pool import Connection, connect
from tonsurance.services.ledger_writer import LedgerWriter

from db.chain_story import register  # isort: skip

RECOUNT = """
SELECT vault_id, coverage_type, chain_id, stablecoin_id, sum(coverage_amount_nanoton)::bigint AS total_coverage,
    count(*)::int AS policy_count, sum(premium_nanoton)::bigint AS total_premium
FROM policies WHERE status IN ('active', 'approved')
GROUP BY vault_id, coverage_type, chain_id, stablecoin_id ORDER BY 1, 2, 3, 4
"""
KEPT = """
SELECT vault_id, coverage_type, chain_id, stablecoin_id, total_coverage, policy_count, total_premium
FROM product_exposure WHERE policy_count > 0 OR total_coverage > 0 OR total_premium > 0 ORDER BY 1, 2, 3, 4
"""
ADD_POLICY = """
INSERT INTO policies (contract_address, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id,
    buyer_address, beneficiary_address, coverage_amount_nanoton, premium_nanoton, trigger_bps, floor_bps, start_time,
    expiry_time, status, created_lt, created_message_index, created_at, ledger_version)
SELECT $1, id, 'main', id, type, chain, coin, 'b', 'b', cover, premium, 9800, 9000, now(), now() + interval '1 day',
    'active', id, 0, now(), 1
FROM unnest($2::bigint[], $3::smallint[], $4::smallint[], $5::smallint[], $6::bigint[], $7::bigint[])
    AS new (id, type, chain, coin, cover, premium)
"""


@pytest.fixture
async def conn(each_database: str) -> AsyncIterator[Connection]:
    await register(each_database)
    conn = await connect(each_database)
    yield conn
    await conn.close()


@pytest.fixture
async def writer(each_database: str, conn: Connection) -> AsyncIterator[LedgerWriter]:
    writer = LedgerWriter(each_database, DEFAULT_PARAMS)
    yield writer
    await writer.close()


async def add_policies(conn: Connection, dice: random.Random, ids: list[int]) -> None:
    columns: list[list[int]] = [
        ids,
        [dice.randrange(2) for _ in ids],
        [dice.randrange(2) for _ in ids],
        [dice.randrange(3) for _ in ids],
        [dice.randrange(1, 10**12) for _ in ids],
        [dice.randrange(0, 10**9) for _ in ids],
    ]
    await conn.execute(ADD_POLICY, FACTORY, *columns)


async def change_somehow(conn: Connection, dice: random.Random, ids: list[int]) -> None:
    """One statement that touches several policies in one of all the ways there are."""
    some = dice.sample(ids, min(len(ids), dice.randrange(1, 6)))
    ended = "closed_lt = 1, closed_message_index = 0, closed_at = now()"
    reopened = "closed_lt = NULL, closed_message_index = NULL, closed_at = NULL"
    statement = dice.choice(
        (
            f"UPDATE policies SET status = 'expired', approved_nanoton = NULL, {ended}",
            f"UPDATE policies SET status = 'claimed', payout_nanoton = coverage_amount_nanoton, {ended}",
            f"UPDATE policies SET status = 'active', approved_nanoton = NULL, {reopened}",
            f"UPDATE policies SET status = 'approved', approved_nanoton = 1, {reopened}",
            "UPDATE policies SET coverage_amount_nanoton = coverage_amount_nanoton + 7",
            "UPDATE policies SET chain_id = 1 - chain_id, stablecoin_id = coverage_type",
            "DELETE FROM policies",
        )
    )
    await conn.execute(f"{statement} WHERE policy_id = ANY($1::bigint[])", some)


async def exposure(conn: Connection) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    return [tuple(row) for row in await conn.fetch(KEPT)], [tuple(row) for row in await conn.fetch(RECOUNT)]


@pytest.mark.parametrize("seed", range(3))
async def test_exposure_is_always_what_a_full_recount_gives(conn: Connection, seed: int) -> None:
    dice, ids = random.Random(seed), []
    for step in range(60):
        if step % 5 == 0:
            new = list(range(len(ids), len(ids) + dice.randrange(1, 9)))
            await add_policies(conn, dice, new)
            ids += new
        else:
            await change_somehow(conn, dice, ids)
        kept, recounted = await exposure(conn)
        assert kept == recounted, step
    assert kept, "the story ended with nothing to compare"
    assert await conn.fetchval("SELECT update_product_exposure_cache()") == 0
    await conn.execute("DELETE FROM policies")
    rows = await conn.fetch("SELECT total_coverage, policy_count, total_premium FROM product_exposure")
    assert rows, "a product that went back to zero keeps its row"
    assert {tuple(row) for row in rows} == {(0, 0, 0)}


async def test_truncating_policies_leaves_no_exposure(conn: Connection) -> None:
    await add_policies(conn, random.Random(1), [1, 2, 3])
    await conn.execute("TRUNCATE policies")
    assert await exposure(conn) == ([], [])


async def test_a_wrong_exposure_is_counted_anew_and_said(conn: Connection) -> None:
    await add_policies(conn, random.Random(1), [1, 2, 3])
    await conn.execute("UPDATE product_exposure SET total_coverage = total_coverage + 1")
    wrong = await conn.fetchval("SELECT count(*) FROM product_exposure")
    assert await conn.fetchval("SELECT update_product_exposure_cache()") == wrong
    kept, recounted = await exposure(conn)
    assert kept == recounted


async def test_two_writers_of_one_product_lose_nothing(conn: Connection, each_database: str) -> None:
    dice = random.Random(1)
    others = [await connect(each_database) for _ in range(4)]
    await asyncio.gather(
        *(
            add_policies(other, dice, list(range(100 * place + 10 * turn, 100 * place + 10 * turn + 10)))
            for place, other in enumerate(others)
            for turn in [0]
        )
    )
    for other in others:
        await other.close()
    kept, recounted = await exposure(conn)
    assert kept == recounted
    assert sum(row[5] for row in kept) == 40


def at_product(policy_id: int, product: tuple[int, int, int], cover: int, premium: int = TON) -> PolicyCreated:
    coverage_type, chain_id, stablecoin_id = product
    return msgspec.structs.replace(
        policy_created(policy_id, cover),
        coverage_type=coverage_type,
        chain_id=chain_id,
        stablecoin_id=stablecoin_id,
        premium=premium,
    )


async def test_the_documents_queries_answer_with_a_real_story(conn: Connection, writer: LedgerWriter) -> None:
    usdc, bridge = (0, 0, 0), (3, 8, 1)
    await writer.submit(
        batch(
            transaction(10, at_product(1, usdc, 100 * TON), at_product(2, usdc, 50 * TON), contract=FACTORY),
            transaction(20, at_product(3, bridge, 7 * TON), contract=FACTORY),
            transaction(30, PayoutApproved(1, 60 * TON), contract=FACTORY),
            transaction(40, PayoutExecuted(1, HOLDER, 59 * TON), expired(3), contract=FACTORY),
            contract=FACTORY,
        )
    )
    [row] = await conn.fetch(
        "SELECT total_coverage, policy_count FROM product_exposure"
        " WHERE coverage_type = 0 AND chain_id = 0 AND stablecoin_id = 0"
    )
    assert tuple(row) == (50 * TON, 1)
    ordered = await conn.fetch("SELECT * FROM product_exposure ORDER BY total_coverage DESC")
    assert [row["total_coverage"] for row in ordered] == [50 * TON, 0]
    [live] = await conn.fetch("SELECT * FROM v_product_exposure_realtime")
    assert (live["type_name"], live["chain_name"], live["coin_symbol"]) == ("depeg", "Ethereum", "USDC")
    assert (live["policy_count"], live["total_coverage"], live["avg_coverage"]) == (1, 50 * TON, 50 * TON)
    recent = await conn.fetch("SELECT * FROM v_recent_blockchain_events LIMIT 50")
    assert [row["event_type"] for row in recent][:2] == ["PolicyExpired", "PayoutExecuted"]
    assert recent[1]["buyer_address"] == HOLDER
    assert recent[1]["coverage_amount"] == 100 * TON
    assert await conn.fetchval("SELECT count(*) FROM mv_event_stats_by_product") == 0, "not refreshed yet"
    await conn.execute("SELECT refresh_event_stats()")
    [stats] = await conn.fetch(
        "SELECT * FROM mv_event_stats_by_product WHERE coverage_type = 0 AND chain_id = 0 AND stablecoin_id = 0"
    )
    assert (stats["policies_created"], stats["payouts_executed"]) == (2, 1)
    assert (stats["total_coverage"], stats["total_premiums"]) == (150 * TON, 2 * TON)
    assert stats["total_payouts"] == 59 * TON
    top = await conn.fetch("SELECT * FROM mv_event_stats_by_product ORDER BY total_coverage DESC LIMIT 10")
    assert [row["coverage_type_name"] for row in top] == ["depeg", "bridge"]
    assert await conn.fetch("SELECT * FROM blockchain_sync_state")


async def test_policies_of_two_factories_with_one_id_are_not_mixed_up(conn: Connection, writer: LedgerWriter) -> None:
    other = "0:" + "dd" * 32
    await conn.execute("SELECT add_contract($1, 'PolicyFactory', 'main')", other)
    for factory, cover in ((FACTORY, 100 * TON), (other, 50 * TON)):
        created = transaction(10, at_product(1, (0, 0, 0), cover), contract=factory)
        events = tuple(msgspec.structs.replace(event, contract_kind=FACTORY_KIND) for event in created.events)
        await writer.submit(batch(msgspec.structs.replace(created, events=events), contract=factory))
    await writer.submit(batch(transaction(11, ClaimCancelled(1))))
    rows = await conn.fetch("SELECT contract_address, event_type, coverage_amount FROM v_recent_blockchain_events")
    assert {tuple(row) for row in rows} == {
        (FACTORY, "PolicyCreated", 100 * TON),
        (other, "PolicyCreated", 50 * TON),
        (VAULT, "ClaimCancelled", None),
    }
    assert len(rows) == 3


async def test_views_are_refreshed_while_somebody_reads_them(conn: Connection, each_database: str) -> None:
    await conn.execute("SELECT refresh_event_stats(), refresh_hedge_requirements()")
    reader = await connect(each_database)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM mv_event_stats_by_product, mv_hedge_requirements")
        async with asyncio.timeout(60):  # a plain refresh would wait for the reader
            await conn.execute("SELECT refresh_event_stats(), refresh_hedge_requirements()")
    await reader.close()


async def set_price(conn: Connection, usd: str, age_s: float = 0.0) -> None:
    await conn.execute(
        "INSERT INTO price_history (asset, price_usd, source, observed_at)"
        " VALUES ('TON', $1::text::numeric, 'test', clock_timestamp() - make_interval(secs => $2))",
        usd,
        age_s,
    )


async def test_a_hedge_is_required_at_the_price_of_now_and_unknown_without_one(conn: Connection) -> None:
    await conn.execute(ADD_POLICY, FACTORY, [1], [0], [0], [0], [1000 * TON], [TON])
    await conn.execute(
        "INSERT INTO hedge_positions (coverage_type, chain_id, stablecoin_id, venue, position_size, entry_price)"
        " VALUES (0, 0, 0, 'polymarket', 25000, 0.5)"
    )
    await conn.execute("SELECT refresh_hedge_requirements()")
    [row] = await conn.fetch("SELECT * FROM mv_hedge_requirements")
    assert (row["required_hedge_size"], row["hedge_drift"], row["drift_percentage"]) == (None, None, None)
    await set_price(conn, "5.00", 3600)
    await conn.execute("SELECT refresh_hedge_requirements()")
    assert await conn.fetchval("SELECT required_hedge_size FROM mv_hedge_requirements") is None, "an old price"
    await set_price(conn, "5.00")
    await conn.execute("SELECT refresh_hedge_requirements()")
    [row] = await conn.fetch("SELECT * FROM mv_hedge_requirements")
    assert (row["required_hedge_size"], row["current_hedge_size"], row["hedge_drift"]) == (100_000, 25_000, 75_000)
    assert row["drift_percentage"] == 75
    assert row["type_name"] == "depeg"


async def test_names_and_numbers_of_the_lookups_are_those_of_the_program(conn: Connection) -> None:
    types = await conn.fetch("SELECT * FROM coverage_types ORDER BY type_id")
    chains = await conn.fetch("SELECT * FROM chain_risk_metrics ORDER BY chain_id")
    coins = await conn.fetch("SELECT * FROM stablecoins ORDER BY coin_id")
    assert [row["type_name"] for row in types] == list(COVERAGE_TYPES)
    assert [row["chain_name"] for row in chains] == list(CHAINS)
    assert [row["coin_symbol"] for row in coins] == list(STABLECOINS)
    for row in chains:
        multiplier = DEFAULT_PARAMS.value("pricing", f"chain_multiplier_{row['chain_name']}")
        assert row["security_multiplier"] == multiplier
    assert {row["total_tvl_usd"] for row in chains} == {None}, "what nobody measured is not zero"


NOW = 1_600_000_000
"""A block time of the past: an event of it is held against prices of its time."""


async def test_an_event_is_stamped_with_the_price_of_its_time_and_told_of_when_it_is_worth_much(
    conn: Connection, writer: LedgerWriter
) -> None:
    await set_price(conn, "5.25", 20)
    await set_price(conn, "5.50", 400)
    await set_price(conn, "1.00", -3600)  # a source whose clock is ahead
    cheap, dear = at_product(1, (0, 0, 0), 19_047 * TON), at_product(2, (0, 0, 0), 19_048 * TON)
    await writer.submit(batch(transaction(10, cheap, dear, contract=FACTORY), contract=FACTORY))
    rows = await conn.fetch("SELECT * FROM event_prices ORDER BY message_index")
    assert [(str(row["price_usd"]), str(row["value_usd"]), row["source"]) for row in rows] == [
        ("5.25", "99996.75", "test"), ("5.25", "100002.00", "test")]  # fmt: skip
    [told] = await conn.fetch("SELECT * FROM high_value_events")
    assert (told["policy_id"], told["event_type"], told["vault_id"]) == (2, "PolicyCreated", "main")
    assert (told["value_usd"], told["limit_usd"]) == (Decimal("100002.00"), Decimal(100_000))
    value = await conn.fetchval("SELECT value_usd FROM v_recent_blockchain_events WHERE policy_id = 2")
    assert str(value) == "100002.00"
    with pytest.raises(asyncpg.RestrictViolationError):
        await conn.execute("UPDATE event_prices SET price_usd = 1")


async def test_without_a_price_of_its_time_an_event_has_no_value_at_all(conn: Connection, writer: LedgerWriter) -> None:
    await set_price(conn, "5.00", 301)
    await writer.submit(
        batch(transaction(10, at_product(1, (0, 0, 0), 10**6 * TON), contract=FACTORY), contract=FACTORY)
    )
    assert await conn.fetchval("SELECT count(*) FROM event_prices") == 0
    assert await conn.fetchval("SELECT count(*) FROM high_value_events") == 0
    assert await conn.fetchval("SELECT value_usd FROM v_recent_blockchain_events") is None


async def test_an_event_of_the_past_is_not_worth_todays_price(conn: Connection, writer: LedgerWriter) -> None:
    await set_price(conn, "5.00")
    old = transaction(10, at_product(1, (0, 0, 0), 10**6 * TON), contract=FACTORY)
    event = msgspec.structs.replace(old.events[0], block_time=NOW)
    await writer.submit(batch(msgspec.structs.replace(old, block_time=NOW, events=(event,)), contract=FACTORY))
    assert START_TIME > NOW
    assert await conn.fetchval("SELECT count(*) FROM event_prices") == 0


async def test_the_limits_are_those_of_the_configuration(conn: Connection, writer: LedgerWriter) -> None:
    number = "SELECT config_number('risk', 'high_value_payout_usd', 50000)"
    assert await conn.fetchval(number) == 50_000, "before any parameter was stored"
    await conn.execute("ALTER TABLE config_parameters DISABLE TRIGGER ALL")
    await conn.execute("DELETE FROM config_parameters WHERE key = 'high_value_payout_usd'")
    await conn.execute(
        "INSERT INTO config_parameters (category, key, value_type, value_data, version)"
        " VALUES ('risk', 'high_value_payout_usd', 'float', '10.5', 1)"
    )
    assert str(await conn.fetchval(number)) == "10.5"
    await set_price(conn, "5.00")
    await writer.submit(
        batch(
            transaction(10, at_product(1, (0, 0, 0), 10 * TON), contract=FACTORY),
            transaction(20, PayoutExecuted(1, HOLDER, 3 * TON), contract=FACTORY),
            contract=FACTORY,
        )
    )
    [told] = await conn.fetch("SELECT event_type, value_usd, limit_usd FROM high_value_events")
    assert (told["event_type"], str(told["value_usd"]), str(told["limit_usd"])) == ("PayoutExecuted", "15.00", "10.5")


async def test_a_cursor_set_by_hand_goes_forward_only_and_only_where_it_is_proved(
    conn: Connection, writer: LedgerWriter
) -> None:
    await writer.submit(batch(transaction(10, at_product(1, (0, 0, 0), TON), contract=FACTORY), contract=FACTORY))
    assert await conn.fetchval("SELECT update_sync_state($1, 7, 3)", FACTORY) == 10, "not back"
    assert await conn.fetchval("SELECT total_events_synced FROM blockchain_sync_state WHERE contract_address = $1",
                               FACTORY) == 1, "and nothing counted twice"  # fmt: skip
    with pytest.raises(asyncpg.InvalidParameterValueError, match="give the hash"):
        await conn.execute("SELECT update_sync_state($1, 20, 1)", FACTORY)
    hash_ = cursor_at(20).hash
    assert await conn.fetchval("SELECT update_sync_state($1, 20, 1, $2)", FACTORY, hash_) == 20
    assert await conn.fetchval("SELECT update_sync_state('0:new', 0)") == 0
    row = await conn.fetchrow("SELECT * FROM blockchain_sync_state WHERE contract_address = '0:new'")
    assert row is not None
    assert (row["contract_type"], row["sync_status"]) == ("Unknown", "paused")
    for bad in ("-1", "5, -1", "5, 1, '\\x00'"):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await conn.execute(f"SELECT update_sync_state('0:new', {bad})")


async def test_a_sync_error_is_recorded_for_a_contract_nobody_knew_too(conn: Connection) -> None:
    for contract in (FACTORY, "0:unknown"):
        await conn.execute("SELECT record_sync_error($1, 'no answer')", contract)
        row = await conn.fetchrow(
            "SELECT sync_status, error_message FROM blockchain_sync_state WHERE contract_address = $1", contract
        )
        assert tuple(row or ()) == ("error", "no answer")
