"""The test wallets of the local chain: they pay like a real wallet, refuse what one would refuse, and serve no page
from elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from localnet.probe import COUNT, SOMEBODY, TON, body, deploy_probe
from tonsurance.localnet.cells import boc_of, raw_address
from tonsurance.localnet.chain import MAX_WAITING_MESSAGES, LocalChain
from tonsurance.localnet.render import b64
from tonsurance.localnet.server import running
from tonsurance.localnet.test_wallet import (
    ALLOWANCE_NANO,
    MAX_PENDING,
    MAX_WALLETS,
    NamedWallets,
)

PAGE = {"Origin": "http://127.0.0.1:8080"}


@pytest.fixture
async def http(chain: LocalChain) -> AsyncIterator[httpx.AsyncClient]:
    async with running(chain) as url, httpx.AsyncClient(base_url=f"{url}/_localnet") as client:
        yield client


def pay(amount: int = TON, **more: Any) -> dict[str, Any]:
    """A message to somebody who keeps what he gets."""
    return {"address": _keeping(), "amount": str(amount), **more}


def _keeping() -> str:
    """The friendly form that says: do not bounce."""
    untyped: Any = SOMEBODY
    return str(untyped.to_str(is_user_friendly=True, is_bounceable=False, is_url_safe=True))


async def open_wallet(http: httpx.AsyncClient, name: str = "ann") -> dict[str, Any]:
    answer = await http.post("/wallet", json={"name": name})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(
    http: httpx.AsyncClient, *messages: dict[str, Any], name: str = "ann", **transaction: Any
) -> httpx.Response:
    return await http.post(
        "/wallet/send", json={"name": name, "transaction": {"messages": list(messages), **transaction}}
    )


async def test_a_name_is_a_wallet_with_an_allowance(http: httpx.AsyncClient, chain: LocalChain) -> None:
    first = await open_wallet(http)
    assert (first["balance_nanoton"], first["arriving_nanoton"]) == ("0", str(ALLOWANCE_NANO))
    await open_wallet(http)  # a second click does not give twice
    chain.mine_until_idle()

    again, other = await open_wallet(http), await open_wallet(http, "bob")
    chain.mine_until_idle()
    shown = (await http.get("/wallet", params={"name": "ann"})).json()

    assert first["address"] == again["address"] == shown["address"] != other["address"]
    assert first["address_friendly"].startswith("EQ")
    assert shown["balance_nanoton"] == str(ALLOWANCE_NANO)
    assert chain.balance(first["address"]) == ALLOWANCE_NANO


async def test_the_allowance_is_filled_up_when_half_is_gone(http: httpx.AsyncClient, chain: LocalChain) -> None:
    await open_wallet(http)
    await send(http, pay(ALLOWANCE_NANO * 2 // 3))
    chain.mine_until_idle()

    low = int((await open_wallet(http))["balance_nanoton"])
    chain.mine_until_idle()
    full = int((await open_wallet(http))["balance_nanoton"])

    assert 0 < low < ALLOWANCE_NANO // 2
    assert ALLOWANCE_NANO - TON // 10 < full <= ALLOWANCE_NANO


async def test_a_transaction_is_signed_and_carried_out(
    http: httpx.AsyncClient, chain: LocalChain, probe_code: bytes
) -> None:
    probe = deploy_probe(chain, probe_code)
    wallet = await open_wallet(http)
    call = {"address": raw_address(probe), "amount": str(TON), "payload": b64(boc_of(body(COUNT)))}

    answer = (await send(http, call, pay(2 * TON), validUntil=chain.now + 60, network="-3")).json()
    chain.mine_until_idle()

    assert len(bytes.fromhex(answer["hash"])) == 32
    assert answer["seqno"] == 0
    assert chain.get_method(probe, "get_count").stack == [1]
    assert 2 * TON - 10 <= chain.balance(SOMEBODY) <= 2 * TON
    made = chain.transactions(wallet["address"])
    assert [len(one.boc) > 0 for one in made] == [True, True]  # the gift and the order
    assert chain.rejected == 0


async def test_two_clicks_at_once_are_two_orders(http: httpx.AsyncClient, chain: LocalChain) -> None:
    await open_wallet(http)

    answers = await asyncio.gather(*(send(http, pay(number * TON)) for number in (1, 2, 3)))
    chain.mine_until_idle()

    assert sorted(answer.json()["seqno"] for answer in answers) == [0, 1, 2]
    assert 6 * TON - 10 <= chain.balance(SOMEBODY) <= 6 * TON
    assert chain.rejected == 0
    assert (await send(http, pay())).json()["seqno"] == 3


async def test_what_waits_is_spent_already(http: httpx.AsyncClient, chain: LocalChain) -> None:
    await open_wallet(http)
    chain.mine_until_idle()
    assert (await send(http, pay(400 * TON))).status_code == 200

    refused = await send(http, pay(400 * TON))
    chain.mine_until_idle()

    assert refused.status_code == 422
    assert "99.800 TON to spend and this needs 400.200 TON" in refused.json()["error"]
    assert 400 * TON - 10 <= chain.balance(SOMEBODY) <= 400 * TON


async def test_too_many_orders_wait_is_said(http: httpx.AsyncClient, chain: LocalChain) -> None:
    await open_wallet(http)
    for _ in range(MAX_PENDING):
        assert (await send(http, pay(1))).status_code == 200
    assert (await send(http, pay(1))).status_code == 503
    chain.mine_until_idle()
    assert (await send(http, pay(1))).status_code == 200
    assert chain.rejected == 0


async def test_orders_wait_for_a_busy_chain_in_their_order(http: httpx.AsyncClient, chain: LocalChain) -> None:
    """More waits than fits a block: the next block is not the one they run in."""
    await open_wallet(http)
    chain.mine_until_idle()
    for _ in range(600):
        chain.airdrop(SOMEBODY, 1)
    assert (await send(http, pay())).json()["seqno"] == 0
    chain.mine()

    assert (await send(http, pay())).json()["seqno"] == 1
    chain.mine_until_idle()

    assert chain.rejected == 0
    assert chain.balance(SOMEBODY) > 19 * TON // 10


async def test_what_would_come_too_late_is_refused(http: httpx.AsyncClient, chain: LocalChain) -> None:
    await open_wallet(http)
    chain.mine_until_idle()
    chain.speed = 300

    for valid_for in (-5, 0, 299, 300):
        answer = await send(http, pay(), validUntil=chain.now + valid_for)
        assert (answer.status_code, "too late" in answer.json()["error"]) == (410, True)
    assert (await send(http, pay(), validUntil=chain.now + 301)).status_code == 200
    chain.mine_until_idle()
    assert chain.rejected == 0


GOOD = pay()
BAD_MESSAGES: list[Any] = [
    {**GOOD, "amount": "-1"}, {**GOOD, "amount": "1.5"}, {**GOOD, "amount": 5}, {**GOOD, "amount": "1" * 21},
    {**GOOD, "amount": str(2**63)}, {**GOOD, "amount": "600" + "0" * 9}, {**GOOD, "address": "nowhere"},
    {**GOOD, "payload": "!!"}, {**GOOD, "payload": b64(b"nonsense")}, {**GOOD, "payload": ""},
    {**GOOD, "stateInit": "!!"}, {"amount": "1"}, "1", None,
]  # fmt: skip


@pytest.mark.parametrize("message", BAD_MESSAGES)
async def test_a_bad_message_is_refused_and_changes_nothing(
    http: httpx.AsyncClient, chain: LocalChain, message: Any
) -> None:
    await open_wallet(http)
    chain.mine_until_idle()

    answer = await send(http, GOOD, message)

    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert chain.waiting == 0


@pytest.mark.parametrize(
    "transaction",
    [{"messages": []}, {"messages": [GOOD] * 5}, {}, None, "x", {"messages": [GOOD], "validUntil": "soon"},
     {"messages": [GOOD], "network": "-239"}, {"messages": [GOOD], "from": raw_address(SOMEBODY)}],
)  # fmt: skip
async def test_a_bad_transaction_is_refused_and_changes_nothing(
    http: httpx.AsyncClient, chain: LocalChain, transaction: Any
) -> None:
    await open_wallet(http)
    chain.mine_until_idle()

    answer = await http.post("/wallet/send", json={"name": "ann", "transaction": transaction})

    assert answer.status_code == 422
    assert chain.waiting == 0


@pytest.mark.parametrize("name", [None, "", "Ann", "a" * 41, "a b", "ä", 5, ["a"]])
async def test_a_bad_name_is_refused(http: httpx.AsyncClient, chain: LocalChain, name: Any) -> None:
    assert (await http.post("/wallet", json={"name": name})).status_code == 422
    assert chain.waiting == 0


async def test_a_wallet_nobody_asked_for_is_unknown(http: httpx.AsyncClient) -> None:
    assert (await http.get("/wallet", params={"name": "eve"})).status_code == 404
    assert (await send(http, GOOD, name="eve")).status_code == 404


async def test_wallets_are_counted_also_after_a_restart(http: httpx.AsyncClient, chain: LocalChain) -> None:
    for number in range(MAX_WALLETS):
        await open_wallet(http, f"w{number}")
    assert (await http.post("/wallet", json={"name": "more"})).status_code == 422
    await open_wallet(http, "w0")

    reborn = NamedWallets(chain)

    assert (await reborn.show({"name": "w7"}))["name"] == "w7"
    with pytest.raises(Exception, match="already"):
        await reborn.open({"name": "more"})


async def test_a_full_chain_takes_no_order(http: httpx.AsyncClient, chain: LocalChain) -> None:
    await open_wallet(http)
    chain.mine_until_idle()
    for _ in range(MAX_WAITING_MESSAGES):
        chain.airdrop(SOMEBODY, 1)

    assert (await send(http, GOOD)).status_code == 503


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080", "http://localhost:3000", "http://localhost"])
async def test_pages_of_this_machine_may_use_it(http: httpx.AsyncClient, origin: str) -> None:
    preflight = await http.options("/wallet/send", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    answer = await http.post("/wallet", json={"name": "ann"}, headers={"Origin": origin})
    refused = await http.post("/wallet", json={}, headers={"Origin": origin})

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "content-type"
    for one in (preflight, answer, refused):
        assert one.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1.evil.example", "http://localhost:1@evil", "null", "http://10.0.0.1"]
)  # fmt: skip
async def test_pages_from_elsewhere_may_not(http: httpx.AsyncClient, chain: LocalChain, origin: str) -> None:
    for method, path in (("POST", "/wallet"), ("OPTIONS", "/wallet/send"), ("GET", "/wallet?name=ann")):
        answer = await http.request(method, path, headers={"Origin": origin}, content=b'{"name": "ann"}')
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert chain.waiting == 0


async def test_no_other_route_is_open_to_pages(http: httpx.AsyncClient) -> None:
    for path in ("/status", "/wallets"):
        assert "access-control-allow-origin" not in (await http.get(path, headers=PAGE)).headers
