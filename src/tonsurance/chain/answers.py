"""What the TON API answers, as checked values."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from tonsurance.chain.stack import StackValue
from tonsurance.chain.transactions import Outcome, read_outcome, read_transaction
from tonsurance.core.errors import ChainDataError, DecodeError, HashMismatch
from tonsurance.core.events import Cursor

MASTERCHAIN = -1


class BlockId(msgspec.Struct, frozen=True, kw_only=True):
    """A block. For state reads it is the masterchain block the answer is of."""

    workchain: int
    seqno: int
    shard: str = ""
    root_hash: str = ""
    file_hash: str = ""


class MasterchainInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The newest masterchain block the server knows."""

    last: BlockId


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """An account at a block. `code` and `data` are bags of cells, empty unless the account is active; `time` is the
    block's, in unix seconds, when the server tells it."""

    address: str
    status: str
    balance_nano: int
    code: bytes
    data: bytes
    last_transaction: Cursor
    block: BlockId | None
    time: int | None = None


class RawTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction whose bytes were proved: they have the announced hash, and are of the account asked for.

    `outcome` spares who decodes it to read the cells a second time; None when they are not what a transaction holds.
    """

    cursor: Cursor
    previous: Cursor
    boc: bytes
    outcome: Outcome | None = None


class MethodResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a get-method returned, the block it ran at, and the account's last transaction there (when told)."""

    stack: tuple[StackValue, ...]
    gas_used: int
    block: BlockId | None
    last_transaction: Cursor | None


class _TransactionId(msgspec.Struct, frozen=True):
    lt: int
    hash: str


class _Transaction(msgspec.Struct, frozen=True):
    data: str
    transaction_id: _TransactionId


class _Account(msgspec.Struct, frozen=True):
    state: str
    last_transaction_id: _TransactionId
    balance: int = 0
    code: str = ""
    data: str = ""
    block_id: BlockId | None = None
    sync_utime: int | None = None


class MethodAnswer(msgspec.Struct, frozen=True):
    """runGetMethod as it was sent."""

    exit_code: int
    stack: list[Any]
    gas_used: int = 0
    block_id: BlockId | None = None
    last_transaction_id: _TransactionId | None = None


def read_masterchain_info(result: msgspec.Raw) -> MasterchainInfo:
    """getMasterchainInfo. Raises ChainDataError."""
    info = decode_json(result, MasterchainInfo)
    if info.last.workchain != MASTERCHAIN:
        raise ChainDataError("The newest block is not one of the masterchain.")
    return info


def read_account(result: msgspec.Raw, address: str) -> AccountState:
    """getAddressInformation. Raises ChainDataError."""
    account = decode_json(result, _Account)
    return AccountState(
        address=address,
        status=account.state,
        balance_nano=max(0, account.balance),  # -1 is how some servers say that there is no account
        code=read_base64(account.code),
        data=read_base64(account.data),
        last_transaction=_read_cursor(account.last_transaction_id),
        block=account.block_id,
        time=account.sync_utime,
    )


def read_method_answer(result: msgspec.Raw) -> tuple[MethodAnswer, Cursor | None]:
    """runGetMethod, before its exit code was looked at. Raises ChainDataError."""
    answer = decode_json(result, MethodAnswer)
    last = answer.last_transaction_id
    return answer, _read_cursor(last) if last else None


def read_transactions(result: msgspec.Raw, address: str) -> tuple[RawTransaction, ...]:
    """getTransactions, newest first. Raises ChainDataError, HashMismatch."""
    return tuple(_prove(item, address) for item in decode_json(result, list[_Transaction]))


def _prove(item: _Transaction, address: str) -> RawTransaction:
    announced = _read_cursor(item.transaction_id)
    boc = read_base64(item.data)
    try:
        transaction = read_transaction(boc)
    except DecodeError as error:
        raise DecodeError(f"Transaction {announced.lt} of {address}: {error.message}") from error
    if transaction.cursor.hash != announced.hash:
        raise HashMismatch(
            f"Transaction {announced.lt} of {address} is announced as {announced.hash.hex()}"
            f" and its bytes have the hash {transaction.cursor.hash.hex()}."
        )
    if transaction.cursor.lt != announced.lt:
        raise ChainDataError(f"Transaction {announced.lt} of {address} has the logical time {transaction.cursor.lt}.")
    if transaction.account != address.partition(":")[2]:
        raise ChainDataError(f"Transaction {announced.lt} is of account {transaction.account}, not of {address}.")
    try:
        outcome = read_outcome(transaction)
    except DecodeError:  # proved all the same; whoever decodes it will say what is wrong
        outcome = None
    return RawTransaction(cursor=transaction.cursor, previous=transaction.previous, boc=boc, outcome=outcome)


def decode_json(raw: bytes | msgspec.Raw, answer_type: Any) -> Any:
    """JSON of this shape; whole numbers may be text. Unknown fields are ignored. Raises ChainDataError."""
    try:
        return msgspec.json.decode(raw, type=answer_type, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ChainDataError(f"The TON API's answer does not have the documented form: {error}") from error


def read_base64(text: str) -> bytes:
    """Bytes from base64, ordinary or url-safe. Raises ChainDataError."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ChainDataError("The TON API's answer holds text that is not base64.") from error


def _read_cursor(identity: _TransactionId) -> Cursor:
    text = identity.hash
    hash_ = bytes.fromhex(text) if _is_hex_hash(text) else read_base64(text)
    if not identity.lt:
        return Cursor(0, bytes(32))  # never used: some servers send zeros, some an empty hash
    if len(hash_) != 32 or not 0 < identity.lt < 2**64:
        raise ChainDataError(f"Transaction {identity.lt} is announced with a hash of {len(hash_)} bytes.")
    return Cursor(identity.lt, hash_)


def _is_hex_hash(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)
