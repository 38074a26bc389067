"""A contract's events for programs: every one of them, in order, once in a run, whatever the TON API does meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
from collections.abc import Awaitable, Callable

from tonsurance import log, metrics
from tonsurance.chain.addresses import parse_address
from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.cells import parse_boc
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower, Walk
from tonsurance.chain.layout import Layout
from tonsurance.core.errors import ChainDataError, DependencyError, NotOurContract, TonsuranceError, UsageError
from tonsurance.core.events import GENESIS, ChainEvent, Cursor
from tonsurance.services.loop import MAX_BACKOFF_S, backoff_s, pause

DEFAULT_POLL_INTERVAL_S = 10.0
_LEAST_BACKOFF_S = 2.0
"""The longest pause after errors is not shorter than this, however often is looked."""
EventCallback = Callable[[ChainEvent], Awaitable[object] | object]
_log = log.get(__name__)


class Subscription:
    """One contract's events. The walk's proof is the daemon's: a transaction cannot be missed, only be late."""

    def __init__(
        self,
        follower: Follower,
        decoder: Decoder,
        callback: EventCallback,
        *,
        initial_lt: int | None = None,
        poll_interval_s: float = DEFAULT_POLL_INTERVAL_S,
        rng: random.Random | None = None,
    ) -> None:
        if not (math.isfinite(poll_interval_s) and poll_interval_s > 0):
            raise UsageError(f"The poll interval must be more than 0 seconds, not {poll_interval_s}.")
        if initial_lt is not None and not 0 <= initial_lt < 2**64:
            raise UsageError(f"{initial_lt} is not a logical time.")
        self._follower = follower
        self._decoder = decoder
        self._callback = callback
        self._poll_interval_s = poll_interval_s
        self._rng = rng or random.Random()
        self._initial_lt = initial_lt or 0
        self._failures = 0
        self.cursor = GENESIS if not initial_lt else None
        """The last transaction whose events were all handed over; None until the one to start after was found."""
        self.error: TonsuranceError | None = None
        """Why nothing can be read now; None when the last look went well."""
        self.delivered = 0
        self.undecoded = 0
        """Messages no layout explains: they are logged, and are no events."""

    async def run(self, stop: asyncio.Event, wake: asyncio.Event | None = None) -> Cursor | None:
        """Hand over events until `stop` is set; `wake` asks for a look before the interval is over.

        Returns the cursor, to go on from another time. What the callback raises ends the run, and so does
        DecodeError: proved bytes that are no transaction we know how to read will not get better.
        """
        while not stop.is_set():
            if wake is not None:
                wake.clear()
            walk = await self._look()
            if walk is not None:
                await self._hand_over(walk, stop)
            if walk is None or walk.complete:
                await pause(self._pause_s(), stop, None if walk is None else wake)
        return self.cursor

    async def _look(self) -> Walk | None:
        """What is new; None when it cannot be read now, which moves nothing."""
        try:
            head = await self._follower.read_head()
            if self.cursor is None:
                self.cursor = await self._follower.find_cursor(self._initial_lt, head)
            walk = await self._follower.walk(self.cursor, head)
        except (DependencyError, ChainDataError) as error:
            self.error = error
            self._failures += 1
            contract = self._follower.contract
            _log.warning(
                "events_not_read", contract=contract, code=error.code, reason=str(error), failures=self._failures
            )
            return None
        self.error, self._failures = None, 0
        return walk

    def _pause_s(self) -> float:
        if self.error is None:
            return self._poll_interval_s
        longest = min(MAX_BACKOFF_S, max(_LEAST_BACKOFF_S, 6 * self._poll_interval_s))
        return backoff_s(self._poll_interval_s, self._failures, self.error, longest, self._rng)

    async def _hand_over(self, walk: Walk, stop: asyncio.Event) -> None:
        """Transaction by transaction: `stop` is heeded between them, so that the cursor is always between two."""
        for transaction in walk.transactions:
            if stop.is_set():
                return
            for event in self._decode(transaction):
                answer = self._callback(event)
                if inspect.isawaitable(answer):
                    await answer
                self.delivered += 1
            self.cursor = transaction.cursor

    def _decode(self, transaction: RawTransaction) -> tuple[ChainEvent, ...]:
        if transaction.outcome is None:
            decoded = self._decoder.decode(transaction.boc)
        else:
            decoded = self._decoder.decode_outcome(transaction.outcome)
        if decoded.undecoded:
            self.undecoded += len(decoded.undecoded)
            metrics.QUARANTINED.labels(self._follower.kind).inc(len(decoded.undecoded))
            reasons = [message.reason for message in decoded.undecoded]
            _log.error(
                "messages_not_understood", contract=self._follower.contract, lt=decoded.cursor.lt, reasons=reasons
            )
        return decoded.events


class Events:
    """The events of contracts on one network."""

    def __init__(self, client: TonCenterClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def subscribe(
        self,
        contract_address: str,
        initial_lt: int | None = None,
        poll_interval_seconds: float = DEFAULT_POLL_INTERVAL_S,
        *,
        callback: EventCallback,
        kind: str | None = None,
        stop: asyncio.Event | None = None,
        wake: asyncio.Event | None = None,
    ) -> Cursor | None:
        """Call `callback` with every event of a contract after `initial_lt` (None: from its first transaction on).

        Events come in the order of the chain, each once in this run; a callback that returns an awaitable is awaited.
        An outage or a wrong answer delays events and loses none. It ends when `stop` is set, and then returns the
        cursor, whose lt is the `initial_lt` to go on with; or with what the callback raised. An event's own identity is
        (contract, lt, message_index).

        `kind` is found by the contract's code unless it is given. Raises NotOurContract, InvalidAddress, UsageError,
        and ChainUnavailable when the contract cannot be looked at in the beginning.
        """
        subscription = await self.open(
            contract_address, initial_lt, poll_interval_seconds, callback=callback, kind=kind
        )
        return await subscription.run(stop or asyncio.Event(), wake)

    async def open(
        self,
        contract_address: str,
        initial_lt: int | None = None,
        poll_interval_seconds: float = DEFAULT_POLL_INTERVAL_S,
        *,
        callback: EventCallback,
        kind: str | None = None,
    ) -> Subscription:
        """The same, not running yet: for who wants to see its state meanwhile."""
        address = parse_address(contract_address)
        known = kind or await self._recognise(address)
        return Subscription(
            Follower(self._client, address, known),
            Decoder(self._layout, contract=address, kind=known),
            callback,
            initial_lt=initial_lt,
            poll_interval_s=poll_interval_seconds,
        )

    async def _recognise(self, address: str) -> str:
        account = await self._client.get_address_information(address)
        if account.status == "active":
            code = parse_boc(account.code).hash
            for kind, known in self._layout.code.items():
                if known == code:
                    return kind
        raise NotOurContract(f"{address} holds none of the contracts of {self._layout.name}.")
