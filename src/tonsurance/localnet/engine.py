"""The TVM: compiles FunC, runs one transaction, runs one get-method. Knows nothing of blocks.

Real C++ code of a TON node (tonpy) does the work; this module only carries bytes in and values out. It is not safe to
use one engine from two threads at once: a transaction's result is read from the emulator's fields.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.slice import Slice
from tonpy import Cell as TvmCell
from tonpy import StackEntry, VmDict
from tonpy.fift.fift import convert_assembler
from tonpy.libs.python_ton import func_string_to_asm
from tonpy.tvm import TVM
from tonpy.tvm.c7 import C7
from tonpy.tvm.emulator import Emulator
from tonpy.types import Stack

from tonsurance.core.errors import InputError, TonsuranceError
from tonsurance.localnet.accounts import NO_ACCOUNT_BOC, AccountView, native_boc, native_cell, open_account
from tonsurance.localnet.cells import boc_of, builder, cell_from_boc, cell_of, read

GETTER_GAS_LIMIT = 1_000_000
"""What a public API server allows a get-method."""
EXIT_NO_CONTRACT = -13
"""The exit code public API servers report for a get-method of an account without code."""
_NOT_ACCEPTED = "inbound external message rejected"
_RESULT_DEPTH = 16


class EngineError(TonsuranceError):
    """The TVM could not run at all."""

    code = "engine"


class TransactionResult(msgspec.Struct, frozen=True):
    """A transaction and the account after it, both as BOC. The account is a ShardAccount cell."""

    transaction_boc: bytes
    account_boc: bytes


class Unshown(msgspec.Struct, frozen=True):
    """A stack entry that no API can show, such as a builder or a continuation."""

    kind: str


class GetResult(msgspec.Struct, frozen=True):
    """What a get-method left, bottom of the stack first: ints, Cells, Slices, None, Unshown and tuples of these."""

    exit_code: int
    stack: list[Any]
    gas_used: int

    @property
    def succeeded(self) -> bool:
        """Whether the stack is an answer; else it is what the failure left."""
        return self.exit_code in (0, 1)


def method_id(method: str | int) -> int:
    """The number a get-method is called by: crc16 of its name with bit 16 set."""
    return method if isinstance(method, int) else (binascii.crc_hqx(method.encode(), 0) & 0xFFFF) | 0x10000


class TonpyEngine:
    """The TVM under one network configuration (gas and forward prices)."""

    def __init__(self, config_boc_b64: str | None = None) -> None:
        """`config_boc_b64` is the configuration dictionary; without it, the mainnet prices shipped with the package."""
        if config_boc_b64 is None:
            config_boc_b64 = resources.files(__package__).joinpath("config_slim.b64").read_text().strip()
        self.config_boc_b64 = config_boc_b64
        self._config = TvmCell(config_boc_b64)
        self._emulator = Emulator(VmDict(32, False, self._config))

    def compile_func(self, source: str) -> bytes:
        """Code BOC of a FunC program (one text, standard library included). The compiler's findings go to stderr.

        The compiler remembers the global variables of a program for the next one in the same process.
        Raises InputError when it does not compile.
        """
        try:
            return native_boc(convert_assembler(func_string_to_asm(source)))
        except RuntimeError as error:
            raise InputError(f"FunC: {error}", advice="The compiler's findings are on stderr.") from error

    def run_transaction(
        self, account_boc: bytes | None, message_boc: bytes, *, now: int, lt: int, seed: bytes
    ) -> TransactionResult | None:
        """Run one message on an account (None: there is none yet). None when an external message is not accepted.

        `lt` is the block's start: the TVM lifts it past the account's last and the message's. Raises InputError for
        bytes that are no bag of cells, EngineError when the TVM cannot run the message.
        """
        account, message = native_cell(account_boc or NO_ACCOUNT_BOC), native_cell(message_boc)
        self._emulator.set_rand_seed(int.from_bytes(seed, "big"))
        try:
            done = self._emulator.emulate_transaction(account, message, now, lt)
        except RuntimeError as error:
            if _NOT_ACCEPTED in str(error):
                return None
            raise EngineError(f"The TVM refused to run the message: {str(error)[:300]}") from error
        if not done:
            return None
        native = self._emulator.emulator
        return TransactionResult(native_boc(TvmCell(native.transaction_cell)), native_boc(TvmCell(native.account_cell)))

    def run_get_method(
        self, account_boc: bytes | None, address: Address, method: str | int, args: Sequence[Any], *, now: int, lt: int
    ) -> GetResult:
        """Run a get-method. A failure is an exit code other than 0 and 1, never an exception.

        Arguments are ints, Cells, Slices, Addresses, None and lists of these. Raises InputError for others.
        """
        account = open_account(account_boc)
        if account.code is None:
            return GetResult(EXIT_NO_CONTRACT, [], 0)
        tvm = TVM(code=account.code, data=account.data)
        tvm.set_c7(self._environment(account.view, address, account.code, now=now, lt=lt))
        tvm.set_gas_limit(GETTER_GAS_LIMIT, GETTER_GAS_LIMIT)
        tvm.set_stack([*(_to_native(arg) for arg in args), method_id(method)])
        stack: Stack = tvm.run(unpack_stack=False, allow_non_success=True)
        # The binding gives the complement of the TVM's exit code, for every code.
        return GetResult(~int(tvm.tvm.exit_code), [_from_native(entry, 0) for entry in stack], int(tvm.gas_used))

    def _environment(self, view: AccountView, address: Address, code: TvmCell, *, now: int, lt: int) -> C7:
        return C7(
            time=now,
            block_lt=lt,
            trans_lt=lt,
            rand_seed=1,
            balance_grams=view.balance,
            address={"workchain": address.wc, "address": address.hash_part.hex()},
            global_config=self._config,
            my_code=code,
        )


def _to_native(value: Any) -> Any:
    match value:
        case None | int():
            return value
        case Cell():
            return native_cell(boc_of(value))
        case Slice():
            return native_cell(boc_of(cell_of(value))).begin_parse()
        case Address():
            return native_cell(boc_of(builder().store_address(value).end_cell())).begin_parse()
        case list() | tuple():
            return [_to_native(item) for item in value]
        case _:
            raise InputError(f"A get-method cannot take a {type(value).__name__}.")


def _from_native(entry: StackEntry, depth: int) -> Any:
    if depth > _RESULT_DEPTH:
        return Unshown("nested too deeply")
    kind = StackEntry.Type
    match entry.get_type():
        case kind.t_null:
            return None
        case kind.t_int:
            return _int_from_native(entry)
        case kind.t_cell:
            return cell_from_boc(native_boc(entry.as_cell()))
        case kind.t_slice:
            return read(cell_from_boc(native_boc(entry.as_cell_slice().to_cell())))
        case kind.t_tuple:
            return tuple(_from_native(item, depth + 1) for item in entry.as_tuple())
        case other:
            return Unshown(other.name[2:])


def _int_from_native(entry: StackEntry) -> int | Unshown:
    try:
        return int(entry.as_int())
    except (ValueError, RuntimeError):
        return Unshown("nan")
