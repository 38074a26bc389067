"""Damage to the factory's half of a ledger is found, explained, repaired, and written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chain.patience import QUICK
from services.ledger_tables import read_ledger
from services.street import LAYOUT
from services.syncing import JOURNAL, Desk, open_desk
from tonsurance.chain import messages
from tonsurance.chain.client import TonCenterClient
from tonsurance.db.pool import open_pool
from tonsurance.services.verdicts import describe_replay
from tonsurance.services.verification import VaultVerifier, Verification

_DAYS = 86_400
_ACTIVE = "(SELECT min(policy_id) FROM policies WHERE status = 'active')"
_EXPIRED = "(SELECT min(policy_id) FROM policies WHERE status = 'expired')"
_CLAIMED = "(SELECT min(policy_id) FROM policies WHERE status = 'claimed')"
_EXPOSURE = "UPDATE product_exposure SET total_coverage = total_coverage - 1000"
_CLOSED = "closed_lt = created_lt + 5, closed_message_index = 0, closed_at = now()"


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """Policies in force, claimed and expired."""
    async with open_desk(database) as desk:
        street = desk.street
        short = street.buy(120)
        street.chain.advance_time(31 * _DAYS)
        street._send(street.alice, street.contracts.factory, messages.REQUEST_GAS, messages.expire_policy(short))
        street.buy(170)
        await desk.catch_up()
        rows = await desk.rows("SELECT DISTINCT status FROM policies")
        assert {row["status"] for row in rows} == {"active", "claimed", "expired"}
        yield desk


async def verify(desk: Desk) -> Verification:
    """The ledger against the chain, as `verify` does it."""
    pool = await open_pool(desk.dsn)
    try:
        vault = desk.street.contracts.vault
        return await VaultVerifier(desk.client, pool, vault, LAYOUT, lambda _line: None, lag_patience_s=0.05).verify()
    finally:
        await pool.close()


Plant = tuple[str, ...]
PLANTS: dict[str, tuple[Plant, set[tuple[str, str, str | None]], str, str]] = {
    # name: (statements, (relation, fault, event class) that must be found, words of one, a table of the journal)
    "a deleted PolicyCreated": (
        (f"DELETE FROM blockchain_events WHERE event_type = 'PolicyCreated' AND policy_id = {_CLAIMED}",),
        {("blockchain_events", "missing", "PolicyCreated")},
        "is missing in the log",
        "blockchain_events",
    ),
    "a deleted PolicyCreated and its policy": (
        (
            f"DELETE FROM blockchain_events WHERE event_type = 'PolicyCreated' AND policy_id = {_ACTIVE}",
            f"DELETE FROM policies WHERE policy_id = {_ACTIVE}",
        ),
        {
            ("blockchain_events", "missing", "PolicyCreated"),
            ("policies", "missing", "PolicyCreated"),
            ("product_exposure", "altered", None),
        },
        "is missing in the log",
        "policies",
    ),
    "an altered event": (
        (
            "UPDATE blockchain_events SET metadata = jsonb_set(metadata, '{coverage_amount}', '7')"
            f" WHERE event_type = 'PolicyCreated' AND policy_id = {_ACTIVE}",
        ),
        {("blockchain_events", "altered", "PolicyCreated")},
        "stands altered in the log: metadata",
        "blockchain_events",
    ),
    "an event that cannot be read": (
        (f"UPDATE blockchain_events SET metadata = '[]' WHERE event_type LIKE 'Policy%' AND policy_id = {_ACTIVE}",),
        {("blockchain_events", "altered", "PolicyCreated")},
        "metadata",
        "blockchain_events",
    ),
    "a foreign event": (
        (
            "INSERT INTO blockchain_events (event_type, policy_id, contract_address, contract_type, transaction_hash,"
            " logical_time, message_index, metadata, raw_body, decoder, block_time, ledger_version, params_version)"
            " SELECT event_type, policy_id, contract_address, contract_type, transaction_hash, logical_time,"
            " message_index + 9, metadata, raw_body, decoder, block_time, ledger_version, params_version"
            " FROM blockchain_events WHERE event_type = 'PolicyExpired'",
        ),
        {("blockchain_events", "foreign", "PolicyExpired")},
        "stands in the log and not on the chain",
        "blockchain_events",
    ),
    "a changed cover": (
        (f"UPDATE policies SET coverage_amount_nanoton = 5 WHERE policy_id = {_ACTIVE}",),
        {("policies", "altered", "PolicyCreated"), ("product_exposure", "altered", None)},
        "coverage_amount_nanoton is 5 and must be",
        "policies",
    ),
    "a changed exposure": (
        (_EXPOSURE,),
        {("product_exposure", "altered", None)},
        "The exposure of product 0/1/0 is 2 policies",
        "product_exposure",
    ),
    "an exposure of nothing": (
        ("UPDATE product_exposure SET total_coverage = 0, policy_count = 0, total_premium = 0",),
        {("product_exposure", "altered", None)},
        "is 0 policies, cover 0, premium 0 and must be 2 policies",
        "product_exposure",
    ),
    "a policy ended by hand": (
        (f"UPDATE policies SET status = 'expired', {_CLOSED} WHERE policy_id = {_ACTIVE}",),
        {("policies", "altered", "PolicyCreated"), ("product_exposure", "altered", None)},
        "status is expired and must be active",
        "policies",
    ),
    "a policy opened by hand": (
        (
            "UPDATE policies SET status = 'active', closed_lt = NULL, closed_message_index = NULL, closed_at = NULL"
            f" WHERE policy_id = {_EXPIRED}",
        ),
        {("policies", "altered", "PolicyExpired"), ("product_exposure", "altered", None)},
        "status is active and must be expired",
        "policies",
    ),
    "a deleted policy": (
        (f"DELETE FROM policies WHERE policy_id = {_CLAIMED}",),
        {("policies", "missing", "PayoutExecuted")},
        "is missing.",
        "policies",
    ),
    "a foreign policy": (
        (
            "CREATE TEMP TABLE one AS SELECT * FROM policies WHERE status = 'expired' LIMIT 1",
            "UPDATE one SET policy_id = 77",
            "INSERT INTO policies SELECT * FROM one",
        ),
        {("policies", "foreign", None)},
        "Policy 77 was made by no event.",
        "policies",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("known", [False, True], ids=["never looked at", "found equal before"])
async def test_damage_to_the_factorys_half_is_found_named_repaired_and_journalled(
    desk: Desk, name: str, known: bool
) -> None:
    statements, faults, words, journalled = PLANTS[name]
    right, logged = await read_ledger(desk.dsn), await _read_half(desk)
    assert (await verify(desk)).equal
    if known:
        assert (await desk.run()).status == "equal"
    await desk.plant(*statements)
    assert not (await verify(desk)).equal
    result = await desk.run()
    named = {(group.relation, group.fault.value, group.event_type) for group in result.findings}
    assert named == faults, result.findings
    assert any(words in example for group in result.findings for example in group.examples), result.findings
    assert result.status == "repaired", result
    assert await read_ledger(desk.dsn) == right
    assert await _read_half(desk) == logged
    journal = await desk.rows(JOURNAL)
    assert len(journal) == result.adjustments > 0
    assert journalled in {row["relation"] for row in journal}
    again = await desk.replay()
    assert again.equal, "\n".join(describe_replay(again))
    assert (await verify(desk)).equal
    after = await desk.run()
    assert (after.status, after.adjustments) == ("equal", 0), after


async def test_without_repair_damage_is_only_named(desk: Desk) -> None:
    await desk.plant(_EXPOSURE, f"DELETE FROM policies WHERE policy_id = {_CLAIMED}")
    result = await desk.run(repair=False)
    assert (result.status, result.adjustments, len(result.findings)) == ("drifted", 0, 2)
    assert (await desk.run(repair=False)).status == "drifted"


async def test_a_repaired_ledger_takes_the_next_policies(desk: Desk) -> None:
    await desk.plant("UPDATE product_exposure SET total_coverage = 0, policy_count = 0, total_premium = 0")
    assert (await desk.run()).status == "repaired"
    street = desk.street
    street.buy(10)
    await desk.catch_up()
    assert (await desk.run()).status == "equal"
    assert (await desk.replay()).equal


class Counting(TonCenterClient):
    """Who asks for transactions of which contract."""

    asked: tuple[str, ...] = ()

    async def get_transactions(self, address: str, **named: Any) -> Any:
        self.asked += (address,)
        return await super().get_transactions(address, **named)


async def test_a_run_reads_only_what_the_factory_did_since_the_last_one(desk: Desk) -> None:
    factory = desk.street.contracts.factory
    async with Counting(desk.client.base_url, retry=QUICK) as client:
        assert (await desk.run(client=client)).status == "equal"
        assert factory in client.asked
        client.asked = ()
        assert (await desk.run(client=client)).status == "equal"
        assert client.asked == ()
        await desk.plant(
            f"DELETE FROM blockchain_events WHERE contract_address = '{factory}' AND policy_id = {_ACTIVE}"
        )
        assert (await desk.run(client=client)).status == "repaired"
        assert factory in client.asked


@pytest.mark.parametrize("which", [_EXPIRED, _ACTIVE], ids=["two events", "one event"])
async def test_a_policy_that_waits_in_quarantine_is_not_missing(desk: Desk, which: str) -> None:
    factory, number = desk.street.contracts.factory, (await desk.rows(f"SELECT {which} AS number"))[0]["number"]
    its_events = f"contract_address = '{factory}' AND policy_id = {number}"
    await desk.plant(
        "INSERT INTO blockchain_quarantine (contract_address, logical_time, message_index, transaction_hash, raw_body,"
        " block_time, reason, policy_id) SELECT contract_address, logical_time, message_index, transaction_hash,"
        f" raw_body, block_time, 'there is no chain 200', policy_id FROM blockchain_events WHERE {its_events}",
        f"DELETE FROM blockchain_events WHERE {its_events}",
        f"DELETE FROM policies WHERE {its_events}",
        "SELECT update_product_exposure_cache()",
    )
    result = await desk.run()
    assert (result.status, result.findings, result.unreadable) == ("equal", (), ())


async def test_drift_of_the_factorys_half_is_repaired_beside_a_writer_that_posts(desk: Desk) -> None:
    async with desk.following():
        for number in range(2):
            await desk.plant(_EXPOSURE, f"UPDATE policies SET premium_nanoton = 3 WHERE policy_id = {_CLAIMED}")
            looking = asyncio.create_task(desk.run())
            while not looking.done():
                desk.street.buy(3 + number)
                await asyncio.sleep(0.03)
            assert (await looking).status == "repaired"
            assert (await desk.run()).status == "equal"
    found = await desk.replay()
    assert found.equal, found.differences


async def test_beside_a_posting_writer_nothing_is_called_a_drift(desk: Desk) -> None:
    street, statuses = desk.street, []
    async with desk.following(), desk.sync() as service:
        for turn in range(6):
            bought = street.buy(20 + turn)
            running = asyncio.create_task(service.sync_now())
            if turn % 2:
                street.pay_out(bought, 20)
            (result,) = await running
            statuses.append((result.status, result.findings, result.differences))
    assert statuses == [("equal", (), ())] * 6
    await desk.catch_up()
    assert (await verify(desk)).equal


async def _read_half(desk: Desk) -> list[dict[str, object]]:
    """The factory's rows, all columns but those that say when a row was written."""
    return [
        *await desk.rows("SELECT to_jsonb(p)::text AS row FROM policies p ORDER BY contract_address, policy_id"),
        *await desk.rows(
            "SELECT coverage_type, total_coverage, policy_count, total_premium FROM product_exposure ORDER BY 1"
        ),
        *await desk.rows(
            "SELECT (to_jsonb(e) - 'event_id' - 'ingested_at' - 'created_at' - 'ledger_version'"
            " - 'params_version')::text AS row"
            " FROM blockchain_events e ORDER BY contract_address, logical_time, message_index"
        ),
    ]
