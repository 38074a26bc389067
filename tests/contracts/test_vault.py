"""The vault, operation by operation, in the real TVM. VaultRun compares every step with core/ to the nano."""

from __future__ import annotations

import pytest

from contracts.vault_run import FACTORY, TON, VaultRun
from contracts.world import ADMIN, ALICE, BOB, CAROL, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S
from tonsurance.chain.messages import Op
from tonsurance.core.events import (
    DepositMade,
    Paused,
    PremiumsEarned,
    WithdrawalMade,
    WithdrawalRequested,
)
from tonsurance.core.waterfall import LOCKED_SHARES

GAS = messages.SIMPLE_GAS


# ---- deposit


def test_the_first_deposit_sets_the_price_and_leaves_shares_with_nobody() -> None:
    run = VaultRun()
    step = run.deposit(ALICE, 2, 5 * TON)
    assert step.events == (DepositMade(2, ALICE, 5 * TON, 5 * TON - LOCKED_SHARES, LOCKED_SHARES),)
    assert run.shares(ALICE, 2) == 5 * TON - LOCKED_SHARES
    assert run.world.get(run.vault, "get_tranche_state", 2) == [2, 5 * TON, 0, 0, 0, run.world.now, 5 * TON]


def test_a_later_deposit_gets_shares_at_the_present_price() -> None:
    run = VaultRun()
    run.fill()
    run.back(1, 100 * TON, 50 * TON)
    run.pass_time(40 * DAY_S)
    step = run.deposit(BOB, 6, 10 * TON)
    assert [type(event) for event in step.events] == [PremiumsEarned, DepositMade]
    assert run.shares(BOB, 6) == 10 * TON * 1000 // (1000 + 50 * 19 / 100)  # 9.5 TON were earned before


def test_the_excess_of_the_gas_allowance_comes_back_with_the_query_id() -> None:
    run = VaultRun()
    [answer] = run.deposit(ALICE, 1, 2 * TON).sent
    assert (answer.op, answer.query_id) == (Op.EXCESSES, 1)
    assert messages.DEPOSIT_GAS * 8 // 10 < answer.value < messages.DEPOSIT_GAS


def test_a_deposit_keeps_an_open_withdrawal_request() -> None:
    run = VaultRun()
    run.deposit(ALICE, 1, 2 * TON)
    run.request(ALICE, 1, TON)
    run.deposit(ALICE, 1, 2 * TON)
    _, requested, available_at, _ = run.world.get(run.vault, "get_shares", ALICE, 1)
    assert (requested, available_at) == (TON, run.world.now + 7 * DAY_S)


@pytest.mark.parametrize("tranche", [0, 7, 255])
def test_a_deposit_into_no_tranche_is_refused(tranche: int) -> None:
    VaultRun().refuse(ALICE, 5 * TON, messages.deposit(tranche), 110)


def test_a_deposit_below_one_ton_is_refused() -> None:
    run = VaultRun()
    run.refuse(ALICE, TON + messages.DEPOSIT_GAS - 1, messages.deposit(1), 111)
    run.deposit(ALICE, 1, TON)


def test_one_owner_more_than_the_limit_is_refused() -> None:
    run = VaultRun(max_owners=2)
    run.deposit(ALICE, 1, TON)
    run.deposit(BOB, 1, TON)
    run.refuse(CAROL, 2 * TON, messages.deposit(1), 114)
    run.deposit(ALICE, 1, TON)
    run.request(BOB, 1, run.shares(BOB, 1))
    run.pass_time(7 * DAY_S)
    run.withdraw(BOB, 1)
    run.deposit(CAROL, 1, TON)


def test_owners_of_the_same_account_in_two_workchains_are_two() -> None:
    run = VaultRun()
    run.deposit(address(5), 1, TON)
    run.deposit(address(5, -1), 1, 2 * TON)
    assert run.shares(address(5), 1) == TON - LOCKED_SHARES
    assert run.shares(address(5, -1), 1) == 2 * TON


# ---- states that only losses lead to, planted


def test_a_deposit_worth_less_than_one_share_is_refused() -> None:
    run = VaultRun(rows={1: (10**18, 0, 10**8)})
    run.refuse(ALICE, 5 * TON, messages.deposit(1), 112)
    run.deposit(ALICE, 1, 10 * TON)
    assert run.shares(ALICE, 1) == 1


def test_a_withdrawal_that_leaves_the_whole_vault_above_95_percent_is_refused() -> None:
    rows = {1: (100 * TON, 0, 100 * TON), 2: (100 * TON, 192 * TON, 100 * TON)}
    run = VaultRun(rows=rows)
    run.deposit(ALICE, 1, 10 * TON)
    run.request(ALICE, 1, 10 * TON)
    run.pass_time(7 * DAY_S)
    run.refuse(ALICE, GAS, messages.withdraw(1), 120)
    run.request(ALICE, 1, 7 * TON)
    run.pass_time(7 * DAY_S)
    run.withdraw(ALICE, 1)


# ---- request and withdraw


def test_a_withdrawal_opens_after_the_delay_and_pays_the_price_of_its_moment() -> None:
    run = VaultRun()
    run.fill()
    run.deposit(ALICE, 3, 500 * TON)
    run.back(1, 200 * TON, 30 * TON)
    step = run.request(ALICE, 3, 100 * TON)
    opens = run.world.now + 7 * DAY_S
    assert step.events == (WithdrawalRequested(3, ALICE, 100 * TON, opens, opens + 2 * DAY_S),)
    assert run.world.get(run.vault, "get_shares", ALICE, 3) == [500 * TON, 100 * TON, opens, opens + 2 * DAY_S]
    run.pass_time(7 * DAY_S)
    step = run.withdraw(ALICE, 3)
    earned, made = step.events
    assert isinstance(earned, PremiumsEarned)
    assert isinstance(made, WithdrawalMade)
    assert made.amount == 100 * TON * (1500 * TON + earned.amount) // (1500 * TON) > 100 * TON
    [payment] = step.sent
    assert made.amount < payment.value < made.amount + GAS
    assert run.world.get(run.vault, "get_shares", ALICE, 3) == [400 * TON, 0, 0, 0]


def test_who_takes_everything_is_forgotten() -> None:
    run = VaultRun()
    run.deposit(ALICE, 1, 5 * TON)
    run.request(ALICE, 1, run.shares(ALICE, 1))
    run.pass_time(9 * DAY_S)  # the last second of the window
    run.withdraw(ALICE, 1)
    assert run.mirror.holders == {}
    assert run.world.get(run.vault, "get_shares", ALICE, 1) == [0, 0, 0, 0]
    assert run.world.get(run.vault, "get_tranche_state", 1)[1] == LOCKED_SHARES  # what nobody's shares are worth


@pytest.mark.parametrize("shares", [0, 5 * TON - LOCKED_SHARES + 1])
def test_only_shares_one_has_can_be_requested(shares: int) -> None:
    run = VaultRun()
    run.deposit(ALICE, 1, 5 * TON)
    run.refuse(ALICE, GAS, messages.request_withdraw(1, shares), 115)
    run.refuse(BOB, GAS, messages.request_withdraw(1, 1), 115)
    run.refuse(ALICE, GAS, messages.request_withdraw(9, 1), 110)


def test_a_new_request_restarts_the_clock() -> None:
    run = VaultRun()
    run.deposit(ALICE, 1, 5 * TON)
    run.request(ALICE, 1, TON)
    run.pass_time(7 * DAY_S)
    run.request(ALICE, 1, 2 * TON)
    run.refuse(ALICE, GAS, messages.withdraw(1), 117)
    run.pass_time(7 * DAY_S)
    run.withdraw(ALICE, 1)


def test_a_withdrawal_without_request_or_outside_its_window_is_refused() -> None:
    run = VaultRun()
    run.deposit(ALICE, 1, 5 * TON)
    run.refuse(ALICE, GAS, messages.withdraw(1), 116)
    run.request(ALICE, 1, TON)
    run.pass_time(7 * DAY_S - 1)
    run.refuse(ALICE, GAS, messages.withdraw(1), 117)
    run.pass_time(2 * DAY_S + 2)
    run.refuse(ALICE, GAS, messages.withdraw(1), 118)
    run.refuse(BOB, GAS, messages.withdraw(1), 116)
    run.refuse(ALICE, GAS, messages.withdraw(7), 110)


def test_a_withdrawal_may_leave_the_tranche_at_95_percent_but_not_a_nano_above() -> None:
    run = VaultRun()
    run.fill(1_000 * TON, owner=BOB)
    for policy in range(1, 5):
        run.back(policy, 190 * TON, 0)  # a quarter of them, 190 TON, on the most senior tranche
    run.request(BOB, 1, 800 * TON + 1)
    run.pass_time(7 * DAY_S)
    run.refuse(BOB, GAS, messages.withdraw(1), 119)
    run.request(BOB, 1, 800 * TON)
    run.pass_time(7 * DAY_S)
    run.withdraw(BOB, 1)
    assert run.mirror.tranches[0].coverage * 100 == run.mirror.tranches[0].capital * 95


def test_coverage_of_exactly_95_percent_is_allowed_and_a_nano_more_is_not() -> None:
    run = VaultRun()
    for tranche, capital in enumerate((10, 10_000, 10_000, 10_000, 10_000, 10_000), 1):
        run.deposit(ALICE, tranche, capital * TON)
    run.back(1, 38 * TON, 0)  # 9.5 TON of the first tranche's 10: the limit itself
    assert run.mirror.tranches[0].coverage == 10 * TON * 95 // 100
    run.back(2, 3, 0)  # too small to have a part in it
    run.refuse(FACTORY, TON, messages.back_policy(3, 4, 0, DAY_S), 119)
    run.request(ALICE, 1, 1)
    run.pass_time(7 * DAY_S)
    run.refuse(ALICE, GAS, messages.withdraw(1), 119)


# ---- pause


def test_a_pause_stops_deposits_and_backing_but_never_a_withdrawal_or_release() -> None:
    run = VaultRun()
    run.fill()
    run.deposit(ALICE, 1, 10 * TON)
    run.back(1, 100 * TON, TON)
    [step] = run.world.send(ADMIN, run.vault, GAS, messages.pause())
    assert step.events == (Paused(True),)
    run.mirror.paused = True
    run.refuse(ALICE, 5 * TON, messages.deposit(1), 100)
    run.refuse(FACTORY, 2 * TON, messages.back_policy(2, 10 * TON, TON, DAY_S), 100)
    run.back(1, 100 * TON, TON)  # backed before: answers, and returns the premium
    run.request(ALICE, 1, 5 * TON)
    run.pass_time(7 * DAY_S)
    run.withdraw(ALICE, 1)
    run.release(1)
    [step] = run.world.send(ADMIN, run.vault, GAS, messages.unpause())
    assert step.events == (Paused(False),)
    run.mirror.paused = False
    run.deposit(ALICE, 1, 5 * TON)
