"""Every event posts once, in order, without a gap, and what was posted never changes."""

from __future__ import annotations

import msgspec
import pytest

from db.chain_story import TON, VAULT, batch, cursor_at, cut, deposit, legal_transactions, transaction
from services.ledger_tables import rows_of, whole_ledger
from tonsurance.core.errors import CursorConflict, LedgerError
from tonsurance.core.events import GENESIS, Cursor
from tonsurance.db.events import select_cursor
from tonsurance.db.ledger import select_ledger_version
from tonsurance.db.pool import Connection
from tonsurance.db.tranches import select_tranches
from tonsurance.services.ledger_writer import LedgerWriter


async def test_a_replayed_batch_changes_nothing(writer: LedgerWriter, conn: Connection) -> None:
    transactions = legal_transactions(1, 60)
    for part in cut(transactions, [7, 20]):
        await writer.submit(part)
    before, version = await whole_ledger(conn), await select_ledger_version(conn)
    for part in cut(transactions, [7, 20]):
        with pytest.raises(CursorConflict):
            await writer.submit(part)
    assert (await whole_ledger(conn), await select_ledger_version(conn)) == (before, version)


async def test_an_event_delivered_twice_posts_once(writer: LedgerWriter, conn: Connection) -> None:
    once = transaction(10, deposit(1, TON))
    doubled = msgspec.structs.replace(once, events=once.events * 2)
    posted = await writer.submit(batch(doubled))
    assert (posted.events, posted.duplicates) == (1, 1)
    (row,) = await select_tranches(conn)
    assert row.total_capital_nanoton == TON
    assert len(await rows_of(conn, "ledger_entries")) == 1


async def test_an_event_stored_by_an_earlier_process_is_not_folded_again(
    writer: LedgerWriter, conn: Connection
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    again = msgspec.structs.replace(transaction(10, deposit(1, TON)), cursor=cursor_at(20))
    late = transaction(20, deposit(1, 5))
    event = msgspec.structs.replace(late.events[0], message_index=0)
    await conn.execute(  # as if the event had been stored without its cursor
        "INSERT INTO blockchain_events (event_type, contract_address, contract_type, transaction_hash, logical_time,"
        " message_index, raw_body, decoder, block_time, ledger_version, params_version)"
        " VALUES ('DepositMade', $1, 'MultiTrancheVault', repeat('0', 64), 20, 0, '', 'test-1', now(), 1, 1)",
        VAULT,
    )
    assert again.cursor == cursor_at(event.lt)
    posted = await writer.submit(batch(late, after=cursor_at(10)))
    assert (posted.events, posted.duplicates, posted.version) == (0, 1, 1)
    (row,) = await select_tranches(conn)
    assert row.total_capital_nanoton == TON


@pytest.mark.parametrize(
    "after",
    [GENESIS, cursor_at(999), Cursor(10, bytes(32))],
    ids=["an earlier one", "a later one", "the same time, another hash"],
)
async def test_a_dropped_link_is_a_conflict_and_posts_nothing(
    writer: LedgerWriter, conn: Connection, after: Cursor
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    before = await whole_ledger(conn)
    with pytest.raises(CursorConflict):
        await writer.submit(batch(transaction(1000, deposit(1, TON)), after=after))
    assert await whole_ledger(conn) == before


async def test_transactions_out_of_order_are_refused(writer: LedgerWriter, conn: Connection) -> None:
    with pytest.raises(CursorConflict):
        await writer.submit(batch(transaction(20, deposit(1, TON)), transaction(10, deposit(1, TON))))
    assert await select_cursor(conn, VAULT) == GENESIS


async def test_an_unknown_contract_is_refused(writer: LedgerWriter, conn: Connection) -> None:
    stranger = "0:" + "ee" * 32
    with pytest.raises(LedgerError, match="not registered"):
        await writer.submit(batch(transaction(10, deposit(1, TON), contract=stranger), contract=stranger))
    assert await rows_of(conn, "blockchain_events") == []


@pytest.mark.parametrize("table", ["blockchain_events", "ledger_entries"])
@pytest.mark.parametrize("change", ["UPDATE {} SET logical_time = 1", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_ledger_is_append_only_even_for_its_owner(
    writer: LedgerWriter, conn: Connection, table: str, change: str
) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    with pytest.raises(Exception, match="append-only"):
        await conn.execute(change.format(table))


@pytest.mark.parametrize("change", ["last_synced_lt = 9", "last_synced_hash = decode(repeat('01', 32), 'hex')"])
async def test_no_sql_moves_a_cursor_back(writer: LedgerWriter, conn: Connection, change: str) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    with pytest.raises(Exception, match="cannot go"):
        await conn.execute(f"UPDATE blockchain_sync_state SET {change} WHERE contract_address = '{VAULT}'")
