"""The live page in a real browser: it follows the ledger, links every figure to its transactions, and says honestly
when something cannot be read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from api.browsing import expect_state, in_browser, open_page, running_browser, running_quick_api
from api.ledger_fake import FakeLedger, totals
from api.running import RunningApi, running_api
from tonsurance.api.page import PARTS
from tonsurance.api.settings import ApiSettings
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import DatabaseUnavailable


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with running_browser() as browser:
        yield browser


@pytest.fixture
async def api(ledger: FakeLedger) -> AsyncIterator[RunningApi]:
    """An API that notices an outage quickly."""
    async with running_quick_api(ledger) as running:
        yield running


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
    for path in sorted(set(PARTS) - {"/favicon.svg"}):
        answer = await api.get(path)
        assert answer.status_code == 200
        outside = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in outside
        assert "https://" not in outside
        assert (await api.get(path, if_none_match=answer.headers["etag"])).status_code == 304
    assert (await api.get("/favicon.svg")).headers["content-type"] == "image/svg+xml"
