"""Each fault of the API does to an answer what its name says, never touches the chain, and can be switched off."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from localnet.probe import SOMEBODY, TON
from tonsurance import chain_control
from tonsurance.core.errors import InputError
from tonsurance.localnet.cells import cell_from_boc, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.event_sender import EventSender
from tonsurance.localnet.fault_kinds import KINDS, PRUNED_KEEPS_BLOCKS, Fault
from tonsurance.localnet.faults import Faults
from tonsurance.localnet.render import b64
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.speculation import Sights
from tonsurance.localnet.wallets import Transfer, Wallet

ADDRESS = raw_address(SOMEBODY)
BLOCKS = 24


@pytest.fixture
def localnet(chain: LocalChain) -> Localnet:
    """SOMEBODY gets a coin in every block."""
    for _ in range(BLOCKS):
        chain.airdrop(SOMEBODY, TON)
        chain.mine()
    return Localnet(chain)


@pytest.fixture
async def http(localnet: Localnet) -> AsyncIterator[httpx.AsyncClient]:
    async with running(localnet) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


async def inject(http: httpx.AsyncClient, name: str, rate: float = 1.0, seed: int = 1) -> dict[str, Any]:
    answer = await http.post("/_localnet/fault", json={"name": name, "rate": rate, "seconds": 60, "seed": seed})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ask(http: httpx.AsyncClient, method: str = "getMasterchainInfo", **params: Any) -> httpx.Response:
    return await http.get(f"/api/v2/{method}", params=params)


async def page(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await ask(http, "getTransactions", address=ADDRESS, limit=100, **params)
    return answer.json()["result"]


async def head(http: httpx.AsyncClient, **params: Any) -> str:
    answer = await ask(http, "getAddressInformation", address=ADDRESS, **params)
    return answer.json()["result"]["last_transaction_id"]["lt"]


def announced(item: dict[str, Any]) -> tuple[str, str]:
    return item["transaction_id"]["lt"], item["transaction_id"]["hash"]


# --- instead of an answer


async def test_a_rate_refusal_says_so_in_result_and_when_to_come_back(http: httpx.AsyncClient) -> None:
    await inject(http, "429")
    answer = await ask(http)
    assert (answer.status_code, answer.json()) == (429, {"ok": False, "result": "Ratelimit exceed", "code": 429})
    assert answer.headers["retry-after"] in ("0", "1")


@pytest.mark.parametrize(("name", "said"), [("500", "LITE_SERVER_"), ("542", "lite server")])
async def test_a_failure_of_the_server_has_its_words(http: httpx.AsyncClient, name: str, said: str) -> None:
    await inject(http, name)
    answer = await ask(http)
    assert (answer.status_code, answer.json()["ok"]) == (int(name), False)
    assert said in answer.json()["error"]


async def test_a_proxy_answers_with_its_page_and_either_status(http: httpx.AsyncClient) -> None:
    await inject(http, "html")
    answers = [await ask(http) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200, 502}
    assert all(answer.headers["content-type"] == "text/html" for answer in answers)


async def test_a_request_that_hangs_gets_no_answer_and_ends_with_the_client(http: httpx.AsyncClient) -> None:
    await inject(http, "hang")
    with pytest.raises(httpx.ReadTimeout):
        await http.get("/api/v2/getMasterchainInfo", timeout=httpx.Timeout(60, read=0.2))
    await http.post("/_localnet/fault/clear")
    assert (await ask(http)).status_code == 200


async def test_a_connection_is_cut_before_the_answer_or_within_it(http: httpx.AsyncClient) -> None:
    await inject(http, "drop")
    seen = set()
    for _ in range(20):
        with pytest.raises(httpx.TransportError) as caught:
            await ask(http)
        seen.add(str(caught.value))
    assert any("without sending a response" in text for text in seen), seen
    assert any("without sending complete message body" in text for text in seen), seen


async def test_a_truncated_answer_ends_within_its_json(http: httpx.AsyncClient) -> None:
    await inject(http, "truncated")
    for _ in range(10):
        answer = await ask(http)
        assert answer.status_code == 200
        with pytest.raises(ValueError):
            answer.json()


async def test_a_slow_answer_is_still_the_answer(http: httpx.AsyncClient, localnet: Localnet) -> None:
    await inject(http, "slow")
    assert (await ask(http)).json()["result"]["last"]["seqno"] == localnet.chain.head.seqno
    assert localnet.faults.struck["slow"] == 1


# --- servers that know another part of the chain


async def test_a_lagging_replica_shows_an_older_head_and_older_states(
    http: httpx.AsyncClient, localnet: Localnet
) -> None:
    now, newest = localnet.chain.head.seqno, await head(http)
    await inject(http, "lagging")
    behind = (await ask(http)).json()["result"]["last"]["seqno"]
    assert behind < now
    older = await head(http)
    assert int(older) < int(newest)
    assert (await page(http))[0]["transaction_id"]["lt"] == older
    assert await head(http, seqno=behind) == older
    refused = await ask(http, "getAddressInformation", address=ADDRESS, seqno=now)
    assert (refused.status_code, "seqno not in db" in refused.json()["error"]) == (500, True)


async def test_a_pruned_server_does_not_find_what_is_old(http: httpx.AsyncClient) -> None:
    whole = await page(http)
    await inject(http, "pruned")
    kept = await page(http)
    assert 0 < len(kept) <= PRUNED_KEEPS_BLOCKS < len(whole)
    assert [announced(item) for item in kept] == [announced(item) for item in whole[: len(kept)]]
    lt, hash_ = announced(whole[-1])
    gone = await ask(http, "getTransactions", address=ADDRESS, lt=lt, hash=hash_)
    assert (gone.status_code, "cannot locate" in gone.json()["error"]) == (500, True)


async def test_an_unfinished_block_is_seen_unpinned_only_and_never_comes(
    http: httpx.AsyncClient, localnet: Localnet
) -> None:
    chain = localnet.chain
    before, seqno = await page(http), chain.head.seqno
    chain.airdrop(SOMEBODY, TON)
    chain.airdrop(SOMEBODY, 2 * TON)
    await inject(http, "rollback")
    shown = await page(http)
    imagined = [announced(item) for item in shown[: len(shown) - len(before)]]
    assert len(imagined) == 2
    assert [announced(item) for item in shown[2:]] == [announced(item) for item in before]
    assert await head(http) == imagined[0][0]
    assert (await page(http, lt=imagined[0][0], hash=imagined[0][1]))[0] == shown[0]
    assert (await ask(http)).json()["result"]["last"]["seqno"] == seqno
    assert await head(http, seqno=seqno) == before[0]["transaction_id"]["lt"]
    posted = await http.post("/api/v2/runGetMethod", json={"address": ADDRESS, "method": "m", "stack": []})
    assert posted.json()["result"]["last_transaction_id"]["lt"] == imagined[0][0]
    chain.mine()
    real = await page(http)
    assert len(real) == len(shown)
    assert not {announced(item) for item in real} & set(imagined)
    assert real[0]["transaction_id"]["lt"] == await head(http, seqno=chain.head.seqno)


def test_no_sight_of_the_chain_changes_it(localnet: Localnet) -> None:
    chain = localnet.chain
    chain.airdrop(SOMEBODY, TON)
    before = (chain.head, chain.waiting, chain.last_headers(), chain.transactions(SOMEBODY))
    drafted = Sights(chain).drafted()
    assert drafted is not None
    assert TON // 2 < drafted.balance(SOMEBODY) - chain.balance(SOMEBODY) <= TON  # less its rent
    assert drafted.balance(SOMEBODY, chain.head.seqno) == chain.balance(SOMEBODY)
    assert drafted.block(drafted.head.seqno).transactions != ()
    for sight in (drafted, Sights(chain).behind(3), Sights(chain).pruned(3)):
        with pytest.raises(Exception, match="cannot be written to"):
            sight.airdrop(SOMEBODY, 1)
        with pytest.raises(Exception, match="cannot be written to"):
            sight.mine()
    assert (chain.head, chain.waiting, chain.last_headers(), chain.transactions(SOMEBODY)) == before


# --- lies


def what_is_wrong(true: list[dict[str, Any]], told: list[dict[str, Any]]) -> str:
    """Which of the lies this page is."""
    if not told:
        return "empty"
    if len(told) < len(true):
        return "one is missing"
    names = [announced(item) for item in true]
    (at, *more) = [n for n, (left, right) in enumerate(zip(true, told, strict=True)) if left != right]
    if more:
        return "two are exchanged"
    item = told[at]
    if item["data"] == true[at]["data"]:
        return "another hash is announced"
    if announced(item) == names[at]:
        return "the bytes are altered"
    assert base64.b64encode(cell_from_boc(base64.b64decode(item["data"])).hash).decode() == announced(item)[1]
    return "another transaction" if item["account"].lower() == ADDRESS.lower() else "one of another account"


async def test_every_lie_about_a_page_is_told(http: httpx.AsyncClient, localnet: Localnet) -> None:
    localnet.chain.airdrop("0:" + "77" * 32, TON)
    localnet.chain.mine()
    true = await page(http)
    await inject(http, "lying")
    found = {what_is_wrong(true, await page(http)) for _ in range(80)}
    assert found == {
        "empty", "one is missing", "two are exchanged", "another hash is announced", "the bytes are altered",
        "another transaction", "one of another account",
    }  # fmt: skip
    await http.post("/_localnet/fault/clear")
    assert await page(http) == true


async def test_a_pinned_read_is_answered_for_another_block_or_with_a_head_that_never_was(
    http: httpx.AsyncClient, localnet: Localnet
) -> None:
    seqno = localnet.chain.head.seqno - 1
    params = {"address": ADDRESS, "seqno": seqno}
    true = (await ask(http, "getAddressInformation", **params)).json()["result"]
    await inject(http, "lying")
    seen = set()
    for _ in range(20):
        told = (await ask(http, "getAddressInformation", **params)).json()["result"]
        seen.add((told["block_id"] == true["block_id"], told["last_transaction_id"] == true["last_transaction_id"]))
    assert seen == {(True, False), (False, True)}
    struck = localnet.faults.struck["lying"]
    await ask(http, "getAddressInformation", address=ADDRESS)
    assert localnet.faults.struck["lying"] == struck  # about the present there is no lie that could be noticed


INDEXED = {"account": ADDRESS, "limit": 100}


async def indexed(http: httpx.AsyncClient) -> list[tuple[str, str]]:
    answer = await http.get("/api/v3/transactions", params=INDEXED)
    return [(item["lt"], item["hash"]) for item in answer.json()["transactions"]]


async def test_the_second_source_lies_too(http: httpx.AsyncClient) -> None:
    true = await indexed(http)
    await inject(http, "lying")
    told = [await indexed(http) for _ in range(40)]
    assert true not in told
    assert [] in told
    assert any(len(page) == len(true) - 1 for page in told)
    assert any(page != true and sorted(page) == sorted(true) for page in told)
    assert any(len(page) == len(true) and sorted(page) != sorted(true) for page in told)


@pytest.mark.parametrize("name", ["lagging", "pruned", "rollback"])
async def test_the_second_source_sees_what_the_first_sees(
    http: httpx.AsyncClient, localnet: Localnet, name: str
) -> None:
    localnet.chain.airdrop(SOMEBODY, TON)
    true = await indexed(http)
    await inject(http, name)
    assert await indexed(http) == [announced(item) for item in await page(http)] != true


async def test_pinned_requests_are_known_in_every_way_they_are_made(
    http: httpx.AsyncClient, localnet: Localnet
) -> None:
    localnet.chain.airdrop(SOMEBODY, TON)
    seqno, real = localnet.chain.head.seqno, await head(http)
    await inject(http, "rollback")
    asked = {"address": ADDRESS, "method": "m", "stack": []}

    async def newest(url: str, body: dict[str, Any]) -> str:
        return (await http.post(url, json=body)).json()["result"]["last_transaction_id"]["lt"]

    assert await newest("/api/v2/runGetMethod", asked) != real
    assert await newest("/api/v2/runGetMethod", {**asked, "seqno": seqno}) == real
    rpc = {"id": 1, "jsonrpc": "2.0", "method": "runGetMethod"}
    assert await newest("/api/v2/jsonRPC", {**rpc, "params": asked}) != real
    assert await newest("/api/v2/jsonRPC", {**rpc, "params": {**asked, "seqno": seqno}}) == real
    assert (await http.post("/api/v2/jsonRPC", content=b"{nonsense")).status_code == 422


# --- streams


async def test_an_open_stream_suffers_what_is_switched_on_later(http: httpx.AsyncClient, localnet: Localnet) -> None:
    params = {"types": "transactions", "addresses": ADDRESS}
    async with http.stream("GET", "/api/streaming/v2/sse", params=params, timeout=10) as answer:
        lines = answer.aiter_lines()

        async def next_lt() -> int:
            async for line in lines:
                if line.startswith("data:") and '"lt"' in line:
                    found = json.loads(line.removeprefix("data:"))["transactions"]
                    return int(found[0]["lt"])
            raise AssertionError("The stream ended.")

        def pay() -> int:
            localnet.chain.airdrop(SOMEBODY, TON)
            localnet.chain.mine()
            return localnet.chain.transactions(SOMEBODY, limit=1)[0].lt

        first = pay()
        assert await next_lt() == first
        localnet.faults.inject(Fault(name="lost", seconds=60))
        pay()
        async with asyncio.timeout(60):
            while not localnet.faults.struck["lost"]:
                await asyncio.sleep(0.005)
        localnet.faults.clear()
        localnet.faults.inject(Fault(name="duplicated", seconds=60))
        third = pay()
        assert [await next_lt(), await next_lt()] == [third, third]


def event(number: int, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": more}


async def pass_events(faults: Faults, count: int = 6) -> list[int]:
    """The numbers of the events that come through, with a comment in the middle."""
    got: list[dict[str, Any]] = []

    async def keep(message: dict[str, Any]) -> None:
        got.append(message)

    send = EventSender(keep, faults, lambda: None)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(count):
        await send(event(number))
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    assert (got[0]["type"], got[-1]["more_body"]) == ("http.response.start", False)
    return [int(message["body"].split()[1]) for message in got[1:-1]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lost", []), ("duplicated", [0, 0, 1, 1, 2, 2, 3, 3]), ("reordered", [1, 0, 3, 2])],
)
async def test_events_of_a_stream_are_lost_doubled_or_exchanged(name: str, expected: list[int]) -> None:
    faults = Faults()
    faults.inject(Fault(name=name))
    assert await pass_events(faults, 4) == expected
    assert await pass_events(Faults(), 4) == [0, 1, 2, 3]


async def test_an_event_that_is_held_back_comes_at_the_latest_with_the_end() -> None:
    faults = Faults()
    faults.inject(Fault(name="reordered"))
    assert await pass_events(faults, 1) == [0]
    assert await pass_events(faults, 3) == [1, 0, 2]


# --- switching on and off


async def test_the_same_seed_strikes_the_same_requests(http: httpx.AsyncClient) -> None:
    async def statuses(seed: int) -> list[int]:
        await inject(http, "500", rate=0.4, seed=seed)
        return [(await ask(http)).status_code for _ in range(40)]

    first, again, other = await statuses(1), await statuses(1), await statuses(2)
    assert first == again != other
    assert 5 < first.count(500) < 30


async def test_a_fault_ends_by_itself_and_several_are_on_at_once() -> None:
    now = [0.0]
    faults = Faults(lambda: now[0])
    faults.inject(Fault(name="500", seconds=10))
    faults.inject(Fault(name="slow", rate=0.0, seconds=20))
    assert list(faults.draw("500", "slow", "hang")) == ["500"]
    now[0] = 10.0
    assert [on["name"] for on in faults.show()["active"]] == ["slow"]
    assert faults.draw("500", "slow") == {}
    now[0] = 20.0
    assert (faults.show()["active"], faults.clear()) == ([], 0)


async def test_strikes_are_counted_and_the_controls_are_never_struck(http: httpx.AsyncClient) -> None:
    for name in KINDS:
        if name not in ("hang", "drop"):
            await inject(http, name)
    for _ in range(3):
        assert (await ask(http)).status_code == 429
    shown = (await http.get("/_localnet/fault")).json()
    assert shown["struck"]["429"] == 3
    assert {on["name"] for on in shown["active"]} == set(KINDS) - {"hang", "drop"}
    assert (await http.get("/_localnet/status")).json()["faults"]["429"] == 3
    assert (await http.post("/_localnet/fault/clear")).json()["cleared"] == len(KINDS) - 2
    assert (await ask(http)).status_code == 200
    assert (await http.get("/_localnet/fault")).json()["struck"]["429"] == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "gremlins"}, "Valid names: slow, hang, drop, 429"),
        ({"name": "500", "rate": 1.5}, "from 0 to 1"),
        ({"name": "500", "rate": -0.1}, "from 0 to 1"),
        ({"name": "500", "seconds": 0}, "more than 0"),
        ({"name": "500", "seconds": 1e9}, "at most 86400"),
        ({"name": "500", "rate": "often"}, "rate"),
        ({"name": "500", "probability": 1}, "probability"),
        ({}, "name"),
    ],
)
async def test_what_is_no_fault_is_refused_with_what_would_be_one(
    http: httpx.AsyncClient, values: dict[str, Any], said: str
) -> None:
    answer = await http.post("/_localnet/fault", json=values)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert (await http.get("/_localnet/fault")).json()["active"] == []


@pytest.mark.parametrize("name", ["lagging", "pruned", "rollback"])
async def test_a_message_sent_through_a_server_with_another_sight_arrives(
    http: httpx.AsyncClient, localnet: Localnet, name: str
) -> None:
    chain, wallet = localnet.chain, Wallet("me", localnet.chain.seed)
    chain.airdrop(wallet.address, 3 * TON)
    chain.mine()
    order = wallet.order([Transfer(destination=ADDRESS, value=TON, bounce=False)], seqno=0, valid_until=chain.now + 99)
    await inject(http, name)
    before = chain.balance(SOMEBODY)
    assert (await http.post("/api/v2/sendBoc", json={"boc": b64(order)})).json()["ok"] is True
    chain.mine_until_idle()
    assert chain.balance(SOMEBODY) > before


async def test_the_commands_switch_faults_on_show_them_and_switch_them_off(localnet: Localnet) -> None:
    async with running(localnet) as url:

        async def said(command: Callable[..., str], *given: Any, **named: Any) -> str:
            return await asyncio.to_thread(command, url, *given, **named)

        assert "500: 25% of its answers, for 30 s" in await said(
            chain_control.inject_fault, "500", rate=0.25, seconds=30.0, seed=7
        )
        shown = await said(chain_control.show_faults)
        assert "500: rate 0.25" in shown
        assert "Names: slow, hang" in shown
        assert await said(chain_control.clear_faults) == "Faults switched off: 1."
        assert await said(chain_control.clear_faults) == "No fault was on."
        assert "No fault is on." in await said(chain_control.show_faults)
        for name, rate, seconds, text in (
            ("gremlins", 1.0, 1.0, "Valid names: slow"),
            ("500", 2.0, 1.0, "from 0 to 1"),
            ("500", float("nan"), 1.0, "from 0 to 1"),
            ("500", 1.0, -1.0, "more than 0"),
        ):
            with pytest.raises(InputError, match=text):
                await said(chain_control.inject_fault, name, rate=rate, seconds=seconds, seed=1)
        assert localnet.faults.show()["active"] == []


async def test_a_stop_of_the_server_does_not_wait_for_what_hangs(localnet: Localnet) -> None:
    async with running(localnet) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        await inject(client, "hang")
        asking = asyncio.create_task(client.get("/api/v2/getMasterchainInfo", timeout=httpx.Timeout(60, read=0.2)))
        with pytest.raises(httpx.ReadTimeout):
            await asking
