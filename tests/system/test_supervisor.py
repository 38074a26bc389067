"""The supervisor keeps real processes alive and never leaves one behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from system.processes import is_running, wait_until
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.supervisor import Program, Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def program(tmp_path: Path, argv: list[str] = SLEEP) -> Program:
    return Program(argv, env=dict(os.environ), log_path=tmp_path / "logs" / "child.log")


def test_a_child_that_ends_is_started_again(tmp_path: Path) -> None:
    changes: list[dict[str, int]] = []
    supervisor = Supervisor(on_change=lambda: changes.append(supervisor.pids()))
    supervisor.start("one", program(tmp_path))
    try:
        first = supervisor.pids()["one"]
        os.kill(first, signal.SIGKILL)

        def again() -> bool:
            supervisor.check()
            return supervisor.pids().get("one", first) != first

        wait_until(again, timeout_s=60, what="the second child")
    finally:
        supervisor.stop_all()
    assert not is_running(first)
    assert supervisor.pids() == {}
    assert {} in changes  # the status said that it was away


def test_a_child_that_keeps_failing_is_retried_ever_more_slowly(tmp_path: Path) -> None:
    supervisor = Supervisor(on_change=lambda: None)
    supervisor.start("bad", program(tmp_path, [sys.executable, "-c", "raise SystemExit(7)"]))
    for expected in (0.2, 0.4, 0.8):

        def ended(expected: float = expected) -> bool:
            supervisor.check()
            return "bad" in supervisor._restart_at and supervisor._delays["bad"] == expected * 2

        wait_until(ended, timeout_s=60, what=f"delay {expected}")
    supervisor.stop_all()


class Reluctant:
    """A child whose second start fails, as PostgreSQL's may, and whose third works."""

    pid = 1

    def __init__(self) -> None:
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        if self.starts == 2:
            raise DatabaseUnavailable

    def poll(self) -> int | None:
        return 1 if self.starts < 3 else None

    def stop(self) -> None:
        pass


def test_a_restart_that_fails_is_tried_again() -> None:
    supervisor, child = Supervisor(on_change=lambda: None), Reluctant()
    supervisor.start("postgres", child)

    def started() -> bool:
        supervisor.check()
        return child.starts == 3

    wait_until(started, timeout_s=60, what="the third start")
    supervisor.stop_all()


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    child = program(tmp_path, [sys.executable, "-c", stubborn])
    child._stop_timeout_s = 0.5  # the product waits longer
    child.start()
    wait_until(lambda: (tmp_path / "logs" / "child.log").read_text() == "up\n", what="the child")
    pid = child.pid
    assert pid is not None
    child.stop()
    assert not is_running(pid)


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom tonsurance.supervisor import Program\n"
        "child = Program([sys.executable, '-c', 'import time; time.sleep(600)'], env=dict(os.environ),"
        " log_path=Path(sys.argv[1]))\nchild.start()\nprint(child.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "child.log"], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    wait_until(lambda: not is_running(pid), timeout_s=60, what="the child's end")


def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    log_path = tmp_path / "logs" / "child.log"
    log_path.parent.mkdir()
    with log_path.open("wb") as file:
        file.truncate(20_000_001)
    child = program(tmp_path)
    child.start()
    child.stop()
    assert log_path.stat().st_size == 0
    assert log_path.with_suffix(".1.log").stat().st_size == 20_000_001
