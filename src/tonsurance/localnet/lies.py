"""One untrue thing in a true answer. Each lie is a function that changes the answer and says whether it could."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell

from tonsurance.localnet.cells import boc_of, builder, cell_from_boc, read
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.render import b64, render_transaction
from tonsurance.localnet.store import StoredTransaction

_NOW_AT = 4 + 256 + 64 + 256 + 64
"""Bits of a transaction before its time."""
_BLOCKS_SEARCHED = 20

Page = list[dict[str, Any]]
PageLie = Callable[[Page, Random], bool]


class Liar:
    """Tells lies about one chain."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._page_lies: tuple[PageLie, ...] = (
            _leave_one_out, _empty, _swap_two, _misname_one, _flip_a_bit, _forge_one, self._put_in_a_foreign_one,
        )  # fmt: skip

    def lie(self, content: Any, dice: Random, *, pinned: bool) -> bool:
        """Change what one answer says. False when there is nothing in it to lie about.

        About a page of transactions: one is missing, foreign, altered (announced as before, or as what it became), or
        announced with another hash; two are exchanged; or there are none. About a state: it is another block's than
        the one asked for, or its newest transaction is one that never was.
        """
        if not isinstance(content, dict):
            return False
        result, indexed = content.get("result"), content.get("transactions")
        if isinstance(result, list) and result:
            return _tell_one(self._page_lies, result, dice)
        if isinstance(indexed, list) and indexed:
            return _tell_one(_INDEX_LIES, indexed, dice)
        if isinstance(result, dict) and pinned and "block_id" in result:
            return dice.choice((_shift_block, _invent_head))(result, dice) or _shift_block(result, dice)
        return False

    def _put_in_a_foreign_one(self, page: Page, dice: Random) -> bool:
        """A real transaction, but of another account."""
        at = dice.randrange(len(page))
        own = page[at]["account"].lower()
        foreign = next((made for made in self._recent() if _raw(made) != own), None)
        if foreign is None:
            return False
        page[at] = render_transaction(Address(_raw(foreign)), foreign)
        return True

    def _recent(self) -> list[StoredTransaction]:
        head = self._chain.head.seqno
        blocks = range(head, max(0, head - _BLOCKS_SEARCHED), -1)
        return [made for seqno in blocks for made in self._chain.block(seqno).transactions]


def _tell_one(lies: Sequence[PageLie], page: Page, dice: Random) -> bool:
    return any(lie(page, dice) for lie in dice.sample(lies, len(lies)))


def _raw(made: StoredTransaction) -> str:
    workchain = int.from_bytes(made.account[:1], "big", signed=True)
    return f"{workchain}:{made.account[1:].hex()}"


def _leave_one_out(page: Page, dice: Random) -> bool:
    """Not the oldest: a page that ends sooner is no lie."""
    if len(page) < 2:
        return False
    del page[dice.randrange(len(page) - 1)]
    return True


def _empty(page: Page, _: Random) -> bool:
    page.clear()
    return True


def _swap_two(page: Page, dice: Random) -> bool:
    if len(page) < 2:
        return False
    at = dice.randrange(len(page) - 1)
    page[at], page[at + 1] = page[at + 1], page[at]
    return True


def _misname_one(page: Page, dice: Random) -> bool:
    dice.choice(page)["transaction_id"]["hash"] = b64(dice.randbytes(32))
    return True


def _misname_one_of_v3(page: Page, dice: Random) -> bool:
    dice.choice(page)["hash"] = b64(dice.randbytes(32))
    return True


def _flip_a_bit(page: Page, dice: Random) -> bool:
    item = dice.choice(page)
    boc = bytearray(base64.b64decode(item["data"]))
    boc[dice.randrange(len(boc))] ^= 1 << dice.randrange(8)
    item["data"] = b64(bytes(boc))
    return True


def _forge_one(page: Page, dice: Random) -> bool:
    """Another time, and announced under the hash it has now: only its place in the chain of links gives it away."""
    item = dice.choice(page)
    forged = _shift_time(cell_from_boc(base64.b64decode(item["data"])))
    item["data"] = b64(boc_of(forged))
    item["transaction_id"]["hash"] = b64(bytes(forged.hash))
    return True


def _shift_time(transaction: Cell) -> Cell:
    bits = read(transaction)
    made = builder().store_bits(bits.load_bits(_NOW_AT))
    made.store_uint(bits.load_uint(32) ^ 1, 32)
    made.store_bits(bits.load_bits(bits.remaining_bits))
    for ref in transaction.refs:
        made.store_ref(ref)
    return made.end_cell()


def _shift_block(state: dict[str, Any], dice: Random) -> bool:
    state["block_id"]["seqno"] += dice.choice((-2, -1, 1))
    return True


def _invent_head(state: dict[str, Any], dice: Random) -> bool:
    newest = state.get("last_transaction_id")
    if newest is None:
        return False
    newest["hash"] = b64(dice.randbytes(32))
    return True


_INDEX_LIES: tuple[PageLie, ...] = (_leave_one_out, _empty, _swap_two, _misname_one_of_v3)
"""About a page of API v3, which tells a transaction without its bytes."""
