"""A client that asks as fast as it is answered, over a few kept connections: answers a second, and the time of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import msgspec

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one run measured: answers a second, and seconds of each answer. Every answer was the status asked for."""

    rate: float
    latencies: tuple[float, ...]


async def run_load(port: int, requests: Sequence[bytes], *, connections: int, count: int, status: int = 200) -> Load:
    """Send `count` of the requests in turn over `connections` connections to 127.0.0.1.

    Raises RuntimeError for any answer of another status, so that fast refusals are not taken for speed.
    """
    latencies: list[float] = []
    numbers = iter(range(count))
    started = time.perf_counter()
    await asyncio.gather(*(_ask(port, requests, numbers, latencies, status) for _ in range(connections)))
    return Load(rate=count / (time.perf_counter() - started), latencies=tuple(latencies))


async def _ask(
    port: int, requests: Sequence[bytes], numbers: Iterator[int], latencies: list[float], status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wanted = f"HTTP/1.1 {status}".encode()
    try:
        for number in numbers:
            began = time.perf_counter()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(_HEAD_END)
            body = await reader.readexactly(_content_length(head))
            latencies.append(time.perf_counter() - began)
            if not head.startswith(wanted):
                raise RuntimeError(f"{head.splitlines()[0]!r} {body[:300]!r}")
    finally:
        writer.close()
        await writer.wait_closed()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(_LENGTH):
            return int(line.removeprefix(_LENGTH))
    raise RuntimeError("an answer without a length")


def make_post(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + _HEAD_END + body
