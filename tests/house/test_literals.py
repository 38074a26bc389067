"""No business number stands in code, and no parameter is idle, unknown or wrongly awaited: each fault is named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tonsurance.core.params import DEFAULT_PARAMS

ROOT = Path(__file__).resolve().parents[2]
DECLARE = "a business number in code, declare it in core/parameters"


def check_literals(source: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "check_literals.py", source], capture_output=True, text=True, check=False
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the Python and SQL source, to plant faults in."""
    shutil.copytree(
        ROOT / "src",
        tmp_path / "src",
        ignore=lambda folder, names: [
            name for name in names if Path(folder, name).is_file() and not name.endswith((".py", ".sql"))
        ],
    )
    return tmp_path / "src"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def said_of(source: Path) -> str:
    """What the check says of a source with a fault in it."""
    result = check_literals(source)
    assert result.returncode == 1, result.stdout + result.stderr
    assert all(re.match(r"\S+: .+, .+, .+", line) for line in result.stdout.splitlines()), result.stdout
    return result.stdout


def test_the_source_holds_no_business_number_and_uses_what_it_declares() -> None:
    result = check_literals(ROOT / "src")
    assert (result.returncode, result.stdout) == (0, "literals: ok\n"), result.stdout + result.stderr


def test_make_check_calls_it() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "tools/check_literals.py src" in recipe


LITERALS = (
    ("def f(u):\n    return u > 0.95", "0.95"),
    ("def f(price: float = 0.97): ...", "0.97"),
    ("def f(*, days: int = 1): ...", "1"),
    ("class A:\n    limit: int = 1", "1"),
    ("class A:\n    grace_days: int = -1", "1"),
    ("LIMIT = 10_000", "10000"),
    ("LIMIT: float = 0.10", "0.1"),
    ("LIMIT = -30", "30"),
    ("LIMIT = 19 / 20", "19"),
    ("LIMIT = 10**3", "10"),
    ("LIMIT = 1 << 8", "8"),
    ("LIMIT = 1e4", "10000.0"),
    ("LIMIT = Decimal('0.04')", "'0.04'"),
    ("LIMIT = float('4 %')", "'4 %'"),
    ("LIMIT = Fraction('19/20')", "'19/20'"),
    ("LIMIT = float(b'365')", "b'365'"),
    ("LIMIT = int('10_000')", "'10_000'"),
    ("LIMIT = timedelta(days=1)", "1"),
    ("LIMITS = {'USDC': 0.04}", "0.04"),
    ("def f(values):\n    return values.get('a', 90)", "90"),
    ("def f(x):\n    return f'{x * 365}'", "365"),
    ("def f(x):\n    match x:\n        case 300:\n            return x", "300"),
    ("def f(x):\n    return x ** 0.5", "0.5"),
)


def test_every_kind_of_planted_number_is_named_where_it_stands(source: Path) -> None:
    path = source / "tonsurance" / "core" / "capacity.py"
    text, places = path.read_text(), []
    for code, shown in LITERALS:
        places.append((text.count("\n") + 1, code.count("\n"), shown))
        text += f"{code}\n"
    path.write_text(text)
    found = re.findall(rf"capacity\.py:(\d+): (.+), {DECLARE}", said_of(source))
    missed = [
        (line, shown)
        for line, more, shown in places
        if not any(line <= int(at) <= line + more and what == shown for at, what in found)
    ]
    assert missed == []


FREE = """
'''0.95'''
import math
PAIR = (0, 1, -1, 0.0, 1.0, -1.0, True, None, math.inf, "", "USDC", "v2", "1", f"{PAIR}5")

def square(x, start: int = 0):
    '''365'''
    return x**2 - x[-1]
"""


def test_structure_is_no_business_number(source: Path) -> None:
    path = source / "tonsurance" / "core" / "capacity.py"
    path.write_text(path.read_text() + FREE)
    result = check_literals(source)
    assert result.returncode == 0, result.stdout


LATER = (
    "core/pricing.py", "core/limits.py", "core/anything_new.py", "core/risk/var.py", "services/capacity.py",
    "services/alerts.py", "services/bridge_watch.py", "services/risk_engine.py", "services/quotes.py",
    "services/limits.py", "services/collateral.py", "services/utilization_tracker.py", "services/risk/engine.py",
)  # fmt: skip


def test_business_code_of_later_is_covered_from_its_first_line(source: Path) -> None:
    for module in LATER:
        path = source / "tonsurance" / module
        path.parent.mkdir(exist_ok=True)
        path.write_text("LIMIT = 0.95\n")
    said = said_of(source)
    assert [module for module in LATER if f"{module}:1: 0.95, {DECLARE}" not in said] == []


def test_limits_of_a_process_are_its_own(source: Path) -> None:
    path = source / "tonsurance" / "services" / "admin_limits.py"
    path.write_text(path.read_text() + "\nLIMIT = 0.95\n")
    assert check_literals(source).returncode == 0


TAKEN = (
    ("from tonsurance.core.params import DEFAULT_PARAMS", "import of DEFAULT_PARAMS from core/params.py"),
    ("from tonsurance.core.parameters.registry import REGISTRY", "import of REGISTRY from core/parameters/registry.py"),
    ("from tonsurance.core.catalog import TRANCHES", "import of TRANCHES from core/catalog.py"),
    (
        "from tonsurance.core.parameters.pricing import _BASE_RATES as r",
        "import of _BASE_RATES from core/parameters/pricing.py",
    ),
    ("from tonsurance.core import catalog; x = catalog.TRANCHES", "use of catalog.TRANCHES"),
    ("from tonsurance.core import params; x = params.DEFAULT_PARAMS", "use of params.DEFAULT_PARAMS"),
)


def test_a_number_taken_from_elsewhere_is_named(source: Path) -> None:
    (source / "tonsurance" / "core" / "premium.py").write_text("".join(f"{line}\n" for line, _ in TAKEN))
    said = said_of(source)
    for line, (_, what) in enumerate(TAKEN, start=1):
        assert f"premium.py:{line}: {what}, a number that is not the one in force" in said


def test_a_parameter_that_nothing_reads_is_named(source: Path) -> None:
    declared = source / "tonsurance" / "core" / "parameters" / "api.py"
    line = declared.read_text().splitlines().index('    _rate("quote_rate_limit", 60, "Quotes of one address."),') + 1
    change(declared, '"Quotes of one address."', '"Quotes of one address.", None')
    assert f"api.py:{line}: api/quote_rate_limit, declared but read nowhere" in said_of(source)


@pytest.mark.parametrize(
    ("module", "old", "new", "unused"),
    [
        ("api/admin_parts.py", '"admin_rate_limit"', '"key_rate_limit"', "api/admin_rate_limit"),
        ("core/technical_rates.py", '"stress_slope"', '"claims_cap"', "pricing/stress_slope"),
        ("services/chain_params.py", '"waiting_period_s"', '"waiting_period"', "risk/waiting_period_s"),
        ("core/params.py", '_take(values, "risk", "high_utilization", float)', "1.0", "risk/high_utilization"),
    ],
)
def test_a_parameter_whose_last_reader_goes_is_named(
    source: Path, module: str, old: str, new: str, unused: str
) -> None:
    change(source / "tonsurance" / module, old, new)
    assert f"{unused}, declared but read nowhere" in said_of(source)


def test_a_value_kept_in_a_field_that_nobody_looks_at_is_not_used(source: Path) -> None:
    for path in (source / "tonsurance").rglob("*.py"):
        if path.name != "params.py":
            path.write_text(path.read_text().replace(".min_collateralization", ".high_utilization"))
    assert "risk/min_collateralization, declared but read nowhere" in said_of(source)


UNKNOWN = (
    ("def f(params): return params.value('risk', 'no_such')", "risk/no_such"),
    ("def f(params): return params.value('no_such', 'max_utilization')", "no_such/max_utilization"),
    ("def f(params, coin): return params.value('pricing', f'base_rat_{coin}')", "pricing/base_rat_*"),
    ("def f(params, coin): return params.value('pricing', 'base_rat_' + coin)", "pricing/base_rat_*"),
    ("KEY = 'no_such'; x = lambda params: params.value('risk', KEY)", "risk/no_such"),
    ("def f(params): return params.value(category='risk', key='no_such')", "risk/no_such"),
    ("def f(params): return params.values['risk', 'no_such']", "risk/no_such"),
    ("def f(params): return params.values.get(('risk', 'no_such'))", "risk/no_such"),
    ("def f(loader): return loader.get_float('api', 'no_such', 1)", "api/no_such"),
    ("def f(params): return ((lambda: 0), take(params, 'no_such'))", "stress/no_such"),
    ("def f(params): return _number(params, 'no_such')", "pricing/no_such"),
)
ACCESSORS = """
from tonsurance.core.tiers import _number

def take(params, key):
    return params.value('stress', key)

"""


def test_every_way_to_read_a_key_that_is_not_declared_is_named(source: Path) -> None:
    path = source / "tonsurance" / "core" / "new.py"
    path.write_text(ACCESSORS + "".join(f"{code}\n" for code, _ in UNKNOWN))
    said = said_of(source)
    for line, (_, key) in enumerate(UNKNOWN, start=ACCESSORS.count("\n") + 1):
        assert f"new.py:{line}: {key}, read but not declared" in said


def test_a_rule_about_a_key_that_is_not_declared_is_named(source: Path) -> None:
    change(source / "tonsurance" / "core" / "parameters" / "rules.py", '"webhook_utilization"', '"no_such"')
    assert re.search(r"rules\.py:\d+: risk/no_such, read but not declared", said_of(source))


NOW_READ = (
    "def f(params): return params.value('risk', 'risk_free_rate')",
    "KEYS = ('risk_free_rate',)\ndef f(params): return [params.value('risk', key) for key in KEYS]",
    "def get(params, key): return params.value('risk', key)\ndef f(params): return get(params, 'risk_free_rate')",
    "def f(params, of): return params.value('risk', f'{of}_free_rate')",
)


@pytest.mark.parametrize("code", NOW_READ)
def test_a_parameter_that_is_read_now_and_still_marked_as_awaited_is_named(source: Path, code: str) -> None:
    (source / "tonsurance" / "core" / "new.py").write_text(f"{code}\n")
    assert "risk/risk_free_rate, read now but marked as awaited by 'risk engine'" in said_of(source)


def test_a_feature_that_is_not_in_the_list_and_one_that_nobody_awaits_are_named(source: Path) -> None:
    declared = source / "tonsurance" / "core" / "parameters"
    change(declared / "api.py", '= "rate limits"', '= "rate limit"')
    said = said_of(source)
    assert "api/quote_rate_limit, awaited by 'rate limit', which AWAITED does not list" in said
    lines = (declared / "registry.py").read_text().splitlines()
    at = lines.index('    "rate limits",') + 1
    assert f"registry.py:{at}: 'rate limits', a feature that no parameter waits for" in said


def test_an_exception_that_excuses_nothing_any_more_is_named(source: Path) -> None:
    change(source / "tonsurance" / "core" / "tranches.py", "_LOG_BASE = 2.0", "_LOG_BASE = 1.0")
    (source / "tonsurance" / "core" / "moments.py").unlink()
    said = said_of(source)
    assert "ALLOWED core/tranches.py _LOG_BASE, excuses nothing any more" in said
    assert "OUTSIDE core/moments.py, no such module" in said


def test_a_constant_of_the_contracts_that_differs_from_its_declaration_is_named(source: Path) -> None:
    change(source / "tonsurance" / "core" / "claims.py", "BREAKER_PERCENT = 10", "BREAKER_PERCENT = 20")
    assert "BREAKER_PERCENT, differs from risk/breaker_percent (10)" in said_of(source)


@pytest.mark.parametrize(
    ("constant", "key", "factor"),
    [
        ("locked_shares", "locked_shares", 1),
        ("max_utilisation_percent", "max_utilization", 100),
        ("max_policy_percent", "max_policy_percent", 1),
        ("breaker_percent", "breaker_percent", 1),
    ],
)
def test_the_defaults_of_what_the_vault_fixes_are_the_vaults(constant: str, key: str, factor: int) -> None:
    rules = (ROOT / "contracts" / "vault_rules.fc").read_text()
    [fixed] = re.findall(rf"^const int {constant} = (\d+);", rules, flags=re.MULTILINE)
    declared = DEFAULT_PARAMS.value("risk", key)
    assert isinstance(declared, int | float)
    assert declared * factor == int(fixed)


def test_a_parameter_that_sql_reads_is_declared_with_the_default_sql_takes(source: Path) -> None:
    path = source / "tonsurance" / "db" / "migrations" / "015_products.sql"
    change(path, "config_number('risk', 'hedge_ratio', 0.2)", "config_number('risk', 'hedge_ratio', 0.25)")
    assert "risk/hedge_ratio, 0.25 is not its default 0.2, make them equal" in said_of(source)
    change(path, "config_number('risk', 'hedge_ratio', 0.25)", "config_number('risk', 'hedging', 0.2)")
    said = said_of(source)
    assert "risk/hedging, read but not declared" in said
    assert "risk/hedge_ratio, declared but read nowhere" in said
