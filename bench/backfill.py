"""The whole path of a backfill, from an HTTP server on loopback into the ledger, against decoding alone."""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop

from bench.chains import Repeated
from bench.figures import Figure, median, spread
from bench.posting import durable_cluster, make_database
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import load_layout
from tonsurance.core.events import VAULT_KIND, Cursor
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import register_contract
from tonsurance.db.pool import connect, open_pool
from tonsurance.services.ingest import ContractIngest
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.sync_records import DatabaseRecords

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from chain.fake_toncenter import identity

TRANSACTIONS, ROUNDS = 10_000, 4
History = list[tuple[Cursor, bytes]]


def measure() -> list[Figure]:
    """The ratio, and where the time goes."""
    layout = load_layout()
    story = Repeated(layout)
    history = list(story.make(TRANSACTIONS))
    decoder = Decoder(layout, contract=story.contract, kind=VAULT_KIND)
    whole, alone, fetched = [], list[float](), list[float]()
    with durable_cluster() as dsn, serving(history) as url:
        for _ in range(ROUNDS):
            whole.append(uvloop.run(_backfill(dsn, url, decoder, history[-1][0].lt)))
            alone.append(_decode_all(decoder, history))
            fetched.append(uvloop.run(_fetch(url, decoder)))
    ratios = [one / all_ for one, all_ in zip(alone[1:], whole[1:], strict=True)]
    total, decoding, fetching = median(whole), median(alone), median(fetched)
    parts = (
        f"of {total:.1f} s {fetching:.1f} s are fetching, proving and reading cells; the rest is events and posting. "
        f"Decoding alone, cells included, takes {decoding:.1f} s"
    )
    return [
        Figure(
            name=f"backfill of {TRANSACTIONS:,} transactions, whole path: speed against decoding alone",
            value=f"{median(ratios):.2f} ({TRANSACTIONS / total:,.0f}/s)",
            spread=spread(ratios),
            limit=">= 0.8",
            ok=median(ratios) >= 0.8,
            note=f"{parts}. Cells are read once, when a transaction is proved, but one thing follows the other "
            "in one process. To come near decoding alone, fetching and posting need a processor of their own.",
        )
    ]


def run_long(events: int) -> None:
    """One backfill of so many events or a few more, with its progress: `python -m bench.backfill 100000`."""
    layout = load_layout()
    story = Repeated(layout)
    decoder = Decoder(layout, contract=story.contract, kind=VAULT_KIND)
    history: History = []
    found = 0
    for cursor, boc in story.make(events):
        history.append((cursor, boc))
        found += len(decoder.decode(boc).events)
        if found >= events:
            break
    print(f"{len(history):,} transactions with {found:,} events")
    with durable_cluster() as dsn, serving(history) as url:
        took = uvloop.run(_backfill(dsn, url, decoder, history[-1][0].lt, print))
    print(f"{took:.1f} s: {len(history) / took:,.0f} transactions/s, {found / took:,.0f} events/s")


async def _tell(ingest: ContractIngest, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(1.0)
        progress = ingest.status.progress
        if progress is not None:
            place = f"lt {progress.at_lt} of {progress.to_lt}"
            say(f"{progress.read:,} read, {progress.posted:,} posted, {place}, {progress.rate:,.0f} transactions/s")


def _decode_all(decoder: Decoder, history: History) -> float:
    started = time.perf_counter()
    for _, boc in history:
        decoder.decode(boc)
    return time.perf_counter() - started


async def _fetch(url: str, decoder: Decoder) -> float:
    async with TonCenterClient(url) as client:
        follower = Follower(client, decoder.contract, decoder.kind)
        started = time.perf_counter()
        await follower.walk(Cursor(0, bytes(32)), await follower.read_head())
        return time.perf_counter() - started


async def _backfill(dsn: str, url: str, decoder: Decoder, last: int, say: Callable[[str], None] | None = None) -> float:
    """Into a fresh database, as the daemon does it, up to the transaction `last`; with its progress each second."""
    made = await make_database(dsn, "backfill")
    conn = await connect(made)
    await register_contract(conn, decoder.contract, decoder.kind, "main")
    pool, writer = await open_pool(made), LedgerWriter(made, DEFAULT_PARAMS)
    async with TonCenterClient(url) as client:
        follower = Follower(client, decoder.contract, decoder.kind)
        started = time.perf_counter()
        ingest = ContractIngest(follower, decoder, writer, DatabaseRecords(pool))
        telling = asyncio.create_task(_tell(ingest, say)) if say else None
        while ingest.status.cursor_lt < last:  # a long history is read in stages
            await ingest.run_once()
        took = time.perf_counter() - started
    if telling is not None:
        telling.cancel()
    await writer.close()
    await pool.close()
    posted = await conn.fetchval("SELECT last_synced_lt FROM blockchain_sync_state")
    await conn.close()
    if posted != last:
        raise RuntimeError(f"the backfill ended at {posted}")
    return took


@contextmanager
def serving(history: History) -> Iterator[str]:
    """A process that serves these transactions; it has rendered each of them before, so that it costs little."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(history, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(history: History, pipe: Pipe) -> None:
    uvloop.run(_serve_forever(history, pipe))


async def _serve_forever(history: History, pipe: Pipe) -> None:
    lts = [cursor.lt for cursor, _ in history]
    rendered = [_render(cursor, boc) for cursor, boc in history]
    block = {"workchain": -1, "seqno": 1}
    account = {"state": "active", "last_transaction_id": identity(history[-1][0]), "block_id": block}
    heads = {"getAddressInformation": account, "getMasterchainInfo": {"last": block}}
    answers = {method: json.dumps(result).encode() for method, result in heads.items()}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return writer.close()
            target = urlsplit(request.split(b" ", 2)[1].decode())
            method = target.path.rpartition("/")[2]
            result = answers.get(method) or _page(lts, rendered, parse_qs(target.query))
            body = b'{"ok":true,"result":' + result + b"}"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _render(cursor: Cursor, boc: bytes) -> bytes:
    data = base64.b64encode(boc).decode()
    return json.dumps({"@type": "raw.transaction", "data": data, "transaction_id": identity(cursor)}).encode()


def _page(lts: list[int], rendered: list[bytes], query: dict[str, Any]) -> bytes:
    end = bisect_right(lts, int(query["lt"][0]))
    start = max(end - int(query["limit"][0]), bisect_right(lts, int(query.get("to_lt", ["0"])[0])))
    return b"[" + b",".join(reversed(rendered[start:end])) + b"]"


if __name__ == "__main__":
    run_long(int(sys.argv[1]))
