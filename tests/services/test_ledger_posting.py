"""What an event does to the figures, exactly, whatever the batches were."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.chain_story import TON, VAULT, batch, cursor_at, cut, deposit, legal_transactions, transaction
from db.servers import DatabaseServer
from services.ledger_tables import check_against_core, post_all
from tonsurance.core.events import CoverageChanged, EpochStarted, LossAbsorbed
from tonsurance.db.events import select_cursor, select_events, select_events_since
from tonsurance.db.ledger import Posted, select_ledger_version
from tonsurance.db.pool import Connection
from tonsurance.db.tranches import TrancheRow, select_tranches, select_tranches_since
from tonsurance.services.ledger_writer import LedgerWriter


async def test_an_event_moves_its_tranche_and_gives_it_an_apy(writer: LedgerWriter, conn: Connection) -> None:
    covered = CoverageChanged(1, (0, 25 * TON, 0, 0, 0, 0))
    posted = await writer.submit(batch(transaction(10, deposit(2, 100 * TON)), transaction(20, covered)))
    assert posted == Posted(version=1, events=2, by_type={"DepositMade": 1, "CoverageChanged": 1})
    (row,) = await select_tranches(conn)
    assert isinstance(row, TrancheRow)
    assert (row.vault_id, row.tranche_id, row.utilization_ratio) == ("main", "SURE-SNR", 0.25)
    assert row.current_apy == pytest.approx(7.6267, abs=5e-5)  # spec figure of the logarithmic curve at 0.25
    assert (row.logical_time, row.message_index, row.params_version, row.ledger_version) == (20, 0, 1, 1)
    assert await select_cursor(conn, VAULT) == cursor_at(20)


async def test_a_loss_is_taken_from_capital_and_kept_for_life(writer: LedgerWriter, conn: Connection) -> None:
    await writer.submit(
        batch(
            transaction(10, deposit(6, 100 * TON)),
            transaction(20, LossAbsorbed(6, 40 * TON, 1)),
            transaction(30, LossAbsorbed(6, 60 * TON, 2), EpochStarted(6, 1, 100 * TON)),
        )
    )
    (row,) = await select_tranches(conn)
    assert (row.total_capital_nanoton, row.absorbed_losses_nanoton, row.shares) == (0, 100 * TON, 0)
    losses = await conn.fetch("SELECT loss_delta_nanoton FROM ledger_entries ORDER BY entry_id")
    assert [row[0] // TON for row in losses] == [0, 40, 60, 0]
    past = await conn.fetch("SELECT absorbed_losses_nanoton FROM tranche_utilization_history ORDER BY logical_time")
    assert [int(row[0]) // TON for row in past] == [0, 40, 100, 100]


async def test_coverage_without_capital_is_insolvent_and_promises_no_rate(
    writer: LedgerWriter, conn: Connection
) -> None:
    await writer.submit(batch(transaction(10, CoverageChanged(1, (5, 0, 0, 0, 0, 0)))))
    (row,) = await select_tranches(conn)
    assert (row.insolvent, row.utilization_ratio, row.utilization_raw, row.current_apy) == (True, 1.0, None, None)


async def test_amounts_past_64_bits_are_exact(writer: LedgerWriter, conn: Connection) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON, 2**120), deposit(1, TON, 2**120))))
    (row,) = await select_tranches(conn)
    assert row.shares == 2**121
    (newest, _) = await select_events(conn)
    assert newest.metadata["shares"] == 2**120


async def test_each_group_is_one_version_and_one_notification(writer: LedgerWriter, conn: Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await conn.add_listener("tonsurance_ledger", lambda *args: heard.put_nowait(str(args[3])))
    parts = cut(legal_transactions(3, 40), [5, 5, 5])
    await asyncio.gather(*(writer.submit(part) for part in parts))
    version = await select_ledger_version(conn)
    assert 1 <= version < len(parts)  # those that waited went together
    assert [await heard.get() for _ in range(version)] == [f'{{"v":{n}}}' for n in range(1, version + 1)]


async def test_readers_get_what_came_after_a_version(writer: LedgerWriter, conn: Connection) -> None:
    await writer.submit(batch(transaction(10, deposit(1, TON)), transaction(20, deposit(2, TON))))
    await writer.submit(batch(transaction(30, deposit(2, TON)), after=cursor_at(20)))
    assert [row.tranche_id for row in await select_tranches_since(conn, 1)] == ["SURE-SNR"]
    assert [row.logical_time for row in await select_events_since(conn, 1)] == [30]
    newest = await select_events(conn, limit=2)
    assert [row.logical_time for row in newest] == [30, 20]
    assert [row.logical_time for row in await select_events(conn, after=newest[-1].event_id)] == [10]
    oldest = await select_events(conn, newest_first=False, after=newest[-1].event_id, contract=VAULT)
    assert [row.logical_time for row in oldest] == [30]
    assert await select_events(conn, event_type="Paused") == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 20), max_size=8), many=st.booleans())
def test_the_ledger_is_the_same_whatever_the_batches_were(
    pg: DatabaseServer, seed: int, sizes: list[int], many: bool
) -> None:
    transactions = legal_transactions(seed, 60 if many else 8)
    ledgers = []
    for batches in (cut(transactions, sizes), cut(transactions, [])):
        dsn = pg.create()
        ledgers.append(asyncio.run(post_all(dsn, batches)))
        pg.drop(dsn)
    assert ledgers[0] == ledgers[1]
    check_against_core(ledgers[0], transactions)
