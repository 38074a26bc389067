"""TonCenter's API v3 as a second source: it is an index of its own, and tells the masterchain block of a transaction.

v3 gives no transaction as bytes, so nothing here can be proved alone. It confirms what API v2 gave and was proved.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import httpx
import msgspec

from tonsurance.chain.addresses import parse_address
from tonsurance.chain.answers import RawTransaction, decode_json, read_base64
from tonsurance.chain.breaker import Breaker, BreakerPolicy
from tonsurance.chain.cells import Cell, parse_boc
from tonsurance.chain.endpoint import Endpoint, EndpointStatus, Request
from tonsurance.chain.envelope import open_v3
from tonsurance.chain.ratelimit import TokenBucket, default_rps
from tonsurance.chain.retry import RetryPolicy
from tonsurance.chain.sources import Sources
from tonsurance.chain.urls import assign_keys, check_url
from tonsurance.core.errors import ChainDataError, HashMismatch, InvalidAddress, SourcesDisagree, UsageError
from tonsurance.core.events import Cursor

MAX_PAGE = 1000
_HASH_BYTES = 32


class IndexedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An out-message: its hash and, when the server has it, its body."""

    hash: bytes
    body: Cell | None


class IndexedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as the index has it. `seqno` is its masterchain block, None while it is in none.

    `succeeded`: not aborted, and compute and action phase went well.
    """

    cursor: Cursor
    previous: Cursor
    now: int
    seqno: int | None
    aborted: bool
    succeeded: bool
    out_messages: tuple[IndexedMessage, ...]


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """What the second source says of transactions: `agrees`, or `lags` when it has only the older part of them.

    `seqnos` has the masterchain block of each, oldest first, None from the first that is not confirmed on.
    """

    verdict: Literal["agrees", "lags"]
    account: str
    seqnos: tuple[int | None, ...]
    confirmed_until: Cursor | None


class _Phase(msgspec.Struct, frozen=True):
    success: bool = False


class _Description(msgspec.Struct, frozen=True):
    aborted: bool
    compute_ph: _Phase | None = None
    action: _Phase | None = None


class _Content(msgspec.Struct, frozen=True):
    hash: str | None = None
    body: str | None = None


class _Message(msgspec.Struct, frozen=True):
    hash: str
    message_content: _Content | None = None


class _Transaction(msgspec.Struct, frozen=True):
    account: str
    hash: str
    lt: int
    now: int
    prev_trans_hash: str
    prev_trans_lt: int
    description: _Description
    mc_block_seqno: int | None = None
    out_msgs: list[_Message] = []
    emulated: bool = False


class _Page(msgspec.Struct, frozen=True):
    transactions: list[_Transaction]


class V3Source:
    """One server of API v3. Close it, or use `async with`."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        rps: float | None = None,
        timeout_s: float = 10.0,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        bucket: TokenBucket | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `bucket`, usually one of a client's `buckets`, it shares that one's rate."""
        self.base_url = check_url(base_url)
        policy = retry or RetryPolicy(timeout_s=timeout_s, deadline_s=3 * timeout_s)
        rng = rng or random.Random()
        endpoint = Endpoint(
            self.base_url,
            assign_keys([self.base_url], api_key)[self.base_url],
            bucket=bucket or TokenBucket(rps or default_rps(self.base_url, api_key)),
            breaker=Breaker(breaker or BreakerPolicy(), rng),
            timeout_s=policy.timeout_s,
            clock=clock,
            transport=transport,
        )
        self._sources = Sources([endpoint], policy, rng)

    async def __aenter__(self) -> V3Source:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._sources.close()

    @property
    def status(self) -> EndpointStatus:
        """How the server is doing."""
        return self._sources.statuses[0]

    async def get_transactions(
        self,
        account: str,
        *,
        start_lt: int | None = None,
        end_lt: int | None = None,
        limit: int = MAX_PAGE,
        offset: int = 0,
        sort: Literal["asc", "desc"] = "asc",
    ) -> tuple[IndexedTransaction, ...]:
        """Transactions of an account (raw) with start_lt <= lt <= end_lt, in the order asked for.

        Raises ChainDataError when the answer is not that, HashMismatch when a body does not have its announced hash.
        """
        if not 0 < limit <= MAX_PAGE or offset < 0:
            raise UsageError(f"A page has 1 to {MAX_PAGE} transactions and its offset is not negative.")
        asked = {"account": account, "start_lt": start_lt, "end_lt": end_lt, "limit": limit, "offset": offset}
        params = {name: str(value) for name, value in asked.items() if value is not None} | {"sort": sort}
        low, high = start_lt or 0, end_lt if end_lt is not None else 2**64

        def read(result: msgspec.Raw, url: str) -> tuple[IndexedTransaction, ...]:
            page = tuple(_read_transaction(item, account, url) for item in decode_json(result, _Page).transactions)
            _check_page([item.cursor.lt for item in page], low, high, limit, sort, url)
            return page

        request = Request(method="transactions", params=params, prefix="/api/v3/", open=open_v3)
        return await self._sources.ask(request, read)

    async def confirm(self, account: str, transactions: Sequence[RawTransaction]) -> Confirmation:
        """Hold consecutive transactions, oldest first, as a walk has them, against this source.

        Raises SourcesDisagree naming the first logical time where one of the two has another transaction or none,
        unless this source only lacks the newest part: then it lags.
        """
        indexed = await self._read_range(account, transactions)
        told = {item.cursor.lt: item for item in indexed if item.seqno is not None}  # others are no part of it yet
        seqnos = self._compare(account, {item.cursor.lt: item.cursor for item in transactions}, told)
        if any(one > two for one, two in pairwise(seqnos)):
            raise ChainDataError(f"{self.base_url} puts transactions of {account} into ever older blocks.")
        confirmed = len(seqnos)
        return Confirmation(
            verdict="agrees" if confirmed == len(transactions) else "lags",
            account=account,
            seqnos=(*seqnos, *[None] * (len(transactions) - confirmed)),
            confirmed_until=transactions[confirmed - 1].cursor if confirmed else None,
        )

    def _compare(self, account: str, ours: dict[int, Cursor], told: dict[int, IndexedTransaction]) -> list[int]:
        """The blocks of the transactions both have, from the first on. Raises SourcesDisagree."""
        seqnos: list[int] = []
        missing: int | None = None
        for lt in sorted(ours.keys() | told.keys()):
            if lt not in told:
                missing = missing or lt
                continue
            if missing is not None:
                reason = f"{self.base_url} has no transaction {missing} of {account}, and has a later one."
                raise SourcesDisagree(reason, lt=missing)
            if lt not in ours:
                raise SourcesDisagree(f"{self.base_url} has a transaction {lt} of {account}, which is none.", lt=lt)
            hash_ = told[lt].cursor.hash
            if hash_ != ours[lt].hash:
                reason = f"Transaction {lt} of {account} is {ours[lt].hash.hex()}; {self.base_url} has {hash_.hex()}."
                raise SourcesDisagree(reason, lt=lt)
            seqnos.append(told[lt].seqno or 0)
        return seqnos

    async def _read_range(self, account: str, transactions: Sequence[RawTransaction]) -> list[IndexedTransaction]:
        """All transactions from the first of these to the last. Pages go on by logical time: an offset would slip."""
        found: list[IndexedTransaction] = []
        if not transactions:
            return found
        start, end = transactions[0].cursor.lt, transactions[-1].cursor.lt
        while start <= end and len(found) <= len(transactions):
            page = await self.get_transactions(account, start_lt=start, end_lt=end)
            if not page:
                break
            found += page
            start = page[-1].cursor.lt + 1
        return found


def _check_page(lts: list[int], low: int, high: int, limit: int, sort: str, url: str) -> None:
    rising = lts if sort == "asc" else lts[::-1]
    if len(lts) > limit or any(not low <= lt <= high for lt in lts):
        raise ChainDataError(f"{url} gave transactions that were not asked for.")
    if any(one >= two for one, two in pairwise(rising)):
        raise ChainDataError(f"{url} gave transactions in another order than asked for.")


def _read_transaction(item: _Transaction, account: str, url: str) -> IndexedTransaction:
    try:
        found = parse_address(item.account)
    except InvalidAddress as error:
        raise ChainDataError(f"{url} gave a transaction of no account.") from error
    if found != account:
        raise ChainDataError(f"{url} gave a transaction of {found}, not of {account}.")
    if item.emulated:
        raise ChainDataError(f"{url} gave the transaction {item.lt} of {account}, which is only emulated.")
    told = item.description
    computed = told.compute_ph is not None and told.compute_ph.success
    acted = told.action is not None and told.action.success
    return IndexedTransaction(
        cursor=_read_cursor(item.lt, item.hash),
        previous=_read_cursor(item.prev_trans_lt, item.prev_trans_hash),
        now=item.now,
        seqno=item.mc_block_seqno or None,
        aborted=told.aborted,
        succeeded=computed and acted and not told.aborted,
        out_messages=tuple(_read_message(message) for message in item.out_msgs),
    )


def _read_cursor(lt: int, text: str) -> Cursor:
    if not lt:
        return Cursor(0, bytes(_HASH_BYTES))  # before the first transaction
    if not 0 < lt < 2**64:
        raise ChainDataError(f"No transaction has the logical time {lt}.")
    return Cursor(lt, _read_hash(text))


def _read_hash(text: str) -> bytes:
    content = read_base64(text)
    if len(content) != _HASH_BYTES:
        raise ChainDataError(f"A hash has {_HASH_BYTES} bytes, not {len(content)}.")
    return content


def _read_message(message: _Message) -> IndexedMessage:
    content = message.message_content
    if content is None or content.body is None:
        return IndexedMessage(hash=_read_hash(message.hash), body=None)
    body = parse_boc(read_base64(content.body))
    if content.hash is not None and body.hash != _read_hash(content.hash):
        raise HashMismatch(f"A message body is announced as {content.hash} and has the hash {body.hash.hex()}.")
    return IndexedMessage(hash=_read_hash(message.hash), body=body)
