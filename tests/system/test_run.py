"""`tonsurance run` as a newcomer would use it: real processes, real database, real chain."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from system.processes import is_running, wait_until
from system.running import Running, command, running
from tonsurance.core.catalog import TRANCHE_IDS

pytestmark = pytest.mark.timeout(600)


def figures(stack: Running) -> dict[str, tuple[float, float]]:
    rows = stack.get("/api/v2/tranches/apy")["tranches"]
    assert isinstance(rows, list)
    return {row["tranche_id"]: (row["utilization"], row["apy"]) for row in rows}


def test_six_tranches_move_and_btc_stays_flat(stack: Running) -> None:
    seen: dict[str, set[tuple[float, float]]] = {name: set() for name in TRANCHE_IDS}

    def all_moved() -> bool:
        for name, figure in figures(stack).items():
            seen[name].add(figure)
        return all(len({used for used, _ in points}) > 2 for points in seen.values())

    wait_until(all_moved, timeout_s=60, what="six changing utilisations")
    assert {apy for _, apy in seen["SURE-BTC"]} == {4.0}
    for name in TRANCHE_IDS[1:]:
        assert len({apy for _, apy in seen[name]}) > 1, name
        assert all(0 <= used <= 0.95 for used, _ in seen[name])


def test_the_ledger_equals_the_chain_at_one_block(stack: Running) -> None:
    """What the API shows and what the vault's getter says agree to the nano once both are at the same transaction."""

    def equal() -> bool:
        before = stack.get("/api/v1/utilization/dashboard")
        chain = httpx.post(
            f"{stack.status()['chain_url']}/api/v2/runGetMethod",
            json={"address": stack.status()["vault"], "method": "get_all_tranches", "stack": []},
            timeout=60,
        ).json()["result"]
        if stack.get("/api/v1/utilization/dashboard")["ledger_version"] != before["ledger_version"]:
            return False
        rows = chain["stack"][0][1]["elements"]
        on_chain = [[int(e["number"]["number"]) for e in row["tuple"]["elements"]][1:3] for row in rows]
        tranches = before["tranches"]
        assert isinstance(tranches, list)
        shown = [[int(row["total_capital_nanoton"]), int(row["coverage_sold_nanoton"])] for row in tranches]
        return on_chain == shown

    wait_until(equal, timeout_s=60, what="ledger and chain at the same transaction")


def test_a_parameter_is_changed_by_token_and_the_contracts_terms_are_taken_over(stack: Running) -> None:
    token = command(stack, "token", "--role", "admin", "--sub", "tester").stdout.strip()
    admin = httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def taken_over() -> bool:
        found = admin.get("/admin/config/risk/withdraw_delay_s").json()
        return (found["value_data"], found["updated_by"]) == (3_600, "contracts")

    with admin:
        wait_until(taken_over, timeout_s=60, what="the withdrawal delay of the local contracts")
        path, curve = "/admin/config/tranche/SURE_MEZZ_apy_max", "/api/v1/tranche/SURE-MEZZ/apy?utilization=1"
        before = stack.get(curve)["apy"]
        changed = admin.put(path, json={"value": 16.5, "reason": "a test"})
        assert changed.status_code == 200, changed.text
        wait_until(lambda: stack.get(curve)["apy"] == 16.5, timeout_s=60, what="the changed curve")
        assert admin.put(path, json={"value": before, "reason": "and back"}).status_code == 200
        wait_until(lambda: stack.get(curve)["apy"] == before, timeout_s=60, what="the curve as it was")
    for words in (("config", "verify"), ("replay",), ("verify",)):
        said = command(stack, *words)
        assert said.returncode == 0, said.stdout + said.stderr


def test_a_websocket_client_is_told_of_each_change(stack: Running) -> None:
    with connect(f"ws://127.0.0.1:{stack.port}/ws") as client:
        assert json.loads(client.recv(timeout=60))["type"] == "welcome"
        client.send(json.dumps({"action": "subscribe", "channel": "tranche_apy"}))
        versions: list[int] = []
        while len(set(versions)) < 4:
            message = json.loads(client.recv(timeout=60))
            if message.get("type") == "apy_update":
                assert [row["tranche_id"] for row in message["tranches"]] == list(TRANCHE_IDS)
                versions.append(int(message["ledger_version"]))
        assert versions == sorted(versions)


def test_status_file_is_private_and_true(stack: Running) -> None:
    path = stack.home / "status.json"
    assert path.stat().st_mode & 0o777 == 0o600
    status = stack.status()
    assert {"api_url", "chain_url", "database_url", "vault", "factory", "pids"} <= set(status)
    pids = status["pids"]
    assert isinstance(pids, dict)
    assert set(pids) == {"run", "postgres", "localnet", "daemon", "api"}
    assert all(is_running(pid) for pid in pids.values())


def test_a_second_run_in_the_same_home_is_refused(stack: Running) -> None:
    said = command(stack, "run")
    assert said.returncode == 2
    assert "Another run uses the home" in said.stderr
    assert stack.url in said.stderr


def test_a_used_port_is_said(stack: Running, tmp_path: Path) -> None:
    said = command(stack, "run", TONSURANCE_HOME=str(tmp_path / "other"))
    assert said.returncode == 2
    assert f"Port {stack.port} is in use" in said.stderr
    assert "TONSURANCE_PORT" in said.stderr


def test_psql_and_migrate_use_the_running_stack(stack: Running) -> None:
    said = command(stack, "psql", "-Atc", "select count(*) from tranche_utilization where tranche_id = 'SURE-SNR'")
    assert (said.returncode, said.stdout.strip()) == (0, "1"), said.stderr
    said = command(stack, "migrate")
    assert said.returncode == 0
    assert "nothing to do" in said.stdout


def test_the_running_chain_can_be_driven(stack: Running) -> None:
    before = int(str(stack.chain()["seqno"]))
    assert command(stack, "localnet", "mine", "3").returncode == 0
    assert int(str(stack.chain()["seqno"])) >= before + 3
    address = "0:" + "42" * 32
    assert command(stack, "localnet", "airdrop", address, "5").returncode == 0
    wait_until(
        lambda: (
            httpx.get(
                f"{stack.status()['chain_url']}/api/v2/getAddressBalance", params={"address": address}, timeout=60
            ).json()["result"]
            == "5000000000"
        ),
        timeout_s=60,
        what="the airdrop",
    )
    assert command(stack, "localnet", "mine", "0").returncode == 2
    assert command(stack, "localnet", "airdrop", "nobody", "5").returncode == 2
    assert command(stack, "localnet", "send", "AAAA").returncode in (1, 2)


def test_a_killed_child_comes_back_and_nothing_is_lost(stack: Running) -> None:
    for name in ("daemon", "api", "localnet", "postgres"):
        pids = stack.status()["pids"]
        assert isinstance(pids, dict)
        before = pids[name]
        os.kill(before, signal.SIGKILL)

        def is_back(name: str = name, before: int = before) -> bool:
            now = stack.status()["pids"]
            assert isinstance(now, dict)
            return now.get(name, before) != before

        wait_until(is_back, timeout_s=60, what=f"a new {name}")
        stack.wait_ready()
        version = stack.get("/api/v1/utilization/SURE-SNR")["ledger_version"]
        wait_until(
            lambda version=version: stack.get("/api/v1/utilization/SURE-SNR")["ledger_version"] != version,
            timeout_s=60,
            what=f"figures to move again after kill -9 of {name}",
        )
    test_the_ledger_equals_the_chain_at_one_block(stack)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_an_end_leaves_no_process_and_a_second_start_goes_on(tmp_path: Path, number: int) -> None:
    home = tmp_path / "a home"
    first = Running(home)
    first.wait_ready()
    vault, seqno = first.status()["vault"], int(str(first.chain()["seqno"]))
    events = first.get("/api/v2/events?limit=1")["events"]
    first.end(number)
    with running(home) as second:
        assert second.status()["vault"] == vault
        assert int(str(second.chain()["seqno"])) >= seqno
        assert second.get("/api/v2/events?limit=1")["events"] == events
        test_the_ledger_equals_the_chain_at_one_block(second)


def test_two_homes_run_side_by_side(stack: Running, tmp_path: Path) -> None:
    with running(tmp_path / "second", "--seed", "2") as other:
        assert other.status()["vault"] != stack.status()["vault"]
        assert other.status()["database_url"] != stack.status()["database_url"]
        other_pids, pids = other.status()["pids"], stack.status()["pids"]
        assert isinstance(other_pids, dict)
        assert isinstance(pids, dict)
        assert not set(other_pids.values()) & set(pids.values())
