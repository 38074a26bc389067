"""The local chain as a process: chain, actors, TonCenter and controls in one event loop.

Making a block takes a few milliseconds and an answer less, so nothing needs a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import uvicorn

from tonsurance import log
from tonsurance.core.errors import DependencyError, InputError
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.blocks import Block
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.control import PREFIX as CONTROL_PREFIX
from tonsurance.localnet.control import WALLET_PATH, Control
from tonsurance.localnet.cutting import CuttableProtocol
from tonsurance.localnet.deploy import Contracts, Terms, deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.faults import Faults
from tonsurance.localnet.faulty_app import AsgiApp, FaultyApp
from tonsurance.localnet.http import Handler, JsonApp, Route, refuse_plainly
from tonsurance.localnet.loopback import LoopbackPages
from tonsurance.localnet.prices import PriceMarket
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.stream import PREFIX as STREAM_PREFIX
from tonsurance.localnet.stream import Streams
from tonsurance.localnet.toncenter import PREFIX as TONCENTER_PREFIX
from tonsurance.localnet.toncenter import TonCenter
from tonsurance.localnet.v3 import PREFIX as V3_PREFIX
from tonsurance.localnet.v3 import ApiV3

STORE_FILE = "chain.sqlite"
_QUOTE_KEY_BYTES = 32
_FREE_SHARE = 0.25
"""The part of a block interval that is left to requests even when making blocks takes longer than the interval."""

_log = log.get("localnet")


class LocalnetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a local chain runs. Chain time passes `speed` times faster than the blocks come."""

    data_dir: Path
    port: int
    quote_key: bytes
    host: str = "127.0.0.1"
    seed: int = 1
    speed: float = 300.0
    block_interval_s: float = 0.4
    actors: bool = True
    terms: Terms = Terms()
    genesis_time: int | None = None


class Localnet:
    """A chain with what lives on it. `step` is the only way blocks come about.

    With `real_time`, a chain of speed 1 keeps up with our clock; any other runs by its blocks alone.
    """

    def __init__(
        self,
        chain: LocalChain,
        contracts: Contracts | None = None,
        actors: Actors | None = None,
        *,
        real_time: bool = False,
    ) -> None:
        self.chain = chain
        self._real_time = real_time
        self.contracts = contracts
        self.actors = actors
        self.faults = Faults()
        control = Control(chain, self.step, lambda: self.contracts, self.faults)
        self.prices = PriceMarket(chain.seed)
        self.streams = Streams(chain)
        streaming = {STREAM_PREFIX: Route(self.streams.handle, refuse_plainly)}
        app = JsonApp({**_read_routes(chain), **streaming, CONTROL_PREFIX: control.handle, **self.prices.routes})
        self.app: AsgiApp = FaultyApp(
            LoopbackPages(app, WALLET_PATH),
            self.faults,
            chain,
            lambda sight: JsonApp({**_read_routes(sight), **streaming}),
        )

    def step(self) -> Block:
        """Let the actors act, then make a block."""
        if self.actors is not None:
            self.actors.act_safely()
        return self.chain.mine(later_s=self._behind_s())

    def _behind_s(self) -> float:
        if not self._real_time or self.chain.speed != 1.0:
            return 0.0
        due = self.chain.head.clock_ms / 1000 + self.chain.block_seconds
        return max(0.0, time.time() - due)


def _read_routes(sight: LocalChain) -> dict[str, Handler | Route]:
    """What a server answers that sees the chain in this way."""
    return {TONCENTER_PREFIX: TonCenter(sight).handle, V3_PREFIX: Route(ApiV3(sight).handle, refuse_plainly)}


class _Server(uvicorn.Server):
    """uvicorn as a part of a process: it says when it listens, ends when asked to, and leaves signals alone."""

    def __init__(self, app: AsgiApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=CuttableProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self.listens = asyncio.Event()
        self._asked_to_stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    async def main_loop(self) -> None:
        await self._asked_to_stop.wait()

    def stop(self) -> None:
        """End `serve`."""
        self._asked_to_stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(localnet: Localnet, listener: socket.socket) -> AsyncIterator[None]:
    server = _Server(localnet.app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.listens.wait()
        yield
    finally:
        await localnet.streams.close()
        server.stop()
        await task


async def serve(settings: LocalnetSettings, stop: asyncio.Event | None = None) -> None:
    """Run until `stop` is set; without one, until SIGINT or SIGTERM.

    Raises InputError and DependencyError for what cannot be started, DependencyError when blocks cannot be stored.
    """
    stop = stop or _stop_on_signals()
    with (
        contextlib.closing(_listen(settings.host, settings.port)) as listener,
        contextlib.closing(open_store(settings.data_dir)) as store,
    ):
        localnet = build_localnet(settings, store)
        async with _serving(localnet, listener):
            _log.info("serving", port=listener.getsockname()[1], seqno=localnet.chain.head.seqno)
            await _keep_time(localnet, settings.block_interval_s, stop)
    _log.info("stopped", seqno=localnet.chain.head.seqno)


@contextlib.asynccontextmanager
async def running(target: LocalChain | Localnet) -> AsyncIterator[str]:
    """Serve a chain that is driven by hand on a free port; gives the address to reach it."""
    localnet = target if isinstance(target, Localnet) else Localnet(target)
    with contextlib.closing(_listen("127.0.0.1", 0)) as listener:
        async with _serving(localnet, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def open_store(data_dir: Path) -> ChainStore:
    """The chain's file in this directory, which is made if need be. Raises DependencyError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DependencyError(f"The directory {data_dir} cannot be made: {error.strerror}.") from error
    return ChainStore(data_dir / STORE_FILE)


def build_localnet(settings: LocalnetSettings, store: ChainStore) -> Localnet:
    """The chain in this store with our contracts on it, and its actors. Raises InputError for wrong settings."""
    _check(settings)
    chain = LocalChain(
        TonpyEngine(),
        store,
        seed=settings.seed,
        genesis_time=int(time.time()) if settings.genesis_time is None else settings.genesis_time,
        block_seconds=settings.block_interval_s,
    )
    chain.speed = settings.speed
    contracts = deploy_contracts(chain, settings.quote_key, settings.terms)
    actors = Actors(chain, contracts, settings.quote_key) if settings.actors else None
    return Localnet(chain, contracts, actors, real_time=True)


def _check(settings: LocalnetSettings) -> None:
    if len(settings.quote_key) != _QUOTE_KEY_BYTES:
        raise InputError(f"The quote key must have {_QUOTE_KEY_BYTES} bytes, not {len(settings.quote_key)}.")
    if not 0.01 <= settings.block_interval_s <= 3600:
        raise InputError(f"The block interval must be from 0.01 to 3600 seconds, not {settings.block_interval_s}.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise DependencyError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
    # asyncio turns Nagle's delay off only for sockets made with an explicit protocol: every answer would take 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _keep_time(localnet: Localnet, interval_s: float, stop: asyncio.Event) -> None:
    """A block every interval until stopped. Late ones are not made up for, and always leave time for requests."""
    loop = asyncio.get_running_loop()
    due = loop.time() + interval_s
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await stop.wait()
            return
        localnet.step()
        due = max(due + interval_s, loop.time() + _FREE_SHARE * interval_s)
