"""What is committed is what the sources give: op-codes from the schema, code from the FunC, the layout from both."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from contracts.world import LAYOUT
from tonsurance.chain.deployment import code_cell
from tonsurance.chain.messages import Op
from tonsurance.core.events import FACTORY_KIND, FLOAT_KIND, VAULT_KIND

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
ANSWERS = {
    "policy_backed",
    "coverage_released",
    "excesses",
    "claim_settled",
    "claim_held",
    "claim_dropped",
    "claim_payment",
}
LAYOUT_TYPES = {"Coins": "coins", "MsgAddressInt": "address", "Bool": "bool"}


def read_schema() -> dict[str, tuple[int, str]]:
    """(written tag, scheme line without it) by constructor."""
    text = re.sub(r"//[^\n]*", "", (CONTRACTS / "schema.tlb").read_text())
    lines = (" ".join(statement.split()) for statement in text.split(";"))
    found = (re.fullmatch(r"(\w+)#([0-9a-f]{8}) (.*)", line) for line in lines)
    return {match[1]: (int(match[2], 16), f"{match[1]} {match[3]}") for match in found if match}


def op_code(name: str, line: str) -> int:
    """TON's rule: crc32 of the line without parentheses, top bit 0 for requests and 1 for answers."""
    crc = zlib.crc32(line.replace("(", "").replace(")", "").encode())
    return crc | 0x80000000 if name in ANSWERS else crc & 0x7FFFFFFF


def test_op_codes_are_the_crc32_of_their_scheme_lines() -> None:
    schema = read_schema()
    assert len(schema) == 52
    assert {name: tag for name, (tag, _) in schema.items()} == {
        name: op_code(name, line) for name, (_, line) in schema.items()
    }
    assert schema["excesses"][0] == 0xD53276DB  # the standard's own value: the rule is understood
    assert len({tag for tag, _ in schema.values()}) == len(schema)


def test_the_contracts_and_the_builders_use_the_schemas_op_codes() -> None:
    tags = {name: tag for name, (tag, _) in read_schema().items()}
    written = re.findall(r"const int op::(\w+) = (0x[0-9a-f]{8});", (CONTRACTS / "ops.fc").read_text())
    assert {name: int(value, 16) for name, value in written} == tags
    assert {op.name.lower(): op.value for op in Op}.items() <= tags.items()


def test_the_layout_has_every_event_of_the_schema_with_the_same_fields() -> None:
    events = {name: line for name, (_, line) in read_schema().items() if line.endswith("= ExternalOutMsgBody")}
    document = tomllib.loads((ROOT / "src/tonsurance/chain/layouts/tonsurance.toml").read_text())
    for event in document["event"]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", event["type"]).lower()
        fields = re.findall(r"(\w+):(\(6 \* \w+\)|\w+)", events[name])
        wanted = []
        for field, kind in fields:
            count = "[6]" if kind.startswith("(") else ""
            base = kind.strip("()").removeprefix("6 * ")
            wanted.append({"name": field, "type": LAYOUT_TYPES.get(base, base) + count})
        assert event["fields"] == wanted
    kinds = [{e["type"] for e in document["event"] if e["contract"] == kind} for kind in document["code"]]
    vault, factory, floats = kinds
    assert len(vault) + len(factory) + len(floats) == len(events) + 2  # Paused is of all three
    assert vault & factory == vault & floats == {"Paused"}


@pytest.fixture(scope="module")
def build_tool() -> ModuleType:
    """tools/build_contracts.py as a module."""
    spec = importlib.util.spec_from_file_location("build_contracts", ROOT / "tools/build_contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_check(*options: str) -> subprocess.CompletedProcess[str]:
    """tools/build_contracts.py --check, as a person runs it."""
    command = [sys.executable, str(ROOT / "tools/build_contracts.py"), "--check", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_committed_code_is_what_the_sources_compile_to() -> None:
    check = run_check()
    assert (check.returncode, check.stdout) == (0, "")


def test_the_layout_names_the_hashes_of_the_committed_code() -> None:
    assert {kind: bytes(code_cell(kind).hash) for kind in (VAULT_KIND, FACTORY_KIND, FLOAT_KIND)} == LAYOUT.code


def test_a_changed_source_is_told_from_the_committed_code(tmp_path: Path) -> None:
    sources = shutil.copytree(CONTRACTS, tmp_path / "contracts")
    rules = sources / "vault_rules.fc"
    rules.write_text(rules.read_text().replace("max_utilisation_percent = 95", "max_utilisation_percent = 96"))
    check = run_check("--sources", str(sources))
    assert check.returncode == 1
    assert check.stdout.splitlines() == [
        "differs: src/tonsurance/chain/code/multi_tranche_vault.boc",
        "differs: src/tonsurance/chain/layouts/tonsurance.toml",
    ]


def test_a_layout_without_a_place_for_the_hash_is_said(build_tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match="PolicyFactory"):
        build_tool.write_hashes("[code]\n", {FACTORY_KIND: "00"})


def test_the_globals_of_a_contract_fit_the_machine(build_tool: ModuleType) -> None:
    for kind in (VAULT_KIND, FACTORY_KIND, FLOAT_KIND):
        assert len(re.findall(r"(?m)^global ", build_tool.read_source(kind))) <= 31


def test_every_error_code_is_its_own_and_is_thrown() -> None:
    sources = {path.name: path.read_text() for path in CONTRACTS.glob("*.fc")}
    codes = re.findall(r"const int (error::\w+) = (\w+);", sources.pop("errors.fc"))
    assert len({code for _, code in codes}) == len(codes)
    for name, _ in codes:
        assert any(f"{name}," in text for text in sources.values()), name


def test_the_standard_library_holds_nothing_unused() -> None:
    sources = {path.name: path.read_text() for path in CONTRACTS.glob("*.fc")}
    names = re.findall(r"(?m)([\w~?]+)\(", sources.pop("stdlib.fc").replace("asm(", ""))
    everything = "\n".join(sources.values())
    declared = [name for name in names if name not in {"asm", "numbers"}]
    assert [name for name in declared if f"{name.lstrip('~')}(" not in everything] == []
