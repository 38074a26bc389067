"""What a WebSocket client may say, and what it is told: text frames of JSON."""

from __future__ import annotations

import msgspec

from tonsurance.api.render import show_now
from tonsurance.core.errors import InputError
from tonsurance.services.hub import Position

PROTOCOL = "tonsurance.1"
ACTIONS = ("subscribe", "unsubscribe", "ping")


class BadFrame(InputError):
    """Invalid message: send a JSON object such as {"action": "subscribe", "channel": "tranche_apy"}."""

    code = "bad_frame"


class ClientFrame(msgspec.Struct, frozen=True):
    """One message of a client. `since` is where it stopped reading: {"epoch": ..., "offset": ...}, or the offset
    alone with `epoch` beside it.
    """

    action: str
    channel: str | None = None
    since: Position | int | None = None
    epoch: str | None = None

    @property
    def position(self) -> Position | None:
        """`since` in its full form; an offset without an epoch cannot be trusted and matches none."""
        if isinstance(self.since, int):
            return Position(self.epoch or "", self.since)
        return self.since


_decoder = msgspec.json.Decoder(ClientFrame)
_encoder = msgspec.json.Encoder()


def read_frame(text: str | None, *, max_bytes: int) -> ClientFrame:
    """The frame a client sent; None is a binary one. Raises BadFrame."""
    if text is None:
        raise BadFrame("Binary frames are not understood: send JSON as text.")
    if len(text) > max_bytes or len(text.encode()) > max_bytes:
        raise BadFrame(f"A frame may have at most {max_bytes} bytes.")
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadFrame from error


def say(kind: str, **fields: object) -> str:
    """One message to one client."""
    return _encoder.encode({"type": kind, **fields, "timestamp": show_now()}).decode()
