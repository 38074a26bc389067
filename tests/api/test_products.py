"""GET /api/v2/products over real HTTP and a real database: all 630, each with what holds of it now."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from decimal import Decimal
from itertools import product as combine

import httpx
import pytest

from api.ledger_fake import FakeLedger
from api.market_running import running_market
from api.running import running_api
from db.chain_story import TON
from services.market_story import STALE_AFTER_S, MarketStory
from tonsurance.core.events import CoverageChanged
from tonsurance.core.params import build_params
from tonsurance.core.products import Product, find_product
from tonsurance.core.sale import Obstacle
from tonsurance.metrics import PRODUCT_LISTS

PATH = "/api/v2/products"
USDC = find_product("depeg", "Ethereum", "USDC")
BASE = {"depeg": "0.008", "smart_contract": "0.015", "oracle": "0.012", "bridge": "0.02", "cex_liquidation": "0.025"}
CHAINS = ["Ethereum", "Arbitrum", "Base", "Polygon", "Optimism", "Bitcoin", "Lightning", "Solana", "TON"]
COINS = ["USDC", "USDT", "USDP", "DAI", "FRAX", "BUSD", "USDe", "sUSDe", "USDY", "PYUSD", "GHO", "LUSD"]
COINS += ["crvUSD", "mkUSD"]
NONSENSE = {
    ("smart_contract", "Bitcoin"),
    ("smart_contract", "Lightning"),
    ("oracle", "Bitcoin"),
    ("oracle", "Lightning"),
    ("bridge", "Bitcoin"),
}
"""What the catalogue is held against stands here once more, so that it is not held against itself."""


@pytest.fixture
async def story(database: str) -> AsyncIterator[MarketStory]:
    """6000 TON of capital, two dollars for a TON, and a factory that sells."""
    story = MarketStory(database)
    await story.start()
    await story.see_price("2")
    await story.see_factory()
    await story.look()
    yield story
    await story.close()


@pytest.fixture
async def http(story: MarketStory) -> AsyncIterator[httpx.AsyncClient]:
    async with running_market(story) as http:
        yield http


async def read(http: httpx.AsyncClient, **query: str) -> dict[str, object]:
    answer = await http.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def find(http: httpx.AsyncClient, product: Product = USDC) -> dict[str, object]:
    names = {"coverage_type": product.coverage_type, "chain": product.chain, "stablecoin": product.stablecoin}
    [row] = (await read(http, **names))["products"]  # type: ignore[misc]
    return dict(row)


def made() -> float:
    return PRODUCT_LISTS._value.get()  # type: ignore[attr-defined, no-any-return]


async def test_all_630_are_there_and_exactly_560_are_valid(http: httpx.AsyncClient) -> None:
    body = await read(http)
    rows: list[dict[str, object]] = body["products"]  # type: ignore[assignment]
    assert body["count"] == len(rows) == 630
    for row, (kind, chain, coin) in zip(rows, combine(BASE, CHAINS, COINS), strict=True):
        ids = list(BASE).index(kind), CHAINS.index(chain), COINS.index(coin)
        name = f"{kind}_{chain}_{coin}"
        assert (row["coverage_type"], row["chain"], row["stablecoin"], row["name"]) == (kind, chain, coin, name)
        assert (row["coverage_type_id"], row["chain_id"], row["stablecoin_id"]) == ids
        assert row["key"] == ids[0] * 65536 + ids[1] * 256 + ids[2]
        assert row["hash"] == "0x" + hashlib.sha256(name.encode()).hexdigest()
        valid = (kind, chain) not in NONSENSE
        assert row["valid"] is valid
        assert row["on_sale"] is (valid and (kind, chain) not in {("bridge", "Optimism"), ("bridge", "TON")})
        assert bool(row["reason"]) is not valid
        assert bool(row["on_sale_reasons"]) is not row["on_sale"]
        assert all((row[field] is None) is not valid for field in ("rate", "capacity_nanoton", "binding_limit"))
    assert sum(bool(row["valid"]) for row in rows) == 560
    assert rows[0]["hash"] == "0x8f2e7ac6ea8a786f67e9d488138bdf6bfaac0545bf00a1401ca7ba36d8829918"


async def test_the_rate_is_the_lists_as_an_exact_decimal(http: httpx.AsyncClient, story: MarketStory) -> None:
    assert (await find(http))["rate"] == "0.008"
    params = story.reads.params
    for row in (await read(http, valid="true"))["products"]:  # type: ignore[attr-defined]
        multiplier = Decimal(str(params.value("pricing", f"chain_multiplier_{row['chain']}")))
        adjustment = Decimal(str(params.value("pricing", f"stablecoin_adjustment_{row['stablecoin']}")))
        assert Decimal(row["rate"]) == Decimal(BASE[row["coverage_type"]]) * multiplier + adjustment
        assert "E" not in row["rate"]


async def test_exposure_and_room_follow_what_is_sold(http: httpx.AsyncClient, story: MarketStory) -> None:
    assert (await find(http))["exposure_nanoton"] == "0"
    await story.sell(USDC, 1_400 * TON + 1)
    await story.sell(USDC, 50 * TON)
    await story.look()
    row = await find(http)
    assert (row["exposure_nanoton"], row["policy_count"]) == (str(1_450 * TON + 1), 2)
    assert (row["exposure_usd"], row["exposure_ton"]) == (2_900.0, 1450.000000001)
    assert (row["capacity_nanoton"], row["binding_limit"]) == (str(50 * TON - 1), "product_cap")
    other = await find(http, find_product("depeg", "Solana", "USDC"))
    assert (other["exposure_nanoton"], other["exposure_usd"], other["policy_count"]) == ("0", 0.0, 0)
    assert (other["capacity_nanoton"], other["binding_limit"]) == (str(300 * TON), "max_policy_percent")
    await story.post(CoverageChanged(9, (0, 0, 0, 0, 0, 949 * TON)))
    await story.look()
    full = await find(http, find_product("depeg", "Solana", "USDC"))
    assert (full["binding_limit"], full["binding_tranche"]) == ("max_utilization", "SURE-EQT")


async def test_the_room_of_every_product_is_what_the_capacity_route_says(
    http: httpx.AsyncClient, story: MarketStory
) -> None:
    await story.sell(USDC, 1_495 * TON)
    await story.sell(find_product("oracle", "Base", "DAI"), 3_333 * TON)
    await story.look()
    for names in (("depeg", "Ethereum", "USDC"), ("oracle", "Base", "DAI"), ("depeg", "Base", "GHO")):
        query = dict(zip(("coverage_type", "chain", "stablecoin"), names, strict=True))
        capacity = (await http.get("/api/v1/capacity/policy", params=query)).json()
        row = await find(http, find_product(*names))
        assert (row["capacity_nanoton"], row["binding_limit"]) == (
            capacity["available_nanoton"],
            capacity["binding_limit"],
        )


async def test_a_stale_price_makes_dollars_null_and_stops_the_sale_with_its_reason(
    http: httpx.AsyncClient, story: MarketStory
) -> None:
    await story.sell(USDC, 5 * TON)
    await story.look()
    assert (await find(http))["exposure_usd"] == 10.0
    await story.conn.execute("UPDATE price_history SET observed_at = observed_at - interval '1 hour'")
    await story.look()
    body = await read(http)
    assert body["price"]["stale"] is True  # type: ignore[index]
    assert body["price"]["price_usd"] == "2"  # type: ignore[index]
    row = await find(http)
    assert (row["exposure_usd"], row["exposure_nanoton"], row["on_sale"]) == (None, str(5 * TON), False)
    assert row["on_sale_reasons"] == [{"code": "price_stale", "reason": "the price of TON is older than 300 s"}]
    assert not (await read(http, on_sale="true"))["products"]


async def test_a_paused_factory_takes_everything_off_sale_and_leaves_it_valid(
    http: httpx.AsyncClient, story: MarketStory
) -> None:
    await story.see_factory(paused=True, seqno=2)
    await story.look()
    assert (await read(http, on_sale="true"))["count"] == 0
    assert (await read(http, valid="true"))["count"] == 560
    reasons = [one["code"] for one in (await find(http, find_product("bridge", "TON", "DAI")))["on_sale_reasons"]]  # type: ignore[attr-defined]
    assert reasons == ["no_watched_bridge", "factory_paused"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"valid": "true"}, 560),
        ({"valid": "false"}, 70),
        ({"on_sale": "true"}, 532),
        ({"on_sale": "false"}, 98),
        ({"chain": "Bitcoin"}, 70),
        ({"chain": "Bitcoin", "valid": "true"}, 28),
        ({"coverage_type": "bridge", "stablecoin": "DAI", "on_sale": "true"}, 6),
        ({"coverage_type": "depeg", "chain": "TON", "stablecoin": "mkUSD"}, 1),
    ],
)
async def test_a_choice_of_products_is_exactly_that(http: httpx.AsyncClient, query: dict[str, str], count: int) -> None:
    body = await read(http, **query)
    rows: list[dict[str, object]] = body["products"]  # type: ignore[assignment]
    assert len(rows) == body["count"] == count
    whole: list[dict[str, object]] = (await read(http))["products"]  # type: ignore[assignment]
    assert [row for row in whole if all(str(row[name]).lower() == v.lower() for name, v in query.items())] == rows


@pytest.mark.parametrize(
    ("query", "known"),
    [
        ({"chain": "Dogecoin"}, "Lightning"),
        ({"stablecoin": "usdc"}, "crvUSD"),
        ({"coverage_type": "rain"}, "cex_liquidation"),
        ({"valid": "perhaps"}, ""),
    ],
)
async def test_an_unknown_name_is_refused_with_the_known_ones(
    http: httpx.AsyncClient, query: dict[str, str], known: str
) -> None:
    answer = await http.get(PATH, params=query)
    assert answer.status_code == 400
    assert known in answer.json()["detail"]


async def test_the_list_is_made_once_for_each_state_of_the_market(http: httpx.AsyncClient, story: MarketStory) -> None:
    first = await http.get(PATH)
    before = made()
    for _ in range(3):
        await story.look()
        again = await http.get(PATH, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    await read(http, chain="Base")
    story.clock.now += 1
    await read(http)
    assert made() == before
    await story.sell(USDC, TON)
    await story.look()
    await read(http)
    assert made() == before + 1


async def test_each_thing_in_the_answer_gives_it_another_tag(http: httpx.AsyncClient, story: MarketStory) -> None:
    tags = [(await http.get(PATH)).headers["ETag"]]

    async def see() -> None:
        tags.append((await http.get(PATH, headers={"If-None-Match": tags[-1]})).headers["ETag"])

    await story.see_price("3")
    await story.look()
    await see()
    await story.sell(USDC, TON)
    await story.look()
    await see()
    await story.see_factory(claims_due=1, seqno=2)
    await story.look()
    await see()
    story.reads.use_params(build_params({("pricing", "coverage_base_rate_depeg"): 0.009}, version=2))
    await see()
    story.clock.now += STALE_AFTER_S + 1
    await see()
    assert len(set(tags)) == len(tags) == 6


async def test_figures_that_could_not_be_read_for_long_are_shown_as_stale(
    http: httpx.AsyncClient, story: MarketStory
) -> None:
    assert (await read(http))["stale"] is False
    story.clock.now += STALE_AFTER_S + 1
    await story.reads.refresh()
    body = await read(http)
    assert (body["stale"], body["age_s"]) == (True, STALE_AFTER_S + 1), "the older part counts"


async def test_every_answer_says_where_it_is_from(http: httpx.AsyncClient, story: MarketStory) -> None:
    body = await read(http)
    latest = story.reads.snapshot.latest
    assert body["as_of"]["lt"] == str(latest.lt)  # type: ignore[index]
    assert (body["vault_id"], body["params_version"]) == ("main", story.reads.params.version)
    assert body["ledger_version"] == str(story.reads.snapshot.state.version)
    assert body["price"]["source"] == "test"  # type: ignore[index]
    assert str(body["timestamp"]).endswith("Z")


async def test_later_conditions_of_the_sale_show_here_too(story: MarketStory) -> None:
    trouble: list[Obstacle] = []

    def check(product: Product) -> Iterable[Obstacle]:
        return trouble if product.stablecoin == "DAI" else []

    async with running_market(story, [check]) as http:
        assert (await read(http, on_sale="true"))["count"] == 532
        trouble.append(Obstacle("coin_below_peg", "the coin trades below 0.99"))
        assert (await read(http, on_sale="true"))["count"] == 532 - 38


async def test_before_the_first_look_it_is_not_ready(database: str) -> None:
    story = MarketStory(database)
    await story.start()
    async with running_market(story) as http:
        for path in (PATH, "/api/v2/risk/exposure"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    await story.close()


async def test_where_nothing_is_sold_it_says_so() -> None:
    async with running_api(FakeLedger()) as api:
        for path in (PATH, "/api/v2/risk/exposure"):
            assert (await api.get(path)).status_code == 503


@pytest.mark.parametrize("path", [PATH, "/api/v2/risk/exposure"])
async def test_the_answers_have_exactly_the_fields_of_the_openapi_document(http: httpx.AsyncClient, path: str) -> None:
    document = (await http.get("/schema")).json()
    schemas = document["components"]["schemas"]
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    while "oneOf" in schema:
        schema = next(option for option in schema["oneOf"] if "$ref" in option)
    body = (await http.get(path)).json()
    assert set(body) == set(schemas[schema["$ref"].rsplit("/", 1)[1]]["properties"])
    if path == PATH:
        assert set(body["products"][0]) == set(schemas["ProductRow"]["properties"])
