"""The encoder of the reference tests agrees with what was written down elsewhere, and with another library."""

from __future__ import annotations

import pytest
from pytoniq_core.boc.cell import Cell
from pytoniq_core.tlb.transaction import Transaction

from chain.hand import (
    ACCOUNT,
    NOW,
    USER,
    Node,
    address,
    boc,
    coins,
    data_of,
    from_wallet,
    hash_of,
    incoming,
    log,
    transaction,
    uint,
)

BODY = Node(uint(1, 32) + uint(2, 8))


@pytest.mark.parametrize(
    ("bits", "count", "written"),
    [
        (
            uint(513, 64) + uint(1, 8) + address(USER) + uint(0, 24) + coins(10**12) + uint(90, 16) + uint(0, 32),
            455,
            "00000000000002010180194ddff9ba93265b574c215abd4bfd85d208744d2a7628686a3532a89a239c26e000000bd1a94a200000b4"
            "00000001",
        ),
        (
            uint(1, 64) + address(USER) + uint(1, 8) + coins(10**12) + uint(90, 16) + coins(1_972_602_739),
            435,
            "000000000000000180194ddff9ba93265b574c215abd4bfd85d208744d2a7628686a3532a89a239c26e02bd1a94a200000b48eb270e"
            "e70",
        ),
        (uint(1, 32) + uint(2, 8), 40, "0000000102"),
    ],
    ids=["a shard's log", "the first factory's log", "a deposit"],
)
def test_the_written_examples_are_assembled_bit_for_bit(bits: str, count: int, written: str) -> None:
    assert len(bits) == count
    assert data_of(Node(bits)).hex() == written


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("message", [None, incoming(BODY, value=5), incoming(BODY, inline=False), from_wallet(BODY)])
def test_another_library_reads_the_same_transaction(count: int, message: Node | None) -> None:
    logs = [log(number + 1, Node(uint(number, 8))) for number in range(count)]
    made = transaction(logs, message)
    cell = Cell.one_from_boc(boc(made))
    assert cell.hash == hash_of(made)
    read = Transaction.deserialize(cell.begin_parse())
    assert (read.account_addr.hex(), read.now) == (ACCOUNT[2:], NOW)
    assert read.description.compute_ph.success
    assert read.description.action.success
    assert [out.info.dest.external_address for out in read.out_msgs] == list(range(1, count + 1))
    assert (read.in_msg is None) == (message is None)


@pytest.mark.parametrize(("changed", "success"), [({"exit_code": 402}, False), ({"acted": False}, True)])
def test_another_library_sees_a_failed_one(changed: dict[str, int], success: bool) -> None:
    read = Transaction.deserialize(Cell.one_from_boc(boc(transaction([], None, **changed))).begin_parse())
    assert read.description.compute_ph.success == success
    assert read.description.aborted
