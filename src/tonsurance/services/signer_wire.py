"""What is said over a signer's socket: one JSON object in a line, one in a line as the answer."""

from __future__ import annotations

import asyncio

import msgspec

from tonsurance.chain.messages import Quote

MAX_LINE_BYTES = 4_096
"""A quote takes about 600."""


class KeysAsked(msgspec.Struct, frozen=True, tag="keys", tag_field="ask", forbid_unknown_fields=True):
    """Which keys are held?"""


class SignatureAsked(msgspec.Struct, frozen=True, tag="sign", tag_field="ask", forbid_unknown_fields=True):
    """Sign this quote by this key, in hex."""

    quote: Quote
    public_key: str


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: keys or a signature, in hex, or the code and words of an error."""

    keys: tuple[str, ...] | None = None
    signature: str | None = None
    error: str | None = None
    message: str = ""


_ask: msgspec.json.Decoder[KeysAsked | SignatureAsked] = msgspec.json.Decoder(KeysAsked | SignatureAsked)
_said = msgspec.json.Decoder(Said)
_encoder = msgspec.json.Encoder()


def read_ask(line: bytes) -> KeysAsked | SignatureAsked:
    """Raises msgspec.DecodeError."""
    return _ask.decode(line)


def read_said(line: bytes) -> Said:
    """Raises msgspec.DecodeError."""
    return _said.decode(line)


async def write_line(writer: asyncio.StreamWriter, said: KeysAsked | SignatureAsked | Said) -> None:
    """Send one object. Raises OSError."""
    writer.write(_encoder.encode(said) + b"\n")
    await writer.drain()
