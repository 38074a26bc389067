"""Receipts over HTTP: who asks sees all a quote was made of, and not who it was made for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import httpx
import pytest
from litestar import Litestar
from litestar.exceptions import HTTPException

from api.test_reservations import check_problem
from db.chain_story import HOLDER
from services.receipting import KEY, Counter, make_quote, open_counter
from tonsurance.api.errors import answer_http_error, answer_known_error, answer_unexpected_error
from tonsurance.api.receipts import VerificationGate, make_receipt_router, read_quote_id
from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.services.admin_limits import TooManyRequests
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.quote_values import Quote
from tonsurance.services.receipts import Receipts

PATH = "/api/v2/quotes"


@pytest.fixture
async def counter(database: str) -> AsyncIterator[Counter]:
    async with open_counter(database) as counter:
        yield counter


def client_of(receipts: Receipts) -> httpx.AsyncClient:
    """A client of the routes alone."""
    app = Litestar(
        route_handlers=[make_receipt_router(receipts)],
        exception_handlers={
            TonsuranceError: answer_known_error,
            HTTPException: answer_http_error,
            Exception: answer_unexpected_error,
        },
        logging_config=None,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://receipts")


@pytest.fixture
async def http(counter: Counter) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(counter.receipts) as client:
        yield client


async def test_a_receipt_shows_what_the_quote_was_made_of(counter: Counter, http: httpx.AsyncClient) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    answer = await http.get(f"{PATH}/{quote.quote_id}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    product = quote.terms.product
    assert (body["quote_id"], body["status"], body["policy_id"]) == (str(quote.quote_id), "issued", None)
    assert (body["coverage_type"], body["chain"], body["stablecoin"], body["product_hash"]) == (
        product.coverage_type,
        product.chain,
        product.stablecoin,
        product.hash,
    )
    assert (body["params_version"], body["params_hash"], body["code_version"]) == (
        quote.params_version,
        quote.params_hash,
        quote.code_version,
    )
    assert (body["ton_price"]["observed_unix"], body["issued_unix"]) == (quote.price.observed_at, quote.issued_at)
    assert (body["ton_price"]["usd"], body["ton_price"]["source"]) == ("5.2513", "coingecko")
    assert (body["market"]["utilization"], body["market"]["stress"]) == (quote.market.utilization, "Elevated")
    assert body["capacity"]["limits"][0]["name"] == "max_policy_percent"
    assert (body["trigger_bps"], body["floor_bps"]) == (9700, 9000)


async def test_what_is_shown_is_enough_to_compute_the_price_by_hand(counter: Counter, http: httpx.AsyncClient) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    body = (await http.get(f"{PATH}/{quote.quote_id}")).json()
    shown = body["list_price"]
    rate = Fraction(shown["base_rate"]) * Fraction(shown["chain_multiplier"]) + Fraction(shown["stablecoin_adjustment"])
    usd = Fraction(body["coverage_amount_usd"]) * rate * body["duration_days"] / 365
    ton = Fraction(body["ton_price"]["usd"])
    assert Fraction(shown["exact"]) == usd
    assert int(body["list_premium_nanoton"]) == -(-usd * 10**9 // ton)
    assert int(body["coverage_nanoton"]) == Fraction(body["coverage_amount_usd"]) * 10**9 // ton
    assert Decimal(shown["premium_usd"]) == round(usd * 100) / Decimal(100)
    assert int(body["value_nanoton"]) == int(body["premium_nanoton"]) + 10**8


async def test_nothing_that_is_shown_tells_the_buyer(counter: Counter, http: httpx.AsyncClient) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    await counter.damage("UPDATE quotes SET premium_nanoton = premium_nanoton + 1, buyer = $1", "0:" + "ee" * 32)
    told = [await http.get(f"{PATH}/{quote.quote_id}"), await http.post(f"{PATH}/{quote.quote_id}/verify")]
    assert told[0].json()["buyer"] is None
    hidden = {one["field"]: (one["stored"], one["recomputed"]) for one in told[1].json()["differences"]}
    assert hidden["body"] == hidden["signature"] == ("hidden", "hidden")
    purchase = quote.purchase
    assert purchase is not None
    for answer in told:
        for secret in (HOLDER[2:], "ee" * 32, purchase.signature.hex(), purchase.body.hex()[:40]):
            assert secret not in answer.text.lower()


async def test_verifying_says_equal_or_every_difference(counter: Counter, http: httpx.AsyncClient) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    answer = await http.post(f"{PATH}/{quote.quote_id}/verify")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["equal"], body["differences"], body["same_code"]) == (True, [], True)
    assert (body["quote_id"], body["params_hash"]) == (str(quote.quote_id), quote.params_hash)
    await counter.damage("UPDATE quotes SET price_usd = 5")
    found = (await http.post(f"{PATH}/{quote.quote_id}/verify")).json()
    assert not found["equal"]
    by_field = {one["field"]: one for one in found["differences"]}
    assert by_field["coverage_nano"]["stored"] == str(quote.ton.coverage_nano)
    assert by_field["coverage_nano"]["recomputed"] == str(quote.terms.amount_usd * 10**9 // 5)
    assert KEY.encode().hex() not in answer.text


async def test_a_damaged_receipt_is_told_so_with_where_to_ask(
    counter: Counter, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    for damage in ("technical = '[]'", "seen_at = 'nothing'", "capacity = '{}'"):
        await counter.damage(f"UPDATE quotes SET {damage}")
        answer = await http.get(f"{PATH}/{quote.quote_id}")
        check_problem(answer, 409, "receipt_damaged")
        assert "/verify" in answer.json()["detail"]
        assert HOLDER[2:] not in answer.text
        assert "receipt_damaged" in "".join(capsys.readouterr())
        verified = await http.post(f"{PATH}/{quote.quote_id}/verify")
        assert (verified.status_code, verified.json()["equal"]) == (200, False)


def test_the_schema_lists_the_answer_for_a_damaged_receipt() -> None:
    paths = Litestar(route_handlers=[make_receipt_router(Receipts(LazyPool("")))]).openapi_schema.to_schema()["paths"]
    assert set(paths[f"{PATH}/{{quote_id}}"]["get"]["responses"]) == {"200", "400", "404", "409", "503"}


async def test_ids_that_are_none_and_quotes_that_are_not_kept(http: httpx.AsyncClient) -> None:
    for text in ("abc", "-1", "1.5", "0x10", "9" * 21, "%C2%B2", "1%200"):
        for answer in (await http.get(f"{PATH}/{text}"), await http.post(f"{PATH}/{text}/verify")):
            check_problem(answer, 400, "bad_input")
    for text in ("0", "1", str(2**63), "9" * 20):
        for answer in (await http.get(f"{PATH}/{text}"), await http.post(f"{PATH}/{text}/verify")):
            check_problem(answer, 404, "unknown_quote")
    assert read_quote_id("007") == 7
    with pytest.raises(InputError):
        read_quote_id("\u0667")


async def test_an_outage_is_no_empty_answer() -> None:
    pool = LazyPool("postgresql://nobody@127.0.0.1:1/nothing")
    receipts = Receipts(pool)
    async with client_of(receipts) as http:
        for answer in (
            await http.get(f"{PATH}/1"),
            await http.post(f"{PATH}/1/verify"),
            await http.get(f"{PATH}/conversion"),
        ):
            check_problem(answer, 503, "database_unavailable")
            assert "nobody" not in answer.text
    await receipts.close()
    await pool.close()


async def test_few_verify_at_once_few_wait_and_the_rest_comes_back_later() -> None:
    gate, inside, leave = VerificationGate(at_once=2, waiting=3), [], asyncio.Event()

    async def enter(number: int) -> None:
        async with gate.pass_through():
            inside.append(number)
            await leave.wait()

    tasks = [asyncio.create_task(enter(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert inside == [0, 1]
    with pytest.raises(TooManyRequests):
        await asyncio.wait_for(enter(5), 5)
    tasks[4].cancel()  # who waits no longer takes no place
    await asyncio.wait(tasks[4:])
    tasks.append(asyncio.create_task(enter(6)))
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == [0, 1, 2, 3, 6]
    async with gate.pass_through():
        pass


async def test_too_many_verifications_are_told_when_to_come_back(counter: Counter) -> None:
    gate = VerificationGate(at_once=1, waiting=0)
    app = Litestar(route_handlers=[make_receipt_router(counter.receipts, gate)], logging_config=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://receipts") as http:
        async with gate.pass_through():
            refused = await http.post(f"{PATH}/1/verify")
        check_problem(refused, 429, "too_many_requests")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await http.post(f"{PATH}/1/verify")).status_code == 404


async def test_conversion_by_day_coverage_type_and_chain(counter: Counter, http: httpx.AsyncClient) -> None:
    noon = datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp()
    quotes = [make_quote(issued_at=noon + day * 86_400) for day in (0, 0, 0, 0, 1, 40)]
    await asyncio.gather(*map(counter.receipts.keep, quotes))
    await counter.buy(quotes[0])
    await counter.buy(quotes[4])
    await counter.refuse(quotes[1])
    body = (await http.get(f"{PATH}/conversion", params={"from": "2026-10-05", "to": "2026-10-06"})).json()
    assert (body["first"], body["last"]) == ("2026-10-05", "2026-10-06")
    assert (body["issued"], body["bought"], body["refused"], body["conversion"]) == (5, 2, 1, 0.4)
    [last] = [row for row in body["days"] if row["day"] == "2026-10-06"]
    assert (last["coverage_type"], last["chain"]) == _names(quotes[4])
    assert (last["issued"], last["bought"], last["conversion"]) == (1, 1, 1.0)
    empty = (await http.get(f"{PATH}/conversion")).json()
    assert (empty["issued"], empty["conversion"], empty["days"]) == (0, None, [])
    for first, last_day in (("2026-10-06", "2026-10-05"), ("2026-10-01", "2026-11-01"), ("0001-01-01", "9999-12-31")):
        answer = await http.get(f"{PATH}/conversion", params={"from": first, "to": last_day})
        check_problem(answer, 400, "bad_input")


def _names(quote: Quote) -> tuple[str, str]:
    return quote.terms.product.coverage_type, quote.terms.product.chain


async def test_the_last_day_of_the_calendar_is_a_day_like_any_other(http: httpx.AsyncClient) -> None:
    for params in ({"from": "9999-12-30"}, {"to": "0001-01-03"}):
        answer = await http.get(f"{PATH}/conversion", params=params)
        check_problem(answer, 400, "bad_input")
    for name in ("from", "to"):
        answer = await http.get(f"{PATH}/conversion", params={name: "yesterday"})
        assert f"`{name}`" in str(check_problem(answer, 400, "bad_input")["detail"])
