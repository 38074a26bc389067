"""TonCenter's API v3 over the local chain: each field against the cells and against v2, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from toncenter.rest import ToncenterRestClient

from localnet.probe import COUNT, FAIL, LOG, SOMEBODY, TON, body, deploy_probe
from tonsurance.chain.transactions import read_external_outs
from tonsurance.chain.transactions import read_transaction as read_with_our_reader
from tonsurance.localnet.cells import boc_of, cell_from_boc, friendly_address, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.messages import normalized_hash, read_transaction
from tonsurance.localnet.render import b64
from tonsurance.localnet.render_v3 import raw_address_v3
from tonsurance.localnet.server import running
from tonsurance.localnet.wallets import Transfer, Wallet

STATE_KEYS = {"hash", "balance", "extra_currencies", "account_status", "frozen_hash", "data_hash", "code_hash"}


@pytest.fixture
async def api(chain: LocalChain) -> AsyncIterator[httpx.AsyncClient]:
    async with running(chain) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


async def read(api: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await api.get("/api/v3/transactions", params=asked)
    content = answer.json()
    assert (answer.status_code, set(content)) == (200, {"transactions", "address_book"}), content
    shown: list[dict[str, Any]] = content["transactions"]
    return shown


async def test_a_transaction_with_an_event(api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    chain.submit_internal(probe, TON, body(LOG))
    block = chain.mine()
    (made, before) = chain.transactions(probe, limit=2)
    view = read_transaction(made.boc)
    (shown,) = await read(api, account=friendly_address(probe), limit=1)
    description, in_msg, (event,) = shown.pop("description"), shown.pop("in_msg"), shown.pop("out_msgs")
    states = shown.pop("account_state_before"), shown.pop("account_state_after")
    assert shown == {
        "account": f"0:{probe.hash_part.hex().upper()}",
        "hash": b64(made.hash),
        "lt": str(made.lt),
        "now": block.utime,
        "mc_block_seqno": block.seqno,
        "trace_id": b64(made.hash),
        "trace_external_hash": in_msg["hash"],
        "prev_trans_hash": b64(before.hash),
        "prev_trans_lt": str(before.lt),
        "orig_status": "active",
        "end_status": "active",
        "total_fees": str(view.total_fees),
        "total_fees_extra_currencies": {},
        "block_ref": {"workchain": 0, "shard": "8000000000000000", "seqno": block.seqno},
        "emulated": False,
        "finality": "finalized",
    }
    assert all(set(state) == STATE_KEYS for state in states)
    assert states[0]["hash"] != states[1]["hash"]
    assert (description["type"], description["aborted"], description["destroyed"]) == ("ord", False, False)
    assert description["credit_ph"] == {"credit": str(TON)}
    compute, action = description["compute_ph"], description["action"]
    assert (compute["skipped"], compute["success"], compute["exit_code"]) == (False, True, 0)
    assert int(compute["gas_used"]) * 400 == int(compute["gas_fees"])
    assert (action["success"], action["valid"], action["result_code"]) == (True, True, 0)
    assert (action["tot_actions"], action["msgs_created"], action["skipped_actions"]) == (1, 1, 0)
    assert (event["source"], event["destination"], event["value"]) == (shown["account"], None, None)
    assert event["opcode"] == "0x0000abcd"
    assert event["created_at"] == str(block.utime)
    assert (in_msg["destination"], in_msg["value"]) == (shown["account"], str(TON))


async def test_the_body_of_each_message_is_whole(api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    sent = body(LOG)
    chain.submit_internal(probe, TON, sent)
    chain.mine()
    (made,) = chain.transactions(probe, limit=1)
    (told,) = read_external_outs(read_with_our_reader(made.boc))
    (shown,) = await read(api, account=raw_address(probe), limit=1)
    content = shown["in_msg"]["message_content"]
    assert (content["hash"], content["body"]) == (b64(bytes(sent.hash)), b64(boc_of(sent)))
    (event,) = shown["out_msgs"]
    inside = cell_from_boc(base64.b64decode(event["message_content"]["body"]))
    assert event["message_content"]["hash"] == b64(bytes(inside.hash)) == b64(told.body.hash)


async def test_a_failed_transaction_says_so(api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    chain.submit_internal(probe, TON, body(FAIL))
    chain.mine()
    (shown,) = await read(api, account=raw_address(probe), limit=1)
    description = shown["description"]
    assert (description["aborted"], description["compute_ph"]["success"]) == (True, False)
    assert description["compute_ph"]["exit_code"] == 77
    assert "action" not in description
    assert description["bounce"]["type"] == "ok"
    (back,) = shown["out_msgs"]
    assert (back["bounced"], back["opcode"]) == (True, "0xffffffff")


async def test_an_address_without_a_contract(api: httpx.AsyncClient, chain: LocalChain) -> None:
    chain.airdrop(raw_address(SOMEBODY), TON)
    chain.mine()
    (shown,) = await read(api, account=raw_address(SOMEBODY))
    assert (shown["orig_status"], shown["end_status"]) == ("nonexist", "uninit")
    assert shown["description"]["compute_ph"] == {"skipped": True, "reason": "no_state"}
    assert (shown["prev_trans_lt"], shown["prev_trans_hash"]) == ("0", b64(bytes(32)))


async def test_a_wallets_order_comes_from_nowhere_and_has_its_normalized_hash(
    api: httpx.AsyncClient, chain: LocalChain
) -> None:
    wallet = Wallet("me", chain.seed)
    chain.airdrop(wallet.address, 10 * TON)
    chain.mine()
    wallet.send(chain, Transfer(destination=raw_address(SOMEBODY), value=TON, bounce=False))
    chain.mine_until_idle()
    (paid,) = await read(api, account=raw_address(SOMEBODY), limit=1)
    (ordered,) = await read(api, account=wallet.address, limit=1)
    (made,) = chain.transactions(wallet.address, limit=1)
    message = read_transaction(made.boc).in_message
    assert message is not None
    assert ordered["in_msg"]["hash_norm"] == b64(normalized_hash(message))
    assert [ordered["in_msg"][name] for name in ("source", "value", "created_lt", "bounce")] == 4 * [None]
    assert paid["trace_id"] == ordered["trace_id"] == ordered["hash"]
    assert paid["trace_external_hash"] == ordered["in_msg"]["hash"]


@pytest.fixture
def history(chain: LocalChain, probe_code: bytes) -> tuple[str, list[int]]:
    """A probe with twelve transactions, and their logical times, oldest first."""
    probe = deploy_probe(chain, probe_code)
    for _ in range(11):
        chain.submit_internal(probe, TON, body(COUNT))
        chain.mine()
    return raw_address(probe), [made.lt for made in chain.transactions(probe)][::-1]


async def lts_of(api: httpx.AsyncClient, **asked: Any) -> list[int]:
    return [int(shown["lt"]) for shown in await read(api, **asked)]


async def test_pages(api: httpx.AsyncClient, history: tuple[str, list[int]]) -> None:
    account, lts = history
    assert len(lts) == 12
    assert await lts_of(api, account=account) == lts[:1:-1]  # ten, newest first
    assert await lts_of(api, account=account, limit=1000, sort="asc") == lts
    assert await lts_of(api, account=account, limit=3, offset=2) == lts[::-1][2:5]
    assert await lts_of(api, account=account, limit=3, offset=2, sort="asc") == lts[2:5]
    assert await lts_of(api, account=account, offset=12) == []
    assert await lts_of(api, account=account, start_lt=lts[3], end_lt=lts[5], sort="asc") == lts[3:6]
    assert await lts_of(api, account=account, lt=lts[4]) == [lts[4]]
    assert await lts_of(api, account=account, lt=lts[4] + 1) == []
    assert await lts_of(api, account=account, start_lt=lts[5], end_lt=lts[3]) == []


async def test_a_transaction_by_its_hash_and_a_block_by_its_number(
    api: httpx.AsyncClient, chain: LocalChain, history: tuple[str, list[int]]
) -> None:
    account, lts = history
    stored = chain.transaction(account, lts[1])
    assert stored is not None
    for text in (b64(stored.hash), stored.hash.hex(), base64.urlsafe_b64encode(stored.hash).decode()):
        assert await lts_of(api, account=account, hash=text) == [lts[1]]
    assert await lts_of(api, account=account, hash="ab" * 32) == []
    assert await lts_of(api, mc_seqno=stored.seqno) == [lts[1]]
    assert await lts_of(api, mc_seqno=stored.seqno, account=raw_address(SOMEBODY)) == []
    assert await lts_of(api, mc_seqno=10**6) == []


async def test_several_accounts_come_in_one_order(api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes) -> None:
    probes = [deploy_probe(chain, probe_code, number=number) for number in (1, 2)]
    for probe in probes:
        chain.submit_internal(probe, TON, body(COUNT))
    chain.mine()
    accounts = [raw_address(probe) for probe in probes]
    answer = await api.get("/api/v3/transactions", params=[("account", text) for text in accounts])
    content = answer.json()
    shown = [(int(one["lt"]), one["account"]) for one in content["transactions"]]
    assert shown == sorted(shown, key=lambda item: (-item[0], item[1]))
    assert len(shown) == 4
    assert await read(api, account=",".join(accounts)) == content["transactions"]
    book = content["address_book"]
    assert book[raw_address_v3(probes[0])] == {"user_friendly": friendly_address(probes[0]), "domain": None}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "account or mc_seqno is required"),
        ({"account": "nonsense"}, "is not a TON address"),
        ({"limit": "0"}, "limit: value must be an integer in [1, 1000]"),
        ({"limit": "1001"}, "limit: value must be"),
        ({"offset": "-1"}, "offset: value must be"),
        ({"sort": "sideways"}, "sort: value must be asc or desc"),
        ({"hash": "x"}, "hash: value must be a hash"),
        ({"start_lt": "soon"}, "start_lt: value must be"),
        ({"start_utime": "1"}, "start_utime: the local chain has no such filter"),
    ],
)
async def test_a_wrong_request_is_refused_in_v3s_words(
    api: httpx.AsyncClient, asked: dict[str, str], said: str
) -> None:
    base = {} if not asked or "account" in asked else {"account": raw_address(SOMEBODY)}
    answer = await api.get("/api/v3/transactions", params=base | asked)
    assert (answer.status_code, set(answer.json())) == (422, {"error"})
    assert said in answer.json()["error"]


async def test_what_is_not_there_is_refused_in_v3s_words(api: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "nope", 404), ("POST", "transactions", 405)):
        answer = await api.request(method, f"/api/v3/{path}")
        assert (answer.status_code, set(answer.json())) == (status, {"error"})


async def test_a_public_client_reads_it(chain: LocalChain, history: tuple[str, list[int]]) -> None:
    account, lts = history
    async with (
        running(chain) as url,
        ToncenterRestClient(base_url=url, api_key="any", retry_policy=None) as client,
    ):
        page = await client.v3.blockchain.get_transactions(account=[account], limit=5, sort="asc")
    assert page.transactions is not None
    assert [int(shown.lt or 0) for shown in page.transactions] == lts[:5]
    assert page.transactions[-1].description is not None
