"""Quotes, keys and signers for tests: one in this process, one behind a socket."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tonsurance.chain.messages import Quote
from tonsurance.core.units import NANO_PER_TON
from tonsurance.services.quote_signer import Addressee, LocalSigner
from tonsurance.services.signer_client import SocketSigner
from tonsurance.services.signer_server import SignerServer
from tonsurance.services.signing_key import SecretKey

SEED, NEXT_SEED, FOREIGN_SEED = b"\x07" * 32, b"\x5a\xa5" * 16, b"\x11" * 32
FACTORY, BUYER = f"0:{'f0' * 32}", f"0:{'b0' * 32}"
NETWORK = -3
NOW = 1_790_000_000


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What a factory accepts."""

    public_key: bytes
    previous_key: bytes | None = None
    previous_until: int = 0


def key_of(seed: bytes) -> bytes:
    """The public key."""
    return SecretKey(seed).public_key


def make_signer(*seeds: bytes, factory: str = FACTORY, now: float = NOW) -> LocalSigner:
    """One that signs for one factory, at a time that stands."""
    return LocalSigner([SecretKey(seed) for seed in seeds], [Addressee(NETWORK, factory)], clock=lambda: now)


def fair_quote(**changes: object) -> Quote:
    """A quote that may be signed, unless the changes spoil it."""
    quote = Quote(
        network_id=NETWORK, factory=FACTORY, quote_id=2**62, coverage_type=0, chain_id=0, stablecoin_id=0,
        coverage_amount=100 * NANO_PER_TON, premium=NANO_PER_TON, duration_days=90, buyer=BUYER, deadline=NOW + 300,
    )  # fmt: skip
    return msgspec.structs.replace(quote, **changes)


@asynccontextmanager
async def serving(signer: LocalSigner, path: Path, **options: object) -> AsyncIterator[SignerServer]:
    """A signer that listens at this path."""
    stop, server = asyncio.Event(), SignerServer(signer, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(path, stop))
    listens = asyncio.create_task(server.listens.wait())
    try:
        await asyncio.wait((task, listens), return_when=asyncio.FIRST_COMPLETED)
        yield server
    finally:
        listens.cancel()
        stop.set()
        await task


@asynccontextmanager
async def running_signer(path: Path, seed: bytes, factory: str, *options: str) -> AsyncIterator[SocketSigner]:
    """A client of the command `tonsurance signer` in a process of its own, with these further options."""
    command = ("signer", "--socket", str(path), "--factory", factory, "--network-id", str(NETWORK), *options)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tonsurance", *command, env=os.environ | {"QUOTE_KEY": seed.hex()}, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            await process.stderr.readuntil(b"signer_listens")
        async with asking(path, timeout_s=60.0) as signer:
            yield signer
    finally:
        process.terminate()
        _out, err = await process.communicate()
    assert process.returncode == 0, err


@asynccontextmanager
async def asking(path: Path, **options: float) -> AsyncIterator[SocketSigner]:
    """A client of the signer at this path."""
    signer = SocketSigner(path, **options)
    try:
        yield signer
    finally:
        await signer.close()
