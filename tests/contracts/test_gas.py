"""What operations cost. The figures are printed (pytest -s); the promise is that 0.1 TON is enough, also when full."""

from __future__ import annotations

from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.hashmap.hashmap import HashMap
from pytoniq_core.tlb.transaction import Transaction

from contracts.factory_run import TON, FactoryRun
from contracts.vault_run import FACTORY, VaultRun, vault_data
from contracts.world import ALICE, CLAIMS, START, STRANGER, Step, World, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S, VaultTerms, factory_deployment, vault_deployment
from tonsurance.chain.messages import build_cell
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND, EpochStarted, PayoutExecuted, PremiumsEarned

LIMIT = TON // 10
ACCOUNT_CELLS = 65_536


def gas_of(step: Step) -> int:
    """Gas of the compute phase."""
    transaction = Transaction.deserialize(Cell.one_from_boc(step.boc).begin_parse())
    return int(transaction.description.compute_ph.gas_used)


def cost_of(steps: list[Step], kept: int) -> int:
    """All fees of a chain of messages: what was sent, less what was booked and what came back."""
    return steps[0].value - kept - steps[-1].sent[-1].value


def show(name: str, steps: list[Step], kept: int = 0) -> None:
    """Print one line, and hold the promise."""
    cost = cost_of(steps, kept)
    print(f"{name:32} gas {' + '.join(str(gas_of(step)) for step in steps):24} all fees {cost / TON:.6f} TON")
    assert 0 < cost < LIMIT


def test_every_operation_costs_less_than_its_allowance() -> None:
    run = FactoryRun()
    show("create, back, activate", run.buy(), TON)
    run.world.now += DAY_S
    show("  and six streams earning", run.buy(), TON)
    show("  and refused by the vault", run.buy(run.quote(coverage_amount=400 * TON, premium=2 * TON)))
    run.world.now += 100 * DAY_S
    show("expire, release, delete", run.expire(1, sender=CLAIMS))
    run.world.now = START
    claimed = FactoryRun()
    claimed.buy()
    claimed.world.now += 40 * DAY_S
    show("approve, pay with six earnings, end", claimed.pay(1, 100 * TON))
    vault = VaultRun()
    show("first deposit", [vault.deposit(ALICE, 1, 10 * TON)], 10 * TON)
    vault.fill()
    vault.back(1, 100 * TON, TON)
    vault.pass_time(DAY_S)
    show("later deposit", [vault.deposit(ALICE, 1, 10 * TON)], 10 * TON)
    show("request_withdraw", [vault.request(ALICE, 1, TON)])
    vault.pass_time(7 * DAY_S)
    before = vault.mirror.tranches[0].capital + vault.mirror.tranches[0].stream.unearned
    step = vault.withdraw(ALICE, 1)
    after = vault.mirror.tranches[0].capital + vault.mirror.tranches[0].stream.unearned
    show("withdraw", [step], after - before)


def count_cells(root: Cell) -> int:
    """Different cells of a tree: what an account is measured by."""
    seen: set[bytes] = set()
    waiting = [root]
    while waiting:
        cell = waiting.pop()
        if cell.hash not in seen:
            seen.add(cell.hash)
            waiting += cell.refs
    return len(seen)


def test_a_full_vault_fits_an_account_and_its_operations_still_fit_their_allowance() -> None:
    """10,000 policies and 10,000 holders, planted: the dictionaries are at their deepest."""
    world = World()
    deployment = vault_deployment(VaultTerms(admin=FACTORY))
    tranche = build_cell(("coins", 10**6 * TON), ("coins", 1), ("coins", 0), ("uint64", 0), ("uint128", 10**6 * TON))
    policies = {number * 7: build_cell(("coins", 10 * TON + number), ("uint1", 0)) for number in range(1, 10_000)}
    owners = [int(address(number * 2**200 + number).removeprefix("0:"), 16) for number in range(9_999)]
    holders = {
        owner: build_cell(("uint128", 10**9 + place), ("uint128", 0), ("uint32", 0))
        for place, owner in enumerate(owners)
    }
    data = vault_data(deployment, tranches=dict.fromkeys(range(1, 7), tranche), policies=policies, holders=holders)
    assert count_cells(data) + count_cells(deployment.code) < ACCOUNT_CELLS
    vault = world.plant(VAULT_KIND, deployment.code, data, 7 * 10**6 * TON)
    back = messages.back_policy(70_001, 100 * TON, TON, DAY_S)
    show("full vault: back", world.send(FACTORY, vault, TON + messages.REQUEST_GAS, back), TON)
    deposit = messages.deposit(1)
    show("full vault: deposit", world.send(ALICE, vault, 10 * TON + messages.DEPOSIT_GAS, deposit), 10 * TON)
    [step] = world.send(FACTORY, vault, 2 * TON, messages.back_policy(70_002, 100 * TON, TON, DAY_S))
    assert step.exit_code == 105
    [step] = world.send(address(3), vault, 2 * TON, deposit)
    assert step.exit_code == 114
    claim = messages.pay_claim(14, 10 * TON, ALICE)
    show("full vault: claim", world.send(FACTORY, vault, messages.REQUEST_GAS, claim))
    show("full vault: release", world.send(FACTORY, vault, messages.REQUEST_GAS, messages.release_coverage(7)))


# ---- the largest claim: six tranches earn, and all that bear the loss begin a new epoch

ANSWER_NEEDS = 11_000_000
"""What a full factory needs to take an answer; test_a_full_factory_takes_an_answer_of_this_value shows it."""
FACTORY_KEEPS = 12_000_000
"""More than a full factory takes of a request for itself; shown by the same test."""


def tranche_cell(capital: int, shares: int) -> Cell:
    """Cover enough for every claim here, and a premium of 1 TON half of which is earned."""
    stream = ("coins", TON), ("uint32", START + 100), ("uint32", START - 100)
    return build_cell(("coins", capital), ("coins", 200 * TON), *stream, ("uint128", shares))


def largest_claim(senior_capital: int, claim: tuple[tuple[str, int | str], ...]) -> tuple[World, str]:
    """A full vault whose five junior tranches hold 1 TON each; policy 7, of 60 TON, has this claim."""
    world, deployment = World(), vault_deployment(VaultTerms(admin=FACTORY))
    tranches = dict.fromkeys(range(2, 7), tranche_cell(TON, 10**6 * TON))
    tranches[1] = tranche_cell(senior_capital, 10**4 * TON)
    policies = {number * 7: build_cell(("coins", 10 * TON + number), ("uint1", 0)) for number in range(2, 10_001)}
    policies[7] = build_cell(("coins", 60 * TON), *claim)
    owners = [int(address(number * 2**200 + number).removeprefix("0:"), 16) for number in range(9_999)]
    holders = {owner: build_cell(("uint128", 10**9), ("uint128", 0), ("uint32", 0)) for owner in owners}
    data = vault_data(deployment, tranches=tranches, policies=policies, holders=holders, claims_due=len(claim) > 1)
    return world, world.plant(VAULT_KIND, deployment.code, data, 2 * 10**4 * TON)


def count_events(step: Step, kind: type) -> int:
    """How many of this kind were logged."""
    return sum(isinstance(event, kind) for event in step.events)


def test_the_largest_claim_paid_at_once_leaves_enough_for_the_factory_to_hear_of_it() -> None:
    """Five tranches are wiped: a sixth would be more than the breaker lets pass. On the masterchain a payment costs
    most. The factory passes on what is asked of it, less its own gas."""
    for workchain in (0, -1):
        world, vault = largest_claim(10**4 * TON, (("uint1", 0),))
        body = messages.pay_claim(7, 60 * TON, address(0xBE, workchain))
        [step] = world.send(FACTORY, vault, messages.REQUEST_GAS - FACTORY_KEEPS, body)
        assert (count_events(step, PremiumsEarned), count_events(step, EpochStarted)) == (6 + 5, 5)
        payment, answer = step.sent
        assert payment.value == 60 * TON
        print(
            f"largest claim, workchain {workchain:2}: gas {gas_of(step)}, left for the answer {answer.value / TON:.6f}"
        )
        assert answer.value > ANSWER_NEEDS


def test_the_largest_claim_that_was_held_back_fits_its_allowance() -> None:
    claim = ("uint1", 1), ("coins", 60 * TON), ("uint32", START), ("address", ALICE)
    world, vault = largest_claim(TON, claim)
    [step] = world.send(STRANGER, vault, messages.REQUEST_GAS, messages.execute_claim(7))
    assert (step.succeeded, count_events(step, EpochStarted), len(step.events)) == (True, 6, 26)
    assert [payment.value for payment in step.sent[:2]] == [9 * TON, 30_000_000]
    print(f"largest claim held back: gas {gas_of(step)}, comes back {step.sent[-1].value / TON:.6f}")


def full_factory(state: int) -> FactoryRun:
    """10,000 policies; number 77 is in this state, asked for in flight 77 by the claims role."""
    run = FactoryRun(real_vault=False)
    deployment = factory_deployment(run.terms)
    quote = messages.quote_cell(run.quote())
    fields = ("uint32", 1), ("address", CLAIMS), ("uint64", 5), ("uint64", 77), ("uint32", 1), ("coins", 100 * TON)
    policies = HashMap(64, value_serializer=lambda value, leaf: leaf.store_cell(value))
    policies.map = {
        number: build_cell(("uint8", state if number == 77 else 2), *fields, refs=(quote,))
        for number in range(1, 10_001)
    }
    data = Builder().store_uint(0, 1).store_uint(20_000, 64).store_uint(20_000, 64).store_uint(10_000, 16)
    data.store_uint(0, 16).store_dict(policies.serialize()).store_bit(0)
    for part in deployment.data.refs:
        data.store_ref(part)
    run.factory = run.world.plant(FACTORY_KIND, deployment.code, data.end_cell(), 2 * TON)
    return run


def test_a_full_factory_takes_an_answer_of_this_value() -> None:
    run = full_factory(state=4)
    for flight in (77, 0):  # of the last request, or news that nobody asked for: the value goes to the buyer
        kept = dict(run.world.accounts)
        step = run.play_settled(flight, 77, 100 * TON, ANSWER_NEEDS)
        assert (step.succeeded, count_events(step, PayoutExecuted)) == (True, 1)
        run.world.accounts = kept
    run = full_factory(state=2)
    [step] = run.world.send(CLAIMS, run.factory, messages.REQUEST_GAS, messages.execute_payout(77, TON))
    assert step.sent[0].value > messages.REQUEST_GAS - FACTORY_KEEPS
