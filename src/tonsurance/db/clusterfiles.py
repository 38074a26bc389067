"""Where an embedded cluster keeps its files, so that the user who runs it can reach them and nobody else is let in."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.db.accounts import Account, can_enter

STATE_ROOT = Path("/var/lib/tonsurance")

_LOG_LIMIT_BYTES = 20_000_000
_READY_LINE = 7  # of postmaster.pid, from 0
_SOCKET_PATH_LIMIT = 107 - len("/.s.PGSQL.5432.lock")


class ClusterFiles:
    """The paths of one home's cluster. `link` is `<home>/postgres`, a directory or a link to the directory `root`."""

    def __init__(self, home: Path, state_root: Path) -> None:
        self._home = home.absolute()
        self._state_root = state_root
        self.link = self._home / "postgres"

    @property
    def root(self) -> Path:
        """The real directory of everything that stays."""
        return self.link.resolve()

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.root / "postgres.log"

    @property
    def pid_file(self) -> Path:
        """PostgreSQL's own note of who works in the data; left behind by a crash."""
        return self.data / "postmaster.pid"

    @property
    def lock(self) -> Path:
        """Locked by the process that runs the server."""
        return self.root / "launcher.lock"

    @property
    def socket_directory(self) -> Path:
        """A short path, because a socket's name has at most 107 bytes, and deep homes are longer."""
        name = f"tonsurance-{os.geteuid()}-{self._digest()}"
        for parent in (Path("/tmp"), Path(tempfile.gettempdir())):
            if os.access(parent, os.W_OK | os.X_OK) and len(os.fsencode(parent / name)) <= _SOCKET_PATH_LIMIT:
                return parent / name
        raise DatabaseUnavailable("There is no temporary directory with a path short enough for a socket.")

    def place(self, account: Account | None) -> None:
        """Make the root directory: in the home, or below the state root when the user cannot get into the home.

        A directory left there by a deleted home of the same path is set aside as `<name>.old`, one of them kept:
        a new home starts with an empty database. Raises DatabaseUnavailable when existing data became unreachable.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        if not self.link.exists():
            if account is None or can_enter(account, self._home):
                self.link.mkdir(mode=0o755)
            else:
                self._place_outside()
        if account is not None and not can_enter(account, self.root):
            raise DatabaseUnavailable(
                f"The user {account.name}, who must run PostgreSQL, cannot reach the data in {self.root}.",
                advice=f"Let that user pass through the directories above it, or move it below {self._state_root} "
                f"and leave a link at {self.link}.",
            )

    def make_fresh_data(self, account: Account | None) -> Path:
        """An empty directory for initdb. What an interrupted one left there is removed."""
        fresh = self.root / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        if account is not None:
            os.chown(fresh, account.uid, account.gid)
        return fresh

    def make_socket_directory(self, account: Account | None) -> None:
        """The socket's directory, mode 0700, of the user who runs the server (root enters it anyway).

        Raises DatabaseUnavailable when somebody else made something of this name: it is not trusted.
        """
        path = self.socket_directory
        owner = os.geteuid() if account is None else account.uid
        try:
            path.mkdir(mode=0o700)
            if account is not None:
                os.chown(path, account.uid, account.gid)
        except FileExistsError:
            found = path.lstat()
            ours = found.st_uid in {owner, os.geteuid()}
            if not (stat.S_ISDIR(found.st_mode) and ours and stat.S_IMODE(found.st_mode) == 0o700):
                raise DatabaseUnavailable(
                    f"{path} belongs to somebody else or is open to others.", advice="Remove it."
                ) from None
            os.chown(path, owner, -1)

    def drop_socket_directory(self) -> None:
        """Remove the socket's directory after a stop, when nothing is left in it."""
        with suppress(OSError):
            self.socket_directory.rmdir()

    def open_log(self) -> IO[bytes]:
        """The log, for appending; one older copy is kept when it has grown large."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".1.log"))
        return self.log.open("ab")

    def read_log(self, offset: int) -> str:
        """What was logged from this byte on."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read(1_000_000).decode(errors="replace")

    def ready_pid(self) -> int | None:
        """The pid of the server that says it is ready for connections."""
        try:
            lines = self.pid_file.read_text().splitlines()
            ready = len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"
            return int(lines[0]) if ready else None
        except (FileNotFoundError, ValueError):
            return None

    def drop_stale_pid(self) -> None:
        """Remove a pid file that names an unrelated process of today (pids start again with every container).

        PostgreSQL would take that process for its own and not start. Call only when no process works in the data.
        """
        try:
            pid = int(self.pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if Path(f"/proc/{pid}").exists():
            self.pid_file.unlink()

    def _digest(self) -> str:
        return hashlib.sha256(os.fsencode(self._home.resolve())).hexdigest()[:16]

    def _place_outside(self) -> None:
        target = self._state_root / self._digest()
        self._state_root.mkdir(mode=0o755, parents=True, exist_ok=True)
        if target.exists() and not self.link.is_symlink():
            old = target.with_name(f"{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        target.mkdir(mode=0o755, exist_ok=True)
        if not self.link.is_symlink():
            self.link.symlink_to(target, target_is_directory=True)


def processes_in(directory: Path) -> list[int]:
    """Processes whose working directory this is: every process of a server works in its data directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "cwd")) == directory:
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
    return found
