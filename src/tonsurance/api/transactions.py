"""REST, version 2: what became of a message to our contracts."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import Request, Router, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter, SkipValidation

from tonsurance.api import wire
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.transaction_wire import TransactionAnswer, render_lookup
from tonsurance.api.v1 import BAD_INPUT
from tonsurance.api.v2 import NO_LEDGER
from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import InputError
from tonsurance.services.transaction_reads import TransactionReads

PATH = "/api/v2/transactions"
UNKNOWN = ResponseSpec(
    wire.Problem, generate_examples=False, media_type=PROBLEM_JSON, description="Nothing of this hash is known here."
)
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")

Reads = NamedDependency[SkipValidation[TransactionReads]]


@get(
    "/{transaction_hash:path}",
    summary="What became of a transaction",
    description="By the hash of a transaction of our contracts, of the message it ran on, or of that message's body: "
    "the `payload_hash` of what this API builds for wallets, known before anything is sent. A purchase is `pending` "
    "until the vault has backed or refused it. Only what was followed is looked at, never the chain itself.\n\n"
    "A payload may be sent more than once, and by anybody. Of a purchase its success is the answer, since a quote is "
    "good once and for its buyer only; of a quote of ours only what its buyer sent counts. Of anything else the newest "
    "is told, and the earlier ones are `other_transactions`: what this API builds has a payload of its own each time. "
    "Where several wallets sent one payload and neither `sender` nor a quote of ours says whose is meant, the answer "
    "is `ambiguous`.",
    tags=["transactions"],
    responses={400: BAD_INPUT, 404: UNKNOWN, 503: NO_LEDGER},
)
async def get_transaction(
    request: Request[Any, Any, Any],
    transaction_hash: Annotated[
        str, PathParameter(description="64 hexadecimal digits, or base64 (ordinary or url-safe).", max_length=200)
    ],
    transaction_reads: Reads,
    sender: Annotated[
        str | None,
        QueryParameter(
            description="Of messages with this payload only those of this sender; any address form. Left out, of a "
            "quote of ours its buyer.",
            max_length=100,
        ),
    ] = None,
) -> TransactionAnswer:
    """The transaction, or what is known of a payload."""
    asked = read_any_hash(_find_text(request, transaction_hash))
    found = await transaction_reads.find(asked, None if sender is None else parse_address(sender))
    return render_lookup(found, asked)


def _find_text(request: Request[Any, Any, Any], routed: str) -> str:
    """The hash as it was sent: the framework makes one slash of several, and base64 has slashes."""
    sent = request.scope.get("raw_path")
    if isinstance(sent, bytes):
        _, found, text = unquote(sent.decode("latin-1")).partition(f"{PATH}/")
        if found:
            return text
    return routed.removeprefix("/")


def read_any_hash(text: str) -> bytes:
    """32 bytes from hexadecimal digits or base64 of either alphabet. Raises InputError."""
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text):
        digits = text.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            read = base64.b64decode(digits + "=", validate=True)
        except binascii.Error:
            read = b""
        if base64.b64encode(read).decode() == digits + "=":  # each hash has one spelling: no bits beyond the last byte
            return read
    raise InputError(f"A hash is 64 hexadecimal digits or 44 characters of base64, not {text[:80]!r}.")


def make_transaction_router(reads: TransactionReads) -> Router:
    """The look-up, given what it reads from."""

    def provide_reads() -> TransactionReads:
        return reads

    return Router(
        path=PATH,
        route_handlers=[get_transaction],
        dependencies={"transaction_reads": Provide(provide_reads, sync_to_thread=False)},
    )
