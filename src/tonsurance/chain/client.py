"""TonCenter's HTTP API (v2), read so that a fault of the server is never mistaken for an answer.

Every call ends with a checked value or a typed error: ChainUnavailable (with RateLimited) when the server cannot be
used now, ChainDataError and below when its answer is wrong. What may pass is tried again until a deadline.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from tonsurance import log, metrics
from tonsurance.chain.answers import (
    MASTERCHAIN,
    AccountState,
    BlockId,
    MasterchainInfo,
    MethodResult,
    RawTransaction,
    read_account,
    read_masterchain_info,
    read_method_answer,
    read_transactions,
)
from tonsurance.chain.cells import Cell
from tonsurance.chain.ratelimit import TokenBucket, default_rps
from tonsurance.chain.retry import RetryPolicy, TryAgain, call_with_retries
from tonsurance.chain.stack import read_stack, write_stack
from tonsurance.core.errors import (
    ChainDataError,
    ChainUnavailable,
    GetMethodFailed,
    HeadWentBack,
    RateLimited,
    TonsuranceError,
    UsageError,
)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_PAGE = 100
"""Largest page the Python API gives; the C++ one gives 1000."""
_MAX_HEADS = 1024
_METHOD_OK = (0, 1)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_log = log.get(__name__)
_Value = TypeVar("_Value")


class _Envelope(msgspec.Struct, frozen=True):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    code: int | None = None


class TonCenterClient:
    """One endpoint. Use as an async context manager, or call `close`."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        rps: float | None = None,
        timeout_s: float = 10.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.base_url = check_url(base_url)
        self._policy = retry or RetryPolicy(timeout_s=timeout_s, deadline_s=3 * timeout_s)
        self._bucket = TokenBucket(rps or default_rps(self.base_url, api_key))
        self._rng = rng or random.Random()
        self._heads: dict[str, int] = {}
        self._http = httpx.AsyncClient(
            headers={"X-API-Key": api_key} if api_key else {},
            timeout=self._policy.timeout_s,
            transport=transport,
            trust_env=urlsplit(self.base_url).hostname not in _LOOPBACK,
        )

    async def __aenter__(self) -> TonCenterClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get_masterchain_info(self) -> MasterchainInfo:
        """The newest masterchain block; never an older one than was seen before."""

        def read(result: msgspec.Raw) -> MasterchainInfo:
            info = read_masterchain_info(result)
            self._check_head("masterchain", info.last.seqno)
            return info

        return await self._get("getMasterchainInfo", {}, read)

    async def get_address_information(self, address: str, seqno: int | None = None) -> AccountState:
        """An account at a masterchain block, or now; then never an older state than was seen before."""

        def read(result: msgspec.Raw) -> AccountState:
            account = read_account(result, address)
            if seqno is None:
                self._check_head(address, account.last_transaction.lt)
            else:
                _check_block(account.block, seqno)
            return account

        return await self._get("getAddressInformation", {"address": address, "seqno": seqno}, read)

    async def get_transactions(
        self,
        address: str,
        *,
        limit: int = MAX_PAGE,
        lt: int | None = None,
        hash: bytes | None = None,
        to_lt: int | None = None,
        archival: bool = True,
    ) -> tuple[RawTransaction, ...]:
        """Transactions newest first, from (lt, hash) on, that one included, down to those after `to_lt`."""
        if (lt is None) != (hash is None):
            raise UsageError("lt and hash go together.")
        params = {
            "address": address,
            "limit": limit,
            "lt": lt,
            "hash": base64.b64encode(hash).decode("ascii") if hash else None,
            "to_lt": to_lt,
            "archival": "true" if archival else "false",
        }
        return await self._get("getTransactions", params, lambda result: read_transactions(result, address))

    async def run_get_method(
        self, address: str, method: str, stack: Sequence[int | Cell] = (), seqno: int | None = None
    ) -> MethodResult:
        """Run a get-method at a masterchain block, or now. Raises GetMethodFailed when it ends with an exit code."""

        def read(result: msgspec.Raw) -> MethodResult:
            answer, last = read_method_answer(result)
            if seqno is not None:
                _check_block(answer.block_id, seqno)
            if answer.exit_code not in _METHOD_OK:
                raise GetMethodFailed(f"{method} of {address} ended with exit code {answer.exit_code}.")
            values = read_stack(answer.stack)
            return MethodResult(stack=values, gas_used=answer.gas_used, block=answer.block_id, last_transaction=last)

        body: dict[str, Any] = {"address": address, "method": method, "stack": write_stack(stack)}
        if seqno is not None:
            body["seqno"] = seqno
        return await self._retrying(lambda: self._attempt("runGetMethod", read, body=body))

    async def send_boc(self, boc: bytes) -> None:
        """Send an external message, once: after an error it may have been accepted, so look before sending again."""
        body = {"boc": base64.b64encode(boc).decode("ascii")}
        try:
            await self._attempt("sendBoc", lambda _: None, body=body)
        except TryAgain as failure:
            raise failure.error from failure

    async def _get(self, method: str, params: dict[str, Any], read: Callable[[msgspec.Raw], _Value]) -> _Value:
        given = {name: str(value) for name, value in params.items() if value is not None}
        return await self._retrying(lambda: self._attempt(method, read, params=given))

    async def _retrying(self, attempt: Callable[[], Awaitable[_Value]]) -> _Value:
        return await call_with_retries(attempt, self._policy, self._rng)

    async def _attempt(
        self,
        method: str,
        read: Callable[[msgspec.Raw], _Value],
        *,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> _Value:
        """One request. Raises TryAgain for what may pass, else the typed error."""
        await self._bucket.acquire()
        try:
            value = read(await self._exchange(method, params, body))
        except TryAgain as failure:
            metrics.CHAIN_REQUESTS.labels(method, failure.error.code).inc()
            _log.debug("chain_request_failed", method=method, code=failure.error.code, reason=failure.error.message)
            raise
        except TonsuranceError as error:
            metrics.CHAIN_REQUESTS.labels(method, error.code).inc()
            raise
        metrics.CHAIN_REQUESTS.labels(method, "ok").inc()
        return value

    async def _exchange(self, method: str, params: dict[str, str] | None, body: dict[str, Any] | None) -> msgspec.Raw:
        url = f"{self.base_url}/api/v2/{method}"
        verb = "GET" if body is None else "POST"
        try:
            async with (
                asyncio.timeout(self._policy.timeout_s),
                self._http.stream(verb, url, params=params, json=body) as response,
            ):
                content = await _read_body(response)
        except TimeoutError as error:
            raise TryAgain(ChainUnavailable(f"{self.base_url} did not answer {method} in time.")) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise TryAgain(ChainUnavailable(f"{self.base_url} cannot be reached: {reason}.")) from error
        return _open_envelope(response, content, f"{self.base_url} answered {method} with")

    def _check_head(self, name: str, value: int) -> None:
        """A replica that lags shows an older head: ask again, another one may answer."""
        seen = self._heads.pop(name, 0)
        self._heads[name] = max(seen, value)
        if len(self._heads) > _MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        if value < seen:
            raise TryAgain(HeadWentBack(f"{self.base_url} shows {name} at {value} and showed {seen} before."))


def check_url(base_url: str) -> str:
    """The URL without a trailing slash and API path. Raises UsageError when it is not one, or carries a secret."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{parts.scheme}://{parts.hostname or ''} is not an http(s) URL of a TON API.")
    if parts.query or parts.fragment or parts.username is not None:
        raise UsageError(
            "The TON API's URL must hold no query, fragment or user.", advice="Set the key as TON_API_KEY."
        )
    return base_url.rstrip("/").removesuffix("/api/v2")


def _check_block(block: BlockId | None, seqno: int) -> None:
    if block is None or (block.workchain, block.seqno) != (MASTERCHAIN, seqno):
        raise ChainDataError(f"Masterchain block {seqno} was asked for and the answer is of {block}.")


async def _read_body(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise ChainDataError(f"The TON API's answer is larger than {MAX_ANSWER_BYTES} bytes.")
    return bytes(content)


def _open_envelope(response: httpx.Response, content: bytes, what: str) -> msgspec.Raw:
    """The result of an answer. Raises TryAgain for a fault of the server, else a typed error."""
    envelope = _read_envelope(content)
    if envelope is not None and envelope.ok and response.status_code == HTTPStatus.OK:
        return envelope.result
    status = response.status_code
    if status == HTTPStatus.OK and envelope is not None:
        status = envelope.code or HTTPStatus.INTERNAL_SERVER_ERROR
    reason = f"{what} {status}: {_reason(envelope)}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = _read_retry_after(response.headers.get("Retry-After", ""))
        raise TryAgain(RateLimited(reason, retry_after_s=wait_s), wait_s=wait_s)
    if status == HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TryAgain(ChainUnavailable(reason))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise ChainUnavailable(reason, advice="Check TON_API_KEY and that it is for this network.")
    raise ChainDataError(reason)


def _read_envelope(content: bytes) -> _Envelope | None:
    """None when the body is not the API's JSON: HTML of a proxy, or cut off."""
    try:
        return msgspec.json.decode(content, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _reason(envelope: _Envelope | None) -> str:
    """The API's own words. A refusal for its rate comes in `result`, all others in `error`."""
    if envelope is None:
        return "the body is not JSON of this API"
    return (envelope.error or bytes(envelope.result).decode("utf-8", "replace"))[:200]


def _read_retry_after(text: str) -> float | None:
    """Seconds from a Retry-After header of seconds or a date; None when there is none to understand."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
