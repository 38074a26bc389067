"""Keeps a few child processes alive, and takes all of them along when it goes, however it goes.

The children run in sessions of their own, so that Ctrl-C reaches only the supervisor, which then stops them in order.
The kernel kills them when the supervisor dies without a word (lifetime.py); start children from the main thread.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from tonsurance import log
from tonsurance.core.errors import TonsuranceError
from tonsurance.lifetime import die_with

_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 10.0
_HEALTHY_AFTER_S = 30.0
_LOG_LIMIT_BYTES = 20_000_000

logger = log.get("supervisor")


class Process(Protocol):
    """What the supervisor needs of a child: a program of ours, or PostgreSQL by its launcher."""

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""

    def start(self) -> None:
        """Start it; returns at once or when it is ready, as the child prefers."""

    def poll(self) -> int | None:
        """None while it runs, else its exit code."""

    def stop(self) -> None:
        """Stop it and wait."""


class Program:
    """One of our own programs as a child, writing to a log file that is set aside when it has grown large."""

    _stop_timeout_s = 15.0

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path) -> None:
        self._argv = list(argv)
        self._env = dict(env)
        self._log_path = log_path
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a child that dies with its parent must be started from the main thread")
        with open_log(self._log_path) as output:
            self._child = subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), signal.SIGKILL),
            )

    def poll(self) -> int | None:
        return 0 if self._child is None else self._child.poll()

    def stop(self) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            logger.warning("killed_after_timeout", argv=self._argv[1:4], pid=self._child.pid)
            self._child.kill()
            self._child.wait()


def open_log(path: Path) -> IO[bytes]:
    """The log file, opened for appending; one older copy is kept when it has grown past the limit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".1.log"))
    return path.open("ab")


class Supervisor:
    """Children by name, in the order they were started; each is restarted with back-off when it ends by itself."""

    def __init__(self, *, on_change: Callable[[], None]) -> None:
        self._children: dict[str, Process] = {}
        self._started_at: dict[str, float] = {}
        self._delays: dict[str, float] = {}
        self._restart_at: dict[str, float] = {}
        self._on_change = on_change
        self._stop = threading.Event()

    def start(self, name: str, child: Process) -> None:
        """Start a child and watch it from now on."""
        self._children[name] = child
        self._launch(name)

    def pids(self) -> dict[str, int]:
        """Process ids of the running children."""
        return {name: pid for name, child in self._children.items() if (pid := child.pid) is not None}

    def request_stop(self) -> None:
        """Make `watch` return; safe from a signal handler."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.is_set()

    def check(self) -> None:
        """One look at every child: note those that ended, restart those whose delay is over."""
        now = time.monotonic()
        for name, child in self._children.items():
            if name in self._restart_at:
                if now >= self._restart_at[name]:
                    self._relaunch(name)
            elif (code := child.poll()) is not None:
                self._schedule_restart(name, code, now)

    def watch(self, *, interval_s: float = 0.2) -> None:
        """Keep the children alive until a stop is requested."""
        while not self._stop.wait(interval_s):
            self.check()

    def stop_all(self) -> None:
        """Stop the children, last started first."""
        for name in reversed(self._children):
            self._children[name].stop()
        self._children.clear()

    def _launch(self, name: str) -> None:
        self._children[name].start()
        self._started_at[name] = time.monotonic()
        self._on_change()

    def _relaunch(self, name: str) -> None:
        del self._restart_at[name]
        try:
            self._launch(name)
        except (OSError, TonsuranceError) as error:
            logger.error("restart_failed", child=name, error=str(error))
            self._schedule_restart(name, -1, time.monotonic())

    def _schedule_restart(self, name: str, code: int, now: float) -> None:
        ran_s = now - self._started_at.get(name, now)
        delay = _FIRST_DELAY_S if ran_s > _HEALTHY_AFTER_S else self._delays.get(name, _FIRST_DELAY_S)
        self._delays[name] = min(delay * 2, _LONGEST_DELAY_S)
        self._restart_at[name] = now + delay
        logger.warning("child_ended", child=name, code=code, ran_s=round(ran_s, 1), restart_in_s=delay)
        self._on_change()
