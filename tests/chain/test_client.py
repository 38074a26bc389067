"""The client: what may pass is retried, what is wrong is a typed error, nothing becomes an empty answer."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable

import pytest

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
)
from chain.making import FACTORY, VAULT, make_chain, make_transaction
from chain.patience import QUICK
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.ratelimit import TokenBucket, default_rps
from tonsurance.chain.retry import RetryPolicy
from tonsurance.chain.urls import check_url
from tonsurance.core.errors import (
    ChainDataError,
    ChainUnavailable,
    DecodeError,
    GetMethodFailed,
    HashMismatch,
    HeadWentBack,
    RateLimited,
    UsageError,
)

PASSING = {
    "429": RATE_LIMITED,
    "429 with Retry-After": after(0.01),
    "500 LITE_SERVER": LITE_SERVER,
    "542": TONLIB,
    "502 HTML": GATEWAY,
    "200 HTML": HTML_WITH_200,
    "truncated JSON": TRUNCATED,
    "disconnect": DISCONNECT,
    "200 that says 500": Fault(200, b'{"ok":false,"error":"LITE_SERVER_UNKNOWN","code":500}'),
}
CALLS: dict[str, Callable[[TonCenterClient], Awaitable[object]]] = {
    "getMasterchainInfo": lambda client: client.get_masterchain_info(),
    "getAddressInformation": lambda client: client.get_address_information(VAULT),
    "getTransactions": lambda client: client.get_transactions(VAULT),
    "runGetMethod": lambda client: client.run_get_method(VAULT, "get_next_policy_id"),
}


@pytest.fixture(autouse=True)
def content(fake: FakeTonCenter) -> None:
    fake.accounts[VAULT] = list(make_chain(3))
    fake.methods["get_next_policy_id"] = {"stack": [["num", "0x7"]]}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_fault_that_passes_is_not_seen(
    fake: FakeTonCenter, client: TonCenterClient, fault: Fault, call: Callable[[TonCenterClient], Awaitable[object]]
) -> None:
    expected = await call(client)
    fake.faults.extend([fault, fault])
    assert await call(client) == expected
    assert len(fake.requests) == 4


async def test_a_hang_is_given_up_and_asked_again(fake: FakeTonCenter) -> None:
    policy = RetryPolicy(timeout_s=1.0, deadline_s=60.0, base_s=0.001, cap_s=0.01)
    fake.faults.append(HANG)
    async with TonCenterClient(fake.url, retry=policy) as client:
        assert (await client.get_masterchain_info()).last.seqno == 100


STAYING = {**PASSING, "hang": HANG}


@pytest.mark.parametrize("fault", STAYING.values(), ids=STAYING)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_fault_that_stays_is_a_typed_error_never_an_empty_answer(
    fake: FakeTonCenter,
    impatient: TonCenterClient,
    fault: Fault,
    call: Callable[[TonCenterClient], Awaitable[object]],
) -> None:
    fake.faults = deque([fault] * 1000)
    with pytest.raises(RateLimited if fault.status == 429 else ChainUnavailable):
        await call(impatient)
    assert len(fake.requests) == 3


async def test_nobody_listening_is_chain_unavailable() -> None:
    policy = RetryPolicy(timeout_s=30.0, deadline_s=30.0)
    async with TonCenterClient("http://127.0.0.1:9", retry=policy) as client:
        with pytest.raises(ChainUnavailable, match="cannot be reached"):
            await client.get_masterchain_info()


async def test_a_refusal_says_when_to_come_back_and_is_not_waited_for_past_the_deadline(
    fake: FakeTonCenter, client: TonCenterClient
) -> None:
    fake.faults.append(after(3600))
    with pytest.raises(RateLimited, match="Ratelimit exceed") as caught:
        await client.get_masterchain_info()
    assert caught.value.retry_after_s == 3600
    assert len(fake.requests) == 1


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "soon", "Wed, 99 Foo 2020"])
async def test_an_unreadable_retry_after_is_ignored(fake: FakeTonCenter, client: TonCenterClient, text: str) -> None:
    fake.faults.append(Fault(429, RATE_LIMITED.body, (("Retry-After", text),)))
    assert (await client.get_masterchain_info()).last.seqno == 100


async def test_a_retry_after_in_the_past_is_now(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.faults.append(Fault(429, RATE_LIMITED.body, (("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),)))
    assert (await client.get_masterchain_info()).last.seqno == 100


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, ChainUnavailable), (403, ChainUnavailable), (422, ChainDataError), (404, ChainDataError)],
)
async def test_our_own_mistake_is_not_tried_again(
    fake: FakeTonCenter, client: TonCenterClient, status: int, error: type[Exception]
) -> None:
    fake.faults.append(Fault(status, b'{"ok":false,"error":"no","code":1}'))
    with pytest.raises(error, match=f"{status}: no"):
        await client.get_masterchain_info()
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "result",
    [b"[]", b"null", b'{"last":{}}', b'{"last":{"workchain":0,"seqno":1}}', b'{"last":{"workchain":-1,"seqno":"x"}}'],
)
async def test_json_of_another_form_is_a_data_error(
    fake: FakeTonCenter, client: TonCenterClient, result: bytes
) -> None:
    fake.faults.append(Fault(200, b'{"ok":true,"result":' + result + b"}"))
    with pytest.raises(ChainDataError):
        await client.get_masterchain_info()


@pytest.mark.parametrize(
    "result", [b"null", b"{}", b'[{"data":1}]', b'[{"data":"%%","transaction_id":{"lt":"1","hash":""}}]']
)
async def test_transactions_of_another_form_are_a_data_error(
    fake: FakeTonCenter, client: TonCenterClient, result: bytes
) -> None:
    fake.faults.append(Fault(200, b'{"ok":true,"result":' + result + b"}"))
    with pytest.raises(ChainDataError):
        await client.get_transactions(VAULT)


async def test_bytes_with_another_hash_are_refused(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.swap_hash_of = fake.accounts[VAULT][1].cursor.lt
    with pytest.raises(HashMismatch, match="2000000"):
        await client.get_transactions(VAULT)


async def test_another_accounts_transaction_is_refused(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.accounts[VAULT] = list(make_chain(1, account=FACTORY))
    with pytest.raises(ChainDataError, match="of account b2"):
        await client.get_transactions(VAULT)


async def test_bytes_that_are_no_transaction_are_refused(fake: FakeTonCenter, client: TonCenterClient) -> None:
    made = make_transaction()
    fake.accounts[VAULT] = [type(made)(cursor=made.cursor, previous=made.previous, boc=made.boc[:-5])]
    with pytest.raises(DecodeError, match="Transaction 1000000"):
        await client.get_transactions(VAULT)


async def test_the_key_goes_in_the_header_and_never_in_the_url(fake: FakeTonCenter) -> None:
    async with TonCenterClient(fake.url, "s3cret", retry=QUICK) as client:
        await client.get_masterchain_info()
        fake.faults.extend([Fault(401, b'{"ok":false,"error":"bad key","code":401}')])
        with pytest.raises(ChainUnavailable) as caught:
            await client.get_address_information(VAULT)
    assert [headers["x-api-key"] for _, _, headers in fake.requests] == ["s3cret", "s3cret"]
    assert "s3cret" not in str(caught.value)
    assert all("s3cret" not in str(params) for _, params, _ in fake.requests)


@pytest.mark.parametrize(
    "url", ["toncenter.com", "ftp://x", "http://", "https://u:p@x", "https://x/?api_key=1", "https://x/#a", ""]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        check_url(url)


def test_an_api_path_is_understood() -> None:
    assert check_url("https://x.test/api/v2/") == check_url("https://x.test/") == "https://x.test"


async def test_an_older_head_is_asked_for_again_and_then_an_error(
    fake: FakeTonCenter, client: TonCenterClient, impatient: TonCenterClient
) -> None:
    old, head = fake.accounts[VAULT][0].cursor, fake.accounts[VAULT][-1].cursor
    assert (await client.get_address_information(VAULT)).last_transaction == head
    fake.heads.extend([old, old])
    assert (await client.get_address_information(VAULT)).last_transaction == head
    assert (await impatient.get_address_information(VAULT)).last_transaction == head
    fake.heads.extend([old] * 10_000)
    with pytest.raises(HeadWentBack):
        await impatient.get_address_information(VAULT)


async def test_an_older_masterchain_block_is_an_error(fake: FakeTonCenter, impatient: TonCenterClient) -> None:
    assert (await impatient.get_masterchain_info()).last.seqno == 100
    fake.seqno = 99
    with pytest.raises(HeadWentBack, match="99"):
        await impatient.get_masterchain_info()


async def test_an_answer_of_another_block_than_asked_for_is_refused(
    fake: FakeTonCenter, client: TonCenterClient
) -> None:
    assert (await client.run_get_method(VAULT, "get_next_policy_id", seqno=90)).stack == (7,)
    assert (await client.get_address_information(VAULT, 90)).block is not None
    fake.pinned_block = 91
    with pytest.raises(ChainDataError, match="block 90"):
        await client.run_get_method(VAULT, "get_next_policy_id", seqno=90)
    with pytest.raises(ChainDataError, match="block 90"):
        await client.get_address_information(VAULT, 90)


async def test_a_failed_get_method_is_an_error(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.methods["get_next_policy_id"] = {"stack": [], "exit_code": 11}
    with pytest.raises(GetMethodFailed, match="exit code 11"):
        await client.run_get_method(VAULT, "get_next_policy_id")


async def test_a_message_is_sent_once(fake: FakeTonCenter, client: TonCenterClient) -> None:
    await client.send_boc(b"abc")
    assert fake.requests[-1][1] == {"boc": "YWJj"}
    fake.faults.append(LITE_SERVER)
    with pytest.raises(ChainUnavailable):
        await client.send_boc(b"abc")
    assert fake.count("sendBoc") == 2


async def test_lt_and_hash_go_together(client: TonCenterClient) -> None:
    with pytest.raises(UsageError):
        await client.get_transactions(VAULT, lt=5)


def test_the_public_limits_hold_without_setting_them() -> None:
    assert default_rps("https://toncenter.com", None) == 1
    assert default_rps("https://testnet.toncenter.com", "key") == 10
    assert default_rps("http://127.0.0.1:1", None) == default_rps("https://nottoncenter.com", None) == 1000
    with pytest.raises(UsageError):
        TokenBucket(0)


def test_the_bucket_gives_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(10)
    waits = [bucket.reserve(1000.0) for _ in range(14)]
    assert waits[:10] == pytest.approx([0.0] * 10)
    assert waits[10:] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    slow = TokenBucket(0.5)
    assert [slow.reserve(5.0), slow.reserve(5.0), slow.reserve(5.0)] == pytest.approx([0.0, 2.0, 4.0])
    assert slow.reserve(100.0) == 0.0


def test_the_bucket_never_gives_more_than_burst_plus_rate_in_any_window() -> None:
    rng = random.Random(3)
    bucket, now, times = TokenBucket(10), 0.0, []
    for _ in range(2000):
        now += rng.expovariate(12)
        times.append(now + bucket.reserve(now))
    for start in range(len(times)):
        assert sum(times[start] <= time < times[start] + 1 for time in times[start : start + 40]) <= 20


async def test_waiting_for_the_bucket_lets_others_run(fake: FakeTonCenter) -> None:
    async with TonCenterClient(fake.url, rps=50, retry=QUICK) as client:
        await asyncio.gather(*(client.get_masterchain_info() for _ in range(53)))
    assert len(fake.requests) == 53
