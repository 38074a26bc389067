"""The rules of the house hold, and each of their checks would notice a broken one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the layers of a copy of the source."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=source.parent,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied_source(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path / "src"


def test_the_layers_hold(copied_source: Path) -> None:
    result = lint_imports(copied_source)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("core/units.py", "import asyncio", "core is pure"),
        ("core/units.py", "from tonsurance.db import pool", "Layers"),
        ("services/hub.py", "import asyncpg", "only db and bus.notify know asyncpg"),
        ("db/events.py", "from tonsurance.chain import client", "Layers"),
        ("services/hub.py", "import pytoniq_core", "only chain and localnet know TON cells"),
        ("chain/decode.py", "import tonpy", "only localnet knows the TVM"),
        ("api/v1.py", "from tonsurance import settings", "Layers"),
    ],
)
def test_a_planted_layer_violation_is_named(copied_source: Path, module: str, line: str, broken: str) -> None:
    path = copied_source / "tonsurance" / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    result = lint_imports(copied_source)
    assert result.returncode == 1
    assert re.search(rf"{re.escape(broken)}.* BROKEN", result.stdout), result.stdout


def test_an_unlisted_module_is_refused(copied_source: Path) -> None:
    (copied_source / "tonsurance" / "stray.py").write_text("")
    assert lint_imports(copied_source).returncode == 1


def check_sizes(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "check_sizes.py", folder], capture_output=True, text=True, check=False
    )


def test_sizes_hold_and_a_planted_giant_is_named(tmp_path: Path) -> None:
    assert check_sizes(ROOT / "src").returncode == 0, check_sizes(ROOT / "src").stdout
    (tmp_path / "utils.py").write_text("def f():\n" + "    x = 1\n" * 61)
    (tmp_path / "long.py").write_text("x = 1\n" * 401)
    said = check_sizes(tmp_path)
    assert said.returncode == 1
    for part in ("utils.py:1 f: 62 lines", "long.py: 401 lines", "named after what it holds"):
        assert part in said.stdout


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_pin_by_hash_and_name_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
    packages = re.findall(r"^[a-z0-9][^\n]*", text, flags=re.MULTILINE)
    assert packages
    assert all(re.match(r"[a-z0-9._-]+==\S+ \\$", line) for line in packages), packages
    assert text.count("--hash=sha256:") >= len(packages)


def tracked_text_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.suffix not in {".png", ".boc", ".b64"} and path.is_file()]


def test_no_file_names_a_path_of_a_machine() -> None:
    # Spelled in two parts, so that this file does not name them either.
    forbidden = re.compile("|".join(("/wo" + "rk/", "/ro" + "ot/", "bash_" + "jobs")))
    found = [path for path in tracked_text_files() if forbidden.search(path.read_text(encoding="utf-8"))]
    assert found == []


def promise_rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "promises.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d", line)]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def shown_by_exists(reference: str) -> bool:
    """`path::test`, a path, or `make target`."""
    if reference.startswith("make "):
        return reference.removeprefix("make ") in makefile_targets()
    path, _, test = reference.partition("::")
    file = ROOT / path
    if not file.exists():
        return False
    return not test or re.search(rf"\bdef {re.escape(test)}\(", file.read_text()) is not None


def test_every_promise_names_a_test_or_command_that_exists() -> None:
    rows = promise_rows()
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 3, row
        references = re.findall(r"`([^`]+)`", row[2])
        assert references, row
        missing = [reference for reference in references if not shown_by_exists(reference)]
        assert missing == [], row


def test_architecture_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = [p for p in (ROOT / "src" / "tonsurance").rglob("*.py") if p.name != "__init__.py"]
    assert [str(path.relative_to(ROOT)) for path in modules if path.name not in text] == []


def test_make_help_lists_every_documented_target() -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("help", "run", "test", "check", "fmt", "bench", "clean"):
        assert f"make {target} " in said
