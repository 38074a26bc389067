"""A child that must not outlive its parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before any fork


def die_with(parent_pid: int, number: signal.Signals) -> None:
    """In a freshly forked child: have the kernel send this signal when the parent is gone, or end at once if it is.

    The kernel sends it when the *thread* that forked ends, so fork from the main thread. A later change of the user id
    forgets the request: change the user first.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
