"""Process settings: read once from the environment, never reloaded. Every secret may come as NAME or NAME_FILE."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec

from tonsurance.chain.urls import split_urls
from tonsurance.core.errors import UsageError
from tonsurance.services.signing_key import SecretKey

DEFAULT_PORT = 8080
DEFAULT_POOL_SIZE, LARGEST_POOL_SIZE = 4, 10
_SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_ENCRYPTED = ("require", "verify-ca", "verify-full")
_VERIFYING = ("verify-ca", "verify-full")
NETWORK_URLS = {"mainnet": "https://toncenter.com", "testnet": "https://testnet.toncenter.com"}
PUBLIC_PRICE_URL = "https://api.coingecko.com/api/v3"
PUBLIC_POLL_INTERVAL_S = 10.0
LOCAL_POLL_INTERVAL_S = 0.1
_LOCAL_WALLET = re.compile(r"http://(127\.0\.0\.1|localhost):[0-9]{1,5}(/[A-Za-z0-9_./-]*)?")


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
        return with_tls(env, check_database_url(url))
    host = parts.host or env.get("DB_HOST")
    name = parts.name or env.get("DB_NAME")
    if not (host or name or any(given)):
        return None
    port = parts.port or env.get_int("DB_PORT", 5432, low=1, high=65535)
    user = parts.user or env.get("DB_USER") or "postgres"
    password = env.get("DB_PASSWORD") or env.get("POSTGRES_PASSWORD")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    built = f"postgresql://{login}@{host or 'localhost'}:{port}/{quote(name or 'tonsurance', safe='')}"
    return with_tls(env, built)


def pool_size(env: Environment) -> int:
    """Most connections of a process's pool of readers: DB_POOL_SIZE, else 4."""
    return env.get_int("DB_POOL_SIZE", DEFAULT_POOL_SIZE, low=1, high=LARGEST_POOL_SIZE)


def with_tls(env: Environment, url: str) -> str:
    """The address with DB_SSLMODE and DB_SSLROOTCERT in it; unchanged when neither is set or it names a socket.

    Raises UsageError for a mode that there is not, a certificate file that cannot be read, a mode that verifies
    without one, and an address that says otherwise.
    """
    mode, root = env.get("DB_SSLMODE"), env.get("DB_SSLROOTCERT")
    _check_tls(mode, root)
    if _is_socket(url):
        return url
    stands = parse_qs(urlsplit(url).query)
    wanted = {name: value for name, value in (("sslmode", mode), ("sslrootcert", root)) if value}
    for name, value in wanted.items():
        if stands.get(name, [value]) != [value]:
            raise UsageError(f"DB_{name.upper()} and the database address say different things.")
    if wanted.get("sslmode") in _VERIFYING and "sslrootcert" not in stands.keys() | wanted:
        raise UsageError(f"DB_SSLMODE={mode} needs DB_SSLROOTCERT, the file with the authority's certificate.")
    added = urlencode({name: value for name, value in wanted.items() if name not in stands})
    return url + ("&" if urlsplit(url).query else "?") * bool(added) + added


def find_tls_gap(url: str) -> str | None:
    """What to warn of when a database on another machine is not certain to be talked to by TLS."""
    if _is_socket(url) or _host(url) in ("localhost", "::1") or _host(url).startswith("127."):
        return None
    if parse_qs(urlsplit(url).query).get("sslmode", ["prefer"])[-1] in _ENCRYPTED:
        return None
    return (
        "The database is on another machine and TLS is not required. "
        "Set DB_SSLMODE=verify-full and DB_SSLROOTCERT to the file with its authority's certificate."
    )


def _check_tls(mode: str | None, root: str | None) -> None:
    if mode is not None and mode not in _SSL_MODES:
        raise UsageError(f"DB_SSLMODE is one of {', '.join(_SSL_MODES)}, not {mode[:40]}.")
    if root is not None:
        try:
            Path(root).read_bytes()
        except OSError as error:
            raise UsageError(f"DB_SSLROOTCERT cannot be read: {error}") from error


def _host(url: str) -> str:
    """The host that an address names in either place; empty when it names none."""
    parts = urlsplit(url)
    return parse_qs(parts.query).get("host", [""])[-1] or parts.hostname or ""


def _is_socket(url: str) -> bool:
    return _host(url).startswith("/") or not _host(url)


def network_urls(network: str) -> tuple[str, ...]:
    """The TON APIs' base addresses, the one to ask first first: of a network by its name, or URLs with commas between.

    Raises UsageError.
    """
    if network in NETWORK_URLS:
        return (NETWORK_URLS[network],)
    if network.startswith(("http://", "https://")):
        return split_urls(network)
    raise UsageError(f"--network is mainnet, testnet or URLs with commas between, not {network[:80]}.")


def network_url(network: str) -> str:
    """The first of them."""
    return network_urls(network)[0]


def price_source(env: Environment) -> tuple[str | None, str | None]:
    """PRICE_URL, where the TON price is read (`off`: nowhere; else a public service), and PRICE_API_KEY."""
    url = env.get("PRICE_URL") or PUBLIC_PRICE_URL
    return None if url == "off" else url, env.get("PRICE_API_KEY")


def redis_url(env: Environment) -> str | None:
    """REDIS_URL, when what is read and committed is shared through a Redis."""
    url = env.get("REDIS_URL")
    if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
        raise UsageError("REDIS_URL is not readable.", advice="It looks like redis://:password@host:6379/0.")
    return url


def local_wallet_url(env: Environment) -> str | None:
    """TEST_WALLET_URL, where a local chain has its test wallets. They sign for everybody: only on this machine."""
    url = env.get("TEST_WALLET_URL")
    if url is not None and not _LOCAL_WALLET.fullmatch(url):
        raise UsageError(
            "TEST_WALLET_URL is not an address on this machine.",
            advice="It looks like http://127.0.0.1:8081/_localnet/wallet, and is for local chains only.",
        )
    return url


def quote_key(env: Environment) -> bytes | None:
    """The Ed25519 seed that signs quotes: QUOTE_KEY, 32 bytes in hex."""
    return _read_seed(env, "QUOTE_KEY")


def quote_keys(env: Environment) -> tuple[SecretKey, ...]:
    """The keys that sign quotes: QUOTE_KEY, and QUOTE_KEY_NEXT while keys are exchanged; none when neither is set."""
    seeds = [seed for name in ("QUOTE_KEY", "QUOTE_KEY_NEXT") if (seed := _read_seed(env, name)) is not None]
    keys = {key.public_key: key for key in map(SecretKey, seeds)}
    if len(keys) < len(seeds):
        seeds.clear()
        raise UsageError("QUOTE_KEY and QUOTE_KEY_NEXT are the same key.")
    return tuple(keys.values())


def quote_signer(env: Environment) -> Path | None:
    """QUOTE_SIGNER=unix:PATH, where another process signs quotes; None: this one does."""
    text = env.get("QUOTE_SIGNER")
    if text is None:
        return None
    scheme, _, path = text.partition(":")
    if scheme != "unix" or not path:
        raise UsageError("QUOTE_SIGNER is not readable.", advice="It looks like unix:/run/tonsurance/signer.sock.")
    return Path(path)


def _read_seed(env: Environment, name: str) -> bytes | None:
    text = env.get(name)
    if text is None:
        return None
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != 32:
        del text, seed  # who shows this frame's variables shall not see them
        raise UsageError(f"{name} must be 32 bytes in hex.")
    return seed


def jwt_secrets(env: Environment) -> tuple[str | None, str | None]:
    """What tokens of the admin API are signed and checked with, and what else they are checked with while rotating."""
    current, previous = env.get("JWT_SECRET"), env.get("JWT_SECRET_PREVIOUS")
    if previous is not None and current is None:
        raise UsageError("JWT_SECRET_PREVIOUS is set without JWT_SECRET.")
    return current, previous


def alert_webhook(env: Environment) -> tuple[str | None, str | None]:
    """ALERT_WEBHOOK_URL, which is told of alerts, and ALERT_WEBHOOK_SECRET, which signs what it is told."""
    url, secret = env.get("ALERT_WEBHOOK_URL"), env.get("ALERT_WEBHOOK_SECRET")
    if secret is not None and url is None:
        raise UsageError("ALERT_WEBHOOK_SECRET is set without ALERT_WEBHOOK_URL.")
    return url, secret


def read_switch(env: Environment, name: str, *, default: bool) -> bool:
    """A setting that is on or off."""
    text = env.get(name)
    if text is None:
        return default
    if text not in ("on", "off"):
        raise UsageError(f"{name} is on or off, not {text[:40]}.")
    return text == "on"


def open_writes(env: Environment) -> bool:
    """WRITES: whether requests that reserve or move amounts may come without a token."""
    text = env.get("WRITES") or "token"
    if text not in ("open", "token"):
        raise UsageError(f"WRITES is open or token, not {text[:40]}.")
    return text == "open"


def trusted_proxies(env: Environment) -> tuple[str, ...]:
    """TRUSTED_PROXIES: addresses and networks whose X-Forwarded-For is believed."""
    if env.get("ADMIN_PROXIES") is not None:
        raise UsageError("ADMIN_PROXIES is no setting.", advice="Name the proxies in TRUSTED_PROXIES.")
    return read_list(env, "TRUSTED_PROXIES")


def read_list(env: Environment, name: str) -> tuple[str, ...]:
    """A setting of several words with commas between."""
    return tuple(word.strip() for word in (env.get(name) or "").split(",") if word.strip())
