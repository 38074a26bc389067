"""`tonsurance events watch` and prices on a running stack."""

from __future__ import annotations

import json
import re

import httpx

from system.processes import wait_until
from system.running import Running, command


def test_watching_shows_events_from_the_chain_and_what_they_come_to(stack: Running) -> None:
    done = command(stack, "events", "watch", "--duration", "2", "--from-lt", "0", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"FactorySet", "DepositMade"} <= {event["event_type"] for event in events}
    deposits = [event for event in events if event["event_type"] == "DepositMade"]
    assert all(isinstance(event["fields"]["amount"], str) for event in deposits)
    found = re.search(
        r"Event Stats: total=(\d+), policies=(\d+), payouts=\d+, errors=0, last_event=\d+s ago", done.stderr
    )
    assert found is not None
    assert int(found[1]) == len(events)
    assert int(found[2]) == sum(event["event_type"] == "PolicyCreated" for event in events)
    posted = httpx.get(f"{stack.url}/api/v2/events?limit=5", timeout=60).json()["events"]
    known = {(event["contract"], event["logical_time"], event["message_index"]) for event in events}
    assert {(event["contract"], event["lt"], event["message_index"]) for event in posted} <= known


def test_only_one_contract_is_watched_when_one_is_named(stack: Running) -> None:
    vault = str(stack.status()["vault"])
    done = command(stack, "events", "watch", "--duration", "1", "--vault", vault, "--from-lt", "0")
    assert done.returncode == 0, done.stderr
    assert " MultiTrancheVault DepositMade tranche_id=" in done.stdout
    assert "PolicyFactory" not in done.stdout


def test_a_chain_that_is_away_is_said_and_a_wrong_call_is_refused(stack: Running) -> None:
    vault = str(stack.status()["vault"])
    away = command(stack, "events", "watch", "--network", "http://127.0.0.1:9", "--vault", vault, "--duration", "1")
    assert away.returncode == 3
    assert "cannot be reached" in away.stderr
    for arguments in (["--duration", "0"], ["--network", "testnet"], ["--network", "nowhere", "--vault", vault]):
        assert command(stack, "events", "watch", *arguments).returncode == 2


def test_the_ton_price_of_the_local_market_is_read_and_shown(stack: Running) -> None:
    def shown() -> bool:
        [price] = httpx.get(f"{stack.url}/api/v2/prices", timeout=60).json()
        return price["stale"] is False and price["source"] == "127.0.0.1" and 4 < float(price["price_usd"]) < 7

    wait_until(shown, timeout_s=60, what="a price")
