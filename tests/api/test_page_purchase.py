"""Buying cover on the live page in a real browser: a purchase is followed to its end, and wherever it stops the page
says where the money is and what to do next. The wallet and its chain are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from api.browsing import in_browser, open_page, running_browser
from api.door import free_port
from api.ledger_fake import FakeLedger
from api.running import RunningApi
from api.shop_fake import BACKED, NOT_BACKED, REFUSED, TAKEN, FakeShop, Refusal, running_shop
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore

SELLER = "0:" + "11" * 32
DEPEG = "#quote=depeg/Ethereum/USDC/10000/90"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with running_browser() as browser:
        yield browser


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def chain() -> Iterator[LocalChain]:
    """Driven by hand."""
    store = ChainStore()
    yield LocalChain(TonpyEngine(), store, seed=1)
    store.close()


@pytest.fixture
async def api(ledger: FakeLedger, shop: FakeShop) -> AsyncIterator[RunningApi]:
    """Without a test wallet."""
    async with running_shop(ledger, shop) as api:
        yield api


@pytest.fixture
async def local(ledger: FakeLedger, shop: FakeShop, chain: LocalChain) -> AsyncIterator[RunningApi]:
    """With the test wallets of a real local chain."""
    async with running(chain) as url, running_shop(ledger, shop, f"{url}/_localnet/wallet") as api:
        yield api


def step(page: Page, name: str) -> Locator:
    """A step of the purchase."""
    return page.locator(f'[data-step="{name}"]')


async def expect_step(page: Page, name: str, state: str, words: str = "") -> None:
    """How far it is, and what is said of it."""
    await expect(step(page, name)).to_have_attribute("data-state", state)
    await expect(step(page, name).locator(".step-word")).to_contain_text(words)


async def open_with_wallet(browser: Browser, api: RunningApi, chain: LocalChain, **options: object) -> Page:
    """The page once its wallet has its allowance and the price is there."""
    page, _ = await open_page(browser, api, at=DEPEG, **options)
    async with asyncio.timeout(60):
        while not chain.waiting:
            await asyncio.sleep(0.02)
    chain.mine_until_idle()
    await expect(page.locator("#wallet-balance")).to_have_text("500.00TON")
    await expect(page.locator("#buy-local")).to_be_enabled()
    return page


async def pay(page: Page, chain: LocalChain) -> None:
    """Press the button, and have what the wallet sent carried out."""
    await page.locator("#buy-local").click()
    await expect_step(page, "send", "done", "as its order")
    chain.mine_until_idle()


@in_browser
async def test_cover_is_bought_with_the_test_wallet(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    await pay(page, chain)
    wallet = await page.locator("#wallet-balance").get_attribute("title")
    await expect_step(page, "quote", "done", "6.58 TON for 3,333.33 TON of cover, quote 4611686018427387904.")
    await expect_step(page, "chain", "now", "Waiting for the transaction")
    await expect(page.locator("#buy-local")).to_be_disabled()
    shop.transaction = TAKEN
    await expect_step(page, "chain", "done", "The factory took the quote: abababab…ababab")
    await expect_step(page, "vault", "now", "Waiting for the vault")
    shop.transaction = BACKED
    await expect_step(page, "vault", "done", "The vault backs policy 12: active, 3,333.33 TON of cover from 2026-11-22")
    await expect(step(page, "vault").locator("a")).to_have_attribute("href", "#policy=12")
    await expect(page.locator("#wallet-balance")).to_have_text(re.compile(r"493\.\d\dTON"))
    assert wallet is not None
    bought = [asked for asked in shop.asked if "buyer" in asked]
    assert len(bought) == 1
    assert chain.balance(bought[0]["buyer"]) < 494 * 10**9
    assert chain.balance(SELLER) > 6 * 10**9


@in_browser
async def test_the_wallet_stays_the_same_when_the_page_is_opened_again(
    browser: Browser, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    name = await page.locator("#wallet-name").input_value()
    assert name.startswith("visitor-")
    await page.reload()
    await expect(page.locator("#wallet-name")).to_have_value(name)
    await page.locator("#wallet-name").fill("No Such")
    await page.locator("#wallet-name").press("Tab")
    await expect(page.locator("#wallet-word")).to_contain_text("Give it another name.")


@in_browser
async def test_a_refusal_is_said_with_its_reason_and_the_refund(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    for outcome, at, said in (
        (REFUSED, "chain", "The quote is not valid any more. (Exit code 135.) What came with it goes back"),
        (NOT_BACKED, "vault", "larger than the vault backs in one piece. (Exit code 121.) 6.70 TON went back to your"),
        ({**REFUSED, "stage": "expired", "hash": None, "reason": None}, "chain", "Nothing was paid. Buy again"),
    ):
        shop.transaction = outcome
        await pay(page, chain)
        await expect_step(page, at, "bad", said)
        await expect(page.locator("#buy-local")).to_be_enabled()


@in_browser
async def test_an_outage_while_following_does_not_lose_the_purchase(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    shop.outage = Refusal(503, "database_unavailable", "The ledger cannot be read right now.")
    await pay(page, chain)
    await expect_step(page, "chain", "now", "The ledger cannot be read right now. It is asked again")
    shop.outage, shop.transaction = Refusal(404, "unknown_transaction", "Not known here."), BACKED
    shop.outage = None
    await expect_step(page, "vault", "done", "policy 12")


@in_browser
async def test_nothing_is_bought_at_a_price_that_was_not_shown(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    shop.dearer_for_buyers = 1.05
    await page.locator("#buy-local").click()
    await expect_step(page, "quote", "bad", "The premium is now 6.90 TON; it was 6.58 TON. Nothing was sent.")
    await expect(page.locator("#premium-ton")).to_have_text("6.90TON")
    assert chain.waiting == 0
    await pay(page, chain)


@in_browser
async def test_a_buyer_who_gets_no_quote_is_told_what_binds(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    shop.refusal_of_buyers = Refusal(
        422, "capacity_exceeded", "The cover does not fit.", binding_limit="product_cap", binding_tranche=None
    )
    await page.locator("#buy-local").click()
    await expect_step(page, "quote", "bad", "The cover does not fit. What binds is the largest part of the vault one")
    await expect_step(page, "quote", "bad", "Choose a smaller amount. Nothing was sent.")
    assert chain.waiting == 0


@in_browser
async def test_a_quote_that_runs_out_before_it_is_signed_is_asked_for_again_but_not_without_end(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    """A local chain's clock may run so fast that a quote's minutes pass before it is signed; nothing was sent then."""
    page = await open_with_wallet(browser, local, chain)
    shop.deadline = chain.now
    await page.locator("#buy-local").click()
    await expect_step(page, "send", "now", "ran out before it could be signed; another")
    shop.deadline = None
    await expect_step(page, "send", "done", "as its order 0")
    shop.transaction = BACKED
    await expect(page.locator("#buy-local")).to_be_enabled()
    chain.mine_until_idle()
    shop.deadline = chain.now
    await page.clock.install()
    await page.locator("#buy-local").click()
    for asked in range(3, 7):
        async with asyncio.timeout(60):
            while len([one for one in shop.asked if "buyer" in one]) < asked:
                await asyncio.sleep(0.01)
        await page.clock.run_for(2000)
    await expect_step(page, "send", "bad", "too late. Ask for a new one. Nothing was sent: buy again")
    assert chain.waiting == 0


@in_browser
async def test_a_wallet_that_is_away_is_said(browser: Browser, shop: FakeShop, ledger: FakeLedger) -> None:
    async with running_shop(ledger, shop, f"http://127.0.0.1:{free_port()}/_localnet/wallet") as api:
        page, _ = await open_page(browser, api, at=DEPEG)
        await expect(page.locator("#wallet-word")).to_have_text("The test wallet cannot be reached.")
        await expect(page.locator("#wallet-balance")).to_have_text("—")
        await page.locator("#buy-local").click()
        await expect_step(page, "quote", "bad", "Is the local chain running? Nothing was sent.")


@in_browser
async def test_a_wallet_that_dies_while_it_signs_leaves_the_question_to_the_chain(
    browser: Browser, shop: FakeShop, ledger: FakeLedger, chain: LocalChain
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(running(chain))
        api = await stack.enter_async_context(running_shop(ledger, shop, f"{url}/_localnet/wallet"))
        page = await open_with_wallet(browser, api, chain)
        await page.route("**/wallet/send", lambda route: route.abort())
        await page.locator("#buy-local").click()
        await expect_step(page, "send", "unsure", "Whether it signed is not known: the chain is asked.")
        shop.transaction = BACKED
        await expect_step(page, "send", "done", "Signed and sent.")
        await expect_step(page, "vault", "done", "policy 12")


@in_browser
async def test_without_a_test_wallet_the_transaction_is_handed_over(
    browser: Browser, shop: FakeShop, api: RunningApi
) -> None:
    page, complaints = await open_page(browser, api, at=DEPEG)
    await expect(page.locator("#buy-own")).to_be_enabled()
    await expect(page.locator("#wallet")).to_be_hidden()
    await page.locator("#buy-own").click()
    await expect_step(page, "quote", "bad", "Give the address of the wallet that will pay")
    await page.get_by_label("Address of the wallet that pays").fill("0:" + "22" * 32)
    await page.locator("#buy-own").click()
    await expect(page.locator("#own-link")).to_have_attribute("href", re.compile("^ton://transfer/0Q"))
    assert '"messages"' in await page.locator("#own-json").input_value()
    await expect_step(page, "send", "now", "sign the transaction")
    assert shop.asked[-1]["buyer"] == "0:" + "22" * 32
    shop.transaction = BACKED
    await expect_step(page, "send", "done", "Signed and sent.")
    await expect_step(page, "vault", "done", "policy 12")
    assert complaints == []


@in_browser
async def test_it_can_be_bought_by_keyboard_alone(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain
) -> None:
    page = await open_with_wallet(browser, local, chain)
    await page.locator("#picks-chain input:checked").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("radio", name="Arbitrum")).to_be_checked()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await expect(page.locator("#amount")).to_be_focused()
    await page.keyboard.type("5000")
    await expect(page.locator("#premium-usd")).to_have_text("9.86 USD")
    await expect(page.locator("#buy-local")).to_be_enabled()
    await page.locator("#wallet-name").focus()
    await page.keyboard.press("Tab")
    await expect(page.locator("#buy-local")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect_step(page, "send", "done", "as its order 0")
    names = "[...document.querySelectorAll('.shop input, .shop textarea')].filter((one) => !one.labels.length).length"
    assert await page.evaluate(names) == 0


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_all_of_it_fits_the_window(
    browser: Browser, shop: FakeShop, local: RunningApi, chain: LocalChain, width: int, scheme: str
) -> None:
    shop.raised_to = "min_executable_premium_ton"
    page = await open_with_wallet(browser, local, chain, viewport={"width": width, "height": 740}, color_scheme=scheme)
    await page.locator("#own summary").click()
    await page.locator("#own-address").fill(SELLER)
    shop.transaction = NOT_BACKED
    await page.locator("#buy-own").click()
    await expect_step(page, "vault", "bad")
    await expect(page.locator("#list-note")).to_contain_text("the least premium that is sold")
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    right = "Math.max(...[...document.querySelectorAll('.shop *')].map((one) => one.getBoundingClientRect().right))"
    assert await page.evaluate(right) <= width
