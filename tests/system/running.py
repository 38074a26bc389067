"""One `tonsurance run` in a home of its own, as the system tests start and end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ports import free_port
from system.processes import is_running, processes_of, wait_until
from tonsurance.db.postgres import remove_cluster


class Running:
    """One `tonsurance run` in a home of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DB_"))}
        env |= {"TONSURANCE_HOME": str(home), "TONSURANCE_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tonsurance", "run", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        wait_until(self._is_ready, timeout_s=120, what=f"{self.url}/health/ready")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[0]
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=60).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> dict[str, object]:
        answer = httpx.get(self.url + path, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self) -> dict[str, object]:
        return json.loads((self.home / "status.json").read_text())

    def chain(self) -> dict[str, object]:
        return httpx.get(f"{self.status()['chain_url']}/_localnet/status", timeout=60).json()

    def end(self, number: int) -> None:
        """Send a signal to `run` alone and wait until it and everything it started is gone."""
        pids = self.status()["pids"] if (self.home / "status.json").exists() else {}
        assert isinstance(pids, dict)
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        wait_until(
            lambda: not processes_of(str(self.home)) and not any(is_running(pid) for pid in pids.values()),
            timeout_s=60,
            what="the last process of the home",
        )


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[Running]:
    stack = Running(home, *arguments)
    try:
        stack.wait_ready()
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.end(signal.SIGINT)
        remove_cluster(home)


def command(stack: Running, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TONSURANCE_HOME": str(stack.home), "TONSURANCE_PORT": str(stack.port)} | extra
    return subprocess.run(
        [sys.executable, "-m", "tonsurance", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
