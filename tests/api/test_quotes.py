"""Quotes over HTTP, over a real database: prices, refusals, signed purchases, and where the figures are from."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from nacl.signing import VerifyKey
from pytoniq_core.boc.cell import Cell

from api.shopping import ASKED, BUYER, PATH, PUBLIC_KEY, SEED, Shop, running_shop
from core import independent_prices as known
from db.chain_story import FACTORY
from services.signing import running_signer
from tonsurance.api.server import bind_socket
from tonsurance.api.settings import ApiSettings
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.messages import REQUEST_GAS
from tonsurance.core.params import build_params
from tonsurance.core.products import find_product

SELL_NOTHING = ("quotes", "blockchain_events")
OTHER_PAGE = {"Origin": "http://elsewhere.example"}
"""What comes from a page of another origin takes the framework's way."""


@pytest.fixture
async def shop(database: str) -> AsyncIterator[Shop]:
    async with running_shop(database) as running:
        yield running


def check_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The body of an error of this kind, about this field."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["error"]) == (status, code, body["detail"])
    assert len(body["request_id"]) == 16
    if field is not None:
        assert [error["field"] for error in body["errors"]] == [field], body
    return body


def numbers_in(value: Any) -> Iterator[float]:
    """Every JSON number."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(part)
    elif isinstance(value, float):
        yield value


async def test_the_documented_example_costs_19_73_in_both_currencies_with_all_that_it_is_made_of(shop: Shop) -> None:
    answer = await shop.ask()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    quote = answer.json()
    assert (quote["premium"], quote["premium_usd"]) == (19.73, "19.73")
    assert quote["breakdown"] == {
        "base_rate": 0.008,
        "chain_multiplier": 1.0,
        "stablecoin_adjustment": 0.0,
        "total_rate": 0.008,
        "coverage_amount": 10000.0,
        "coverage_amount_usd": "10000",
        "duration_days": 90,
        "list_premium_nanoton": "7890410959",
        "minimum_applied": None,
    }
    assert (quote["coverage_nanoton"], quote["premium_nanoton"]) == ("4000000000000", "7890410959")
    assert quote["product_hash"] == "0x8f2e7ac6ea8a786f67e9d488138bdf6bfaac0545bf00a1401ca7ba36d8829918"
    assert (quote["trigger_bps"], quote["floor_bps"], quote["product_key"]) == (9700, 9000, 0)
    assert (quote["ton_price"]["usd"], quote["ton_price"]["source"]) == ("2.50", "test")
    assert quote["technical"]["premium_usd"] == "102.33"
    assert quote["capacity"] == {
        "sufficient": True,
        "available_ton": 30000.0,
        "available_nanoton": str(30_000 * 10**9),
        "binding_limit": "max_policy_percent",
        "binding_tranche": None,
    }
    assert quote["on_sale"] == {"on_sale": True, "reasons": []}
    assert [quote[name] for name in ("buyer", "transaction", "payload_hash", "link", "value_nanoton")] == [None] * 5
    assert (quote["valid_for_s"], quote["cover_starts_after_s"], quote["params_version"]) == (300, 86_400, 1)
    assert (quote["as_of"]["lt"], quote["stale"]) == ("1", False)
    assert "moves with the price of TON" in quote["notice"]
    assert await shop.count() == 0


async def test_all_630_products_cost_what_independent_arithmetic_says_or_are_refused_with_the_reason(
    shop: Shop,
) -> None:
    right = refused = 0
    for coverage_type, chain, coin in known.NAMES:
        answer = await shop.ask(
            coverage_type=coverage_type, chain=chain, stablecoin=coin, coverage_amount="12345.67", duration_days=77
        )
        reason = known.invalid_reason(coverage_type, chain)
        if reason is not None:
            assert reason in check_problem(answer, 422, "invalid_product")["detail"]
            refused += 1
            continue
        quote, dollars = answer.json(), known.list_premium(coverage_type, chain, coin, "12345.67", 77)
        assert answer.status_code == 200, answer.text
        assert quote["premium_usd"] == known.to_cents(dollars)
        assert quote["premium_nanoton"] == str(known.charged_nano(dollars, "12345.67", 77, "2.5"))
        assert quote["coverage_nanoton"] == str(known.cover_nano("12345.67", "2.5"))
        assert (quote["product_hash"], quote["product_key"]) == (
            known.product_hash(coverage_type, chain, coin),
            known.product_key(coverage_type, chain, coin),
        )
        right += 1
    assert (right, refused) == (560, 70)


async def test_an_amount_is_read_exactly_as_a_number_and_as_a_text(shop: Shop) -> None:
    for written, digits in (("12345.678901", "12345.678901"), ("1e4", "10000"), ("49999999.000001", "49999999.000001")):
        as_number = await shop.http.post(PATH, content=json.dumps(ASKED).replace("10000", written))
        as_text = await shop.ask(coverage_amount=digits)
        assert as_number.status_code == 200, as_number.text
        for name in ("premium_nanoton", "coverage_nanoton", "breakdown"):
            assert as_number.json()[name] == as_text.json()[name]


async def test_both_ways_through_the_server_answer_alike(shop: Shop) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        body = json.dumps(ASKED).encode()
        for part in (body[:30], body[30:]):
            yield part

    first = await shop.ask()
    others = [await shop.ask(headers=OTHER_PAGE), await shop.http.post(PATH, content=in_pieces())]
    changing = {"quote_id", "issued_at", "valid_until", "timestamp", "cover_starts", "ton_price"}
    for other in others:
        assert other.headers["content-type"] == first.headers["content-type"]
        assert other.headers["cache-control"] == first.headers["cache-control"]
        assert list(other.json()) == list(first.json())
        assert {k: v for k, v in other.json().items() if k not in changing} == {
            k: v for k, v in first.json().items() if k not in changing
        }
    for bad in ({"chain": "Moon"}, {"coverage_type": "oracle", "chain": "Bitcoin"}, {"duration_days": "90"}):
        quick, routed = await shop.ask(**bad), await shop.ask(headers=OTHER_PAGE, **bad)
        assert quick.status_code == routed.status_code
        assert quick.json() | {"request_id": ""} == routed.json() | {"request_id": ""}


ODD_AMOUNTS = [
    "99.99999999999999999", "100.00000000000000000", "100", "50000000.000000001", "50000000.0", "50000000",
    "1e400", "1e1000000", "-1e999999999999999999", "1e-1000000",
    "1e-400", "1e99999999999999999999", "-1e99999999999999999999", "1E4", "1.0e+4", "100000e-1", "-0", "-10000", "0",
    "9007199254740993", "123.4567891", "123.4567890", "true", "null", "[]", "{}", "NaN", "1_0", "010", "10000.", "1e",
    '"10000"', '"10000.5"', '"\u0661\u0660\u0660\u0660\u0660"', '"\uff11\uff10\uff10\uff10\uff10"', '"1_0_000"',
    '" 10000 "', '"10000\\n"', '"+10000"', '"10000."', '".5"', '"1e4"', '"NaN"', '"-10000"', '""', '"10000\\u0000"',
    '"\\u0031\\u0030000"', '"\\u0661\\u0660000"', '"0x2710"', '"' + "1" * 21 + '"', '"1000.' + "0" * 21 + '"',
]  # fmt: skip
"""As they stand in the bytes of a body."""
ODD_DAYS = ["90.0", "9e1", "90.00000000000000000001", '"90"', "1e400", "true", "null", "-1", "9" * 30]
TEXTS_TAKEN = {'"10000"', '"10000.5"', '"\\u0031\\u0030000"'}
CHANGING = {"quote_id", "issued_at", "valid_until", "timestamp", "cover_starts", "ton_price", "request_id"}


def odd_bodies() -> list[bytes]:
    """Bodies that two decoders are likely to read differently."""
    start, _, end = json.dumps(ASKED).partition("10000")
    made = [f"{start}{amount}{end}" for amount in ODD_AMOUNTS]
    made += [f'{start}"\u0661", "coverage_amount": 10000{end}', f'{start}10000, "coverage_amount": "\u0661"{end}']
    plain = f"{start}10000{end}"
    made += [plain.replace('"duration_days": 90', f'"duration_days": {days}') for days in ODD_DAYS]
    made += [f"{start}1e400{end}".replace('"depeg"', '"flood"'), f"{start}1e400{end}".replace('"USDC"', "5")]
    made += [
        "",
        "null",
        "[]",
        "5",
        '"x"',
        "{}",
        "{" * 3000,
        "[" * 3000,
        f"{start}10000{end} x",
        f" {start}10000{end}\n",
    ]
    return [body.encode() for body in made] + [b"\xef\xbb\xbf{}", b"\xff", start.encode() + b'"\xff"' + end.encode()]


def comparable(answer: httpx.Response) -> tuple[Any, ...]:
    """All of an answer but what no two of them share."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    body = {name: value for name, value in answer.json().items() if name not in CHANGING}
    return answer.status_code, body, headers if answer.is_error else headers | {"content-length": ""}


async def test_odd_bodies_are_answered_alike_by_both_ways_and_decoded_alike_for_a_purchase(shop: Shop) -> None:
    for body in odd_bodies():
        quick = await shop.http.post(PATH, content=body)
        routed = await shop.http.post(PATH, content=body, headers=OTHER_PAGE)
        assert comparable(quick) == comparable(routed), body
        assert quick.headers["cache-control"] == "no-store", body
        assert quick.status_code in (200, 400), (body, quick.text)
        if b'"coverage_amount"' in body and body.strip().endswith(b"}"):  # of somebody who can buy nothing
            body = body.strip()[:-1] + b', "buyer": "me"}'
            quick = await shop.http.post(PATH, content=body)
        built = await shop.http.post("/api/v2/policies", content=body)
        assert (built.status_code, built.headers["cache-control"]) == (400, "no-store"), (body, built.text)
        if b"null" not in body and body != b"{}":  # there every field may be left out
            first, second = built.text.replace(" | null", ""), quick.text
            assert json.loads(first) | {"request_id": ""} == json.loads(second) | {"request_id": ""}, body
    assert await shop.count() == 0


async def test_an_amount_is_decimal_digits_or_an_exact_number_on_every_way(shop: Shop) -> None:
    for written in ODD_AMOUNTS:
        content = json.dumps(ASKED).replace("10000", written)
        for headers in ({}, OTHER_PAGE):
            answer = await shop.http.post(PATH, content=content.encode(), headers=headers)
            if written.startswith('"') and written not in TEXTS_TAKEN:
                check_problem(answer, 400, "bad_input", "coverage_amount")
            elif answer.status_code == 200:
                amount = Decimal(answer.json()["breakdown"]["coverage_amount_usd"])
                assert amount == Decimal(json.loads(written, parse_float=Decimal)), written
    for written in ("99.99999999999999999", "50000000.000000001", "1e400", "1e99999999999999999999"):
        for headers in ({}, OTHER_PAGE):
            content = json.dumps(ASKED).replace("10000", written)
            answer = await shop.http.post(PATH, content=content, headers=headers)
            check_problem(answer, 400, "bad_input", "coverage_amount")


async def test_every_error_of_the_quotes_routes_is_kept_out_of_caches(shop: Shop) -> None:
    bad = [
        await shop.http.get("/api/v2/quote/USDX/10000"),
        await shop.http.get("/quote/USDC/10000", params={"days": "many"}),
        await shop.http.get("/quote/USDC/\u0661\u0660\u0660\u0660"),
        await shop.http.post("/api/v2/policies", json={"quote_id": "9", "buyer": BUYER}),
        await shop.ask(headers=OTHER_PAGE, coverage_type="oracle", chain="Bitcoin"),
        await shop.ask(headers=OTHER_PAGE, coverage_type="bridge", chain="Optimism", buyer=BUYER),
        await shop.ask(headers=OTHER_PAGE, coverage_amount=1_000_000, buyer=BUYER),
        await shop.http.post(PATH, content=b" " * 20_000, headers=OTHER_PAGE),
        await shop.http.post(PATH, content=b" " * 20_000),
    ]
    assert [answer.status_code for answer in bad] == [400, 400, 400, 404, 422, 422, 422, 413, 413]
    assert {answer.headers.get("cache-control") for answer in bad} == {"no-store"}


async def test_the_id_of_a_policy_in_a_path_is_ascii_digits(shop: Shop) -> None:
    for bad in ("\u0663", "\uff13", "+3", "1_0", "3.0", "x", "-1", "3%0A", "%203", "9" * 19, "9" * 20):
        for answer in (
            await shop.http.get(f"/api/v2/policies/{bad}"),
            await shop.http.post(f"/api/v2/policies/{bad}/expire"),
        ):
            check_problem(answer, 400, "bad_input", "policy_id")
    check_problem(await shop.http.get("/api/v2/policies/3"), 404, "unknown_policy")


async def test_what_is_charged_is_told_in_dollars_also_where_the_least_premium_applies(shop: Shop) -> None:
    await shop.story.see_price("4.80")
    await shop.look()
    small = (await shop.ask(coverage_amount=200, duration_days=1)).json()
    assert (small["premium"], small["premium_usd"], small["premium_nanoton"]) == (0.0, "0.00", "100000000")
    assert (small["charged_usd"], small["breakdown"]["minimum_applied"]) == ("0.48", "min_executable_premium_ton")
    listed = -(-Decimal(200) * Decimal("0.008") * 10**9 // (365 * Decimal("4.80")))
    assert small["list_premium_nanoton"] == small["breakdown"]["list_premium_nanoton"] == str(listed + 1)
    plain = (await shop.ask()).json()
    assert (plain["premium_usd"], plain["charged_usd"]) == ("19.73", "19.73")
    assert plain["list_premium_nanoton"] == plain["premium_nanoton"]


async def test_a_quote_is_stale_while_nobody_reads_the_chain(shop: Shop) -> None:
    async def stale() -> list[bool]:
        technical = await shop.http.get("/api/v2/quote/USDC/10000")
        return [(await shop.ask()).json()["stale"], technical.json()["stale"]]

    longest = float(str(shop.parts.reads.params.value("risk", "factory_max_age_s")))
    assert await stale() == [False, False]
    await shop.story.see_factory(public_key=PUBLIC_KEY, seqno=2, age_s=longest + 1)
    await shop.look()
    assert await stale() == [True, True]
    await shop.story.see_factory(public_key=PUBLIC_KEY, seqno=3)
    await shop.look()
    assert await stale() == [False, False]
    await shop.story.conn.execute("DELETE FROM factory_state")
    await shop.look()
    assert await stale() == [True, True]


async def test_with_a_buyer_the_quote_is_signed_kept_and_ready_for_the_wallet(shop: Shop) -> None:
    quote = (await shop.ask(buyer=format_friendly(BUYER, test_only=True))).json()
    assert quote["buyer"] == BUYER
    [message] = quote["transaction"]["messages"]
    assert message["amount"] == quote["value_nanoton"] == str(int(quote["premium_nanoton"]) + REQUEST_GAS)
    assert (quote["transaction"]["network"], quote["transaction"]["from"]) == ("-3", BUYER)
    assert quote["link"].startswith(f"ton://transfer/{message['address']}?amount={message['amount']}")
    body = Cell.one_from_boc(base64.b64decode(message["payload"]))
    assert body.hash.hex() == quote["payload_hash"]
    signed = body.begin_parse().load_ref().begin_parse()
    signature, terms = signed.load_bytes(64), signed.load_ref()
    VerifyKey(PUBLIC_KEY).verify(terms.hash, signature)
    slice_ = terms.begin_parse()
    slice_.load_uint(32), slice_.load_int(32), slice_.load_address()
    assert str(slice_.load_uint(64)) == quote["quote_id"]
    slice_.load_uint(24)
    assert str(slice_.load_coins()) == quote["coverage_nanoton"]
    assert str(slice_.load_coins()) == quote["premium_nanoton"]
    assert [slice_.load_uint(16) for _ in range(3)] == [90, 9700, 9000]
    assert slice_.load_address().to_str(is_user_friendly=False) == BUYER
    assert slice_.load_uint(32) == quote["transaction"]["validUntil"]
    receipt = (await shop.http.get(f"/api/v2/quotes/{quote['quote_id']}")).json()
    assert receipt["status"] == "issued"
    verified = (await shop.http.post(f"/api/v2/quotes/{quote['quote_id']}/verify")).json()
    assert (verified["equal"], verified["differences"]) == (True, [])


async def test_a_quote_with_a_buyer_is_not_handed_out_before_it_is_kept(shop: Shop) -> None:
    async with shop.story.conn.transaction():
        await shop.story.conn.execute("LOCK TABLE quotes IN EXCLUSIVE MODE")
        asking = asyncio.create_task(shop.ask(buyer=BUYER))
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'quotes'::regclass AND NOT granted"
        async with asyncio.timeout(60):
            while not await shop.story.conn.fetchval(waiting):
                assert not asking.done()
        assert not asking.done()
        assert (await shop.ask()).status_code == 200  # a price waits for nobody
    answer = await asking
    assert answer.status_code == 200, answer.text
    assert await shop.count() == 1


BAD = [
    ({"coverage_type": "flood"}, "coverage_type"),
    ({"chain": "ethereum"}, "chain"),
    ({"stablecoin": "USDX"}, "stablecoin"),
    ({"coverage_type": 7}, "coverage_type"),
    ({"coverage_type": None}, "coverage_type"),
    ({"duration_days": None}, "duration_days"),
    ({"coverage_amount": 99.99}, "coverage_amount"),
    ({"coverage_amount": "50000000.01"}, "coverage_amount"),
    ({"coverage_amount": -10000}, "coverage_amount"),
    ({"coverage_amount": "NaN"}, "coverage_amount"),
    ({"coverage_amount": "Infinity"}, "coverage_amount"),
    ({"coverage_amount": "1000.0000001"}, "coverage_amount"),
    ({"coverage_amount": "1000." + "0" * 40 + "1"}, "coverage_amount"),
    ({"coverage_amount": "ten"}, "coverage_amount"),
    ({"coverage_amount": True}, "coverage_amount"),
    ({"coverage_amount": [1]}, "coverage_amount"),
    ({"duration_days": 0}, "duration_days"),
    ({"duration_days": 366}, "duration_days"),
    ({"duration_days": 90.5}, "duration_days"),
    ({"duration_days": "90"}, "duration_days"),
    ({"duration_days": True}, "duration_days"),
    ({"duration_days": 10**30}, "duration_days"),
    ({"discount": 1}, "discount"),
]


@pytest.mark.parametrize("headers", [{}, OTHER_PAGE], ids=["quick", "routed"])
async def test_every_input_error_names_its_field(shop: Shop, headers: dict[str, str]) -> None:
    for changes, field in BAD:
        check_problem(await shop.ask(headers=headers, **changes), 400, "bad_input", field)
    for content in (b"", b"{", b"[]", b"\xff\xfe", b'{"coverage_amount": NaN}', b"[" * 5000):
        check_problem(await shop.http.post(PATH, content=content, headers=headers), 400, "bad_input")
    too_long = await shop.http.post(PATH, content=b'{"a":"' + b"x" * 20_000 + b'"}', headers=headers)
    assert (too_long.status_code, too_long.headers["content-type"]) == (413, "application/problem+json")


async def test_a_buyer_is_an_address_of_the_factorys_network(shop: Shop) -> None:
    for wrong in ("alice", "", "0:12", BUYER + "0", format_friendly(BUYER)[:-1] + "A"):
        check_problem(await shop.ask(buyer=wrong), 400, "invalid_address", "buyer")
    check_problem(await shop.ask(buyer=5), 400, "bad_input", "buyer")
    await shop.story.see_factory(public_key=PUBLIC_KEY, network_id=-239, seqno=2)
    await shop.look()
    check_problem(await shop.ask(buyer=format_friendly(BUYER, test_only=True)), 400, "wrong_network", "buyer")
    assert (await shop.ask(buyer=format_friendly(BUYER))).status_code == 200


async def test_200_random_bad_bodies_change_nothing(shop: Shop) -> None:
    dice = random.Random(7)
    before = [await shop.count(table) for table in SELL_NOTHING]
    junk = (None, True, -1, 0, 1e308, "", "x" * 300, [], {}, [[1]], "0:" + "g" * 64, {"a": {"b": 1}}, 10**40, "\u0000")
    good = json.dumps(ASKED | {"buyer": "0:" + "11" * 32}).encode()
    for number in range(200):
        if number % 2:
            body = dict(ASKED | {"buyer": dice.choice(junk) or "no"})
            for name in dice.sample(sorted(body), dice.randint(1, 3)):
                body[name] = dice.choice(junk)
            body[dice.choice(("buyer", "extra"))] = dice.choice(("", "no", 3))
            content = json.dumps(body).encode()
        else:
            cut, byte = dice.randrange(len(good)), dice.choice(b'{}[]",:\x00\xff')
            content = good[:cut] + bytes((byte,)) * dice.randint(1, 9)
        answer = await shop.http.post(PATH, content=content, headers=dice.choice(({}, OTHER_PAGE)))
        assert 400 <= answer.status_code < 500, (content, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert [await shop.count(table) for table in SELL_NOTHING] == before
    assert (await shop.ask()).status_code == 200


async def test_a_quote_follows_the_ton_price_at_once_and_there_is_none_by_an_old_one(shop: Shop) -> None:
    before = (await shop.ask()).json()
    await shop.story.see_price("5")
    await shop.look()
    after = (await shop.ask()).json()
    assert (before["coverage_nanoton"], after["coverage_nanoton"]) == ("4000000000000", "2000000000000")
    assert (before["premium_usd"], after["premium_usd"]) == ("19.73", "19.73")
    assert after["ton_price"]["usd"] == "5"
    await shop.story.conn.execute("UPDATE price_history SET observed_at = observed_at - interval '1000 s'")
    await shop.look()
    for buyer in (None, BUYER):
        stale = await shop.ask(buyer=buyer)
        problem = check_problem(stale, 503, "price_unavailable")
        assert "1000 s old" in problem["detail"] or "1001 s old" in problem["detail"]
        assert stale.headers["retry-after"] == "1"
    check_problem(await shop.ask(chain="Moon"), 400, "bad_input", "chain")  # what is wrong anyway is said first
    await shop.story.conn.execute("DELETE FROM price_history")
    await shop.look()
    assert "never read" in check_problem(await shop.ask(), 503, "price_unavailable")["detail"]
    assert await shop.count() == 0


async def test_a_quote_is_of_one_version_of_the_parameters_and_says_which(shop: Shop) -> None:
    rates = {1: 0.008, 2: 0.016}
    other = build_params({("pricing", "coverage_base_rate_depeg"): rates[2], ("pricing", "base_rate_USDC"): 0.08}, 2)
    both = {1: shop.parts.reads.params, 2: other}
    stop = asyncio.Event()

    async def swap() -> None:
        while not stop.is_set():
            for params in both.values():
                shop.parts.reads.use_params(params)
                await asyncio.sleep(0)

    swapping = asyncio.create_task(swap())
    answers = await asyncio.gather(*(shop.ask(buyer=BUYER if n % 10 == 0 else None) for n in range(150)))
    stop.set()
    await swapping
    seen = set()
    for answer in answers:
        quote = answer.json()
        version = quote["params_version"]
        seen.add(version)
        assert quote["params_hash"] == both[version].hash
        assert quote["breakdown"]["base_rate"] == rates[version]
        assert quote["premium_usd"] == {1: "19.73", 2: "39.45"}[version]
        assert quote["technical"]["factors"]["base_rate"] == {1: 0.04, 2: 0.08}[version]
    assert seen == {1, 2}


async def test_without_room_there_is_a_price_and_for_a_buyer_every_limit_with_the_one_that_binds(shop: Shop) -> None:
    priced = await shop.ask(coverage_amount=100_000)
    assert priced.status_code == 200
    capacity = priced.json()["capacity"]
    assert (capacity["sufficient"], capacity["binding_limit"]) == (False, "max_policy_percent")
    problem = check_problem(await shop.ask(coverage_amount=100_000, buyer=BUYER), 422, "capacity_exceeded")
    assert (problem["binding_limit"], problem["available_nanoton"]) == ("max_policy_percent", str(30_000 * 10**9))
    binding = [limit["name"] for limit in problem["limits"] if limit["binding"]]
    assert binding == ["max_policy_percent"]
    assert {"max_utilization", "product_cap", "chain_cap"} < {limit["name"] for limit in problem["limits"]}
    assert await shop.count() == 0


async def test_the_room_that_a_sale_takes_is_missing_in_the_next_quote(shop: Shop) -> None:
    for ton in (30_000, 30_000, 30_000, 30_000, 29_000):
        await shop.story.sell(find_product("depeg", "Ethereum", "USDC"), ton * 10**9)
    await shop.look()
    capacity = (await shop.ask()).json()["capacity"]
    assert (capacity["available_nanoton"], capacity["binding_limit"]) == (str(1_000 * 10**9), "product_cap")
    assert (await shop.ask(stablecoin="DAI")).json()["capacity"]["binding_limit"] == "max_policy_percent"


async def test_what_is_not_on_sale_has_a_price_with_the_reasons_and_no_purchase(shop: Shop) -> None:
    bridge = {"coverage_type": "bridge", "chain": "Optimism"}
    priced = (await shop.ask(**bridge)).json()
    assert (priced["on_sale"]["on_sale"], priced["transaction"]) == (False, None)
    assert priced["on_sale"]["reasons"] == ["no bridge from Optimism is watched"]
    problem = check_problem(await shop.ask(buyer=BUYER, **bridge), 422, "not_on_sale")
    assert problem["reasons"] == priced["on_sale"]["reasons"]
    await shop.story.see_factory(public_key=PUBLIC_KEY, paused=True, seqno=2)
    await shop.look()
    both = check_problem(await shop.ask(buyer=BUYER, **bridge), 422, "not_on_sale")
    assert both["reasons"] == ["no bridge from Optimism is watched", "the policy factory is paused"]
    assert await shop.count() == 0


async def test_only_a_key_that_the_factory_accepts_signs(shop: Shop) -> None:
    await shop.story.see_factory(public_key=bytes(32), seqno=2)
    await shop.look()
    problem = check_problem(await shop.ask(buyer=BUYER), 503, "signer_unavailable")
    assert PUBLIC_KEY.hex()[:8] not in problem["detail"]
    assert (await shop.ask()).status_code == 200
    assert await shop.count() == 0


@asynccontextmanager
async def selling_ahead(dsn: str, path: Path, *options: str) -> AsyncIterator[Shop]:
    """A shop whose chain's clock is ahead by hours, with the signer's command in a process of its own."""
    async with (
        running_signer(path, SEED, FACTORY, *options) as signer,
        running_shop(dsn, sells=False, signer=signer) as shop,
    ):
        await shop.story.see_factory(public_key=PUBLIC_KEY, chain_time_offset_s=40_000.0, seqno=2)
        await shop.look()
        yield shop


async def test_a_chain_that_is_ahead_sells_by_a_signer_that_is_told_so(database: str, tmp_path: Path) -> None:
    async with selling_ahead(database, tmp_path / "signer", "--any-clock") as shop:
        answer = await shop.ask(buyer=BUYER)
        assert answer.status_code == 200, answer.text
        assert await shop.story.conn.fetchval("SELECT deadline FROM quotes") > time.time() + 40_000
        verified = await shop.http.post(f"/api/v2/quotes/{answer.json()['quote_id']}/verify")
        assert verified.json()["equal"], verified.text


async def test_what_the_signer_refuses_is_no_crash_and_somebody_has_to_look_at_it(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with selling_ahead(database, tmp_path / "signer") as shop:
        for headers in ({}, OTHER_PAGE):
            capsys.readouterr()
            problem = check_problem(await shop.ask(buyer=BUYER, headers=headers), 503, "signing_refused")
            assert "deadline" not in problem["detail"]
            told = [line for line in "".join(capsys.readouterr()).splitlines() if "signing_refused" in line]
            assert ["deadline" in line and "[error" in line for line in told] == [True], told
        assert await shop.count() == 0


async def test_without_a_key_there_are_prices_only(database: str) -> None:
    async with running_shop(database, sells=False) as shop:
        assert (await shop.ask()).status_code == 200
        check_problem(await shop.ask(buyer=BUYER), 503, "signer_unavailable")
        assert await shop.count() == 0


async def test_before_the_factory_was_read_nobody_can_buy(shop: Shop) -> None:
    await shop.story.conn.execute("DELETE FROM factory_state")
    await shop.look()
    priced = (await shop.ask()).json()
    assert (priced["on_sale"]["on_sale"], priced["cover_starts"]) == (False, None)
    check_problem(await shop.ask(buyer=BUYER), 503, "not_ready")


async def test_ids_never_repeat_and_all_numbers_are_numbers(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.ask(coverage_amount=100 + n, duration_days=1 + n) for n in range(200)))
    quotes = [answer.json() for answer in answers]
    ids = {quote["quote_id"] for quote in quotes}
    assert len(ids) == 200
    assert all(0 < int(one) < 2**63 for one in ids)
    assert max(map(int, ids)) > 2**61
    assert all(math.isfinite(number) for quote in quotes for number in numbers_in(quote))
    assert {quote["breakdown"]["minimum_applied"] for quote in quotes} == {"min_executable_premium_ton", None}


async def test_a_kept_quote_can_be_built_again_until_it_ends(shop: Shop) -> None:
    quote = (await shop.ask(buyer=BUYER)).json()
    again = await shop.http.post("/api/v2/policies", json={"quote_id": quote["quote_id"], "buyer": BUYER})
    assert again.status_code == 200, again.text
    same = ("quote_id", "buyer", "transaction", "payload_hash", "link", "value_nanoton", "valid_until", "product_hash")
    assert {name: again.json()[name] for name in same} == {name: quote[name] for name in same}
    new = (await shop.http.post("/api/v2/policies", json=ASKED | {"buyer": BUYER})).json()
    assert new["quote_id"] != quote["quote_id"]
    assert new["premium_nanoton"] == quote["premium_nanoton"]
    assert await shop.count() == 2
    await shop.story.see_factory(public_key=PUBLIC_KEY, chain_time_offset_s=301.0, seqno=2)
    await shop.look()
    expired = await shop.http.post("/api/v2/policies", json={"quote_id": quote["quote_id"], "buyer": BUYER})
    check_problem(expired, 422, "quote_expired")


async def test_a_kept_quote_is_built_for_its_buyer_alone_and_tells_nobody_else_who_that_is(shop: Shop) -> None:
    quote = (await shop.ask(buyer=BUYER)).json()

    async def build(**body: Any) -> httpx.Response:
        return await shop.http.post("/api/v2/policies", json={"quote_id": quote["quote_id"]} | body)

    missing = await build()
    check_problem(missing, 400, "bad_input", "buyer")
    nobody = await build(quote_id="123456", buyer=BUYER)
    other = await build(buyer="0:" + "5f" * 32)
    check_problem(await build(buyer="me"), 400, "invalid_address", "buyer")
    answers = [{**check_problem(one, 404, "unknown_quote"), "request_id": None} for one in (nobody, other)]
    assert answers[0] == answers[1]
    for refused in (missing, nobody, other):
        assert not any(word in refused.text for word in (BUYER[2:], quote["payload_hash"], format_friendly(BUYER)))
    for form in (BUYER, format_friendly(BUYER), format_friendly(BUYER, bounceable=False, test_only=True)):
        assert (await build(buyer=form)).json()["transaction"] == quote["transaction"]
    await shop.story.see_factory(public_key=bytes(32), seqno=2)
    await shop.look()
    check_problem(await build(buyer=BUYER), 422, "quote_expired")
    check_problem(await build(buyer="0:" + "5f" * 32), 404, "unknown_quote")


async def test_a_purchase_is_asked_for_by_an_id_or_by_all_its_fields(shop: Shop) -> None:
    async def build(**body: Any) -> httpx.Response:
        return await shop.http.post("/api/v2/policies", json=body)

    check_problem(await build(quote_id="123456", buyer=BUYER), 404, "unknown_quote")
    check_problem(await build(quote_id="9" * 19, buyer=BUYER), 404, "unknown_quote")
    check_problem(await build(quote_id=7), 400, "bad_input", "quote_id")
    check_problem(await build(quote_id="-7"), 400, "bad_input", "quote_id")
    check_problem(await build(), 400, "bad_input", "coverage_type")
    check_problem(await build(**ASKED), 400, "bad_input", "buyer")
    check_problem(await build(**ASKED, buyer=BUYER, quote_id="7"), 400, "bad_input", "coverage_type")
    check_problem(await build(**ASKED, buyer="me"), 400, "invalid_address", "buyer")
    check_problem(await build(**ASKED | {"coverage_amount": 1e6}, buyer=BUYER), 422, "capacity_exceeded")
    assert await shop.count() == 0


async def test_the_technical_premium_shows_each_factor_under_both_names_of_its_route(shop: Shop) -> None:
    plain = (await shop.http.get("/api/v2/quote/USDC/10000")).json()
    alias = (await shop.http.get("/quote/USDC/10000")).json()
    assert plain | {"timestamp": 0} == alias | {"timestamp": 0}
    assert (plain["premium_usd"], plain["list_premium_usd"], plain["duration_days"]) == ("102.33", "19.73", 90)
    asked = {"days": 180, "trigger": "0.95", "stress": "High", "chain": "Solana", "coverage_type": "oracle"}
    dear = (await shop.http.get("/api/v2/quote/USDT/250000", params=asked)).json()
    factors = dear["technical"]["factors"]
    rate = 0.06 * 1.162 * 0.95 * (1 - 0.02 / 0.07 * 0.5) * 1.7
    assert math.isclose(factors["annual_rate"], rate)
    assert math.isclose(dear["premium"], round(250_000 * rate * 180 / 365, 2))
    assert (factors["size"], factors["stress"], dear["technical"]["market"]["stress"]) == (0.95, 1.7, "High")
    assert sum(part["part"] for part in factors["risk"].values()) == pytest.approx(factors["risk_adjustment"])
    assert await shop.count() == 0


async def test_what_has_no_technical_premium_is_refused(shop: Shop) -> None:
    async def look(path: str, **params: Any) -> httpx.Response:
        return await shop.http.get(f"/api/v2/quote/{path}", params=params)

    check_problem(await look("USDX/10000"), 400, "bad_input", "stablecoin")
    for amount in ("ten", "1e9", "NaN", "-5", "0x10", "1_000"):
        check_problem(await look(f"USDC/{amount}"), 400, "bad_input", "amount")
    check_problem(await look("USDC/5"), 400, "bad_input", "coverage_amount")
    check_problem(await look("USDC/10000", days=0), 400, "bad_input", "duration_days")
    check_problem(await look("USDC/10000", days="many"), 400, "bad_input", "days")
    for trigger in ("0.5", "1", "nan"):
        check_problem(await look("USDC/10000", trigger=trigger), 400, "bad_input", "trigger")
    check_problem(await look("USDC/10000", stress="calm"), 400, "bad_input", "stress")
    check_problem(await look("USDC/10000", coverage_type="bridge", chain="Bitcoin"), 422, "invalid_product")


async def test_quotes_are_counted_by_product_and_outcome_under_bounded_names(shop: Shop) -> None:
    async def count(outcome: str, coverage_type: str = "oracle", chain: str = "Polygon") -> float:
        lines = (await shop.http.get("/metrics")).text.splitlines()
        labels = f'{{chain="{chain}",coverage_type="{coverage_type}",outcome="{outcome}"}}'
        turned = f'{{coverage_type="{coverage_type}",chain="{chain}",outcome="{outcome}"}}'
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(("tonsurance_quotes_total" + labels, "tonsurance_quotes_total" + turned))
        )

    asked = {"coverage_type": "oracle", "chain": "Polygon"}
    before = [await count(outcome) for outcome in ("priced", "signed", "capacity_exceeded")]
    other = await count("bad_input", "other", "other")
    await shop.ask(**asked)
    await shop.ask(**asked, buyer=BUYER)
    await shop.ask(**asked, buyer=BUYER, coverage_amount=1_000_000)
    await shop.ask(coverage_type="a" * 60, chain="b" * 60)
    assert [await count(outcome) for outcome in ("priced", "signed", "capacity_exceeded")] == [n + 1 for n in before]
    assert await count("bad_input", "other", "other") == other + 1


def test_the_servers_socket_is_one_whose_answers_do_not_wait_for_each_other() -> None:
    with bind_socket(ApiSettings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle's delay on: 40 ms for each answer


async def test_the_schema_has_the_shapes_with_examples(shop: Shop) -> None:
    schema = (await shop.http.get("/schema/openapi.json")).json()
    route = schema["paths"][PATH]["post"]
    assert set(route["responses"]) == {"200", "400", "422", "503"}
    parts = schema["components"]["schemas"]
    assert parts["QuoteBody"]["properties"]["coverage_amount"]["type"] == ["number", "string"]
    for name in ("QuoteBody", "QuoteAnswer", "TechnicalAnswer"):
        with_examples = [field for field in parts[name]["properties"].values() if field.get("examples")]
        assert len(with_examples) >= len(parts[name]["properties"]) // 3, name
    answer = (await shop.ask()).json()
    assert set(answer) == set(parts["QuoteAnswer"]["properties"])
    assert {"/api/v2/quote/{stablecoin}/{amount}", "/quote/{stablecoin}/{amount}"} < set(schema["paths"])
    assert set(schema["paths"]["/api/v2/policies"]) >= {"get", "post"}
