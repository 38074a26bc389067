"""The price source over a real socket: what is no price becomes an error, never a price."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from tonsurance.core.errors import PriceUnavailable, UsageError
from tonsurance.feeds.prices import PriceSource

NOW = int(time.time())


class Answering:
    """A server that gives one raw answer, and keeps what it was asked."""

    def __init__(self) -> None:
        self.body = b""
        self.status = "200 OK"
        self.hangs = False
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.hangs:
            await reader.read()  # until the client goes away
        else:
            head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[Answering, str]]:
    answers = Answering()
    server = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    async with server:
        yield answers, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def quote(usd: object, at: object = NOW) -> bytes:
    return json.dumps({"the-open-network": {"usd": usd, "last_updated_at": at}}).encode()


def name_of(body: bytes) -> str:
    """Without the moment: all workers of a test run must call a test the same."""
    return repr(body[:70]).replace(str(NOW), "now").replace(str(NOW + 3600), "later")


async def test_a_price_is_read_with_its_moment_and_every_digit() -> None:
    async with answering() as (answers, url), PriceSource(url, "k3y") as source:
        answers.body = b'{"the-open-network":{"usd":5.123456789012345678,"last_updated_at":%d}}' % NOW
        price = await source.read_ton()
    assert (price.usd, price.observed_at, price.asset) == (Decimal("5.123456789012345678"), float(NOW), "TON")
    assert price.source == "127.0.0.1"
    [request] = answers.requests
    assert request.startswith("GET /simple/price?ids=the-open-network&vs_currencies=usd&include_last_updated_at=true")
    assert "x-cg-demo-api-key: k3y" in request
    assert "k3y" not in request.split("\r\n")[0], "the key is in a header only"


@pytest.mark.parametrize(
    "body",
    [
        quote(0),
        quote(-1),
        quote(None),
        quote("NaN"),
        quote("Infinity"),
        quote(10**6),
        quote(5, 0),
        quote(5, NOW + 3600),
        quote(5, None),
        b'{"the-open-network": {"usd": 5}}',
        b'{"bitcoin": {"usd": 5, "last_updated_at": 1}}',
        b"{}",
        b"[]",
        b"<html>blocked</html>",
        b"",
        b"\xff\xfe",
        b'{"the-open-network":{"usd":5,"last_upda',
        b" " * 70_000,
    ],
    ids=name_of,
)
async def test_what_is_no_price_is_refused(body: bytes) -> None:
    async with answering() as (answers, url), PriceSource(url) as source:
        answers.body = body
        with pytest.raises(PriceUnavailable):
            await source.read_ton()


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "301 Moved", "403 No"])
async def test_a_refusal_is_no_price(status: str) -> None:
    async with answering() as (answers, url), PriceSource(url) as source:
        answers.status, answers.body = status, quote(5)
        with pytest.raises(PriceUnavailable, match=status[:3]):
            await source.read_ton()


async def test_a_source_that_hangs_or_is_away_is_given_up() -> None:
    async with answering() as (answers, url), PriceSource(url, timeout_s=1.0) as source:
        answers.hangs = True
        with pytest.raises(PriceUnavailable, match="did not answer"):
            await source.read_ton()
    async with PriceSource(url) as source:
        with pytest.raises(PriceUnavailable, match="cannot be reached"):
            await source.read_ton()


@pytest.mark.parametrize("url", ["ftp://x", "x", "https://user:pw@x", "https://x?key=1", ""])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as error:
        PriceSource(url)
    assert "pw" not in str(error.value)
