"""A PostgreSQL of our own: made on first start, a foreground child of this process, gone when this process is gone.

Files, all below `<home>/postgres/` (see `ClusterFiles`): `data/` belongs to the user PostgreSQL runs as, the log and
the lock to us. When we are root and that user cannot get into the home, `<home>/postgres` is a link to a directory
below /var/lib/tonsurance. Clients connect through a socket in a directory of mode 0700, without a password: whoever
can enter the directory is that user, or root. There is no TCP port.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tonsurance.core.errors import DatabaseUnavailable, PostgresNotFound
from tonsurance.db.accounts import Account, server_account
from tonsurance.db.binaries import CACHE_ROOT, find_binaries, major_version, reachable_binaries
from tonsurance.db.clusterfiles import STATE_ROOT, ClusterFiles, processes_in
from tonsurance.lifetime import die_with

DATABASE = "tonsurance"
OWNER = "tonsurance"

_PORT = 5432  # only names the socket file: each cluster has a socket directory of its own
_READY_TIMEOUT_S = 120.0  # recovery after a crash reads up to max_wal_size
_RETRY_S = 15.0
_STOP_TIMEOUT_S = 30.0
_STILL_IN_USE = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "logging_collector": "off",
    "log_lock_waits": "on",
    "log_min_duration_statement": "1s",
    "idle_in_transaction_session_timeout": "60s",
    # When a backend crashes the server ends and its launcher starts it again. Its own way, to restart in place, hangs
    # for ever when it is told to stop before recovery is done (15.18 and 18.6 do), and would outlive its launcher.
    "restart_after_crash": "off",
}
_THROWAWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",  # may be kept in memory
}


class Cluster:
    """The PostgreSQL of one home. Start it from the main thread: the kernel stops it when that thread ends.

    `durable=False` is for tests: fast, and not safe against power loss.
    """

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        account: Account | None = None,
        durable: bool = True,
        state_root: Path = STATE_ROOT,
        cache_root: Path = CACHE_ROOT,
    ) -> None:
        self._files = ClusterFiles(home, state_root)
        self._given_binaries = binaries
        self._account = account
        self._durable = durable
        self._cache_root = cache_root
        self._lock: IO[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """How to connect, for asyncpg and psql alike; the same after every restart."""
        return f"postgresql://{OWNER}@/{DATABASE}?host={self._files.socket_directory}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def log_path(self) -> Path:
        """Where the server writes its log."""
        return self._files.log

    @property
    def data_path(self) -> Path:
        """Where the data are."""
        return self._files.data

    def poll(self) -> int | None:
        """None while the server runs, else its exit code. 0 before the first start."""
        return 0 if self._child is None else self._child.poll()

    def start(self) -> None:
        """Start the server, making the data directory first when there is none; returns when it answers.

        Raises PostgresNotFound without usable programs, DatabaseUnavailable when it does not come up or another
        process has this home. Does nothing when it runs already.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("PostgreSQL must be started from the main thread: it stops when its thread ends")
        if self.pid is not None:
            return
        try:
            self._start()
        except OSError as error:
            raise DatabaseUnavailable(f"PostgreSQL could not be started: {error}") from error

    def stop(self) -> None:
        """Stop the server cleanly (it ends open transactions) and give the home back. Safe to call twice."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
            try:
                self._child.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._child.send_signal(signal.SIGQUIT)  # ends at once; the next start recovers from the log
                self._child.wait()
            self._files.drop_socket_directory()
        self._release()

    def _start(self) -> None:
        account = self._account or server_account()
        with ExitStack() as undo:
            self._files.place(account)
            self._acquire()
            undo.callback(self._release)
            binaries = reachable_binaries(self._given_binaries or find_binaries(), account, self._cache_root)
            self._initialise(binaries, account)
            self._files.make_socket_directory(account)
            self._await_previous()
            self._launch(binaries, account)
            undo.pop_all()

    def _acquire(self) -> None:
        """Hold the home: one launcher per data directory."""
        if self._lock is not None:
            return
        file = self._files.lock.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise DatabaseUnavailable(
                f"Another process runs the PostgreSQL in {self._files.root}.",
                advice="Stop it, or set TONSURANCE_HOME to another directory.",
            ) from None
        self._lock = file

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _initialise(self, binaries: Path, account: Account | None) -> None:
        """Make the data directory when there is none; check its version when there is one."""
        version_file = self._files.data / "PG_VERSION"
        if version_file.exists():
            made_by, ours = version_file.read_text().strip(), str(major_version(binaries))
            if made_by != ours:
                raise PostgresNotFound(
                    f"The data in {self._files.data} were made by PostgreSQL {made_by}; {binaries} is version {ours}.",
                    advice=f"Install PostgreSQL {made_by}, or move the data with pg_dump or pg_upgrade.",
                )
            return
        fresh = self._files.make_fresh_data(account)
        self._run_initdb(binaries, account, fresh)
        fresh.rename(self._files.data)  # only a complete data directory ever has this name

    def _run_initdb(self, binaries: Path, account: Account | None, fresh: Path) -> None:
        sync = [] if self._durable else ["--no-sync"]
        access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        encoding = ["--encoding=UTF8", "--locale=C", "--data-checksums"]
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            fresh,
            "-U",
            OWNER,
            *encoding,
            *access,
            "--no-instructions",
            *sync,
        ]
        self._run_once(initdb, account, stdin=b"")
        flags = [f"-c{name}={value}" for name, value in ([] if self._durable else _THROWAWAY.items())]
        single: list[str | Path] = [binaries / "postgres", "--single", *flags, "-D", fresh, "postgres"]
        self._run_once(single, account, stdin=f"CREATE DATABASE {DATABASE};\n".encode())

    def _run_once(self, argv: list[str | Path], account: Account | None, *, stdin: bytes) -> None:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            env=_environment(),
            cwd="/",
            preexec_fn=_become(account, signal.SIGKILL),
        )
        if done.returncode != 0 or b"FATAL" in done.stderr or b"ERROR" in done.stderr:
            last = done.stderr.decode(errors="replace").strip()[-500:]
            raise DatabaseUnavailable(f"{Path(argv[0]).name} failed with code {done.returncode}: {last}")

    def _await_previous(self) -> None:
        """Wait until no server of an earlier launcher works in the data directory.

        Such a server is on its way out: it was told to stop when its launcher died.
        """
        if not self._files.pid_file.exists():
            return
        deadline = time.monotonic() + _RETRY_S
        while alive := processes_in(self._files.data):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"Processes {alive} of an earlier PostgreSQL still work in the data.")
            time.sleep(0.05)
        self._files.drop_stale_pid()

    def _launch(self, binaries: Path, account: Account | None) -> None:
        settings = _SETTINGS | ({} if self._durable else _THROWAWAY)
        settings["unix_socket_directories"] = f'"{self._files.socket_directory}"'
        argv: list[str | Path] = [
            binaries / "postgres",
            "-D",
            self._files.data,
            *(f"-c{k}={v}" for k, v in settings.items()),
        ]
        deadline = time.monotonic() + _RETRY_S
        while True:
            with self._files.open_log() as output:
                said_before = output.tell()
                self._child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=_environment(),
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for us; we stop the server when its clients are done
                    preexec_fn=_become(account, signal.SIGINT),
                )
            if self._await_ready(self._child):
                return
            said = self._files.read_log(said_before)
            if not any(words in said for words in _STILL_IN_USE) or time.monotonic() > deadline:
                raise _start_failure(said, self._child.returncode, self._files.log)
            time.sleep(0.2)

    def _await_ready(self, child: subprocess.Popen[bytes]) -> bool:
        """Wait for line 8 of the pid file to say `ready`, under our child's pid. False when the child ended."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while child.poll() is None:
            if self._files.ready_pid() == child.pid:
                return True
            if time.monotonic() > deadline:
                self.stop()
                raise DatabaseUnavailable(
                    f"PostgreSQL was not ready after {_READY_TIMEOUT_S:.0f} s.", advice=f"Its log is {self._files.log}."
                )
            time.sleep(0.005)
        return False


def remove_cluster(home: Path, *, state_root: Path = STATE_ROOT) -> None:
    """Delete a stopped cluster with all its data, wherever they are kept."""
    files = ClusterFiles(home, state_root)
    shutil.rmtree(files.socket_directory, ignore_errors=True)
    if files.link.exists():
        shutil.rmtree(files.root)
    files.link.unlink(missing_ok=True)


def _start_failure(said: str, code: int, log: Path) -> DatabaseUnavailable:
    reasons = [line for line in said.splitlines() if "FATAL" in line or "PANIC" in line]
    last = reasons[-1] if reasons else said.strip()[-300:]
    return DatabaseUnavailable(f"PostgreSQL ended with code {code}: {last}", advice=f"Its log is {log}.")


def _environment() -> dict[str, str]:
    """Nothing of ours: no secret, and no PG* variable that would change what the programs do."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _become(account: Account | None, when_parent_dies: signal.Signals) -> Callable[[], None]:
    """A hook for the forked child: change the user, then ask the kernel for a signal when the parent is gone.

    In this order, see lifetime.py. SIGINT is PostgreSQL's clean fast shutdown.
    """
    parent = os.getpid()

    def hook() -> None:
        if account is not None:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        die_with(parent, when_parent_dies)

    return hook
