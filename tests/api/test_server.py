"""The process around the application: its socket, and when it stops."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tonsurance.api.server import bind_socket, stop_on_signals
from tonsurance.api.settings import ApiSettings
from tonsurance.core.errors import DependencyError


def test_the_kernel_gives_up_on_peers_that_take_nothing() -> None:
    with bind_socket(ApiSettings(port=0)) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host"])
def test_an_address_that_cannot_be_had_is_said_with_advice(host: str) -> None:
    with bind_socket(ApiSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DependencyError, match=f"Cannot listen on {host}:{port}.*TONSURANCE_PORT"):
            bind_socket(ApiSettings(host=host, port=port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_ask_for_an_orderly_end(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        await stop.wait()
