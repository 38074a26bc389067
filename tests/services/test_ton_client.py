"""The chain as a library: real contracts in the TVM, read and acted on over HTTP, and their events to the last one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from pytoniq_core.boc.cell import Cell

from chain.fake_toncenter import LITE_SERVER, FakeTonCenter, Fault, serving
from chain.making import FACTORY, VAULT, external_out, make_chain, make_transaction
from chain.making import LAYOUT as TEST_LAYOUT
from chain.patience import QUICK
from services.street import LAYOUT, Street
from tonsurance.chain import messages
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.follow import Follower
from tonsurance.chain.v3 import V3Source
from tonsurance.core.errors import (
    GetMethodFailed,
    InputError,
    InvalidAddress,
    NotOurContract,
    SourcesDisagree,
    UsageError,
)
from tonsurance.core.events import (
    FACTORY_KIND,
    GENESIS,
    VAULT_KIND,
    ChainEvent,
    Cursor,
    DepositMade,
    FactorySet,
    PolicyCreated,
)
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer
from tonsurance.services.ton_client import OutgoingMessage, TonClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "chain_events.py"
POLL_S = 0.01


@pytest.fixture
def street() -> Street:
    with contextlib.closing(ChainStore()) as store:
        yield Street(store)


@pytest.fixture
async def url(street: Street) -> AsyncIterator[str]:
    async with running(street.chain) as address:
        yield address


@pytest.fixture
async def ton(url: str) -> AsyncIterator[TonClient]:
    async with TonClient(url, retry=QUICK) as client:
        yield client


@pytest.fixture
async def fake() -> AsyncIterator[FakeTonCenter]:
    """A vault of five transactions, each with one event."""
    async with serving(FakeTonCenter()) as server:
        server.accounts[VAULT] = list(make_chain(5))
        yield server


class Heard:
    """What a callback got; it ends the run when it has `enough`."""

    def __init__(self, enough: int | None = None) -> None:
        self.events: list[ChainEvent] = []
        self.stop = asyncio.Event()
        self._enough = enough

    def __call__(self, event: ChainEvent) -> None:
        self.events.append(event)
        if len(self.events) == self._enough:
            self.stop.set()

    @property
    def lts(self) -> list[int]:
        return [event.lt for event in self.events]


def send(street: Street, message: OutgoingMessage) -> None:
    """Alice sends what a program made."""
    body = Cell.one_from_boc(message.body)
    street.alice.send(street.chain, Transfer(destination=message.destination, value=message.value_nano, body=body))
    street.chain.mine_until_idle()


# ---- the documented functions


async def test_states_get_methods_and_transactions_are_read_by_any_form_of_an_address(
    ton: TonClient, street: Street
) -> None:
    street.deposit(1, 100)
    for vault in (street.contracts.vault, format_friendly(street.contracts.vault)):
        state = await ton.get_contract_state(vault)
        assert (state.status, state.balance_nano > 100 * NANO_PER_TON) == ("active", True)
        assert (await ton.call_get_method(vault, "get_tranche_state", [1])).stack[1] == 100 * NANO_PER_TON
        newest, *_ = transactions = await ton.get_transactions(vault, 2)
        assert len(transactions) == 2
        assert newest.cursor == state.last_transaction
        assert newest.previous == transactions[1].cursor
    with pytest.raises(InvalidAddress):
        await ton.get_contract_state("EQAbc123...")
    with pytest.raises(UsageError):
        await ton.get_transactions(street.contracts.vault, 101)
    with pytest.raises(GetMethodFailed):
        await ton.call_get_method(street.contracts.vault, "get_tranche_state", [9])


async def test_a_vault_is_read_and_acted_on_by_its_own_names(ton: TonClient, street: Street) -> None:
    vault = ton.vault(street.contracts.vault)
    before = (await ton.api.get_masterchain_info()).last.seqno
    send(street, vault.deposit(2, 50 * NANO_PER_TON))
    assert await vault.get_tranche_capital(2) == await vault.get_total_capital() == 50 * NANO_PER_TON
    assert await vault.get_tranche_capital(2, before) == 0
    reading = await vault.get_all_tranches()
    assert [row.capital for row in reading.tranches] == [0, 50 * NANO_PER_TON, 0, 0, 0, 0]
    assert [row.capital for row in (await vault.get_all_tranches(before)).tranches] == [0] * 6
    held = await vault.get_shares(street.alice.address, 2)
    assert (held.shares > 0, held.requested) == (True, 0)
    send(street, vault.request_withdraw(2, held.shares))
    assert (await vault.get_shares(street.alice.address, 2)).requested == held.shares
    assert (await vault.get_circuit_breaker()).opened_at == 0
    assert (await vault.get_vault_state()).paused is False
    with pytest.raises(InputError):
        vault.deposit(2, 0)


async def test_a_policy_is_bought_and_read_by_its_own_names(ton: TonClient, street: Street) -> None:
    street.fill()
    factory, vault = ton.factory(street.contracts.factory), ton.vault(street.contracts.vault)
    policy_id = await factory.get_next_policy_id()
    assert street.buy(10) == policy_id
    policy = await factory.get_policy(policy_id)
    assert (policy.state, policy.buyer, policy.coverage_amount) == (2, street.alice.address, 10 * NANO_PER_TON)
    assert (policy.chain_id, policy.trigger_bps, policy.sender, policy.payout) == (1, 9700, policy.buyer, 0)
    assert await vault.get_policy_coverage(policy_id) == 10 * NANO_PER_TON
    assert (await vault.get_claim(policy_id)).amount == 0
    assert (await factory.get_config()).policy_count == 1
    assert await factory.is_quote_used(1, 2) is False
    with pytest.raises(GetMethodFailed):
        await factory.get_policy(policy_id + 1)
    quote = messages.Quote(
        network_id=-3, factory=street.contracts.vault, quote_id=1, coverage_type=0, chain_id=0, stablecoin_id=0,
        coverage_amount=1, premium=1, duration_days=1, buyer=street.alice.address, deadline=1,
    )  # fmt: skip
    with pytest.raises(InputError, match="not of"):
        factory.create_policy(quote, bytes(64))


async def test_what_a_program_sends_is_what_the_builders_make() -> None:
    """Value and body of each message."""
    async with TonClient("http://127.0.0.1:9") as ton:
        vault, factory = ton.vault(VAULT), ton.factory(FACTORY)
    quote = messages.Quote(
        network_id=-3, factory=FACTORY, quote_id=1, coverage_type=0, chain_id=0, stablecoin_id=0,
        coverage_amount=5, premium=7, duration_days=1, buyer=VAULT, deadline=1,
    )  # fmt: skip
    for made, value, body in (
        (vault.deposit(3, 9, query_id=4), 9 + messages.DEPOSIT_GAS, messages.deposit(3, query_id=4)),
        (vault.request_withdraw(3, 9), messages.SIMPLE_GAS, messages.request_withdraw(3, 9)),
        (vault.withdraw(3), messages.SIMPLE_GAS, messages.withdraw(3)),
        (factory.create_policy(quote, bytes(64)), 7 + messages.REQUEST_GAS, messages.create_policy(quote, bytes(64))),
        (factory.expire_policy(8), messages.REQUEST_GAS, messages.expire_policy(8)),
        (factory.execute_payout(8, 6), messages.REQUEST_GAS, messages.execute_payout(8, 6)),
    ):
        assert made.value_nano == value
        assert Cell.one_from_boc(made.body).hash == body.hash


async def test_several_urls_make_one_client_and_a_given_one_stays_open(url: str, street: Street) -> None:
    async with TonClient(["http://127.0.0.1:9", url], retry=QUICK) as ton:
        assert (await ton.get_contract_state(street.contracts.vault)).status == "active"
        assert [endpoint.failures for endpoint in ton.endpoints] == [1, 0]
    async with TonCenterClient(url, retry=QUICK) as shared:
        await TonClient(shared).close()
        assert (await TonClient(shared).get_contract_state(street.contracts.vault)).status == "active"


# ---- events


async def test_every_event_comes_typed_in_order_and_once(ton: TonClient, street: Street) -> None:
    heard = Heard(enough=5)
    for amount in (10, 20):
        street.deposit(1, amount)
    following = asyncio.create_task(
        ton.events.subscribe(street.contracts.vault, poll_interval_seconds=POLL_S, callback=heard, stop=heard.stop)
    )
    async with asyncio.timeout(60):
        while len(heard.events) < 3:
            await asyncio.sleep(0)
        for amount in (30, 40):
            street.deposit(2, amount)
        cursor = await following
    assert isinstance(heard.events[0].body, FactorySet)
    deposits = [event.body for event in heard.events[1:] if isinstance(event.body, DepositMade)]
    assert [body.amount // NANO_PER_TON for body in deposits] == [10, 20, 30, 40]
    assert [body.depositor for body in deposits] == [street.alice.address] * 4
    assert cursor is not None
    assert cursor.lt == heard.lts[-1]
    assert {event.contract_kind for event in heard.events} == {VAULT_KIND}


async def test_a_policys_event_reaches_an_async_callback_of_the_factory(ton: TonClient, street: Street) -> None:
    street.fill()
    street.buy(10)
    heard = Heard(enough=1)

    async def callback(event: ChainEvent) -> None:
        await asyncio.sleep(0)
        heard(event)

    async with asyncio.timeout(60):
        await ton.Events(ton.api, LAYOUT).subscribe(
            street.contracts.factory, callback=callback, stop=heard.stop, poll_interval_seconds=POLL_S
        )
    assert isinstance(heard.events[0].body, PolicyCreated)
    assert heard.events[0].contract_kind == FACTORY_KIND


async def test_a_contract_that_is_none_of_ours_is_refused(ton: TonClient, street: Street) -> None:
    for address in (street.alice.address, "0:" + "77" * 32):
        with pytest.raises(NotOurContract):
            await ton.events.subscribe(address, callback=print)
    for wrong in ({"poll_interval_seconds": 0}, {"poll_interval_seconds": float("nan")}, {"initial_lt": -1}):
        with pytest.raises(UsageError):
            await ton.events.subscribe(street.contracts.vault, callback=print, **wrong)


def open_fake(fake: FakeTonCenter) -> TonClient:
    return TonClient(fake.url, retry=QUICK, layout=TEST_LAYOUT, breaker=BreakerPolicy(cooldown_s=0.01, cap_s=0.02))


@pytest.mark.parametrize("after", range(6))
async def test_events_begin_after_the_logical_time_given(fake: FakeTonCenter, after: int) -> None:
    lts = [item.cursor.lt for item in fake.accounts[VAULT]]
    heard = Heard(enough=5 - after)
    async with open_fake(fake) as ton, asyncio.timeout(60):
        subscription = await ton.events.open(
            VAULT, lts[after - 1] if after else None, POLL_S, callback=heard, kind=VAULT_KIND
        )
        following = asyncio.create_task(subscription.run(heard.stop))
        while after == 5 and fake.count("getAddressInformation") < 3:
            await asyncio.sleep(0)
        if after == 5:  # nothing is to come, and it was looked for again and again
            heard.stop.set()
        cursor = await following
    assert heard.lts == lts[after:]
    assert cursor == fake.accounts[VAULT][-1].cursor
    assert subscription.delivered == 5 - after


async def test_a_logical_time_between_two_transactions_and_one_before_all_are_understood(fake: FakeTonCenter) -> None:
    lts = [item.cursor.lt for item in fake.accounts[VAULT]]
    for initial, expected in ((lts[1] + 1, lts[2:]), (lts[2] - 1, lts[2:]), (0, lts), (1, lts)):
        heard = Heard(enough=len(expected))
        async with open_fake(fake) as ton, asyncio.timeout(60):
            await ton.events.subscribe(VAULT, initial, POLL_S, callback=heard, kind=VAULT_KIND, stop=heard.stop)
        assert heard.lts == expected


@pytest.mark.parametrize(
    "trouble",
    [[LITE_SERVER] * 14, [Fault(200, b"<html></html>")] * 12, [Fault(200, b'{"ok":true,"result":[]}')] * 9],
    ids=["outage", "HTML", "wrong answers"],
)
async def test_trouble_delays_events_and_loses_or_doubles_none(fake: FakeTonCenter, trouble: list[Fault]) -> None:
    heard = Heard(enough=5)
    async with open_fake(fake) as ton, asyncio.timeout(60):
        subscription = await ton.events.open(VAULT, None, POLL_S, callback=heard, kind=VAULT_KIND)
        fake.faults.extend(trouble)
        await subscription.run(heard.stop)
    assert heard.lts == [item.cursor.lt for item in fake.accounts[VAULT]]
    assert subscription.error is None
    assert not fake.faults


async def test_a_transaction_that_is_withheld_is_waited_for_not_skipped(fake: FakeTonCenter) -> None:
    heard = Heard(enough=5)
    fake.hide_lts = {fake.accounts[VAULT][2].cursor.lt}
    async with open_fake(fake) as ton, asyncio.timeout(60):
        subscription = await ton.events.open(VAULT, None, POLL_S, callback=heard, kind=VAULT_KIND)
        running_ = asyncio.create_task(subscription.run(heard.stop))
        while subscription.error is None:
            await asyncio.sleep(0)
        assert (subscription.error.code, heard.events, subscription.cursor) == ("broken_link", [], GENESIS)
        fake.hide_lts = set()
        await running_
    assert heard.lts == [item.cursor.lt for item in fake.accounts[VAULT]]


async def test_what_the_callback_raises_ends_the_run_before_its_transaction(fake: FakeTonCenter) -> None:
    made = fake.accounts[VAULT]

    def callback(event: ChainEvent) -> None:
        if event.lt == made[2].cursor.lt:
            raise RuntimeError("full")

    async with open_fake(fake) as ton, asyncio.timeout(60):
        subscription = await ton.events.open(VAULT, None, POLL_S, callback=callback, kind=VAULT_KIND)
        with pytest.raises(RuntimeError, match="full"):
            await subscription.run(asyncio.Event())
        assert subscription.cursor == made[1].cursor
        heard = Heard(enough=3)
        await ton.events.subscribe(
            VAULT, subscription.cursor.lt, POLL_S, callback=heard, kind=VAULT_KIND, stop=heard.stop
        )
    assert heard.lts == [item.cursor.lt for item in made[2:]]


async def test_a_hint_brings_the_next_look_at_once(fake: FakeTonCenter) -> None:
    heard, wake = Heard(enough=5), asyncio.Event()
    fake.hidden_newest = 1
    async with open_fake(fake) as ton, asyncio.timeout(60):
        following = asyncio.create_task(
            ton.events.subscribe(VAULT, None, 3600.0, callback=heard, kind=VAULT_KIND, stop=heard.stop, wake=wake)
        )
        while len(heard.events) < 4:
            await asyncio.sleep(0)
        fake.hidden_newest = 0
        wake.set()
        await following
    assert len(heard.events) == 5


async def test_a_message_no_layout_explains_is_counted_and_no_event(fake: FakeTonCenter) -> None:
    heard = Heard(enough=1)
    unknown = messages.build_cell(("uint32", 0xDEAD_BEEF))
    fake.accounts[VAULT] = [make_transaction(messages=[external_out(VAULT, unknown)])]
    async with open_fake(fake) as ton, asyncio.timeout(60):
        subscription = await ton.events.open(VAULT, None, POLL_S, callback=heard, kind=VAULT_KIND)
        following = asyncio.create_task(subscription.run(heard.stop))
        while subscription.cursor == GENESIS:
            await asyncio.sleep(0)
        heard.stop.set()
        await following
    assert (subscription.undecoded, heard.events) == (1, [])


# ---- the second source


async def test_the_local_chains_own_index_confirms_what_was_followed(url: str, ton: TonClient, street: Street) -> None:
    street.fill()
    street.buy(10)
    for address, kind in ((street.contracts.vault, VAULT_KIND), (street.contracts.factory, FACTORY_KIND)):
        follower = Follower(ton.api, address, kind)
        walk = await follower.walk(GENESIS, await follower.read_head())
        async with V3Source(url, retry=QUICK) as source:
            told = await source.confirm(address, walk.transactions)
            indexed = await source.get_transactions(address)
        assert (told.verdict, told.confirmed_until) == ("agrees", walk.transactions[-1].cursor)
        assert len(told.seqnos) == len(walk.transactions) > 2
        for ours, theirs in zip(walk.transactions, indexed, strict=True):
            assert ours.outcome is not None
            assert (ours.cursor, ours.previous) == (theirs.cursor, theirs.previous)
            assert ours.outcome.succeeded == theirs.succeeded
            bodies = {message.body.hash for message in theirs.out_messages if message.body is not None}
            assert {out.body.hash for out in ours.outcome.outs} <= bodies
        forged = msgspec.structs.replace(walk.transactions[1], cursor=Cursor(walk.transactions[1].cursor.lt, bytes(32)))
        async with V3Source(url, retry=QUICK) as source:
            with pytest.raises(SourcesDisagree) as caught:
                await source.confirm(address, [walk.transactions[0], forged, *walk.transactions[2:]])
        assert caught.value.lt == forged.cursor.lt


# ---- the example


async def run_example(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip


async def test_the_example_shows_events_of_the_local_chain_and_where_to_go_on(url: str, street: Street) -> None:
    street.deposit(1, 10)
    process = await run_example(f"http://127.0.0.1:9,{url}", street.contracts.vault)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert b"is active and has" in await process.stdout.readline()
        assert b"FactorySet" in await process.stdout.readline()
        assert b"deposit into tranche 1: 10.00 TON" in await process.stdout.readline()
        street.deposit(2, 20)
        assert b"deposit into tranche 2: 20.00 TON" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().startswith("Go on with ")


async def test_the_example_says_what_is_wrong(url: str) -> None:
    async with asyncio.timeout(60):
        for arguments, said in (((), "LT"), ((url, "EQnothing"), "is not a TON address"), (("x", "y"), "http")):
            process = await run_example(*arguments)
            _, told = await process.communicate()
            assert process.returncode == 1
            assert said in told.decode()
            assert "Traceback" not in told.decode()


@pytest.mark.parametrize("wrong", [None, True, b"0:00", 1.5])
async def test_values_of_another_type_are_refused_in_words(ton: TonClient, street: Street, wrong: object) -> None:
    with pytest.raises(InvalidAddress, match="is a text"):
        await ton.get_contract_state(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 to 100"):
        await ton.get_transactions(street.contracts.vault, limit=wrong)  # type: ignore[arg-type]
