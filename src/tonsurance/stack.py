"""`tonsurance run`: PostgreSQL, the local chain, the daemon and the API as one supervised stack."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import httpx
import msgspec

from tonsurance import app, log
from tonsurance.core.errors import DependencyError, UsageError
from tonsurance.settings import LOCAL_POLL_INTERVAL_S, PUBLIC_POLL_INTERVAL_S
from tonsurance.supervisor import Program, Supervisor

logger = log.get("stack")

_READY_TIMEOUT_S = 60.0
_POLL_S = 0.05


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `tonsurance run` was asked for. Without a network it makes its own chain."""

    home: Path
    port: int
    database_url: str | None = None
    network: str | None = None
    vault: str | None = None
    factory: str | None = None
    speed: float
    seed: int
    poll_interval_s: float | None = None


class Status(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The content of status.json: where a running stack can be reached. Commands given no address read it."""

    api_url: str
    chain_url: str = ""
    database_url: str = ""
    vault: str = ""
    factory: str = ""
    pids: dict[str, int] = msgspec.field(default_factory=dict)


def status_path(home: Path) -> Path:
    """Where a stack says how to reach it."""
    return home / "status.json"


def read_status(home: Path) -> Status | None:
    """The status of the stack of this home; None when there is none or it is unreadable."""
    try:
        return msgspec.json.decode(status_path(home).read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError):
        return None


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free_port(port: int) -> None:
    """Raises UsageError when somebody listens on the API's port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"Port {port} is in use.", advice="Set TONSURANCE_PORT to another one, or stop what uses it."
            ) from error


def lock_home(home: Path) -> IO[bytes]:
    """Hold the home for this process. Raises UsageError when another run has it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (home / "run.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        status = read_status(home)
        where = f" It answers at {status.api_url}." if status else ""
        raise UsageError(
            f"Another run uses the home {home}.{where}", advice="Stop it, or set TONSURANCE_HOME and TONSURANCE_PORT."
        ) from None
    return file


def quote_key_file(home: Path) -> Path:
    """The file with the key that signs local quotes; made on first use."""
    return _secret_file(home / "secrets" / "quote_key")


def jwt_secret_file(home: Path) -> Path:
    """The file with the secret that signs local tokens of the admin API; made on first use."""
    return _secret_file(_jwt_secret_path(home))


def find_jwt_secret(home: Path) -> str | None:
    """The secret that a local run of this home signs tokens with; None when there never was one."""
    try:
        return _jwt_secret_path(home).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def _jwt_secret_path(home: Path) -> Path:
    return home / "secrets" / "jwt_secret"


def _secret_file(path: Path) -> Path:
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, secrets.token_hex(32).encode())
    return path


class Stack:
    """The running parts of one `tonsurance run`."""

    def __init__(self, options: RunOptions, *, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._status = Status(api_url=f"http://127.0.0.1:{options.port}")
        self._supervisor = Supervisor(on_change=self._write_status)

    def run(self) -> None:
        """Start everything, keep it alive until SIGINT or SIGTERM, and stop it in order."""
        options = self._options
        with lock_home(options.home):
            require_free_port(options.port)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: self._supervisor.request_stop())
            try:
                self._start()
                self._supervisor.watch()
                self._say("Stopping ...")
            except StoppedEarly:
                self._say("Stopping ...")
            finally:
                self._supervisor.stop_all()
                status_path(options.home).unlink(missing_ok=True)

    def _start(self) -> None:
        begun = time.monotonic()
        if self._options.network is None:
            self._start_chain()
        self._start_database()
        self._start_program("api", "--port", str(self._options.port))
        if self._options.network is None:
            self._await_chain()
        else:
            self._status.chain_url = app.network_url(self._options.network)
            self._status.vault, self._status.factory = self._options.vault or "", self._options.factory or ""
        self._start_daemon()
        self._await("the first figures", lambda: self._answers(f"{self._status.api_url}/health/ready"))
        self._write_status()
        self._say(f"Ready after {time.monotonic() - begun:.1f} s: {self._status.api_url}   (Ctrl-C stops everything)")

    def _start_chain(self) -> None:
        app.require_localnet()
        port = free_port()
        self._status.chain_url = f"http://127.0.0.1:{port}"
        self._say("Starting the local TON chain ...")
        self._start_program(
            "localnet", "--port", str(port), "--speed", str(self._options.speed), "--seed", str(self._options.seed)
        )

    def _start_database(self) -> None:
        if self._options.database_url is not None:
            self._status.database_url = self._options.database_url
        else:
            self._say("Starting PostgreSQL ...")
            cluster = app.embedded_database(self._options.home)
            self._supervisor.start("postgres", cluster)
            self._status.database_url = cluster.dsn
        report = app.migrate_database(self._status.database_url)
        if report.applied:
            self._say(f"Database schema brought to version {report.version}.")
        app.seed_datasets(self._status.database_url)

    def _start_daemon(self) -> None:
        poll = self._options.poll_interval_s or (
            LOCAL_POLL_INTERVAL_S if self._options.network is None else PUBLIC_POLL_INTERVAL_S
        )
        self._start_program(
            "daemon",
            *("--network", self._status.chain_url if self._options.network is None else self._options.network),
            *("--vault", self._status.vault, "--factory", self._status.factory, "--poll-interval", str(poll)),
        )

    def _await_chain(self) -> None:
        def deployed() -> bool:
            answer = self._get_json(f"{self._status.chain_url}/_localnet/status")
            if not answer or not answer.get("ready"):
                return False
            self._status.vault, self._status.factory = str(answer["vault"]), str(answer["factory"])
            return True

        self._await("the contracts on the local chain", deployed)

    def _await(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not done():
            if self._supervisor.stopping:
                raise StoppedEarly
            self._supervisor.check()
            if time.monotonic() > deadline:
                raise DependencyError(
                    f"Waited {_READY_TIMEOUT_S:.0f} s for {what}.", advice=f"See the logs in {self._options.home}/logs."
                )
            time.sleep(_POLL_S)

    def _answers(self, url: str) -> bool:
        try:
            return httpx.get(url, timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _get_json(self, url: str) -> Mapping[str, object] | None:
        try:
            return msgspec.json.decode(httpx.get(url, timeout=2.0).content, type=dict[str, object])
        except (httpx.HTTPError, msgspec.DecodeError):
            return None

    def _start_program(self, name: str, *arguments: str) -> None:
        home = self._options.home
        # -P keeps the folder the command was called in off the module path.
        argv = [sys.executable, "-P", "-m", "tonsurance", name, *arguments]
        child = Program(argv, env=self._environment(), log_path=home / "logs" / f"{name}.log")
        self._supervisor.start(name, child)

    def _environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_URL")}
        given |= {"TONSURANCE_HOME": str(self._options.home), "PYTHONUNBUFFERED": "1"}
        if self._status.database_url:
            given["DATABASE_URL"] = self._status.database_url
        if not given.keys() & {"QUOTE_KEY", "QUOTE_KEY_FILE"}:
            given["QUOTE_KEY_FILE"] = str(quote_key_file(self._options.home))
        if not given.keys() & {"JWT_SECRET", "JWT_SECRET_FILE"}:
            given["JWT_SECRET_FILE"] = str(jwt_secret_file(self._options.home))
        if self._options.network is None:
            given.setdefault("APPROVALS", "off")
            given.setdefault("WRITES", "open")
            given.setdefault("PRICE_URL", f"{self._status.chain_url}/feeds/api/v3")
            given.setdefault("TEST_WALLET_URL", f"{self._status.chain_url}/_localnet/wallet")
        return given

    def _write_status(self) -> None:
        self._status.pids = {"run": os.getpid(), **self._supervisor.pids()}
        write_private(status_path(self._options.home), msgspec.json.format(msgspec.json.encode(self._status)))


class StoppedEarly(Exception):
    """A stop was requested while the stack was still starting."""
