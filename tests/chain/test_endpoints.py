"""Several endpoints: one that is away, late or wrong costs nothing but its turn, and no key ever leaves its own."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import structlog

from chain.fake_toncenter import (
    DISCONNECT,
    GATEWAY,
    HANG,
    HTML_WITH_200,
    LITE_SERVER,
    RATE_LIMITED,
    TONLIB,
    TRUNCATED,
    FakeTonCenter,
    Fault,
    after,
    serving,
)
from chain.making import VAULT, make_chain
from chain.patience import IMPATIENT, GivesUpHangs, ThreeTries
from tonsurance import metrics
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.ratelimit import assign_buckets
from tonsurance.chain.retry import RetryPolicy
from tonsurance.chain.urls import assign_keys, split_urls
from tonsurance.core.errors import (
    ChainDataError,
    ChainUnavailable,
    GetMethodFailed,
    HashMismatch,
    HeadWentBack,
    RateLimited,
    UsageError,
)

NO_PAUSE = RetryPolicy(timeout_s=30.0, deadline_s=7200.0, base_s=3600.0, cap_s=3600.0)
"""A pause between attempts would never end: who answers with this policy went on at once."""
BRIEF = RetryPolicy(timeout_s=30.0, deadline_s=120.0, base_s=0.001, cap_s=0.01)
"""Ends when the breakers open."""
BREAKER = BreakerPolicy(threshold=3, cooldown_s=10.0, cap_s=40.0)
NOT_IN_DB = Fault(500, b'{"ok":false,"error":"LITE_SERVER_UNKNOWN: cannot find block: seqno not in db","code":500}')
NOT_LOCATED = Fault(500, b'{"ok":false,"error":"cannot locate transaction in block","code":500}')
BAD_KEY = Fault(401, b'{"ok":false,"error":"API key does not exist","code":401}')
FAULTS = {
    "429": RATE_LIMITED,
    "429 with Retry-After": after(100),
    "500 LITE_SERVER": LITE_SERVER,
    "542": TONLIB,
    "502 HTML": GATEWAY,
    "200 HTML": HTML_WITH_200,
    "truncated JSON": TRUNCATED,
    "disconnect": DISCONNECT,
    "hang": HANG,
    "401": BAD_KEY,
}
CALLS: dict[str, Callable[[TonCenterClient], Awaitable[object]]] = {
    "getMasterchainInfo": lambda client: client.get_masterchain_info(),
    "getAddressInformation": lambda client: client.get_address_information(VAULT),
    "getTransactions": lambda client: client.get_transactions(VAULT),
    "runGetMethod": lambda client: client.run_get_method(VAULT, "get_next_policy_id"),
}


class Clock:
    """Time that passes when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fill(fake: FakeTonCenter) -> FakeTonCenter:
    fake.accounts[VAULT] = list(make_chain(3))
    fake.methods["get_next_policy_id"] = {"stack": [["num", "0x7"]]}
    return fake


@pytest.fixture
async def first(fake: FakeTonCenter) -> FakeTonCenter:
    return fill(fake)


@pytest.fixture
async def second() -> AsyncIterator[FakeTonCenter]:
    async with serving(fill(FakeTonCenter())) as server:
        yield server


@pytest.fixture
async def both(first: FakeTonCenter, second: FakeTonCenter, clock: Clock) -> AsyncIterator[TonCenterClient]:
    async with made([first.url, second.url], clock) as client:
        yield client


def made(
    urls: list[str] | str,
    clock: Clock,
    key: str | dict[str, str] | None = None,
    retry: RetryPolicy = NO_PAUSE,
    hanging: FakeTonCenter | None = None,
) -> TonCenterClient:
    rng = ThreeTries() if retry is IMPATIENT else random.Random(1)  # for what opens no breaker
    transport = GivesUpHangs(hanging) if hanging else None
    return TonCenterClient(urls, key, retry=retry, breaker=BREAKER, rng=rng, clock=clock, transport=transport)


def always(fault: Fault) -> deque[Fault]:
    return deque([fault] * 1000)


def states(client: TonCenterClient) -> list[str]:
    return [endpoint.state for endpoint in client.endpoints]


# ---- fail-over


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_one_endpoint_cannot_answer_the_next_one_does_at_once(
    first: FakeTonCenter,
    second: FakeTonCenter,
    clock: Clock,
    fault: Fault,
    call: Callable[[TonCenterClient], Awaitable[object]],
) -> None:
    async with made([first.url, second.url], clock, hanging=first) as client, asyncio.timeout(60):
        expected = await call(client)
        assert (len(first.requests), len(second.requests)) == (1, 0)
        first.faults = always(fault)
        assert await call(client) == expected
    assert (len(first.requests), len(second.requests)) == (2, 1)


async def test_who_refuses_the_connection_is_passed_over(second: FakeTonCenter, clock: Clock) -> None:
    async with made(["http://127.0.0.1:9", second.url], clock) as client:
        assert (await client.get_masterchain_info()).last.seqno == 100
        assert client.base_url == "http://127.0.0.1:9"
        assert "cannot be reached" in (client.endpoints[0].last_error or "")


async def test_after_failures_in_a_row_an_endpoint_is_left_alone_and_then_probed_once(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient, clock: Clock
) -> None:
    first.faults = always(LITE_SERVER)
    for _ in range(10):
        await both.get_masterchain_info()
    assert (len(first.requests), len(second.requests)) == (3, 10)
    assert states(both) == ["open", "closed"]
    assert metrics.CHAIN_ENDPOINT_OPEN.labels(first.url)._value.get() == 1
    clock.now += both.endpoints[0].retry_after_s
    assert states(both) == ["half-open", "closed"]
    await both.get_masterchain_info()
    await both.get_masterchain_info()
    assert (len(first.requests), states(both)) == (4, ["open", "closed"])
    first.faults.clear()
    clock.now += both.endpoints[0].retry_after_s
    await asyncio.gather(*(both.get_masterchain_info() for _ in range(5)))
    assert states(both) == ["closed", "closed"]
    before = len(second.requests)
    await both.get_masterchain_info()
    assert len(second.requests) == before  # the first is the first again
    assert metrics.CHAIN_ENDPOINT_OPEN.labels(first.url)._value.get() == 0


async def test_when_all_are_open_it_says_so_at_once_and_asks_nobody(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient, clock: Clock
) -> None:
    first.faults, second.faults = always(LITE_SERVER), always(GATEWAY)
    async with made([first.url, second.url], clock, retry=BRIEF) as client:
        with pytest.raises(ChainUnavailable, match=r"NOTREADY.*502"):  # the reasons, not only that nobody is left
            await client.get_masterchain_info()
        assert states(client) == ["open", "open"]
        asked = len(first.requests), len(second.requests)
        assert asked == (3, 3)
        with pytest.raises(ChainUnavailable, match="No endpoint of the TON API is asked now") as caught:
            await client.get_transactions(VAULT)
        assert (len(first.requests), len(second.requests)) == asked
        assert caught.value.retry_after_s == min(endpoint.retry_after_s for endpoint in client.endpoints) > 0
        assert all(url in caught.value.message for url in (first.url, second.url))
        with pytest.raises(ChainUnavailable, match="is asked now"):
            await client.send_boc(b"abc")
        first.faults.clear()
        clock.now += caught.value.retry_after_s + 5
        assert (await client.get_masterchain_info()).last.seqno == 100


async def test_one_endpoint_alone_has_its_breaker_too(first: FakeTonCenter, clock: Clock) -> None:
    first.faults = always(RATE_LIMITED)
    async with made(first.url, clock, retry=BRIEF) as client:
        with pytest.raises(RateLimited):
            await client.get_masterchain_info()
        with pytest.raises(ChainUnavailable, match="is asked now"):
            await client.get_masterchain_info()
        assert len(first.requests) == 3
        [status] = client.endpoints
        assert (status.state, status.failures, status.last_error_code) == ("open", 3, "rate_limited")
        assert (status.requests, status.failed) == (3, 3)


async def test_a_server_that_asks_to_be_left_alone_is(first: FakeTonCenter, clock: Clock) -> None:
    first.faults.append(after(100))
    async with made(first.url, clock, retry=BRIEF) as client:
        with pytest.raises(RateLimited):
            await client.get_masterchain_info()
        with pytest.raises(ChainUnavailable) as caught:
            await client.get_masterchain_info()
        assert caught.value.retry_after_s == pytest.approx(100)
        clock.now += 100
        await client.get_masterchain_info()
    assert len(first.requests) == 2


async def test_while_one_request_probes_the_others_wait_for_it(first: FakeTonCenter, clock: Clock) -> None:
    first.faults = always(LITE_SERVER)
    async with made(first.url, clock, retry=BRIEF) as client:
        with pytest.raises(ChainUnavailable):
            await client.get_masterchain_info()
        first.faults.clear()
        clock.now += 20
        infos = await asyncio.gather(*(client.get_masterchain_info() for _ in range(10)))
    assert {info.last.seqno for info in infos} == {100}


async def test_a_probe_that_is_cancelled_blocks_nobody(first: FakeTonCenter, clock: Clock) -> None:
    first.faults = always(LITE_SERVER)
    async with made(first.url, clock, retry=BRIEF) as client:
        with pytest.raises(ChainUnavailable):
            await client.get_masterchain_info()
        clock.now += 20
        first.faults = deque([HANG])
        first.served.clear()
        probe = asyncio.create_task(client.get_masterchain_info())
        await first.served.wait()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert (await client.get_masterchain_info()).last.seqno == 100
        assert states(client) == ["closed"]


async def test_a_bad_key_at_every_endpoint_is_said_at_once(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient
) -> None:
    first.faults, second.faults = always(BAD_KEY), always(BAD_KEY)
    with pytest.raises(ChainUnavailable, match="Check TON_API_KEY"):
        await both.get_masterchain_info()
    assert (len(first.requests), len(second.requests)) == (1, 1)


# ---- heads and blocks


async def test_an_older_head_of_another_endpoint_is_passed_over_never_trusted(
    first: FakeTonCenter, second: FakeTonCenter, clock: Clock
) -> None:
    second.seqno = 99
    second.accounts[VAULT].pop()
    async with made([first.url, second.url], clock, retry=IMPATIENT) as client:
        head = (await client.get_address_information(VAULT)).last_transaction
        assert (await client.get_masterchain_info()).last.seqno == 100
        first.faults = always(LITE_SERVER)
        with pytest.raises(ChainUnavailable):  # the one that is further is away, and that is the reason given
            await client.get_masterchain_info()
        with pytest.raises(ChainUnavailable, match=f"{second.url} shows .* {first.url}: rested"):
            await client.get_address_information(VAULT)
        assert client.endpoints[1].lagged > 0
        assert client.endpoints[1].state == "closed"  # it lags and is not broken
        first.faults.clear()
        first.seqno = 98
        first.accounts[VAULT].pop()
        clock.now += 20
        with pytest.raises(HeadWentBack):  # all are there, and all are behind what was shown
            await client.get_address_information(VAULT)
        fill(second).seqno = 101
        assert (await client.get_masterchain_info()).last.seqno == 101
        assert (await client.get_address_information(VAULT)).last_transaction == head


async def test_a_replica_that_lags_again_and_again_is_asked_last_for_a_while(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient, clock: Clock
) -> None:
    second.seqno = 110
    first.faults.append(LITE_SERVER)
    assert (await both.get_masterchain_info()).last.seqno == 110
    for _ in range(3):
        assert (await both.get_masterchain_info()).last.seqno == 110
    assert (len(first.requests), both.endpoints[0].lagged, both.endpoints[0].demoted) == (4, 3, True)
    await both.get_masterchain_info()
    assert len(first.requests) == 4
    first.seqno = 111
    clock.now += 61
    assert (await both.get_masterchain_info()).last.seqno == 111
    assert not both.endpoints[0].demoted


@pytest.mark.parametrize("fault", [NOT_IN_DB, LITE_SERVER], ids=["not in db", "not ready"])
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_address_information(VAULT, 90),
        lambda client: client.run_get_method(VAULT, "get_next_policy_id", seqno=90),
    ],
    ids=["account", "get-method"],
)
async def test_a_block_one_endpoint_does_not_have_is_read_from_another_and_blames_nobody(
    first: FakeTonCenter,
    second: FakeTonCenter,
    both: TonCenterClient,
    fault: Fault,
    call: Callable[[TonCenterClient], Awaitable[object]],
) -> None:
    first.faults = always(fault)
    for _ in range(5):
        await call(both)
    assert (len(first.requests), len(second.requests)) == (5, 5)
    assert (both.endpoints[0].state, both.endpoints[0].failures) == ("closed", 0)


async def test_a_transaction_nobody_has_any_more_shuts_no_endpoint(first: FakeTonCenter, clock: Clock) -> None:
    made_ = first.accounts[VAULT][0].cursor
    first.faults = always(NOT_LOCATED)
    async with made(first.url, clock, retry=IMPATIENT) as client:
        with pytest.raises(ChainUnavailable, match="cannot locate"):
            await client.get_transactions(VAULT, lt=made_.lt, hash=made_.hash)
        assert states(client) == ["closed"]


async def test_an_answer_of_another_block_is_asked_for_elsewhere(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient
) -> None:
    first.pinned_block = 91
    account = await both.get_address_information(VAULT, 90)
    assert account.block is not None
    assert account.block.seqno == 90
    assert (both.endpoints[0].wrong, both.endpoints[1].wrong) == (1, 0)


# ---- wrong answers


async def test_a_wrong_answer_is_tried_elsewhere_and_who_gave_it_is_asked_last(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient, clock: Clock
) -> None:
    first.swap_hash_of = first.accounts[VAULT][1].cursor.lt
    with structlog.testing.capture_logs() as lines:
        assert len(await both.get_transactions(VAULT)) == 3
    assert [line["endpoint"] for line in lines if line["event"] == "endpoint_wrong"] == [first.url]
    status = both.endpoints[0]
    assert (status.wrong, status.demoted, status.last_error_code) == (1, True, "hash_mismatch")
    await both.get_transactions(VAULT)
    assert len(first.requests) == 1
    clock.now += 61
    await both.get_transactions(VAULT)
    assert (len(first.requests), both.endpoints[0].wrong) == (2, 2)


async def test_two_wrong_answers_are_the_error_and_blame_nobody(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient
) -> None:
    first.swap_hash_of = second.swap_hash_of = first.accounts[VAULT][1].cursor.lt
    with pytest.raises(HashMismatch):
        await both.get_transactions(VAULT)
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert [endpoint.wrong for endpoint in both.endpoints] == [0, 0]


async def test_a_wrong_answer_stays_one_when_the_others_are_away(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient
) -> None:
    first.swap_hash_of = first.accounts[VAULT][1].cursor.lt
    second.faults = always(LITE_SERVER)
    with pytest.raises(HashMismatch):
        await both.get_transactions(VAULT)
    assert both.endpoints[0].wrong == 0


async def test_an_exit_code_is_an_answer(first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient) -> None:
    first.methods["get_next_policy_id"] = {"stack": [], "exit_code": 11}
    with pytest.raises(GetMethodFailed):
        await both.run_get_method(VAULT, "get_next_policy_id")
    assert (len(second.requests), both.endpoints[0].demoted) == (0, False)


# ---- messages


@pytest.mark.parametrize("fault", [RATE_LIMITED, BAD_KEY], ids=["429", "401"])
async def test_a_message_nobody_took_is_given_to_the_next(
    first: FakeTonCenter, second: FakeTonCenter, both: TonCenterClient, fault: Fault
) -> None:
    first.faults.append(fault)
    await both.send_boc(b"abc")
    assert (first.count("sendBoc"), second.count("sendBoc")) == (1, 1)


@pytest.mark.parametrize("fault", [LITE_SERVER, HANG, DISCONNECT, TRUNCATED], ids=["500", "hang", "cut", "truncated"])
async def test_a_message_that_may_have_been_taken_is_not_given_to_the_next(
    first: FakeTonCenter, second: FakeTonCenter, clock: Clock, fault: Fault
) -> None:
    first.faults.append(fault)
    async with made([first.url, second.url], clock, hanging=first) as client:
        with pytest.raises(ChainUnavailable):
            await client.send_boc(b"abc")
    assert (first.count("sendBoc"), second.count("sendBoc")) == (1, 0)


# ---- keys


async def test_each_key_goes_to_its_own_endpoint_only(
    first: FakeTonCenter, second: FakeTonCenter, clock: Clock
) -> None:
    async with made([first.url, second.url], clock, {second.url: "s3cret"}) as client:
        await client.get_masterchain_info()
        first.faults.append(LITE_SERVER)
        await client.get_masterchain_info()
    assert ["x-api-key" in headers for _, _, headers in first.requests] == [False, False]
    assert [headers.get("x-api-key") for _, _, headers in second.requests] == ["s3cret"]


async def test_a_redirection_is_not_followed_so_that_the_key_stays(
    first: FakeTonCenter, second: FakeTonCenter, clock: Clock
) -> None:
    first.faults.append(Fault(302, b"", (("Location", f"{second.url}/api/v2/getMasterchainInfo"),)))
    async with made(first.url, clock, "s3cret") as client:
        with pytest.raises(ChainDataError, match="redirection"):
            await client.get_masterchain_info()
    assert second.requests == []


async def test_a_key_the_server_repeats_is_not_repeated_by_us(first: FakeTonCenter, clock: Clock) -> None:
    echo = b'{"ok":false,"error":"no such key: s3cret","code":%d}'
    first.faults.extend([Fault(401, echo % 401), Fault(500, echo % 500), Fault(422, echo % 422)])
    with structlog.testing.capture_logs() as lines:
        async with made(first.url, clock, "s3cret", retry=BRIEF) as client:
            told = []
            for call in (client.get_masterchain_info, client.get_masterchain_info):
                with pytest.raises((ChainUnavailable, ChainDataError)) as caught:
                    await call()
                told.append(f"{caught.value!r} {caught.value} {caught.value.__cause__!r}")
            told += [repr(client), repr(client.endpoints), repr(client.__dict__), repr(client._sources.endpoints)]
    assert "s3cret" not in " ".join(told) + repr(lines)
    assert "no such key: ***" in told[0]


@pytest.mark.parametrize("key", ["s3cret\n", "s3 cret", "s3cret\u00e4", "s3cret\x00"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        TonCenterClient("http://127.0.0.1:9", key)
    assert "s3" not in str(caught.value)


def test_one_key_is_for_all_of_toncenter_and_nobody_else() -> None:
    main, test, other = "https://toncenter.com", "https://testnet.toncenter.com", "https://toncenter.com.example.org"
    assert assign_keys([main, other, test], "k") == {main: "k", other: None, test: "k"}
    assert assign_keys([other], "k") == {other: "k"}
    assert assign_keys([main, other], {f"{other}/": "o"}) == {main: None, other: "o"}
    assert assign_keys([main], None) == assign_keys([main], "") == {main: None}
    with pytest.raises(UsageError, match="none of the URLs"):
        assign_keys([other, "https://b.example.org"], "k")
    with pytest.raises(UsageError, match="not used"):
        assign_keys([main], {other: "k"})


def test_endpoints_of_one_key_share_its_rate() -> None:
    buckets = assign_buckets(
        {"https://toncenter.com": "k", "https://a.toncenter.com": "k", "https://b.test": None}, None
    )
    assert buckets["https://toncenter.com"] is buckets["https://a.toncenter.com"]
    assert buckets["https://b.test"] is not buckets["https://toncenter.com"]
    assert assign_buckets({"https://toncenter.com": "k"}, 25.0)["https://toncenter.com"]._interval_s == 1 / 25


# ---- URLs


def test_a_list_of_urls_is_read_in_its_order() -> None:
    assert split_urls("https://toncenter.com/api/v2/, http://127.0.0.1:8081 ") == (
        "https://toncenter.com",
        "http://127.0.0.1:8081",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("https://a.test,", "empty"),
        ("https://a.test,https://a.test/api/v2", "twice"),
        ("https://a.test,https://A.test:443/", "twice"),
        (",".join(f"https://{n}.test" for n in range(9)), "not 9"),
        ("https://a.test,toncenter.com", "http"),
        ("https://a.test,https://s3cret:x@b.test", "no query, fragment or user"),
        ("https://a.test?api_key=s3cret", "no query, fragment or user"),
        ("https://a.test:s3cret", "cannot be read"),
        ("https://a.test/ b", "not an http"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_without_showing_a_secret(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        split_urls(text)
    assert "s3cret" not in str(caught.value)
