"""The price of cover on the live page in a real browser: it follows what is chosen, shows what makes it, and where
there is none says why and what to do next.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from api.browsing import in_browser, open_page, running_browser
from api.ledger_fake import FakeLedger
from api.running import RunningApi
from api.shop_fake import FakeShop, Refusal, running_shop
from tonsurance.core.errors import UsageError
from tonsurance.core.products import INVALID_PAIRS
from tonsurance.settings import Environment, local_wallet_url

DEPEG = "#quote=depeg/Ethereum/USDC/10000/90"
PRICE_AWAY = Refusal(503, "price_unavailable", "The price of TON is 92 s old.")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with running_browser() as browser:
        yield browser


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
async def api(ledger: FakeLedger, shop: FakeShop) -> AsyncIterator[RunningApi]:
    """Without a test wallet."""
    async with running_shop(ledger, shop) as api:
        yield api


@in_browser
async def test_the_price_follows_what_is_chosen_and_shows_every_factor(
    browser: Browser, shop: FakeShop, api: RunningApi
) -> None:
    page, complaints = await open_page(browser, api)
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    await expect(page.locator("#premium-ton")).to_have_text("6.58TON")
    await expect(page.locator("#offer-cover")).to_have_text("3,333.33TON")
    await expect(page.locator("#offer-rate")).to_have_text("3 USD")
    await expect(page.locator("#offer-rate-note")).to_contain_text("local market, seen 20")
    await expect(page.locator("#offer-notice")).to_contain_text("moves with the price of TON")
    await expect(page.locator("#offer-validity")).to_have_text(re.compile("valid for (5 min 0 s|4 min 5. s)"))
    await page.get_by_label("Cover in US dollars").fill("20,000.5")
    await page.get_by_role("button", name="365 days").click()
    await page.get_by_role("radio", name="Bridge").check(force=True)
    await page.get_by_role("radio", name="GHO", exact=True).check(force=True)
    await expect(page.locator("#premium-usd")).to_have_text("160.00 USD")
    assert shop.asked[-1] == {
        "coverage_type": "bridge", "chain": "Ethereum", "stablecoin": "GHO", "coverage_amount": 20000.5,
        "duration_days": 365,
    }  # fmt: skip
    listed = " ".join(await page.locator("#list-factors tr").all_inner_texts())
    for part in ("bridge\t0.8 % a year", "Ethereum\t1", "GHO\t0 % a year", "20,000.50 USD", "365 / 365", "160.00 USD"):
        assert part in listed
    technical = " ".join(await page.locator("#technical-factors tr").all_inner_texts())
    for part in ("4 % a year", "1 + 0.0375", "Liquidity\t0.15", "Trigger\t1.05", "Stress\t1.15", "102.33 USD"):
        assert part in technical
    await expect(page.locator("#ask-link")).to_have_attribute("href", "#quote=bridge/Ethereum/GHO/20000.5/365")
    assert complaints == []


@in_browser
@pytest.mark.parametrize("width", [360, 1280])
async def test_what_is_charged_is_the_price_where_the_least_premium_applies(
    browser: Browser, shop: FakeShop, api: RunningApi, width: int
) -> None:
    shop.ton_usd, shop.least_ton = 4.8, 0.1
    size = {"width": width, "height": 800}
    page, complaints = await open_page(browser, api, at="#quote=depeg/Ethereum/USDC/200/1", viewport=size)
    await expect(page.locator("#premium-usd")).to_have_text("0.48 USD")
    await expect(page.locator("#premium-ton")).to_have_text("0.10TON")
    await expect(page.locator("#premium-note")).to_have_text(
        "The least premium applies: by the list it would be 0.00 USD."
    )
    await expect(page.locator("#offer-word")).to_contain_text("Premium 0.48 USD, paid as 0.10 TON. The least premium")
    await expect(page.locator("#list-note")).to_contain_text(
        "TON to 0.10 TON, 0.48 USD: the least premium that is sold."
    )
    assert "Premium by the list\t0.00 USD" in " ".join(await page.locator("#list-factors tr").all_inner_texts())
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    await page.locator("#amount").fill("10000")
    await page.locator("#days").fill("90")
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    await expect(page.locator("#premium-note")).to_be_hidden()
    await expect(page.locator("#list-note")).to_have_text("")
    assert complaints == []


@in_browser
async def test_a_price_of_a_chain_that_nobody_reads_is_said_to_be(
    browser: Browser, shop: FakeShop, api: RunningApi
) -> None:
    shop.stale = True
    page, _ = await open_page(browser, api, at=DEPEG)
    await expect(page.locator("#offer-notice")).to_contain_text("The chain was not read lately: room and")
    await expect(page.locator("#offer-notice")).to_contain_text("moves with the price of TON")
    shop.stale = False
    await page.locator("#days").fill("180")
    await expect(page.locator("#premium-usd")).to_have_text("39.45 USD")
    await expect(page.locator("#offer-notice")).not_to_contain_text("lately")


@in_browser
async def test_only_the_answer_to_the_newest_question_counts(browser: Browser, shop: FakeShop, api: RunningApi) -> None:
    shop.hold = asyncio.Event()
    page, _ = await open_page(browser, api, at=DEPEG)
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    amount = page.locator("#amount")
    await amount.fill("1")
    async with asyncio.timeout(60):
        while shop.asked[-1]["coverage_amount"] != 1:
            await asyncio.sleep(0.01)
    await expect(page.locator("#offer")).to_have_attribute("data-old", "true")
    await expect(page.locator("#buy-own")).to_be_disabled()
    await amount.fill("20000")
    await expect(page.locator("#premium-usd")).to_have_text("39.45 USD")
    await page.evaluate(
        "window.shown = []; new MutationObserver(() => shown.push(document.getElementById('premium-usd').textContent))"
        ".observe(document.getElementById('premium-usd'), { childList: true })"
    )
    shop.hold.set()
    await amount.fill("30000")
    await expect(page.locator("#premium-usd")).to_have_text("59.18 USD")
    assert await page.evaluate("shown") == ["59.18 USD"]


@in_browser
async def test_what_cannot_be_combined_is_disabled_with_its_reason(
    browser: Browser, shop: FakeShop, api: RunningApi
) -> None:
    page, _ = await open_page(browser, api, at="#quote=smart_contract/Ethereum/USDC/10000/90")
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    reason = INVALID_PAIRS["smart_contract", "Bitcoin"]
    await expect(page.get_by_role("radio", name="Bitcoin")).to_be_disabled()
    await expect(page.locator("#reasons-chain")).to_have_text(f"Bitcoin, Lightning: {reason}.")
    await expect(page.locator("#picks-chain input:disabled")).to_have_count(2)
    asked = len(shop.asked)
    await page.goto(f"http://127.0.0.1:{api.port}/#quote=smart_contract/Bitcoin/USDC/10000/90")
    await expect(page.locator("#offer-word")).to_have_text(
        f"There is no such cover: {reason}. Choose another chain or kind of cover."
    )
    await expect(page.locator("#offer-body")).to_be_hidden()
    assert len(shop.asked) == asked
    await page.get_by_role("radio", name="Depeg").check(force=True)
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")


NONSENSE = (
    ("#amount", "", "Write the amount in US dollars"),
    ("#amount", "1e9", "Write the amount in US dollars"),
    ("#amount", "-5", "Write the amount in US dollars"),
    ("#amount", "10,00", "Write the amount in US dollars"),
    ("#days", "1.5", "Write the days as a whole number"),
    ("#days", "400", "from 1 to 365"),
)


@in_browser
async def test_what_makes_no_sense_has_no_price(browser: Browser, api: RunningApi) -> None:
    page, _ = await open_page(browser, api, at=DEPEG)
    for field, text, said in NONSENSE:
        await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
        await expect(page.locator("#buy-own")).to_be_enabled()
        before = await page.locator(field).input_value()
        await page.locator(field).fill(text)
        await expect(page.locator("#offer-word")).to_contain_text(said)
        await expect(page.locator("#offer-body")).to_be_hidden()
        await expect(page.locator("#buy-own")).to_be_disabled()
        await page.locator(field).fill(before)


@in_browser
async def test_a_link_opens_its_choice_and_a_broken_one_is_said(browser: Browser, api: RunningApi) -> None:
    page, complaints = await open_page(browser, api, at="#quote=cex_liquidation/TON/sUSDe/2500.50/7")
    await expect(page.locator("#amount")).to_have_value("2500.50")
    await expect(page.locator("#premium-usd")).to_have_text("0.38 USD")
    await expect(page.get_by_role("radio", name="sUSDe")).to_be_checked()
    await expect(page.locator("#panel")).to_be_hidden()
    await page.goto(f"http://127.0.0.1:{api.port}/#quote=depeg/Dogecoin/<b>/1/1")
    await expect(page.locator("#offer-word")).to_contain_text("a product that there is not")
    assert await page.locator(".shop b").count() == 0
    assert complaints == []


@in_browser
async def test_a_limit_that_binds_is_named(browser: Browser, shop: FakeShop, api: RunningApi) -> None:
    shop.room_ton, shop.binding = 100, ("max_utilization", "SURE-EQT")
    page, _ = await open_page(browser, api, at=DEPEG)
    word = page.locator("#offer-word")
    await expect(word).to_contain_text("There is no room for 3,333.33 TON of cover")
    await expect(word).to_contain_text("(max_utilization of SURE-EQT) leaves 100.00 TON. Choose a smaller amount.")
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    await expect(page.locator("#buy-own")).to_be_disabled()
    await page.locator("#amount").fill("300")
    await expect(page.locator("#buy-own")).to_be_enabled()


@in_browser
async def test_what_is_not_sold_now_says_why(browser: Browser, shop: FakeShop, api: RunningApi) -> None:
    shop.off_sale["bridge_TON_USDC"] = "no bridge to TON is watched"
    page, _ = await open_page(browser, api, at="#quote=bridge/TON/USDC/10000/90")
    await expect(page.locator("#offer-word")).to_contain_text("not sold right now: no bridge to TON is watched.")
    await expect(page.locator("#buy-own")).to_be_disabled()


@in_browser
async def test_an_outage_shows_no_price_and_mends_itself(browser: Browser, shop: FakeShop, api: RunningApi) -> None:
    page, _ = await open_page(browser, api, at=DEPEG)
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    shop.refusal = PRICE_AWAY
    await page.locator("#days").fill("180")
    word = page.locator("#offer-word")
    await expect(word).to_contain_text("The price of TON is 92 s old. Nothing is sold without a price of TON")
    await expect(word).to_contain_text("tried again")
    await expect(page.locator("#offer-body")).to_be_hidden()
    await expect(page.locator("#factors")).to_be_hidden()
    shop.refusal = None
    await expect(page.locator("#premium-usd")).to_have_text("39.45 USD", timeout=60_000)
    await expect(page.locator("#offer-body")).to_be_visible()


@in_browser
async def test_products_that_cannot_be_read_are_asked_for_again(
    browser: Browser, shop: FakeShop, api: RunningApi
) -> None:
    shop.refusal_of_products = Refusal(503, "not_ready", "The ledger has no tranche yet.")
    page, _ = await open_page(browser, api, at=DEPEG)
    await expect(page.locator("#offer-word")).to_contain_text("cannot be shown yet. The ledger has no tranche yet.")
    shop.refusal_of_products = None
    await expect(page.locator("#premium-usd")).to_have_text("19.73 USD", timeout=60_000)


@in_browser
async def test_a_server_that_is_gone_is_said(browser: Browser, shop: FakeShop, ledger: FakeLedger) -> None:
    async with running_shop(ledger, shop) as api:
        page, _ = await open_page(browser, api, at=DEPEG)
        await expect(page.locator("#premium-usd")).to_have_text("19.73 USD")
    await page.locator("#days").fill("30")
    await expect(page.locator("#offer-word")).to_contain_text("The server cannot be reached. It is tried again")
    await expect(page.locator("#offer-body")).to_be_hidden()


@in_browser
async def test_an_expired_price_is_said_and_renewed(browser: Browser, shop: FakeShop, api: RunningApi) -> None:
    shop.valid_s = 1
    page, _ = await open_page(browser, api, at=DEPEG)
    await expect(page.locator("#offer-validity")).to_have_text("expired")
    shop.valid_s, shop.ton_usd = 300, 6.0
    await expect(page.locator("#premium-ton")).to_have_text("3.29TON", timeout=60_000)
    await expect(page.locator("#offer-validity")).to_have_text(re.compile("valid for"))


async def test_the_page_may_talk_to_the_test_wallet_and_nobody_else(ledger: FakeLedger, shop: FakeShop) -> None:
    url = "http://127.0.0.1:8181/_localnet/wallet"
    async with running_shop(ledger, shop, url) as api:
        policy = (await api.get("/")).headers["content-security-policy"]
        assert "connect-src 'self' http://127.0.0.1:8181;" in policy
        assert policy.count("http://") == 1
        assert (await api.get("/api/v2/wallet")).json() == {"test_wallet_url": url, "network": "local"}


async def test_without_a_test_wallet_the_page_talks_to_its_server_alone(api: RunningApi) -> None:
    assert "connect-src 'self';" in (await api.get("/")).headers["content-security-policy"]
    assert (await api.get("/api/v2/wallet")).json() == {"test_wallet_url": None, "network": "public"}


@pytest.mark.parametrize(
    "url", ["https://wallet.example/x", "http://127.0.0.1/x", "http://10.0.0.1:80/x", "http://127.0.0.1:1/;x *",
            "http://localhost:1@evil.example/", "ws://127.0.0.1:1/x"]
)  # fmt: skip
def test_a_test_wallet_is_on_this_machine_only(url: str) -> None:
    with pytest.raises(UsageError, match="TEST_WALLET_URL"):
        local_wallet_url(Environment({"TEST_WALLET_URL": url}))


def test_a_test_wallet_is_a_setting() -> None:
    url = "http://127.0.0.1:8181/_localnet/wallet"
    assert local_wallet_url(Environment({"TEST_WALLET_URL": url})) == url
    assert local_wallet_url(Environment({})) is None
