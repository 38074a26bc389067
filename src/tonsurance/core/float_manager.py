"""The float of premiums held in bitcoin: what it should be, and what a trade makes of it. Pure.

The same rule as contracts/float_manager.fc, to the unit. Prices are US cents for one bitcoin; amounts of dollars are
cents, of bitcoin satoshi; all divisions round down.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from tonsurance.core.errors import InputError

SATS_PER_BTC = 100_000_000
ALL_BPS = 10_000


class Action(IntEnum):
    """What a signal asks for."""

    HOLD = 0
    BUY = 1
    SELL = 2


class FloatState(msgspec.Struct, frozen=True, kw_only=True):
    """The float as it is stored: `btc_cost_basis` is what the bitcoin cost, `realized_pnl` what sales made."""

    paused: bool
    btc_float_sats: int
    btc_cost_basis: int
    usd_reserves: int
    realized_pnl: int
    target_usd_bps: int
    threshold_bps: int
    min_float_sats: int


class TradeSignal(msgspec.Struct, frozen=True):
    """What to do: cents to spend when buying, satoshi to sell when selling, 0 to hold."""

    action: Action
    amount: int


HOLD = TradeSignal(Action.HOLD, 0)


def value_cents(sats: int, btc_price: int) -> int:
    """What this much bitcoin is worth."""
    return sats * btc_price // SATS_PER_BTC


def trade_signal(state: FloatState, btc_price: int) -> TradeSignal:
    """What brings the share of dollars back to its target.

    Hold while paused, while the share is off by no more than the threshold, and when a sale would leave less than the
    smallest float. Raises InputError for a price that is none.
    """
    _check_price(btc_price)
    total = state.usd_reserves + value_cents(state.btc_float_sats, btc_price)
    off = state.usd_reserves * ALL_BPS - state.target_usd_bps * total
    if state.paused or abs(off) <= state.threshold_bps * total:
        return HOLD
    wanted = state.target_usd_bps * total // ALL_BPS
    if off > 0:
        cents = state.usd_reserves - wanted
        return TradeSignal(Action.BUY, cents) if cents * SATS_PER_BTC // btc_price else HOLD
    sats = (wanted - state.usd_reserves) * SATS_PER_BTC // btc_price
    if sats == 0 or state.btc_float_sats - sats < state.min_float_sats:
        return HOLD
    return TradeSignal(Action.SELL, sats)


def book_trade(state: FloatState, signal: TradeSignal, btc_price: int) -> FloatState:
    """The float after the signal was followed at this price. What is sold takes its part of the cost with it."""
    if signal.action is Action.HOLD:
        return state
    if signal.action is Action.BUY:
        return msgspec.structs.replace(
            state,
            usd_reserves=state.usd_reserves - signal.amount,
            btc_cost_basis=state.btc_cost_basis + signal.amount,
            btc_float_sats=state.btc_float_sats + signal.amount * SATS_PER_BTC // btc_price,
        )
    proceeds = value_cents(signal.amount, btc_price)
    cost = state.btc_cost_basis * signal.amount // state.btc_float_sats
    return msgspec.structs.replace(
        state,
        usd_reserves=state.usd_reserves + proceeds,
        btc_cost_basis=state.btc_cost_basis - cost,
        btc_float_sats=state.btc_float_sats - signal.amount,
        realized_pnl=state.realized_pnl + proceeds - cost,
    )


def unrealized_pnl(state: FloatState, btc_price: int) -> int:
    """What selling all of it now would make, in cents; negative for a loss."""
    _check_price(btc_price)
    return value_cents(state.btc_float_sats, btc_price) - state.btc_cost_basis


def _check_price(btc_price: int) -> None:
    if not 0 < btc_price < 2**64:
        raise InputError(f"A price is 1 to 2^64 - 1 cents for one bitcoin, not {btc_price}.")
