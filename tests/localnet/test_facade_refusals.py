"""Wrong requests to the TonCenter facade: refused in the server's words, without any effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from localnet.probe import SOMEBODY
from tonsurance.localnet.cells import raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.render import b64
from tonsurance.localnet.server import running

ADDRESS = raw_address(SOMEBODY)
EMPTY_BOC = "te6cckEBAQEAAgAAAEysuc0="


@pytest.fixture
async def api(chain: LocalChain) -> AsyncIterator[httpx.AsyncClient]:
    async with running(chain) as url, httpx.AsyncClient(base_url=f"{url}/api/v2", timeout=60) as client:
        yield client


TOO_LONG = "a" * 5000
BAD_GETS = [
    ("getAddressInformation", {}, 422),
    ("getAddressInformation", {"address": ""}, 422),
    ("getAddressInformation", {"address": "nonsense"}, 416),
    ("getAddressInformation", {"address": TOO_LONG}, 416),
    ("getAddressInformation", {"address": "0:" + "g" * 64}, 416),
    ("getAddressInformation", {"address": "7:" + "0" * 64}, 416),
    ("getAddressInformation", {"address": "\u0661" * 48}, 416),
    ("getAddressInformation", {"address": ADDRESS, "seqno": "x"}, 422),
    ("getAddressInformation", {"address": ADDRESS, "seqno": "-1"}, 422),
    ("getAddressInformation", {"address": ADDRESS, "seqno": "2"}, 500),
    ("getAddressInformation", {"address": ADDRESS, "seqno": "9" * 30}, 422),
    ("getTransactions", {"address": ADDRESS, "limit": "0"}, 422),
    ("getTransactions", {"address": ADDRESS, "limit": "101"}, 422),
    ("getTransactions", {"address": ADDRESS, "limit": "1e1"}, 422),
    ("getTransactions", {"address": ADDRESS, "limit": "\u0661"}, 422),
    ("getTransactions", {"address": ADDRESS, "lt": "5"}, 422),
    ("getTransactions", {"address": ADDRESS, "hash": b64(bytes(32))}, 422),
    ("getTransactions", {"address": ADDRESS, "lt": "5", "hash": "short"}, 422),
    ("getTransactions", {"address": ADDRESS, "lt": "5", "hash": b64(bytes(32))}, 500),
    ("getTransactions", {"address": ADDRESS, "lt": str(2**63), "hash": b64(bytes(32))}, 422),
    ("getTransactions", {"address": ADDRESS, "to_lt": str(2**64)}, 422),
    ("noSuchMethod", {}, 404),
    ("", {}, 404),
    ("../_localnet", {}, 404),
    ("runGetMethod", {"address": ADDRESS}, 405),
    ("sendBoc", {"boc": EMPTY_BOC}, 405),
]  # fmt: skip


@pytest.mark.parametrize(("method", "parameters", "status"), BAD_GETS)
async def test_a_wrong_request_is_refused_in_the_servers_words(
    api: httpx.AsyncClient, chain: LocalChain, method: str, parameters: dict[str, str], status: int
) -> None:
    answer = await api.get(f"/{method}", params=parameters)

    content = answer.json()
    assert (answer.status_code, content["ok"], content["code"]) == (status, False, status)
    assert content["error"]
    assert len(content["error"]) < 300
    assert chain.head.seqno == 1


DEEP = "[" * 100_000 + "]" * 100_000
BAD_POSTS: list[tuple[str, Any, int]] = [
    ("runGetMethod", {"address": ADDRESS}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": ""}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": 2**40}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": None}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": True}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": TOO_LONG}, 422),
    ("runGetMethod", {"address": 5, "method": "x"}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": {}}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [5]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["num"]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["num", "zwei"]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["num", str(2**256)]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["num", 1.5]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["num", True]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["cell", "!!"]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["cell", {"bytes": 5}]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["cell", b64(b"nonsense")]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["dict", {}]]}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "stack": [["num", "1"]] * 256}, 422),
    ("runGetMethod", {"address": ADDRESS, "method": "x", "seqno": 1.5}, 422),
    ("sendBoc", {}, 422),
    ("sendBoc", {"boc": 5}, 422),
    ("sendBoc", {"boc": "!!"}, 422),
    ("sendBoc", {"boc": b64(b"nonsense")}, 500),
    ("sendBoc", {"boc": EMPTY_BOC}, 500),
    ("sendBocReturnHash", {"boc": EMPTY_BOC}, 500),
    ("jsonRPC", {"method": 5}, 422),
    ("jsonRPC", {"method": "getAddressBalance", "params": []}, 422),
    ("jsonRPC", {"method": "__init__"}, 404),
]  # fmt: skip


@pytest.mark.parametrize(("method", "content", "status"), BAD_POSTS)
async def test_a_wrong_body_is_refused_and_changes_nothing(
    api: httpx.AsyncClient, chain: LocalChain, method: str, content: Any, status: int
) -> None:
    answer = await api.post(f"/{method}", json=content)

    assert (answer.status_code, answer.json()["ok"], answer.json()["code"]) == (status, False, status)
    assert chain.waiting == 0


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 422), (b"[]", 422), (b"\xff\xfe", 422), (DEEP.encode(), 422), (b" " * 2_000_000, 413), (b"", 422)],
)
async def test_a_body_that_is_no_object_is_refused(api: httpx.AsyncClient, content: bytes, status: int) -> None:
    answer = await api.post("/runGetMethod", content=content)

    assert (answer.status_code, answer.json()["code"]) == (status, status)


async def test_a_query_that_cannot_be_read_is_refused(api: httpx.AsyncClient) -> None:
    for query in ("address=%ff", "&".join(f"a{number}=1" for number in range(200))):
        assert (await api.get(f"/getTransactions?{query}")).status_code == 422


async def test_other_verbs_are_refused(api: httpx.AsyncClient) -> None:
    for verb in ("PUT", "DELETE", "PATCH"):
        assert (await api.request(verb, "/getMasterchainInfo")).status_code == 405
    assert (await api.head("/getMasterchainInfo")).status_code == 200
    assert (await api.get("/../elsewhere")).status_code == 404
