"""The live page in a real browser: six cards that follow the ledger, and an honest word when it cannot be read."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from api.ledger_fake import FakeLedger, totals
from api.running import RunningApi, running_api
from tonsurance.api.settings import ApiSettings
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import DatabaseUnavailable

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def api(ledger: FakeLedger) -> AsyncIterator[RunningApi]:
    """An API that notices an outage quickly."""
    async with running_api(ledger, ApiSettings(port=0, poll_interval_s=0.05, stale_after_s=0.5)) as running:
        yield running


async def open_page(browser: Browser, api: RunningApi, **options: object) -> tuple[Page, list[str]]:
    """The page once it is live, and the list that whatever the browser complains about goes to."""
    complaints: list[str] = []
    page = await browser.new_page(**options)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"http://127.0.0.1:{api.port}/")
    return page, complaints


async def expect_state(page: Page, state: str) -> None:
    """The connection's state as shown."""
    await expect(page.locator("#state")).to_have_attribute("data-state", state, timeout=15_000)


@in_browser
async def test_six_cards_follow_the_ledger(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    page, complaints = await open_page(browser, api)
    await expect_state(page, "live")
    cards = page.locator(".card")
    await expect(cards).to_have_count(6)
    before = {}
    for tranche_id in TRANCHE_IDS:
        card = page.locator(f'[data-tranche="{tranche_id}"]')
        await expect(card.locator(".use-value")).to_have_text("50.0 %")
        await expect(card.locator(".tvl")).to_have_text("1,000.00TON")
        await expect(card.locator(".curve .line")).to_have_count(1)
        before[tranche_id] = await card.locator(".apy-value").inner_text()
    assert before["SURE-SNR"] == "8.55"
    for tranche_id in TRANCHE_IDS:
        ledger.commit(tranche_id, 2000, 1500)
    api.wake.set()
    for tranche_id in TRANCHE_IDS:
        card = page.locator(f'[data-tranche="{tranche_id}"]')
        await expect(card.locator(".use-value")).to_have_text("75.0 %")
        await expect(card.locator(".room")).to_have_text("400.00TON")
        changed = await card.locator(".apy-value").inner_text() != before[tranche_id]
        assert changed == (tranche_id != "SURE-BTC")  # its curve is flat
    await expect(page.locator(".events .event")).to_have_count(6)
    await expect(page.locator(".events .event").first).to_contain_text("Deposit")
    await expect(page.locator("#age")).not_to_have_text("—")
    assert complaints == []


@in_browser
async def test_an_outage_is_shown_as_stale_with_the_last_figures(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    page, _ = await open_page(browser, api)
    await expect_state(page, "live")
    ledger.failure = DatabaseUnavailable()
    await expect_state(page, "stale")
    await expect(page.locator('[data-tranche="SURE-SNR"] .use-value')).to_have_text("50.0 %")
    ledger.failure = None
    await expect_state(page, "live")


@in_browser
async def test_what_is_missing_is_shown_as_missing(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    ledger.tranches = {"SURE-EQT": totals("SURE-EQT", 0, 500)}
    ledger.version += 1
    page, _ = await open_page(browser, api)
    await expect_state(page, "live")
    insolvent = page.locator('[data-tranche="SURE-EQT"]')
    await expect(insolvent.locator(".apy-value")).to_have_text("—")
    await expect(insolvent.locator(".use-value")).to_have_text("—")
    await expect(insolvent.locator(".warning")).to_have_text("Cover without capital")
    unknown = page.locator('[data-tranche="SURE-BTC"]')
    for part in (".apy-value", ".use-value", ".tvl", ".room"):
        await expect(unknown.locator(part)).to_have_text("—")


@in_browser
async def test_a_lost_connection_is_shown_and_resumed(browser: Browser, ledger: FakeLedger) -> None:
    async with running_api(ledger) as api:
        page, _ = await open_page(browser, api)
        await expect_state(page, "live")
        port = api.port
    await expect_state(page, "reconnecting")
    ledger.commit("SURE-SNR", 1000, 900)
    async with running_api(ledger, ApiSettings(port=port)):
        await expect_state(page, "live")
        await expect(page.locator('[data-tranche="SURE-SNR"] .use-value')).to_have_text("90.0 %")
        await expect(page.locator('[data-tranche="SURE-SNR"] .warning')).to_have_text("High")


@in_browser
async def test_the_page_fits_a_telephone(browser: Browser, api: RunningApi) -> None:
    page, _ = await open_page(browser, api, viewport={"width": 360, "height": 740})
    await expect_state(page, "live")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_the_page_asks_nobody_else(api: RunningApi) -> None:
    for path in ("/", "/app.js", "/draw.js", "/feed.js", "/style.css"):
        answer = await api.get(path)
        assert answer.status_code == 200
        outside = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in outside
        assert "https://" not in outside
        assert (await api.get(path, if_none_match=answer.headers["etag"])).status_code == 304
    assert (await api.get("/favicon.svg")).headers["content-type"] == "image/svg+xml"
