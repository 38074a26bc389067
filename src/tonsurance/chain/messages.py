"""What is sent to our contracts: op-codes, message bodies and the signed quote, as cells. Source: contracts/schema.tlb.

Amounts are nanoTON, durations seconds, addresses any written form. What does not fit its field raises InputError.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
from nacl.signing import SigningKey
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import InputError

DEPOSIT_GAS = 100_000_000
"""The vault books what a deposit's message carries beyond this; what gas does not use of it comes back."""
REQUEST_GAS = 100_000_000
"""What a factory operation that asks the vault must carry, beside the premium if there is one; also what paying a
deferred claim must carry."""
SIMPLE_GAS = 50_000_000
"""Ample for every other operation; the rest comes back."""
_COINS_BITS = 120
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32


class Op(IntEnum):
    """First 32 bits of a body. A test computes each from contracts/schema.tlb."""

    DEPOSIT = 0x16EC189F
    REQUEST_WITHDRAW = 0x5B693FB0
    WITHDRAW = 0x4C68B7ED
    BACK_POLICY = 0x3E9AD547
    RELEASE_COVERAGE = 0x39A6B75F
    PAY_CLAIM = 0x0618211E
    EXECUTE_CLAIM = 0x5452CA5D
    OVERRIDE_CLAIM = 0x3EDB0024
    CANCEL_CLAIM = 0x38C8DB4C
    FREEZE = 0x4DD30690
    SET_FACTORY = 0x59CF146E
    PAUSE = 0x6A239751
    UNPAUSE = 0x5D9A715D
    TOP_UP = 0x5372158C
    CREATE_POLICY = 0x0A4F4DF4
    EXPIRE_POLICY = 0x7A4D752A
    RETRY_POLICY = 0x22D50FC7
    EXECUTE_PAYOUT = 0x39C2DF69
    SET_QUOTE_KEY = 0x6D91F0B0
    REBALANCE = 0x1F7330F4
    EMERGENCY_PAUSE = 0x2C4D5AFA
    POLICY_BACKED = 0xEAAA151C
    COVERAGE_RELEASED = 0xC4EE643A
    CLAIM_SETTLED = 0xCC264FED
    CLAIM_HELD = 0xF14DD40F
    CLAIM_DROPPED = 0x9417CE38
    CLAIM_PAYMENT = 0xFCC5D06D
    EXCESSES = 0xD53276DB
    QUOTE = 0x15FAE0E5


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """The terms a buyer may take until `deadline` (unix seconds), for one factory on one network.

    The id is never used twice. Prices are in basis points of the peg; only 9700 / 9000 is sold.
    """

    network_id: int
    factory: str
    quote_id: int
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    coverage_amount: int
    premium: int
    duration_days: int
    buyer: str
    deadline: int
    trigger_bps: int = 9700
    floor_bps: int = 9000


def build_cell(*fields: tuple[str, int | str], refs: tuple[Cell, ...] = ()) -> Cell:
    """A cell of (type, value) fields in order, then refs. Types: uintN, intN, coins, address."""
    cell = Builder()
    for kind, value in fields:
        _store(cell, kind, value)
    for ref in refs:
        cell.store_ref(ref)
    return cell.end_cell()


def _store(cell: Builder, kind: str, value: int | str) -> None:
    if isinstance(value, str):
        cell.store_address(Address(parse_address(value)))
        return
    signed = kind.startswith("int")
    bits = _COINS_BITS if kind == "coins" else int(kind.removeprefix("u").removeprefix("int"))
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if not low <= value < high:
        raise InputError(f"{value} does not fit {kind}.")
    if kind == "coins":
        cell.store_coins(value)
    elif signed:
        cell.store_int(value, bits)
    else:
        cell.store_uint(value, bits)


def boc_of(cell: Cell) -> bytes:
    """A cell as a bag of cells, as it is sent."""
    return bytes(cell.to_boc())  # type: ignore[no-untyped-call]


def _request(op: Op, query_id: int, *fields: tuple[str, int | str], refs: tuple[Cell, ...] = ()) -> Cell:
    return build_cell(("uint32", op), ("uint64", query_id), *fields, refs=refs)


# ---- the vault


def deposit(tranche_id: int, *, query_id: int = 0) -> Cell:
    """Send the amount + DEPOSIT_GAS with it."""
    return _request(Op.DEPOSIT, query_id, ("uint8", tranche_id))


def request_withdraw(tranche_id: int, shares: int, *, query_id: int = 0) -> Cell:
    """Announce a withdrawal of shares; replaces an earlier announcement in that tranche."""
    return _request(Op.REQUEST_WITHDRAW, query_id, ("uint8", tranche_id), ("uint128", shares))


def withdraw(tranche_id: int, *, query_id: int = 0) -> Cell:
    """Take the announced withdrawal."""
    return _request(Op.WITHDRAW, query_id, ("uint8", tranche_id))


def back_policy(policy_id: int, coverage: int, premium: int, duration_s: int, *, query_id: int = 0) -> Cell:
    """What the factory asks of the vault; the premium comes with it."""
    fields = ("uint64", policy_id), ("coins", coverage), ("coins", premium), ("uint32", duration_s)
    return _request(Op.BACK_POLICY, query_id, *fields)


def release_coverage(policy_id: int, *, query_id: int = 0) -> Cell:
    """What the factory asks of the vault when a policy ended."""
    return _request(Op.RELEASE_COVERAGE, query_id, ("uint64", policy_id))


def pay_claim(policy_id: int, amount: int, beneficiary: str, *, query_id: int = 0) -> Cell:
    """What the factory asks of the vault when a payout was approved."""
    fields = ("uint64", policy_id), ("coins", amount), ("address", beneficiary)
    return _request(Op.PAY_CLAIM, query_id, *fields)


def execute_claim(policy_id: int, *, query_id: int = 0) -> Cell:
    """Anyone: have a deferred claim paid that is due; send REQUEST_GAS with it."""
    return _request(Op.EXECUTE_CLAIM, query_id, ("uint64", policy_id))


def override_claim(policy_id: int, *, query_id: int = 0) -> Cell:
    """Admin: have a deferred claim paid now; send REQUEST_GAS with it."""
    return _request(Op.OVERRIDE_CLAIM, query_id, ("uint64", policy_id))


def cancel_claim(policy_id: int, *, query_id: int = 0) -> Cell:
    """Admin: forget a deferred claim; the policy is active again."""
    return _request(Op.CANCEL_CLAIM, query_id, ("uint64", policy_id))


def freeze(until: int, *, query_id: int = 0) -> Cell:
    """Admin: no withdrawal and no payout before `until` (unix seconds); a time in the past ends a freeze."""
    return _request(Op.FREEZE, query_id, ("uint32", until))


def set_factory(factory: str, *, query_id: int = 0) -> Cell:
    """Admin: take policies from this factory; only while none lives."""
    return _request(Op.SET_FACTORY, query_id, ("address", factory))


# ---- both


def pause(*, query_id: int = 0) -> Cell:
    """Admin: the vault stops deposits and backing, the factory sales and expiries."""
    return _request(Op.PAUSE, query_id)


def unpause(*, query_id: int = 0) -> Cell:
    """Admin: undo `pause`."""
    return _request(Op.UNPAUSE, query_id)


def top_up(*, query_id: int = 0) -> Cell:
    """Anyone: add the value to the contract's rent reserve. Also the body to deploy with."""
    return _request(Op.TOP_UP, query_id)


# ---- the factory


def create_policy(quote: Quote, signature: bytes, *, query_id: int = 0) -> Cell:
    """Buy against a signed quote; send the premium + REQUEST_GAS with it, from the quote's buyer."""
    if len(signature) != _SIGNATURE_BYTES:
        raise InputError(f"A signature has {_SIGNATURE_BYTES} bytes, not {len(signature)}.")
    signed = Builder().store_bytes(signature).store_ref(quote_cell(quote)).end_cell()
    return _request(Op.CREATE_POLICY, query_id, refs=(signed,))


def expire_policy(policy_id: int, *, query_id: int = 0) -> Cell:
    """Anyone: end a policy whose time to claim is over; send REQUEST_GAS with it."""
    return _request(Op.EXPIRE_POLICY, query_id, ("uint64", policy_id))


def retry_policy(policy_id: int, *, query_id: int = 0) -> Cell:
    """Anyone: ask the vault again about a pending (premium + REQUEST_GAS), closing or paying policy (REQUEST_GAS)."""
    return _request(Op.RETRY_POLICY, query_id, ("uint64", policy_id))


def execute_payout(policy_id: int, amount: int, *, query_id: int = 0) -> Cell:
    """Claims role: have a claim paid to the policy's buyer; send REQUEST_GAS with it."""
    return _request(Op.EXECUTE_PAYOUT, query_id, ("uint64", policy_id), ("coins", amount))


def set_quote_key(public_key: bytes, *, query_id: int = 0) -> Cell:
    """Admin: accept quotes of this Ed25519 key; the one before stays valid for the key overlap."""
    return _request(Op.SET_QUOTE_KEY, query_id, ("uint256", key_number(public_key)))


def key_number(public_key: bytes) -> int:
    """An Ed25519 public key as the contracts hold it. Raises InputError unless it has 32 bytes."""
    if len(public_key) != _KEY_BYTES:
        raise InputError(f"An Ed25519 public key has {_KEY_BYTES} bytes, not {len(public_key)}.")
    return int.from_bytes(public_key, "big")


def quote_cell(quote: Quote) -> Cell:
    """The cell whose hash is signed."""
    return build_cell(
        ("uint32", Op.QUOTE),
        ("int32", quote.network_id),
        ("address", quote.factory),
        ("uint64", quote.quote_id),
        ("uint8", quote.coverage_type),
        ("uint8", quote.chain_id),
        ("uint8", quote.stablecoin_id),
        ("coins", quote.coverage_amount),
        ("coins", quote.premium),
        ("uint16", quote.duration_days),
        ("uint16", quote.trigger_bps),
        ("uint16", quote.floor_bps),
        ("address", quote.buyer),
        ("uint32", quote.deadline),
    )


def quote_hash(quote: Quote) -> bytes:
    """What is signed: the representation hash of the quote's cell, 32 bytes."""
    return bytes(quote_cell(quote).hash)


def sign_quote(quote: Quote, key: SigningKey) -> bytes:
    """The 64 bytes of Ed25519 signature over `quote_hash`."""
    return bytes(key.sign(quote_hash(quote)).signature)


# ---- the float manager


def rebalance(btc_price: int, query_id: int = 0) -> Cell:
    """The operator did what the signal says at this price: US cents for one bitcoin."""
    return _request(Op.REBALANCE, query_id, ("uint64", btc_price))


def emergency_pause(query_id: int = 0) -> Cell:
    """The operator or the admin stops rebalancing; `unpause` is the admin's."""
    return _request(Op.EMERGENCY_PAUSE, query_id)
