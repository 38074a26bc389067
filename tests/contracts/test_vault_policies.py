"""The vault towards the factory, its admin and everyone: backing, release, roles, rent, what is no operation."""

from __future__ import annotations

import pytest
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder

from contracts.vault_run import FACTORY, TON, VaultRun
from contracts.world import ADMIN, ALICE, BOB, read_address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S, VaultTerms, vault_deployment
from tonsurance.chain.messages import Op, build_cell
from tonsurance.core.catalog import TRANCHES
from tonsurance.core.events import (
    CoverageChanged,
    FactorySet,
    PremiumsDistributed,
    PremiumsEarned,
)
from tonsurance.core.waterfall import split

GAS = messages.SIMPLE_GAS


# ---- back and release


def test_backing_splits_coverage_and_premium_over_the_tranches() -> None:
    run = VaultRun()
    run.fill()
    step = run.back(7, 100 * TON + 1, TON + 7)
    covers = split(100 * TON + 1, [25, 20, 18, 15, 12, 10])
    premiums = split(TON + 7, [8, 15, 20, 18, 20, 19])
    assert step.events == (PremiumsDistributed(TON + 7, 7, premiums), CoverageChanged(7, covers))
    assert run.world.get(run.vault, "get_policy_coverage", 7) == [100 * TON + 1]
    assert run.world.get(run.vault, "get_policy_coverage", 8) == [0]
    [answer] = step.sent
    assert (answer.destination, answer.op, answer.query_id) == (FACTORY, Op.POLICY_BACKED, 4)


def test_premiums_are_earned_over_the_life_of_the_cover() -> None:
    run = VaultRun()
    run.fill()
    run.back(1, 100 * TON, 30 * TON, 30 * DAY_S)
    run.pass_time(10 * DAY_S)
    step = run.deposit(ALICE, 3, TON)
    assert step.events[0] == PremiumsEarned(3, 2 * TON)  # a third of 20 % of 30 TON
    run.back(2, 100 * TON, 3 * TON, 7 * DAY_S)
    run.pass_time(50 * DAY_S)
    run.release(1)
    assert run.mirror.total("unearned") == 0
    assert run.mirror.total("capital") == 6_001 * TON + 33 * TON


def test_a_policy_backed_twice_is_backed_once_and_the_second_premium_returns() -> None:
    run = VaultRun()
    run.fill()
    run.back(1, 100 * TON, 5 * TON)
    [answer] = run.back(1, 100 * TON, 5 * TON).sent
    assert answer.op == Op.POLICY_BACKED
    assert 5 * TON < answer.value < 5 * TON + messages.REQUEST_GAS


def test_release_gives_back_exactly_what_was_locked() -> None:
    run = VaultRun()
    run.fill()
    run.back(1, 123_456_789_123, TON)
    step = run.release(1)
    assert step.events[-1] == CoverageChanged(1, tuple(-c for c in split(123_456_789_123, [25, 20, 18, 15, 12, 10])))
    assert run.mirror.total("coverage") == 0
    [answer] = run.release(1).sent  # not backed any more: answers again
    assert (answer.op, answer.query_id) == (Op.COVERAGE_RELEASED, 5)


def test_only_the_factory_backs_and_releases() -> None:
    run = VaultRun()
    run.fill()
    run.refuse(ALICE, 5 * TON, messages.back_policy(1, TON, TON, DAY_S), 102)
    run.refuse(ADMIN, 5 * TON, messages.back_policy(1, TON, TON, DAY_S), 102)
    run.refuse(ALICE, 5 * TON, messages.release_coverage(1), 102)


def test_a_premium_that_did_not_come_with_the_request_is_refused() -> None:
    run = VaultRun()
    run.fill()
    body = messages.back_policy(1, 100 * TON, 5 * TON, DAY_S)
    run.refuse(FACTORY, 5 * TON + 50_000_000 - 1, body, 104)
    run.refuse(FACTORY, messages.REQUEST_GAS, body, 104)


def test_a_policy_above_five_percent_of_the_vault_is_refused() -> None:
    run = VaultRun()
    run.fill(1_000 * TON)
    run.refuse(FACTORY, TON, messages.back_policy(1, 300 * TON + 1, 0, DAY_S), 121)
    run.back(1, 300 * TON, 0)


def test_a_tranche_without_capital_backs_nothing_and_takes_no_premium() -> None:
    run = VaultRun()
    for tranche in range(2, 7):
        run.deposit(ALICE, tranche, 100 * TON)
    # a nano of cover falls on the most junior tranche alone; the premium would fall on all
    run.refuse(FACTORY, 2 * TON, messages.back_policy(1, 1, TON, DAY_S), 119)
    run.refuse(FACTORY, TON, messages.back_policy(1, 1, 0, DAY_S), 119)


def test_one_policy_more_than_the_limit_is_refused() -> None:
    run = VaultRun(max_policies=2)
    run.fill()
    run.back(1, TON, TON)
    run.back(2, TON, TON)
    run.refuse(FACTORY, 2 * TON, messages.back_policy(3, TON, TON, DAY_S), 105)
    run.release(1)
    run.back(3, TON, TON)


# ---- roles and rent


def test_the_admin_names_the_factory_while_no_policy_lives() -> None:
    run = VaultRun(with_factory=False)
    roles = [read_address(part) for part in run.world.get(run.vault, "get_vault_roles")]
    assert roles == [ADMIN, ADMIN]
    [step] = run.world.send(ADMIN, run.vault, GAS, messages.set_factory(FACTORY))
    assert step.events == (FactorySet(FACTORY),)
    assert read_address(run.world.get(run.vault, "get_vault_roles")[1]) == FACTORY
    run.fill()
    run.back(1, TON, TON)
    run.refuse(ADMIN, GAS, messages.set_factory(BOB), 122)
    run.release(1)
    run.world.send(ADMIN, run.vault, GAS, messages.set_factory(BOB))
    run.refuse(FACTORY, 2 * TON, messages.back_policy(2, TON, TON, DAY_S), 102)


@pytest.mark.parametrize("body", [messages.pause(), messages.unpause(), messages.set_factory(BOB)])
def test_only_the_admin_administers(body) -> None:
    run = VaultRun()
    run.refuse(ALICE, GAS, body, 101)
    run.refuse(FACTORY, GAS, body, 101)


def test_a_factory_that_is_no_address_is_refused() -> None:
    run = VaultRun()
    nobody = build_cell(("uint32", Op.SET_FACTORY), ("uint64", 0), ("uint2", 0))
    [step] = run.world.send(ADMIN, run.vault, GAS, nobody)
    assert not step.succeeded
    assert read_address(run.world.get(run.vault, "get_vault_roles")[1]) == FACTORY


def test_anyone_adds_to_the_rent_reserve() -> None:
    run = VaultRun()
    before = run.world.balance(run.vault)
    [step] = run.world.send(ALICE, run.vault, 3 * TON, messages.top_up())
    assert (step.succeeded, step.sent, step.events) == (True, (), ())
    assert run.world.balance(run.vault) == before + 3 * TON - step.fees


COMMENT = Builder().store_uint(0, 32).store_bytes(b"thank you for all the fish").end_cell()
UNKNOWN = build_cell(("uint32", 0x12345678), ("uint64", 0))


@pytest.mark.parametrize("body", [Builder().end_cell(), COMMENT, UNKNOWN, build_cell(("uint32", Op.PAUSE))])
def test_what_is_no_operation_is_refused_so_that_nobody_loses_money(body) -> None:
    run = VaultRun()
    run.refuse(ALICE, 5 * TON, body, 0xFFFF)


def test_an_operation_cut_short_is_refused() -> None:
    run = VaultRun()
    run.deposit(ALICE, 1, 5 * TON)
    [step] = run.world.send(ALICE, run.vault, GAS, build_cell(("uint32", Op.WITHDRAW), ("uint64", 0)))
    assert (step.exit_code, step.succeeded) == (9, False)


def test_rent_is_paid_by_the_reserve_and_not_by_the_capital() -> None:
    run = VaultRun()
    run.fill()
    before = run.world.balance(run.vault)
    run.pass_time(365 * DAY_S)
    step = run.deposit(ALICE, 1, TON)
    assert 0 < step.storage_fee < TON // 10
    assert run.world.balance(run.vault) == before - step.storage_fee + TON


def test_an_operation_that_cannot_pay_its_way_changes_nothing() -> None:
    """Gas that runs out, or enough gas and too little for the event and the answer: all of it or nothing.

    In the second case what is left bounces, if it pays for that (mode 16 of every action).
    """
    run = VaultRun()
    run.deposit(ALICE, 1, 10 * TON)
    endings = set()
    for value in range(1_000_000, 12_000_000, 200_000):
        data, before = run.world.data(run.vault), run.world.balance(run.vault)
        [step] = run.world.send(ALICE, run.vault, value, messages.request_withdraw(1, TON))
        endings.add((step.exit_code, step.succeeded, bool(step.sent)))
        assert run.world.balance(run.vault) >= before
        if not step.succeeded:
            assert run.world.data(run.vault) == data
    assert {(0, True, True), (0, False, True), (-14, False, False)} <= endings


def test_a_bounced_message_is_taken_silently() -> None:
    run = VaultRun()
    data = run.world.data(run.vault)
    header = Builder().store_uint(0b0101, 4).store_address(Address(ALICE)).store_address(Address(run.vault))
    header.store_coins(TON).store_bit_int(0).store_uint(0, 4 + 4 + 64 + 32).store_uint(0, 2).store_uint(0xFFFFFFFF, 32)
    run.world.queue.append((run.vault, header.end_cell()))
    step = run.world.hop()
    assert (step.exit_code, step.succeeded, step.sent, step.events) == (0, True, (), ())
    assert run.world.data(run.vault) == data


def test_every_tranche_has_its_getter_and_no_other_number_has() -> None:
    run = VaultRun()
    run.fill()
    [rows] = run.world.get(run.vault, "get_all_tranches")
    for tranche in TRANCHES:
        assert (
            tuple(run.world.get(run.vault, "get_tranche_state", tranche.on_chain_id)) == rows[tranche.on_chain_id - 1]
        )
    assert run.world.try_get(run.vault, "get_tranche_state", 7)[0] == 110


def test_a_vault_is_where_its_terms_say() -> None:
    one, two = (vault_deployment(VaultTerms(admin=ADMIN, withdraw_delay_s=delay)) for delay in (1, 2))
    assert one.address != two.address
    assert one.address == vault_deployment(VaultTerms(admin=ADMIN, withdraw_delay_s=1)).address
