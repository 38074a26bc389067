"""The known attacks, each tried on the real contracts. `PairRun` compares every step with the model as well.

`run.wallets` is what somebody's wallet really won or lost, gas included.
"""

from __future__ import annotations

import msgspec
import pytest

from contracts.world import ADMIN, CLAIMS, address
from parity.bodies import KEYS, body_of
from parity.pair_run import FACTORY, VAULT, Action, PairRun
from tonsurance.chain.deployment import DAY_S, VaultTerms
from tonsurance.chain.messages import DEPOSIT_GAS, REQUEST_GAS, SIMPLE_GAS, Op, Quote
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import LOCKED_SHARES, earn
from tonsurance.localnet.accounts import open_account

TON = NANO_PER_TON
ALICE, MALLORY, BOB, SAVER = (address(0xA0 + number) for number in range(4))
NETWORK = -3
ENOUGH = REQUEST_GAS + TON // 20


class Play(PairRun):
    """A pair whose tranches are filled as a test says, and short words for what people do."""

    def __init__(self, filled: dict[int, int] | None = None) -> None:
        terms = {"network_id": NETWORK, "admin": ADMIN, "claims": CLAIMS, "public_key": KEYS[0], "claim_grace_s": 0}
        super().__init__(VaultTerms(admin=ADMIN), terms)
        self.quotes = 0
        self.do("set_factory", ADMIN, self.factory.address)
        for tranche, tons in (filled or dict.fromkeys(range(1, 7), 1_000)).items():
            self.deposit(SAVER, tranche, tons * TON)
        self.counts.clear()
        self.wallets.clear()

    def do(self, name: str, sender: str, *args: object, value: int = SIMPLE_GAS, to: str = VAULT, **more: int) -> int:
        """Send one message; the code its contract refused it with, 0 when it did not."""
        before = self.counts.copy()
        self.act(Action(name=name, to=to, sender=sender, args=args, value=value, **more))
        codes = [key for key in self.counts - before if key.startswith(f"{to} refused")]
        return int(codes[0].split()[-1]) if codes else 0

    def deposit(self, owner: str, tranche: int, amount: int) -> int:
        return self.do("deposit", owner, tranche, value=amount + DEPOSIT_GAS)

    def held(self, owner: str, tranche: int) -> int:
        held = self.vault.holders.get((tranche, owner))
        return held.shares if held else 0

    def leave(self, owner: str, tranche: int, shares: int | None = None) -> int:
        """Announce, wait, take; the refusal of the last."""
        self.do("request_withdraw", owner, tranche, self.held(owner, tranche) if shares is None else shares)
        return self.do("withdraw", owner, tranche, wait=self.vault.terms.withdraw_delay_s)

    def quote(self, buyer: str, coverage: int, premium: int, days: int = 30) -> Quote:
        self.quotes += 1
        return Quote(
            network_id=NETWORK, factory=self.factory.address, quote_id=self.quotes, coverage_type=0, chain_id=0,
            stablecoin_id=0, coverage_amount=coverage, premium=premium, duration_days=days, buyer=buyer,
            deadline=self.now + 300,
        )  # fmt: skip

    def take(self, quote: Quote, *, sender: str | None = None, signer: bytes | None = KEYS[0]) -> int:
        """Buy against a quote."""
        sender = sender or quote.buyer
        return self.do("create_policy", sender, quote, int(Op.QUOTE), signer, to=FACTORY, value=quote.premium + ENOUGH)

    def buy(self, buyer: str, coverage: int, premium: int, days: int = 30) -> int:
        """The number of the new policy."""
        assert self.take(self.quote(buyer, coverage, premium, days)) == 0
        policy = self.factory.next_policy - 1
        assert self.factory.policies[policy].state == 2
        return policy

    def pay(self, policy: int, amount: int) -> int:
        """The claims role approves a payout once the cover has begun."""
        wait = max(0, self.factory.policies[policy].start - self.now)
        return self.do("execute_payout", CLAIMS, policy, amount, to=FACTORY, value=ENOUGH, wait=wait)

    def marks(self) -> tuple[bytes, ...]:
        """What both contracts hold, as one value."""
        accounts = (open_account(self.world.accounts[model]) for model in self.models)
        return tuple(bytes.fromhex(account.data.get_hash()) for account in accounts if account.data)

    def spare(self, model: str) -> int:
        """What a contract has beside the money of others."""
        if model == self.factory.address:
            return self.balance(model)
        state = self.world.get(model, "get_vault_state")
        return self.balance(model) - state[1] - state[3]

    def try_raw(self, name: str, sender: str, to: str, args: tuple, value: int) -> tuple[bytes, ...]:
        """What both contracts hold once everything that follows from a message has arrived; then undo it.

        Neither may have paid for it.
        """
        saved = {**self.world.accounts}
        at = {VAULT: self.vault.address, FACTORY: self.factory.address}[to]
        before = {model: self.spare(model) for model in self.models}
        steps = self.world.send(sender, at, value, body_of(name, args, 7))
        for model, balance in before.items():
            rent = sum(step.storage_fee for step in steps if step.account == model)
            assert self.spare(model) >= balance - rent
        marks = self.marks()
        self.world.accounts = saved
        return marks

    def pay_again(self, policy: int) -> list[int]:
        """The refusals of whoever asks for a claim that was paid."""
        return [
            self.do("execute_payout", CLAIMS, policy, TON, to=FACTORY, value=ENOUGH),
            self.do("retry_policy", BOB, policy, to=FACTORY, value=ENOUGH, wait=600),
            self.do("execute_claim", BOB, policy, value=ENOUGH),
            self.do("override_claim", ADMIN, policy, value=ENOUGH),
        ]

    def worth(self, owner: str, tranche: int) -> int:
        row = self.vault.rows[tranche - 1]
        return self.held(owner, tranche) * row.capital // row.shares if row.shares else 0


# ---- first-deposit inflation


def test_the_first_depositor_cannot_make_a_share_so_dear_that_a_later_deposit_is_his() -> None:
    """He keeps one share, and raises the price with the premium of a policy of his own: nobody's shares get it."""
    run = Play({1: 1_000, 2: 1_000, 3: 1, 4: 1_000, 5: 1_000, 6: 1_000})
    run.leave(SAVER, 3, run.held(SAVER, 3) - 1)  # tranche 3 is nobody's, but for one share
    run.wallets.clear()
    run.deposit(MALLORY, 3, TON)
    run.leave(MALLORY, 3, run.held(MALLORY, 3) - 1)
    run.buy(MALLORY, 1, 5_000 * TON, days=1)
    run.do("top_up", BOB, value=5_000 * TON, wait=2 * DAY_S)
    assert run.deposit(ALICE, 3, 100 * TON) == 0
    row = run.vault.rows[2]
    assert 100 * TON - run.worth(ALICE, 3) <= row.capital // row.shares + 1 < 11_000  # nano: one share of rounding
    assert run.worth(MALLORY, 3) < 11_000
    run.leave(MALLORY, 3)
    assert run.wallets[MALLORY] < -4_999 * TON


def test_a_donation_by_top_up_moves_no_price() -> None:
    run = Play({1: 1})
    before = run.vault.rows[0]
    run.do("top_up", MALLORY, value=10_000 * TON)
    assert run.vault.rows[0] == before
    run.deposit(ALICE, 1, 5 * TON)
    assert run.worth(ALICE, 1) == 5 * TON


def test_a_share_dearer_than_a_deposit_refuses_it_instead_of_taking_it() -> None:
    run = Play({1: 1_000, 2: 1_000, 3: 1, 4: 1_000, 5: 1_000, 6: 1_000})
    run.leave(SAVER, 3)
    assert run.vault.rows[2].shares == LOCKED_SHARES
    run.buy(MALLORY, 1, 10**9 * TON, days=1)
    assert run.do("deposit", ALICE, 3, value=TON + DEPOSIT_GAS, wait=2 * DAY_S) == 112
    assert -TON < run.wallets[ALICE] < 0
    assert run.wallets[ALICE] > -DEPOSIT_GAS


# ---- own premium, and who comes just before or goes just after


@pytest.mark.parametrize("stay", [0, 1, 15, 30, 400])
def test_a_buyer_who_is_nearly_all_of_the_vault_never_gets_back_more_than_his_premium(stay: int) -> None:
    run = Play(dict.fromkeys(range(1, 7), 1))
    for tranche in range(1, 7):
        run.deposit(MALLORY, tranche, 10_000 * TON)
    run.buy(MALLORY, 10 * TON, 1_000 * TON, days=30)
    run.do("top_up", BOB, value=TON, wait=stay * DAY_S)
    for tranche in range(1, 7):
        run.do("request_withdraw", MALLORY, tranche, run.held(MALLORY, tranche) - 10 * TON)
    run.do("nothing", "", wait=run.vault.terms.withdraw_delay_s)
    for tranche in range(1, 7):
        assert run.do("withdraw", MALLORY, tranche) == 0
    left = sum(run.worth(MALLORY, tranche) for tranche in range(1, 7))
    assert run.wallets[MALLORY] + left < 0


def test_who_deposits_a_second_before_a_premium_is_earned_gets_at_most_that_second() -> None:
    run = Play()
    run.buy(BOB, 100 * TON, 50 * TON, days=30)
    end = run.vault.rows[5].stream.end
    run.do("nothing", "", wait=end - run.now - 1)
    run.deposit(MALLORY, 6, 100_000 * TON)
    assert run.leave(MALLORY, 6) == 0
    second = 50 * TON * 19 // 100 // (30 * DAY_S)
    assert run.wallets[MALLORY] < second * 2


def test_a_premium_of_today_is_not_earned_today() -> None:
    run = Play()
    run.deposit(MALLORY, 6, 100_000 * TON)
    run.buy(BOB, 100 * TON, 50 * TON, days=30)
    assert run.worth(MALLORY, 6) == 100_000 * TON


# ---- exit before a loss


def test_who_did_not_announce_cannot_leave_when_he_sees_a_claim_coming() -> None:
    run = Play()
    run.deposit(MALLORY, 6, 1_000 * TON)
    policy = run.buy(BOB, 300 * TON, 3 * TON)
    run.do("nothing", "", wait=DAY_S)
    assert run.do("withdraw", MALLORY, 6) == 116
    run.do("request_withdraw", MALLORY, 6, run.held(MALLORY, 6))
    assert run.do("withdraw", MALLORY, 6, wait=3_600) == 117
    before = run.worth(MALLORY, 6), run.worth(SAVER, 6)
    run.pay(policy, 300 * TON)
    after = run.worth(MALLORY, 6), run.worth(SAVER, 6)
    assert sum(before) - sum(after) >= 299 * TON  # 300, less what was earned meanwhile
    assert abs(after[0] * before[1] - after[1] * before[0]) <= before[0] + before[1]  # the same part of each, to a nano


def test_who_announced_long_before_may_leave_in_his_window_until_the_claim_is_booked_and_not_after() -> None:
    """Announcing again and again keeps somebody's window open for 2 days of every 9: that, and no more, is his."""
    run = Play()
    run.deposit(MALLORY, 6, 1_000 * TON)
    run.deposit(ALICE, 6, 1_000 * TON)
    policy = run.buy(BOB, 300 * TON, 3 * TON)
    for owner in (MALLORY, ALICE):
        run.do("request_withdraw", owner, 6, run.held(owner, 6))
    run.do("nothing", "", wait=run.vault.terms.withdraw_delay_s)
    run.do("execute_payout", CLAIMS, policy, 300 * TON, to=FACTORY, value=ENOUGH, hops=0)
    assert run.do("withdraw", MALLORY, 6, hops=0) == 0  # the order to pay is still on its way
    assert run.wallets[MALLORY] > -TON
    run.do("nothing", "")
    assert run.do("withdraw", ALICE, 6) == 0
    assert run.wallets[ALICE] < -140 * TON  # 300 of 2,000
    assert run.do("withdraw", SAVER, 6, wait=3 * DAY_S) == 116


def test_nobody_leaves_joins_or_sells_while_a_deferred_claim_waits() -> None:
    run = Play()
    policies = [run.buy(BOB, 290 * TON, 3 * TON) for _ in range(3)]
    run.do("request_withdraw", SAVER, 1, 10 * TON)
    run.do("nothing", "", wait=run.vault.terms.withdraw_delay_s)
    for policy in policies:
        run.pay(policy, 290 * TON)
    assert run.vault.claims_due == 1
    assert run.do("withdraw", SAVER, 1) == 125
    assert run.deposit(MALLORY, 6, 10 * TON) == 125
    run.take(run.quote(ALICE, TON, TON))
    assert run.counts["vault refused 125"] == 3
    assert run.do("execute_claim", MALLORY, policies[2], value=ENOUGH, wait=DAY_S - 1) == 127
    assert run.do("execute_claim", MALLORY, policies[2], value=ENOUGH, wait=1) == 0
    assert run.do("withdraw", SAVER, 1) == 0  # his window is still open, and the price has the loss
    assert run.deposit(MALLORY, 5, 10 * TON) == 0


# ---- a wiped tranche


def wiped() -> tuple[Play, int]:
    """Tranche 6 (30 TON) is gone, with much unearned premium in it; the policy that did it was MALLORY's friend's."""
    run = Play({1: 2_000, 2: 1_000, 3: 1_000, 4: 1_000, 5: 1_000, 6: 30})
    policy = run.buy(BOB, 200 * TON, 200 * TON, days=300)
    run.pay(policy, 200 * TON)
    assert run.vault.rows[5].epoch == 1
    return run, policy


def test_old_holders_of_a_wiped_tranche_have_nothing_and_are_no_owners() -> None:
    run, _ = wiped()
    assert run.held(SAVER, 6) == 0
    assert run.do("request_withdraw", SAVER, 6, 1) == 115
    assert run.do("withdraw", SAVER, 6) == 116


def test_the_first_depositor_of_a_new_epoch_gets_none_of_what_was_left() -> None:
    run, _ = wiped()
    left = run.vault.rows[5].capital
    assert run.deposit(MALLORY, 6, 5 * TON) == 0
    row = run.vault.rows[5]
    assert row.nobody == LOCKED_SHARES + left
    run.do("nothing", "", wait=400 * DAY_S)  # whatever was to be earned: it was paid for a loss he has not borne
    assert run.leave(MALLORY, 6) == 0
    assert run.wallets[MALLORY] < 0


def test_no_cover_is_sold_on_a_tranche_without_holders() -> None:
    run, _ = wiped()
    run.take(run.quote(BOB, TON, TON))
    assert run.counts["vault refused 119"] == 1


def test_nobody_joins_where_the_next_loss_would_void_what_it_does_not_take() -> None:
    """Shares are void below a thousandth of a nano. Who may join stands ten times above it."""
    run = Play({1: 2_000, 2: 1_000, 3: 1_000, 4: 1_000, 5: 1_000, 6: 100})
    policies = [run.buy(BOB, 200 * TON, TON) for _ in range(2)]
    start = run.factory.policies[policies[1]].start
    row = run.vault.rows[5]
    capital = row.capital + earn(row.stream, start)[1]
    run.do("nothing", "", wait=start - run.now)
    run.pay(policies[0], capital - row.shares // 100 + 1)
    assert run.deposit(ALICE, 6, 1_000 * TON) == 113
    run.do("nothing", "", wait=60)  # a little more is earned
    assert run.deposit(ALICE, 6, 1_000 * TON) == 0
    run.pay(policies[1], 200 * TON)
    assert run.worth(ALICE, 6) >= 799 * TON


# ---- a claim that is held back


def test_no_retry_brings_a_cancelled_claim_back() -> None:
    """A question to the vault that overtakes the news of the cancellation would be a new claim."""
    run = Play()
    policies = [run.buy(BOB, 290 * TON, 3 * TON) for _ in range(3)]
    for policy in policies:
        run.pay(policy, 290 * TON)
    run.do("nothing", "", wait=DAY_S)
    run.do("cancel_claim", ADMIN, policies[2], value=ENOUGH, hops=0)
    assert run.do("retry_policy", BOB, policies[2], to=FACTORY, value=ENOUGH) == 151
    assert run.factory.policies[policies[2]].state == 2
    assert run.do("execute_claim", BOB, policies[2], value=ENOUGH) == 126
    assert run.wallets[BOB] < 2 * 290 * TON  # the two that were paid


def test_a_claim_is_paid_once_however_often_it_is_asked_for() -> None:
    run = Play()
    policy = run.buy(BOB, 100 * TON, TON)
    paid = run.wallets[BOB]
    run.pay(policy, 100 * TON)
    assert run.wallets[BOB] == paid + 100 * TON
    assert run.pay_again(policy) == [150, 150, 126, 126]
    assert run.wallets[BOB] <= paid + 100 * TON


# ---- quotes


def test_a_quote_is_good_once_even_when_its_policy_was_refused_or_its_key_replaced() -> None:
    run = Play()
    quote = run.quote(BOB, 10 * TON, TON)
    assert run.take(quote) == 0
    assert run.take(quote) == 137
    too_large = run.quote(BOB, 900 * TON, 9 * TON)
    assert run.take(too_large) == 0
    assert run.counts["vault refused 121"] == 1
    assert run.take(too_large) == 137
    run.do("set_quote_key", ADMIN, KEYS[1], to=FACTORY)
    assert run.take(quote) == 137
    assert run.take(quote, signer=KEYS[1]) == 137
    run.do("nothing", "", wait=300)
    assert run.take(quote, signer=KEYS[1]) == 135
    assert run.vault.policies.keys() == {1}


@pytest.mark.parametrize(
    ("changes", "sender", "code"),
    [({}, MALLORY, 134), ({"factory": address(1)}, BOB, 133), ({"network_id": -239}, BOB, 132)],
)
def test_a_quote_of_another_buyer_factory_or_network_is_refused(
    changes: dict[str, object], sender: str, code: int
) -> None:
    run = Play()
    quote = msgspec.structs.replace(run.quote(BOB, 10 * TON, TON), **changes)
    assert run.take(quote, sender=sender) == code


@pytest.mark.parametrize("signer", [None, KEYS[1]])
def test_a_quote_nobody_with_the_key_signed_is_refused(signer: bytes | None) -> None:
    run = Play()
    assert run.take(run.quote(BOB, 10 * TON, TON), signer=signer) == 130


# ---- underpaid gas

VALUES = (
    1,
    100_000,
    400_000,
    *range(1_000_000, 60_000_000, 1_500_000),
    80_000_000,
    REQUEST_GAS - 1,
    REQUEST_GAS,
    2 * REQUEST_GAS,
)


def sold(run: Play) -> int:
    return run.buy(BOB, 290 * TON, 3 * TON, days=1)


def requested(run: Play) -> tuple:
    run.do("request_withdraw", SAVER, 1, 100 * TON)
    run.do("nothing", "", wait=run.vault.terms.withdraw_delay_s)
    return "withdraw", SAVER, VAULT, (1,)


def ended(run: Play) -> tuple:
    policy = sold(run)
    run.do("nothing", "", wait=run.factory.policies[policy].end - run.now)
    return "expire_policy", BOB, FACTORY, (policy,)


def begun(run: Play) -> tuple:
    policy = sold(run)
    run.do("nothing", "", wait=DAY_S)
    return "execute_payout", CLAIMS, FACTORY, (policy, 250 * TON)


def deferred(run: Play, name: str) -> tuple:
    policies = [sold(run) for _ in range(3)]
    for policy in policies:
        run.pay(policy, 290 * TON)
    run.do("nothing", "", wait=run.vault.terms.claim_delay_s)
    return name, ADMIN, VAULT, (policies[2],)


def lost(run: Play) -> tuple:
    run.do(
        "create_policy", BOB, run.quote(BOB, TON, TON), int(Op.QUOTE), KEYS[0], to=FACTORY, value=TON + ENOUGH, hops=0
    )
    run.flying.clear()
    run.do("nothing", "", wait=600)
    return "retry_policy", BOB, FACTORY, (1,)


UNDERPAID = {
    "request_withdraw": lambda run: ("request_withdraw", SAVER, VAULT, (1, TON)),
    "withdraw": requested,
    "expire_policy": ended,
    "execute_payout": begun,
    "execute_claim": lambda run: deferred(run, "execute_claim"),
    "override_claim": lambda run: deferred(run, "override_claim"),
    "cancel_claim": lambda run: deferred(run, "cancel_claim"),
    "freeze": lambda run: ("freeze", ADMIN, VAULT, (run.now + 5,)),
    "pause": lambda run: ("pause", ADMIN, VAULT, ()),
    "pause factory": lambda run: ("pause", ADMIN, FACTORY, ()),
    "set_factory": lambda run: ("set_factory", ADMIN, VAULT, (MALLORY,)),
    "set_quote_key": lambda run: ("set_quote_key", ADMIN, FACTORY, (KEYS[1],)),
    "create_policy": lambda run: (
        "create_policy",
        BOB,
        FACTORY,
        (run.quote(BOB, 10 * TON, 1 * TON), int(Op.QUOTE), KEYS[0]),
    ),
    "retry_policy": lost,
}


@pytest.mark.parametrize("name", UNDERPAID)
def test_an_operation_with_too_little_value_does_everything_or_nothing_at_nobodys_cost(name: str) -> None:
    run = Play()
    operation, sender, to, args = UNDERPAID[name](run)
    extra = {"create_policy": TON, "retry_policy": TON}.get(operation, 0)
    before = run.marks()
    done = set()
    for value in VALUES:
        done.add(run.try_raw(operation, sender, to, args, value + extra))
    done |= {
        run.try_raw(operation, sender, to, args, value) for value in (1, 10_000_000, TON) if extra and value < extra
    }
    after = run.try_raw(operation, sender, to, args, 2 * REQUEST_GAS + extra)
    assert done <= {before, after}
    assert after != before


def test_a_deposit_with_too_little_value_books_what_is_beyond_the_allowance_or_nothing() -> None:
    run = Play()
    before = run.vault.rows[0].capital
    for value in (20_000_000, 50_000_000, DEPOSIT_GAS, TON, TON + DEPOSIT_GAS - 1):
        assert run.do("deposit", MALLORY, 1, value=value) == 111
        assert run.vault.rows[0].capital == before
    assert run.deposit(MALLORY, 1, TON) == 0
    assert run.vault.rows[0].capital == before + TON
