"""A policy of a product nobody knows is set aside with all that happens to it; the contract is followed on."""

from __future__ import annotations

import msgspec
import pytest

from db.chain_story import FACTORY, HOLDER, TON, batch, cursor_at, expired, policy_created, transaction
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import GENESIS, PayoutApproved, PayoutExecuted
from tonsurance.core.products import find_unknown_dimension
from tonsurance.db.events import select_cursor
from tonsurance.db.policies import select_policy_counts
from tonsurance.db.pool import Connection
from tonsurance.services.ledger_writer import LedgerWriter

FOREIGN = msgspec.structs.replace(policy_created(2), chain_id=9)


@pytest.mark.parametrize(
    ("ids", "named"),
    [((5, 0, 0), "coverage type 5"), ((0, 9, 0), "chain 9"), ((0, 0, 14), "stablecoin 14"), ((4, 8, 13), None)],
)
def test_the_id_that_nobody_knows_is_named(ids: tuple[int, int, int], named: str | None) -> None:
    found = find_unknown_dimension(*ids)
    assert (found is None) if named is None else (found is not None and named in found)


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
async def test_the_policy_and_its_later_events_wait_in_quarantine(
    writer: LedgerWriter, conn: Connection, together: bool
) -> None:
    story = [
        transaction(10, policy_created(1), FOREIGN, contract=FACTORY),
        transaction(20, PayoutApproved(2, TON), PayoutApproved(1, TON), contract=FACTORY),
        transaction(30, PayoutExecuted(2, HOLDER, TON), contract=FACTORY),
        transaction(40, expired(3), contract=FACTORY),
    ]
    if together:
        await writer.submit(batch(*story[:3], contract=FACTORY))
    else:
        after = GENESIS
        for one in story[:3]:
            posted = await writer.submit(batch(one, after=after, contract=FACTORY))
            after = one.cursor
        assert posted.quarantined == 1
    assert (await select_policy_counts(conn)).approved == 1
    rows = await conn.fetch(
        "SELECT logical_time, message_index, policy_id, reason FROM blockchain_quarantine ORDER BY 1"
    )
    assert [(row["logical_time"], row["message_index"], row["policy_id"]) for row in rows] == [
        (10, 1, 2), (20, 0, 2), (30, 0, 2)]  # fmt: skip
    assert "no chain 9" in rows[0]["reason"]
    assert await select_cursor(conn, FACTORY) == cursor_at(30)
    assert await conn.fetchval("SELECT count(*) FROM blockchain_events WHERE policy_id = 2") == 0
    with pytest.raises(LedgerRefused, match="unknown"):  # a policy that nobody set aside is still a contradiction
        await writer.submit(batch(story[3], after=cursor_at(30), contract=FACTORY))


async def test_the_message_is_kept_as_it_came(writer: LedgerWriter, conn: Connection) -> None:
    made = transaction(10, FOREIGN, contract=FACTORY)
    await writer.submit(batch(made, contract=FACTORY))
    assert await conn.fetchval("SELECT raw_body FROM blockchain_quarantine") == made.events[0].raw_body
