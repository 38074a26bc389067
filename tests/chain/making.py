"""Transactions for tests, built with pytoniq-core, so that our own reader is tested against another writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.hashmap.hashmap import HashMap

from tonsurance.chain.layout import Layout, parse_layout
from tonsurance.core.events import FACTORY_KIND, GENESIS, VAULT_KIND, Cursor

VAULT = "0:" + "a1" * 32
FACTORY = "0:" + "b2" * 32
ALICE = "0:" + "c3" * 32
EARNED_OP, DEPOSIT_OP, PAUSED_OP, COVERAGE_OP = 0x1000_0001, 0x1000_0002, 0x1000_0003, 0x1000_0004

LAYOUT_TEXT = f"""
name = "test-1"
[[event]]
contract = "{VAULT_KIND}"
op = {EARNED_OP:#x}
type = "PremiumsEarned"
fields = [ {{name="tranche_id", type="uint8"}}, {{name="amount", type="coins"}} ]
[[event]]
contract = "{VAULT_KIND}"
op = {DEPOSIT_OP:#x}
type = "DepositMade"
fields = [
  {{name="tranche_id", type="uint8"}}, {{name="depositor", type="address"}}, {{name="amount", type="coins"}},
  {{name="more", type="ref", fields=[ {{name="shares", type="uint128"}}, {{name="locked_shares", type="uint128"}} ]}},
]
[[event]]
contract = "{VAULT_KIND}"
op = {PAUSED_OP:#x}
type = "Paused"
fields = [ {{name="paused", type="bool"}} ]
[[event]]
contract = "{VAULT_KIND}"
op = {COVERAGE_OP:#x}
type = "CoverageChanged"
fields = [ {{name="policy_id", type="uint64"}}, {{name="parts", type="int64[6]"}} ]
[[event]]
contract = "{FACTORY_KIND}"
op = {EARNED_OP:#x}
type = "QuoteKeySet"
fields = [ {{name="public_key", type="uint256"}} ]
"""
LAYOUT: Layout = parse_layout(LAYOUT_TEXT)


def earned(tranche_id: int, amount: int) -> Cell:
    """The body of a PremiumsEarned."""
    return Builder().store_uint(EARNED_OP, 32).store_uint(tranche_id, 8).store_coins(amount).end_cell()


@dataclass(frozen=True)
class Made:
    """A transaction that was built."""

    cursor: Cursor
    previous: Cursor
    boc: bytes


@dataclass(frozen=True)
class Phases:
    """What the description says."""

    computed: bool = True
    acted: bool = True
    aborted: bool = False
    skipped: bool = False
    has_action: bool = True


def external_out(account: str, body: Cell, *, inline: bool = False, destination: int | None = None) -> Cell:
    """An external out-message, as it stands in a block."""
    message = Builder().store_uint(0b11, 2).store_address(Address(account))
    if destination is None:
        message.store_uint(0, 2)
    else:
        message.store_uint(0b01, 2).store_uint(256, 9).store_uint(destination, 256)
    message.store_uint(7, 64).store_uint(1_700_000_000, 32).store_bit(0).store_bit(0 if inline else 1)
    return (message.store_cell(body) if inline else message.store_ref(body)).end_cell()


def internal_out(account: str, to: str, body: Cell) -> Cell:
    """An internal out-message: never an event."""
    message = Builder().store_uint(0b0110, 4).store_address(Address(account)).store_address(Address(to))
    message.store_coins(1000).store_bit(0).store_coins(0).store_coins(0).store_uint(7, 64).store_uint(1_700_000_000, 32)
    return message.store_bit(0).store_bit(1).store_ref(body).end_cell()


def make_description(phases: Phases) -> Cell:
    """trans_ord with a storage and a credit phase."""
    data = Builder().store_uint(0, 4).store_bit(1)
    data.store_bit(1).store_coins(11).store_bit(0).store_bit(0)
    data.store_bit(1).store_bit(0).store_coins(5).store_bit(0)
    if phases.skipped:
        data.store_bit(0).store_uint(0b10, 2)
    else:
        data.store_bit(1).store_bit(phases.computed).store_bit(0).store_bit(0).store_coins(99)
        details = Builder().store_uint(2, 3).store_uint(1000, 16).store_uint(2, 3).store_uint(2000, 16).store_bit(0)
        details.store_int(0, 8).store_int(0 if phases.computed else 405, 32)
        data.store_ref(details.store_bit(0).store_uint(7, 32).store_uint(0, 512).end_cell())
    if phases.has_action and not phases.skipped:
        action = Builder().store_bit(phases.acted).store_bit(1).store_bit(0).store_bit(0).store_bit(0).store_bit(0)
        action.store_int(0 if phases.acted else 37, 32).store_bit(0).store_uint(1, 16).store_uint(0, 48).store_uint(
            0, 256
        )
        data.store_bit(1).store_ref(action.store_uint(0, 3 + 3).end_cell())
    else:
        data.store_bit(0)
    return data.store_bit(phases.aborted).store_bit(0).store_bit(0).end_cell()


def make_transaction(
    *,
    account: str = VAULT,
    lt: int = 1_000_000,
    previous: Cursor = GENESIS,
    now: int = 1_700_000_000,
    messages: Sequence[Cell] = (),
    phases: Phases = Phases(),
    announced: int | None = None,
    in_msg: Cell | None = None,
    keys: Sequence[int] | None = None,
) -> Made:
    """A transaction cell with these out-messages, under the keys 0, 1, 2 ... if not given."""
    outs = HashMap(15, value_serializer=lambda cell, builder: builder.store_ref(cell))
    for index, message in zip(range(len(messages)) if keys is None else keys, messages, strict=True):
        outs.set_int_key(index, message)
    inner = Builder().store_maybe_ref(in_msg)
    inner = (inner.store_dict(outs.serialize()) if messages else inner.store_bit(0)).end_cell()
    count = len(messages) if announced is None else announced
    root = Builder().store_uint(0b0111, 4).store_bytes(bytes.fromhex(account[2:])).store_uint(lt, 64)
    root.store_bytes(previous.hash).store_uint(previous.lt, 64).store_uint(now, 32).store_uint(count, 15)
    root.store_uint(0b1010, 4).store_ref(inner).store_coins(123).store_bit(0)
    root.store_ref(Builder().store_uint(0x72, 8).store_uint(0, 512).end_cell())
    cell = root.store_ref(make_description(phases)).end_cell()
    return Made(cursor=Cursor(lt, cell.hash), previous=previous, boc=cell.to_boc())


def make_chain(count: int, *, account: str = VAULT, after: Cursor = GENESIS, amount: int = 10) -> list[Made]:
    """Linked transactions, oldest first; each earns `amount` plus its number for tranche 1."""
    made: list[Made] = []
    for number in range(count):
        previous = made[-1].cursor if made else after
        body = external_out(account, earned(1, amount + number))
        made.append(
            make_transaction(
                account=account,
                lt=previous.lt + 1_000_000,
                previous=previous,
                now=1_700_000_000 + number,
                messages=[body],
            )
        )
    return made
