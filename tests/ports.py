"""Ports for servers whose address must be known before they listen, or that stop and come back to it.

They lie below those the kernel hands out by itself (from 32768 on Linux), and each worker of a test run has its own:
whoever gives a port back for a moment finds nobody else there.
"""

from __future__ import annotations

import itertools
import os
import random
import socket

_FIRST, _EACH, _WORKERS = 12_000, 2_500, 8


def _numbers() -> itertools.cycle[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first, start = _FIRST + worker * _EACH, random.SystemRandom().randrange(_EACH)  # several runs may share a machine
    return itertools.cycle(first + (start + number) % _EACH for number in range(_EACH))


_ports = _numbers()


def free_port() -> int:
    """A port of this machine that nobody listens on; another one each time."""
    for port in itertools.islice(_ports, _EACH):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
