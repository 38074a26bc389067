"""What an account holds, read with the TVM's own cells: a vault may have tens of thousands of them."""

from __future__ import annotations

import base64
from functools import lru_cache

import msgspec
from tonpy import Cell as TvmCell
from tonpy import CellSlice as TvmSlice

from tonsurance.core.errors import InputError
from tonsurance.localnet.cells import boc_of, builder

NO_ACCOUNT_BOC = boc_of(builder().store_ref(builder().store_bit_int(0).end_cell()).store_uint(0, 256 + 64).end_cell())
"""The ShardAccount of an address nothing was ever sent to."""
_EMPTY_CELL_BOC = boc_of(builder().end_cell())


class AccountView(msgspec.Struct, frozen=True):
    """An account as API servers show it. Balance in nanoTON; code and data as BOC, None unless active."""

    status: str
    balance: int
    last_lt: int
    last_hash: bytes
    code: bytes | None = None
    data: bytes | None = None
    frozen_hash: bytes = b""


class OpenAccount(msgspec.Struct, frozen=True):
    """An account with its code and data as the TVM's cells, None unless it is active."""

    view: AccountView
    code: TvmCell | None = None
    data: TvmCell | None = None


NO_ACCOUNT = AccountView("uninitialized", 0, 0, bytes(32))


@lru_cache(maxsize=64)
def native_cell(boc: bytes) -> TvmCell:
    """The TVM's cell. Cached, because the same few accounts are read again and again between blocks.

    Raises InputError for bytes that are no bag of cells.
    """
    try:
        return TvmCell(base64.b64encode(boc).decode())
    except (RuntimeError, UnicodeDecodeError) as error:  # the binding's message may hold bytes of the bag
        raise InputError("This is not a bag of cells with one root.") from error


def native_boc(cell: TvmCell) -> bytes:
    """A cell of the TVM as a bag of cells."""
    return base64.b64decode(cell.to_boc())


def view_account(account_boc: bytes | None) -> AccountView:
    """The account as API servers show it; NO_ACCOUNT when there is none. Raises InputError for other bytes."""
    account = open_account(account_boc)
    if account.code is None or account.data is None:
        return account.view
    return msgspec.structs.replace(account.view, code=native_boc(account.code), data=native_boc(account.data))


def open_account(account_boc: bytes | None) -> OpenAccount:
    """Read a ShardAccount (block.tlb). Raises InputError for other bytes."""
    if account_boc is None:
        return OpenAccount(NO_ACCOUNT)
    shard = native_cell(account_boc).begin_parse()
    account = shard.load_ref(as_cs=True)
    last_hash, last_lt = shard.load_uint(256).to_bytes(32, "big"), shard.load_uint(64)
    if not account.load_bool():
        return OpenAccount(AccountView("uninitialized", 0, last_lt, last_hash))
    _skip_to_storage(account)
    account.skip_bits(64)  # lt just past the account's last transaction
    balance = account.load_var_uint(16)
    if account.load_bool():
        account.skip_refs(1)  # extra currencies
    return _load_state(account, AccountView("uninitialized", balance, last_lt, last_hash))


def _skip_to_storage(account: TvmSlice) -> None:
    account.load_address()
    account.load_var_uint(7)  # cells used
    account.load_var_uint(7)  # bits used
    if account.load_uint(3):
        account.skip_bits(256)  # hash of the storage dictionary
    account.skip_bits(32)  # last_paid
    if account.load_bool():
        account.load_var_uint(16)  # due payment


def _load_state(account: TvmSlice, view: AccountView) -> OpenAccount:
    if not account.load_bool():
        if not account.load_bool():
            return OpenAccount(view)
        frozen = account.load_uint(256).to_bytes(32, "big")
        return OpenAccount(msgspec.structs.replace(view, status="frozen", frozen_hash=frozen))
    if account.load_bool():
        account.skip_bits(5)  # fixed prefix length
    if account.load_bool():
        account.skip_bits(2)  # tick-tock
    code = account.load_ref() if account.load_bool() else None
    data = account.load_ref() if account.load_bool() else native_cell(_EMPTY_CELL_BOC)
    return OpenAccount(msgspec.structs.replace(view, status="active"), code, data)
