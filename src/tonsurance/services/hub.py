"""Hands each message to everyone who subscribed to its channel; who does not read is dropped and delays nobody."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum

import msgspec

from tonsurance import metrics

QUEUE_MESSAGES = 512
"""Unsent messages a client may have. One more, and it is disconnected."""

BUFFER_MESSAGES = 128
"""Past messages a channel keeps for clients that come back: few enough that two resumed channels fit a mailbox."""


class Close(IntEnum):
    """WebSocket close codes this server uses."""

    POLICY = 1008
    RESTART = 1012
    OVERLOADED = 1013


class Position(msgspec.Struct, frozen=True):
    """Where a client stopped reading a channel. Offsets of another epoch mean nothing in this one."""

    epoch: str
    offset: int


class Client:
    """One connection's mailbox. `kicked` is set when the connection has to be closed with `close_code`."""

    def __init__(self, client_id: str, *, queue_messages: int = QUEUE_MESSAGES) -> None:
        self.client_id = client_id
        self.channels: set[str] = set()
        self.queue: asyncio.Queue[str] = asyncio.Queue(queue_messages)
        self.kicked = asyncio.Event()
        self.close_code = Close.OVERLOADED
        self.close_reason = ""

    def put(self, text: str) -> bool:
        """Leave one message. False when the mailbox is full: the client has not been reading, and is kicked."""
        if self.kicked.is_set():
            return False
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            metrics.WS_KICKED.inc()
            self.kick(Close.OVERLOADED, "messages are not being read")
            return False
        return True

    def kick(self, code: Close, reason: str) -> None:
        """Ask the connection's handler to close it; what is still queued is dropped."""
        self.close_code, self.close_reason = code, reason
        self.kicked.set()


class Channel:
    """One stream of numbered messages and its recent past."""

    def __init__(self, name: str, state: Callable[[], Mapping[str, object] | None], *, buffer_messages: int) -> None:
        self.name = name
        self.state = state
        self.offset = 0
        self.buffer: deque[tuple[int, str]] = deque(maxlen=buffer_messages)
        self.clients: set[Client] = set()

    def missed(self, offset: int) -> list[str] | None:
        """The messages after `offset`; None when some of them are no longer here."""
        if not 0 <= offset <= self.offset:
            return None
        if offset < self.offset - len(self.buffer):
            return None
        return [text for number, text in self.buffer if number > offset]


class Hub:
    """Channels and their subscribers. Nothing here waits: publishing takes the same time whoever listens badly.

    Each message is numbered within its channel (`offset`) and encoded once. `epoch` names this hub's life: after a
    restart the numbers begin again under another epoch.
    """

    def __init__(self, *, epoch: str | None = None, buffer_messages: int = BUFFER_MESSAGES) -> None:
        self.epoch = epoch or secrets.token_hex(6)
        self._buffer_messages = buffer_messages
        self._channels: dict[str, Channel] = {}
        self.clients: set[Client] = set()

    def add_channel(self, name: str, state: Callable[[], Mapping[str, object] | None]) -> None:
        """Open a channel. `state` gives the message a newcomer starts from, None while there is none."""
        self._channels[name] = Channel(name, state, buffer_messages=self._buffer_messages)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of all channels, in the order they were opened."""
        return tuple(self._channels)

    def join(self, client: Client) -> None:
        """Take a new connection in."""
        self.clients.add(client)
        metrics.WS_CLIENTS.set(len(self.clients))

    def leave(self, client: Client) -> None:
        """Forget a connection and all it listened to. Leaving twice is once."""
        for name in tuple(client.channels):
            self.unsubscribe(client, name)
        self.clients.discard(client)
        metrics.WS_CLIENTS.set(len(self.clients))

    def subscribe(self, client: Client, name: str) -> None:
        """From now on the client gets what the channel publishes."""
        channel = self._channels[name]
        channel.clients.add(client)
        client.channels.add(name)
        metrics.WS_SUBSCRIPTIONS.labels(name).set(len(channel.clients))

    def unsubscribe(self, client: Client, name: str) -> None:
        """Stop. A channel that was not subscribed is no error."""
        channel = self._channels.get(name)
        if channel is None:
            return
        channel.clients.discard(client)
        client.channels.discard(name)
        metrics.WS_SUBSCRIPTIONS.labels(name).set(len(channel.clients))

    def catch_up(self, name: str, since: Position | None) -> tuple[bool, list[str]]:
        """What brings a client up to date: (True, the messages it missed) or (False, the channel's state)."""
        channel = self._channels[name]
        if since is not None and since.epoch == self.epoch:
            missed = channel.missed(since.offset)
            if missed is not None:
                return True, missed
        state = channel.state()
        return False, [] if state is None else [self._encode(channel, state)]

    def publish(self, name: str, message: Mapping[str, object]) -> None:
        """Number, encode and hand out one message. Clients without room are kicked and leave the channel at once."""
        channel = self._channels[name]
        channel.offset += 1
        text = self._encode(channel, message)
        channel.buffer.append((channel.offset, text))
        self._deliver(channel.clients, text)

    def _deliver(self, clients: Iterable[Client], text: str) -> None:
        refused = [client for client in clients if not client.put(text)]
        for client in refused:
            self.leave(client)

    def _encode(self, channel: Channel, message: Mapping[str, object]) -> str:
        numbered = {"channel": channel.name, **message, "epoch": self.epoch, "offset": channel.offset}
        return msgspec.json.encode(numbered).decode()

    async def drain(self, *, timeout_s: float) -> None:
        """Wait until everything queued was taken, at most `timeout_s`: the last step before a shutdown."""
        waiting = [asyncio.ensure_future(client.queue.join()) for client in self.clients]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
