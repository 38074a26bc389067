"""Claims: what is paid, which tranches lose it, what the circuit breaker holds back, and void shares."""

from __future__ import annotations

import pytest

from contracts.vault_run import BENEFICIARY, FACTORY, TON, VaultRun
from contracts.world import ADMIN, ALICE, BOB, STRANGER, address
from tonsurance.chain import messages
from tonsurance.core.events import (
    ClaimCancelled,
    ClaimDeferred,
    CoverageChanged,
    EpochStarted,
    LossAbsorbed,
    PremiumsEarned,
    ShortfallReported,
)
from tonsurance.core.waterfall import LOCKED_SHARES

DAY = 86_400


def covered(*covers: int, each: int = 1_000 * TON, **terms: int) -> VaultRun:
    """A vault with the same capital in every tranche, and policies 1, 2, ... of these covers without premium."""
    run = VaultRun(**terms)
    run.fill(each)
    for policy_id, cover in enumerate(covers, 1):
        sell(run, policy_id, cover)
    return run


def rich(**rows: tuple[int, int, int]) -> VaultRun:
    """A vault planted with (capital, coverage, shares) by tranche, t1 .. t6; the others hold 10,000 TON each."""
    usual = (10_000 * TON, 0, 10_000 * TON)
    return VaultRun(rows={number: rows.get(f"t{number}", usual) for number in range(1, 7)})


def sell(run: VaultRun, policy_id: int, cover: int, premium: int = 0, days: int = 30) -> None:
    """Have a policy backed; fails when the vault refuses."""
    assert run.back(policy_id, cover, premium, days * DAY).succeeded


def losses_of(step: object) -> list[tuple[int, int]]:
    """(tranche, loss) in the order they were logged."""
    return [(e.tranche_id, e.loss_amount) for e in step.events if isinstance(e, LossAbsorbed)]


def test_a_claim_is_paid_to_the_nano_by_the_most_junior_tranche() -> None:
    run = covered(100 * TON)
    step = run.pay(1, 40 * TON)
    assert losses_of(step) == [(6, 40 * TON)]
    assert [(p.destination, p.value) for p in step.sent[:-1]] == [(BENEFICIARY, 40 * TON)]
    assert run.mirror.total("coverage") == 0
    assert step.sent[-1].op == messages.Op.CLAIM_SETTLED


def test_losses_exhaust_one_tranche_after_the_other() -> None:
    run = rich(t6=(20 * TON, 0, 20 * TON), t5=(30 * TON, 0, 30 * TON))
    sell(run, 1, 100 * TON)
    assert losses_of(run.pay(1, 100 * TON)) == [(6, 20 * TON), (5, 30 * TON), (4, 50 * TON)]


@pytest.mark.parametrize("amount", [0, 100 * TON + 1])
def test_a_claim_of_nothing_or_of_more_than_the_cover_is_refused(amount: int) -> None:
    run = covered(100 * TON)
    run.refuse(FACTORY, messages.REQUEST_GAS, messages.pay_claim(1, amount, BENEFICIARY), 128)


def test_only_the_factory_has_claims_paid() -> None:
    run = covered(100 * TON)
    run.refuse(STRANGER, messages.REQUEST_GAS, messages.pay_claim(1, TON, BENEFICIARY), 102)


def test_a_claim_is_paid_once_however_often_it_is_asked_for() -> None:
    run = covered(100 * TON)
    run.pay(1, 100 * TON)
    again = run.pay(1, 100 * TON)
    assert (again.events, len(again.sent)) == ((), 1)
    assert again.sent[0].op == messages.Op.CLAIM_SETTLED


def test_exactly_ten_percent_is_paid_and_a_nano_more_is_held_back() -> None:
    run = covered(300 * TON, 300 * TON, 300 * TON)
    run.pay(1, 300 * TON)
    run.pay(2, 300 * TON)
    assert run.mirror.window.losses == run.mirror.window.limit == 600 * TON
    step = run.pay(3, 1)
    assert step.events == (ClaimDeferred(3, 1, run.world.now + DAY),)
    assert step.sent[-1].op == messages.Op.CLAIM_HELD


def test_the_window_ends_to_the_second() -> None:
    run = covered(300 * TON, 300 * TON, 200 * TON, 100 * TON)
    run.pay(1, 300 * TON)
    run.pass_time(DAY - 1)
    run.pay(2, 300 * TON)
    assert run.pay(3, TON).events == (ClaimDeferred(3, TON, run.world.now + DAY),)
    run.cancel(3)
    run.pass_time(1)
    assert losses_of(run.pay(3, TON)) == [(6, TON)]


def test_a_claim_held_back_opens_no_window_and_keeps_its_cover() -> None:
    run = rich()
    sell(run, 1, 3_000 * TON)
    sell(run, 2, 3_000 * TON)
    sell(run, 3, 2_500 * TON)
    run.pay(1, 3_000 * TON)
    run.pay(2, 3_000 * TON)
    before = run.mirror.window
    run.pay(3, 2_500 * TON)
    assert run.mirror.window == before
    assert run.world.get(run.vault, "get_claim", 3) == [2_500 * TON, run.world.now + DAY]
    assert run.world.get(run.vault, "get_policy_coverage", 3) == [2_500 * TON]


def held_back(**terms: int) -> VaultRun:
    """Policy 3's claim of 100 TON is held back: the window is used up."""
    run = covered(300 * TON, 300 * TON, 100 * TON, 50 * TON, **terms)
    run.pay(1, 300 * TON)
    run.pay(2, 300 * TON)
    run.pay(3, 100 * TON)
    return run


def test_a_due_claim_is_paid_by_anybody_whatever_the_breaker_says() -> None:
    run = held_back(claim_delay_s=100)
    run.pass_time(99)
    run.refuse(STRANGER, messages.REQUEST_GAS, messages.execute_claim(3), 127)
    run.pass_time(1)
    assert losses_of(run.execute(3)) == [(6, 100 * TON)]
    assert run.mirror.window.losses == 700 * TON
    run.refuse(STRANGER, messages.REQUEST_GAS, messages.execute_claim(3), 126)


def test_the_admin_may_override_or_cancel_and_nobody_else() -> None:
    run = held_back()
    run.refuse(STRANGER, messages.REQUEST_GAS, messages.override_claim(3), 101)
    run.refuse(STRANGER, messages.REQUEST_GAS, messages.cancel_claim(3), 101)
    assert run.cancel(3).events == (ClaimCancelled(3),)
    run.refuse(ADMIN, messages.REQUEST_GAS, messages.cancel_claim(3), 126)
    run.refuse(ADMIN, messages.REQUEST_GAS, messages.override_claim(3), 126)
    run.pay(3, 100 * TON)
    assert losses_of(run.override(3)) == [(6, 100 * TON)]


def test_while_a_claim_is_held_back_nobody_joins_or_leaves_and_no_cover_is_sold() -> None:
    run = held_back(withdraw_delay_s=1)
    run.request(address(0xEE), 1, TON)
    run.pass_time(1)
    run.refuse(ALICE, 2 * TON, messages.deposit(1), 125)
    run.refuse(address(0xEE), messages.SIMPLE_GAS, messages.withdraw(1), 125)
    run.refuse(FACTORY, TON, messages.back_policy(9, TON, 0, DAY), 125)
    run.refuse(FACTORY, messages.REQUEST_GAS, messages.release_coverage(3), 125)
    run.release(4)
    run.cancel(3)
    run.deposit(ALICE, 1, TON)
    run.withdraw(address(0xEE), 1)


def test_a_claim_held_back_is_answered_again_and_noted_once() -> None:
    run = held_back()
    again = run.pay(3, 100 * TON)
    assert (again.events, again.sent[-1].op) == ((), messages.Op.CLAIM_HELD)
    assert len(run.mirror.claims) == 1


def test_a_freeze_stops_withdrawals_and_payouts_for_a_limited_time() -> None:
    run = held_back(claim_delay_s=10, withdraw_delay_s=1)
    run.refuse(STRANGER, messages.SIMPLE_GAS, messages.freeze(0), 101)
    run.refuse(ADMIN, messages.SIMPLE_GAS, messages.freeze(run.world.now + 3 * DAY + 1), 124)
    run.freeze(run.world.now + 100)
    run.pass_time(50)
    run.refuse(STRANGER, messages.REQUEST_GAS, messages.execute_claim(3), 123)
    run.refuse(ADMIN, messages.REQUEST_GAS, messages.override_claim(3), 123)
    run.refuse(FACTORY, messages.REQUEST_GAS, messages.pay_claim(4, TON, BENEFICIARY), 123)
    run.cancel(3)
    run.request(address(0xEE), 1, TON)
    run.pass_time(1)
    run.refuse(address(0xEE), messages.SIMPLE_GAS, messages.withdraw(1), 123)
    run.pass_time(49)
    run.withdraw(address(0xEE), 1)
    run.freeze(run.world.now + 3 * DAY)
    run.freeze(0)
    run.pay(4, TON)


def test_a_thousandth_behind_the_shares_is_enough_and_a_nano_less_voids_them() -> None:
    run = rich(t6=(1_001 * TON, 0, 1_000 * TON))
    sell(run, 1, 2_500 * TON)
    run.pay(1, 1_000 * TON)
    assert run.world.get(run.vault, "get_epoch", 6) == [0]
    sell(run, 2, TON // 10)
    step = run.pay(2, 1)
    assert EpochStarted(6, 1, 1_000 * TON) in step.events
    assert run.world.get(run.vault, "get_epoch", 6) == [1]
    assert run.mirror.tranches[5].capital == TON - 1


def wiped() -> VaultRun:
    """Alice and Bob held all of tranche 6, whose shares became void; 5 TON of premium were not earned yet."""
    run = VaultRun()
    for tranche in range(1, 6):
        run.deposit(address(0xEE), tranche, 1_000 * TON)
    run.deposit(ALICE, 6, 100 * TON)
    run.deposit(BOB, 6, 50 * TON)
    run.request(ALICE, 6, TON)
    sell(run, 1, 200 * TON, 100 * TON)
    run.pay(1, 200 * TON)
    return run


def test_after_a_wipe_old_holders_have_nothing_and_what_is_left_is_nobodys() -> None:
    run = wiped()
    assert run.mirror.tranches[5].epoch == 1
    assert [run.shares(who, 6) for who in (ALICE, BOB)] == [0, 0]
    run.refuse(BOB, messages.SIMPLE_GAS, messages.request_withdraw(6, 1), 115)
    run.pass_time(8 * DAY)
    run.refuse(ALICE, messages.SIMPLE_GAS, messages.withdraw(6), 116)
    left = run.mirror.tranches[5].capital
    assert left == 19 * TON  # the unearned premium, at once and nobody's
    run.refuse(FACTORY, TON, messages.back_policy(9, TON, 0, DAY), 119)
    run.deposit(ALICE, 6, 10 * TON)
    assert run.shares(ALICE, 6) == 10 * TON - LOCKED_SHARES
    assert run.mirror.tranches[5].shares == 10 * TON + left


def test_a_wipe_frees_the_places_of_its_holders() -> None:
    run = VaultRun(max_owners=7)
    for tranche in range(1, 6):
        run.deposit(address(0xEE), tranche, 1_000 * TON)
    run.deposit(ALICE, 6, 20 * TON)
    run.deposit(BOB, 6, 20 * TON)
    run.refuse(STRANGER, 2 * TON, messages.deposit(6), 114)
    sell(run, 1, 100 * TON)
    run.pay(1, 100 * TON)
    run.deposit(STRANGER, 6, TON)


def test_just_above_the_void_price_nobody_may_join() -> None:
    run = rich(t6=(10 * TON, 0, 1_000 * TON))
    run.deposit(ALICE, 6, TON)
    poor = rich(t6=(10 * TON - 1, 0, 1_000 * TON))
    poor.refuse(ALICE, 2 * TON, messages.deposit(6), 113)


def test_what_no_tranche_can_bear_is_reported_and_the_rest_is_paid() -> None:
    """A vault planted with more cover than capital, as losses leave it."""
    run = VaultRun(rows=dict.fromkeys(range(1, 7), (TON, 0, TON)), policies={1: 10 * TON}, claim_delay_s=1)
    assert run.pay(1, 10 * TON).events[0] == ClaimDeferred(1, 10 * TON, run.world.now + 1)
    run.pass_time(1)
    step = run.execute(1)
    assert losses_of(step) == [(number, TON) for number in range(6, 0, -1)]
    assert ShortfallReported(1, 4 * TON) in step.events
    assert run.mirror.total("capital") == run.mirror.total("shares") == 0


def test_premiums_are_earned_before_a_loss_is_borne() -> None:
    run = covered()
    sell(run, 1, 100 * TON, 100 * TON, 10)
    run.pass_time(DAY)
    step = run.pay(1, TON)
    assert [type(event) for event in step.events] == [PremiumsEarned] * 6 + [LossAbsorbed, CoverageChanged]
