"""A signer as a process of its own: it answers over a Unix socket that its own user alone may use."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec

from tonsurance import log
from tonsurance.core.errors import DependencyError, InputError, UsageError
from tonsurance.core.sale_errors import SignerUnavailable, SigningRefused
from tonsurance.services.quote_signer import Signer
from tonsurance.services.signer_wire import (
    MAX_LINE_BYTES,
    KeysAsked,
    Said,
    SignatureAsked,
    read_ask,
    write_line,
)

MAX_CONNECTIONS = 32
REQUEST_TIMEOUT_S = 5.0
"""A request that began must be whole by then, and its answer taken."""
IDLE_TIMEOUT_S = 300.0
_MAX_PATH_BYTES = 100
_MODE = 0o600
_CREDENTIALS = struct.Struct("3i")
_KNOWN = (SigningRefused, SignerUnavailable, InputError)
logger = log.get("signer")


class SignerServer:
    """Answers for a signer. `uids` may ask; None: this process's own user."""

    def __init__(self, signer: Signer, *, uids: Collection[int] | None = None) -> None:
        self._signer = signer
        self._uids = frozenset((os.geteuid(),) if uids is None else uids)
        self._talks: set[asyncio.Task[None]] = set()
        self.listens = asyncio.Event()

    async def serve(self, path: Path, stop: asyncio.Event) -> None:
        """Listen at `path` until `stop` is set. Raises UsageError and DependencyError when it cannot be had."""
        listener = bind_private(path)
        server = await asyncio.start_unix_server(self._take, sock=listener, limit=MAX_LINE_BYTES)
        logger.info("signer_listens", path=str(path), keys=[key.hex()[:16] for key in await self._signer.public_keys()])
        self.listens.set()
        try:
            await stop.wait()
        finally:
            server.close()
            for talk in tuple(self._talks):
                talk.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)
            await server.wait_closed()
            _remove(path)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._may_ask(writer) or len(self._talks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        talk = asyncio.create_task(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    def _may_ask(self, writer: asyncio.StreamWriter) -> bool:
        peer: socket.socket = writer.get_extra_info("socket")
        _pid, uid, _gid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in self._uids:
            logger.warning("signer_peer_refused", uid=uid)
        return uid in self._uids

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await _read_line(reader):
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await write_line(writer, await self._answer(line))
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:  # the peer is gone, slow, or says too much
            logger.debug("signer_talk_ended", reason=type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> Said:
        try:
            return await self._do(read_ask(line))
        except msgspec.DecodeError:
            return Said(error=InputError.code, message="This is no request to a signer.")
        except _KNOWN as error:
            logger.warning("signer_refused", code=error.code, reason=error.message)
            return Said(error=error.code, message=str(error))

    async def _do(self, ask: KeysAsked | SignatureAsked) -> Said:
        if isinstance(ask, KeysAsked):
            return Said(keys=tuple(key.hex() for key in await self._signer.public_keys()))
        signature = await self._signer.sign(ask.quote, read_key(ask.public_key))
        logger.info("quote_signed", quote_id=ask.quote.quote_id, factory=ask.quote.factory, key=ask.public_key[:16])
        return Said(signature=signature.hex())


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty at the end. Its first byte may be long in coming, the rest not."""
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        first = await reader.read(1)
    if not first:
        return b""
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        return first + await reader.readuntil(b"\n")


def read_key(text: str) -> bytes:
    """A public key from hex. Raises InputError."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError("A public key is 64 hexadecimal digits.") from error


def bind_private(path: Path) -> socket.socket:
    """A listening socket at `path` that only this user may connect to; one that a dead process left there goes.

    Raises UsageError for a path that cannot be a socket or that somebody listens at, DependencyError otherwise.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise UsageError(f"The path of a socket has at most {_MAX_PATH_BYTES} bytes.")
    _remove_dead(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~_MODE)  # so that it is private from its first moment
    try:
        listener.bind(os.fspath(path))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise DependencyError(f"Cannot listen at {path}: {error.strerror or error}.") from error
    finally:
        os.umask(mask)
    return listener


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _remove_dead(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return  # nothing is there, or binding will say why not
    if not is_socket:
        raise UsageError(f"{path} is there and is no socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise DependencyError(f"Cannot listen at {path}: {error.strerror or error}.") from error
    raise UsageError(f"A signer listens at {path} already.")
