"""The life of a policy between factory and vault: answers, refusals, retries, expiry; roles and rent."""

from __future__ import annotations

import pytest
from pytoniq_core.boc.builder import Builder

from contracts.factory_run import KEY, NETWORK, OTHER_KEY, TON, FactoryRun, excess
from contracts.world import ADMIN, ALICE, BOB, CAROL, CLAIMS, address, read_address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S
from tonsurance.chain.messages import Op, build_cell
from tonsurance.core.events import (
    CoverageChanged,
    Paused,
    PayoutRefused,
    PolicyCreated,
    PolicyExpired,
    PolicyRefused,
    PremiumsDistributed,
    PremiumsEarned,
    QuoteKeySet,
)

GAS = messages.REQUEST_GAS
ENOUGH = TON + GAS
COVER_OVER = (1 + 90 + 7) * DAY_S


# ---- the vault refuses


def test_a_refused_policy_is_gone_and_the_buyer_has_his_money() -> None:
    run = FactoryRun()
    before = run.world.balance(run.factory), run.world.balance(run.vault)
    quote = run.quote(coverage_amount=301 * TON, premium=5 * TON)  # more than 5 % of the vault
    steps = run.buy(quote)
    assert [step.exit_code for step in steps] == [0, 121, 0]
    assert steps[-1].events == (PolicyRefused(1, quote.quote_id, ALICE, Op.BACK_POLICY),)
    returned = excess(steps)
    assert (returned.destination, returned.query_id) == (ALICE, 77)
    assert 5 * TON < returned.value < 5 * TON + GAS
    assert run.state(1) is None
    assert run.counts() == (0, 1)
    assert (run.world.balance(run.factory), run.world.balance(run.vault)) == before
    run.buy()
    assert run.state(2) == 2  # the refused id is burned


# ---- answers that are late, lost or doubled


def lose_request(run: FactoryRun) -> None:
    """Buy, and let the request to the vault disappear."""
    run.world.post(ALICE, run.factory, ENOUGH, run.body(run.quote()))
    run.world.hop()
    run.world.queue.clear()


def test_a_lost_purchase_can_be_retried_by_anyone_who_brings_the_premium() -> None:
    run = FactoryRun()
    lose_request(run)
    run.world.now += 599
    run.refuse(BOB, ENOUGH, messages.retry_policy(1), 153)
    run.world.now += 1
    run.refuse(BOB, ENOUGH - 1, messages.retry_policy(1), 104)
    steps = run.retry(1, sender=BOB, value=ENOUGH)
    [created] = steps[-1].events
    assert isinstance(created, PolicyCreated)
    assert created.buyer == ALICE
    returned = excess(steps)
    assert (returned.destination, returned.query_id) == (BOB, 79)
    assert returned.value < GAS
    run.refuse(BOB, ENOUGH, messages.retry_policy(1), 151)


def test_a_retry_restarts_the_wait() -> None:
    run = FactoryRun()
    lose_request(run)
    run.world.now += 600
    run.world.post(BOB, run.factory, ENOUGH, messages.retry_policy(1))
    run.world.hop()
    run.world.queue.clear()
    run.world.now += 599
    run.refuse(CAROL, ENOUGH, messages.retry_policy(1), 153)


def hold_request_and_retry(run: FactoryRun) -> None:
    """ALICE's request is still under way when BOB retries; the vault will see them in this order."""
    run.world.post(ALICE, run.factory, ENOUGH, run.body(run.quote()))
    run.world.hop()
    held = run.world.queue.popleft()
    run.world.now += 600
    run.world.post(BOB, run.factory, ENOUGH, messages.retry_policy(1, query_id=79))
    run.world.hop()
    run.world.queue.appendleft(held)


def test_a_late_purchase_backs_the_policy_and_the_retry_gets_its_premium_back() -> None:
    run = FactoryRun()
    before = run.world.balance(run.vault)
    hold_request_and_retry(run)
    steps = run.world.run()
    to_alice, to_bob = (p for step in steps for p in step.sent if p.op == Op.EXCESSES)
    assert (to_alice.destination, to_bob.destination) == (ALICE, BOB)
    assert to_alice.value < GAS
    assert TON < to_bob.value < ENOUGH
    assert run.state(1) == 2
    assert [type(event) for step in steps for event in step.events] == [
        PremiumsDistributed, CoverageChanged, PolicyCreated,
    ]  # fmt: skip
    rent = sum(step.storage_fee for step in steps if step.account == run.vault)
    assert run.world.balance(run.vault) == before + TON - rent


def test_a_late_refusal_returns_the_buyers_money_and_the_retry_decides() -> None:
    run = FactoryRun()
    run.world.send(ADMIN, run.vault, GAS, messages.pause())
    hold_request_and_retry(run)
    run.world.hop()  # the vault refuses the first request
    retry = run.world.queue.popleft()
    refused = run.world.hop()
    assert (refused.events, run.state(1)) == ((), 1)
    assert (excess([refused]).destination, run.world.queue) == (ALICE, run.world.queue.__class__())
    run.world.send(ADMIN, run.vault, GAS, messages.unpause())
    run.world.queue.append(retry)
    steps = run.world.run()
    assert (excess(steps).destination, run.state(1)) == (BOB, 2)


def test_a_refused_retry_ends_the_policy() -> None:
    run = FactoryRun()
    lose_request(run)
    run.world.send(ADMIN, run.vault, GAS, messages.pause())
    run.world.now += 600
    steps = run.retry(1, sender=BOB, value=ENOUGH)
    assert isinstance(steps[-1].events[0], PolicyRefused)
    assert excess(steps).destination == BOB
    assert run.state(1) is None


def test_only_the_vault_answers() -> None:
    run = FactoryRun()
    lose_request(run)
    for op in (Op.POLICY_BACKED, Op.COVERAGE_RELEASED):
        body = build_cell(("uint32", op), ("uint64", 1), ("uint64", 1))
        run.refuse(ALICE, TON, body, 103)
    assert run.state(1) == 1


@pytest.mark.parametrize("op", [Op.POLICY_BACKED, Op.COVERAGE_RELEASED])
def test_an_answer_about_no_policy_is_kept_as_rent(op: Op) -> None:
    run = FactoryRun(real_vault=False)
    before = run.world.balance(run.factory)
    step = run.play_answer(op, 5, 9)
    assert (step.succeeded, step.sent, step.events) == (True, (), ())
    assert run.world.balance(run.factory) == before + TON - step.fees
    step = run.play_bounce(Op.BACK_POLICY, 5, 9)
    assert (step.succeeded, step.sent, step.events) == (True, (), ())


def test_a_refusal_of_a_policy_that_is_active_already_only_returns_the_money() -> None:
    run = FactoryRun(real_vault=False)
    run.buy_asked()
    flight = run.flight(1)
    assert isinstance(run.play_answer(Op.POLICY_BACKED, flight, 1).events[0], PolicyCreated)
    again = run.play_answer(Op.POLICY_BACKED, flight, 1)
    assert (again.events, excess([again]).destination) == ((), ALICE)
    refused = run.play_bounce(Op.BACK_POLICY, flight, 1)
    assert (refused.events, run.state(1)) == ((), 2)
    assert run.play_answer(Op.COVERAGE_RELEASED, flight, 1).events == ()
    assert run.state(1) == 2


# ---- expiry


def test_a_policy_ends_only_after_the_cover_and_the_time_to_claim() -> None:
    run = FactoryRun()
    run.buy()
    run.world.now += COVER_OVER - 1
    run.refuse(CLAIMS, GAS, messages.expire_policy(1), 152)
    run.world.now += 1
    run.refuse(CLAIMS, GAS - 1, messages.expire_policy(1), 104)
    run.refuse(CLAIMS, GAS, messages.expire_policy(2), 150)
    before = run.world.balance(run.vault)
    steps = run.expire(1)
    earned = [event for event in steps[1].events if isinstance(event, PremiumsEarned)]
    assert sum(event.amount for event in earned) == TON
    assert isinstance(steps[1].events[-1], CoverageChanged)
    assert steps[2].events == (PolicyExpired(1),)
    returned = excess(steps)
    assert (returned.destination, returned.query_id) == (CLAIMS, 78)
    assert run.state(1) is None
    assert run.counts()[0] == 0
    assert run.world.get(run.vault, "get_vault_state")[1:5] == [6_001 * TON, 0, 0, 0]
    assert run.world.balance(run.vault) == before - steps[1].storage_fee
    run.check_money()


def test_a_policy_that_is_not_active_does_not_expire() -> None:
    run = FactoryRun()
    lose_request(run)
    run.world.now += COVER_OVER
    run.refuse(CLAIMS, GAS, messages.expire_policy(1), 151)


def test_a_lost_release_can_be_retried_by_anyone() -> None:
    run = FactoryRun()
    run.buy()
    run.world.now += COVER_OVER
    run.world.post(CLAIMS, run.factory, GAS, messages.expire_policy(1))
    run.world.hop()
    run.world.queue.clear()
    assert run.state(1) == 3
    run.refuse(CLAIMS, GAS, messages.expire_policy(1), 151)
    run.refuse(BOB, GAS, messages.retry_policy(1), 153)
    run.world.now += 600
    run.refuse(BOB, GAS - 1, messages.retry_policy(1), 104)
    steps = run.retry(1, sender=BOB, value=GAS)
    assert steps[-1].events == (PolicyExpired(1),)
    assert excess(steps).destination == BOB
    run.refuse(BOB, GAS, messages.retry_policy(1), 150)


def test_a_refused_release_makes_the_policy_active_again() -> None:
    run = FactoryRun(real_vault=False)
    run.buy_asked()
    run.play_answer(Op.POLICY_BACKED, run.flight(1), 1)
    run.world.now += COVER_OVER
    run.expire(1)
    first = run.flight(1)
    run.world.now += 600
    run.retry(1, sender=BOB, value=GAS)
    late = run.play_bounce(Op.RELEASE_COVERAGE, first, 1)
    assert (late.events, excess([late]).destination, run.state(1)) == ((), ALICE, 3)
    refused = run.play_bounce(Op.RELEASE_COVERAGE, run.flight(1), 1)
    assert refused.events == (PayoutRefused(1, Op.RELEASE_COVERAGE),)
    assert (excess([refused]).destination, run.state(1)) == (BOB, 2)
    run.expire(1)
    assert run.play_answer(Op.COVERAGE_RELEASED, run.flight(1), 1).events == (PolicyExpired(1),)


# ---- roles, pause, rent


def test_a_pause_stops_sales_and_expiries_but_not_a_retry() -> None:
    run = FactoryRun()
    run.buy()
    [step] = run.world.send(ADMIN, run.factory, GAS, messages.pause())
    assert step.events == (Paused(True),)
    assert run.world.get(run.factory, "get_factory_config")[0] == 1
    run.refuse(ALICE, ENOUGH, run.body(run.quote()), 100)
    run.world.now += COVER_OVER
    run.refuse(CLAIMS, GAS, messages.expire_policy(1), 100)
    run.refuse(CLAIMS, GAS, messages.retry_policy(1), 151)
    [step] = run.world.send(ADMIN, run.factory, GAS, messages.unpause())
    assert step.events == (Paused(False),)
    assert run.expire(1)[-1].events == (PolicyExpired(1),)


def test_an_answer_is_taken_while_paused() -> None:
    run = FactoryRun()
    run.world.post(ALICE, run.factory, ENOUGH, run.body(run.quote()))
    run.world.hop()
    run.world.send(ADMIN, run.factory, GAS, messages.pause())
    run.world.run()
    assert run.state(1) == 2


def test_the_admin_replaces_the_quote_key() -> None:
    run = FactoryRun()
    key = bytes(OTHER_KEY.verify_key)
    [step] = run.world.send(ADMIN, run.factory, GAS, messages.set_quote_key(key, query_id=5))
    assert step.events == (QuoteKeySet(key.hex()),)
    assert (excess([step]).destination, excess([step]).query_id) == (ADMIN, 5)
    config = run.world.get(run.factory, "get_factory_config")
    old = int.from_bytes(bytes(KEY.verify_key), "big")
    assert config[5:8] == [int.from_bytes(key, "big"), old, run.world.now + 300]


@pytest.mark.parametrize("body", [messages.pause(), messages.unpause(), messages.set_quote_key(bytes(32))])
def test_only_the_admin_administers(body) -> None:
    run = FactoryRun(real_vault=False)
    run.refuse(ALICE, GAS, body, 101)
    run.refuse(CLAIMS, GAS, body, 101)


def test_the_factory_says_how_it_is_configured() -> None:
    run = FactoryRun(real_vault=False, waiting_period_s=5, claim_grace_s=6, key_overlap_s=7)
    config = run.world.get(run.factory, "get_factory_config")
    assert config[:2] == [0, NETWORK]
    assert [read_address(part) for part in config[2:5]] == [run.vault, ADMIN, CLAIMS]
    assert config[8:] == [5, 6, 7, 0, 10_000, 0, 2_000]


def test_anyone_adds_to_the_rent_reserve() -> None:
    run = FactoryRun(real_vault=False)
    before = run.world.balance(run.factory)
    [step] = run.world.send(address(1), run.factory, 3 * TON, messages.top_up())
    assert (step.succeeded, step.sent) == (True, ())
    assert run.world.balance(run.factory) == before + 3 * TON - step.fees


COMMENT = Builder().store_uint(0, 32).store_bytes(b"please insure my coins").end_cell()


@pytest.mark.parametrize(
    "body", [Builder().end_cell(), COMMENT, build_cell(("uint32", Op.DEPOSIT), ("uint64", 0), ("uint8", 1))]
)
def test_what_is_no_operation_is_refused_so_that_nobody_loses_money(body) -> None:
    FactoryRun(real_vault=False).refuse(ALICE, 5 * TON, body, 0xFFFF)
