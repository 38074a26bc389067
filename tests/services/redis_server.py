"""A Redis of a test's own: started on a free port, without any file, killed, hung, filled and started again."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import free_port

PROGRAM = shutil.which("redis-server")


class RedisServer:
    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For a client that waits as long as a busy machine needs."""
        return f"{self.hasty_url}?socket_timeout=30&socket_connect_timeout=30"

    @property
    def hasty_url(self) -> str:
        """For one that waits as little as the product does: for what hangs."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self._folder), *self._options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(6_000):
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            signal.sigtimedwait([], 0.01)
        raise AssertionError("redis-server did not start")

    def send(self, number: int) -> None:
        """A signal; after SIGKILL it is waited for."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Skips, with the reason, where there is no redis-server."""
    if PROGRAM is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.end()


async def until(condition: object, timeout_s: float = 60.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)
