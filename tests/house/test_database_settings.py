"""Pool size and TLS of the database from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tonsurance import cli_targets
from tonsurance.core.errors import UsageError
from tonsurance.settings import DatabaseParts, Environment, database_url, find_tls_gap, pool_size, with_tls

AWAY = "postgresql://me@db.example/cover"


def test_the_pool_has_four_connections_unless_told_otherwise(tmp_path: Path) -> None:
    assert pool_size(Environment({})) == 4
    assert pool_size(Environment({"DB_POOL_SIZE": "10"})) == 10
    file = tmp_path / "size"
    file.write_text("2\n")
    assert pool_size(Environment({"DB_POOL_SIZE_FILE": str(file)})) == 2


@pytest.mark.parametrize("bad", ["0", "11", "-1", "4.0", "four", "٤"])
def test_a_pool_of_another_size_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="DB_POOL_SIZE must be a whole number from 1 to 10"):
        pool_size(Environment({"DB_POOL_SIZE": bad}))


def test_tls_goes_into_every_address(tmp_path: Path) -> None:
    root = tmp_path / "root & more.crt"
    root.write_text("certificate")
    tls = {"DB_SSLMODE": "verify-full", "DB_SSLROOTCERT": str(root)}
    query = f"sslmode=verify-full&sslrootcert={str(root).replace('/', '%2F').replace(' & ', '+%26+')}"
    assert database_url(Environment({"DATABASE_URL": AWAY, **tls})) == f"{AWAY}?{query}"
    assert database_url(Environment({"DATABASE_URL": f"{AWAY}?a=b", **tls})) == f"{AWAY}?a=b&{query}"
    built = database_url(Environment(tls), DatabaseParts(host="db.example", name="cover", user="me"))
    assert built == f"postgresql://me@db.example:5432/cover?{query}"
    made = with_tls(Environment(tls), AWAY)
    assert with_tls(Environment(tls), made) == made  # a child process is given both
    socket = "postgresql://me@/cover?host=/run/pg&port=5432"
    assert with_tls(Environment(tls), socket) == socket
    assert with_tls(Environment({}), AWAY) == AWAY


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"DB_SSLMODE": "on"}, "DB_SSLMODE is one of disable, prefer, require"),
        ({"DB_SSLMODE": "allow"}, "DB_SSLMODE is one of"),
        ({"DB_SSLMODE": "verify-full"}, "needs DB_SSLROOTCERT"),
        ({"DB_SSLMODE": "verify-ca"}, "needs DB_SSLROOTCERT"),
        ({"DB_SSLMODE": "verify-full", "DB_SSLROOTCERT": "/no/such/file"}, "DB_SSLROOTCERT cannot be read"),
        ({"DB_SSLMODE": "disable", "DATABASE_URL": f"{AWAY}?sslmode=require"}, "say different things"),
    ],
)
def test_tls_that_cannot_be_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        database_url(Environment({"DATABASE_URL": AWAY, **values}))


@pytest.mark.parametrize("near", ["me@localhost/x", "me@127.0.0.1:1/x", "me@[::1]/x", "me@/x?host=/run/pg", "me@/x"])
def test_no_warning_about_a_database_on_this_machine(near: str) -> None:
    assert find_tls_gap(f"postgresql://{near}") is None


def test_a_warning_about_a_database_elsewhere_without_tls() -> None:
    for url in (AWAY, f"{AWAY}?sslmode=prefer", f"{AWAY}?sslmode=disable", "postgresql://me@/x?host=10.0.0.1"):
        gap = find_tls_gap(url)
        assert gap is not None
        assert "DB_SSLMODE=verify-full" in gap
    for mode in ("require", "verify-ca", "verify-full"):
        assert find_tls_gap(f"{AWAY}?sslmode={mode}") is None


@pytest.fixture
def without_log() -> Iterator[None]:
    """As in a command that prints its answer; other tests of this process may have set up logging."""
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    yield
    if before is not None:
        structlog.configure(**before)


@pytest.mark.usefixtures("without_log")
def test_a_command_says_it_once_and_not_in_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_targets.resolve_database(DatabaseParts(), explicit=AWAY) == AWAY
    said = capsys.readouterr()
    assert said.out == ""
    assert (said.err.count("DB_SSLMODE=verify-full"), said.err.count("\n")) == (1, 1)
