"""A search for a sequence by which somebody gains from timing or rounding.

Every step runs in the modelled vault, which test_parity.py proves equal to the contract, and in the same vault without
rounding (exact fractions). market.py checks after every step: no operation makes anybody richer in its moment, no
share price falls but by a loss, nobody has more than the exact vault gives him beyond a tolerance of a few nanoTON for
each operation, and the money of all together is conserved.

TONSURANCE_FAIRNESS_EXAMPLES searches longer (default 400 sequences of up to 50 operations).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from contracts.world import address
from parity.market import Market
from tonsurance.chain.deployment import DAY_S
from tonsurance.core.units import NANO_PER_TON

TON = NANO_PER_TON
EXAMPLES = int(os.environ.get("TONSURANCE_FAIRNESS_EXAMPLES", "400"))
PEOPLE = [address(0xA0 + number) for number in range(4)]
ANYBODY = st.sampled_from(PEOPLE)
TRANCHES = st.one_of(st.just(6), st.integers(1, 6))
PARTS = st.one_of(st.just(1.0), st.floats(0.0, 1.0))
AMOUNTS = st.one_of(st.just(TON), st.integers(TON, 3 * TON), st.integers(TON, 10**14))
STATISTICS = {
    "steps": 0,
    "claims": 0,
    "deferred": 0,
    "wiped": 0,
    "withdrawn": 0,
    "sold": 0,
    "most": 0.0,
    "allowed": 0.0,
}


class FairnessSearch(RuleBasedStateMachine):
    """Four people deposit, leave, buy and claim in any order, with any time in between."""

    def __init__(self) -> None:
        super().__init__()
        self.market = Market(withdraw_delay_s=DAY_S, withdraw_window_s=DAY_S)

    @initialize(amounts=st.lists(st.integers(10**11, 10**12), min_size=6, max_size=6), junior=st.booleans())
    def open(self, amounts: list[int], junior: bool) -> None:
        for tranche, amount in enumerate(amounts, 1):
            self.market.deposit(
                PEOPLE[tranche % 4], tranche, max(TON, amount // 30) if junior and tranche == 6 else amount
            )

    @rule(owner=ANYBODY, tranche=TRANCHES, amount=AMOUNTS)
    def deposit(self, owner: str, tranche: int, amount: int) -> None:
        self.market.deposit(owner, tranche, amount)

    def pick(self, place: int) -> tuple[str, int, int]:
        """Somebody who holds shares: (owner, tranche, shares); zeros when nobody does."""
        held = sorted(self.market.vault.holders.items())
        if not held:
            return PEOPLE[0], 1, 0
        (tranche, owner), holder = held[place % len(held)]
        return owner, tranche, holder.shares

    @rule(place=st.integers(0, 23), part=PARTS)
    def request(self, place: int, part: float) -> None:
        owner, tranche, shares = self.pick(place)
        self.market.request(owner, tranche, int(shares * part))

    @rule(place=st.integers(0, 23))
    def withdraw(self, place: int) -> None:
        owner, tranche, _ = self.pick(place)
        STATISTICS["withdrawn"] += self.market.withdraw(owner, tranche)

    @rule(place=st.integers(0, 23), part=PARTS)
    def leave(self, place: int, part: float) -> None:
        owner, tranche, shares = self.pick(place)
        STATISTICS["withdrawn"] += self.market.leave(owner, tranche, int(shares * part))

    @rule(
        buyer=ANYBODY,
        part=st.floats(0.05, 1.0),
        rate=st.sampled_from([0.0, 0.001, 0.02, 0.3]),
        days=st.sampled_from([1, 7, 90, 365]),
    )
    def buy(self, buyer: str, part: float, rate: float, days: int) -> None:
        coverage = max(1, int(self.market.room() * part))
        STATISTICS["sold"] += self.market.buy(buyer, coverage, int(coverage * rate) + 1, days * DAY_S) is not None

    @rule()
    def calm(self) -> None:
        for policy in sorted(self.market.vault.policies):
            self.market.release(policy)

    @rule(place=st.integers(0, 9))
    def release(self, place: int) -> None:
        policies = sorted(self.market.vault.policies)
        if policies:
            self.market.release(policies[place % len(policies)])

    @rule(place=st.integers(0, 9), part=PARTS)
    def claim(self, place: int, part: float) -> None:
        vault = self.market.vault
        policies = sorted(vault.policies)
        if policies:
            policy = policies[place % len(policies)]
            epochs = [row.epoch for row in vault.rows]
            before = vault.claims_due
            STATISTICS["claims"] += self.market.claim(policy, max(1, int(vault.policies[policy].coverage * part)))
            STATISTICS["deferred"] += vault.claims_due > before
            STATISTICS["wiped"] += epochs != [row.epoch for row in vault.rows]

    @rule(buyer=ANYBODY, count=st.integers(2, 12), rate=st.sampled_from([0.0, 0.02]))
    def insure(self, buyer: str, count: int, rate: float) -> None:
        for _ in range(count):
            self.buy(buyer=buyer, part=1.0, rate=rate, days=30)

    @rule()
    def storm(self) -> None:
        for _ in range(len(self.market.vault.policies)):
            self.claim(place=0, part=1.0)
            self.settle(name="override_claim")

    @rule(name=st.sampled_from(["execute_claim", "override_claim", "cancel_claim"]))
    def settle(self, name: str) -> None:
        due = sorted(policy for policy, backed in self.market.vault.policies.items() if backed.claim)
        if due:
            if name == "execute_claim":
                self.market.now += self.market.vault.terms.claim_delay_s
            self.market.settle(due[0], name)

    @rule(seconds=st.one_of(st.integers(0, 100), st.integers(DAY_S, 40 * DAY_S)))
    def wait(self, seconds: int) -> None:
        self.market.now += seconds

    @invariant()
    def nobody_gained(self) -> None:
        STATISTICS["steps"] += 1
        self.market.check()

    def teardown(self) -> None:
        """What is still to come is somebody's too."""
        self.market.end_streams()
        self.market.check()
        target(float(self.market.most))
        STATISTICS["most"] = max(STATISTICS["most"], float(self.market.most))
        STATISTICS["allowed"] = max(STATISTICS["allowed"], float(sum(self.market.tolerance)))


def test_no_sequence_of_operations_lets_anybody_gain_from_timing_or_rounding() -> None:
    search = settings(
        max_examples=EXAMPLES, stateful_step_count=50, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(FairnessSearch, settings=search)
    print(STATISTICS)
    for what in ("claims", "deferred", "wiped", "withdrawn", "sold"):
        assert STATISTICS[what] >= EXAMPLES // 10, what


# ---- timing, where it is known to matter: how much, at most


def market(*tons: int) -> Market:
    """Capital in each tranche by somebody who stays."""
    opened = Market(withdraw_delay_s=1, withdraw_window_s=DAY_S)
    for tranche, amount in enumerate(tons, 1):
        opened.deposit(address(0xEE), tranche, amount * TON)
    return opened


def sell_all(opened: Market, rate: float, days: int) -> None:
    """Cover up to every limit."""
    while (room := opened.room()) > 10 * TON:
        opened.buy(address(0xBB), room, int(room * rate * days / 365), days * DAY_S)


def test_the_first_depositor_after_a_wipe_earns_nothing_of_the_premium_the_lost_ones_were_promised() -> None:
    """Without that rule 1 TON would earn 30: the whole vault's cover, 2 % a year, with a year to run."""
    run = market(2_500, 2_000, 1_800, 1_500, 1_200, 1_000)
    sell_all(run, 0.02, 365)
    run.now += DAY_S
    promised = run.vault.rows[5].stream.unearned
    for policy in sorted(run.vault.policies):
        if run.vault.rows[5].epoch == 0:
            run.claim(policy, run.vault.policies[policy].coverage)
    assert run.vault.rows[5].epoch == 1
    assert promised > 30 * TON
    run.deposit(PEOPLE[0], 6, TON)
    run.end_streams()
    assert run.value(PEOPLE[0]) <= 0


def test_who_joins_gets_of_what_is_unearned_only_his_part_of_the_capital_and_of_the_time() -> None:
    """Compared with joining a day later, a deposit earns one more day of its part, and no nano more than that."""
    early = market(2_500, 2_000, 1_800, 1_500, 1_200, 1_000)
    sell_all(early, 0.02, 90)
    later = early.copy()
    row = early.vault.rows[5]
    early.deposit(PEOPLE[0], 6, 1_000 * TON)
    early.now, later.now = early.now + DAY_S, later.now + DAY_S
    a_day = row.stream.unearned * DAY_S // (row.stream.end - row.stream.last)
    assert early.value(PEOPLE[0]) <= a_day // 2 + 1
    later.deposit(PEOPLE[0], 6, 1_000 * TON)
    for run in (early, later):
        run.end_streams()
    assert 0 <= early.value(PEOPLE[0]) - later.value(PEOPLE[0]) <= a_day


def test_premium_pulled_forward_by_a_short_policy_is_less_than_that_policys_premium() -> None:
    """A stream ends at the amount-weighted mean: a short policy brings the others' premium forward. Who owns nearly
    everything, pays for that and leaves, gains U * P / (U + P) at most, and P is what the signer of quotes lets him
    pay: at list prices some millionths of the capital."""
    for premium in (TON, 10 * TON, 50 * TON, 200 * TON):
        assert 0 < pull_forward(premium) <= 100 * TON * premium // (100 * TON + premium)


def pull_forward(premium: int) -> int:
    """What somebody with nearly all shares gains by it, when others' 100 TON were to be earned over 300 days."""
    plain = market(*[1] * 6)
    for tranche in range(1, 7):
        plain.deposit(PEOPLE[0], tranche, 10_000 * TON)
    plain.buy(address(0xBB), 1, 100 * TON, 300 * DAY_S)
    pulled = plain.copy()
    pulled.buy(PEOPLE[0], 1, premium, DAY_S)
    moment = max(row.stream.end for row in pulled.vault.rows) - 10
    for run in (plain, pulled):
        run.now = moment
        for tranche in range(1, 7):
            assert run.leave(PEOPLE[0], tranche, run.vault.holders[tranche, PEOPLE[0]].shares - 2 * TON)
    return int(pulled.value(PEOPLE[0]) - plain.value(PEOPLE[0]))
