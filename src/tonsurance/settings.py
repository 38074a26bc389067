"""Process settings: read once from the environment, never reloaded. Every secret may come as NAME or NAME_FILE."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from tonsurance.core.errors import UsageError

DEFAULT_PORT = 8080
NETWORK_URLS = {"mainnet": "https://toncenter.com", "testnet": "https://testnet.toncenter.com"}
PUBLIC_POLL_INTERVAL_S = 10.0
LOCAL_POLL_INTERVAL_S = 0.1


class Environment:
    """NAME, or the content of the file that NAME_FILE names. Setting both is an error: one of them would be ignored."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = os.environ if values is None else values

    def get(self, name: str) -> str | None:
        """The value without surrounding space; None when unset or empty."""
        value, file = self._values.get(name), self._values.get(f"{name}_FILE")
        if value and file:
            raise UsageError(f"{name} and {name}_FILE are both set.", advice="Keep one of them.")
        if file:
            try:
                value = Path(file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{name}_FILE cannot be read: {error}") from error
        return value.strip() or None if value else None

    def get_int(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        text = self.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise UsageError(f"{name} must be a whole number from {low} to {high}, not {text[:40]}.")
        return int(text)


def home_dir(env: Environment) -> Path:
    """Where data, logs and generated secrets live: TONSURANCE_HOME, else .tonsurance in this folder."""
    return Path(env.get("TONSURANCE_HOME") or ".tonsurance").expanduser().absolute()


def api_port(env: Environment) -> int:
    """The one fixed port: TONSURANCE_PORT, else 8080."""
    return env.get_int("TONSURANCE_PORT", DEFAULT_PORT, low=1, high=65535)


class DatabaseParts(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a database address given one by one; None takes the environment's value or the usual default."""

    host: str | None = None
    port: int | None = None
    name: str | None = None
    user: str | None = None


NO_PARTS = DatabaseParts()


def check_database_url(url: str) -> str:
    """The address itself. Raises UsageError, which does not repeat it (it may hold a password)."""
    try:
        parts = urlsplit(url)
        readable = parts.scheme in ("postgresql", "postgres") and (parts.port or 0) >= 0
    except ValueError:
        readable = False
    if not readable:
        raise UsageError("The database address is not readable.", advice="It looks like postgresql://user@host/name.")
    return url


def database_url(env: Environment, parts: DatabaseParts = NO_PARTS) -> str | None:
    """DATABASE_URL, else built from DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD or POSTGRES_PASSWORD.

    Parts win over the environment. None when nothing names a database. Passwords come from the environment only.
    """
    given = msgspec.structs.astuple(parts)
    url = env.get("DATABASE_URL")
    if url and not any(given):
        return check_database_url(url)
    host = parts.host or env.get("DB_HOST")
    name = parts.name or env.get("DB_NAME")
    if not (host or name or any(given)):
        return None
    port = parts.port or env.get_int("DB_PORT", 5432, low=1, high=65535)
    user = parts.user or env.get("DB_USER") or "postgres"
    password = env.get("DB_PASSWORD") or env.get("POSTGRES_PASSWORD")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{login}@{host or 'localhost'}:{port}/{quote(name or 'tonsurance', safe='')}"


def network_url(network: str) -> str:
    """The TON API's base address: of a network known by name, or the URL itself."""
    if network in NETWORK_URLS:
        return NETWORK_URLS[network]
    if network.startswith(("http://", "https://")):
        return network.rstrip("/")
    raise UsageError(f"--network is mainnet, testnet or a URL, not {network[:80]}.")


def quote_key(env: Environment) -> bytes | None:
    """The Ed25519 seed that signs quotes: QUOTE_KEY, 32 bytes in hex."""
    text = env.get("QUOTE_KEY")
    if text is None:
        return None
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise UsageError("QUOTE_KEY must be 32 bytes in hex.")
    return seed


def jwt_secrets(env: Environment) -> tuple[str | None, str | None]:
    """What tokens of the admin API are signed and checked with, and what else they are checked with while rotating."""
    current, previous = env.get("JWT_SECRET"), env.get("JWT_SECRET_PREVIOUS")
    if previous is not None and current is None:
        raise UsageError("JWT_SECRET_PREVIOUS is set without JWT_SECRET.")
    return current, previous


def read_switch(env: Environment, name: str, *, default: bool) -> bool:
    """A setting that is on or off."""
    text = env.get(name)
    if text is None:
        return default
    if text not in ("on", "off"):
        raise UsageError(f"{name} is on or off, not {text[:40]}.")
    return text == "on"


def read_list(env: Environment, name: str) -> tuple[str, ...]:
    """A setting of several words with commas between."""
    return tuple(word.strip() for word in (env.get(name) or "").split(",") if word.strip())
