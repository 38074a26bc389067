"""The controls under /_localnet/ do what they say and refuse what makes no sense."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from localnet.probe import SOMEBODY, TON
from tonsurance.localnet.cells import raw_address
from tonsurance.localnet.chain import MAX_WAITING_MESSAGES, NETWORK_ID, LocalChain
from tonsurance.localnet.deploy import deploy_contracts
from tonsurance.localnet.render import b64
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.wallets import Transfer, Wallet

ADDRESS = raw_address(SOMEBODY)


@pytest.fixture
async def control(chain: LocalChain) -> AsyncIterator[httpx.AsyncClient]:
    async with running(chain) as url, httpx.AsyncClient(base_url=f"{url}/_localnet", timeout=60) as client:
        yield client


async def test_the_status_says_where_the_contracts_are(chain: LocalChain) -> None:
    contracts = deploy_contracts(chain, bytes(32))

    async with running(Localnet(chain, contracts)) as url, httpx.AsyncClient(timeout=60) as client:
        status = (await client.get(f"{url}/_localnet/status")).json()

    blocks = status.pop("blocks")
    assert status == {
        "ready": True, "seqno": chain.head.seqno, "utime": chain.now, "vault": contracts.vault,
        "factory": contracts.factory, "network_id": NETWORK_ID, "seed": 1, "speed": 1.0, "waiting": 0, "rejected": 0,
        "frozen_until": 0, "claims_due": 0, "faults": {},
    }  # fmt: skip
    assert [block["seqno"] for block in blocks] == list(range(1, chain.head.seqno + 1))
    assert set(blocks[0]) == {"seqno", "utime", "mined_at", "start_lt", "end_lt"}


async def test_without_contracts_the_chain_is_not_ready(control: httpx.AsyncClient) -> None:
    status = (await control.get("/status")).json()

    assert (status["ready"], status["vault"], status["factory"]) == (False, None, None)
    assert (status["frozen_until"], status["claims_due"]) == (None, None)


async def test_the_status_shows_the_last_fifty_blocks(control: httpx.AsyncClient) -> None:
    mined = (await control.post("/mine", json={"n": 60})).json()

    blocks = (await control.get("/status")).json()["blocks"]

    assert (mined["mined"], mined["seqno"]) == (60, 61)
    assert [block["seqno"] for block in blocks] == list(range(12, 62))


async def test_coins_and_messages_come_with_the_next_block(control: httpx.AsyncClient, chain: LocalChain) -> None:
    wallet = Wallet("me", chain.seed)
    assert (await control.post("/airdrop", json={"address": wallet.address, "amount_nano": 3 * TON})).status_code == 200
    await control.post("/mine", json={})
    order = wallet.order([Transfer(destination=ADDRESS, value=TON, bounce=False)], seqno=0, valid_until=chain.now + 9)

    sent = (await control.post("/send", json={"boc": b64(order)})).json()
    await control.post("/mine", json={"n": 2})

    assert len(bytes.fromhex(sent["hash"])) == 32
    assert chain.balance(ADDRESS) == TON


async def test_the_speed_can_be_changed(control: httpx.AsyncClient, chain: LocalChain) -> None:
    start = chain.now

    assert (await control.post("/speed", json={"speed": 300})).json() == {"ok": True, "speed": 300.0}
    await control.post("/mine", json={"n": 2})

    assert chain.now == start + 600


BAD: list[tuple[str, dict[str, Any], int]] = [
    ("mine", {"n": 0}, 422), ("mine", {"n": 10_001}, 422), ("mine", {"n": "many"}, 422), ("mine", {"n": 1.5}, 422),
    ("airdrop", {}, 422), ("airdrop", {"address": ADDRESS}, 422), ("airdrop", {"amount_nano": 5}, 422),
    ("airdrop", {"address": "nowhere", "amount_nano": 5}, 416),
    ("airdrop", {"address": ADDRESS, "amount_nano": 0}, 422),
    ("airdrop", {"address": ADDRESS, "amount_nano": 10**19}, 422), ("send", {"boc": "!!"}, 422), ("send", {}, 422),
    ("send", {"boc": b64(b"nonsense")}, 422), ("speed", {}, 422), ("speed", {"speed": 0}, 422),
    ("speed", {"speed": "fast"}, 422), ("speed", {"speed": True}, 422), ("speed", {"speed": 1e300}, 422),
    ("elsewhere", {}, 404),
]  # fmt: skip


@pytest.mark.parametrize(("action", "content", "status"), BAD)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    control: httpx.AsyncClient, chain: LocalChain, action: str, content: dict[str, Any], status: int
) -> None:
    answer = await control.post(f"/{action}", json=content)

    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert (chain.head.seqno, chain.waiting, chain.speed) == (1, 0, 1.0)


async def test_controls_are_not_reached_by_get(control: httpx.AsyncClient, chain: LocalChain) -> None:
    assert (await control.get("/mine", params={"n": 3})).status_code == 405
    assert chain.head.seqno == 1


async def test_a_full_queue_is_said(control: httpx.AsyncClient, chain: LocalChain) -> None:
    for _ in range(MAX_WAITING_MESSAGES):
        chain.airdrop(SOMEBODY, 1)

    answer = await control.post("/airdrop", json={"address": ADDRESS, "amount_nano": 1})

    assert (answer.status_code, answer.json()["ok"]) == (503, False)
