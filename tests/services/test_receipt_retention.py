"""Receipts go exactly when they may: never while their policy lives or a purchase may still come to light."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from db.chain_story import FACTORY
from services.receipting import DAY, Counter, make_quote, open_counter
from tonsurance import metrics
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.products import CHAINS, COVERAGE_TYPES
from tonsurance.db.pool import connect
from tonsurance.db.roles import API, INGEST
from tonsurance.services.quote_values import Quote
from tonsurance.services.receipt_retention import (
    NEW_BATCHES,
    OLD_BATCHES,
    ForgetReport,
    ReceiptRetention,
    keep_receipts,
)

NOW = 1_790_000_000
OTHER_FACTORY = "0:" + "ab" * 32
A_YEAR = build_params({("api", "bought_quote_retention_days"): 365}, version=2)


@pytest.fixture
async def counter(database: str) -> AsyncIterator[Counter]:
    async with open_counter(database) as counter:
        yield counter


async def keep(counter: Counter, *deadlines: float) -> list[Quote]:
    """Receipts of quotes with these deadlines."""
    quotes = [make_quote(issued_at=deadline - 300.0) for deadline in deadlines]
    await asyncio.gather(*map(counter.receipts.keep, quotes))
    assert [quote.valid_until for quote in quotes] == [int(deadline) for deadline in deadlines]
    return quotes


def ids(*quotes: Quote) -> set[int]:
    return {quote.quote_id for quote in quotes}


async def test_an_unused_receipt_goes_seven_days_after_its_deadline_and_not_a_second_sooner(counter: Counter) -> None:
    old, older, young, new = await keep(counter, NOW - 7 * DAY, NOW - 70 * DAY, NOW - 7 * DAY + 1, NOW + 300)
    await counter.follow_until(NOW)
    assert await counter.forget() == ForgetReport(looked_at=2, unused=2, bought=0)
    assert await counter.kept() == ids(young, new)
    assert ids(old, older).isdisjoint(await counter.kept())
    three = build_params({("api", "quote_retention_days"): 3}, version=2)
    assert (await counter.forget(three)).unused == 1
    assert await counter.kept() == ids(new)


async def test_nothing_goes_before_the_ledger_was_followed_beyond_it(counter: Counter) -> None:
    [quote] = await keep(counter, NOW - 30 * DAY)
    assert await counter.forget() == ForgetReport()  # nobody has looked at the chain yet
    await counter.follow_until(NOW - 24 * DAY)  # the daemon was away since then
    assert await counter.forget() == ForgetReport()
    for trouble in ("sync_status = 'error'", "sync_status = 'active', head_lt = last_synced_lt + 1"):
        await counter.follow_until(NOW)
        await counter.damage(f"UPDATE blockchain_sync_state SET {trouble} WHERE contract_address = '{FACTORY}'")
        assert await counter.forget() == ForgetReport()
    assert await counter.kept() == ids(quote)
    await counter.follow_until(NOW)
    assert (await counter.forget()).unused == 1


async def test_events_of_the_factory_tell_how_far_it_was_followed(counter: Counter) -> None:
    [old, new] = await keep(counter, 1_900_000_000 - 7 * DAY, 1_900_000_000)
    await counter.buy(make_quote())  # its block's time is a second later
    assert (await counter.forget()).unused == 1
    assert await counter.kept() == ids(new)
    assert old.quote_id not in await counter.kept()


async def test_receipts_of_a_factory_nobody_follows_go_thirty_days_later_by_our_clock(counter: Counter) -> None:
    now = time.time()
    deadlines = (now - 37 * DAY + 60, now - 37 * DAY - 60)
    young, old, bought, waiting = await keep(counter, *deadlines, deadlines[1], deadlines[1])
    assert waiting.purchase is not None
    policy_id = await counter.buy(bought)
    await counter.damage("UPDATE policies SET contract_address = $1 WHERE policy_id = $2", OTHER_FACTORY, policy_id)
    await counter.damage("UPDATE quotes SET factory = $1", OTHER_FACTORY)
    await counter.damage(
        "INSERT INTO blockchain_transactions (contract_address, logical_time, hash, body_hash, block_time, succeeded,"
        " bounced) VALUES ($1, 1, $2, $2, now(), true, false)",
        OTHER_FACTORY,
        bytes.fromhex(waiting.purchase.payload_hash),
    )
    [ours] = await keep(counter, now - 8 * DAY)
    await counter.follow_until(now)
    assert await counter.forget() == ForgetReport(looked_at=5, unused=2, bought=0)
    assert await counter.kept() == ids(young, bought, waiting)
    assert ids(old, ours).isdisjoint(await counter.kept())


@pytest.mark.parametrize("trace", ["none", "removed"])
async def test_receipts_go_also_when_no_factory_is_followed_any_more(counter: Counter, trace: str) -> None:
    young, ahead, old = quotes = [
        make_quote(issued_at=time.time() - 37 * DAY),  # five minutes before its deadline it was issued
        make_quote(issued_at=time.time() - 37 * DAY - 400, chain_offset_s=-200.0),
        make_quote(issued_at=time.time() - 37 * DAY - 400),
    ]
    await asyncio.gather(*map(counter.receipts.keep, quotes))
    if trace == "none":
        await counter.damage("DELETE FROM blockchain_sync_state")
    else:
        await counter.follow_until(NOW - 100 * DAY)
        await counter.damage(
            "INSERT INTO followed_contracts (contract_address, contract_type, vault_id, wanted, changed_by)"
            " VALUES ($1, 'PolicyFactory', 'main', 'removed', 'test')",
            FACTORY,
        )
    assert (await counter.forget()).unused == 2
    assert await counter.kept() == ids(young)
    assert ids(ahead, old).isdisjoint(await counter.kept())


async def test_a_pass_looks_at_what_is_new_and_at_a_part_of_what_had_to_stay(counter: Counter) -> None:
    quotes = await keep(counter, *(NOW - 20 * DAY + number for number in range(40)))
    policies = [await counter.buy(quote) for quote in quotes]
    await counter.follow_until(NOW)
    retention = ReceiptRetention(counter.pool, lambda: A_YEAR, batch=2)
    assert await retention.forget() == ForgetReport(looked_at=40)
    new = await keep(counter, *(NOW - 10 * DAY + number for number in range(3)))
    assert await retention.forget() == ForgetReport(looked_at=2 * OLD_BATCHES + 3, unused=3)
    assert ids(*new).isdisjoint(await counter.kept())
    await counter.expire(policies[1])  # the second pass has seen it
    [(closed,)] = await counter.fetch("SELECT extract(epoch FROM closed_at)::bigint FROM policies WHERE policy_id = 2")
    await counter.follow_until(closed + 365 * DAY)
    gone = [(await retention.forget()).bought for _ in range(3)]
    assert gone == [0, 0, 1], "the other half, the end, and the first half again"
    assert await counter.kept() == ids(*quotes) - ids(quotes[1])


async def test_a_pass_ends_after_so_many_batches_and_the_next_goes_on(counter: Counter) -> None:
    await keep(counter, *(NOW - 20 * DAY + number for number in range(NEW_BATCHES + 5)))
    await counter.follow_until(NOW)
    retention = ReceiptRetention(counter.pool, lambda: DEFAULT_PARAMS, batch=1)
    assert (await retention.forget()).unused == NEW_BATCHES
    assert (await retention.forget()).unused == 5
    assert await counter.kept() == set()


async def test_the_figures_are_of_all_days_while_only_the_last_ones_are_read_again(counter: Counter) -> None:
    old, new = await keep(counter, NOW - 300 * DAY, time.time())
    retention = ReceiptRetention(counter.pool, lambda: DEFAULT_PARAMS)

    def counted() -> dict[tuple[str, ...], float]:
        return {names: gauge._value.get() for names, gauge in metrics.QUOTES_ISSUED._metrics.items()}

    async def count() -> dict[tuple[str, ...], float]:
        metrics.QUOTES_ISSUED.clear()
        await retention.count()
        return counted()

    names = [
        (COVERAGE_TYPES[one.terms.product.coverage_type_id], CHAINS[one.terms.product.chain_id]) for one in (old, new)
    ]
    assert await count() == {name: names.count(name) for name in names}
    await counter.damage("DELETE FROM quotes WHERE quote_id = $1", old.quote_id)
    assert await count() == {name: names.count(name) for name in names}, "of the day before it is not asked again"
    await counter.damage("DELETE FROM quotes")
    assert await count() == {names[0]: 1}


async def test_each_factory_has_to_be_followed_itself(counter: Counter) -> None:
    ours, others = await keep(counter, NOW - 30 * DAY, NOW - 30 * DAY)
    await counter.damage("UPDATE quotes SET factory = $1 WHERE quote_id = $2", OTHER_FACTORY, others.quote_id)
    await counter.damage(
        "INSERT INTO blockchain_sync_state (contract_address, contract_type, vault_id, head_lt, last_sync_timestamp)"
        " VALUES ($1, 'PolicyFactory', 'main', 0, to_timestamp($2))",
        OTHER_FACTORY,
        NOW,
    )
    await counter.follow_until(NOW - 24 * DAY)
    assert await counter.forget() == ForgetReport(looked_at=2, unused=1, bought=0)
    assert await counter.kept() == ids(ours)


async def test_a_bought_receipt_stays_as_long_as_its_policy_and_as_long_after_as_configured(counter: Counter) -> None:
    living, ended, unused = await keep(counter, *[NOW - 30 * DAY] * 3)
    policies = [await counter.buy(quote) for quote in (living, ended)]
    await counter.expire(policies[1])
    [(closed,)] = await counter.fetch("SELECT extract(epoch FROM closed_at)::bigint FROM policies WHERE policy_id = 2")
    await counter.follow_until(closed + 10 * 365 * DAY)
    assert await counter.forget() == ForgetReport(looked_at=3, unused=1, bought=0)  # 0 days: for ever
    await counter.follow_until(closed + 365 * DAY - 1)
    assert (await counter.forget(A_YEAR)).bought == 0
    assert await counter.kept() == ids(living, ended)
    await counter.follow_until(closed + 365 * DAY)
    assert await counter.forget(A_YEAR) == ForgetReport(looked_at=2, unused=0, bought=1)
    assert await counter.kept() == ids(living)
    assert unused.quote_id not in await counter.kept()


async def test_a_purchase_on_its_way_keeps_its_receipt_until_it_is_refused(counter: Counter) -> None:
    waiting, failed = await keep(counter, NOW - 30 * DAY, NOW - 30 * DAY)
    for lt, (quote, succeeded) in enumerate(((waiting, True), (failed, False)), 1):
        assert quote.purchase is not None
        await counter.damage(
            "INSERT INTO blockchain_transactions (contract_address, logical_time, hash, body_hash, block_time,"
            " succeeded, bounced) VALUES ($1, $2, $3, $3, now(), $4, false)",
            FACTORY,
            lt,
            bytes.fromhex(quote.purchase.payload_hash),
            succeeded,
        )
    await counter.follow_until(NOW)
    assert (await counter.forget()).unused == 1
    assert await counter.kept() == ids(waiting)
    await counter.refuse(waiting)
    await counter.follow_until(NOW)
    assert (await counter.forget()).unused == 1
    assert await counter.kept() == set()


async def test_batches_of_any_size_come_to_the_same(counter: Counter) -> None:
    for batch in (1, 3, 10, 1000):
        deadlines = [NOW - 8 * DAY + number // 3 for number in range(20)]  # several have one deadline
        quotes = await keep(counter, *deadlines)
        bought = quotes[::4]
        for quote in bought:
            await counter.buy(quote)
        await counter.follow_until(NOW)
        before = await counter.kept() - ids(*quotes)
        report = await counter.forget(batch=batch)
        assert (report.unused, report.bought) == (15, 0)
        assert await counter.kept() == before | ids(*bought)
        await counter.damage("DELETE FROM quotes")


async def test_the_figures_of_a_day_stay_true_when_its_receipts_are_gone(counter: Counter) -> None:
    quotes = await keep(counter, *[NOW - 30 * DAY] * 12, *[NOW - 29 * DAY] * 5)
    for quote in quotes[:3]:
        await counter.buy(quote)
    for quote in quotes[3:5]:
        await counter.refuse(quote)
    first, last = (datetime.fromtimestamp(NOW - days * DAY - 300, UTC).date() for days in (30, 29))
    before = await counter.receipts.conversion(first, last)
    assert [sum(getattr(row, name) for row in before) for name in ("issued", "bought", "refused")] == [17, 3, 2]
    assert {row.day for row in before} == {first, last}
    await counter.follow_until(NOW)
    assert (await counter.forget(batch=2)).unused == 14
    assert await counter.receipts.conversion(first, last) == before
    assert sum(row.issued for row in await counter.receipts.conversion(first, first)) == 12
    [(ratio,)] = await counter.fetch("SELECT sum(conversion * issued) / sum(issued) FROM v_quote_conversion")
    assert round(float(ratio), 4) == round(3 / 17, 4)


async def test_a_receipt_never_changes_and_goes_by_the_rule_alone(counter: Counter) -> None:
    [quote] = await keep(counter, NOW)
    for sql in ("UPDATE quotes SET days = 1", "DELETE FROM quotes", "TRUNCATE quotes"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await (await counter.pool.open()).execute(sql)  # even as the owner
    for role, sql in ((API, "SELECT forget_quotes(1, 0, 0, 0, 1)"), (INGEST, "DELETE FROM quotes")):
        conn = await connect(counter.dsn, role=role)
        await conn.execute("SET tonsurance.forgetting = 'on'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(sql)
        await conn.close()
    for days in ("0, 0, 0, 0, 10", "-1, 0, 0, 0, 10", "NULL, 0, 0, 0, 10", "7, -1, 0, 0, 10", "7, 0, 0, 0, 0"):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await (await counter.pool.open()).execute(f"SELECT forget_quotes({days})")
    assert await counter.kept() == ids(quote)


async def test_the_daemons_task_forgets_and_shows_the_figures(counter: Counter) -> None:
    old, bought = await keep(counter, time.time() - 30 * DAY, time.time())
    await counter.buy(bought)
    await counter.follow_until(time.time())
    names = COVERAGE_TYPES[bought.terms.product.coverage_type_id], CHAINS[bought.terms.product.chain_id]
    metrics.QUOTES_BOUGHT.clear()
    stop = asyncio.Event()
    task = asyncio.create_task(keep_receipts(counter.dsn, lambda: DEFAULT_PARAMS, stop))
    async with asyncio.timeout(60):
        while old.quote_id in await counter.kept() or names not in metrics.QUOTES_BOUGHT._metrics:
            await asyncio.sleep(0.01)
    stop.set()
    await task
    assert metrics.QUOTES_BOUGHT.labels(*names)._value.get() == 1
    assert metrics.QUOTES_ISSUED.labels(*names)._value.get() >= 1
    assert metrics.QUOTES_FORGOTTEN.labels("unused")._value.get() >= 1
