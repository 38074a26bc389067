"""A real browser for the live page, and an API that notices quickly what its ledger does."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api
from tonsurance.api.settings import ApiSettings

expect.set_options(timeout=60_000)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def running_quick_api(ledger: FakeLedger) -> AsyncIterator[RunningApi]:
    """An API that notices events and outages quickly."""
    async with running_api(ledger, ApiSettings(port=0, poll_interval_s=0.05, stale_after_s=2.0)) as running:
        yield running


async def open_page(browser: Browser, api: RunningApi, *, at: str = "", **options: object) -> tuple[Page, list[str]]:
    """The page once it is live, and the list that whatever the browser complains about goes to."""
    complaints: list[str] = []
    page = await browser.new_page(**options)  # type: ignore[arg-type]
    page.set_default_timeout(60_000)
    page.on("console", lambda message: complaints.append(message.text) if _is_complaint(message) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"http://127.0.0.1:{api.port}/{at}")
    return page, complaints


def _is_complaint(message: ConsoleMessage) -> bool:
    """An error of the browser's, but for this: an API of tests without products sells nothing, as the page says."""
    return message.type == "error" and not message.location["url"].endswith("/api/v2/products")


async def expect_state(page: Page, state: str) -> None:
    """The connection's state as shown."""
    await expect(page.locator("#state")).to_have_attribute("data-state", state)
