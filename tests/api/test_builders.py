"""What the API tells a wallet to send does what the API says it does, and what is refused now is not built."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pytoniq_core.boc.cell import Cell
from ton_core import Address

from api.building import running_builders, send_as_told
from api.shopping import BUYER, PUBLIC_KEY, running_shop
from services.factory_reading import Reading, follow, reading
from tonsurance.chain import messages
from tonsurance.chain.addresses import format_friendly
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.units import BIGINT_MAX, NANO_PER_TON
from tonsurance.db.roles import ROLE_OF
from tonsurance.localnet.cells import address_from
from tonsurance.localnet.messages import read_message, read_transaction
from tonsurance.services.chain_clock import ChainClock
from tonsurance.services.factory_state import STALE_AFTER_S, FactoryStates
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.wallet_requests import MOST_AHEAD_S, VALID_FOR_S

DEPOSIT, REQUEST, WITHDRAW = "/api/v2/vault/deposit", "/api/v2/vault/withdraw-request", "/api/v2/vault/withdraw"
POLICY = """
INSERT INTO policies (contract_address, policy_id, vault_id, quote_id, coverage_type, chain_id, stablecoin_id,
    buyer_address, beneficiary_address, coverage_amount_nanoton, premium_nanoton, trigger_bps, floor_bps, start_time,
    expiry_time, status, created_lt, created_message_index, created_at, closed_lt, closed_message_index, closed_at,
    ledger_version)
VALUES ($1, $2, 'main', 1, 0, 1, 0, 'b', 'b', 1, 1, 9700, 9000, to_timestamp(0),
    to_timestamp($3), $4, 1, 0, now(), $5::bigint, $5::bigint,
    CASE WHEN $5::bigint IS NULL THEN NULL ELSE now() END, 1)
"""


@pytest.fixture
async def parts(database: str) -> AsyncIterator[Reading]:
    """Contracts that were read once."""
    async with reading(database) as parts:
        await parts.watch.read_all()
        yield parts


@pytest.fixture
async def http(parts: Reading) -> AsyncIterator[httpx.AsyncClient]:
    async with running_builders(parts.states) as http:
        yield http


async def built(http: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_saver_deposits_announces_and_withdraws_by_what_the_api_builds(
    parts: Reading, http: httpx.AsyncClient
) -> None:
    street, chain = parts.street, parts.street.chain
    alice, vault = street.alice, street.contracts.vault

    def shares() -> list[int]:
        return chain.get_method(vault, "get_shares", [address_from(alice.address), 2]).stack

    made = await built(http, DEPOSIT, tranche_id="SURE-SNR", amount_ton="12.5")
    before = chain.balance(alice.address)
    send_as_told(parts, alice, made["transaction"])
    spent = before - chain.balance(alice.address)
    capital = chain.get_method(vault, "get_tranche_state", [2]).stack[1]
    assert capital == 12_500_000_000
    assert int(made["value_nanoton"]) == capital + messages.DEPOSIT_GAS
    assert capital < spent < capital + messages.DEPOSIT_GAS, "what gas does not use of it came back"
    owned = shares()[0]
    assert owned > 0

    made = await built(http, REQUEST, tranche_id="SURE_SNR", shares=str(owned))
    send_as_told(parts, alice, made["transaction"])
    _, requested, available_at, expires_at = shares()
    assert requested == owned
    state = await parts.states.read("main")
    assert f"{state.withdraw_delay_s} s later and for {state.withdraw_window_s} s" in made["action"]
    assert expires_at - available_at == state.withdraw_window_s

    made = await built(http, WITHDRAW, tranche_id="SURE-SNR", sender=format_friendly(alice.address))
    assert made["transaction"]["from"] == alice.address
    send_as_told(parts, alice, made["transaction"])
    assert shares()[0] == owned, "too early: the vault refused, and nothing changed"
    chain.advance_time(state.withdraw_delay_s)
    before = chain.balance(alice.address)
    send_as_told(parts, alice, made["transaction"])
    assert shares() == [0, 0, 0, 0]
    assert 0.9 * capital < chain.balance(alice.address) - before < capital


async def test_no_two_messages_are_alike_and_each_ones_number_comes_back(
    parts: Reading, http: httpx.AsyncClient
) -> None:
    street, chain = parts.street, parts.street.chain
    await parts.execute(POLICY, street.contracts.factory, 1, 1.0, "active", None)
    seen = set()
    for path, body in (
        (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": 2}),
        (REQUEST, {"tranche_id": "SURE-SNR", "shares": 1}),
        (WITHDRAW, {"tranche_id": "SURE-SNR"}),
        ("/api/v2/policies/1/expire", {}),
    ):
        for _ in range(3):
            made = await built(http, path, **body)
            (message,) = made["transaction"]["messages"]
            sent = Cell.one_from_boc(base64.b64decode(message["payload"]))
            seen.add((bytes(sent.hash).hex(), query_of(sent)))
            assert made["payload_hash"] == bytes(sent.hash).hex()
    assert len({hash_ for hash_, _ in seen}) == len({query for _, query in seen}) == 12
    assert messages.deposit(1).hash == messages.deposit(1, query_id=0).hash, "who says nothing gets the same as ever"

    for path, body in (
        (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": 2}),
        (REQUEST, {"tranche_id": "SURE-SNR", "shares": 1}),
    ):
        made = await built(http, path, **body)
        (message,) = made["transaction"]["messages"]
        send_as_told(parts, street.alice, made["transaction"])
        newest = read_transaction(chain.transactions(street.alice.address, limit=1)[0].boc)
        assert newest.in_message is not None
        excess = read_message(newest.in_message).body.begin_parse()
        sent = Cell.one_from_boc(base64.b64decode(message["payload"]))
        assert (excess.load_uint(32), excess.load_uint(64)) == (messages.Op.EXCESSES, query_of(sent))


def query_of(body: Cell) -> int:
    """The number after the operation."""
    data = body.begin_parse()
    data.skip_bits(32)
    return data.load_uint(64)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


READ = "UPDATE factory_state SET read_at = to_timestamp($1), chain_time_offset_s = $2"


async def test_what_is_built_on_a_chain_that_runs_fast_can_be_sent_in_time(parts: Reading) -> None:
    time, speed = Time(), 300
    chain, began, ahead_s = ChainClock(time), time.now, 40_000.0
    async with running_builders(parts.states, chain) as http:

        async def ends() -> int:
            made = await built(http, DEPOSIT, tranche_id="SURE-SNR", amount_ton=2)
            shown = datetime.fromisoformat(made["valid_until"]).timestamp()
            assert shown == made["transaction"]["validUntil"]
            return made["transaction"]["validUntil"]

        await parts.execute(READ, began, ahead_s)
        assert await ends() == began + ahead_s + VALID_FOR_S, "how fast it runs is not known yet"
        time.now = began + 10
        await parts.execute(READ, time.now, ahead_s + 10 * (speed - 1))
        time.now = began + 18
        chain_now = time.now + ahead_s + 18 * (speed - 1)
        assert await ends() == chain_now + VALID_FOR_S * speed, "as long as ever, for the wallet"

        await parts.execute(POLICY, parts.street.contracts.factory, 1, 0.0, "active", None)
        for late_s, status in ((1, 422), (0, 200)):
            await parts.execute("UPDATE factory_state SET frozen_until = $1", int(chain_now) + late_s)
            assert (await http.post(WITHDRAW, json={"tranche_id": "SURE-SNR"})).status_code == status
            until = "UPDATE policies SET expiry_time = to_timestamp($1 - s.claim_grace_s) FROM factory_state s"
            await parts.execute(until, chain_now + late_s)
            assert (await http.post("/api/v2/policies/1/expire")).status_code == status

        await parts.execute(READ, began + 16, ahead_s + 1e9)
        assert await ends() <= began + 18 + 1e9 * 2 + MOST_AHEAD_S, "a leap is no speed for ever"


async def test_what_is_built_on_a_chain_that_is_behind_ends_as_soon_there(parts: Reading) -> None:
    time = Time()
    async with running_builders(parts.states, ChainClock(time)) as http:
        await parts.execute(READ, time.now, -5_000.0)
        made = await built(http, WITHDRAW, tranche_id="SURE-SNR")
        assert made["transaction"]["validUntil"] == time.now - 5_000 + VALID_FOR_S


async def test_builders_and_quotes_go_by_one_clock(database: str) -> None:
    async with running_shop(database) as shop:
        await shop.story.see_factory(public_key=PUBLIC_KEY, chain_time_offset_s=40_000.0, seqno=2)
        await shop.story.conn.execute("UPDATE factory_state SET read_at = read_at - interval '10 s'")
        await shop.look()
        assert (await shop.ask(buyer=BUYER)).status_code == 200
        await shop.story.see_factory(public_key=PUBLIC_KEY, chain_time_offset_s=42_990.0, seqno=3)
        made = await built(shop.http, DEPOSIT, tranche_id="SURE-SNR", amount_ton=2)
        state = await shop.story.conn.fetchrow("SELECT extract(epoch FROM read_at)::float8 AS at FROM factory_state")
        ends = made["transaction"]["validUntil"]
        assert ends > state["at"] + 42_990 + 100 * VALID_FOR_S, "the quote had seen the first of two readings"


async def test_a_refused_deposit_comes_back(parts: Reading, http: httpx.AsyncClient) -> None:
    made = await built(http, DEPOSIT, tranche_id="SURE-EQT", amount_ton=5)
    parts.order(parts.street.contracts.vault, messages.pause())
    before = parts.street.chain.balance(parts.street.alice.address)
    send_as_told(parts, parts.street.alice, made["transaction"])
    lost = before - parts.street.chain.balance(parts.street.alice.address)
    assert 0 < lost < NANO_PER_TON // 20


EXACT: list[tuple[dict[str, Any], int]] = [
    ({"amount_ton": "1"}, NANO_PER_TON),
    ({"amount_ton": 1.1}, 1_100_000_000),
    ({"amount_ton": "1.000000001"}, 1_000_000_001),
    ({"amount_ton": "1.0000000000"}, NANO_PER_TON),
    ({"amount_nanoton": "1000000001"}, 1_000_000_001),
    ({"amount_nanoton": 1_000_000_001}, 1_000_000_001),
    ({"amount_ton": "9000000000.123456789"}, 9_000_000_000_123_456_789),
]


async def test_amounts_are_exact(http: httpx.AsyncClient) -> None:
    for amount, nano in EXACT:
        made = await built(http, DEPOSIT, tranche_id="SURE-BTC", **amount)
        (message,) = made["transaction"]["messages"]
        assert message["amount"] == made["value_nanoton"] == str(nano + messages.DEPOSIT_GAS), amount
        assert made["minimum_value_nanoton"] == str(NANO_PER_TON + messages.DEPOSIT_GAS)


async def test_every_answer_says_all_there_is_to_know(parts: Reading, http: httpx.AsyncClient) -> None:
    vault = parts.street.contracts.vault
    for path, body in (
        (DEPOSIT, {"amount_ton": 2}),
        (REQUEST, {"shares": 1}),
        (WITHDRAW, {}),
    ):
        for tranche_id in TRANCHE_IDS:
            answer = await http.post(path, json={"tranche_id": tranche_id, **body})
            assert answer.headers["cache-control"] == "no-store"
            made = answer.json()
            (message,) = made["transaction"]["messages"]
            assert message["address"] == format_friendly(vault, bounceable=True, test_only=True)
            assert (made["contract"], made["vault_id"], made["network_id"]) == (vault, "main", -3)
            assert made["transaction"]["network"] == "-3"
            assert "from" not in made["transaction"]
            assert (made["stale"], made["data_age_seconds"] < STALE_AFTER_S) == (False, True)
            assert made["link"].startswith(f"ton://transfer/{message['address']}?amount={message['amount']}&bin=")
            assert len(bytes.fromhex(made["payload_hash"])) == 32
            assert tranche_id in made["action"]
            assert "gas" in made["returns"]


BAD: list[tuple[str, dict[str, Any], str]] = [
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "0.999999999"}, "at least 1 TON"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": -5}, "at least 1 TON"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_nanoton": 0}, "at least 1 TON"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_nanoton": str(BIGINT_MAX)}, "at most"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "NaN"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "-Infinity"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "1e400"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "1e-999999"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "1e-99999999999"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "1.0000000001"}, "9 decimals"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "1." + "0" * 27 + "1"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "1." + "0" * 3_000 + "1"}, "decimal digits"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": True}, "amount_ton"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": "much"}, "amount_ton"),
    (DEPOSIT, {"tranche_id": "SURE-SNR"}, "either amount_ton or amount_nanoton"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": 1, "amount_nanoton": 1}, "either"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": 5, "sender": "me"}, "not a TON address"),
    (DEPOSIT, {"tranche_id": "SURE-SNR", "amount_ton": 5, "tranche": 1}, "unknown field"),
    (DEPOSIT, {"amount_ton": 5}, "tranche_id"),
    (REQUEST, {"tranche_id": "SURE-SNR", "shares": 0}, "above 0"),
    (REQUEST, {"tranche_id": "SURE-SNR", "shares": str(2**128)}, "shares"),
    (REQUEST, {"tranche_id": "SURE-SNR", "shares": "1.5"}, "shares"),
    (REQUEST, {"tranche_id": "SURE-SNR", "shares": -1}, "shares"),
    (REQUEST, {"tranche_id": "SURE-SNR"}, "shares"),
    (WITHDRAW, {}, "tranche_id"),
    (WITHDRAW, {"tranche_id": 2}, "tranche_id"),
]


async def test_bad_input_is_named(http: httpx.AsyncClient) -> None:
    for path, body, part in BAD:
        answer = await http.post(path, json=body)
        assert answer.status_code == 400, (path, body, answer.text)
        assert part in answer.json()["detail"], (path, body)


WRITTEN: list[tuple[str, int | str]] = [
    ("1e1", 10 * NANO_PER_TON),
    ("10e-1", NANO_PER_TON),
    ("1.000000001", 1_000_000_001),
    ("9000000000.123456789", 9_000_000_000_123_456_789),
    ("1.00000000000000000001", "9 decimals"),
    ("0.99999999999999999999", "9 decimals"),
    ("1e400", "finite"),
    ("1e1000000", "finite"),
    ("-1e999999999999999999", "finite"),
    ("1e-400", "9 decimals"),
    ("1e-1000000", "9 decimals"),
    ("1e99999999999999999999", "amount_ton"),
    ('"5_0"', "decimal digits"),
    ('"\u0665"', "decimal digits"),
    ('"\uff15"', "decimal digits"),
    ('" 5 "', "decimal digits"),
    ('"5\\n"', "decimal digits"),
    ('"+5"', "decimal digits"),
    ('"5."', "decimal digits"),
    ('"5e1"', "decimal digits"),
    ('""', "amount_ton"),
]
"""Amounts of TON as they stand in the bytes of a body."""


async def test_an_amount_is_what_its_digits_say_or_is_refused(http: httpx.AsyncClient) -> None:
    for written, expected in WRITTEN:
        body = f'{{"tranche_id": "SURE-SNR", "amount_ton": {written}}}'
        answer = await http.post(DEPOSIT, content=body.encode())
        if isinstance(expected, int):
            assert answer.status_code == 200, (written, answer.text)
            assert answer.json()["value_nanoton"] == str(expected + messages.DEPOSIT_GAS), written
        else:
            assert answer.status_code == 400, (written, answer.text)
            assert expected in answer.json()["detail"], (written, answer.text)
            assert [error["field"] for error in answer.json()["errors"]] == ["amount_ton"]


async def test_an_unknown_tranche_is_answered_with_those_there_are(http: httpx.AsyncClient) -> None:
    for path, more in ((DEPOSIT, {"amount_ton": 1}), (REQUEST, {"shares": 1}), (WITHDRAW, {})):
        answer = await http.post(path, json={"tranche_id": "SURE-XXX", **more})
        assert answer.status_code == 400
        assert answer.json()["valid_ids"] == list(TRANCHE_IDS)


async def test_a_body_that_is_none_or_too_large_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.post(DEPOSIT, content=b"{")).status_code == 400
    assert (await http.post(DEPOSIT, content=b"[" * 3_000)).status_code == 400
    assert (await http.post(DEPOSIT)).status_code == 400
    assert (await http.post(DEPOSIT, content=b" " * 10_000)).status_code == 413
    assert (await http.get(DEPOSIT)).status_code == 405


async def test_what_the_vault_is_known_to_refuse_now_is_not_built(parts: Reading, http: httpx.AsyncClient) -> None:
    bodies = {
        DEPOSIT: {"tranche_id": "SURE-SNR", "amount_ton": 1},
        REQUEST: {"tranche_id": "SURE-SNR", "shares": 1},
        WITHDRAW: {"tranche_id": "SURE-SNR"},
    }
    await parts.execute("UPDATE factory_state SET chain_time_offset_s = 0")
    for change, word, refused in (
        ("vault_paused = true", "paused", {DEPOSIT}),
        ("frozen_until = extract(epoch FROM now())::bigint + 600", "frozen", {WITHDRAW}),
        ("claims_due = 1", "holds back a claim", {DEPOSIT, WITHDRAW}),
        ("paused = true, frozen_until = extract(epoch FROM now())::bigint - 1", "", set()),
    ):
        await parts.execute(f"UPDATE factory_state SET {change}")
        for path, body in bodies.items():
            answer = await http.post(path, json=body)
            assert answer.status_code == (422 if path in refused else 200), (change, path)
            if path in refused:
                assert answer.json()["code"] == "refused_now"
                assert word in answer.json()["detail"]
        await parts.execute("UPDATE factory_state SET vault_paused = false, paused = false, frozen_until = 0")
        await parts.execute("UPDATE factory_state SET claims_due = 0")


async def test_an_old_reading_is_used_and_said_to_be_old(parts: Reading, http: httpx.AsyncClient) -> None:
    await parts.execute("UPDATE factory_state SET read_at = read_at - make_interval(secs => $1)", STALE_AFTER_S + 1)
    made = await built(http, WITHDRAW, tranche_id="SURE-SNR")
    assert made["stale"] is True
    assert made["data_age_seconds"] > STALE_AFTER_S


async def test_another_networks_sender_is_refused_on_mainnet(parts: Reading, http: httpx.AsyncClient) -> None:
    sender = format_friendly(parts.street.alice.address, bounceable=False, test_only=True)
    made = await built(http, WITHDRAW, tranche_id="SURE-SNR", sender=sender)
    assert made["transaction"]["from"] == parts.street.alice.address
    await parts.execute("UPDATE factory_state SET network_id = -239")
    answer = await http.post(WITHDRAW, json={"tranche_id": "SURE-SNR", "sender": sender})
    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_network")
    made = await built(http, WITHDRAW, tranche_id="SURE-SNR", sender=parts.street.alice.address)
    assert made["transaction"]["network"] == "-239"
    assert not Address(made["transaction"]["messages"][0]["address"]).is_test_only


async def test_an_unknown_vault_is_not_found_and_one_that_was_not_read_is_not_ready(database: str) -> None:
    async with reading(database, follows=False) as parts, running_builders(parts.states) as http:
        body = {"tranche_id": "SURE-SNR"}
        answer = await http.post(WITHDRAW, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "Retry-After" in answer.headers
        await follow(database, parts.street.contracts.vault, parts.street.contracts.factory)
        assert (await http.post(WITHDRAW, json=body)).status_code == 503
        await parts.watch.read_all()
        assert (await http.post(WITHDRAW, json=body)).status_code == 200
        answer = await http.post(WITHDRAW, json=body | {"vault_id": "other"})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_vault")


async def test_without_a_database_the_builders_are_unavailable() -> None:
    pool = LazyPool("postgresql://nobody@127.0.0.1:1/nothing", role=ROLE_OF["api"])
    async with running_builders(FactoryStates(pool)) as http:
        answer = await http.post(WITHDRAW, json={"tranche_id": "SURE-SNR"})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "127.0.0.1" not in answer.text


# ---- ending a policy


async def test_anyone_ends_a_policy_by_what_the_api_builds_once_its_time_to_claim_is_over(
    parts: Reading, http: httpx.AsyncClient
) -> None:
    street, factory = parts.street, parts.street.contracts.factory
    street.fill()
    policy_id = street.buy(100)
    end = street.chain.get_method(factory, "get_policy", [policy_id]).stack[9]
    await parts.execute(POLICY, factory, policy_id, float(end), "active", None)
    grace = (await parts.read()).claim_grace_s
    street.chain.advance_time(end + grace - street.chain.now - 100)
    await parts.read()
    answer = await http.post(f"/api/v2/policies/{policy_id}/expire")
    assert (answer.status_code, answer.json()["code"]) == (422, "refused_now")
    shown = datetime.fromtimestamp(end + grace, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"Policy {policy_id} can be ended from {shown} on." in answer.json()["detail"]
    street.chain.advance_time(100)
    await parts.read()
    made = await built(http, f"/api/v2/policies/{policy_id}/expire", sender=street.claims.address)
    assert made["contract"] == factory
    assert parts.street.chain.get_method(factory, "get_policy", [policy_id]).succeeded
    send_as_told(parts, street.claims, made["transaction"])
    assert not parts.street.chain.get_method(factory, "get_policy", [policy_id]).succeeded
    assert street.chain.get_method(street.contracts.vault, "get_policy_coverage", [policy_id]).stack == [0]


async def test_a_policy_that_cannot_be_ended_is_refused_with_the_reason(
    parts: Reading, http: httpx.AsyncClient
) -> None:
    factory = parts.street.contracts.factory
    for number, status in ((1, "claimed"), (2, "expired")):
        await parts.execute(POLICY, factory, number, 1.0, status, 1)
    await parts.execute(POLICY, factory, 3, 1.0, "active", None)
    answers = {number: await http.post(f"/api/v2/policies/{number}/expire") for number in (1, 2, 3, 4)}
    assert [answer.status_code for answer in answers.values()] == [422, 422, 200, 404]
    assert "it is claimed" in answers[1].json()["detail"]
    assert "it is expired" in answers[2].json()["detail"]
    assert answers[4].json()["code"] == "unknown_policy"
    await parts.execute("UPDATE factory_state SET paused = true")
    assert "paused" in (await http.post("/api/v2/policies/3/expire")).json()["detail"]
    for bad in ("-1", str(2**63), "x"):
        assert (await http.post(f"/api/v2/policies/{bad}/expire")).status_code in (400, 404)
