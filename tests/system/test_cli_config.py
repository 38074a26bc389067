"""`tonsurance config`, command by command, on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from services.config_story import run_sql
from tonsurance.cli_config import config_cli
from tonsurance.core.errors import DatabaseUnavailable, InputError, UsageError
from tonsurance.core.parameters.registry import PARAMETERS, UnknownParameter
from tonsurance.core.params import InvalidParameters
from tonsurance.services.config_store import ConfigConflict

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command's exit code and what it printed."""
    monkeypatch.setenv("APPROVALS", "off")

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = config_cli(
            [*arguments, "--database-url", database],
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        return code or 0, capsys.readouterr().out.rstrip("\n")

    return call


def test_migrate_loads_an_empty_database_once_and_prints_a_report(run: Run) -> None:
    code, tried = run("migrate", "--dry-run")
    assert (code, f"parameters would be loaded: {len(PARAMETERS)}" in tried, "stored: 0" in tried) == (0, True, True)
    code, first = run("migrate")
    assert code == 0
    assert f"parameters loaded: {len(PARAMETERS)}" in first
    assert "tranche: 36 of 36 stored, 0 changed from the default" in first
    assert "validation: passed" in first
    code, second = run("migrate", "--json")
    assert (code, json.loads(second)["loaded"], json.loads(second)["version"]) == (0, [], 1)


def test_get_prints_all_a_category_or_one_value(run: Run) -> None:
    assert run("get", "pricing", "base_rate_USDC") == (0, "0.04")
    lines = run("get", "tranche")[1].splitlines()
    assert len(lines) == 36
    assert "tranche/SURE_MEZZ_apy_max = 15.0 % a year (money)" in lines
    assert "tranche/SURE_BTC_allocation_percent = 25 % (chain)" in lines
    assert len(json.loads(run("get", "--json")[1])) == len(PARAMETERS)
    with pytest.raises(UnknownParameter):
        run("get", "pricing", "no_such")
    code, said = run("get", "tranche", "SURE_BTC_config")
    assert (code, json.loads(said)["allocation_percent"]) == (0, 25)


def test_set_history_diff_and_rollback_tell_one_story(run: Run) -> None:
    code, said = run("set", "tranche", "SURE_MEZZ_apy_max", "16.5", "--reason", "market", "--author", "ada")
    assert (code, said) == (0, "tranche/SURE_MEZZ_apy_max: 15.0 -> 16.5\nVersion 2 holds.")
    assert run("set", "tranche", "SURE_MEZZ_curve_type", "Quadratic", "--emergency")[0] == 0
    assert run("diff", "1", "3") == (
        1,
        'tranche/SURE_MEZZ_apy_max: 15.0 -> 16.5\ntranche/SURE_MEZZ_curve_type: "LINEAR" -> "QUADRATIC"',
    )
    assert run("diff", "3", "3") == (0, "")
    assert run("rollback", "2", "--reason", "shape")[1].endswith("Version 4 holds.")
    assert run("get", "tranche", "SURE_MEZZ_curve_type") == (0, '"LINEAR"')
    versions = run("history")[1].splitlines()
    assert [line.split()[0] for line in versions] == ["4", "3", "2", "1"]
    assert "rollback" in versions[0]
    assert versions[2].endswith("edit by ada: market")
    [line] = run("history", "tranche", "SURE_MEZZ_apy_max")[1].splitlines()
    assert "set by ada  tranche/SURE_MEZZ_apy_max: 15.0 -> 16.5" in line
    then = json.loads(run("history", "--json")[1])[-1]["created_at"]
    assert run("get", "tranche", "SURE_MEZZ_apy_max", "--as-of", then) == (0, "16.5")
    assert json.loads(run("get", "tranche", "SURE_MEZZ_config", "--as-of", then)[1])["apy_max"] == 16.5
    [row] = json.loads(run("get", "tranche", "SURE_MEZZ_apy_max", "--as-of", then, "--json")[1])
    assert (row["value_data"], row["version"], row["updated_by"]) == (16.5, 2, "ada")
    assert "tranche/SURE_MEZZ_apy_max = 16.5 % a year (money)" in run("get", "tranche", "--as-of", then)[1]


def test_what_is_refused_changes_nothing_and_says_all(run: Run) -> None:
    code, said = run("set", "pricing", "base_rate_USDC", "999.99", "--dry-run")
    assert (code, said.splitlines()[-1]) == (1, "Refused; nothing was changed.")
    assert "pricing/base_rate_USDC: is 999.99; the most is 1 (per year)" in said
    assert run("set", "pricing", "base_rate_USDC", "0.05", "--dry-run")[0] == 0
    for value in ("not_a_number", '"0.05"', "5%", "NaN", "-1"):
        with pytest.raises(InvalidParameters, match="base_rate_USDC"):
            run("set", "pricing", "base_rate_USDC", value)
    run("set", "pricing", "base_rate_USDC", "0.05")
    with pytest.raises(ConfigConflict):
        run("set", "pricing", "base_rate_USDC", "0.06", "--expected-version", "1")
    assert run("get", "pricing", "base_rate_USDC") == (0, "0.05")


def test_money_needs_a_second_person_where_approvals_are_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPROVALS", "on")
    with pytest.raises(UsageError, match="second person"):
        run("set", "pricing", "base_rate_USDC", "0.05")
    assert run("set", "risk", "high_utilization", "0.9")[0] == 0
    assert run("set", "pricing", "base_rate_USDC", "0.05", "--emergency")[0] == 0
    with pytest.raises(UsageError, match="second person"):
        run("rollback", "1")
    assert "(emergency)" in run("history", "pricing")[1]


def test_verify_names_the_row_with_one_flipped_byte(run: Run, database: str) -> None:
    run("set", "pricing", "base_rate_USDC", "0.05")
    code, said = run("verify")
    assert code == 0
    assert said.startswith("2 audit rows and 2 versions: all as written.")
    asyncio.run(run_sql(database, "UPDATE config_audit_log SET new_value = '0.04' WHERE id = 2"))
    code, said = run("verify")
    assert code == 1
    assert said.startswith("config_audit_log, row 2: its hash does not fit its content")
    assert json.loads(run("verify", "--json")[1])["ok"] is False


def test_a_database_that_is_away_is_a_dependency_error() -> None:
    for address, error in (("postgresql://u@127.0.0.1:1/x", DatabaseUnavailable), ("nonsense", InputError)):
        with pytest.raises(error):
            config_cli(["verify", "--database-url", address], exit_on_error=False, result_action="return_value")
