"""What is deployed names what exists: the systemd unit's command, and the settings of its environment file."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest

from tonsurance.cli import cli

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "systemd" / "tonsurance-integration.service"
ENVIRONMENT = ROOT / "deploy" / "systemd" / "integration.env.example"


def read_unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_the_unit_starts_a_command_that_there_is() -> None:
    service = read_unit()["Service"]
    program, *arguments = shlex.split(service["ExecStart"].replace("${TON_NETWORK}", "mainnet"))
    assert program.endswith("/.venv/bin/tonsurance")
    command, bound, _ = cli.parse_args(arguments, exit_on_error=False, print_error=False)
    assert (command.__name__, bound.arguments) == ("daemon", {"network": "mainnet"})


def test_the_daemon_comes_back_by_itself_and_is_stopped_in_order() -> None:
    service = read_unit()["Service"]
    assert (service["Restart"], service["KillSignal"]) == ("always", "SIGTERM")
    assert int(service["TimeoutStopSec"]) > 20, "longer than the writer's own time to close"


def test_every_setting_of_the_environment_file_is_read_and_no_secret_is_in_it() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "tonsurance").glob("*.py"))
    names = re.findall(r"(?m)^(\w+)=", ENVIRONMENT.read_text())
    assert len(names) == len(set(names)) > 8
    for name in names:
        if name != "TON_NETWORK":  # the unit's own
            assert f'"{name.removesuffix("_FILE")}"' in source, name
    assert not {"DB_PASSWORD", "TON_API_KEY", "POSTGRES_PASSWORD"} & set(names)


@pytest.mark.parametrize("path", [UNIT, ENVIRONMENT])
def test_a_line_that_is_too_long_for_a_screen_is_wrapped(path: Path) -> None:
    assert max(map(len, path.read_text().splitlines())) <= 140
