"""Asks the signer in another process, within a bounded time. Signing the same again gives the same, so a request whose
connection was lost is sent once more."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tonsurance.chain.messages import Quote, quote_hash
from tonsurance.core.errors import InputError
from tonsurance.core.sale_errors import SignerUnavailable, SigningRefused
from tonsurance.services.signer_wire import (
    MAX_LINE_BYTES,
    KeysAsked,
    Said,
    SignatureAsked,
    read_said,
    write_line,
)

TIMEOUT_S = 2.0
MAX_CONNECTIONS = 8
_ERRORS = {error.code: error for error in (SigningRefused, SignerUnavailable, InputError)}
_LOST = (OSError, EOFError, asyncio.LimitOverrunError, msgspec.DecodeError)
_ADVICE = "Start it with `tonsurance signer --socket PATH`, as the same user, and name the path in QUOTE_SIGNER."

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SocketSigner:
    """A signer behind a Unix socket. Every call ends within `timeout_s` seconds, if need be by SignerUnavailable."""

    def __init__(self, path: str | Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = os.fspath(path)
        self._timeout_s = timeout_s
        self._free: list[_Connection] = []
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    async def public_keys(self) -> tuple[bytes, ...]:
        """The keys the process holds."""
        said = await self._ask(KeysAsked())
        if said.keys is None:
            raise SignerUnavailable("The signer did not name its keys.")
        return tuple(_read_hex(key) for key in said.keys)

    async def sign(self, quote: Quote, public_key: bytes) -> bytes:
        """The signature, checked against the key."""
        said = await self._ask(SignatureAsked(quote, public_key.hex()))
        signature = _read_hex(said.signature or "")
        try:
            VerifyKey(public_key).verify(quote_hash(quote), signature)
        except (BadSignatureError, ValueError) as error:
            raise SignerUnavailable("What the signer answered is no signature of this quote by this key.") from error
        return signature

    async def close(self) -> None:
        """Close the connections."""
        free, self._free = self._free, []
        for connection in free:
            await _close(connection)

    async def _ask(self, ask: KeysAsked | SignatureAsked) -> Said:
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                said = await self._exchange(ask)
        except TimeoutError as error:
            raise SignerUnavailable(f"The signer did not answer in {self._timeout_s:g} s.", advice=_ADVICE) from error
        except _LOST as error:
            raise SignerUnavailable(f"The signer cannot be reached: {_name(error)}.", advice=_ADVICE) from error
        if said.error is not None:
            raise _ERRORS.get(said.error, SignerUnavailable)(said.message)
        return said

    async def _exchange(self, ask: KeysAsked | SignatureAsked) -> Said:
        """Over a connection that is open, or over a new one when that was lost meanwhile."""
        if self._free:
            with suppress(*_LOST):
                return await self._say(self._free.pop(), ask)
        return await self._say(await asyncio.open_unix_connection(self._path, limit=MAX_LINE_BYTES), ask)

    async def _say(self, connection: _Connection, ask: KeysAsked | SignatureAsked) -> Said:
        reader, writer = connection
        whole = False
        try:
            await write_line(writer, ask)
            said = read_said(await reader.readuntil(b"\n"))
            whole = True
        finally:
            if whole:
                self._free.append(connection)
            else:  # an answer may still come, and would be taken for that of the next request
                writer.transport.abort()
        return said


async def _close(connection: _Connection) -> None:
    connection[1].close()
    with suppress(OSError):
        await connection[1].wait_closed()


def _read_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise SignerUnavailable("The signer's answer is not hexadecimal.") from error


def _name(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "its answer cannot be read" if isinstance(error, msgspec.DecodeError) else "the connection was closed"
