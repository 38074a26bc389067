"""A refused event stops its contract just before it and no other; what cannot be decoded stops nothing."""

from __future__ import annotations

import asyncio

import pytest

from db.chain_story import FACTORY, TON, VAULT, batch, cursor_at, deposit, policy_created, transaction
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import (
    CoverageChanged,
    EpochStarted,
    EventBody,
    LossAbsorbed,
    PremiumsDistributed,
    Undecoded,
    WithdrawalMade,
)
from tonsurance.db.events import select_cursor, select_quarantine_count, select_sync_states
from tonsurance.db.ledger import Posted
from tonsurance.db.pool import Connection
from tonsurance.db.tranches import select_tranches
from tonsurance.services.ledger_writer import LedgerWriter

ILLEGAL = WithdrawalMade(1, "0:" + "dd" * 32, 10**15, 0)


async def test_a_refused_event_stops_its_contract_just_before_it_and_no_other(
    writer: LedgerWriter, conn: Connection
) -> None:
    good = [transaction(10, deposit(1, TON)), transaction(20, deposit(2, TON))]
    bad = [transaction(30, deposit(3, TON), ILLEGAL), transaction(40, deposit(4, TON))]
    policies = transaction(15, policy_created(1), contract=FACTORY)
    outcomes = await asyncio.gather(
        writer.submit(batch(*good, *bad)),
        writer.submit(batch(policies, contract=FACTORY)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], LedgerRefused)
    assert "capital would become" in str(outcomes[0])
    assert isinstance(outcomes[1], Posted)
    assert await select_cursor(conn, VAULT) == cursor_at(20)
    assert [row.tranche_id for row in await select_tranches(conn)] == ["SURE-BTC", "SURE-SNR"]
    states = {state.contract_address: state for state in await select_sync_states(conn)}
    assert (states[VAULT].sync_status, states[FACTORY].sync_status) == ("error", "active")
    assert "capital would become" in (states[VAULT].error_message or "")


async def test_a_contract_goes_on_when_the_cause_of_its_refusal_is_gone(writer: LedgerWriter, conn: Connection) -> None:
    with pytest.raises(LedgerRefused):
        await writer.submit(batch(transaction(10, ILLEGAL)))
    await writer.submit(batch(transaction(10, deposit(1, TON))))
    (state,) = [state for state in await select_sync_states(conn) if state.contract_address == VAULT]
    assert (state.sync_status, state.error_message, state.cursor) == ("active", None, cursor_at(10))


async def test_what_only_the_database_refuses_is_found_the_same_way(writer: LedgerWriter, conn: Connection) -> None:
    await conn.execute("ALTER TABLE tranche_utilization ADD CHECK (total_capital_nanoton < 5000000000)")
    outcomes = await asyncio.gather(
        writer.submit(batch(transaction(10, deposit(1, 4 * TON)), transaction(20, deposit(1, 4 * TON)))),
        writer.submit(batch(transaction(15, policy_created(1), contract=FACTORY), contract=FACTORY)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], LedgerRefused)
    assert isinstance(outcomes[1], Posted)
    assert await select_cursor(conn, VAULT) == cursor_at(10)


async def test_parts_that_do_not_make_the_premium_are_refused(writer: LedgerWriter, conn: Connection) -> None:
    with pytest.raises(LedgerRefused, match="not its parts' sum"):
        await writer.submit(batch(transaction(10, PremiumsDistributed(7, 1, (1, 1, 1, 1, 1, 1)))))
    assert await select_tranches(conn) == []


async def test_an_undecoded_message_is_kept_and_the_cursor_moves_on(writer: LedgerWriter, conn: Connection) -> None:
    unknown = Undecoded(message_index=0, reason="op 0x1 is in no layout\x00", raw_body=b"\x00\x01")
    posted = await writer.submit(batch(transaction(10, undecoded=(unknown,))))
    assert (posted.quarantined, posted.version) == (1, 0)
    assert await select_quarantine_count(conn) == 1
    assert await select_cursor(conn, VAULT) == cursor_at(10)


@pytest.mark.parametrize(
    "body",
    [
        deposit(0, TON),
        deposit(7, TON),
        LossAbsorbed(9, 1, 1),
        EpochStarted(2, 1, 1),
        LossAbsorbed(1, 2**100, 1),
        CoverageChanged(2**64 - 1, (1, 0, 0, 0, 0, 0)),
    ],
    ids=str,
)
async def test_an_event_no_ledger_can_hold_is_a_refusal_and_not_an_outage(
    writer: LedgerWriter, conn: Connection, body: EventBody
) -> None:
    with pytest.raises(LedgerRefused):
        await writer.submit(batch(transaction(10, deposit(1, TON)), transaction(20, body)))
    assert await select_cursor(conn, VAULT) == cursor_at(10)
    (state,) = [state for state in await select_sync_states(conn) if state.contract_address == VAULT]
    assert state.sync_status == "error"
    assert (await writer.submit(batch(transaction(30, deposit(1, TON)), after=cursor_at(10)))).events == 1
