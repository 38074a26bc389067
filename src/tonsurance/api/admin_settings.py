"""What the admin API can be told from outside."""

from __future__ import annotations

import msgspec


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may reach the admin API, and when an address is shut out. Times in seconds.

    `allow` are addresses and networks that may; empty allows all. X-Forwarded-For is believed from `proxies` only.
    """

    allow: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    approvals: bool = True
    """Whether parameters of money need a second person."""
    lock_failures: int = 10
    lock_window_s: float = 600.0
    lock_s: float = 900.0
    max_body_bytes: int = 64 * 1024
