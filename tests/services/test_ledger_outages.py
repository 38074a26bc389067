"""An outage, a kill or a second writer loses nothing and doubles nothing, and nobody waits forever."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

import pytest

from db.chain_story import (
    FACTORY,
    TON,
    VAULT,
    batch,
    cursor_at,
    cut,
    deposit,
    legal_transactions,
    policy_created,
    register,
    transaction,
)
from db.servers import INSTALLED_BINARIES, DatabaseServer, running_cluster
from services.ledger_tables import check_against_core, read_ledger, reading, rows_of
from tonsurance.core.errors import DatabaseUnavailable, WriterFenced
from tonsurance.core.events import GENESIS, DecodedTransaction
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import select_cursor
from tonsurance.db.ledger import post_batches, take_ledger
from tonsurance.db.pool import Connection, connect, driver_errors
from tonsurance.db.postgres import Cluster
from tonsurance.services.ledger_writer import LedgerWriter


async def test_a_lost_connection_leaves_nothing_half_done_and_the_next_batch_goes_in(
    writer: LedgerWriter, conn: Connection, each_database: str
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    blocker = await connect(each_database)
    held = blocker.transaction()
    await held.start()
    await blocker.execute("LOCK TABLE ledger_entries IN ACCESS EXCLUSIVE MODE")  # stops the writer half-way
    second = batch(transaction(20, deposit(1, TON)), after=cursor_at(10))
    submitted = asyncio.create_task(writer.submit(second))
    await kill_when_waiting(conn)
    with pytest.raises(DatabaseUnavailable):
        await submitted
    await held.rollback()
    await blocker.close()
    assert await select_cursor(conn, VAULT) == cursor_at(10)
    assert len(await rows_of(conn, "blockchain_events")) == 1
    assert (await writer.submit(second)).events == 1
    assert await select_cursor(conn, VAULT) == cursor_at(20)


async def kill_when_waiting(conn: Connection) -> None:
    """Terminate the writer's backend as soon as it waits for a lock inside its transaction."""
    waiting = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'tonsurance-writer' AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not await conn.fetchval(waiting):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", sorted(INSTALLED_BINARIES, reverse=True))
def test_kill_9_of_the_writing_backend_loses_nothing_and_doubles_nothing(version: str) -> None:
    """Such a kill ends the whole server, so it is one of this test's own, with fsync on."""
    transactions = legal_transactions(11, 300)
    with running_cluster(INSTALLED_BINARIES[version], durable=True) as cluster:
        dsn = DatabaseServer(cluster.dsn).create()
        asyncio.run(register(dsn))
        kills = asyncio.run(post_through_kills(cluster, dsn, transactions))
        ledger = asyncio.run(read_ledger(dsn))
    assert kills == 4
    check_against_core(ledger, transactions)
    assert len(ledger["blockchain_events"]) == 300


async def post_through_kills(cluster: Cluster, dsn: str, transactions: list[DecodedTransaction]) -> int:
    """Post in batches of three and kill the backend in the middle of some of them; go on from the stored cursor."""
    writer, kills = LedgerWriter(dsn, DEFAULT_PARAMS), 0
    while left := await read_what_is_left(cluster, dsn, transactions):
        after = transactions[-len(left) - 1].cursor if len(left) < len(transactions) else GENESIS
        pid = await find_writer(dsn)
        posted = asyncio.create_task(writer.submit(batch(*left[:3], after=after)))
        if pid is not None and kills < 4 and len(left) < 180 - kills * 40:
            await asyncio.sleep(0.0005 * kills)
            os.kill(pid, signal.SIGKILL)
            kills += 1
        with suppress(DatabaseUnavailable):
            await posted
    await writer.close()
    return kills


async def find_writer(dsn: str) -> int | None:
    with suppress(DatabaseUnavailable), driver_errors():
        async with reading(dsn) as conn:
            pid: int | None = await conn.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'tonsurance-writer'"
            )
            return pid
    return None


async def read_what_is_left(
    cluster: Cluster, dsn: str, transactions: list[DecodedTransaction]
) -> list[DecodedTransaction]:
    """The transactions after the stored cursor, as soon as the server is up again."""
    while True:
        if cluster.poll() is not None:
            cluster.start()
        with suppress(DatabaseUnavailable), driver_errors():
            async with reading(dsn) as conn:
                cursor = await select_cursor(conn, VAULT)
            assert cursor is not None
            return [item for item in transactions if item.cursor > cursor]
        await asyncio.sleep(0.01)


async def test_a_database_that_is_down_is_an_error_for_every_submitter(tmp_path: Any) -> None:
    writer = LedgerWriter(f"postgresql://nobody@/none?host={tmp_path}", DEFAULT_PARAMS)
    parts = cut(legal_transactions(1, 10), [2])
    outcomes = await asyncio.gather(*(writer.submit(part) for part in parts), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * len(parts)
    await writer.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await writer.submit(parts[0])


async def test_a_second_writer_cannot_post(writer: LedgerWriter, conn: Connection, each_database: str) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    second = LedgerWriter(each_database, DEFAULT_PARAMS)
    with pytest.raises(WriterFenced):
        await second.submit(batch(transaction(20, deposit(1, TON)), after=cursor_at(10)))
    await second.close()
    assert (await writer.submit(batch(transaction(20, deposit(1, TON)), after=cursor_at(10)))).events == 1


async def test_a_writer_that_was_replaced_cannot_post(conn: Connection, each_database: str) -> None:
    stale, fresh = await connect(each_database), await connect(each_database)
    epoch = await take_ledger(stale)
    await stale.execute("SELECT pg_advisory_unlock_all()")  # as after a failover: the lock is gone, the process is not
    newer = await take_ledger(fresh)
    with pytest.raises(WriterFenced):
        await post_batches(stale, [batch(transaction(10, deposit(1, TON)))], DEFAULT_PARAMS, epoch)
    assert await rows_of(conn, "blockchain_events") == []
    await post_batches(fresh, [batch(transaction(10, deposit(1, TON)))], DEFAULT_PARAMS, newer)
    assert len(await rows_of(conn, "blockchain_events")) == 1
    await stale.close()
    await fresh.close()


async def test_a_submitter_that_gives_up_stops_nobody(writer: LedgerWriter, conn: Connection) -> None:
    parts = cut(legal_transactions(5, 30), [4, 4])
    given_up = asyncio.create_task(writer.submit(parts[0]))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await writer.submit(batch(transaction(10, policy_created(1), contract=FACTORY), contract=FACTORY))
    assert await select_cursor(conn, FACTORY) == cursor_at(10)


async def test_a_fault_of_ours_neither_hangs_a_submitter_nor_ends_the_writer(
    writer: LedgerWriter, conn: Connection
) -> None:
    key = "blockchain_events_contract_address_logical_time_message_ind_key"
    await conn.execute(f"ALTER TABLE blockchain_events DROP CONSTRAINT {key}")
    part = batch(transaction(10, deposit(1, TON)))
    with pytest.raises(DatabaseUnavailable, match="writer stopped"):
        await writer.submit(part)
    await conn.execute("ALTER TABLE blockchain_events ADD UNIQUE (contract_address, logical_time, message_index)")
    assert (await writer.submit(part)).events == 1


async def test_closing_posts_what_was_submitted(each_database: str, conn: Connection) -> None:
    writer = LedgerWriter(each_database, DEFAULT_PARAMS, queue_size=2)
    parts = cut(legal_transactions(6, 40), [3] * 6)
    submitted = [asyncio.create_task(writer.submit(part)) for part in parts]
    await submitted[0]
    await asyncio.gather(*submitted)
    await writer.close()
    assert await select_cursor(conn, VAULT) == parts[-1].until
