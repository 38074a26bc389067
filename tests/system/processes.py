"""Waiting for real processes, without guessing how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(done: Callable[[], bool], *, timeout_s: float = 60.0, what: str = "") -> None:
    """Poll until it holds; fails with what was awaited."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def processes_of(marker: str) -> list[int]:
    """Processes whose environment or command line carries a marker, such as the path of a home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if marker.encode() in text and is_running(int(folder.name)):
            found.append(int(folder.name))
    return found
