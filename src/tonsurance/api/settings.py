"""What the API process can be told from outside."""

from __future__ import annotations

import msgspec


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Address and limits of one API process. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 8080
    cors_origins: tuple[str, ...] = ()
    vault_id: str = "main"
    pool_size: int = 4
    """Most connections of the readers to the database."""
    poll_interval_s: float = 1.0
    """The tranches are read again at least this often, also when no commit was announced."""
    stale_after_s: float = 10.0
    """Figures older than this are marked `stale`."""
    quiet_after_s: float = 60.0
    """A contract whose head nobody looked at for longer than this is reported as not followed."""
    full_state_interval_s: float = 60.0
    max_body_bytes: int = 1024 * 1024
    ws_connections: int = 2_000
    ws_connections_per_address: int = 50
    ws_frame_bytes: int = 4_096
    ws_messages_per_minute: int = 1_000
    ws_ping_interval_s: float = 30.0
    ws_silent_after_s: float = 300.0
    """A client that sends nothing, not even a pong, for this long is disconnected."""
    test_wallet_url: str | None = None
    """Where the local chain's test wallets are, for the live page; None when there are none."""
    tcp_user_timeout_ms: int = 20_000
    """The kernel ends a connection whose peer takes nothing for this long."""
