"""Fixtures every layer may use: a real PostgreSQL, and a fresh migrated database of it for each test.

With CI=true a skipped test fails: what CI cannot run there, it must install.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from db.servers import INSTALLED_BINARIES, DatabaseServer, running_server
from tonsurance.db.binaries import find_binaries


@pytest.fixture(scope="session")
def pg() -> Iterator[DatabaseServer]:
    """A PostgreSQL server for this run: TEST_DATABASE_URL when given (a superuser's), else one of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        server = DatabaseServer(given)
        yield server
        server.close()
        return
    with running_server(find_binaries()) as server:
        yield server


@pytest.fixture
def database(pg: DatabaseServer) -> Iterator[str]:
    """The DSN of a fresh, migrated database of this test's own."""
    dsn = pg.create()
    yield dsn
    pg.drop(dsn)


@pytest.fixture(scope="session", params=sorted(INSTALLED_BINARIES, reverse=True))
def each_server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Like `pg`, once for each PostgreSQL version installed here."""
    with running_server(INSTALLED_BINARIES[request.param]) as server:
        yield server


@pytest.fixture
def each_database(each_server: DatabaseServer) -> Iterator[str]:
    """Like `database`, once for each PostgreSQL version installed here."""
    dsn = each_server.create()
    yield dsn
    each_server.drop(dsn)


def _fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true turn a skip into a failure that shows the reason. An expected failure is not a skip."""
    if os.environ.get("CI") != "true" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"A skip is a failure with CI=true. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_skip(report)
    return report
