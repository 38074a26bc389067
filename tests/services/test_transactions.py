"""Every message to our contracts is accounted for to the nano, and the look-up says what became of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import msgspec
import pytest
from pytoniq_core.boc.cell import Cell

from chain.conftest import QUICK
from db.chain_story import START_TIME, batch, cursor_at, deposit, register, transaction
from services.accounting import Flow, Till
from services.ledger_tables import reading
from services.rescanning import LAYOUT, follow, replay, rescan, without
from services.street import caught_up, following
from tonsurance.chain import messages
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.errors import CursorConflict, LedgerRefused
from tonsurance.core.events import DIRECT_KIND, CoverageChanged, DecodedTransaction, TransactionFacts
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.sale_errors import UnknownTransaction
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.migrate import load_migrations
from tonsurance.db.pool import connect, open_pool
from tonsurance.db.roles import ROLE_OF
from tonsurance.db.transactions import insert_transactions
from tonsurance.localnet.cells import builder, raw_address
from tonsurance.localnet.keeper import Keeper
from tonsurance.localnet.market import Market
from tonsurance.localnet.register import Register
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.factory_state import FactoryStates, FactoryWatch
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.transaction_reads import Lookup, TransactionReads
from tonsurance.services.wallet_requests import Prepared, WalletRequests

TON = NANO_PER_TON
DAY_S = 86_400
GRACE_S = 600


class Books:
    """The chain, and the ledger of it."""

    def __init__(self, dsn: str, till: Till, client: TonCenterClient, reads: TransactionReads) -> None:
        self.dsn = dsn
        self.till = till
        self.client = client
        self.reads = reads

    async def catch_up(self) -> None:
        """The daemon posts everything, and is gone again."""
        pool = await open_pool(self.dsn)
        try:
            async with following(self.client, self.till, self.dsn, pool):
                await caught_up(pool, self.till, self.client)
        finally:
            await pool.close()

    async def rows(self, sql: str, *values: object) -> list[dict[str, object]]:
        """What the database holds."""
        conn = await connect(self.dsn)
        try:
            return [dict(row) for row in await conn.fetch(sql, *values)]
        finally:
            await conn.close()

    async def find(self, flow: Flow) -> Lookup:
        """The look-up of a flow's first transaction."""
        return await self.reads.find(flow.first.view.hash)


@pytest.fixture
async def books(database: str) -> AsyncIterator[Books]:
    """A filled vault, followed by nobody yet."""
    async with open_books(database) as books:
        yield books


@asynccontextmanager
async def open_books(database: str) -> AsyncIterator[Books]:
    with closing(ChainStore()) as store:
        till = Till(store)
        till.fill()
        pool = LazyPool(database, role=ROLE_OF["api"])
        async with running(till.chain) as url, TonCenterClient(url, retry=QUICK) as client:
            yield Books(database, till, client, TransactionReads(pool))
        await pool.close()


def check_money(till: Till, flow: Flow, *, premium: int = 0, claims: int = 0, stays: int = 0) -> int:
    """Value sent = fees + premium kept + what came back, and the contracts hold exactly what they booked; returns
    what came back to the sender."""
    vault, factory = till.watched
    back = flow.paid(claims=False)
    assert set(back) <= {flow.sender}
    returned = back.get(flow.sender, 0)
    assert flow.value == flow.fees + premium + returned + stays
    assert flow.kept(vault) == premium - claims
    assert flow.kept(factory) == stays
    assert sum(flow.paid(claims=True).values()) == claims
    return returned


async def check_books(books: Books) -> None:
    """Every transaction of the two contracts is recorded once, as another reader sees it; totals are the vault's."""
    till = books.till
    expected = {}
    for flow in till.flows:
        for made in flow.made:
            asked = made.asked
            expected[made.view.hash] = (
                made.account,
                made.view.lt,
                bytes(made.view.in_message.hash) if made.view.in_message else None,
                bytes(asked.body.hash),
                raw_address(asked.source),
                asked.value,
                asked.bounced,
                made.view.exit_code,
                made.view.succeeded and made.view.exit_code in (0, 1),
            )
    rows = await books.rows("SELECT * FROM blockchain_transactions")
    told = {
        row["hash"]: (
            row["contract_address"], row["logical_time"], row["in_msg_hash"], row["body_hash"], row["sender"],
            row["value_nano"], row["bounced"], row["exit_code"], row["succeeded"],
        )
        for row in rows
    }  # fmt: skip
    assert {key: told.get(key) for key in expected} == expected
    on_chain = sum(len(till.chain.transactions(contract, limit=100_000)) for contract in till.watched)
    assert len(rows) == on_chain
    _, capital, coverage, unearned, *_ = till.chain.get_method(till.contracts.vault, "get_vault_state").stack
    [sums] = await books.rows(
        "SELECT sum(total_capital_nanoton)::text AS capital, sum(coverage_sold_nanoton)::text AS coverage,"
        " sum(unearned_premium_nanoton)::text AS unearned FROM tranche_utilization"
    )
    assert sums == {"capital": str(capital), "coverage": str(coverage), "unearned": str(unearned)}
    assert till.chain.balance(till.contracts.vault) >= capital + unearned
    [policies] = await books.rows(
        "SELECT count(*) AS alive, coalesce(sum(coverage_amount_nanoton), 0)::text AS cover FROM policies"
        " WHERE status IN ('active', 'approved')"
    )
    assert policies == {
        "alive": till.chain.get_method(till.contracts.factory, "get_factory_config").stack[11],
        "cover": str(coverage),
    }


async def test_every_purchase_is_accounted_for_and_told(books: Books) -> None:
    till = books.till
    buyer, other = till.wallet("buyer"), till.wallet("other")
    factory = till.contracts.factory
    good = till.quote(buyer.address)
    bought = till.buy_with(buyer, good, value=good.premium + 5 * TON)
    replayed = till.buy_with(buyer, good)
    stolen = till.buy_with(other, good)
    refused = {
        "quote_expired": till.buy_with(buyer, till.quote(buyer.address, deadline=till.chain.now)),
        "low_value": till.buy_with(buyer, till.quote(buyer.address), value=10 * TON),
        "bad_signature": till.buy_with(buyer, till.quote(buyer.address), key=bytes(32)),
        "not_buyer": till.buy_with(other, till.quote(buyer.address)),
        "wrong_factory": till.buy_with(buyer, till.quote(buyer.address, factory=till.contracts.vault)),
        "wrong_network": till.buy_with(buyer, till.quote(buyer.address, network_id=-239)),
        "deadline_too_far": till.buy_with(buyer, till.quote(buyer.address, deadline=till.chain.now + 5_000)),
        "unknown_op": till.send(buyer, factory, 3 * TON, builder().end_cell()),
        "cell_underflow": till.send(buyer, factory, TON, messages.build_cell(("uint32", 0x0A4F4DF4), ("uint64", 1))),
    }
    admin = till.send(till.admin, factory, messages.SIMPLE_GAS, messages.pause())
    refused["paused"] = till.buy_with(buyer, till.quote(buyer.address))
    till.send(till.admin, factory, messages.SIMPLE_GAS, messages.unpause())
    lost = till.send(buyer, factory, TON, builder().store_uint(0, 32).end_cell(), bounce=False)
    await books.catch_up()

    returned = check_money(till, bought, premium=good.premium)
    found = await books.find(bought)
    assert (found.status, found.stage, found.refunded, found.refunded_to) == (
        "confirmed", "backed", returned, buyer.address,
    )  # fmt: skip
    assert [event.event_type for event in found.events] == ["PolicyCreated"]
    assert found.policy is not None
    assert (found.policy.factory, found.policy.policy_id) == (factory, 1)
    by_payload = await books.reads.find(bought.payload_hash)
    assert by_payload.row is not None
    assert by_payload.row.hash == bought.first.view.hash, "the one that succeeded comes before the replays"
    assert set(by_payload.others) == {replayed.first.view.hash, stolen.first.view.hash}
    of_other = await books.reads.find(bought.payload_hash, other.address)
    assert (of_other.status, of_other.reason and of_other.reason.name) == ("failed", "not_buyer")
    message = bought.first.view.in_message
    assert message is not None
    assert (await books.reads.find(bytes(message.hash))).stage == "backed"

    for name, flow in {**refused, "quote_used": replayed}.items():
        returned = check_money(till, flow)
        found = await books.find(flow)
        assert (found.status, found.stage, found.reason and found.reason.name) == ("failed", "refused", name)
        assert (found.refunded, found.refunded_to, found.policy) == (returned, flow.sender, None), name
    stays = lost.value - lost.fees
    check_money(till, lost, stays=stays)
    found = await books.find(lost)
    assert (found.status, found.refunded) == ("failed", 0)
    check_money(till, admin)
    assert (await books.find(admin)).stage == "done"
    await check_books(books)


async def test_what_the_vault_refuses_comes_back_and_says_why(books: Books) -> None:
    till = books.till
    buyer = till.wallet("buyer")
    vault = till.contracts.vault
    large = till.quote(buyer.address, coverage_amount=1_000 * TON)
    refused = {"policy_too_large": till.buy_with(buyer, large, value=large.premium + 3 * TON)}
    till.send(till.admin, vault, messages.SIMPLE_GAS, messages.pause())
    refused["paused"] = till.buy_with(buyer, till.quote(buyer.address))
    till.send(till.admin, vault, messages.SIMPLE_GAS, messages.unpause())
    asked = till.buy_with(buyer, till.quote(buyer.address), blocks=2)  # wallet, factory; the vault is to come
    await books.catch_up()
    for name, flow in refused.items():
        returned = check_money(till, flow)
        found = await books.reads.find(flow.payload_hash)
        assert (found.status, found.stage, found.reason and found.reason.name) == ("failed", "refused_by_vault", name)
        assert (found.refunded, found.refunded_to) == (returned, buyer.address)
        assert found.answer is not None
        assert [event.event_type for event in found.events] == ["PolicyRefused"]
        assert found.policy is None

    found = await books.reads.find(asked.payload_hash)
    assert (found.status, found.stage, found.answer, found.refunded) == ("pending", "awaiting_vault", None, 0)
    assert found.followed_until is not None
    till.follow(asked)
    await books.catch_up()
    returned = check_money(till, asked, premium=till.quote("0:" + "00" * 32).premium)
    found = await books.reads.find(asked.payload_hash)
    assert (found.status, found.stage, found.refunded) == ("confirmed", "backed", returned)
    await check_books(books)


async def test_claims_paid_refused_deferred_and_cancelled_are_accounted_for(books: Books) -> None:
    till = books.till
    buyer = till.wallet("buyer")
    factory, vault = till.watched[1], till.watched[0]
    policies = []
    for _ in range(4):
        quote = till.quote(buyer.address, coverage_amount=290 * TON)
        check_money(till, till.buy_with(buyer, quote), premium=quote.premium)
        policies.append(till.chain.get_method(factory, "get_next_policy_id").stack[0] - 1)
    till.chain.advance_time(3_600)

    def approve(policy_id: int) -> Flow:
        body = messages.execute_payout(policy_id, 290 * TON)
        return till.send(till.claims, factory, messages.REQUEST_GAS + 3, body)

    till.send(till.admin, vault, messages.SIMPLE_GAS, messages.freeze(till.chain.now + 600))
    frozen = approve(policies[0])
    till.send(till.admin, vault, messages.SIMPLE_GAS, messages.freeze(till.chain.now))
    paid = [approve(policies[0]), approve(policies[1])]
    held = approve(policies[2])
    late = till.buy_with(buyer, till.quote(buyer.address))
    early = till.send(buyer, vault, messages.REQUEST_GAS, messages.execute_claim(policies[2]))
    cancelled = till.send(till.admin, vault, messages.SIMPLE_GAS, messages.cancel_claim(policies[2]))
    await books.catch_up()

    for flow in (frozen, held):
        check_money(till, flow)
    for flow in paid:
        check_money(till, flow, claims=290 * TON)
        assert flow.paid(claims=True) == {buyer.address: 290 * TON}
        found = await books.find(flow)
        assert (found.status, [event.event_type for event in found.events]) == ("confirmed", ["PayoutApproved"])
        assert found.policy is not None
    check_money(till, late)
    found = await books.find(late)
    assert (found.stage, found.reason and found.reason.name) == ("refused_by_vault", "claim_due")
    check_money(till, early)
    assert (await books.find(early)).reason.name == "claim_not_due"  # type: ignore[union-attr]
    check_cancelled(till, cancelled, buyer.address)
    refusals = await books.rows(
        "SELECT exit_code, refunded_nano FROM blockchain_transactions WHERE policy_id = $1 AND NOT succeeded",
        policies[0],
    )
    assert [row["exit_code"] for row in refusals] == [123]
    bounced = await books.rows(
        "SELECT op, refunded_nano, refunded_to FROM blockchain_transactions WHERE bounced AND policy_id = $1",
        policies[0],
    )
    returned = frozen.paid(claims=False)[till.claims.address]
    assert bounced == [{"op": 0x0618211E, "refunded_nano": returned, "refunded_to": till.claims.address}]
    await check_books(books)


def check_cancelled(till: Till, flow: Flow, buyer: str) -> None:
    """The vault's admin pays for the answer to the factory. Nobody had asked for it, so its rest is the buyer's."""
    back = flow.paid(claims=False)
    assert set(back) == {till.admin.address, buyer}
    assert flow.value == flow.fees + sum(back.values())
    assert [flow.kept(contract) for contract in till.watched] == [0, 0]


async def test_the_keeper_ends_policies_and_the_ledger_says_so(books: Books) -> None:
    till = books.till
    buyer = till.wallet("buyer")
    quotes = [till.quote(buyer.address, duration_days=days) for days in (1, 1, 30)]
    for quote in quotes:
        till.buy_with(buyer, quote)
    early = till.send(buyer, till.contracts.factory, messages.REQUEST_GAS, messages.expire_policy(1))
    market = Market(till.chain, till.contracts)
    keeper = Keeper(market, Register(market), claim_grace_s=GRACE_S)
    till.chain.airdrop(keeper.person.address, 100 * TON)
    till.chain.mine_until_idle()
    till.chain.advance_time(DAY_S)  # the cover is over, the time to claim is not
    keeper.act()
    assert till.chain.waiting == 0
    till.chain.advance_time(GRACE_S + 60)
    for _ in range(12):
        keeper.act()
        till.chain.mine()
    till.chain.mine_until_idle()
    await books.catch_up()

    check_money(till, early)
    assert (await books.find(early)).reason.name == "not_ended"  # type: ignore[union-attr]
    rows = await books.rows("SELECT policy_id, status, closed_lt IS NULL AS open FROM policies ORDER BY policy_id")
    assert [(row["policy_id"], row["status"], row["open"]) for row in rows] == [
        (1, "expired", False), (2, "expired", False), (3, "active", True),
    ]  # fmt: skip
    [left] = await books.rows("SELECT sum(coverage_sold_nanoton)::text AS sold FROM tranche_utilization")
    assert left == {"sold": str(200 * TON)}
    [asked] = await books.rows(
        "SELECT hash, sender, succeeded FROM blockchain_transactions"
        " WHERE op = $1 AND policy_id = 1 AND succeeded", 0x7A4D752A,
    )  # fmt: skip
    assert asked["sender"] == keeper.person.address
    await check_books(books)


async def test_every_message_a_wallet_was_told_to_send_is_found_by_its_own_payload(books: Books) -> None:
    till = books.till
    savers = [till.wallet(name) for name in ("first", "second", "first")]
    await books.catch_up()
    pool = LazyPool(books.dsn, role=ROLE_OF["daemon"])
    await FactoryWatch(books.client, pool).read_all()
    requests = WalletRequests(FactoryStates(pool))
    vault, flows = till.contracts.vault, []
    for saver in savers:
        made = await requests.deposit("main", "SURE-SNR", 5 * TON)
        body = read_payload(made)
        with pytest.raises(UnknownTransaction):
            await books.reads.find(bytes.fromhex(made.request.payload_hash))
        flows.append(till.send(saver, vault, made.value_nano, body))
        assert flows[-1].payload_hash.hex() == made.request.payload_hash
    asked = await requests.request_withdrawal("main", "SURE-SNR", 1)
    flows.append(till.send(savers[0], vault, asked.value_nano, read_payload(asked)))
    await pool.close()
    await books.catch_up()
    for flow in flows:
        found = await books.reads.find(flow.payload_hash)
        assert found.row is not None
        assert (found.row.hash, found.row.sender) == (flow.first.view.hash, flow.sender)
        assert (found.status, found.others, found.ambiguous) == ("confirmed", (), False)
        assert found.row.query_id == int.from_bytes(bytes(flow.body.begin_parse().load_bytes(12))[4:], "big")
    assert [len((await books.find(flow)).events) for flow in flows[:3]] == [1, 1, 1]
    await check_books(books)


def read_payload(made: Prepared) -> Cell:
    """The body a wallet is told to send."""
    (message,) = made.request.transaction.messages
    return Cell.one_from_boc(base64.b64decode(message.payload))


async def test_what_nobody_has_heard_of_is_unknown(books: Books) -> None:
    await books.catch_up()
    with pytest.raises(UnknownTransaction):
        await books.reads.find(bytes(32))


async def recorded(dsn: str) -> list[int]:
    """The logical times of all recorded transactions."""
    async with reading(dsn) as conn:
        rows = await conn.fetch(
            "SELECT logical_time FROM blockchain_transactions ORDER BY contract_address, logical_time"
        )
    return [row["logical_time"] for row in rows]


def failed(lt: int) -> DecodedTransaction:
    """A transaction that produced nothing."""
    return DecodedTransaction(
        cursor=cursor_at(lt), block_time=START_TIME + lt, succeeded=False, facts=TransactionFacts(exit_code=119)
    )


async def test_a_transaction_is_recorded_with_its_batch_or_not_at_all(database: str) -> None:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(failed(10), transaction(20, deposit(1, TON)), transaction(30)))
    impossible = transaction(50, CoverageChanged(1, (-1, 0, 0, 0, 0, 0)))
    with pytest.raises(LedgerRefused):
        await writer.submit(batch(failed(40), impossible, failed(60), after=cursor_at(30)))
    with pytest.raises(CursorConflict):
        await writer.submit(batch(failed(10), transaction(20, deposit(1, TON))))
    await writer.close()
    assert await recorded(database) == [10, 20, 30, 40]
    async with reading(database) as conn:
        [row] = await conn.fetch("SELECT succeeded, exit_code FROM blockchain_transactions WHERE logical_time = 10")
        assert tuple(row) == (False, 119)


async def test_a_transaction_delivered_twice_is_one_row_and_none_is_ever_changed(database: str) -> None:
    await register(database)
    async with reading(database) as conn:
        twice = batch(failed(10), transaction(20, deposit(1, TON)))
        otherwise = batch(msgspec.structs.replace(failed(10), facts=TransactionFacts(exit_code=1)))
        for delivered in ([twice], [twice, otherwise]):
            await insert_transactions(conn, delivered)
        assert await recorded(database) == [10, 20]
        assert await conn.fetchval("SELECT max(exit_code) FROM blockchain_transactions") == 119
        for change in ("UPDATE {} SET exit_code = 0", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(Exception, match="append-only"):
                await conn.execute(change.format("blockchain_transactions"))


async def test_updates_of_direct_vaults_are_no_transactions(database: str) -> None:
    async with reading(database) as conn:
        made = msgspec.structs.replace(batch(transaction(10)), contract_kind=DIRECT_KIND)
        await insert_transactions(conn, [made])
    assert await recorded(database) == []


async def test_a_replay_and_a_rescan_leave_the_transactions_as_the_chain_made_them(database: str) -> None:
    async with reading(database) as conn:
        await follow(database, without("PolicyExpired"))
        before = await conn.fetch("SELECT * FROM blockchain_transactions ORDER BY contract_address, logical_time")
        assert len(before) > 100
        assert (await rescan(database)).applied
        await replay(database)
        after = await conn.fetch("SELECT * FROM blockchain_transactions ORDER BY contract_address, logical_time")
    assert [tuple(row) for row in after] == [tuple(row) for row in before]


async def test_transactions_before_the_table_are_known_by_their_events(database: str) -> None:
    """What the migration finds in a ledger that is older than it."""
    await follow(database, LAYOUT)
    statement = next(
        part for part in load_migrations()[21].sql.split(";") if "INSERT INTO blockchain_transactions" in part
    )
    async with reading(database) as conn:
        told = await conn.fetch(
            "SELECT DISTINCT contract_address, logical_time, transaction_hash FROM blockchain_events ORDER BY 1, 2"
        )
        await conn.execute("SET session_replication_role = replica")
        await conn.execute("TRUNCATE blockchain_transactions")
        await conn.execute(statement)
        known = await conn.fetch(
            "SELECT contract_address, logical_time, encode(hash, 'hex') AS hash, succeeded, op"
            " FROM blockchain_transactions ORDER BY 1, 2"
        )
    assert [tuple(row)[:3] for row in known] == [tuple(row) for row in told]
    assert {(row["succeeded"], row["op"]) for row in known} == {(True, None)}
