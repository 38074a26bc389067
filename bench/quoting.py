"""Quotes over HTTP, without and with a buyer: our API, an idiomatic FastAPI application and a bare ASGI function, each
in a process of its own on the same desk, database and server settings; and the price of all products at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.figures import ROUNDS, Figure, median, percentile, spread
from bench.load import Load, make_post, run_load
from tonsurance.api.quote_render import render_quote
from tonsurance.api.quote_wire import QuoteBody
from tonsurance.api.quotes import QUOTE_PATH, make_quote
from tonsurance.api.server import bind_socket, make_server, serve_api_until
from tonsurance.api.settings import ApiSettings
from tonsurance.api.shop_parts import ShopParts, ShopWiring
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.premium import MarketInputs
from tonsurance.core.premium_matrix import read_matrix
from tonsurance.core.products import CHAINS, STABLECOINS, VALID_PRODUCTS
from tonsurance.core.quotes import SOLD_TRIGGER
from tonsurance.db.binaries import find_binaries
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.signing_key import SecretKey
from tonsurance.services.tranche_reads import TrancheReads

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from api.shopping import PUBLIC_KEY, SEED  # noqa: E402 - where the tests are is known only now
from db.servers import running_server  # noqa: E402
from services.market_story import MarketStory  # noqa: E402

KINDS = ("ours", "fastapi", "raw")
CONNECTIONS = 16
PRICED, SIGNED = 2_000, 600
"""Requests of one round without and with a buyer."""
BUYER = "0:" + "5e" * 32
MATRIX_LIMIT_US = 50
P95_LIMIT_MS = 75


def measure() -> list[Figure]:
    """Rates, latencies, and the matrix."""
    with running_server(find_binaries()) as server:
        dsn = server.create()
        figures = uvloop.run(_measure(dsn))
        server.close()
    return [*figures, *_price_matrix()]


async def _measure(dsn: str) -> list[Figure]:
    story = MarketStory(dsn)
    await story.start(100_000)
    stop = asyncio.Event()
    await _tell(story)
    telling = asyncio.create_task(_keep_telling(story, stop))
    try:
        with _serving(dsn) as ports:
            for port in ports.values():
                await _ready(port)
            return [*await _compare(ports, PRICED, None), *await _compare(ports, SIGNED, BUYER)]
    finally:
        stop.set()
        await telling
        await story.close()


async def _tell(story: MarketStory) -> None:
    await story.see_price("2.50")
    await story.see_factory(public_key=PUBLIC_KEY)


async def _keep_telling(story: MarketStory, stop: asyncio.Event) -> None:
    """A price and a factory's state are good for a minute."""
    while not stop.is_set():
        await _tell(story)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 5.0)


@contextmanager
def _serving(dsn: str) -> Iterator[dict[str, int]]:
    """All three up; the port of each."""
    listeners = {kind: bind_socket(ApiSettings(host="127.0.0.1", port=0)) for kind in KINDS}
    ports = {kind: listener.getsockname()[1] for kind, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.quoting", kind, str(ports[kind]), dsn], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        for kind in KINDS
    ]
    try:
        yield ports
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(20)


async def _ready(port: int) -> None:
    [request] = _requests(BUYER)[:1]
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
                await run_load(port, [request], connections=1, count=1)
                return
            await asyncio.sleep(0.1)


def _requests(buyer: str | None) -> list[bytes]:
    """Quotes for many products, so that no answer could be kept."""
    bodies = [
        {
            "coverage_type": "depeg",
            "chain": chain,
            "stablecoin": coin,
            "coverage_amount": 500 + 7 * row,
            "duration_days": 30 + row,
        }
        for row, (chain, coin) in enumerate((chain, coin) for chain in CHAINS for coin in STABLECOINS)
    ]
    named = [body if buyer is None else body | {"buyer": buyer} for body in bodies]
    return [make_post(QUOTE_PATH, json.dumps(body).encode()) for body in named]


async def _compare(ports: dict[str, int], count: int, buyer: str | None) -> list[Figure]:
    requests = _requests(buyer)
    runs: dict[str, list[Load]] = {kind: [] for kind in ports}
    for number in range(ROUNDS + 1):
        for kind, port in ports.items():
            load = await run_load(port, requests, connections=CONNECTIONS, count=count)
            if number:  # the first is a warm-up
                runs[kind].append(load)
    rates = {kind: median([load.rate for load in loads]) for kind, loads in runs.items()}
    to_fastapi = [ours.rate / other.rate for ours, other in zip(runs["ours"], runs["fastapi"], strict=True)]
    to_raw = [ours.rate / other.rate for ours, other in zip(runs["ours"], runs["raw"], strict=True)]
    p95_ms = [percentile(load.latencies, 0.95) * 1e3 for load in runs["ours"]]
    what = "quotes over HTTP, " + ("signed and kept for a buyer" if buyer else "without a buyer")
    shown = ", ".join(f"{kind} {rate:,.0f}/s" for kind, rate in rates.items())
    judged = buyer is None
    return [
        Figure(
            name=f"{what}, against FastAPI",
            value=f"{median(to_fastapi):.2f} x",
            spread=f"{spread(to_fastapi)}; {shown}",
            limit=">= 3" if judged else "reported",
            ok=median(to_fastapi) >= 3 if judged else None,
        ),
        Figure(
            name=f"{what}, against bare ASGI",
            value=f"{median(to_raw):.2f} x",
            spread=spread(to_raw),
            limit=">= 0.3" if judged else "reported",
            ok=median(to_raw) >= 0.3 if judged else None,
        ),
        Figure(
            name=f"{what}, p95 at {CONNECTIONS} connections",
            value=f"{median(p95_ms):.1f} ms",
            spread=spread(p95_ms, 1),
            limit=f"< {P95_LIMIT_MS} ms",
            ok=median(p95_ms) < P95_LIMIT_MS,
        ),
    ]


def _price_matrix() -> list[Figure]:
    matrix = read_matrix(DEFAULT_PARAMS)
    calm = MarketInputs(utilization=0.6, loss_ratio=None, claims_count=0, stress="Normal")
    amount, days = Decimal(10_000), 90
    works: dict[str, Callable[[], object]] = {
        "list": lambda: matrix.list_premiums(amount, days),
        "technical": lambda: matrix.technical_premiums(amount, days, SOLD_TRIGGER, calm),
    }
    figures = []
    for name, work in works.items():
        times = [_time_us(work) for _ in range(ROUNDS)]
        figures.append(
            Figure(
                name=f"{name} price of all {len(VALID_PRODUCTS)} products",
                value=f"{median(times):.1f} us",
                spread=spread(times, 1),
                limit=f"< {MATRIX_LIMIT_US} us",
                ok=median(times) < MATRIX_LIMIT_US,
            )
        )
    return figures


def _time_us(work: Callable[[], object], count: int = 2_000) -> float:
    started = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - started) / count * 1e6


# --- the three servers, each in a process of its own


def _wiring(dsn: str) -> ShopWiring:
    return ShopWiring(dsn, keys=(SecretKey(SEED),))


async def _serve_ours(settings: ApiSettings, dsn: str, stop: asyncio.Event) -> None:
    await serve_api_until(dsn, settings, DEFAULT_PARAMS, stop, shop=_wiring(dsn))


async def _serve_app(make: Callable[[ShopParts], Any], settings: ApiSettings, dsn: str, stop: asyncio.Event) -> None:
    """Another application on the same desk, with the same server's settings."""
    wiring, ledger = _wiring(dsn), PostgresLedgerReader(dsn)
    reads = TrancheReads(ledger, DEFAULT_PARAMS, vault_id="main", stale_after_s=60.0)
    await reads.refresh()
    shop = wiring.make(reads)
    listener = bind_socket(settings)
    server = make_server(make(shop), settings)

    async def look() -> None:
        while not stop.is_set():
            await reads.refresh()
            await asyncio.sleep(1.0)

    jobs = [*wiring.jobs(stop), look(), server.serve(sockets=[listener])]
    await asyncio.gather(*jobs)


def _make_raw(shop: ShopParts) -> Any:
    decode, encode = msgspec.json.Decoder(QuoteBody).decode, msgspec.json.Encoder().encode

    async def app(_scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        message = await receive()
        body = encode(render_quote(await make_quote(shop.desk, decode(message["body"]))))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _make_fastapi(shop: ShopParts) -> Any:
    from fastapi import Depends, FastAPI, Request  # noqa: PLC0415 - only its own process pays for it
    from prometheus_client import Counter, Histogram  # noqa: PLC0415
    from pydantic import BaseModel, Field  # noqa: PLC0415

    class Asked(BaseModel):
        coverage_type: str
        chain: str
        stablecoin: str
        coverage_amount: Decimal = Field(gt=0)
        duration_days: int = Field(ge=1, le=365)
        buyer: str | None = None

    application = FastAPI()
    counted = Counter("peer_requests", "Requests.", ["route", "status"])
    timed = Histogram("peer_seconds", "Seconds.", ["route"])

    @application.middleware("http")
    async def note(request: Request, call_next: Any) -> Any:
        began = time.perf_counter()
        response = await call_next(request)
        counted.labels(request.url.path, response.status_code).inc()
        timed.labels(request.url.path).observe(time.perf_counter() - began)
        return response

    def give_desk() -> Any:
        return shop.desk

    async def post_quote(asked, desk=Depends(give_desk)):  # type: ignore[no-untyped-def]  # noqa: B008
        made = await desk.quote(
            asked.coverage_type, asked.chain, asked.stablecoin, asked.coverage_amount, asked.duration_days, asked.buyer
        )
        return msgspec.to_builtins(render_quote(made))

    post_quote.__annotations__ = {"asked": Asked, "return": dict[str, Any]}
    application.post(QUOTE_PATH)(post_quote)
    return application


async def _serve(kind: str, port: int, dsn: str) -> None:
    settings, stop = ApiSettings(host="127.0.0.1", port=port), asyncio.Event()
    if kind == "ours":
        await _serve_ours(settings, dsn, stop)
    else:
        await _serve_app(_make_raw if kind == "raw" else _make_fastapi, settings, dsn, stop)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
