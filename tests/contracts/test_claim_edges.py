"""Claims at the edges: several at once, answers that are lost, messages that are too poor, cut short or padded."""

from __future__ import annotations

import pytest
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from contracts.factory_run import FactoryRun, excess
from contracts.vault_run import BENEFICIARY, FACTORY, TON, VaultRun
from contracts.world import ADMIN, ALICE, BOB, CLAIMS, STRANGER, Step, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S, VaultTerms
from tonsurance.chain.messages import Op, build_cell
from tonsurance.core.events import EpochStarted, EventBody, LossAbsorbed, PayoutExecuted, PremiumsEarned

GAS = messages.REQUEST_GAS


def waiting(*covers: int, claim_delay_s: int = 100) -> VaultRun:
    """The window is used up, and every one of these policies (3, 4, ...) has its claim held back in full."""
    run = VaultRun(claim_delay_s=claim_delay_s)
    run.fill()
    for policy_id, cover in enumerate((300 * TON, 300 * TON, *covers), 1):
        assert run.back(policy_id, cover, 0).succeeded
    run.pay(1, 300 * TON)
    run.pay(2, 300 * TON)
    for policy_id, cover in enumerate(covers, 3):
        run.pay(policy_id, cover)
    assert len(run.mirror.claims) == len(covers)
    return run


def losses(events: tuple[EventBody, ...]) -> list[tuple[int, int]]:
    return [(event.tranche_id, event.loss_amount) for event in events if isinstance(event, LossAbsorbed)]


# ---- several claims


def test_several_waiting_claims_end_one_by_one_and_each_loss_counts_in_the_window() -> None:
    run = waiting(200 * TON, 150 * TON, 100 * TON)
    run.override(4)
    assert run.mirror.window.losses == 750 * TON
    run.cancel(5)
    run.refuse(BOB, 2 * TON, messages.deposit(1), 125)  # one still waits
    run.pass_time(100)
    run.execute(3)
    assert run.mirror.window.losses == 950 * TON
    run.deposit(BOB, 1, TON)
    run.pay(5, 1)
    assert run.world.get(run.vault, "get_claim", 5) == [1, run.world.now + 100]  # held back again: the window is full


def test_a_late_execution_opens_a_window_when_none_is_open() -> None:
    run = waiting(200 * TON, 150 * TON)
    run.pass_time(DAY_S)
    assert run.world.get(run.vault, "get_circuit_breaker") == [0] * 5
    run.execute(3)
    capital = 5_400 * TON
    expected = [run.world.now, run.world.now + DAY_S, capital, 200 * TON, capital // 10]
    assert run.world.get(run.vault, "get_circuit_breaker") == expected
    run.execute(4)
    assert run.mirror.window.losses == 350 * TON


def test_a_waiting_claim_is_paid_in_the_amount_and_by_the_tranches_of_that_moment() -> None:
    """Tranche 6 has 400 TON left when both claims are noted; the first takes 300 of it."""
    run = waiting(300 * TON, 200 * TON)
    run.pass_time(100)
    assert losses(run.execute(3).events) == [(6, 300 * TON)]
    step = run.execute(4)
    assert losses(step.events) == [(6, 100 * TON), (5, 100 * TON)]
    assert EpochStarted(6, 1, 1_000 * TON) in step.events


def test_a_tranche_can_be_wiped_in_one_epoch_after_the_other() -> None:
    run = waiting(300 * TON, 200 * TON, 40 * TON)
    for policy_id in (3, 4):
        run.override(policy_id)
    run.cancel(5)
    run.deposit(BOB, 6, 30 * TON)
    run.pay(5, 40 * TON)
    step = run.override(5)
    assert losses(step.events) == [(6, 30 * TON), (5, 10 * TON)]
    assert EpochStarted(6, 2, 30 * TON) in step.events
    assert run.world.get(run.vault, "get_epoch", 6) == [2]
    assert run.shares(BOB, 6) == 0


def test_a_claim_held_back_keeps_what_was_earned_by_then() -> None:
    run = VaultRun()
    run.fill()
    for policy_id in (1, 2, 3):
        assert run.back(policy_id, 300 * TON, 30 * TON).succeeded
    run.pay(1, 300 * TON)
    run.pay(2, 290 * TON)
    run.pass_time(DAY_S // 2)
    step = run.pay(3, 100 * TON)
    assert [type(event) for event in step.events[:6]] == [PremiumsEarned] * 6
    assert len(run.mirror.claims) == 1


# ---- answers that are lost


def test_a_policy_settled_at_the_vault_is_reported_again_and_paid_once() -> None:
    run = FactoryRun()
    run.buy()
    run.world.now += DAY_S
    run.world.post(CLAIMS, run.factory, GAS, messages.execute_payout(1, 60 * TON))
    run.world.hop()
    run.world.hop()
    run.world.queue.clear()  # the vault has paid; its answer disappears
    before = run.world.balance(run.vault)
    run.world.now += 600
    steps = run.retry(1, sender=BOB, value=GAS)
    assert [step.events for step in steps] == [(), (), (PayoutExecuted(1, ALICE, 60 * TON),)]
    assert excess(steps).destination == BOB
    assert run.state(1) is None
    rent = sum(step.storage_fee for step in steps if step.account == run.vault)
    assert run.world.balance(run.vault) == before - rent
    assert sum(paid.value for paid in run.world.paid if paid.op == Op.CLAIM_PAYMENT) == 60 * TON


def test_a_held_answer_that_is_lost_is_given_again() -> None:
    run = FactoryRun(vault_terms=VaultTerms(admin=ADMIN, breaker_window_s=100 * DAY_S))
    for _ in range(7):
        run.buy()
    run.world.now += DAY_S
    for policy_id in range(1, 7):
        run.pay(policy_id, 100 * TON)
    run.world.post(CLAIMS, run.factory, GAS, messages.execute_payout(7, 100 * TON))
    run.world.hop()
    run.world.hop()
    run.world.queue.clear()
    assert run.state(7) == 4
    run.world.now += 600
    due_at = run.world.get(run.vault, "get_claim", 7)[1]
    steps = run.retry(7, sender=BOB, value=GAS)
    assert (run.state(7), excess(steps).destination) == (5, BOB)
    assert run.world.get(run.vault, "get_claim", 7) == [100 * TON, due_at]
    assert run.world.get(run.factory, "get_policy", 7)[15] == 100 * TON


def approved_amount(run: FactoryRun) -> int:
    """What the factory keeps of the payout that was approved last."""
    return run.world.get(run.factory, "get_policy", 1)[15]


def test_a_payout_that_ends_without_payment_leaves_nothing_approved() -> None:
    run = FactoryRun(real_vault=False)
    run.buy_asked()
    run.play_answer(Op.POLICY_BACKED, run.flight(1), 1)
    run.world.now += DAY_S
    run.pay(1, TON)
    assert approved_amount(run) == TON
    run.play_bounce(Op.PAY_CLAIM, run.flight(1), 1)
    assert (run.state(1), approved_amount(run)) == (2, 0)
    run.pay(1, 2 * TON)
    run.play_answer(Op.CLAIM_HELD, run.flight(1), 1)
    late = run.play_bounce(Op.PAY_CLAIM, run.flight(1), 1)  # what is held back is not refused any more
    assert (late.events, run.state(1), approved_amount(run)) == ((), 5, 2 * TON)
    run.play_answer(Op.CLAIM_DROPPED, 0, 1)
    assert (run.state(1), approved_amount(run)) == (2, 0)


def test_an_answer_about_a_claim_changes_no_policy_it_does_not_fit() -> None:
    run = FactoryRun(real_vault=False)
    run.buy_asked()
    for op in (Op.CLAIM_HELD, Op.CLAIM_DROPPED):
        assert run.play_answer(op, 1, 1).events == ()
        assert run.state(1) == 1
    assert run.play_settled(1, 1, TON).events == ()
    assert run.state(1) == 1
    run.play_answer(Op.POLICY_BACKED, 1, 1)
    assert run.play_answer(Op.CLAIM_DROPPED, 0, 1).events == ()
    assert run.state(1) == 2
    assert run.play_answer(Op.CLAIM_HELD, 0, 1).events == ()
    assert run.state(1) == 5


# ---- messages that are too poor, cut short, padded, or pay nobody


@pytest.mark.parametrize(
    ("sender", "body", "least"),
    [
        (FACTORY, messages.pay_claim(4, TON, BENEFICIARY), 70_000_000),
        (STRANGER, messages.execute_claim(3), 100_000_000),
        (ADMIN, messages.override_claim(3), 100_000_000),
        (ADMIN, messages.cancel_claim(3), 30_000_000),
    ],
)
def test_a_claim_that_brings_too_little_is_refused(sender: str, body: Cell, least: int) -> None:
    run = waiting(200 * TON)
    assert run.cancel(3).succeeded
    run.back(4, TON, 0)
    run.pay(3, 200 * TON)
    run.pass_time(100)
    run.refuse(sender, least - 1, body, 104)


def padded(body: Cell) -> Cell:
    return Builder().store_cell(body).store_uint(5, 7).end_cell()


def test_bits_after_a_request_change_nothing() -> None:
    run = waiting(200 * TON)
    run.pass_time(100)
    expected = run.mirror.apply("execute", run.world.now, 3)
    [step] = run.world.send(STRANGER, run.vault, GAS, padded(messages.execute_claim(3)))
    assert (step.exit_code, list(step.events)) == (0, expected)


@pytest.mark.parametrize("op", [Op.EXECUTE_CLAIM, Op.OVERRIDE_CLAIM, Op.CANCEL_CLAIM, Op.FREEZE, Op.PAY_CLAIM])
def test_a_claim_cut_short_changes_nothing(op: Op) -> None:
    run = waiting(200 * TON)
    data = run.world.data(run.vault)
    sender = FACTORY if op == Op.PAY_CLAIM else ADMIN
    [step] = run.world.send(sender, run.vault, GAS, build_cell(("uint32", op), ("uint64", 0), ("uint16", 0)))
    assert (step.exit_code, step.succeeded) == (9, False)
    assert run.world.data(run.vault) == data


NOBODY = Builder().store_uint(Op.PAY_CLAIM, 32).store_uint(6, 64).store_uint(3, 64).store_coins(TON).store_uint(0, 2)


def test_a_claim_for_no_address_is_refused_and_above_all_not_held_back() -> None:
    """It could never be paid, and nobody could join or leave until the admin cancels it."""
    run = waiting(100 * TON)
    run.cancel(3)
    data = run.world.data(run.vault)
    [step] = run.world.send(FACTORY, run.vault, GAS, NOBODY.end_cell())
    assert not step.succeeded
    assert run.world.data(run.vault) == data
    assert [(back.destination, back.bounced) for back in step.sent] == [(FACTORY, True)]


def test_a_buyer_on_the_masterchain_is_paid_to_the_nano() -> None:
    run = VaultRun()
    run.fill()
    run.back(1, 100 * TON, 0)
    [payment, _] = run.pay(1, 99 * TON, address(7, -1)).sent
    assert (payment.destination, payment.value) == (address(7, -1), 99 * TON)


def try_values(run: VaultRun, sender: str, body: Cell, values: range) -> list[Step]:
    """The same message with each value, undone each time: all of it happens or nothing, and the capital never pays."""
    steps = []
    for value in values:
        kept = dict(run.world.accounts)
        data, before = run.world.data(run.vault), run.world.balance(run.vault)
        [step] = run.world.send(sender, run.vault, value, body)
        lost = sum(amount for _, amount in losses(step.events))
        paid = [payment.value for payment in step.sent if payment.destination == BENEFICIARY]
        if step.succeeded:
            assert paid == ([lost] if lost else [])
            assert run.world.balance(run.vault) == before - lost - step.storage_fee
        else:
            assert (paid, run.world.data(run.vault)) == ([], data)
            assert run.world.balance(run.vault) >= before - step.storage_fee
        steps.append(step)
        run.world.accounts = kept
    return steps


@pytest.mark.parametrize(
    ("sender", "body"),
    [
        (FACTORY, messages.pay_claim(4, 50 * TON, BENEFICIARY)),
        (STRANGER, messages.execute_claim(3)),
        (ADMIN, messages.override_claim(3)),
        (ADMIN, messages.cancel_claim(3)),
        (ADMIN, messages.freeze(0)),
    ],
)
def test_whatever_a_message_brings_all_of_it_happens_or_nothing(sender: str, body: Cell) -> None:
    run = VaultRun(claim_delay_s=100)
    run.fill()
    for policy_id, cover in enumerate((300 * TON, 300 * TON, 200 * TON, 50 * TON), 1):
        run.back(policy_id, cover, 10 * TON)
    run.pay(1, 300 * TON)
    run.pay(2, 300 * TON)
    run.pay(3, 200 * TON)
    run.pass_time(DAY_S)
    steps = try_values(run, sender, body, range(1_000_000, 130_000_000, 3_000_000))
    assert {step.succeeded for step in steps} == {True, False}
