"""With CI=true a skip is a failure, wherever it comes from; without it, it stays a skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_SKIPS = {
    "a call": "import pytest\ndef test_it():\n    pytest.skip('no redis here')\n",
    "a mark": "import pytest\n@pytest.mark.skip(reason='no redis here')\ndef test_it(): pass\n",
    "a fixture": "import pytest\n@pytest.fixture\ndef r(): pytest.skip('no redis here')\ndef test_it(r): pass\n",
    "a module": "import pytest\npytest.skip('no redis here', allow_module_level=True)\n",
}


def run_pytest(folder: Path, source: str, ci: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_sample.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    shutil.copy(_TESTS / "conftest.py", folder)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsx", "-q", *options, folder],
        env={**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join([str(_TESTS), *sys.path])},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("options", [(), ("--numprocesses", "1")], ids=["in one process", "in workers"])
@pytest.mark.parametrize("kind", _SKIPS)
def test_a_skip_fails_in_ci_and_shows_its_reason(tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, _SKIPS[kind], "true", *options)
    assert done.returncode != 0
    assert "A skip is a failure" in done.stdout
    assert "no redis here" in done.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, _SKIPS["a mark"], "")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"
    assert run_pytest(tmp_path, source, "true").returncode == 0
