"""TonCenter's HTTP API (v2), read so that a fault of the server is never mistaken for an answer.

Every call ends with a checked value or a typed error: ChainUnavailable (with RateLimited) when no server can be used
now, ChainDataError and below when the answer is wrong. What may pass is tried again, elsewhere first, until a deadline.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
import msgspec

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
from tonsurance.chain.breaker import Breaker, BreakerPolicy
from tonsurance.chain.cells import Cell
from tonsurance.chain.endpoint import Endpoint, EndpointStatus, Request
from tonsurance.chain.ratelimit import TokenBucket, assign_buckets
from tonsurance.chain.retry import RetryPolicy, TryAgain
from tonsurance.chain.sources import Sources
from tonsurance.chain.stack import read_stack, write_stack
from tonsurance.chain.urls import assign_keys, check_urls
from tonsurance.core.errors import ChainDataError, GetMethodFailed, HeadWentBack, UsageError

MAX_PAGE = 100
"""Largest page the Python API gives; the C++ one gives 1000."""
_MAX_HEADS = 1024
_METHOD_OK = (0, 1)
_Value = TypeVar("_Value")


class TonCenterClient:
    """One network, by one endpoint or several: the first of them is asked first. Close it, or use `async with`.

    `api_key` is the key of a single endpoint, or of all those of toncenter.com, or a mapping from URLs to keys; it goes
    only to its own endpoint, in a header. `rps` is the rate of each key, in requests per second.
    """

    def __init__(
        self,
        base_urls: str | Sequence[str],
        api_key: str | Mapping[str, str] | None = None,
        *,
        rps: float | None = None,
        timeout_s: float = 10.0,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        urls = check_urls([base_urls] if isinstance(base_urls, str) else base_urls)
        self.base_url = urls[0]
        policy = retry or RetryPolicy(timeout_s=timeout_s, deadline_s=3 * timeout_s)
        rng = rng or random.Random()
        keys = assign_keys(urls, api_key)
        self.buckets: Mapping[str, TokenBucket] = assign_buckets(keys, rps)
        """By URL; who reads another API of the same server with the same key takes from the same bucket."""
        endpoints = [
            Endpoint(
                url,
                keys[url],
                bucket=self.buckets[url],
                breaker=Breaker(breaker or BreakerPolicy(), rng),
                timeout_s=policy.timeout_s,
                clock=clock,
                transport=transport,
            )
            for url in urls
        ]
        self._sources = Sources(endpoints, policy, rng)
        self._heads: dict[str, int] = {}

    @property
    def endpoints(self) -> tuple[EndpointStatus, ...]:
        """How each endpoint is doing, in the order they are asked in."""
        return self._sources.statuses

    async def __aenter__(self) -> TonCenterClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._sources.close()

    async def get_masterchain_info(self) -> MasterchainInfo:
        """The newest masterchain block; never an older one than was seen before."""

        def read(result: msgspec.Raw, url: str) -> MasterchainInfo:
            info = read_masterchain_info(result)
            self._check_head("masterchain", info.last.seqno, url)
            return info

        return await self._get("getMasterchainInfo", {}, read)

    async def get_address_information(self, address: str, seqno: int | None = None) -> AccountState:
        """An account at a masterchain block, or now; then never an older state than was seen before."""

        def read(result: msgspec.Raw, url: str) -> AccountState:
            account = read_account(result, address)
            if seqno is None:
                self._check_head(address, account.last_transaction.lt, url)
            else:
                _check_block(account.block, seqno)
            return account

        return await self._get("getAddressInformation", {"address": address, "seqno": seqno}, read, seqno is not None)

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
        return await self._get(
            "getTransactions", params, lambda result, _: read_transactions(result, address), lt is not None
        )

    async def run_get_method(
        self, address: str, method: str, stack: Sequence[int | Cell] = (), seqno: int | None = None
    ) -> MethodResult:
        """Run a get-method at a masterchain block, or now. Raises GetMethodFailed when it ends with an exit code."""

        def read(result: msgspec.Raw, _: str) -> MethodResult:
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
        return await self._sources.ask(Request(method="runGetMethod", body=body, anchored=seqno is not None), read)

    async def send_boc(self, boc: bytes) -> None:
        """Send an external message, once: after an error it may have been accepted, so look before sending again."""
        body = {"boc": base64.b64encode(boc).decode("ascii")}
        await self._sources.send(Request(method="sendBoc", body=body), lambda _, __: None)

    async def _get(
        self,
        method: str,
        params: dict[str, Any],
        read: Callable[[msgspec.Raw, str], _Value],
        anchored: bool = False,
    ) -> _Value:
        given = {name: str(value) for name, value in params.items() if value is not None}
        return await self._sources.ask(Request(method=method, params=given, anchored=anchored), read)

    def _check_head(self, name: str, value: int, url: str) -> None:
        """A replica that lags shows an older head than any endpoint did before: another one may be further."""
        seen = self._heads.pop(name, 0)
        self._heads[name] = max(seen, value)
        if len(self._heads) > _MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        if value < seen:
            error = HeadWentBack(f"{url} shows {name} at {value}, and {seen} was shown before.")
            raise TryAgain(error, blames=False)


def _check_block(block: BlockId | None, seqno: int) -> None:
    if block is None or (block.workchain, block.seqno) != (MASTERCHAIN, seqno):
        raise ChainDataError(f"Masterchain block {seqno} was asked for and the answer is of {block}.")
