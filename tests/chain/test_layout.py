"""Layouts: the shipped one is valid, and a mistake in one is found when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.making import LAYOUT, LAYOUT_TEXT
from tonsurance.chain.layout import load_layout, parse_layout
from tonsurance.core.errors import UsageError
from tonsurance.core.events import EVENT_TYPES, FACTORY_KIND, VAULT_KIND

HEAD = 'name = "x"\n[[event]]\ncontract = "MultiTrancheVault"\nop = 1\n'
PAUSED = 'type = "Paused"\nfields = [{name="paused", type="bool"}]\n'


def test_the_shipped_layout_knows_every_event_type_and_both_contracts() -> None:
    layout = load_layout()
    assert {event.type for event in layout.events.values()} == set(EVENT_TYPES)
    assert {kind for kind, _ in layout.events} == set(layout.code) == {VAULT_KIND, FACTORY_KIND}


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(LAYOUT_TEXT)
    assert load_layout(path) == load_layout(str(path)) == LAYOUT


@pytest.mark.parametrize("name", ["nothing", "/nothing.toml", "../../etc/passwd"])
def test_a_layout_that_is_not_there_is_a_clear_error(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_layout(name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "not valid TOML"),
        ("", "needs a name"),
        ('name = "x"', r"at least one \[\[event\]\]"),
        ('name = "x"\nevent = [1]', "must be a table"),
        (HEAD + PAUSED + "colour = 1\n", "unknown keys colour"),
        ('colour = 1\n' + HEAD + PAUSED, "unknown keys colour"),
        (HEAD + 'type = "Nothing"\n', "no such event type"),
        (HEAD + 'type = ["Paused"]\n', "no such event type"),
        (HEAD.replace("op = 1", "op = -1") + PAUSED, "32 bits"),
        (HEAD.replace("op = 1", f"op = {2**32}") + PAUSED, "32 bits"),
        (HEAD.replace("op = 1", 'op = "1"') + PAUSED, "32 bits"),
        (HEAD.replace('contract = "MultiTrancheVault"', "") + PAUSED, "names no contract"),
        (HEAD + PAUSED + HEAD.partition("\n")[2] + PAUSED, "Paused and Paused .* same op 0x1"),
        (HEAD + 'type = "Paused"\nfields = 5\n', "must be a list"),
        (HEAD + 'type = "Paused"\nfields = [5]\n', "must be {name, type}"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused"}]\n', "unknown type None"),
        (HEAD + 'type = "Paused"\nfields = [{name="Paused", type="bool"}]\n', "not a field name"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="float"}]\n', "unknown type 'float'"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="uint"}]\n', "1 to 256 bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="int0"}]\n', "1 to 256 bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="uint257"}]\n', "1 to 256 bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool2"}]\n', "no number of bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool[0]"}]\n', "1 to 64 elements"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool[999]"}]\n', "1 to 64 elements"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="ref[2]"}]\n', "holds no refs"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool", fields=[]}]\n', "unknown keys fields"),
        (HEAD + 'type = "Paused"\nfields = []\n', r"missing \['paused'\]"),
        (HEAD + 'type = "Paused"\nfields = [{name="other", type="bool"}]\n', r"unknown \['other'\]"),
        (HEAD + 'type = "Paused"\nfields = [' + '{name="paused", type="bool"},' * 2 + ']\n', "same name"),
        (HEAD + 'type = "Paused"\nfields = [' + '{name="r", type="ref"},' * 5 + ']\n', "at most 4 refs"),
        (HEAD + PAUSED + '[code]\nPolicyFactory = "12"\n', "64 hexadecimal"),
        ('name = "x"\ncode = 5\n' + HEAD.partition("\n")[2] + PAUSED, "must map"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_when_the_layout_is_read(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_layout(text)
