"""GET /api/v2/risk/exposure over real HTTP and a real database: the documented fields, exact, and honest on price."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest

from api.market_running import running_market
from db.chain_story import FACTORY, TON, expired
from services.market_story import STALE_AFTER_S, MarketStory
from tonsurance.core.products import VALID_PRODUCTS, find_product

PATH = "/api/v2/risk/exposure"
USDC = find_product("depeg", "Ethereum", "USDC")
DOCUMENTED = {"by_coverage_type", "by_chain", "by_stablecoin", "top_10_products", "total_policies", "timestamp"}


@pytest.fixture
async def story(database: str) -> AsyncIterator[MarketStory]:
    story = MarketStory(database)
    await story.start()
    await story.see_price("2.5")
    await story.look()
    yield story
    await story.close()


@pytest.fixture
async def http(story: MarketStory) -> AsyncIterator[httpx.AsyncClient]:
    async with running_market(story) as http:
        yield http


async def read(http: httpx.AsyncClient) -> dict[str, object]:
    answer = await http.get(PATH)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def rows(body: dict[str, object], table: str) -> list[dict[str, object]]:
    return body[table]  # type: ignore[return-value]


async def test_the_documented_fields_are_there_with_exact_amounts_beside(
    http: httpx.AsyncClient, story: MarketStory
) -> None:
    await story.sell(USDC, 10 * TON + 3)
    await story.sell(USDC, 4 * TON)
    await story.sell(find_product("bridge", "Base", "DAI"), 6 * TON)
    await story.look()
    body = await read(http)
    assert body.keys() >= DOCUMENTED
    assert rows(body, "by_coverage_type")[0] == {
        "coverage_type": "depeg",
        "exposure_usd": 35.0,
        "exposure_microusd": "35000000",
        "exposure_ton": 14.000000003,
        "exposure_nanoton": str(14 * TON + 3),
        "policy_count": 2,
    }
    by_chain = {row["chain"]: row["exposure_usd"] for row in rows(body, "by_chain")}
    assert {name: usd for name, usd in by_chain.items() if usd} == {"Ethereum": 35.0, "Base": 15.0}
    by_coin = {row["stablecoin"]: row["policy_count"] for row in rows(body, "by_stablecoin")}
    assert {name: count for name, count in by_coin.items() if count} == {"USDC": 2, "DAI": 1}
    assert [(row["coverage_type"], row["chain"], row["stablecoin"]) for row in rows(body, "top_10_products")] == [
        ("depeg", "Ethereum", "USDC"),
        ("bridge", "Base", "DAI"),
    ]
    assert rows(body, "top_10_products")[0].keys() >= {"exposure_usd", "policy_count"}
    assert body["total_policies"] == 3
    assert body["total"]["exposure_usd"] == 50.0  # type: ignore[index]


async def test_the_tables_and_the_total_agree_to_the_millionth(http: httpx.AsyncClient, story: MarketStory) -> None:
    await story.see_price("2.3333333")
    for place, product in enumerate(VALID_PRODUCTS[::40]):
        await story.sell(product, 10**9 + 1_234_567 * place)
    await story.look()
    body = await read(http)
    total: dict[str, str] = body["total"]  # type: ignore[assignment]
    for table in ("by_coverage_type", "by_chain", "by_stablecoin"):
        for field in ("exposure_microusd", "exposure_nanoton"):
            assert sum(int(str(row[field])) for row in rows(body, table)) == int(total[field])
        for row in rows(body, table):
            assert Decimal(str(row["exposure_usd"])) == Decimal(str(row["exposure_microusd"])) / 10**6
    assert len(rows(body, "top_10_products")) == 10


async def test_without_a_price_of_now_dollars_are_null_and_never_zero(
    http: httpx.AsyncClient, story: MarketStory
) -> None:
    await story.sell(USDC, 7 * TON)
    await story.conn.execute("UPDATE price_history SET observed_at = observed_at - interval '1 hour'")
    await story.look()
    body = await read(http)
    assert body["price"]["stale"] is True  # type: ignore[index]
    tables = [row for table in ("by_coverage_type", "by_chain", "by_stablecoin") for row in rows(body, table)]
    for row in (*tables, *rows(body, "top_10_products"), body["total"]):
        assert (row["exposure_usd"], row["exposure_microusd"]) == (None, None)  # type: ignore[index]
    assert body["total"]["exposure_nanoton"] == str(7 * TON)  # type: ignore[index]
    assert body["stale"] is False, "the ledger is of now; only the price is not"


async def test_what_ended_is_not_exposed_any_more(http: httpx.AsyncClient, story: MarketStory) -> None:
    policy = await story.sell(USDC, 7 * TON)
    await story.look()
    first = await read(http)
    await story.post(expired(policy), contract=FACTORY)
    await story.look()
    then = await read(http)
    assert (first["total_policies"], then["total_policies"]) == (1, 0)
    assert int(str(then["ledger_version"])) > int(str(first["ledger_version"]))
    assert rows(then, "top_10_products") == []


async def test_the_same_figures_are_not_sent_twice_and_others_are(http: httpx.AsyncClient, story: MarketStory) -> None:
    first = await http.get(PATH)
    tag = first.headers["ETag"]
    await story.look()
    again = await http.get(PATH, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    tags = {tag}
    await story.see_price("2.6")
    await story.look()
    tags.add((await http.get(PATH, headers={"If-None-Match": tag})).headers["ETag"])
    await story.sell(USDC, TON)
    await story.look()
    tags.add((await http.get(PATH, headers={"If-None-Match": tag})).headers["ETag"])
    story.clock.now += STALE_AFTER_S + 1
    stale = await http.get(PATH, headers={"If-None-Match": tag})
    tags.add(stale.headers["ETag"])
    assert len(tags) == 4
    assert stale.json()["stale"] is True


async def test_it_says_as_of_which_event_and_of_which_vault(http: httpx.AsyncClient, story: MarketStory) -> None:
    body = await read(http)
    assert body["as_of"]["lt"] == str(story.reads.snapshot.latest.lt)  # type: ignore[index]
    assert body["vault_id"] == "main"
    assert (await http.get(PATH, params={"vault_id": "other"})).status_code == 404
