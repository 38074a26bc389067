"""The alert rules: they fire as their unit tests say, use figures that exist, and are explained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from tonsurance import metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
GROUPS = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
PARSED = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule["alert"] for rule in PARSED if "alert" in rule]


def test_promtool_agrees_with_every_rule_and_its_test() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        [promtool, "test", "rules", "rules_test.yml"], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_figure_in_a_rule_is_one_we_publish() -> None:
    assert metrics.CONFIG_VERSION is not None
    known = {sample for family in REGISTRY.collect() for sample in (family.name, f"{family.name}_total")}
    recorded = {rule["record"] for rule in PARSED if "record" in rule}
    for rule in PARSED:
        for name in re.findall(r"\btonsurance[\w:]+", rule["expr"]):
            assert name.removesuffix("_bucket") in known | recorded, f"{name} in {rule.get('alert') or rule['record']}"


def test_every_alert_has_its_unit_test_and_its_entry_in_the_documents() -> None:
    tested = (RULES.parent / "rules_test.yml").read_text("utf-8")
    explained = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.MULTILINE)
    assert explained == ALERTS
    for name in ALERTS:
        assert f"alertname: {name}\n" in tested, name
