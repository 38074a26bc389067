"""kill -9 at any moment: whatever was served before is there after, and the chain goes on."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tonsurance.core.errors import DependencyError, InputError
from tonsurance.localnet.messages import read_transaction
from tonsurance.localnet.server import LocalnetSettings, open_store, serve
from tonsurance.localnet.store import ChainStore

PROGRAM = """
import asyncio, sys
from pathlib import Path
from tonsurance.localnet.server import LocalnetSettings, serve
asyncio.run(serve(LocalnetSettings(data_dir=Path(sys.argv[1]), port=int(sys.argv[2]), quote_key=bytes(32),
    speed=6000, block_interval_s=0.02, genesis_time=1_790_000_000)))
"""


@asynccontextmanager
async def process(home: Path, port: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """A local chain as a process of its own, once it answers."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(home), str(port), stderr=asyncio.subprocess.DEVNULL
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            while not await is_ready(client):
                assert child.returncode is None
            yield child, client
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return bool((await client.get("/_localnet/status")).json()["ready"])
    except httpx.TransportError:
        await asyncio.sleep(0.02)
        return False


class Witness:
    """Writes down what the chain served, and later asks for it again."""

    def __init__(self) -> None:
        self.blocks: dict[int, dict[str, Any]] = {}
        self.accounts: dict[int, dict[str, Any]] = {}
        self.transactions: dict[str, dict[str, Any]] = {}

    async def look(self, client: httpx.AsyncClient, vault: str) -> None:
        info = (await client.get("/api/v2/getMasterchainInfo")).json()["result"]["last"]
        self.blocks[info["seqno"]] = info
        account = await read_account(client, vault, info["seqno"])
        self.accounts[info["seqno"]] = account
        page = (await client.get("/api/v2/getTransactions", params={"address": vault, "limit": 5})).json()["result"]
        self.transactions |= {shown["transaction_id"]["lt"]: shown for shown in page}

    async def check(self, client: httpx.AsyncClient, vault: str) -> None:
        for seqno, account in self.accounts.items():
            assert await read_account(client, vault, seqno) == account
            assert account["block_id"] == self.blocks[seqno]
        for shown in self.transactions.values():
            id_ = shown["transaction_id"]
            parameters = {"address": vault, "limit": 1, "lt": id_["lt"], "hash": id_["hash"]}
            assert (await client.get("/api/v2/getTransactions", params=parameters)).json()["result"] == [shown]


async def read_account(client: httpx.AsyncClient, vault: str, seqno: int) -> dict[str, Any]:
    answer = await client.get("/api/v2/getAddressInformation", params={"address": vault, "seqno": seqno})
    result: dict[str, Any] = answer.json()["result"]
    return result


async def test_nothing_that_was_served_is_missing_after_kill_9(tmp_path: Path, free_port: int) -> None:
    witness, rng = Witness(), random.Random(7)
    vaults, heads = set(), []
    for _ in range(4):
        async with process(tmp_path, free_port) as (child, client):
            vault = (await client.get("/_localnet/status")).json()["vault"]
            vaults.add(vault)
            await witness.check(client, vault)
            for _ in range(rng.randint(10, 40)):
                await witness.look(client, vault)
            heads.append(max(witness.blocks))
            child.send_signal(signal.SIGKILL)

    assert len(vaults) == 1
    assert heads == sorted(heads)
    assert len(witness.accounts) > 20
    check_links(tmp_path, vaults.pop())


def check_links(home: Path, vault: str) -> None:
    """Every account's transactions are linked to its first, and every block follows the one before."""
    store = ChainStore(home / "chain.sqlite")
    head = store.load_header()
    assert head is not None
    headers = store.load_last_headers(head.seqno)
    assert [header.seqno for header in headers] == list(range(1, head.seqno + 1))
    accounts = {made.account for header in headers for made in store.load_block_transactions(header.seqno)}
    assert len(accounts) > 10
    for account in accounts:
        views = [read_transaction(made.boc) for made in store.load_transactions(account, limit=100_000)]
        links = [(view.prev_lt, view.prev_hash) for view in views]
        assert links == [(view.lt, view.hash) for view in views[1:]] + [(0, bytes(32))]
    store.close()


async def test_a_stopped_chain_gives_everything_back(tmp_path: Path) -> None:
    """As a part of a process: serves, stops when asked, and can be opened at once again."""
    stop = asyncio.Event()
    settings = LocalnetSettings(data_dir=tmp_path / "deep/er", port=0, quote_key=bytes(32), block_interval_s=0.01)
    task = asyncio.create_task(serve(settings, stop))
    while not (tmp_path / "deep/er/chain.sqlite").exists():
        await asyncio.sleep(0)
    stop.set()
    await task

    store = open_store(tmp_path / "deep/er")
    head = store.load_header()
    assert head is not None
    assert head.seqno > 5
    store.close()


@pytest.mark.parametrize("wrong", [{"quote_key": b"short"}, {"block_interval_s": 0.0}, {"speed": 0.0}])
async def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    settings = {"data_dir": tmp_path, "port": 0, "quote_key": bytes(32)} | wrong

    with pytest.raises(InputError):
        await serve(LocalnetSettings(**settings), asyncio.Event())


async def test_a_taken_port_is_said(tmp_path: Path, free_port: int) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", free_port)
    async with server:
        with pytest.raises(DependencyError, match=f"Port {free_port}"):
            await serve(LocalnetSettings(data_dir=tmp_path, port=free_port, quote_key=bytes(32)), asyncio.Event())


async def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = LocalnetSettings(data_dir=tmp_path / "file/chain", port=0, quote_key=bytes(32))

    with pytest.raises(DependencyError, match="cannot be made"):
        await serve(settings, asyncio.Event())
