"""Random sequences of vault operations: contract and core/ are one rule written twice."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from contracts.vault_run import TON, VaultRun
from contracts.world import ALICE, BOB, address

OWNERS = st.sampled_from([ALICE, ALICE, BOB, address(7, -1)])
TRANCHES = st.integers(1, 6)
DAY_S = 86_400
AMOUNTS = st.one_of(st.integers(TON // 2, 50 * TON), st.integers(TON, 10**15))
POLICIES = st.integers(1, 4)
COVERS = st.integers(1, 10**14)
PREMIUMS = st.integers(0, 10**12)
DURATIONS = st.one_of(st.integers(0, 400 * DAY_S), st.just(2**32 - 1 - 2 * 10**9))
STEPS = st.one_of(
    st.tuples(st.just("deposit"), OWNERS, TRANCHES, AMOUNTS),
    st.tuples(st.just("request"), OWNERS, TRANCHES, st.floats(0.0, 1.1)),
    st.tuples(st.just("withdraw"), OWNERS, TRANCHES),
    st.tuples(st.just("leave"), TRANCHES, st.floats(0.0, 1.0), st.integers(1, 8)),
    st.tuples(st.just("back"), POLICIES, COVERS, PREMIUMS, DURATIONS),
    st.tuples(st.just("back_share"), POLICIES, st.floats(0.001, 0.06), PREMIUMS, DURATIONS),
    st.tuples(st.just("release"), POLICIES),
    st.tuples(st.just("pass_time"), st.one_of(st.integers(0, 5), st.integers(DAY_S, 10 * DAY_S))),
    st.tuples(st.just("set_paused"), st.sampled_from([True, False, False])),
)


def take_step(run: VaultRun, name: str, *args: Any) -> None:
    """Run one generated step; fractions become amounts of what there is."""
    match name, args:
        case "request", (owner, tranche, fraction):
            run.request(owner, tranche, int(run.mirror.holders.get((tranche, owner), (0,))[0] * fraction))
        case "leave", (tranche, fraction, days):
            take_step(run, "request", ALICE, tranche, fraction)
            run.pass_time(days * DAY_S)
            run.withdraw(ALICE, tranche)
        case "back_share", (policy, fraction, premium, duration):
            run.back(policy, int(run.mirror.total("capital") * fraction), premium, duration)
        case _:
            getattr(run, name)(*args)


# A failing sequence is short enough to read: shrinking it would take minutes.
@settings(max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(
    opening=st.lists(st.one_of(st.integers(10**12, 4 * 10**12), st.integers(TON, 10**13)), min_size=6, max_size=6),
    premium=PREMIUMS,
    sequence=st.lists(STEPS, min_size=6, max_size=16),
)
def test_the_vault_is_its_mirror_to_the_nano_after_every_step(
    opening: list[int], premium: int, sequence: list[tuple]
) -> None:
    """Each step runs in both; VaultRun compares events, getters, refusals, balance and the ledger of the events."""
    run = VaultRun(withdraw_delay_s=2 * DAY_S, withdraw_window_s=5 * DAY_S)
    for tranche, amount in enumerate(opening, 1):
        run.deposit(ALICE, tranche, amount)
    run.back(9, min(sum(opening) // 20, min(opening) * 3), premium, 20 * DAY_S)
    for step in sequence:
        take_step(run, *step)


def test_one_fixed_run_meets_every_limit_and_the_clock() -> None:
    """The mirror refuses what the contract refuses, for the same reason: VaultRun compares the codes."""
    run = VaultRun(withdraw_delay_s=DAY_S, withdraw_window_s=DAY_S)
    run.fill(100 * TON, owner=ALICE)
    codes = {run.back(policy, 29 * TON, TON).exit_code for policy in range(1, 25)}
    codes.add(run.withdraw(ALICE, 1).exit_code)
    codes.add(run.request(ALICE, 1, 99 * TON).exit_code)
    codes.add(run.withdraw(ALICE, 1).exit_code)
    run.pass_time(DAY_S)
    codes.add(run.withdraw(ALICE, 1).exit_code)
    run.pass_time(DAY_S + 1)
    codes.add(run.withdraw(ALICE, 1).exit_code)
    assert codes == {0, 116, 117, 118, 119}
