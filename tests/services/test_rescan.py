"""A rescan makes a ledger that could not read some messages the one that always could, or changes nothing at all."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from chain.encoding import encode_event
from db.chain_story import HOLDER, TON, batch, cursor_at, event, policy_created, register
from db.servers import DatabaseServer
from proof.story import FACTORY, VAULT
from services.cutting_door import CuttingDoor
from services.rescanning import (
    LAYOUT,
    accounts,
    decode,
    fetch,
    follow,
    plant,
    read_all,
    read_everything,
    read_waiting,
    replay,
    rescan,
    without,
)
from tonsurance.core.errors import DatabaseUnavailable, InputError, NotReady
from tonsurance.core.events import (
    FACTORY_KIND,
    GENESIS,
    ChainEvent,
    DecodedTransaction,
    EventBody,
    PayoutApproved,
    PayoutExecuted,
    PolicyExpired,
    Undecoded,
)
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import select_quarantine_count
from tonsurance.db.pool import connect
from tonsurance.db.products import select_event_counts
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.verdicts import describe_replay, describe_rescan

KINDS_OF_LACK = [
    ("LossAbsorbed",),
    ("CoverageChanged",),
    ("EpochStarted", "WithdrawalRequested"),
    ("Paused",),
    ("PolicyCreated",),
    ("PremiumsDistributed",),
    ("PolicyExpired", "PayoutApproved", "LossAbsorbed"),
]


@pytest.mark.parametrize("types", KINDS_OF_LACK, ids="+".join)
async def test_a_rescanned_ledger_is_one_that_knew_every_event_from_the_start(
    pg: DatabaseServer, database: str, types: tuple[str, ...]
) -> None:
    known = pg.create()
    assert await follow(known, LAYOUT) == []
    stopped = await follow(database, without(*types))
    waiting, before = await read_waiting(database), await read_everything(database)
    cursors = await fetch(database, "SELECT contract_address, last_synced_lt FROM blockchain_sync_state ORDER BY 1")
    assert waiting
    found = await rescan(database)
    assert (found.refused, found.applied, found.clean, found.waiting) == (None, True, True, ())
    assert (found.late, found.resolved) == (len(waiting), len(waiting))
    assert set(found.by_type) <= set(types)
    assert await fetch(database, "SELECT contract_address, last_synced_lt FROM blockchain_sync_state ORDER BY 1") == (
        cursors
    )
    again = await replay(database)
    assert again.equal, "\n".join(describe_replay(again))
    assert await read_everything(database) != before
    if stopped:  # a contradiction had stopped a contract; now it goes on
        assert await follow(database, LAYOUT, register_too=False) == []
    assert await read_all(database) == await read_all(known)
    assert await read_waiting(database) == []
    assert (await rescan(database)).resolved == 0
    pg.drop(known)


async def test_a_rescan_leaves_its_traces_and_says_one_version(database: str) -> None:
    await follow(database, without("LossAbsorbed"))
    waiting = await read_waiting(database)
    (head,) = await fetch(database, "SELECT version FROM ledger_head")
    listener, heard = await connect(database), []
    await listener.add_listener("tonsurance_ledger", lambda *told: heard.append(told[-1]))
    newest = (await fetch(database, "SELECT max(event_id) AS id FROM blockchain_events"))[0]["id"]
    found = await rescan(database)
    await listener.fetchval("SELECT 1")
    await listener.close()
    assert heard == [f'{{"v":{head["version"] + 1}}}']
    assert found.rebuilt is not None
    assert found.rebuilt.version == head["version"] + 1
    (row,) = await fetch(database, "SELECT * FROM ledger_rebuilds")
    assert (row["kind"], row["late_events"], row["ledger_version"]) == ("rescan", found.late, head["version"] + 1)
    resolved = await fetch(database, "SELECT resolved_at, resolved_by FROM blockchain_quarantine")
    assert len(resolved) == len(waiting)
    assert {(one["resolved_at"] is None, one["resolved_by"]) for one in resolved} == {
        (False, f"{LAYOUT.name}: LossAbsorbed")
    }
    late = await fetch(database, "SELECT event_type FROM blockchain_events WHERE event_id > $1", newest)
    assert [one["event_type"] for one in late] == ["LossAbsorbed"] * found.late  # news to who pages by event_id
    assert any("came into the log" in line for line in describe_rescan(found))
    conn = await connect(database)
    assert await select_quarantine_count(conn) == 0
    assert (await select_event_counts(conn)).errors == 0
    await conn.close()


VERSIONS = """
SELECT ledger_version, params_version FROM blockchain_events WHERE contract_address = $1
ORDER BY logical_time, message_index
"""


async def test_late_events_have_the_versions_of_their_place(database: str) -> None:
    """So what a past version shows, and with which parameters, is what a ledger that knew them would show."""
    await follow(database, without("LossAbsorbed", "Paused"))
    known = await fetch(database, "SELECT max(ledger_version) AS entries FROM ledger_entries")
    assert (await rescan(database)).late > 3
    for contract in (VAULT, FACTORY):
        versions = [tuple(row.values()) for row in await fetch(database, VERSIONS, contract)]
        assert versions == sorted(versions)
        assert len({version for version, _ in versions}) > 2
    assert await fetch(database, "SELECT max(ledger_version) AS entries FROM ledger_entries") == known


async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(database: str) -> None:
    await follow(database, without("CoverageChanged"))
    before = await read_everything(database)
    would = await rescan(database, dry_run=True)
    assert await read_everything(database) == before
    did = await rescan(database)
    assert (would.applied, did.applied) == (False, True)
    assert (would.late, would.by_type, would.resolved) == (did.late, did.by_type, did.resolved)
    assert would.rebuilt is not None
    assert did.rebuilt is not None
    assert would.rebuilt.tables == did.rebuilt.tables
    assert would.rebuilt.differences == did.rebuilt.differences != ()
    assert any("Dry run" in line for line in describe_rescan(would))


def told(lt: int, index: int, body: EventBody) -> ChainEvent:
    """An event of the factory with the body a chain would have sent."""
    made = event(lt, index, body, FACTORY)
    raw: bytes = encode_event(body, LAYOUT, FACTORY_KIND).to_boc()
    return msgspec.structs.replace(made, decoder=LAYOUT.name, raw_body=raw)


def tell(lt: int, *events: ChainEvent, undecoded: tuple[Undecoded, ...] = ()) -> DecodedTransaction:
    return DecodedTransaction(
        cursor=cursor_at(lt), block_time=events[0].block_time if events else 1_900_000_000 + lt, succeeded=True,
        events=events, undecoded=undecoded,
    )  # fmt: skip


def kept(one: ChainEvent, reason: str = "there was no chain 1", policy_id: int | None = None) -> Undecoded:
    return Undecoded(message_index=one.message_index, reason=reason, raw_body=one.raw_body, policy_id=policy_id)


async def post(dsn: str, *transactions: DecodedTransaction, after: Any = GENESIS) -> None:
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    try:
        await writer.submit(batch(*transactions, after=after, contract=FACTORY))
    finally:
        await writer.close()


async def test_policies_of_unknown_products_come_back_when_the_catalogue_knows_them(database: str) -> None:
    """Policy 2's product is known by now, policy 3's is not. What happened to each waits with it, or comes with it."""
    await register(database)
    strange = msgspec.structs.replace(policy_created(3), chain_id=9)
    known = kept(told(10, 1, policy_created(2)), policy_id=2)
    await post(database, tell(10, told(10, 0, policy_created(1)), undecoded=(known,)))
    await post(
        database,
        tell(20, told(20, 0, strange)),
        tell(30, told(30, 0, PayoutApproved(2, TON)), told(30, 1, PayoutApproved(3, TON))),
        after=cursor_at(10),
    )
    assert [row["policy_id"] for row in await read_waiting(database)] == [2, 3, 2, 3]
    found = await rescan(database)
    assert (found.applied, found.late, found.by_type) == (True, 2, {"PolicyCreated": 1, "PayoutApproved": 1})
    assert [row["policy_id"] for row in await read_waiting(database)] == [3, 3]
    assert {(one.messages, one.lt) for one in found.waiting} == {(1, 20), (1, 30)}
    assert any("no chain 9" in line for line in describe_rescan(found))
    await post(
        database,
        tell(40, told(40, 0, PayoutExecuted(2, HOLDER, TON)), told(40, 1, PayoutExecuted(3, HOLDER, TON))),
        after=cursor_at(30),
    )
    policies = await fetch(database, "SELECT policy_id, status FROM policies ORDER BY 1")
    assert [(row["policy_id"], row["status"]) for row in policies] == [(1, "active"), (2, "claimed")]
    assert [row["policy_id"] for row in await read_waiting(database)] == [3, 3, 3]
    assert (await replay(database)).equal


async def test_an_event_the_ledger_would_refuse_changes_nothing_and_is_named(database: str) -> None:
    await register(database)
    await post(
        database,
        tell(10, told(10, 0, policy_created(1)), undecoded=(kept(told(10, 1, policy_created(2))),)),
        tell(20, undecoded=(kept(told(20, 0, PolicyExpired(7))),)),
    )
    before = await read_everything(database)
    found = await rescan(database)
    assert (found.applied, found.clean, found.late) == (False, False, 2)
    assert "PolicyExpired of policy 7 at logical time 20: the policy is unknown" in (found.refused or "")
    assert found.refused in list(describe_rescan(found))[-1]
    assert await read_everything(database) == before


async def test_history_that_reads_otherwise_is_reported_and_left_as_it_is(database: str) -> None:
    await follow(database, LAYOUT)
    before = await read_everything(database)
    found = await rescan(database, layout=without("DepositMade"))
    (row,) = await fetch(database, "SELECT count(*) AS many FROM blockchain_events WHERE event_type = 'DepositMade'")
    assert (found.applied, found.clean, found.differing) == (False, False, row["many"])
    assert {(one.event_type, one.said.partition(":")[0]) for one in found.differences} == {
        ("DepositMade", "it cannot be read now")
    }
    assert await read_everything(database) == before
    assert any("tonsurance sync" in line for line in describe_rescan(found))
    await plant(
        database,
        "UPDATE blockchain_events SET metadata = jsonb_set(metadata, '{amount}', '5') WHERE event_id ="
        " (SELECT min(event_id) FROM blockchain_events WHERE event_type = 'DepositMade')",
    )
    (difference,) = (await rescan(database)).differences
    assert difference.said.startswith("other now: amount 5 -> ")


async def test_what_is_in_the_log_by_now_only_leaves_the_quarantine(database: str) -> None:
    """A reconciliation with a new layout restores a vault's events by itself."""
    await register(database)
    first = told(10, 0, policy_created(1))
    await post(database, tell(10, first), tell(20, undecoded=(kept(told(20, 0, policy_created(2))),)))
    await plant(
        database,
        f"INSERT INTO blockchain_quarantine (contract_address, logical_time, message_index, transaction_hash, reason,"
        f" raw_body, block_time) VALUES ('{FACTORY}', 10, 0, '{first.transaction_hash.hex()}', 'unknown',"
        f" '\\x{first.raw_body.hex()}', to_timestamp({first.block_time}))",
    )
    found = await rescan(database)
    assert (found.applied, found.late, found.resolved, found.clean) == (True, 1, 2, True)
    by = await fetch(database, "SELECT resolved_by FROM blockchain_quarantine ORDER BY logical_time")
    assert [row["resolved_by"].partition(": ")[2] for row in by] == ["was in the log", "PolicyCreated"]


async def test_one_contract_alone_can_be_read_again(database: str) -> None:
    await follow(database, without("Paused"))
    with pytest.raises(InputError, match="never followed"):
        await rescan(database, contract="0:" + "00" * 32)
    found = await rescan(database, contract=FACTORY)
    assert (found.contracts, found.applied) == (1, True)
    assert {row["contract_address"] for row in await read_waiting(database)} == {VAULT}
    assert (await rescan(database)).applied
    assert await read_waiting(database) == []
    assert (await replay(database)).equal


async def test_a_kind_the_layout_does_not_know_is_said_and_left_alone(database: str) -> None:
    await follow(database, without("Paused"))
    conn = await connect(database)
    await conn.execute("SELECT add_contract($1, 'Parlour', 'other')", "0:" + "12" * 32)
    await conn.close()
    found = await rescan(database)
    assert found.applied
    assert "says nothing of Parlour" in found.skipped[0]


async def test_a_cut_at_any_point_changes_nothing_or_everything(database: str) -> None:
    """The connection breaks after more and more of what the rescan asks, through its whole length."""
    await follow(database, without("LossAbsorbed", "PolicyExpired"), events=120)
    before = await read_everything(database)
    counted = CuttingDoor(database)
    async with counted.open() as dsn:
        await rescan(dsn, dry_run=True)
    cuts, after, whole = 0, before, counted.asked
    for most in [*range(3, whole, whole // 6), *range(whole + 1, whole + 60, 4)]:
        async with CuttingDoor(database, most).open() as dsn:
            try:
                await rescan(dsn)
            except DatabaseUnavailable:
                cuts += 1
        after = await read_everything(database)
        if after != before:
            break
    assert cuts > 10
    if after == before:
        assert (await rescan(database)).applied
    assert await read_waiting(database) == []
    assert (await replay(database)).equal
    assert (await fetch(database, "SELECT count(*) AS many FROM ledger_rebuilds"))[0]["many"] == 1


async def test_nothing_is_lost_of_what_is_posted_meanwhile(pg: DatabaseServer, database: str) -> None:
    """The daemon was started again with the full layout, and posts one transaction after the other."""
    known = pg.create()
    await follow(known, LAYOUT, events=400)
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    later: dict[str, list[Any]] = {}
    for contract in (VAULT, FACTORY):
        made = accounts(22, 400)[contract]
        half = len(made) // 2
        for part in decode(made[:half], contract, without("LossAbsorbed", "WithdrawalRequested", "QuoteKeySet")):
            await writer.submit(part)
        one_by_one = decode(made[half:], contract, LAYOUT, [1] * len(made))
        later[contract] = [msgspec.structs.replace(one_by_one[0], after=made[half - 1].cursor), *one_by_one[1:]]
    posted: list[tuple[str, int]] = []
    done = asyncio.Event()

    async def go_on(contract: str) -> None:
        for part in later[contract]:
            if len(later[contract]) - len([lt for of, lt in posted if of == contract]) <= 5:
                await done.wait()
            await writer.submit(part)
            posted.append((contract, part.until.lt))

    tasks = [asyncio.create_task(go_on(contract)) for contract in (VAULT, FACTORY)]
    found = await rescan(database, batch_events=25)
    during = len(posted)
    done.set()
    await asyncio.gather(*tasks)
    await writer.close()
    assert 0 < during < sum(map(len, later.values())), "nothing was posted while the rescan ran"
    assert (found.applied, found.late > 0) == (True, True)
    assert await read_all(database) == await read_all(known)
    assert (await replay(database)).equal
    pg.drop(known)


SEEN = """
SELECT (SELECT version FROM ledger_head) AS version,
    (SELECT md5(string_agg(t::text, '' ORDER BY t.vault_id, t.tranche_id)) FROM (
        SELECT vault_id, tranche_id, total_capital_nanoton, coverage_sold_nanoton FROM tranche_utilization) t) AS now,
    (SELECT sum(coverage_delta_nanoton) FROM ledger_entries) AS entries,
    (SELECT count(*) FROM tranche_utilization_history) AS history,
    (SELECT sum(total_coverage) FROM product_exposure) AS exposure
"""


async def test_readers_see_the_old_rows_or_the_new_ones(database: str) -> None:
    await follow(database, without("CoverageChanged"))
    (before,) = await fetch(database, SEEN)
    done, seen = asyncio.Event(), set()

    async def read() -> None:
        conn = await connect(database)
        while not done.is_set():
            seen.add(tuple((await conn.fetch(SEEN))[0]))
        seen.add(tuple((await conn.fetch(SEEN))[0]))
        await conn.close()

    reading = asyncio.create_task(read())
    await rescan(database)
    done.set()
    await reading
    (after,) = await fetch(database, SEEN)
    assert before["now"] != after["now"]
    assert seen == {tuple(before.values()), tuple(after.values())}


async def test_two_at_once_are_refused_and_a_contradiction_in_the_log_is_said(database: str) -> None:
    await follow(database, without("Paused"))
    first = await connect(database)
    await first.execute("SELECT pg_advisory_lock(x'746F6E5F7265706C'::bigint)")
    with pytest.raises(NotReady, match="Another replay"):
        await rescan(database)
    await first.close()
    await plant(
        database,
        "DELETE FROM blockchain_events WHERE event_type = 'DepositMade' AND (metadata ->> 'tranche_id')::int = 1",
    )
    found = await rescan(database)
    assert (found.applied, found.clean) == (False, False)
    assert "would become" in (found.refused or "")
