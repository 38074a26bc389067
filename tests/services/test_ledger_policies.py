"""Policies follow their factory, and go only where they can go."""

from __future__ import annotations

from typing import Any

import pytest

from db.chain_story import FACTORY, HOLDER, TON, batch, cursor_at, cut, deposit, expired, policy_created, transaction
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import (
    CoverageChanged,
    EventBody,
    PayoutApproved,
    PayoutCancelled,
    PayoutExecuted,
    PayoutRefused,
)
from tonsurance.core.policies import PAY_CLAIM_OP
from tonsurance.db.events import select_cursor
from tonsurance.db.policies import PolicyCounts, select_policy_counts
from tonsurance.db.pool import Connection
from tonsurance.services.ledger_writer import LedgerWriter


async def test_policies_follow_the_factory_in_either_order_to_the_vault(writer: LedgerWriter, conn: Connection) -> None:
    first = transaction(10, policy_created(1), policy_created(2), contract=FACTORY)
    ended = transaction(20, expired(1), contract=FACTORY)
    await writer.submit(batch(first, ended, contract=FACTORY))
    await writer.submit(batch(transaction(12, deposit(1, TON), CoverageChanged(1, (1, 1, 1, 1, 1, 1)))))
    assert await select_policy_counts(conn) == PolicyCounts(active=1, approved=0, claimed=0, expired=1)


HEIR = "0:" + "ee" * 32
APPROVED, PAID, CANCELLED = PayoutApproved(1, 60 * TON), PayoutExecuted(1, HEIR, 59 * TON), PayoutCancelled(1)
REFUSED, NOT_RELEASED = PayoutRefused(1, PAY_CLAIM_OP), PayoutRefused(1, 0x39A6B75F)


async def read_policy(conn: Connection) -> tuple[Any, ...]:
    row = await conn.fetchrow(
        "SELECT status, approved_nanoton, payout_nanoton, beneficiary_address, closed_lt FROM policies"
        " WHERE policy_id = 1"
    )
    return tuple(row or ())


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
@pytest.mark.parametrize(
    ("bodies", "row"),
    [
        ((APPROVED,), ("approved", 60 * TON, 0, HOLDER, None)),
        ((APPROVED, PAID), ("claimed", 60 * TON, 59 * TON, HEIR, 120)),
        ((PAID,), ("claimed", None, 59 * TON, HEIR, 110)),
        ((APPROVED, CANCELLED), ("active", None, 0, HOLDER, None)),
        ((APPROVED, REFUSED), ("active", None, 0, HOLDER, None)),
        ((NOT_RELEASED,), ("active", None, 0, HOLDER, None)),
        ((APPROVED, REFUSED, APPROVED, CANCELLED, expired(1)), ("expired", None, 0, HOLDER, 150)),
    ],
)
async def test_a_claim_is_kept_as_the_factory_tells_it(
    writer: LedgerWriter, conn: Connection, bodies: tuple[EventBody, ...], row: tuple[Any, ...], together: bool
) -> None:
    told = [
        transaction(100 + 10 * place, body, contract=FACTORY) for place, body in enumerate((policy_created(1), *bodies))
    ]
    for part in cut(told, [] if together else [1] * len(told), FACTORY):
        await writer.submit(part)
    assert await read_policy(conn) == row


@pytest.mark.parametrize(
    "body",
    [
        expired(9),
        policy_created(1),
        PayoutApproved(9, 1),
        PayoutExecuted(9, HEIR, 1),
        PayoutCancelled(9),
        PayoutRefused(9, PAY_CLAIM_OP),
        PayoutApproved(1, 0),
        PayoutApproved(1, 101 * TON),
        PayoutExecuted(1, HEIR, 101 * TON),
        PayoutApproved(1, 2**100),
        PayoutExecuted(1, HEIR, 2**100),
        PayoutCancelled(1),
        PayoutApproved(2**63, 1),
        policy_created(2**64 - 1),
        policy_created(2, amount=2**70),
    ],
    ids=str,
)
async def test_an_impossible_policy_stops_its_factory_there_and_the_writer_goes_on(
    writer: LedgerWriter, conn: Connection, body: EventBody
) -> None:
    begun = transaction(10, policy_created(1), contract=FACTORY)
    await writer.submit(batch(begun, contract=FACTORY))
    with pytest.raises(LedgerRefused):
        await writer.submit(batch(transaction(20, body, contract=FACTORY), after=cursor_at(10), contract=FACTORY))
    assert await select_cursor(conn, FACTORY) == cursor_at(10)
    assert await read_policy(conn) == ("active", None, 0, HOLDER, None)
    assert (await writer.submit(batch(transaction(30, deposit(1, TON))))).events == 1
