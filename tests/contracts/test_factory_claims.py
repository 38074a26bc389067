"""Payouts: who may approve them, what the vault's answers do to a policy, and whom the money goes to."""

from __future__ import annotations

from contracts.factory_run import TON, FactoryRun, excess
from contracts.world import ADMIN, ALICE, BOB, CLAIMS, STRANGER
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S, VaultTerms
from tonsurance.chain.messages import Op
from tonsurance.core.events import (
    PayoutApproved,
    PayoutCancelled,
    PayoutExecuted,
    PayoutRefused,
    PolicyExpired,
)

GAS = messages.REQUEST_GAS
ACTIVE, CLOSING, PAYING, DUE = 2, 3, 4, 5


def insured(*, real_vault: bool = True, **terms: int) -> FactoryRun:
    """Alice's policy 1 is active and its cover has begun."""
    run = FactoryRun(real_vault=real_vault, **terms)
    if real_vault:
        run.buy()
    else:
        run.buy_asked()
        run.play_answer(Op.POLICY_BACKED, 1, 1)
    run.world.now += DAY_S
    assert run.state(1) == ACTIVE
    return run


def test_an_approved_payout_reaches_the_buyer_to_the_nano_and_ends_the_policy() -> None:
    run = insured()
    asked, paid, told = run.pay(1, 60 * TON)
    assert asked.events == (PayoutApproved(1, 60 * TON),)
    assert (ALICE, 60 * TON, Op.CLAIM_PAYMENT) in [(p.destination, p.value, p.op) for p in paid.sent]
    assert told.events == (PayoutExecuted(1, ALICE, 60 * TON),)
    assert run.state(1) is None
    assert run.counts()[0] == 0
    rest = excess([told])
    assert (rest.destination, rest.query_id) == (CLAIMS, 80)
    assert 0 < GAS - rest.value < GAS
    run.check_money()


def test_only_the_claims_role_approves() -> None:
    run = insured()
    for sender in (ALICE, ADMIN, STRANGER):
        run.refuse(sender, GAS, messages.execute_payout(1, TON), 154)


def test_no_payout_before_the_cover_begins_to_the_second() -> None:
    run = FactoryRun()
    run.buy()
    run.world.now += DAY_S - 1
    run.refuse(CLAIMS, GAS, messages.execute_payout(1, TON), 155)
    run.world.now += 1
    run.pay(1, TON)
    assert run.state(1) is None


def test_no_payout_of_nothing_above_the_cover_or_of_an_unknown_policy_or_with_too_little_gas() -> None:
    run = insured()
    run.refuse(CLAIMS, GAS, messages.execute_payout(1, 0), 156)
    run.refuse(CLAIMS, GAS, messages.execute_payout(1, 100 * TON + 1), 156)
    run.refuse(CLAIMS, GAS, messages.execute_payout(2, TON), 150)
    run.refuse(CLAIMS, GAS - 1, messages.execute_payout(1, TON), 104)
    run.pay(1, 100 * TON)
    assert run.state(1) is None


def test_a_payout_goes_on_while_sales_are_paused_and_until_somebody_expires_the_policy() -> None:
    run = insured()
    run.world.now += 90 * DAY_S + 30 * DAY_S
    run.world.send(ADMIN, run.factory, messages.SIMPLE_GAS, messages.pause())
    run.refuse(STRANGER, GAS, messages.expire_policy(1), 100)
    run.pay(1, TON)
    assert run.state(1) is None


def test_while_a_payout_is_asked_for_the_policy_can_neither_expire_nor_be_paid_again() -> None:
    run = insured(real_vault=False)
    run.pay(1, 5 * TON)
    assert run.state(1) == PAYING
    run.world.now += 200 * DAY_S
    for body, sender in ((messages.expire_policy(1), STRANGER), (messages.execute_payout(1, TON), CLAIMS)):
        run.refuse(sender, GAS, body, 151)
    run.play_answer(Op.CLAIM_HELD, run.flight(1), 1)
    assert run.state(1) == DUE
    for body, sender in ((messages.expire_policy(1), STRANGER), (messages.execute_payout(1, TON), CLAIMS)):
        run.refuse(sender, GAS, body, 151)
    run.refuse(STRANGER, GAS, messages.retry_policy(1), 151)


def test_a_refused_payout_leaves_the_policy_active_and_returns_the_value() -> None:
    run = insured()
    until = run.world.now + DAY_S
    run.world.send(ADMIN, run.vault, messages.SIMPLE_GAS, messages.freeze(until))
    asked, refused, told = run.pay(1, TON)
    assert refused.exit_code == 123
    assert told.events == (PayoutRefused(1, Op.PAY_CLAIM),)
    assert run.state(1) == ACTIVE
    assert excess([told]).destination == CLAIMS
    assert asked.succeeded
    run.world.now = until
    assert run.pay(1, TON)[-1].events == (PayoutExecuted(1, ALICE, TON),)


def test_a_payout_the_breaker_holds_back_is_due_and_anybody_has_it_paid() -> None:
    run = insured(vault_terms=VaultTerms(admin=ADMIN, breaker_window_s=100 * DAY_S, claim_delay_s=100))
    for _ in range(7):
        run.buy()
    run.world.now += DAY_S
    for policy_id in range(1, 7):
        assert run.pay(policy_id, 100 * TON)[-1].events == (PayoutExecuted(policy_id, ALICE, 100 * TON),)
    assert run.pay(7, 100 * TON)[-1].events == ()
    assert run.state(7) == DUE
    run.world.now += 100
    step, told = run.world.send(STRANGER, run.vault, GAS, messages.execute_claim(7, query_id=9))
    assert told.events == (PayoutExecuted(7, ALICE, 100 * TON),)
    assert run.state(7) is None
    assert excess([step]).destination == STRANGER
    assert excess([told]).destination == ALICE  # what the vault sent for the news and was not needed
    run.check_money()


def test_a_cancelled_payout_makes_the_policy_active_again_and_it_can_be_approved_anew() -> None:
    run = insured(vault_terms=VaultTerms(admin=ADMIN, breaker_window_s=100 * DAY_S))
    for _ in range(7):
        run.buy()
    run.world.now += DAY_S
    for policy_id in range(1, 8):
        run.pay(policy_id, 100 * TON)
    _, told = run.world.send(ADMIN, run.vault, GAS, messages.cancel_claim(7))
    assert told.events == (PayoutCancelled(7),)
    assert run.state(7) == ACTIVE
    run.pay(7, 50 * TON)
    assert run.state(7) == DUE
    _, told = run.world.send(ADMIN, run.vault, GAS, messages.override_claim(7))
    assert told.events == (PayoutExecuted(7, ALICE, 50 * TON),)


def test_a_lost_answer_can_be_asked_for_again_and_money_is_paid_once() -> None:
    run = insured(real_vault=False)
    run.pay(1, 5 * TON)
    run.refuse(STRANGER, GAS, messages.retry_policy(1), 153)
    run.world.now += 600
    [step] = run.retry(1, sender=BOB, value=GAS)
    assert step.succeeded
    assert [p.op for p in step.sent] == [Op.PAY_CLAIM]
    told = run.play_settled(run.flight(1), 1, 5 * TON)
    assert told.events == (PayoutExecuted(1, ALICE, 5 * TON),)
    assert excess([told]).destination == BOB
    assert run.play_settled(1, 1, 5 * TON).events == ()


def test_the_vaults_word_ends_a_policy_whatever_the_factory_thought_of_it() -> None:
    for state in (ACTIVE, CLOSING, DUE):
        run = insured(real_vault=False, claim_grace_s=0)
        if state == CLOSING:
            run.world.now += 100 * DAY_S
            run.expire(1)
        if state == DUE:
            run.pay(1, TON)
            run.play_answer(Op.CLAIM_HELD, run.flight(1), 1)
        assert run.state(1) == state
        assert run.play_settled(0, 1, TON).events == (PayoutExecuted(1, ALICE, TON),)
        assert run.play_answer(Op.COVERAGE_RELEASED, run.flight(1) if run.state(1) else 9, 1).events == ()


def test_a_bounce_of_an_old_request_changes_nothing() -> None:
    run = insured(real_vault=False)
    run.pay(1, TON)
    old = run.flight(1)
    run.world.now += 600
    run.retry(1, sender=BOB, value=GAS)
    assert run.play_bounce(Op.PAY_CLAIM, old, 1).events == ()
    assert run.state(1) == PAYING
    assert run.play_bounce(Op.PAY_CLAIM, run.flight(1), 1).events == (PayoutRefused(1, Op.PAY_CLAIM),)
    assert run.state(1) == ACTIVE


def test_nobody_but_the_vault_tells_the_end_of_a_claim() -> None:
    run = insured(real_vault=False)
    run.pay(1, TON)
    for op in (Op.CLAIM_SETTLED, Op.CLAIM_HELD, Op.CLAIM_DROPPED):
        body = messages.build_cell(("uint32", op), ("uint64", 2), ("uint64", 1), ("coins", TON))
        run.refuse(STRANGER, GAS, body, 103)


def test_after_a_payout_nothing_is_left_to_expire() -> None:
    run = insured(claim_grace_s=0)
    run.pay(1, TON)
    run.world.now += 100 * DAY_S
    run.refuse(STRANGER, GAS, messages.expire_policy(1), 150)
    other = insured(claim_grace_s=0)
    other.world.now += 100 * DAY_S
    assert PolicyExpired(1) in other.expire(1)[-1].events
    other.refuse(CLAIMS, GAS, messages.execute_payout(1, TON), 150)
