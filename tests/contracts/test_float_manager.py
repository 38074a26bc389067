"""The float manager on the real TVM: the same rule as core/float_manager.py to the unit, and only its operator acts."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.world import ADMIN, ALICE, BOB, World
from tonsurance.chain import messages
from tonsurance.chain.deployment import FloatTerms, float_deployment
from tonsurance.core.errors import InputError
from tonsurance.core.events import FLOAT_KIND, FloatRebalanced, Paused
from tonsurance.core.float_manager import (
    SATS_PER_BTC,
    Action,
    FloatState,
    TradeSignal,
    book_trade,
    trade_signal,
    unrealized_pnl,
)
from tonsurance.core.units import NANO_PER_TON

OPERATOR = ALICE
UNKNOWN_OP, PAUSED, NOT_ADMIN, NOT_OPERATOR, BAD_PRICE, NOTHING_TO_TRADE = 0xFFFF, 100, 101, 160, 161, 162
TERMS = FloatTerms(
    admin=ADMIN,
    operator=OPERATOR,
    btc_float_sats=100 * SATS_PER_BTC,
    btc_cost_basis=600_000_000,
    usd_reserves=400_000_000,
)
AT_TARGET = 6_000_000
"""60,000 dollars: 60 % bitcoin, 40 % dollars."""


class Float:
    """One float manager and what is sent to it."""

    def __init__(self, terms: FloatTerms = TERMS) -> None:
        self.world = World()
        self.at = self.world.deploy(FLOAT_KIND, float_deployment(terms))

    @property
    def state(self) -> FloatState:
        values = self.world.get(self.at, "get_float_state")
        names = FloatState.__struct_fields__
        return FloatState(**{**dict(zip(names, values, strict=True)), "paused": values[0] != 0})

    def signal(self, price: int) -> TradeSignal:
        action, amount = self.world.get(self.at, "get_trade_signal", price)
        return TradeSignal(Action(action), amount)

    def send(self, body: object, source: str = OPERATOR):
        [step] = self.world.send(source, self.at, messages.SIMPLE_GAS, body)
        return step


@pytest.fixture(scope="module")
def quiet() -> Float:
    """One that nobody moves: getters only."""
    return Float()


def test_the_documented_rule_at_its_edges(quiet: Float) -> None:
    """Target 40 %, threshold 10 %: the share must be off by more than it (strictly)."""
    assert quiet.signal(AT_TARGET) == TradeSignal(Action.HOLD, 0)
    edge_high = 4_000_000  # 400 of 800 million: 50 %, off by exactly 10 %
    assert quiet.signal(edge_high) == trade_signal(quiet.state, edge_high) == TradeSignal(Action.HOLD, 0)
    assert quiet.signal(edge_high - 1).action is Action.BUY
    assert quiet.signal(3_000_000) == TradeSignal(Action.BUY, 400_000_000 - 280_000_000)
    sale = quiet.signal(10_000_000)  # 400 of 1,400 million: 28.6 %
    assert sale == TradeSignal(Action.SELL, (560_000_000 - 400_000_000) * SATS_PER_BTC // 10_000_000)


def test_a_sale_that_would_leave_too_little_is_held() -> None:
    small = msgspec.structs.replace(TERMS, min_float_sats=90 * SATS_PER_BTC)
    assert Float(small).signal(10_000_000) == TradeSignal(Action.HOLD, 0)
    assert trade_signal(Float(small).state, 10_000_000).action is Action.HOLD


def test_the_profit_that_is_not_made_yet_follows_the_price(quiet: Float) -> None:
    for price in (1, AT_TARGET, 10_000_000, 5_999_999):
        assert quiet.world.get(quiet.at, "get_unrealized_pnl", price) == [unrealized_pnl(quiet.state, price)]
    assert unrealized_pnl(quiet.state, 5_000_000) == -100_000_000
    assert quiet.world.get(quiet.at, "get_btc_float_sats") == [TERMS.btc_float_sats]


def test_a_price_of_nothing_is_refused(quiet: Float) -> None:
    for method in ("get_trade_signal", "get_unrealized_pnl"):
        assert quiet.world.try_get(quiet.at, method, 0)[0] == BAD_PRICE
    for price in (0, -1, 2**64):
        with pytest.raises(InputError):
            trade_signal(quiet.state, price)
    with pytest.raises(InputError):
        messages.rebalance(2**64)


def test_the_operator_books_a_purchase_and_a_sale() -> None:
    ours = Float()
    for price in (3_000_000, 9_000_000):
        before, signal = ours.state, ours.signal(price)
        balance = ours.world.balance(ours.at)
        step = ours.send(messages.rebalance(price, query_id=7))
        after = book_trade(before, signal, price)
        assert step.events == (
            FloatRebalanced(
                signal.action, signal.amount, price, after.btc_float_sats, after.btc_cost_basis, after.usd_reserves
            ),
        )
        assert ours.state == after
        assert ours.signal(price) == TradeSignal(Action.HOLD, 0), "back at the target"
        [excess] = step.sent
        assert (excess.destination, excess.op, excess.query_id) == (OPERATOR, messages.Op.EXCESSES, 7)
        assert ours.world.balance(ours.at) == balance - step.storage_fee, "gas is the sender's"
    assert ours.state.realized_pnl > 0


@pytest.mark.parametrize("seed", range(4))
def test_any_story_of_prices_is_the_same_in_both_implementations(seed: int) -> None:
    dice = random.Random(seed)
    ours = Float(msgspec.structs.replace(TERMS, min_float_sats=dice.randrange(80 * SATS_PER_BTC)))
    state, price, traded = ours.state, AT_TARGET, 0
    for _ in range(12):
        price = max(1, int(price * dice.choice((0.3, 0.6, 0.9, 1.0, 1.1, 1.7, 3.1))))
        signal = ours.signal(price)
        assert signal == trade_signal(state, price)
        step = ours.send(messages.rebalance(price))
        if signal.action is Action.HOLD:
            assert step.exit_code == NOTHING_TO_TRADE
        else:
            traded += 1
            state = book_trade(state, signal, price)
        assert ours.state == state
        assert ours.world.get(ours.at, "get_unrealized_pnl", price) == [unrealized_pnl(state, price)]
    assert traded


@settings(max_examples=300, deadline=None)
@given(
    sats=st.integers(0, 10**13),
    usd=st.integers(0, 10**14),
    cost=st.integers(0, 10**14),
    price=st.integers(1, 10**9),
    target=st.integers(0, 10_000),
    threshold=st.integers(0, 10_000),
)
def test_a_trade_never_makes_or_loses_money_and_never_oversells(
    sats: int, usd: int, cost: int, price: int, target: int, threshold: int
) -> None:
    state = FloatState(
        paused=False, btc_float_sats=sats, btc_cost_basis=cost, usd_reserves=usd, realized_pnl=0,
        target_usd_bps=target, threshold_bps=threshold, min_float_sats=0)  # fmt: skip
    signal = trade_signal(state, price)
    after = book_trade(state, signal, price)
    assert min(after.btc_float_sats, after.usd_reserves, after.btc_cost_basis) >= 0
    worth, later = (one.usd_reserves * SATS_PER_BTC + one.btc_float_sats * price for one in (state, after))
    assert worth - later in range(max(SATS_PER_BTC, price)), "only what rounding down leaves behind"
    assert (
        after.realized_pnl == (after.usd_reserves - usd) - (cost - after.btc_cost_basis) or signal.action is Action.BUY
    )


@pytest.mark.parametrize(
    ("body", "source", "code"),
    [
        (messages.rebalance(3_000_000), ADMIN, NOT_OPERATOR),
        (messages.rebalance(3_000_000), BOB, NOT_OPERATOR),
        (messages.rebalance(0), OPERATOR, BAD_PRICE),
        (messages.rebalance(AT_TARGET), OPERATOR, NOTHING_TO_TRADE),
        (messages.emergency_pause(), BOB, NOT_OPERATOR),
        (messages.unpause(), OPERATOR, NOT_ADMIN),
        (messages.withdraw(1), OPERATOR, UNKNOWN_OP),
    ],
)
def test_what_is_not_allowed_changes_nothing_and_the_money_comes_back(body: object, source: str, code: int) -> None:
    ours = Float()
    data = ours.world.data(ours.at)
    step = ours.send(body, source)
    assert (step.exit_code, step.events) == (code, ())
    assert ours.world.data(ours.at) == data
    [back] = step.sent
    assert (back.destination, back.bounced) == (source, True)


def test_a_pause_stops_rebalancing_until_the_admin_ends_it() -> None:
    ours = Float()
    for source in (OPERATOR, ADMIN):
        assert ours.send(messages.emergency_pause(), source).events == (Paused(True),)
        assert ours.state.paused
        assert ours.signal(3_000_000) == TradeSignal(Action.HOLD, 0)
        assert ours.send(messages.rebalance(3_000_000)).exit_code == PAUSED
        assert ours.send(messages.unpause(), ADMIN).events == (Paused(False),)
    assert ours.send(messages.rebalance(3_000_000)).exit_code == 0


def test_anyone_may_refill_the_rent_and_a_plain_transfer_comes_back() -> None:
    ours = Float()
    before = ours.world.balance(ours.at)
    [step] = ours.world.send(BOB, ours.at, NANO_PER_TON, messages.top_up())
    assert step.exit_code == 0
    assert ours.world.balance(ours.at) > before + NANO_PER_TON * 9 // 10
    [step] = ours.world.send(BOB, ours.at, NANO_PER_TON, messages.build_cell(("uint32", 0)))
    assert step.exit_code == UNKNOWN_OP


@pytest.mark.parametrize("bad", [{"target_usd_bps": 10_001}, {"threshold_bps": -1}, {"btc_float_sats": 2**64}])
def test_terms_it_cannot_hold_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(InputError):
        float_deployment(msgspec.structs.replace(TERMS, **bad))
