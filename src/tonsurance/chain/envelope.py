"""What an HTTP answer of a TON API is: its result, a fault that may pass, or an error."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from tonsurance.chain.retry import TryAgain
from tonsurance.core.errors import ChainDataError, ChainUnavailable, RateLimited

_BLIND = re.compile(r"not in db|not ?ready|not applied|cannot (locate|find)|transaction hash mismatch", re.IGNORECASE)
"""How servers say that they do not have a block or a transaction: not yet, or not any more."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer as it came. `about` begins the sentence of an error; `secret` must not appear in it."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    about: str
    secret: str | None = None
    anchored: bool = False
    """Whether a certain block or transaction was asked for, which not every server has."""


class _Envelope(msgspec.Struct, frozen=True):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    code: int | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: str


def open_v2(answer: Answer) -> msgspec.Raw:
    """The result in API v2's envelope. Raises TryAgain for a fault of the server, else a typed error."""
    try:
        envelope = msgspec.json.decode(answer.content, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):  # HTML of a proxy, or cut off
        raise _fault(answer, answer.status, None) from None
    if envelope.ok and answer.status == HTTPStatus.OK:
        return envelope.result
    status = answer.status
    if status == HTTPStatus.OK:
        status = envelope.code or HTTPStatus.INTERNAL_SERVER_ERROR
    # a refusal for its rate comes in `result`, all others in `error`
    raise _fault(answer, status, envelope.error or bytes(envelope.result).decode("utf-8", "replace"))


def open_v3(answer: Answer) -> msgspec.Raw:
    """The document of API v3, which has no envelope. Raises TryAgain for a fault of the server, else a typed error."""
    try:
        if answer.status == HTTPStatus.OK:
            return msgspec.json.decode(answer.content, type=msgspec.Raw)
        reason = msgspec.json.decode(answer.content, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _fault(answer, answer.status, None) from None
    raise _fault(answer, answer.status, reason)


def _fault(answer: Answer, status: int, words: str | None) -> Exception:
    """The error for an answer that is none; `words` are the server's own, None when it has none that can be read."""
    reason = f"{answer.about} {status}: {_quote(answer, words)}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = _read_retry_after(answer.headers.get("Retry-After", ""))
        return TryAgain(RateLimited(reason, retry_after_s=wait_s), wait_s=wait_s, unsent=True)
    if status == HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        blind = answer.anchored and words is not None and _BLIND.search(words) is not None
        return TryAgain(ChainUnavailable(reason), blames=not blind)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = "Check TON_API_KEY and that it is for this network."
        return TryAgain(ChainUnavailable(reason, advice=advice), lasting=True, unsent=True)
    return ChainDataError(reason)


def _quote(answer: Answer, words: str | None) -> str:
    if words is None:
        return "the body is not JSON of this API"
    if answer.secret is not None:
        words = words.replace(answer.secret, "***")
    return words[:200]


def _read_retry_after(text: str) -> float | None:
    """Seconds from a Retry-After header of seconds or a date; None when there is none to understand."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
