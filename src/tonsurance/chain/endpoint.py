"""One server of a TON API: its connections, its rate, its breaker, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from tonsurance import log, metrics
from tonsurance.chain.breaker import Breaker, BreakerState
from tonsurance.chain.envelope import Answer, open_v2
from tonsurance.chain.ratelimit import TokenBucket
from tonsurance.chain.retry import TryAgain
from tonsurance.core.errors import (
    ChainDataError,
    ChainUnavailable,
    GetMethodFailed,
    HeadWentBack,
    TonsuranceError,
)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
DEMOTION_S = 60.0
"""For so long an endpoint that told something wrong, or lags, is asked after the others."""
_LAGS_IN_A_ROW = 3
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_log = log.get(__name__)
_Value = TypeVar("_Value")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. With a body it is a POST. `anchored`: it is about a certain block or transaction."""

    method: str
    params: dict[str, str] | None = None
    body: dict[str, Any] | None = None
    anchored: bool = False
    prefix: str = "/api/v2/"
    open: Callable[[Answer], msgspec.Raw] = open_v2


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint now. `failures` are those in a row; the others are counted since the start."""

    url: str
    state: BreakerState
    failures: int
    last_error_code: str | None
    last_error: str | None
    retry_after_s: float
    requests: int
    failed: int
    lagged: int
    wrong: int
    demoted: bool


class Refused(Exception):
    """The breaker lets nothing pass now: nothing was sent."""


class Endpoint:
    """Sends requests to one server. Close it."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        bucket: TokenBucket,
        breaker: Breaker,
        timeout_s: float,
        clock: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self._key = key
        self.bucket = bucket
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._clock = clock
        parts = urlsplit(url)
        nearby = parts.hostname in _LOOPBACK  # no proxy then, and without TLS no certificates to load
        self._http = httpx.AsyncClient(
            headers={"X-API-Key": key} if key else {},
            timeout=timeout_s,
            transport=transport,
            trust_env=not nearby,
            verify=not nearby or parts.scheme == "https",
        )
        self._requests = self._failed = self._lagged = self._wrong = 0
        self._lags = 0
        self._demoted_until = float("-inf")
        self._last_error: TonsuranceError | None = None
        metrics.CHAIN_ENDPOINT_OPEN.labels(url).set(0)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def status(self) -> EndpointStatus:
        """What is known of it now."""
        now, last = self._clock(), self._last_error
        return EndpointStatus(
            url=self.url,
            state=self._breaker.state(now),
            failures=self._breaker.failures,
            last_error_code=last.code if last else None,
            last_error=last.message if last else None,
            retry_after_s=self._breaker.wait_s(now),
            requests=self._requests,
            failed=self._failed,
            lagged=self._lagged,
            wrong=self._wrong,
            demoted=self.demoted,
        )

    @property
    def demoted(self) -> bool:
        """Whether others are to be asked first."""
        return self._clock() < self._demoted_until

    async def ask(self, request: Request, read: Callable[[msgspec.Raw, str], _Value]) -> _Value:
        """One request, and what `read` makes of its result and this endpoint's URL.

        Raises Refused when the breaker lets nothing pass, TryAgain for what may pass, else the typed error.
        """
        if not self._breaker.may_pass(self._clock()):
            raise Refused
        await self.bucket.acquire()
        ticket = self._breaker.enter(self._clock())
        if ticket is None:
            raise Refused
        self._requests += 1
        try:
            value = read(await self._exchange(request), self.url)
        except TryAgain as failure:
            self._note_failure(request, failure, ticket)
            raise
        except TonsuranceError as error:
            self._note_error(request, error, ticket)
            raise
        finally:
            self._breaker.leave(ticket)  # cancelled, or whatever else: the next one may probe
        self._note_success(request, ticket)
        return value

    def accuse(self, error: ChainDataError) -> None:
        """Another endpoint gave a right answer where this one gave a wrong one: ask the others first for a while."""
        self._wrong += 1
        self._demoted_until = self._clock() + DEMOTION_S
        metrics.CHAIN_ENDPOINT_REQUESTS.labels(self.url, "wrong").inc()
        _log.error("endpoint_wrong", endpoint=self.url, code=error.code, reason=error.message)

    def _note_success(self, request: Request, ticket: int) -> None:
        self._lags = 0
        self._note_answered(ticket)
        metrics.CHAIN_REQUESTS.labels(request.method, "ok").inc()
        metrics.CHAIN_ENDPOINT_REQUESTS.labels(self.url, "ok").inc()

    def _note_answered(self, ticket: int) -> None:
        """It is there and answers, whatever the answer was."""
        before = self._breaker.state(self._clock())
        self._breaker.succeed(ticket)
        if before != "closed" and self._breaker.state(self._clock()) == "closed":
            metrics.CHAIN_ENDPOINT_OPEN.labels(self.url).set(0)
            _log.info("endpoint_closed", endpoint=self.url)

    def _note_failure(self, request: Request, failure: TryAgain, ticket: int) -> None:
        error, now = failure.error, self._clock()
        self._note(request, error)
        if isinstance(error, HeadWentBack):
            self._note_lag(now)
        if not failure.blames:
            self._note_answered(ticket)
            return
        self._failed += 1
        before = self._breaker.state(now)
        if failure.wait_s:
            self._breaker.hold(now, failure.wait_s)
        self._breaker.fail(ticket, now)
        if before == "closed" and self._breaker.state(now) == "open":
            metrics.CHAIN_ENDPOINT_OPEN.labels(self.url).set(1)
            _log.warning(
                "endpoint_opened", endpoint=self.url, code=error.code, reason=error.message,
                failures=self._breaker.failures, retry_after_s=round(self._breaker.wait_s(now), 3),
            )  # fmt: skip

    def _note_lag(self, now: float) -> None:
        self._lagged += 1
        self._lags += 1
        if self._lags >= _LAGS_IN_A_ROW:
            self._demoted_until = now + DEMOTION_S

    def _note_error(self, request: Request, error: TonsuranceError, ticket: int) -> None:
        """A wrong answer; whose fault it is is seen elsewhere. A get-method's exit code is a right one."""
        self._note_answered(ticket)
        if isinstance(error, GetMethodFailed):
            metrics.CHAIN_REQUESTS.labels(request.method, error.code).inc()
            metrics.CHAIN_ENDPOINT_REQUESTS.labels(self.url, error.code).inc()
        else:
            self._note(request, error)

    def _note(self, request: Request, error: TonsuranceError) -> None:
        self._last_error = error
        metrics.CHAIN_REQUESTS.labels(request.method, error.code).inc()
        metrics.CHAIN_ENDPOINT_REQUESTS.labels(self.url, error.code).inc()
        _log.debug("chain_request_failed", method=request.method, code=error.code, reason=error.message)

    async def _exchange(self, request: Request) -> msgspec.Raw:
        url, method = f"{self.url}{request.prefix}{request.method}", request.method
        verb = "GET" if request.body is None else "POST"
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream(verb, url, params=request.params, json=request.body) as response,
            ):
                content = await _read_body(response)
        except TimeoutError as error:
            raise TryAgain(ChainUnavailable(f"{self.url} did not answer {method} in time.")) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            raise TryAgain(ChainUnavailable(f"{self.url} cannot be reached: {reason}."), unsent=unsent) from error
        answer = Answer(
            status=response.status_code,
            headers=response.headers,
            content=content,
            about=f"{self.url} answered {method} with",
            secret=self._key,
            anchored=request.anchored,
        )
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            # never followed: the key belongs to this server alone
            raise ChainDataError(f"{answer.about} {answer.status}: a redirection, which is not followed.")
        return request.open(answer)


async def _read_body(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise ChainDataError(f"The TON API's answer is larger than {MAX_ANSWER_BYTES} bytes.")
    return bytes(content)
