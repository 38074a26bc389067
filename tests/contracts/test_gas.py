"""What operations cost. The figures are printed (pytest -s); the promise is that 0.1 TON is enough, also when full."""

from __future__ import annotations

from pytoniq_core.boc.cell import Cell
from pytoniq_core.tlb.transaction import Transaction

from contracts.factory_run import TON, FactoryRun
from contracts.vault_run import FACTORY, VaultRun, vault_data
from contracts.world import ALICE, CLAIMS, Step, World, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S, VaultTerms, vault_deployment
from tonsurance.chain.messages import build_cell
from tonsurance.core.events import VAULT_KIND

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
    policies = {number * 7: build_cell(("coins", 10 * TON + number)) for number in range(1, 10_000)}
    owners = [int(address(number * 2**200 + number).removeprefix("0:"), 16) for number in range(9_999)]
    holders = {
        1 << 264 | owner: build_cell(("uint128", 10**9 + place), ("uint128", 0), ("uint32", 0))
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
    show("full vault: release", world.send(FACTORY, vault, messages.REQUEST_GAS, messages.release_coverage(7)))
