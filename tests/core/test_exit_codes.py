"""Every code the contracts throw has a name and a sentence here, and no other does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tonsurance.core.exit_codes import (
    ACTION_CODES,
    CONTRACT_CODES,
    MACHINE_CODES,
    NOT_RUN,
    explain_exit,
    explain_failure,
)

ERRORS = Path(__file__).resolve().parents[2] / "contracts" / "errors.fc"
_CONSTANT = re.compile(r"^const int error::(\w+) = (0x[0-9a-f]+|\d+);", re.MULTILINE)


def test_the_names_are_those_of_the_contracts() -> None:
    thrown = {int(code, 0): name for name, code in _CONSTANT.findall(ERRORS.read_text())}
    assert len(thrown) >= 50
    assert {code: known.name for code, known in CONTRACT_CODES.items()} == thrown


def test_every_code_has_one_plain_sentence() -> None:
    for table in (CONTRACT_CODES, MACHINE_CODES, ACTION_CODES):
        for code, known in table.items():
            assert re.fullmatch(r"[A-Z][^\n]{10,}\.", known.sentence), code
            assert re.fullmatch(r"[a-z_]+", known.name), code
    assert not CONTRACT_CODES.keys() & MACHINE_CODES.keys()


@pytest.mark.parametrize(
    ("exit_code", "action_code", "name"),
    [
        (135, None, "quote_expired"),
        (-14, None, "out_of_gas"),
        (9, None, "cell_underflow"),
        (0, 37, "not_enough_ton"),
        (1, 34, "invalid_action"),
        (0, 99, "unknown_action_code"),
        (0, None, "unknown_action_code"),
        (777, None, "unknown_exit_code"),
        (None, None, "not_run"),
    ],
)
def test_a_failure_is_explained_by_the_phase_that_failed(
    exit_code: int | None, action_code: int | None, name: str
) -> None:
    assert explain_failure(exit_code, action_code).name == name


def test_what_is_unknown_names_its_code() -> None:
    assert "777" in explain_exit(777).sentence
    assert NOT_RUN.name == "not_run"
