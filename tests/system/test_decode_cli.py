"""`events decode` with the layouts of the earlier generation and with a description of one's own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from chain.hand import NOW, USER, Node, incoming, log, text_of, transaction, uint
from chain.reference_cases import LOGS, REQUESTS, Case, as_incoming, as_log
from chain.reference_literals import FIRST_CREATED
from system.test_cli import call

OWN_FILE = """
name = "mine-1"
[map.coin]
1 = 7
[[event]]
contract = "Shop"
destination = 0x07
name = "Sold"
fields = [{ name = "thing", type = "ref", fields = [
  { name = "number", type = "uint54" }, { name = "small", type = "uint53" },
  { name = "coin", type = "uint8", map = "coin" },
] }]
[[event]]
contract = "Shop"
op = 0x00000009
name = "Closed"
[[event]]
contract = "Shop"
incoming = 0x00000008
name = "Asked"
fields = [{ name = "who", from = "sender" }]
canonical = { type = "Frozen", fields = { until = { from = "block_time" } } }
"""


def decode(kind: str, layouts: str, text: str) -> list[dict[str, Any]]:
    answer = call("events", "decode", "--layouts", layouts, "--contract-kind", kind, "--transaction", "-", stdin=text)
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.parametrize("kind", sorted({case.kind for case in (*LOGS, *REQUESTS)}))
def test_every_message_of_a_kind_is_printed_as_described(kind: str) -> None:
    logs = [case for case in LOGS if case.kind == kind]
    requests = [case for case in REQUESTS if case.kind == kind]
    expected: list[Case] = requests[:1] + logs
    made = transaction([as_log(case) for case in logs], as_incoming(requests[0]) if requests else None)
    printed = decode(kind, "reference-core", text_of(made))
    assert [item["event_type"] for item in printed] == [case.name for case in expected]
    assert [item["message_index"] for item in printed] == ([-1] if requests else []) + list(range(len(logs)))
    for item, case in zip(printed, expected, strict=True):
        assert item.items() >= case.shown().items()


def test_the_first_factorys_policy_is_printed_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "transaction.b64"
    path.write_text(base64.encodebytes(bytes.fromhex(FIRST_CREATED)).decode())
    answer = call(
        "events", "decode", "--layouts", "reference-first", "--contract-kind", "PolicyFactory",
        "--transaction", str(path),
    )  # fmt: skip
    (line,) = answer.stdout.splitlines()
    shown = json.loads(line)
    assert (shown["event_type"], shown["canonical"], shown["fields"]["user"]) == (
        "PolicyCreated",
        "PolicyCreated",
        USER,
    )


def test_a_failed_transaction_prints_nothing() -> None:
    made = transaction([], as_incoming(REQUESTS[0]), exit_code=402)
    assert decode(REQUESTS[0].kind, "reference-core", text_of(made)) == []


@pytest.mark.parametrize("name", ["mine.toml", "mine"])
def test_a_description_of_ones_own_needs_no_python(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(OWN_FILE)
    thing = Node(uint(2**54 - 1, 54) + uint(2**53 - 1, 53) + uint(1, 8))
    closed = Node(log(0, Node()).bits[:-1] + "1", (Node(uint(9, 32)),))
    made = transaction([log(0x07, thing), closed], incoming(Node(uint(8, 32))))
    asked, sold, shut = decode("Shop", str(path), text_of(made))
    assert (asked["event_type"], asked["fields"], asked["canonical"]) == ("Asked", {"who": USER}, "Frozen")
    assert asked["canonical_fields"] == {"until": NOW}
    assert sold["fields"] == {"number": str(2**54 - 1), "small": 2**53 - 1, "coin": 1}
    assert (sold["mapped"], sold["canonical"], shut["event_type"]) == ({"coin": 7}, None, "Closed")


@pytest.mark.parametrize(
    ("kind", "layouts", "said"),
    [
        ("Vault", "tonsurance", "MultiTrancheVault, PolicyFactory."),
        ("PolicyShard", "reference-first", "Known: PolicyFactory"),
        ("", "reference-core", "Known: MultiTrancheVault, PolicyFactory, PolicyRouter, PolicyShard, TrancheToken"),
        ("PolicyFactory", "reference-cor", "reference-core, reference-first, tonsurance"),
        ("PolicyFactory", "/nowhere/x.toml", "reference-core, reference-first, tonsurance"),
        ("PolicyFactory", "broken.toml", "broken.toml: Event ?"),
    ],
)
def test_an_unknown_kind_or_layout_is_a_usage_error_that_names_those_there_are(
    tmp_path: Path, kind: str, layouts: str, said: str
) -> None:
    if layouts == "broken.toml":
        (tmp_path / layouts).write_text('name = "x"\n[[event]]\n')
        layouts = str(tmp_path / layouts)
    text = text_of(transaction([as_log(LOGS[0])]))
    answer = call("events", "decode", "--layouts", layouts, "--contract-kind", kind, "--transaction", "-", stdin=text)
    assert (answer.returncode, answer.stdout) == (2, ""), answer.stderr
    assert said in answer.stderr.replace("\n", " ")
    assert "Traceback" not in answer.stderr
