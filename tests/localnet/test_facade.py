"""TonCenter's shapes, written down by hand: what a public client gets for good and for bad requests."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pytoniq_core.boc.cell import Cell

from localnet.probe import COUNT, LOG, SOMEBODY, TON, body, deploy_probe
from tonsurance.localnet.cells import boc_of, builder, friendly_address, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.messages import external_message
from tonsurance.localnet.render import b64
from tonsurance.localnet.server import running
from tonsurance.localnet.wallets import Transfer, Wallet

ADDRESS = raw_address(SOMEBODY)
EMPTY_BOC = "te6cckEBAQEAAgAAAEysuc0="


@pytest.fixture
async def api(chain: LocalChain) -> AsyncIterator[httpx.AsyncClient]:
    async with running(chain) as url, httpx.AsyncClient(base_url=f"{url}/api/v2", timeout=60) as client:
        yield client


async def get(api: httpx.AsyncClient, method: str, **parameters: Any) -> Any:
    answer = await api.get(f"/{method}", params=parameters)
    content = answer.json()
    assert (answer.status_code, content["ok"], set(content)) == (200, True, {"ok", "result", "@extra"})
    return content["result"]


async def run(api: httpx.AsyncClient, address: str, method: str | int, stack: list[Any], **more: Any) -> Any:
    answer = await api.post("/runGetMethod", json={"address": address, "method": method, "stack": stack, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def block_id(chain: LocalChain, seqno: int | None = None) -> dict[str, Any]:
    header = chain.header(seqno)
    return {
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": "-9223372036854775808",
        "seqno": header.seqno,
        "root_hash": b64(header.root_hash),
        "file_hash": b64(header.file_hash),
    }


async def test_masterchain_info(api: httpx.AsyncClient, chain: LocalChain) -> None:
    chain.mine()

    assert await get(api, "getMasterchainInfo") == {
        "@type": "blocks.masterchainInfo",
        "last": block_id(chain, 2),
        "state_root_hash": b64(chain.head.root_hash),
        "init": block_id(chain, 1),
    }


async def test_an_account_nobody_used(api: httpx.AsyncClient, chain: LocalChain) -> None:
    assert await get(api, "getAddressInformation", address=ADDRESS) == {
        "@type": "raw.fullAccountState",
        "balance": "0",
        "extra_currencies": [],
        "code": "",
        "data": "",
        "last_transaction_id": {"@type": "internal.transactionId", "lt": "0", "hash": b64(bytes(32))},
        "block_id": block_id(chain),
        "frozen_hash": "",
        "sync_utime": chain.now,
        "state": "uninitialized",
        "suspended": False,
    }
    assert await get(api, "getTransactions", address=ADDRESS) == []
    assert await get(api, "getAddressBalance", address=ADDRESS) == "0"
    assert await get(api, "getAddressState", address=ADDRESS) == "uninitialized"


async def test_an_account_at_a_block_of_the_past(api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    then = chain.head.seqno
    chain.submit_internal(probe, TON, body(COUNT))
    chain.mine_until_idle()
    (last, first) = chain.transactions(probe)

    old = await get(api, "getAddressInformation", address=raw_address(probe), seqno=then)
    new = await get(api, "getAddressInformation", address=friendly_address(probe))

    assert old["last_transaction_id"] == {
        "@type": "internal.transactionId",
        "lt": str(first.lt),
        "hash": b64(first.hash),
    }
    assert new["last_transaction_id"] == {"@type": "internal.transactionId", "lt": str(last.lt), "hash": b64(last.hash)}
    assert (old["block_id"], new["block_id"]) == (block_id(chain, then), block_id(chain))
    assert (old["state"], new["state"]) == ("active", "active")
    assert Cell.one_from_boc(base64.b64decode(new["code"])) == Cell.one_from_boc(probe_code)
    assert [Cell.one_from_boc(base64.b64decode(at["data"])).begin_parse().load_uint(64) for at in (old, new)] == [0, 1]
    assert int(new["balance"]) == chain.balance(probe)


async def test_a_transaction_with_an_event(api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes) -> None:
    probe, message = deploy_probe(chain, probe_code), body(LOG)
    chain.submit_internal(probe, TON, message, source=SOMEBODY)
    (block,) = chain.mine_until_idle()
    (stored,) = block.transactions

    shown = (await get(api, "getTransactions", address=raw_address(probe), limit=1))[0]

    (event,) = shown.pop("out_msgs")
    received = shown.pop("in_msg")
    fees = [int(shown.pop(name)) for name in ("fee", "storage_fee", "other_fee")]
    assert shown == {
        "@type": "ext.transaction",
        "address": {"@type": "accountAddress", "account_address": friendly_address(probe)},
        "account": f"0:{probe.hash_part.hex().upper()}",
        "utime": block.utime,
        "data": b64(stored.boc),
        "transaction_id": {"@type": "internal.transactionId", "lt": str(stored.lt), "hash": b64(stored.hash)},
    }
    assert fees[0] == fees[1] + fees[2]
    assert fees[0] > fees[2] > 0
    assert received["hash"] == b64(bytes(Cell.one_from_boc(stored.boc).refs[0].refs[0].hash))
    assert {name: received[name] for name in received if name not in ("hash", "created_lt")} == {
        "@type": "ext.message",
        "source": friendly_address(SOMEBODY),
        "destination": friendly_address(probe),
        "value": str(TON),
        "extra_currencies": [],
        "fwd_fee": "0",
        "ihr_fee": "0",
        "body_hash": b64(bytes(message.hash)),
        "msg_data": {"@type": "msg.dataRaw", "body": b64(boc_of(message)), "init_state": ""},
        "message": "AAAAAw==\n",
    }
    assert (event["source"], event["destination"]) == (friendly_address(probe), "")
    assert (event["value"], event["fwd_fee"], event["created_lt"]) == ("0", "0", str(stored.lt + 1))
    assert Cell.one_from_boc(base64.b64decode(event["msg_data"]["body"])).begin_parse().load_uint(32) == 0xABCD


async def test_a_comment_comes_as_text(api: httpx.AsyncClient, chain: LocalChain) -> None:
    rest = builder().store_bytes(b" world").end_cell()
    comment = builder().store_uint(0, 32).store_bytes(b"hello").store_ref(rest).end_cell()
    chain.submit_internal(SOMEBODY, TON, comment, bounce=False)
    chain.mine()

    (shown,) = await get(api, "getTransactions", address=ADDRESS)

    assert shown["in_msg"]["msg_data"] == {"@type": "msg.dataText", "text": b64(b"hello world")}
    assert shown["in_msg"]["message"] == "hello world"


async def test_an_external_message_has_no_source(api: httpx.AsyncClient, chain: LocalChain) -> None:
    wallet = Wallet("me", chain.seed)
    chain.airdrop(wallet.address, TON)
    chain.mine()
    wallet.send(chain, Transfer(destination=ADDRESS, value=1, bounce=False))
    chain.mine()

    shown = (await get(api, "getTransactions", address=wallet.address))[0]

    message = shown["in_msg"]
    assert (message["source"], message["value"], message["created_lt"]) == ("", "0", "0")
    assert shown["out_msgs"][0]["value"] == "1"
    assert message["msg_data"]["init_state"] == b64(boc_of(wallet.state_init))


async def test_pages_start_inclusive_and_end_exclusive(api: httpx.AsyncClient, chain: LocalChain) -> None:
    for _ in range(25):
        chain.airdrop(SOMEBODY, TON)
        chain.mine()
    everything = await get(api, "getTransactions", address=ADDRESS, limit=100)
    lts = [int(shown["transaction_id"]["lt"]) for shown in everything]
    assert len(lts) == 25
    assert lts == sorted(lts, reverse=True)
    start = everything[7]["transaction_id"]
    raw_hash = base64.b64decode(start["hash"])

    for hash_ in (start["hash"], raw_hash.hex(), base64.urlsafe_b64encode(raw_hash).decode().rstrip("=")):
        page = await get(api, "getTransactions", address=ADDRESS, lt=start["lt"], hash=hash_, limit=3, archival="true")
        assert page == everything[7:10]
    assert await get(api, "getTransactions", address=ADDRESS) == everything[:10]
    other = everything[8]["transaction_id"]["hash"]
    refused = await api.get("/getTransactions", params={"address": ADDRESS, "lt": start["lt"], "hash": other})
    assert (refused.status_code, refused.json()["error"]) == (500, "LITE_SERVER_UNKNOWN: transaction hash mismatch")
    assert await get(api, "getTransactions", address=ADDRESS, limit=100, to_lt=lts[4]) == everything[:4]
    assert await get(api, "getTransactions", address=ADDRESS, lt=0, limit=2) == everything[:2]


async def test_a_stack_is_shown_as_the_real_server_shows_it(
    api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes
) -> None:
    probe = deploy_probe(chain, probe_code)
    address, data = raw_address(probe), builder().store_uint(0, 64).end_cell()
    itself = builder().store_address(probe).end_cell()

    def number(value: int) -> dict[str, Any]:
        return {"@type": "tvm.stackEntryNumber", "number": {"@type": "tvm.numberDecimal", "number": str(value)}}

    def tree(data: str, length: int) -> dict[str, Any]:
        return {"data": {"b64": data, "len": length}, "refs": [], "special": False}

    plain = await run(api, address, "get_plain", [])
    assert plain["stack"] == [
        ["num", "0x1d"],
        ["num", "-0x5"],
        ["cell", {"bytes": b64(boc_of(data)), "object": tree("AAAAAAAAAAA=", 64)}],
        ["cell", {"bytes": b64(boc_of(itself)), "object": tree(b64(itself.bits.tobytes()), 267)}],
    ]  # fmt: skip
    assert (plain["@type"], plain["exit_code"], plain["block_id"]) == ("smc.runResult", 0, block_id(chain))
    assert plain["last_transaction_id"]["hash"] == b64(chain.account(probe).last_hash)
    assert plain["gas_used"] > 0
    assert (await run(api, address, "get_mixed", []))["stack"] == [
        ["tuple", {"@type": "tvm.tuple", "elements": [
            number(-7),
            {"@type": "tvm.stackEntryCell", "cell": {"@type": "tvm.cell", "bytes": b64(boc_of(data))}},
            {"@type": "tvm.stackEntrySlice", "slice": {"@type": "tvm.slice", "bytes": b64(boc_of(itself))}},
            {"@type": "tvm.stackEntryTuple", "tuple": {"@type": "tvm.tuple", "elements": [number(1), number(2)]}},
        ]}],
    ]  # fmt: skip
    assert (await run(api, address, "get_list", []))["stack"] == [
        ["list", {"@type": "tvm.list", "elements": [number(1), number(2)]}]
    ]
    assert (await run(api, address, "get_null", []))["stack"] == [["list", {"@type": "tvm.list", "elements": []}]]
    assert (await run(api, address, "get_builder", []))["stack"] == [
        ["unsupported", {"@type": "tvm.stackEntryUnsupported"}]
    ]


async def test_a_method_takes_every_kind_of_argument(
    api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes
) -> None:
    address = raw_address(deploy_probe(chain, probe_code))

    for first in (["num", "0x2a"], ["num", "42"], ["num", 42], ["int", "42"]):
        assert (await run(api, address, "subtract", [first, ["num", "-1"]]))["stack"] == [["num", "0x2b"]]
    for kind in ("tvm.Cell", "cell"):
        assert (await run(api, address, "same_cell", [[kind, EMPTY_BOC]]))["exit_code"] == 0
    for kind in ("tvm.Slice", "slice"):
        assert (await run(api, address, "same_slice", [[kind, {"bytes": EMPTY_BOC}]]))["exit_code"] == 0
    nested = ["tuple", {"elements": [["num", "1"], ["null", None], ["list", {"elements": []}]]}]
    assert (await run(api, address, "same_tuple", [nested]))["exit_code"] == 0


async def test_a_method_runs_at_the_block_asked_for(
    api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes
) -> None:
    probe = deploy_probe(chain, probe_code)
    then, time = chain.head.seqno, chain.now
    chain.submit_internal(probe, TON, body(COUNT))
    chain.mine_until_idle()

    old = await run(api, raw_address(probe), "get_count", [], seqno=then)
    new = await run(api, raw_address(probe), "get_count", [])

    assert (old["stack"], new["stack"]) == ([["num", "0x0"]], [["num", "0x1"]])
    assert old["block_id"] == block_id(chain, then)
    assert (await run(api, raw_address(probe), "get_time", [], seqno=then))["stack"][0] == ["num", hex(time)]


async def test_a_failed_method_is_an_answer_with_its_exit_code(
    api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes
) -> None:
    address = raw_address(deploy_probe(chain, probe_code))

    for method, exit_code in (("fail", 404), ("nothing_like_it", 11), ("endless", -14)):
        assert (await run(api, address, method, []))["exit_code"] == exit_code
    assert (await run(api, ADDRESS, "get_count", []))["exit_code"] == -13


async def test_a_sent_message_is_in_the_next_block(api: httpx.AsyncClient, chain: LocalChain) -> None:
    wallet = Wallet("me", chain.seed)
    chain.airdrop(wallet.address, TON)
    chain.mine_until_idle()
    orders = [
        wallet.order([Transfer(destination=ADDRESS, value=1, bounce=False)], seqno=seqno, valid_until=chain.now + 60)
        for seqno in (0, 1)
    ]

    plain = await api.post("/sendBoc", json={"boc": b64(orders[0])})
    hashed = await api.post("/sendBocReturnHash", json={"boc": b64(orders[1])})
    chain.mine()

    assert plain.json()["result"] == {"@type": "ok"}
    message = Cell.one_from_boc(orders[1])
    # the second order has no init and its body in a ref, so that it is its own normal form
    assert hashed.json()["result"] == {
        "@type": "raw.extMessageInfo", "hash": b64(bytes(message.hash)), "hash_norm": b64(bytes(message.hash)),
    }  # fmt: skip
    assert wallet.seqno(chain) == 2


async def test_a_normalized_hash_does_not_depend_on_the_packing(api: httpx.AsyncClient) -> None:
    content = builder().store_uint(5, 64).end_cell()
    inline = builder().store_uint(0b1000, 4).store_address(SOMEBODY).store_coins(0).store_uint(0, 2).store_uint(5, 64)

    answer = await api.post("/sendBocReturnHash", json={"boc": b64(boc_of(inline.end_cell()))})

    assert answer.json()["result"]["hash_norm"] == b64(bytes(external_message(SOMEBODY, content).hash))


async def test_json_rpc_answers_the_same_methods(api: httpx.AsyncClient) -> None:
    call = {"jsonrpc": "2.0", "id": "7", "method": "getAddressBalance", "params": {"address": ADDRESS}}

    good = await api.post("/jsonRPC", json=call)
    bad = await api.post("/jsonRPC", json={**call, "params": {}})

    assert good.json() | {"@extra": ""} == {"ok": True, "result": "0", "@extra": "", "id": "7", "jsonrpc": "2.0"}
    assert bad.status_code == 422
    assert (bad.json()["ok"], bad.json()["code"], bad.json()["id"]) == (False, 422, "7")


async def test_a_bag_of_cells_that_shares_them_is_answered_at_once(
    api: httpx.AsyncClient, chain: LocalChain, probe_code: bytes
) -> None:
    """Written out as a tree it would have 2^60 cells."""
    cell = builder().end_cell()
    for number in range(60):
        cell = builder().store_uint(number, 32).store_ref(cell).store_ref(cell).end_cell()
    address = raw_address(deploy_probe(chain, probe_code))

    shown = await run(api, address, "same_cell", [["cell", b64(boc_of(cell))]])

    assert shown["stack"] == [["cell", {"bytes": b64(boc_of(cell))}]]
