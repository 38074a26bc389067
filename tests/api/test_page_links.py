"""Every figure of the live page leads to its transactions, by links that can be kept, sent and gone back from."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from api.browsing import expect_state, in_browser, open_page, running_browser, running_quick_api
from api.ledger_fake import BLOCK_TIME, LT, FakeLedger
from api.running import RunningApi
from api.test_page_claims import log
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.core.units import NANO_PER_TON as TON
from tonsurance.services.ports import PostedEntry

HASH = f"{1:064x}"
"""Of the first event that is logged."""


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


def book(ledger: FakeLedger, tranche: str, event_type: str, *, policy: int | None = None, **deltas: int) -> None:
    """One ledger entry, in whole TON."""
    number = len(ledger.entries) + 1
    changes = {name: deltas.get(name, 0) * TON for name in ("capital", "coverage", "unearned", "loss")}
    ledger.entries.append(
        PostedEntry(
            entry_id=number,
            tranche_id=tranche,
            event_id=number,
            event_type=event_type,
            policy_id=policy,
            transaction_hash=HASH,
            lt=LT + number,
            message_index=0,
            block_time=BLOCK_TIME + number,
            shares_delta=0,
            **{f"{name}_delta": change for name, change in changes.items()},
        )
    )
    ledger.version += 1


@in_browser
async def test_a_figure_leads_to_its_entries_and_on_to_the_transaction(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    loss = log(ledger, "LossAbsorbed", tranche_id=6, loss_amount=12 * TON, policy_id=41)
    book(ledger, "SURE-EQT", "DepositMade", capital=500)
    book(ledger, "SURE-EQT", "LossAbsorbed", policy=41, capital=-12, loss=12)
    book(ledger, "SURE-BTC", "LossAbsorbed", policy=42, capital=-1, loss=1)
    page, complaints = await open_page(browser, api)
    await expect_state(page, "live")

    await page.locator('[data-tranche="SURE-EQT"] .lost').click()
    await expect(page.locator("#panel-title")).to_have_text("SURE-EQT")
    row = page.locator(".entry")
    await expect(row).to_have_count(1)  # of this tranche, and of its losses
    await expect(row.locator(".said")).to_have_text("Loss · policy 41")
    await expect(row.locator('[data-figure="losses"]')).to_have_text("losses +12.00TON")
    assert page.url.endswith("#tranche=SURE-EQT&figure=losses")

    await row.locator(".hash").click()
    await expect(page.locator("#panel-title")).to_have_text("Transaction")
    assert page.url.endswith(f"#tx={loss.transaction_hash}")
    await expect(page.locator("#panel .event .said")).to_have_text(["SURE-EQT lost 12.00 TON to policy 41"])

    await page.locator("#panel .event .policy").click()
    await expect(page.locator("#panel-title")).to_have_text("Policy 41")
    for expected in ("Transaction", "SURE-EQT"):
        await page.go_back()
        await expect(page.locator("#panel-title")).to_have_text(expected)
    await page.go_back()
    await expect(page.locator("#panel")).to_be_hidden()
    assert complaints == []


@in_browser
@pytest.mark.parametrize(
    ("figure", "selector"), [("capital", ".tvl"), ("cover", ".covered"), ("losses", ".lost"), ("", ".use-value")]
)
async def test_every_figure_of_a_card_has_its_place(
    browser: Browser, api: RunningApi, figure: str, selector: str
) -> None:
    page, _ = await open_page(browser, api)
    link = page.locator(f'[data-tranche="SURE-JNR+"] {selector}')
    await expect(link).to_have_attribute("href", "#tranche=SURE-JNR+" + (f"&figure={figure}" if figure else ""))


@in_browser
async def test_a_kept_link_opens_what_it_opened_before(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    log(ledger, "LossAbsorbed", tranche_id=6, loss_amount=TON, policy_id=41)
    book(ledger, "SURE-JNR+", "DepositMade", capital=500)
    for at, heading in (
        ("#tranche=SURE-JNR+", "SURE-JNR+"),
        ("#tranche=SURE-JNR%2B&figure=capital", "SURE-JNR+"),
        (f"#tx={ledger.events[0].transaction_hash.upper()}", "Transaction"),
        ("#policy=41", "Policy 41"),
        ("#events=LossAbsorbed", "LossAbsorbed"),
        ("#tranche=all&figure=losses", "All tranches"),
    ):
        page, complaints = await open_page(browser, api, at=at)
        await expect(page.locator("#panel-title")).to_have_text(heading)
        await expect(page.locator("#panel-word")).to_contain_text("all" if "losses" not in at else "")
        assert complaints == []
        await page.close()


@in_browser
@pytest.mark.parametrize("at", ["#tx=abc", "#tranche=SURE-XXX", "#policy=1;drop", "#<b>", "#tranche=%E0%A4%A"])
async def test_a_broken_link_is_said_to_be_one(browser: Browser, api: RunningApi, at: str) -> None:
    page, complaints = await open_page(browser, api, at=at)
    await expect(page.locator("#panel-word")).to_contain_text("The link may be cut off")
    await expect(page.locator("#panel-again")).to_be_hidden()
    assert complaints == []


@in_browser
async def test_it_can_be_used_by_keyboard_alone(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    book(ledger, "SURE-EQT", "DepositMade", capital=500)
    page, _ = await open_page(browser, api)
    await expect_state(page, "live")
    figure = page.locator('[data-tranche="SURE-EQT"] .tvl')
    await figure.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".entry")).to_have_count(1)
    assert await page.evaluate("document.getElementById('panel').contains(document.activeElement)")
    await page.keyboard.press("Escape")
    await expect(page.locator("#panel")).to_be_hidden()
    await expect(figure).to_be_focused()
    await expect(page).not_to_have_url(re.compile("#"))  # the close event comes after the panel is hidden


@in_browser
async def test_many_entries_come_page_by_page(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    for number in range(250):
        book(ledger, "SURE-EQT", "DepositMade", capital=number + 1)
    page, _ = await open_page(browser, api, at="#tranche=SURE-EQT&figure=capital")
    rows, more = page.locator(".entry"), page.locator("#panel-more")
    await expect(rows).to_have_count(100)
    await expect(rows.first).to_contain_text("+250.00TON")
    await more.click()
    await expect(rows).to_have_count(200)
    await more.click()
    await expect(rows).to_have_count(250)
    await expect(more).to_be_hidden()
    await expect(page.locator("#panel-word")).to_contain_text("That is all: 250 shown of 250 read")


@in_browser
async def test_rare_entries_are_looked_for_on_older_pages(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    book(ledger, "SURE-EQT", "LossAbsorbed", policy=1, capital=-3, loss=3)
    for _ in range(350):
        book(ledger, "SURE-EQT", "DepositMade", capital=1)
    page, _ = await open_page(browser, api, at="#tranche=SURE-EQT&figure=losses")
    await expect(page.locator(".entry")).to_have_count(1)
    await expect(page.locator("#panel-word")).to_contain_text("1 shown of 351 read")


@in_browser
async def test_an_unreadable_ledger_is_said_and_tried_again(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    book(ledger, "SURE-EQT", "DepositMade", capital=500)
    page, _ = await open_page(browser, api)
    await expect_state(page, "live")
    ledger.failure = DatabaseUnavailable()
    await page.locator('[data-tranche="SURE-EQT"] .tvl').click()
    await expect(page.locator("#panel-word")).to_have_attribute("data-bad", "true")
    await expect(page.locator("#panel-word")).not_to_have_text("")
    ledger.failure = None
    await page.locator("#panel-again").click()
    await expect(page.locator(".entry")).to_have_count(1)


@in_browser
@pytest.mark.parametrize("at", ["", "#tranche=SURE-EQT&figure=losses", f"#tx={1:064x}"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_of_it_fits_a_telephone(
    browser: Browser, ledger: FakeLedger, api: RunningApi, at: str, scheme: str
) -> None:
    log(ledger, "PayoutApproved", policy_id=2**64 - 1, amount=10**17)
    log(ledger, "ClaimDeferred", policy_id=2**64 - 1, amount=10**17, due_at=int(BLOCK_TIME) + 86_000)
    book(ledger, "SURE-EQT", "LossAbsorbed", policy=2**63 - 1, capital=-(10**8), loss=10**8)
    page, _ = await open_page(browser, api, at=at, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    await expect_state(page, "live")
    await expect(page.locator(".claim")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    if at:
        await expect(page.locator("#panel-rows li").first).to_be_visible()
        assert await page.evaluate("panel.scrollWidth <= panel.clientWidth && panel.clientWidth < 360")
