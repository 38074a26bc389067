"""Faults planted in copies of the contracts' sources: the random sequences of test_parity.py notice each of them."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from pytoniq_core.boc.cell import Cell

from parity.pair_run import Mismatch
from parity.sequences import Recorded
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND

TOOLS = Path(__file__).resolve().parents[2] / "tools"
COMPILE = """
import base64, sys
sys.path.insert(0, sys.argv[1])
import build_contracts
kind, *changes = sys.argv[2:]
source = build_contracts.read_source(kind)
for old, new in zip(changes[::2], changes[1::2], strict=True):
    assert old in source, "the source has no: " + old
    source = source.replace(old, new, 1)
print(base64.b64encode(build_contracts.compile_source(source)).decode())
"""
MOST = 100
"""Sequences that are run at most for one fault."""

FAULTS = {
    "a withdrawal rounds up": (
        VAULT_KIND,
        "int amount = muldiv(requested, capital, shares);",
        "int amount = muldivc(requested, capital, shares);",
    ),
    "a minted share rounds up": (
        VAULT_KIND,
        "return (muldiv(amount, shares, capital), 0);",
        "return (muldivc(amount, shares, capital), 0);",
    ),
    "a premium's part is a percent off": (
        VAULT_KIND,
        "part(amount, 23, 43),\n    part(amount, 43, 61)",
        "part(amount, 23, 42),\n    part(amount, 42, 61)",
    ),
    "a claim does not accrue": (
        VAULT_KIND,
        "accrued_tranche(id);\n    claim::tranches~push",
        "load_tranche(id);\n    claim::tranches~push",
    ),
    "shares never become void": (VAULT_KIND, "return capital * least_price < shares;", "return 0;"),
    "the breaker trips at its limit": (VAULT_KIND, "losses + loss > capital", "losses + loss >= capital"),
    "the breaker's window never ends": (
        VAULT_KIND,
        "now() >= vault::breaker_opened_at + vault::breaker_window",
        "vault::breaker_opened_at == 0",
    ),
    "the first depositor owns everything": (
        VAULT_KIND,
        "return (amount - locked_shares, locked_shares + capital);",
        "return (amount, capital);",
    ),
    "what was left is the first depositor's": (
        VAULT_KIND,
        "return (amount - locked_shares, locked_shares + capital);",
        "return (amount - locked_shares, locked_shares);",
    ),
    "the window of a withdrawal closes a second early": (
        VAULT_KIND,
        "now() > available_at + vault::withdraw_window",
        "now() >= available_at + vault::withdraw_window",
    ),
    "a freeze does not stop withdrawals": (
        VAULT_KIND,
        "  check_not_frozen();\n  throw_if(error::claim_due",
        "  throw_if(error::claim_due",
    ),
    "a waiting claim does not stop deposits": (
        VAULT_KIND,
        "throw_if(error::claim_due, vault::claims_due);\n  int amount",
        "int amount",
    ),
    "a claim is paid a second before it is due": (VAULT_KIND, "now() < due_at);", "now() < due_at - 1);"),
    "the vault may be left above 95 percent": (
        VAULT_KIND,
        "throw_if(error::vault_over_limit,",
        "throw_if(error::vault_over_limit, 0 &",
    ),
    "a quote is good twice": (FACTORY_KIND, "throw_if(error::quote_used, used);", ""),
    "a quote is good at its deadline": (FACTORY_KIND, "now() < deadline", "now() <= deadline"),
    "an old key never ends": (
        FACTORY_KIND,
        "throw_unless(error::bad_signature, now() < keys~load_uint(32));",
        "keys~load_uint(32);",
    ),
    "a claim is paid before cover starts": (
        FACTORY_KIND,
        "throw_if(error::cover_not_started, now() < policy::start);",
        "",
    ),
    "a held claim can be asked for again": (
        FACTORY_KIND,
        "(policy::state == state::active) | (policy::state == state::due)",
        "policy::state == state::active",
    ),
    "an answer's value goes to the buyer": (
        FACTORY_KIND,
        "if (flight == policy::flight) {\n    finish_excess",
        "if (flight == 0) {\n    finish_excess",
    ),
}


def compile_changed(kind: str, *changes: str) -> Cell:
    """The code of a contract with these changes in its source, in a process of its own: the compiler keeps globals."""
    command = [sys.executable, "-c", COMPILE, str(TOOLS), kind, *changes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return Cell.one_from_boc(base64.b64decode(done.stdout))


def test_without_a_fault_the_compiled_sources_pass() -> None:
    codes = {kind: compile_changed(kind) for kind in (VAULT_KIND, FACTORY_KIND)}
    for seed in range(10):
        Recorded(seed, codes=codes).play()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str) -> None:
    kind, *changes = FAULTS[fault]
    codes = {kind: compile_changed(kind, *changes)}
    for seed in range(MOST):
        try:
            Recorded(seed, codes=codes).play(shorten=False)
        except Mismatch as found:
            print(f"{fault}: sequence {seed}, {found}")
            return
    pytest.fail(f"{MOST} sequences did not notice that {fault}.")
