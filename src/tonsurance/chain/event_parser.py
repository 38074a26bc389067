"""Server-sent events, from bytes as they come. What is kept is bounded, whatever the server sends."""

from __future__ import annotations

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""A transaction takes about 4 KB, so this is a trace of a thousand of them."""


class EventParser:
    """Puts events together. Only their data is of use here; names, ids and comments are passed over."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._line_cut = False
        self._data: list[bytes] = []
        self._size = 0
        self._too_large = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The data of each event this chunk completes; None for one that was too large."""
        *whole, rest = chunk.split(b"\n")
        events: list[bytes | None] = []
        for part in whole:
            self._extend_line(part)
            if self._end_line():
                events.append(self._end_event())
        self._extend_line(rest)
        return events

    def _extend_line(self, part: bytes) -> None:
        if len(self._line) + len(part) > self._max_bytes:
            self._line_cut = self._too_large = True
            self._line.clear()
        elif not self._line_cut:
            self._line += part

    def _end_line(self) -> bool:
        """True at the empty line that ends an event which holds something."""
        line, cut = bytes(self._line).removesuffix(b"\r"), self._line_cut
        self._line.clear()
        self._line_cut = False
        if cut:
            return False
        if not line:
            return bool(self._data) or self._too_large
        if line.startswith(b"data:"):
            self._add_data(line[5:].removeprefix(b" "))
        return False

    def _add_data(self, data: bytes) -> None:
        self._size += len(data) + 1
        if self._size > self._max_bytes:
            self._too_large = True
            self._data.clear()
        elif not self._too_large:
            self._data.append(data)

    def _end_event(self) -> bytes | None:
        event = None if self._too_large else b"\n".join(self._data)
        self._data.clear()
        self._size, self._too_large = 0, False
        return event
