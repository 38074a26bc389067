"""What the two modelled contracts say to each other and to people, without cells, gas or fees."""

from __future__ import annotations

import msgspec

from tonsurance.chain.messages import Quote
from tonsurance.core.events import EventBody

Argument = int | str | tuple["Argument", ...] | Quote | None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way. `bounced`: it comes back; then only name, query_id and the policy of it are left."""

    source: str
    name: str
    query_id: int = 0
    args: tuple[Argument, ...] = ()
    value: int = 0
    bounced: bool = False


class Out(msgspec.Struct, frozen=True, kw_only=True):
    """What a contract sends. Without a value it carries whatever the incoming message has left."""

    to: str
    name: str
    query_id: int = 0
    args: tuple[int | str, ...] = ()
    value: int | None = None
    bounce: bool = False


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What a message did. `booked`: by how much the balance moves, beside storage fees; None: it keeps all the rest."""

    events: tuple[EventBody, ...] = ()
    outs: tuple[Out, ...] = ()
    booked: int | None = 0


class Refused(Exception):
    """The contract throws this code (contracts/errors.fc) and has changed nothing."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


UNKNOWN_OP = 0xFFFF


def refuse_if(condition: bool, code: int) -> None:
    """Throw like a contract."""
    if condition:
        raise Refused(code)
