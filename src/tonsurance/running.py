"""How a process runs: its loop, its end by signal, and what it keeps in the home."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from tonsurance import settings
from tonsurance.services.config_file import LAST_GOOD

_Result = TypeVar("_Result")


def run_async(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run one coroutine on uvloop to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def last_good_path() -> Path:
    """Where the processes of this home keep the configuration that was good last."""
    return settings.home_dir(settings.Environment()) / LAST_GOOD
