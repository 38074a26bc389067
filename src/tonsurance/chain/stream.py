"""TonCenter's streaming API (v2, server-sent events), used for one thing only: word that an account has news.

What comes over a stream is never an answer. It is not kept and not repeated by the server, it may be lost, doubled,
late or untrue, and nothing that is read here reaches the ledger: a hint names an account to look at, and the look
proves everything itself. So no fault of a stream is an error of ours; it is counted, and shown in `status`.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from tonsurance import log, metrics
from tonsurance.chain.addresses import parse_address
from tonsurance.chain.event_parser import EventParser
from tonsurance.chain.urls import assign_keys, check_urls
from tonsurance.core.errors import InvalidAddress

PATH = "/api/streaming/v2/sse"
MAX_LT = 2**63 - 1
_SECONDS = re.compile(r"[0-9]{1,6}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_log = log.get(__name__)


class Hint(msgspec.Struct, frozen=True):
    """An account to look at, in raw form. `lt` is the newest transaction that was told of, None when none was."""

    address: str
    lt: int | None = None


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the stream is doing. Times are unix seconds, None is never. `error` is why it is not connected."""

    url: str
    connected: bool
    connects: int
    last_event_at: float | None
    events: int
    garbage: int
    error: str | None

    @property
    def reconnects(self) -> int:
        """How often it was connected again."""
        return max(0, self.connects - 1)


class StreamPatience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: of silence after which a stream is dead (servers send a comment every 5 to 15), and between attempts,
    doubled each time, with jitter, and from the start after a stream that lived for `well_after_s`."""

    silence_s: float = 45.0
    connect_s: float = 10.0
    first_s: float = 0.25
    longest_s: float = 60.0
    well_after_s: float = 5.0


class _Seen(msgspec.Struct, frozen=True):
    account: str
    lt: str | int | None = None


class _Notification(msgspec.Struct, frozen=True):
    """As much of an event as is used; whatever else it holds is skipped unread."""

    type: str = ""
    account: str = ""
    transactions: tuple[_Seen, ...] = ()


class _Ended(msgspec.Struct, frozen=True):
    """Why a stream ended, and how long the server wants to be left alone."""

    reason: str
    wait_s: float = 0.0


class HintStream:
    """A stream about some accounts. `run` keeps it open; `follow` changes the accounts at any time."""

    def __init__(
        self,
        base_urls: str | Sequence[str],
        api_key: str | Mapping[str, str] | None = None,
        *,
        addresses: Iterable[str] = (),
        min_finality: str = "finalized",
        patience: StreamPatience | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Of several URLs the next is used after each failure. Raises UsageError and InvalidAddress."""
        self._urls = check_urls([base_urls] if isinstance(base_urls, str) else list(base_urls))
        self._keys = assign_keys(self._urls, api_key)
        self._min_finality = min_finality
        self._patience = patience or StreamPatience()
        self._rng = rng or random.Random()
        self._on_hint: Callable[[Hint], None] = lambda _: None
        self._accounts: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._attempts = self._connects = self._failures = self._events = self._garbage = 0
        self._connected_at: float | None = None
        self._last_event_at: float | None = None
        self._error: str | None = None
        self.follow(addresses)

    @property
    def status(self) -> StreamStatus:
        """How the stream is doing now."""
        return StreamStatus(
            url=self._url,
            connected=self._connected_at is not None,
            connects=self._connects,
            last_event_at=self._last_event_at,
            events=self._events,
            garbage=self._garbage,
            error=self._error,
        )

    @property
    def _url(self) -> str:
        return self._urls[self._attempts % len(self._urls)]

    def follow(self, addresses: Iterable[str]) -> None:
        """Hear of these accounts from now on, and of no others. Raises InvalidAddress."""
        accounts = dict.fromkeys(map(parse_address, addresses))
        if accounts != self._accounts:
            self._accounts = accounts
            self._changed.set()

    async def run(self, on_hint: Callable[[Hint], None], stop: asyncio.Event) -> None:
        """Call `on_hint`, which must not block, for everything that comes, until `stop` is set.

        On each connection every account is named once: what happened before, nobody tells again.
        """
        self._on_hint = on_hint
        while not stop.is_set():
            self._changed.clear()
            if not self._accounts:
                await _wait_for_one(None, stop, self._changed)
                continue
            ended = await self._stay_connected(stop)
            if ended is not None:
                await self._pause(ended, stop)

    async def _pause(self, ended: _Ended, stop: asyncio.Event) -> None:
        patience = self._patience
        longest = min(patience.longest_s, patience.first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        delay_s = max(min(ended.wait_s, patience.longest_s), self._rng.uniform(longest / 2, longest))
        if ended.reason != self._error:
            _log.warning("stream_lost", url=self._url, reason=ended.reason, retry_in_s=round(delay_s, 1))
        self._error = ended.reason
        self._attempts += 1
        await _wait_for_one(delay_s, stop)

    async def _stay_connected(self, stop: asyncio.Event) -> _Ended | None:
        """Why the stream ended; None when we ended it."""
        reading = asyncio.create_task(self._read())
        try:
            await _wait_for_one(None, stop, self._changed, task=reading)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if self._connected_at is not None and time.monotonic() - self._connected_at >= self._patience.well_after_s:
                self._failures = 0
            self._connected_at = None
            metrics.STREAM_CONNECTED.set(0)

    async def _read(self) -> _Ended:
        url, patience = self._url, self._patience
        timeout = httpx.Timeout(patience.connect_s, read=patience.silence_s)
        try:
            async with (
                httpx.AsyncClient(timeout=timeout, trust_env=urlsplit(url).hostname not in _LOOPBACK) as http,
                http.stream("POST", url + PATH, json=self._subscription(), headers=self._headers(url)) as response,
            ):
                refusal = _check_answer(response)
                if refusal is not None:
                    return refusal
                self._note_connection()
                await self._take_all(response)
        except httpx.TimeoutException:
            return _Ended("nothing came for too long")
        except httpx.HTTPError as error:
            return _Ended(str(error) or type(error).__name__)
        return _Ended("the server ended the stream")

    def _subscription(self) -> dict[str, Any]:
        return {"types": ["transactions"], "addresses": list(self._accounts), "min_finality": self._min_finality}

    def _headers(self, url: str) -> dict[str, str]:
        key = self._keys[url]
        plain = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        return plain if key is None else plain | {"X-API-Key": key}

    def _note_connection(self) -> None:
        self._connected_at = time.monotonic()
        self._connects += 1
        self._error = None
        metrics.STREAM_CONNECTED.set(1)
        metrics.STREAM_CONNECTS.inc()
        _log.info("stream_connected", url=self._url, accounts=len(self._accounts))
        self._name_all()

    def _name_all(self) -> None:
        for address in self._accounts:
            self._on_hint(Hint(address))

    async def _take_all(self, response: httpx.Response) -> None:
        parser = EventParser()
        async for chunk in response.aiter_raw():
            for event in parser.feed(chunk):
                self._events += 1
                self._last_event_at = time.time()
                metrics.STREAM_EVENTS.labels(self._take(event)).inc()

    def _take(self, event: bytes | None) -> str:
        """Pass on what an event says about our accounts; returns what kind of event it was."""
        if event is None:  # too large to be kept: it may have been about any of them
            self._garbage += 1
            self._name_all()
            return "too_large"
        try:
            told = msgspec.json.decode(event, type=_Notification)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._garbage += 1
            return "garbage"
        if told.type not in ("transactions", "account_state_change"):
            return "other"
        hints = _find_hints(told)
        known = [hint for hint in hints if hint.address in self._accounts]
        for hint in known:
            self._on_hint(hint)
        return "hint" if known else "foreign"


def _find_hints(told: _Notification) -> list[Hint]:
    """One for each account, with its newest transaction."""
    newest: dict[str, int | None] = {}
    for seen in told.transactions:
        address, lt = _read_address(seen.account), _read_lt(seen.lt)
        if address is not None:
            known = newest.get(address)
            newest[address] = lt if known is None else max(known, lt or 0)
    if told.account:
        address = _read_address(told.account)
        if address is not None:
            newest.setdefault(address, None)
    return [Hint(address, lt) for address, lt in newest.items()]


def _read_address(text: str) -> str | None:
    try:
        return parse_address(text)
    except InvalidAddress:
        return None


def _read_lt(given: str | int | None) -> int | None:
    """A logical time; None for anything else."""
    if isinstance(given, str):
        given = int(given) if len(given) < 20 and given.isascii() and given.isdigit() else None
    return given if given is not None and 0 < given <= MAX_LT else None


def _check_answer(response: httpx.Response) -> _Ended | None:
    """None when a stream begins. A refusal's body is not read."""
    if response.status_code != HTTPStatus.OK:
        asked = _SECONDS.fullmatch(response.headers.get("Retry-After", ""))
        return _Ended(f"the server answered {response.status_code}", float(asked[0]) if asked else 0.0)
    if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
        return _Ended("the answer is no stream of events")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return _Ended("the stream is compressed, which was not asked for")
    return None


async def _wait_for_one(seconds: float | None, *events: asyncio.Event, task: asyncio.Task[Any] | None = None) -> None:
    """Until an event is set, the task ends, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        others = [task] if task is not None else []
        await asyncio.wait([*waits, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
