"""Several endpoints of one network as one source: each request goes to the first that can answer it.

A fault or an older head sends a request on to the next endpoint at once; only when none answered there is a pause. A
wrong answer is tried elsewhere once: when the other one is right, the first is asked last for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from tonsurance import metrics
from tonsurance.chain.endpoint import Endpoint, EndpointStatus, Refused, Request
from tonsurance.chain.retry import RetryPolicy, TryAgain, call_with_retries
from tonsurance.core.errors import (
    ChainDataError,
    ChainUnavailable,
    GetMethodFailed,
    HeadWentBack,
    RateLimited,
    TonsuranceError,
)

_QUOTED = 300
_Value = TypeVar("_Value")
Read = Callable[[msgspec.Raw, str], _Value]
"""What is made of a result and the URL of the endpoint that gave it."""


class Sources:
    """Endpoints in the order they are to be asked in."""

    def __init__(self, endpoints: Sequence[Endpoint], policy: RetryPolicy, rng: random.Random) -> None:
        self.endpoints = tuple(endpoints)
        self._policy = policy
        self._rng = rng

    async def close(self) -> None:
        """Close all connections."""
        for endpoint in self.endpoints:
            await endpoint.close()

    @property
    def statuses(self) -> tuple[EndpointStatus, ...]:
        """Each endpoint's state, in their order."""
        return tuple(endpoint.status for endpoint in self.endpoints)

    async def ask(self, request: Request, read: Read[_Value]) -> _Value:
        """The answer to a request that may be repeated.

        Raises ChainUnavailable when no endpoint answers before the deadline, and at once when all are rested; else the
        typed error of the answer.
        """
        seen: list[TryAgain] = []

        async def attempt(end: float) -> _Value:
            try:
                return await _Round(self._order(), request, read).run(end - self._policy.timeout_s)
            except TryAgain as failure:
                seen.append(failure)
                raise
            except Refused:
                if seen:  # they were closed when this request began: its own failure says more
                    raise seen[-1].error from seen[-1].__cause__
                raise self._unavailable() from None

        return await call_with_retries(attempt, self._policy, self._rng)

    async def send(self, request: Request, read: Read[_Value]) -> _Value:
        """The answer to a request that must not be repeated: the next endpoint gets it only if none before did."""
        failure: TryAgain | None = None
        for endpoint in self._order():
            try:
                return await endpoint.ask(request, read)
            except Refused:
                continue
            except TryAgain as new:
                failure = new
                if not new.unsent:
                    break
        if failure is None:
            raise self._unavailable()
        raise failure.error from failure.__cause__

    def _order(self) -> Sequence[Endpoint]:
        if len(self.endpoints) == 1:
            return self.endpoints
        return sorted(self.endpoints, key=lambda endpoint: endpoint.demoted)  # stable: else their own order

    def _unavailable(self) -> ChainUnavailable:
        """Why nothing was asked. With a time to come back, unless a probe is on its way."""
        states = self.statuses
        told = "; ".join(f"{state.url} ({state.failures} failures in a row{_last(state)})" for state in states)
        wait_s = min(state.retry_after_s for state in states)
        return ChainUnavailable(f"No endpoint of the TON API is asked now: {told}.", retry_after_s=wait_s or None)


class _Next(Exception):
    """This endpoint gave no answer to be used."""


class _Round(Generic[_Value]):
    """One pass over the endpoints for one request."""

    def __init__(self, endpoints: Sequence[Endpoint], request: Request, read: Read[_Value]) -> None:
        self._endpoints = endpoints
        self._request = request
        self._read = read
        self._asked = False
        self._rested: list[str] = []
        self._failures: list[TryAgain] = []
        self._suspect: tuple[Endpoint, ChainDataError] | None = None

    async def run(self, latest: float) -> _Value:
        """The first answer. After the loop's time `latest` no further endpoint is tried.

        Raises Refused when nothing was asked and nothing is to be waited for, TryAgain when it may pass.
        """
        clock = asyncio.get_running_loop().time
        for endpoint in self._endpoints:
            if self._asked and clock() > latest:
                break
            with contextlib.suppress(_Next):
                value = await self._ask(endpoint)
                if endpoint is not self._endpoints[0]:
                    metrics.CHAIN_FAILOVERS.inc()
                return value
        raise self._conclude()

    async def _ask(self, endpoint: Endpoint) -> _Value:
        """The answer of one endpoint. Raises _Next when another one is to be asked."""
        try:
            value = await endpoint.ask(self._request, self._read)
        except Refused:
            self._rested.append(endpoint.url)
            raise _Next from None
        except TryAgain as failure:
            self._asked = True
            self._failures.append(failure)
            raise _Next from None
        except GetMethodFailed:
            self._settle()
            raise
        except ChainDataError as error:
            self._asked = True
            self._suspect_or_raise(endpoint, error)
            raise _Next from None
        self._settle()
        return value

    def _suspect_or_raise(self, endpoint: Endpoint, error: ChainDataError) -> None:
        """The first wrong answer is tried elsewhere; two are no endpoint's fault."""
        if self._suspect is not None:
            raise self._suspect[1]
        self._suspect = (endpoint, error)

    def _settle(self) -> None:
        if self._suspect is not None:
            endpoint, error = self._suspect
            endpoint.accuse(error)

    def _conclude(self) -> Exception:
        """What is raised when no endpoint gave a right answer."""
        if self._suspect is not None:
            return self._suspect[1]
        if self._failures:
            return self._explain(_combine(self._failures))
        states = [endpoint.status.state for endpoint in self._endpoints]
        if all(state == "open" for state in states):
            return Refused()
        return TryAgain(ChainUnavailable("The TON API is being probed after an outage and did not answer yet."))

    def _explain(self, failure: TryAgain) -> TryAgain:
        """That those left lag is no fault of the chain's history: who is further is away."""
        if not self._rested or not isinstance(failure.error, HeadWentBack):
            return failure
        away = f"{failure.error.message} {', '.join(self._rested)}: rested after failures."
        return TryAgain(ChainUnavailable(away), wait_s=failure.wait_s)


def _combine(failures: Sequence[TryAgain]) -> TryAgain:
    """One failure for several: of their common kind, with the shortest pause any of them asked for."""
    if len(failures) == 1:
        return failures[0]
    passing = [failure for failure in failures if not failure.lasting]
    combined = TryAgain(
        _combine_errors([failure.error for failure in failures]),
        wait_s=min((failure.wait_s or 0.0 for failure in passing), default=None),
        lasting=not passing,
    )
    combined.__cause__ = failures[-1].__cause__
    return combined


def _combine_errors(errors: Sequence[TonsuranceError]) -> TonsuranceError:
    told = " ".join(str(error)[:_QUOTED] for error in errors)
    if all(isinstance(error, HeadWentBack) for error in errors):
        return HeadWentBack(told)
    if not all(isinstance(error, RateLimited) for error in errors):
        return ChainUnavailable(told)
    waits = [error.retry_after_s for error in errors if isinstance(error, RateLimited)]
    known = [wait for wait in waits if wait is not None]
    return RateLimited(told, retry_after_s=min(known) if len(known) == len(waits) else None)


def _last(state: EndpointStatus) -> str:
    return f", the last: {state.last_error[:_QUOTED]}" if state.last_error else ""
