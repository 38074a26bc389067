"""What the live page says of claims and losses: in words, in order, counted down, and never as markup."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from playwright.async_api import Browser, Locator, Page, expect

from api.browsing import expect_state, in_browser, open_page, running_browser, running_quick_api
from api.ledger_fake import BLOCK_TIME, FACTORY, LT, VAULT, FakeLedger
from api.running import RunningApi
from tonsurance.core.events import FACTORY_KIND, POSTED_TYPES, VAULT_KIND, FactoryEvent
from tonsurance.core.units import NANO_PER_TON as TON
from tonsurance.services.ports import PolicyCounts, PostedEvent

BUYER = "0:" + "c3" * 32
SIX = [-3 * TON] * 6
RELEASE, PAY = 0x39A6B75F, 1
FACTORY_TYPES = {cls.__name__ for cls in FactoryEvent.__args__}


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


def log(ledger: FakeLedger, event_type: str, *, lt: int | None = None, **fields: object) -> PostedEvent:
    """Post one event; the API notices at its next poll."""
    number = len(ledger.events) + 1
    of_factory = event_type in FACTORY_TYPES
    event = PostedEvent(
        event_id=number,
        contract=FACTORY if of_factory else VAULT,
        contract_kind=FACTORY_KIND if of_factory else VAULT_KIND,
        event_type=event_type,
        lt=LT + (number if lt is None else lt),
        message_index=0,
        transaction_hash=f"{number:064x}",
        block_time=BLOCK_TIME + number,
        fields=fields,
    )
    ledger.events.append(event)
    ledger.version += 1
    return event


SAID = {
    "DepositMade": ({"tranche_id": 1, "depositor": BUYER, "amount": 5 * TON, "shares": 1, "locked_shares": 0},
                    "Deposit of 5.00 TON in SURE-BTC"),
    "WithdrawalRequested": ({"tranche_id": 2, "withdrawer": BUYER, "shares": 1, "available_at": 0, "expires_at": 1},
                            "Withdrawal from SURE-SNR announced, open from 1970-01-01 00:00:00"),
    "WithdrawalMade": ({"tranche_id": 3, "withdrawer": BUYER, "amount": TON // 1000, "shares": 1},
                       "Withdrawal of 0.001 TON from SURE-MEZZ"),
    "PremiumsDistributed": ({"premium_amount": 6 * TON, "policy_id": 7, "parts": [TON] * 6},
                            "Premium of 6.00 TON received for policy 7"),
    "PremiumsEarned": ({"tranche_id": 5, "amount": 2 * TON}, "SURE-JNR+ earned 2.00 TON of premiums"),
    "CoverageChanged": ({"policy_id": 7, "parts": SIX}, "18.00 TON of cover released from policy 7"),
    "LossAbsorbed": ({"tranche_id": 6, "loss_amount": 12 * TON + TON // 2, "policy_id": 41},
                     "SURE-EQT lost 12.50 TON to policy 41"),
    "EpochStarted": ({"tranche_id": 6, "epoch": 2, "voided_shares": 2**100},
                     "SURE-EQT was used up: epoch 2 begins, all shares before it are void"),
    "ClaimDeferred": ({"policy_id": 41, "amount": TON, "due_at": 1_800_000_000},
                      "Breaker: 1.00 TON for policy 41 held back until 2027-01-15 08:00:00"),
    "ClaimCancelled": ({"policy_id": 41}, "Claim on policy 41 taken back by the admin of the vault"),
    "ShortfallReported": ({"policy_id": 41, "amount": TON}, "No tranche could bear 1.00 TON of the claim on policy 41"),
    "Frozen": ({"until": 1}, "The vault pays out again"),
    "Paused": ({"paused": True}, "The vault was paused"),
    "FactorySet": ({"factory": FACTORY}, "The vault takes policies from factory 0:b2b2b2…b2b2b2"),
    "PolicyCreated": ({"policy_id": 7, "quote_id": 1, "buyer": BUYER, "coverage_type": 1, "chain_id": 1,
                       "stablecoin_id": 1, "coverage_amount": 300 * TON, "premium": TON, "start": 1, "end": 2,
                       "trigger_bps": 9700, "floor_bps": 9000},
                      "Bought: policy 7, 300.00 TON of cover for 1.00 TON"),
    "PolicyRefused": ({"policy_id": 7, "quote_id": 1, "buyer": BUYER, "reason": 1},
                      "The vault did not back policy 7; the buyer got the money back"),
    "PolicyExpired": ({"policy_id": 7}, "Ended without a claim: policy 7"),
    "PayoutApproved": ({"policy_id": 41, "amount": TON}, "Claim on policy 41 approved: 1.00 TON"),
    "PayoutExecuted": ({"policy_id": 41, "beneficiary": BUYER, "amount": TON}, "Claim on policy 41 paid: 1.00 TON"),
    "PayoutCancelled": ({"policy_id": 41}, "Payout of policy 41 cancelled; the policy is active again"),
    "PayoutRefused": ({"policy_id": 41, "op": RELEASE},
                      "The vault did not release policy 41; the policy is active as before"),
    "QuoteKeySet": ({"public_key": "ab" * 32}, "Another key signs quotes from now on"),
    "FloatRebalanced": ({"action": 2, "amount": 150_000_000, "btc_price": 6_000_050, "btc_float_sats": 1,
                         "btc_cost_basis": 1, "usd_reserves": 1},
                        "Float: 1.50000000 BTC sold at 60,000.50 USD"),
    "TrancheUpdated": ({"tranche_id": 1, "capital": -5, "coverage": 0}, "SURE-BTC of a direct vault was updated"),
    "LedgerAdjusted": ({"tranche_id": 2, "capital": 1, "coverage": 0, "unearned": 0, "shares": 0},
                       "SURE-SNR was adjusted to the chain by a reconciliation"),
}  # fmt: skip


@in_browser
async def test_every_type_of_event_is_said_in_words(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    assert set(SAID) == set(POSTED_TYPES)
    page, complaints = await open_page(browser, api)
    await expect_state(page, "live")
    for event_type, (fields, words) in SAID.items():
        log(ledger, event_type, **fields)
        api.wake.set()
        row = page.locator(".events .event").first
        await expect(row).to_have_attribute("data-type", event_type)
        await expect(row.locator(".said")).to_have_text(words)
    assert complaints == []


@in_browser
async def test_a_loss_is_seen_and_said_where_it_happens(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    page, _ = await open_page(browser, api)
    await expect_state(page, "live")
    card = page.locator('[data-tranche="SURE-EQT"]')
    await expect(card.locator(".loss-note")).to_be_hidden()
    ledger.tranches["SURE-EQT"] = structs.replace(ledger.tranches["SURE-EQT"], losses_nano=25 * TON // 2)
    log(ledger, "LossAbsorbed", tranche_id=6, loss_amount=25 * TON // 2, policy_id=41)
    api.wake.set()
    await expect(card.locator(".lost")).to_have_text("12.50TON")
    await expect(page.locator("#sum-losses")).to_have_text("12.50TON")
    await expect(card.locator(".loss-note")).to_have_text("\u221212.50 TON · policy 41")
    await expect(card.locator(".loss-note")).to_be_visible()
    await expect(page.locator("#announce")).to_have_text("SURE-EQT lost 12.50 TON to policy 41.")
    await expect(page.locator('[data-tranche="SURE-BTC"] .loss-note')).to_be_hidden()


def claim_of(page: Page, policy: int) -> Locator:
    return page.locator(f'.claim[data-policy="{policy}"]')


@in_browser
async def test_a_claim_is_followed_from_approval_to_its_end(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    page, _ = await open_page(browser, api)
    await expect_state(page, "live")
    ends = {
        1: ("PayoutExecuted", {"beneficiary": BUYER, "amount": 4 * TON}, "paid"),
        2: ("PayoutRefused", {"op": PAY}, "refused"),
        3: ("PayoutCancelled", {}, "cancelled"),
    }
    for policy, (event_type, fields, badge) in ends.items():
        log(ledger, "PayoutApproved", policy_id=policy, amount=5 * TON)
        api.wake.set()
        await expect(claim_of(page, policy).locator(".badge")).to_have_text("approved")
        await expect(page.locator("#claims-open")).to_have_text("1 open")
        last = log(ledger, event_type, policy_id=policy, **fields)
        api.wake.set()
        await expect(claim_of(page, policy).locator(".badge")).to_have_text(badge)
        await expect(claim_of(page, policy).locator(".hash")).to_have_attribute("href", f"#tx={last.transaction_hash}")
    await expect(claim_of(page, 1).locator(".amount")).to_have_text("4.00TON")  # what was paid, not what was approved
    await expect(page.locator("#claims-open")).to_have_text("")


@in_browser
async def test_a_refused_expiry_is_no_claim(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    log(ledger, "PayoutRefused", policy_id=1, op=RELEASE)
    log(ledger, "PayoutApproved", policy_id=2, amount=TON)
    page, _ = await open_page(browser, api)
    await expect(page.locator(".claim")).to_have_count(1)
    await expect(claim_of(page, 2)).to_be_visible()


@in_browser
async def test_claims_follow_logical_time_and_not_the_order_of_posting(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    """The vault's events may be posted before the factory's that caused them."""
    log(ledger, "ClaimDeferred", policy_id=9, amount=TON, due_at=int(BLOCK_TIME) + 100, lt=20)
    log(ledger, "PayoutApproved", policy_id=9, amount=TON, lt=10)
    log(ledger, "PayoutExecuted", policy_id=8, beneficiary=BUYER, amount=TON, lt=40)
    log(ledger, "PayoutApproved", policy_id=8, amount=TON, lt=30)
    page, _ = await open_page(browser, api)
    await expect(claim_of(page, 9).locator(".badge")).to_have_text("deferred")
    await expect(claim_of(page, 8).locator(".badge")).to_have_text("paid")
    rows = page.locator(".claim")
    await expect(rows.nth(0)).to_have_attribute("data-policy", "9")  # what is still open comes first


@in_browser
async def test_a_deferred_claim_is_counted_down(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    log(ledger, "ClaimDeferred", policy_id=9, amount=TON, due_at=int(BLOCK_TIME) + 3)
    log(ledger, "ClaimDeferred", policy_id=10, amount=TON, due_at=int(BLOCK_TIME) + 7200)
    page, _ = await open_page(browser, api)
    await expect(claim_of(page, 9).locator(".word")).to_have_text(re.compile(r"due in [1-3] s"))
    await expect(claim_of(page, 10).locator(".word")).to_have_text(re.compile(r"due in 1 h 59 min|due in 2 h 0 min"))
    await expect(claim_of(page, 9).locator(".word")).to_have_text("due: anyone may have it paid now")


@in_browser
async def test_claims_from_before_the_page_was_opened_are_shown(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    """Not only those among the few events a newcomer is told."""
    log(ledger, "PayoutApproved", policy_id=5, amount=TON)
    log(ledger, "PayoutApproved", policy_id=6, amount=7 * TON)
    for _ in range(60):
        log(ledger, "PremiumsEarned", tranche_id=1, amount=1)
    log(ledger, "PayoutRefused", policy_id=6, op=PAY)
    page, _ = await open_page(browser, api)
    await expect(claim_of(page, 5).locator(".badge")).to_have_text("approved")
    await expect(claim_of(page, 6).locator(".badge")).to_have_text("refused")
    await expect(claim_of(page, 6).locator(".amount")).to_have_text("7.00TON")
    await expect(page.locator("#no-claims")).to_be_hidden()


@in_browser
async def test_what_comes_from_the_chain_is_never_markup(browser: Browser, ledger: FakeLedger, api: RunningApi) -> None:
    evil = "<img src=x onerror=alert(1)>"
    page, complaints = await open_page(browser, api)
    await expect_state(page, "live")
    log(ledger, "PolicyExpired", policy_id=evil)
    log(ledger, "ClaimCancelled", policy_id='"]<script>1</script>')
    log(ledger, evil, note=1)
    api.wake.set()
    said = page.locator(".events .said")
    await expect(said.nth(0)).to_have_text(evil)
    await expect(said.nth(2)).to_have_text(f"Ended without a claim: policy {evil}")
    assert await page.locator("main img, main script").count() == 0
    assert complaints == []


@in_browser
async def test_policies_are_counted_and_counted_anew_when_one_changes(
    browser: Browser, ledger: FakeLedger, api: RunningApi
) -> None:
    ledger.policies = PolicyCounts(active=1234, approved=2, claimed=3, expired=4)
    page, _ = await open_page(browser, api)
    await expect(page.locator("#policies dd")).to_have_text(["1,234", "2", "3", "4"])
    await expect_state(page, "live")
    ledger.policies = PolicyCounts(active=1233, approved=2, claimed=4, expired=4)
    log(ledger, "PayoutExecuted", policy_id=1, beneficiary=BUYER, amount=TON)
    api.wake.set()
    await expect(page.locator("#policies dd")).to_have_text(["1,233", "2", "4", "4"])
