"""What the live page says of alerts: the worst first, as they come and go, and never as markup."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from api.browsing import expect_state, in_browser, open_page, running_browser
from api.ledger_fake import FakeLedger
from api.running import RunningApi, running_api
from services.alert_story import AlertStory, alert_story
from tonsurance.api.settings import ApiSettings
from tonsurance.services.alert_records import AlertRecords
from tonsurance.services.lazy_pool import LazyPool


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with running_browser() as browser:
        yield browser


@pytest.fixture
async def story(database: str) -> AsyncIterator[AlertStory]:
    """A tranche with 1,000 TON and no cover."""
    async with alert_story(database) as story:
        yield story


@pytest.fixture
async def api(ledger: FakeLedger, story: AlertStory) -> AsyncIterator[RunningApi]:
    """An API that notices at once what happens to an alert."""
    records = AlertRecords(LazyPool(story.dsn))
    async with running_api(ledger, ApiSettings(port=0, poll_interval_s=0.05), records) as running:
        yield running
    await records.close()


async def covers(story: AlertStory, *amounts: float) -> None:
    """Evaluate each of these covers."""
    for amount in amounts:
        await story.cover(amount)
        await story.evaluate()


@in_browser
async def test_alerts_come_get_worse_and_go(browser: Browser, story: AlertStory, api: RunningApi) -> None:
    page, complaints = await open_page(browser, api)
    await expect_state(page, "live")
    await expect(page.locator("#alerts-word")).to_have_text("No alert is open.")
    await covers(story, 905)
    high = page.locator('.alert[data-kind="High_Utilization"]')
    await expect(high.locator(".badge")).to_have_text("High")
    await expect(high.locator(".said")).to_have_text("HIGH UTILIZATION: SURE-MEZZ at 90.50% (threshold: 90.00%)")
    await expect(page.locator("#alerts-word")).to_have_text("2 open")
    await covers(story, 951)
    await expect(high.locator(".badge")).to_have_text("Critical")
    await expect(page.locator("#alerts-word")).to_have_text("3 open, 2 critical")
    await expect(page.locator(".alert").last).to_have_attribute("data-severity", "Medium")
    await covers(story, 500, 501)
    await expect(page.locator(".alert")).to_have_count(0)
    await expect(page.locator("#alerts-word")).to_have_text("No alert is open.")
    assert complaints == []


@in_browser
async def test_who_has_seen_an_alert_is_shown_until_it_gets_more_severe(
    browser: Browser, story: AlertStory, api: RunningApi
) -> None:
    await covers(story, 905)
    page, _ = await open_page(browser, api)
    high = page.locator('.alert[data-kind="High_Utilization"]')
    await expect(high.locator(".seen")).to_have_text("")
    assert api.parts.alerts is not None
    alert_id = await story.conn.fetchval("SELECT alert_id FROM risk_alerts WHERE kind = 'High_Utilization'")
    await api.parts.alerts.records.acknowledge(alert_id, "<b>ann</b>")
    await expect(high.locator(".seen")).to_have_text("seen by <b>ann</b>")
    await covers(story, 925)
    await expect(high.locator(".said")).to_contain_text("92.50%")
    await expect(high.locator(".seen")).to_have_text("seen by <b>ann</b>")
    await covers(story, 951)
    await expect(high.locator(".seen")).to_have_text("")


@in_browser
async def test_alerts_that_cannot_be_read_are_not_shown_as_none(
    browser: Browser, story: AlertStory, api: RunningApi
) -> None:
    await covers(story, 905)
    page, _ = await open_page(browser, api)
    await expect(page.locator(".alert")).to_have_count(2)
    await story.conn.execute("ALTER TABLE risk_alerts RENAME TO away")
    await expect(page.locator("#alerts-word")).to_contain_text("cannot be read right now")
    await expect(page.locator(".alert")).to_have_count(2)
    await story.conn.execute("ALTER TABLE away RENAME TO risk_alerts")
    await expect(page.locator("#alerts-word")).to_have_text("2 open")


@in_browser
@pytest.mark.parametrize("width", [360, 1280])
async def test_alerts_fit_the_window(browser: Browser, story: AlertStory, api: RunningApi, width: int) -> None:
    await covers(story, 951)
    page, _ = await open_page(browser, api, viewport={"width": width, "height": 800})
    await expect(page.locator(".alert")).to_have_count(3)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
